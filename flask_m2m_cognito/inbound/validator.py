"""The checks of an access token in a row: *verify* (key, signature), then *check* (claims).

What verify finds is remembered, see ``verified_tokens``; check is what every request pays.
"""

from __future__ import annotations

import json
import logging
import math
import time
from collections.abc import Awaitable, Callable, Collection, Sequence
from typing import Any

from ..exceptions import InsufficientScopeError, KeysUnavailableError, Reason, TokenValidationError
from ..scopes import ScopeMatch, check_match, has_scopes, parse_scopes
from .key_set import VerificationKey
from .key_source import TrustedPool, trusted_pool_from
from .unverified_token import UnverifiedToken, take_apart
from .user_pool import user_pool_from
from .validated_access_token import ValidatedAccessToken
from .verified_tokens import VerifiedTokens

AllowedClients = Collection[str] | Callable[[str], bool] | None

_logger = logging.getLogger("flask_m2m_cognito.auth")


class VerifiedToken:
    """A token that its pool's key has signed; its claims may be believed but are not checked.

    Attributes:
        key: the object that verified it: while it is in the key set, the signature need not be looked at.
        flaw: the first check that its claims fail at any time and for anyone, if they do.
    """

    __slots__ = (
        "_claims",
        "_payload",
        "client_id",
        "expires_at",
        "flaw",
        "key",
        "not_before",
        "scopes",
        "trusted",
        "used",
    )

    def __init__(
        self, trusted: TrustedPool, key: VerificationKey, unverified: UnverifiedToken, machines_only: bool
    ) -> None:
        claims = unverified.claims
        self.trusted = trusted
        self.key = key
        self.used = False
        # Flat claims are copied for each request; others are parsed anew, so that no request
        # can reach into another's.
        is_flat = not any(isinstance(value, (dict, list)) for value in claims.values())
        self._claims = claims if is_flat else None
        self._payload = None if is_flat else unverified.payload
        self.client_id: str = claims.get("client_id", "")
        self.scopes = _scopes_in(claims)
        self.expires_at = _time_in(claims, "exp")
        self.not_before = _time_in(claims, "nbf") if "nbf" in claims else -math.inf
        self.flaw = _flaw_in(claims, machines_only)

    def claims(self) -> dict[str, Any]:
        """Its claims, the caller's own."""
        if self._claims is not None:
            return self._claims.copy()
        parsed: dict[str, Any] = json.loads(self._payload or b"{}")
        return parsed


