"""Validate an access token in two steps: *verify* (key, signature), then *check* (claims).

The result of verify is remembered. Every request pays for check.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

from ..exceptions import ConfigurationError, KeysUnavailableError, TokenValidationError
from ..formats.scopes import ScopeMatch, has_scopes
from ..remote.clock import SYSTEM, Clock
from ..remote.refreshable import Refreshable
from .claims_policy import (
    BAD_SIGNATURE,
    REVOKED,
    SERVICE_CHECKS,
    UNKNOWN_KEY,
    WRONG_ISSUER,
    AllowedClients,
    ClaimsPolicy,
)
from .key_set import KeySet, VerificationKey
from .key_source import TrustedPool, trusted_pool_from
from .own_checks import OwnChecks
from .revocation_list import RevocationList
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
"""A request with an unknown ``kid``, or with an invalid signature under a known one, waits for a running
download until that is this old, in seconds.

Anyone can send such a request, and each one that waits holds a worker thread."""

_MOST_HEADERS = 64


class CognitoAccessTokenValidator(ClaimsPolicy):
    """Validate access tokens of one user pool or of several.

    You can use one validator from any number of threads. It fetches keys at first use and keeps them fresh.

    Args:
        region: the AWS Region of the pool, such as ``us-west-2``.
        user_pool_id: the id of the pool, such as ``us-west-2_AbCdEfGhI``.
        allowed_client_ids: the client ids to accept, or a callable that takes a client id and returns
            whether to accept it; ``None`` accepts any client of the pool.
        required_scopes: scopes that every token must have.
        scope_match: whether a token must have ``"all"`` of them or ``"any"``.
        audience: the value, or the values, that ``aud`` must be or contain; ``None`` skips this check.
        leeway: the clock skew to tolerate on ``exp`` and ``nbf``, in seconds.
        machine_tokens_only: reject user access tokens.
        token_check: is called with each token that passed every other check. The token is accepted only
            if it returns a true value.
        verified_tokens: how many verified tokens to remember; 0 remembers none.
        pools: pools with their keys, instead of ``region`` and ``user_pool_id``.
        answers: exceptions with which the application's checks choose the answer; they are not logged.
        hide: removes the token from a text of those checks.
        clock: the clock by which tokens expire and keys age.
        revocations: the list of revoked clients and tokens, which is kept fresh; ``None`` for no list.

    Raises:
        ConfigurationError: ``scope_match`` is neither ``"all"`` nor ``"any"``, there is no pool, two pools
            have the same issuer, or a required scope is not a valid scope. It is a ``ValueError``.
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
        revocations: Refreshable[RevocationList] | None = None,
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
            revocations=revocations,
        )
        self.pools: tuple[TrustedPool, ...] = tuple(pools) or (
            trusted_pool_from(user_pool_from(user_pool_id, region=region)),
        )
        first = self.pools[0].pool
        #: The AWS Region of the (first) pool.
        self.region: str = region or first.region
        #: The id of the (first) pool.
        self.user_pool_id: str = first.pool_id
        #: The usual issuer (``iss``) of the (first) pool.
        self.issuer: str = first.issuers[0]
        #: Every trusted issuer, of every pool.
        self.issuers: tuple[str, ...] = tuple(
            issuer for trusted in self.pools for issuer in trusted.pool.issuers
        )
        #: The URL of the (first) pool's keys.
        self.jwks_url: str = first.jwks_urls[0]
        self._finders = tuple(
            check.find_rejection
            for check in SERVICE_CHECKS
            if check is not REVOKED or revocations is not None
        )
        self._memory = VerifiedTokens(verified_tokens)
        self._new_digest = self._memory.new_digest
        self._find = self._memory.get
        self._longest = 0
        # The kid for each encoded header that a pool has signed. All tokens of one key have the same header.
        self._kid_by_header: dict[bytes, str] = {}
        self._by_issuer = _index_by_issuer(self.pools)
        self._time = clock.wall_reader
        self._monotonic = clock.monotonic

    def validate(self, token: str) -> ValidatedAccessToken:
        """Validate ``token`` and return its claims.

        Args:
            token: the JWT, without ``Bearer``.

        Raises:
            TokenValidationError: the token is invalid; ``reason`` names the check that it failed.
            InsufficientScopeError: the token is valid but lacks :attr:`required_scopes`.
            KeysUnavailableError: the key is unavailable, so the token may be valid: answer 503, not 401.

        Source: RFC 7519, section 7.2; RFC 8725; Amazon Cognito Developer Guide, "Verifying JSON web tokens".
        """
        failure: Exception | None = None
        try:
            verified = self.verify(token)
        except (TokenValidationError, KeysUnavailableError) as error:
            failure = error.with_traceback(None)
        # Error trackers send the local variables of each frame, so this frame must not keep the token.
        del token
        if failure is not None:
            raise failure
        return self.check(verified)

    def verify(self, token: str, digest: bytes | None = None) -> VerifiedToken:
        """Verify the signature of ``token``, or find the token in memory.

        Args:
            digest: the digest that :meth:`recall` returned for this token. Computing it takes 3 us.

        Raises:
            TokenValidationError, KeysUnavailableError: as :meth:`validate`.
        """
        if not isinstance(token, str):
            token = token.decode("ascii", "replace") if isinstance(token, bytes) else ""
        if digest is None:
            digest = self._compute_digest(token)
        if self.revocations is not None:
            self.revocations.get()  # before the keys, because a new list may renew them
        known = self._find(digest)
        if known is not None and self._is_still_verified(known):
            return known
        verified = self._verify_signature(decode_unverified(token, self._kid_by_header, self._by_issuer))
        self._memory.put(digest or self._memory.digest(token), verified)
        self._longest = max(self._longest, len(token))
        return verified

    def recall(self, token: str) -> ValidatedAccessToken | bytes:
        """Return the claims of a remembered token, if nothing has changed since it was verified.

        Fast path: equivalent to :meth:`verify` and :meth:`check`, in one function, because calls dominate
        its cost. It accepts only tokens that they accept, and leaves all other tokens to them.

        Returns:
            The claims, or the digest of ``token`` for :meth:`verify` if the token is not remembered or
            something has changed. The digest is empty if ``token`` is longer than every remembered token.

        Raises:
            TokenValidationError: as :meth:`validate`.
        """
        if len(token) > self._longest:
            return b""
        hasher = self._new_digest()
        hasher.update(token.encode("utf-8", "surrogatepass"))
        del token  # error trackers send the local variables of each frame
        digest: bytes = hasher.digest()
        verified = self._find(digest)
        if verified is None:
            return digest
        state, now, monotonic = verified.key_source.state, self._time.time(), self._monotonic()
        allowed, revocations = self.allowed_client_ids, self.revocations
        if not (
            state.value is verified.key_set
            and now < state.ready_wall
            and monotonic < state.ready_monotonic
            and verified.valid_from <= now < verified.valid_until
            and verified.defect is None
            and (allowed is None or (allowed.__class__ is frozenset and verified.client_id in allowed))
            and (
                revocations is None
                or (
                    (listed := revocations.state).value is verified.unrevoked_in
                    and now < listed.ready_wall
                    and monotonic < listed.ready_monotonic
                )
            )
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
        # A token longer than every verified token is not remembered, and would take longest to digest.
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
        """Check the claims of a verified token now, and return them.

        Raises:
            TokenValidationError: as :meth:`validate`.
        """
        now = self._time.time()
        if verified.defect is not None or not verified.valid_from <= now < verified.valid_until:
            raise verified.build_rejection_at(now)
        token = build_token(verified.client_id, verified.scopes, verified.claims(), self._time)
        # Read before the check: if the list changes meanwhile, the token is looked up again.
        listed = None if self.revocations is None else self.revocations.state.value
        self._check_requirements(token, verified)
        verified.unrevoked_in = listed
        return token

    def _check_requirements(self, token: ValidatedAccessToken, verified: VerifiedToken) -> None:
        for find_rejection in self._finders:
            rejection = find_rejection(token, self)
            if rejection is not None:
                raise verified.identify(rejection)

    def _verify_signature(self, unverified: UnverifiedToken) -> VerifiedToken:
        rejection: TokenValidationError | KeysUnavailableError | None = None
        # A long token may name several trusted issuers. Its claims are parsed only after a key of one of them
        # has verified the signature.
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
        raise (rejection or WRONG_ISSUER.build_rejection(unverified.kid)).with_traceback(None)

    def _verify_with_pool(self, trusted: TrustedPool, unverified: UnverifiedToken) -> VerifiedToken:
        started = self._monotonic()
        key, key_set = self._get_key(unverified.kid, trusted, started)
        if not key.has_signed(unverified.signing_input, unverified.signature):
            key, key_set = self._get_newer_key(key, key_set, trusted, started)
            if not key.has_signed(unverified.signing_input, unverified.signature):
                raise BAD_SIGNATURE.build_rejection(unverified.kid, trusted.pool.pool_id)
        if not unverified.claims:
            unverified.claims = parse_claims(unverified.payload, unverified.kid)
            if self._by_issuer.get(unverified.claims["iss"]) is not trusted:
                raise WRONG_ISSUER.build_rejection(unverified.kid)
        if unverified.header_part not in self._kid_by_header:
            if len(self._kid_by_header) >= _MOST_HEADERS:
                self._kid_by_header = {}
            self._kid_by_header[unverified.header_part] = unverified.kid
        return VerifiedToken(trusted, key, key_set, unverified, self.machine_tokens_only, self.leeway)

    def _get_newer_key(
        self, key: VerificationKey, keys: KeySet, trusted: TrustedPool, started: float
    ) -> tuple[VerificationKey, KeySet]:
        """Return the key that replaced ``key`` under its ``kid``, and its set; else ``key`` and ``keys``.

        An emulator that restarts has a new key under the same ``kid``. Anyone can send an invalid signature,
        so the limits are those of an unknown ``kid``: at most one download, with bounded waiting. If the
        download fails, the verdict of the known key stands.
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
        """Return the key with this id and its set. Download the keys at most once if the id is unknown."""
        # For an unknown kid, the wait is bounded even if a renewal is due.
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
            raise UNKNOWN_KEY.build_rejection(kid, trusted.pool.pool_id)
        # The key may be new, so the token may be valid.
        raise KeysUnavailableError(
            "The access token's key is unknown, and newer signing keys are temporarily unavailable.",
            retry_after=trusted.key_source.renewable_in(),
        ) from failure.error


def _index_by_issuer(pools: Sequence[TrustedPool]) -> dict[str, TrustedPool]:
    """Return the pool of each issuer. Two pools with one issuer could sign each other's tokens."""
    by_issuer: dict[str, TrustedPool] = {}
    for trusted in pools:
        for issuer in trusted.pool.issuers:
            other = by_issuer.setdefault(issuer, trusted)
            if other is not trusted:
                raise ConfigurationError(
                    f"The user pools {other.pool.pool_id} and {trusted.pool.pool_id} have the same issuer "
                    f"{issuer}. Each pool must have its own issuer."
                )
    return by_issuer
