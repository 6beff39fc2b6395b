"""The checks of an access token in a row: *verify* (key, signature), then *check* (claims).

What verify finds is remembered; check is what every request pays.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

from ..exceptions import ConfigurationError, KeysUnavailableError, TokenValidationError
from ..formats.scopes import ScopeMatch, has_scopes
from ..remote.clock import SYSTEM, Clock
from .claims_policy import (
    BAD_SIGNATURE,
    SERVICE_CHECKS,
    UNKNOWN_KEY,
    WRONG_ISSUER,
    AllowedClients,
    ClaimsPolicy,
)
from .key_set import KeySet, VerificationKey
from .key_source import TrustedPool, trusted_pool_from
from .own_checks import OwnChecks
from .unverified_token import UnverifiedToken, decode_unverified, parse_claims
from .user_pool import user_pool_from
from .validated_access_token import (
    ValidatedAccessToken,
    build_token,
    new_token,
    set_claims,
    set_client_id,
    set_clock,
    set_scopes,
)
from .verified_token import VerifiedToken, VerifiedTokens

_UNKNOWN_KEY_PATIENCE = 1.0
"""The age of a running download, in seconds, until which a request with an unknown ``kid``, or a signature
that fails under a known one, waits for it.

Anybody can send one, and each that waits holds a worker thread."""

_MOST_HEADERS = 64
_FINDERS = tuple(check.find_rejection for check in SERVICE_CHECKS)


class CognitoAccessTokenValidator(ClaimsPolicy):
    """Validates access tokens of a user pool, or of several.

    Safe to use from any number of threads. Keys are fetched at first use and kept fresh.

    Args:
        region: AWS region of the pool, such as ``us-west-2``.
        user_pool_id: such as ``us-west-2_AbCdEfGhI``.
        allowed_client_ids: the clients that are accepted, or a callable that says so; ``None`` is any.
        required_scopes: what every token must have.
        scope_match: ``"all"`` of them or ``"any"``.
        audience: what ``aud`` must be or contain; ``None`` is not checked.
        leeway: seconds of clock skew on ``exp`` and ``nbf``.
        machine_tokens_only: refuse tokens of people.
        token_check: is called with each token that passed every other check. The token is accepted only
            if it returns a true value.
        verified_tokens: how many verified tokens are remembered; 0 is none.
        pools: instead of ``region`` and ``user_pool_id``: pools with their keys.
        answers: exceptions of the application's checks that are an answer, not a failure to log.
        hide: returns a text of those checks without the token.
        clock: by which tokens expire and keys age.

    Raises:
        ConfigurationError: ``scope_match`` is neither (a ``ValueError``), no pool is given, or a required
            scope is no scope.
    """

    def __init__(
        self,
        *,
        region: str = "",
        user_pool_id: str = "",
        allowed_client_ids: AllowedClients = None,
        required_scopes: Collection[str] = (),
        scope_match: ScopeMatch = "all",
        audience: str | Collection[str] | None = None,
        leeway: float = 0,
        machine_tokens_only: bool = False,
        token_check: Callable[[ValidatedAccessToken], object] | None = None,
        verified_tokens: int = 4096,
        pools: Sequence[TrustedPool] = (),
        answers: tuple[type[Exception], ...] = (),
        hide: Callable[[str], str] = lambda text: text,
        clock: Clock = SYSTEM,
    ) -> None:
        super().__init__(
            allowed_client_ids=allowed_client_ids,
            required_scopes=required_scopes,
            scope_match=scope_match,
            audience=audience,
            leeway=leeway,
            machine_tokens_only=machine_tokens_only,
            token_check=token_check,
            own_checks=OwnChecks(answers, clock, hide),
        )
        self.pools: tuple[TrustedPool, ...] = tuple(pools) or (
            trusted_pool_from(user_pool_from(user_pool_id, region=region)),
        )
        first = self.pools[0].pool
        #: AWS region of the (first) pool.
        self.region: str = region or first.region
        #: Id of the (first) pool.
        self.user_pool_id: str = first.pool_id
        #: What ``iss`` usually is, for the (first) pool.
        self.issuer: str = first.issuers[0]
        #: Every trusted issuer, of every pool.
        self.issuers: tuple[str, ...] = tuple(
            issuer for trusted in self.pools for issuer in trusted.pool.issuers
        )
        #: Where the (first) pool's keys are.
        self.jwks_url: str = first.jwks_urls[0]
        self._memory = VerifiedTokens(verified_tokens)
        self._new_digest = self._memory.new_digest
        self._find = self._memory.get
        self._longest = 0
        # The kid of headers that were part of what a pool has signed: all tokens of a key have the same.
        self._kid_by_header: dict[bytes, str] = {}
        self._by_issuer = _index_by_issuer(self.pools)
        self._time = clock.wall_reader
        self._monotonic = clock.monotonic

    def validate(self, token: str) -> ValidatedAccessToken:
        """Return the claims of ``token``, if it passes every check.

        Args:
            token: the JWT, without ``Bearer``.

        Raises:
            TokenValidationError: it is invalid; ``reason`` says which check it failed.
            InsufficientScopeError: it is valid but lacks :attr:`required_scopes`.
            KeysUnavailableError: its key is unavailable, so it may be valid: answer 503, not 401.

        Source: RFC 7519, section 7.2; RFC 8725; Amazon Cognito Developer Guide, "Verifying JSON web tokens".
        """
        failure: Exception | None = None
        try:
            verified = self.verify(token)
        except (TokenValidationError, KeysUnavailableError) as error:
            failure = error.with_traceback(None)
        # Error trackers send the locals of each frame: this one is left without the token.
        del token
        if failure is not None:
            raise failure
        return self.check(verified)

    def verify(self, token: str, digest: bytes | None = None) -> VerifiedToken:
        """Return ``token`` with a valid signature, from memory or by verifying it.

        Args:
            digest: what :meth:`recall` returned for this very token: it takes 3 us to compute.

        Raises:
            TokenValidationError, KeysUnavailableError: as :meth:`validate`.
        """
        if not isinstance(token, str):
            token = token.decode("ascii", "replace") if isinstance(token, bytes) else ""
        if digest is None:
            digest = self._compute_digest(token)
        known = self._find(digest)
        if known is not None and self._is_still_verified(known):
            return known
        verified = self._verify_signature(decode_unverified(token, self._kid_by_header, self._by_issuer))
        self._memory.put(digest or self._memory.digest(token), verified)
        self._longest = max(self._longest, len(token))
        return verified

    def recall(self, token: str) -> ValidatedAccessToken | bytes:
        """Return ``token`` as :meth:`validate` does, if nothing has changed since its signature was verified.

        Fast path: equal to :meth:`verify` and :meth:`check`, in one function, because calls dominate its
        cost. It accepts what they would, and leaves the rest to them.

        Returns:
            Or its digest, for :meth:`verify`: it is not known, or not as it was. Empty if it is longer than
            each that is known.

        Raises:
            TokenValidationError: as :meth:`validate`.
        """
        if len(token) > self._longest:
            return b""
        hasher = self._new_digest()
        hasher.update(token.encode("utf-8", "surrogatepass"))
        del token  # as error trackers send what is in each frame
        digest: bytes = hasher.digest()
        verified = self._find(digest)
        if verified is None:
            return digest
        state, now = verified.key_source.state, self._time.time()
        allowed = self.allowed_client_ids
        if not (
            state.value is verified.key_set
            and now < state.ready_wall
            and self._monotonic() < state.ready_monotonic
            and verified.valid_from <= now < verified.valid_until
            and verified.defect is None
            and (allowed is None or (allowed.__class__ is frozenset and verified.client_id in allowed))
        ):
            return digest
        verified.used = True
        claims = verified.flat_claims
        claims = verified.claims() if claims is None else claims.copy()
        validated = new_token(ValidatedAccessToken)
        set_client_id(validated, verified.client_id)
        set_scopes(validated, verified.scopes)
        set_claims(validated, claims)
        set_clock(validated, self._time)
        if (
            self.audience is not None
            or self.token_check is not None
            or (
                self.required_scopes
                and not has_scopes(verified.scopes, self.required_scopes, self.scope_match)
            )
        ):
            self._check_requirements(validated, verified)
        return validated

    def _compute_digest(self, token: str) -> bytes:
        # What is longer than all that were verified is none of them: it takes the longer to digest.
        return self._memory.digest(token) if len(token) <= self._longest else b""

    def _is_still_verified(self, known: VerifiedToken) -> bool:
        keys = known.key_source.get()
        if keys is not known.key_set:
            if keys.get(known.key.kid) is not known.key:
                return False
            known.key_set = keys
        known.used = True
        return True

    def check(self, verified: VerifiedToken) -> ValidatedAccessToken:
        """Return the claims of a verified token, if they pass every check now.

        Raises:
            TokenValidationError: as :meth:`validate`.
        """
        now = self._time.time()
        if verified.defect is not None or not verified.valid_from <= now < verified.valid_until:
            raise verified.rejection_at(now)
        token = build_token(verified.client_id, verified.scopes, verified.claims(), self._time)
        self._check_requirements(token, verified)
        return token

    def _check_requirements(self, token: ValidatedAccessToken, verified: VerifiedToken) -> None:
        for find_rejection in _FINDERS:
            rejection = find_rejection(token, self)
            if rejection is not None:
                raise verified.identify(rejection)

    def _verify_signature(self, unverified: UnverifiedToken) -> VerifiedToken:
        rejection: TokenValidationError | KeysUnavailableError | None = None
        # A long token may name several trusted issuers: its own is read once a key of one has signed it.
        tried: list[TrustedPool] = []
        for issuer in unverified.issuers:
            trusted = self._by_issuer.get(issuer)
            if trusted is None or trusted in tried:
                continue
            tried.append(trusted)
            try:
                return self._verify_with_pool(trusted, unverified)
            except KeysUnavailableError as error:
                rejection = error
            except TokenValidationError as error:
                if not isinstance(rejection, KeysUnavailableError):
                    rejection = error
        raise (rejection or WRONG_ISSUER.rejection(unverified.kid)).with_traceback(None)

    def _verify_with_pool(self, trusted: TrustedPool, unverified: UnverifiedToken) -> VerifiedToken:
        started = self._monotonic()
        key, key_set = self._get_key(unverified.kid, trusted, started)
        if not key.has_signed(unverified.signing_input, unverified.signature):
            key, key_set = self._get_newer_key(key, key_set, trusted, started)
            if not key.has_signed(unverified.signing_input, unverified.signature):
                raise BAD_SIGNATURE.rejection(unverified.kid, trusted.pool.pool_id)
        if not unverified.claims:
            unverified.claims = parse_claims(unverified.payload, unverified.kid)
            if self._by_issuer.get(unverified.claims["iss"]) is not trusted:
                raise WRONG_ISSUER.rejection(unverified.kid)
        if unverified.header_part not in self._kid_by_header:
            if len(self._kid_by_header) >= _MOST_HEADERS:
                self._kid_by_header = {}
            self._kid_by_header[unverified.header_part] = unverified.kid
        return VerifiedToken(trusted, key, key_set, unverified, self.machine_tokens_only, self.leeway)

    def _get_newer_key(
        self, key: VerificationKey, keys: KeySet, trusted: TrustedPool, started: float
    ) -> tuple[VerificationKey, KeySet]:
        """Return the key that took this one's ``kid`` and its set, after at most one download; else this one.

        An emulator that restarts has a new key under the same ``kid``. Anyone can send a bad signature, so
        the bounds are those of an unknown ``kid``. A failed download leaves the verdict of the known key.
        """
        kid = key.kid
        try:
            newer = trusted.key_source.renew_for(
                lambda keys: keys.get(kid) is not key, since=started, patience=_UNKNOWN_KEY_PATIENCE
            )
        except KeysUnavailableError:
            return key, keys
        found = newer.get(kid)
        return (key, keys) if found is None else (found, newer)

    def _get_key(self, kid: str, trusted: TrustedPool, started: float) -> tuple[VerificationKey, KeySet]:
        """Return the key with this id and its set, after at most one download for an unknown one."""
        # For an unknown kid even a renewal that is due is waited for with patience only.
        keys = trusted.key_source.state.value
        if keys is None or keys.get(kid) is not None or trusted.key_source.held() is None:
            keys = trusted.key_source.get()
        key = keys.get(kid)
        if key is None:
            keys = trusted.key_source.renew_for(
                lambda keys: keys.get(kid) is not None, since=started, patience=_UNKNOWN_KEY_PATIENCE
            )
            key = keys.get(kid)
        if key is not None:
            return key, keys
        failure = trusted.key_source.state.failure
        if failure is None:
            raise UNKNOWN_KEY.rejection(kid, trusted.pool.pool_id)
        # The key may be new and the token valid.
        raise KeysUnavailableError(
            "The key of this access token is not known, and newer keys can't be had at the moment.",
            retry_after=trusted.key_source.renewable_in(),
        ) from failure.error


def _index_by_issuer(pools: Sequence[TrustedPool]) -> dict[str, TrustedPool]:
    """Return the pool of each issuer. Either of two pools could sign for an issuer that both have."""
    by_issuer: dict[str, TrustedPool] = {}
    for trusted in pools:
        for issuer in trusted.pool.issuers:
            other = by_issuer.setdefault(issuer, trusted)
            if other is not trusted:
                raise ConfigurationError(
                    f"The user pools {other.pool.pool_id} and {trusted.pool.pool_id} have the same issuer "
                    f"{issuer}. Each pool needs an issuer of its own."
                )
    return by_issuer