class CognitoAccessTokenValidator:
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
        token_check: is called with each token that passed; raises or returns ``False`` to refuse it.
        verified_tokens: how many verified tokens are remembered; 0 is none.
        pools: instead of ``region`` and ``user_pool_id``: pools with their keys.
        wall, monotonic: clocks in seconds.

    Raises:
        ConfigurationError: ``scope_match`` is neither (a ``ValueError``), or no pool is given.
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
        wall: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        check_match(scope_match, "scope_match")
        self.pools = tuple(pools) or (trusted_pool_from(user_pool_from(user_pool_id, region=region)),)
        first = self.pools[0].pool
        #: AWS region of the (first) pool.
        self.region = region or first.region
        #: Id of the (first) pool.
        self.user_pool_id = first.pool_id
        #: What ``iss`` usually is, for the (first) pool.
        self.issuer = first.issuers[0]
        #: Every trusted issuer, of every pool.
        self.issuers = tuple(issuer for trusted in self.pools for issuer in trusted.pool.issuers)
        #: Where the (first) pool's keys are.
        self.jwks_url = first.jwks_urls[0]
        self.allowed_client_ids = (
            allowed_client_ids
            if allowed_client_ids is None or callable(allowed_client_ids)
            else frozenset(allowed_client_ids)
        )
        self.required_scopes = frozenset(required_scopes)
        self.scope_match: ScopeMatch = scope_match
        self.audience = audience
        self.leeway = leeway
        self.machine_tokens_only = machine_tokens_only
        self.token_check = token_check
        self._memory: VerifiedTokens[VerifiedToken] = VerifiedTokens(verified_tokens)
        self._by_issuer = {issuer: trusted for trusted in self.pools for issuer in trusted.pool.issuers}
        self._wall = wall
        self._monotonic = monotonic

    def validate(self, token: str) -> ValidatedAccessToken:
        """The claims of ``token``, if it passes every check.

        Args:
            token: the JWT, without ``Bearer``.

        Raises:
            TokenValidationError: it is not good; ``reason`` says which check it failed.
            InsufficientScopeError: it is good but lacks :attr:`required_scopes`.
            KeysUnavailableError: its key can't be had, so that it may be good: answer 503, not 401.

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

    def verify(self, token: str) -> VerifiedToken:
        """``token`` with a signature that is good, from memory or by a look at it.

        Raises:
            TokenValidationError, KeysUnavailableError: as :meth:`validate`.
        """
        if not isinstance(token, str):
            token = token.decode("ascii", "replace") if isinstance(token, bytes) else ""
        verified = self.remembered(token)
        if verified is None:
            verified = self._verify_signature(take_apart(token))
            self._memory.put(self._memory.digest(token), verified)
        return verified

    def remembered(self, token: str) -> VerifiedToken | None:
        """``token`` as it was verified before, if its key is still in the pool's key set.

        Raises:
            KeysUnavailableError: no key set is usable any more.
        """
        verified = self._memory.get(self._memory.digest(token))
        if verified is None or verified.trusted.keys.get().get(verified.key.kid) is not verified.key:
            return None
        verified.used = True
        return verified

    def check(self, verified: VerifiedToken) -> ValidatedAccessToken:
        """The claims of a verified token, if they are what is wanted, now.

        Raises:
            TokenValidationError: as :meth:`validate`.
        """
        now, leeway, flaw = self._wall(), self.leeway, verified.flaw
        if flaw is not None and flaw in _FLAWS_BEFORE_TIMES:
            raise _refused(flaw, verified)
        if now >= verified.expires_at + leeway:
            raise _refused(_EXPIRED, verified)
        if now < verified.not_before - leeway:
            raise _refused(_NOT_YET_VALID, verified)
        if flaw is not None:
            raise _refused(flaw, verified)
        if self.allowed_client_ids is not None and not self._is_allowed(verified.client_id):
            raise _refused(_CLIENT_NOT_ALLOWED, verified)
        token = ValidatedAccessToken(verified.client_id, verified.scopes, verified.claims())
        if self.audience is not None:
            self._check_audience(token, verified)
        if self.required_scopes and not has_scopes(token.scopes, self.required_scopes, self.scope_match):
            raise insufficient_scope(token.scopes, self.required_scopes, self.scope_match)
        if self.token_check is not None:
            self._run_token_check(self.token_check, token, verified)
        return token

    def _verify_signature(self, unverified: UnverifiedToken) -> VerifiedToken:
        trusted = self._by_issuer.get(unverified.issuer)
        if trusted is None:
            raise _refused(_WRONG_ISSUER, kid=unverified.kid)
        key = self._key_for(unverified, trusted)
        if not key.has_signed(unverified.signing_input, unverified.signature):
            raise _refused(_BAD_SIGNATURE, kid=unverified.kid, trusted=trusted)
        return VerifiedToken(trusted, key, unverified, self.machine_tokens_only)

    def _key_for(self, unverified: UnverifiedToken, trusted: TrustedPool) -> VerificationKey:
        """The key with the token's id, after at most one download for one that is not known."""
        started, kid = self._monotonic(), unverified.kid
        keys = trusted.keys.get()
        key = keys.get(kid) or trusted.keys.renew(keys, since=started).get(kid)
        if key is not None:
            return key
        failure = trusted.keys.state.failure
        if failure is None:
            # Takes as long as for a key that is known: the time of the answer is not to tell which are.
            keys.any().has_signed(unverified.signing_input, unverified.signature)
            raise _refused(_UNKNOWN_KEY, kid=kid, trusted=trusted)
        # The key may be new and the token good.
        raise KeysUnavailableError(
            "The key of this access token is not known, and newer keys can't be had at the moment.",
            retry_after=trusted.keys.renewable_in(),
        ) from failure.error

    def _is_allowed(self, client_id: str) -> bool:
        allowed = self.allowed_client_ids
        if allowed is None:
            return True
        return _is_yes(allowed(client_id)) if callable(allowed) else client_id in allowed

    def _check_audience(self, token: ValidatedAccessToken, verified: VerifiedToken) -> None:
        wanted = {self.audience} if isinstance(self.audience, str) else set(self.audience or ())
        aud = token.aud
        said = [aud] if isinstance(aud, str) else aud if isinstance(aud, list) else []
        if wanted.isdisjoint(each for each in said if isinstance(each, str)):
            raise _refused(_WRONG_AUDIENCE, verified)

    def _run_token_check(
        self,
        token_check: Callable[[ValidatedAccessToken], object],
        token: ValidatedAccessToken,
        verified: VerifiedToken,
    ) -> None:
        cause: Exception | None = None
        try:
            answer = token_check(token)
            if answer is not False and not isinstance(answer, Awaitable):
                return
        except Exception as error:
            cause = error
            if not isinstance(error, TokenValidationError):
                _logger.warning("TOKEN_CHECK raised %s: the token is refused.", type(error).__name__)
        raise _refused(_REJECTED, verified) from cause


def insufficient_scope(
    held: frozenset[str], required: frozenset[str], match: ScopeMatch
) -> InsufficientScopeError:
    """The error for a token that lacks all, or any, of ``required``."""
    text = (
        "The access token lacks one or more required scopes."
        if match == "all"
        else "The access token has none of the required scopes."
    )
    return InsufficientScopeError(text, token_scopes=held, required_scopes=required)


Flaw = tuple[Reason, str]

_EXPIRED: Flaw = ("expired", "The access token has expired.")
_NOT_YET_VALID: Flaw = ("not_yet_valid", "The access token is not valid yet.")
_WRONG_ISSUER: Flaw = ("wrong_issuer", "The access token is from another issuer.")
_UNKNOWN_KEY: Flaw = ("unknown_key", "The access token is signed by a key that its issuer does not have.")
_BAD_SIGNATURE: Flaw = ("bad_signature", "The access token's signature is not good.")
_WRONG_TOKEN_USE: Flaw = ("wrong_token_use", "The token is not an access token.")
_BAD_TIMES: Flaw = ("malformed", "The access token's exp, iat or nbf is missing or not a number.")
_NO_CLIENT: Flaw = ("missing_client_id", "The access token has no client_id.")
_BAD_SCOPE: Flaw = ("malformed", "The access token's scope is not text.")
_USER_TOKEN: Flaw = ("user_token", "The access token is a person's; only machines may call.")
_CLIENT_NOT_ALLOWED: Flaw = ("client_not_allowed", "The access token's client is not allowed.")
_WRONG_AUDIENCE: Flaw = ("wrong_audience", "The access token is for another audience.")
_REJECTED: Flaw = ("rejected_by_check", "The access token was refused by this service's own check.")

_FLAWS_BEFORE_TIMES = (_WRONG_TOKEN_USE, _BAD_TIMES)


def _refused(
    flaw: Flaw,
    verified: VerifiedToken | None = None,
    *,
    kid: str | None = None,
    trusted: TrustedPool | None = None,
) -> TokenValidationError:
    reason, message = flaw
    if verified is not None:
        kid, trusted = verified.key.kid, verified.trusted
    return TokenValidationError(
        message, reason=reason, kid=kid, pool=None if trusted is None else trusted.pool.pool_id
    )


def _is_yes(answer: object) -> bool:
    # What an async callable returns is always true, and says nothing.
    return bool(answer) and not isinstance(answer, Awaitable)


def _flaw_in(claims: dict[str, Any], machines_only: bool) -> Flaw | None:
    """The first check that these claims fail whenever and whoever asks."""
    if claims.get("token_use") != "access":
        return _WRONG_TOKEN_USE
    if not all(_is_time(claims.get(name)) for name in ("exp", "iat", *({"nbf"} & claims.keys()))):
        return _BAD_TIMES
    client_id = claims.get("client_id")
    if not client_id or not isinstance(client_id, str):
        return _NO_CLIENT
    if machines_only and ("username" in claims or claims.get("sub") != client_id):
        return _USER_TOKEN
    if not isinstance(claims.get("scope") or "", str):
        return _BAD_SCOPE
    return None


def _scopes_in(claims: dict[str, Any]) -> frozenset[str]:
    scope = claims.get("scope")
    return parse_scopes(scope) if isinstance(scope, str) else frozenset()


def _time_in(claims: dict[str, Any], name: str) -> float:
    value = claims.get(name)
    return value if _is_time(value) else -math.inf  # type: ignore[return-value]


def _is_time(value: object) -> bool:
    # Beyond 2**53 a number is no moment, and an int that large can't be added to a float.
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < 2**53
