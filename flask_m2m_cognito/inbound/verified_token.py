"""A token whose signature has been verified, and the checks of its claims that never change their answer."""

from __future__ import annotations

import functools
import json
import math
from typing import Any, TypeVar

from ..exceptions import Reason, TokenValidationError
from ..formats.scopes import parse_scopes
from ..remote.refreshable import Refreshable
from .key_set import KeySet, VerificationKey
from .key_source import TrustedPool
from .unverified_token import UnverifiedToken, claims_in

Rejected = TypeVar("Rejected", bound=TokenValidationError)

Flaw = tuple[Reason, str]
"""Why a token is refused, and the text that says so."""

EXPIRED: Flaw = ("expired", "The access token has expired.")
NOT_YET_VALID: Flaw = ("not_yet_valid", "The access token is not valid yet.")
WRONG_ISSUER: Flaw = ("wrong_issuer", "The access token is from another issuer.")
UNKNOWN_KEY: Flaw = ("unknown_key", "The access token is signed by a key that its issuer does not have.")
BAD_SIGNATURE: Flaw = ("bad_signature", "The access token's signature is not good.")
CLIENT_NOT_ALLOWED: Flaw = ("client_not_allowed", "The access token's client is not allowed.")
WRONG_AUDIENCE: Flaw = ("wrong_audience", "The access token is for another audience.")
REJECTED: Flaw = ("rejected_by_check", "This service's own check rejected the access token.")
_WRONG_TOKEN_USE: Flaw = ("wrong_token_use", "The token is not an access token.")
_BAD_TIMES: Flaw = ("malformed", "The access token's exp, iat or nbf is missing or not a number.")
_NO_CLIENT: Flaw = ("missing_client_id", "The access token has no client_id.")
_BAD_SUB: Flaw = ("malformed", "The access token's sub is not text.")
_BAD_SCOPE: Flaw = ("malformed", "The access token's scope is not text.")
_USER_TOKEN: Flaw = ("user_token", "The access token is a person's; only machines may call.")

_FLAWS_BEFORE_TIMES = (_WRONG_TOKEN_USE, _BAD_TIMES)
_LATEST = 2**53
"""Beyond this a number is no moment, and an int that large can't be added to a float."""


class VerifiedToken:
    """A token that its pool's key has signed: its claims may be believed, but are not checked.

    Attributes:
        trusted: the pool that it is from.
        key: the object that verified it: while it is in the key set, the signature need not be looked at.
        keys: the pool's keys, kept fresh.
        key_set: the key set in which ``key`` was last seen.
        flat_claims: its claims, not to be changed, if it came again and they have neither lists nor objects.
        valid_from, valid_until: when it may be used, the leeway taken in.
        flaw: the first check that its claims fail at any time and for anyone, if they do.
    """

    __slots__ = (
        "_payload",
        "_unshared",
        "client_id",
        "flat_claims",
        "flaw",
        "key",
        "key_set",
        "keys",
        "scopes",
        "trusted",
        "used",
        "valid_from",
        "valid_until",
    )

    def __init__(
        self,
        trusted: TrustedPool,
        key: VerificationKey,
        key_set: KeySet,
        unverified: UnverifiedToken,
        machines_only: bool,
        leeway: float,
    ) -> None:
        claims = unverified.claims
        scope = claims.get("scope")
        self.trusted: TrustedPool = trusted
        self.key: VerificationKey = key
        self.key_set: KeySet = key_set
        self.keys: Refreshable[KeySet] = trusted.keys
        self.used: bool = False
        self.flat_claims: dict[str, Any] | None = None
        self._payload = unverified.payload
        self._unshared = claims
        self.client_id: str = claims.get("client_id", "")
        self.scopes: frozenset[str] = _scopes_of(scope) if type(scope) is str else frozenset()
        self.flaw: Flaw | None = _flaw_in(claims, machines_only)
        self.valid_from: float = -math.inf
        self.valid_until: float = -math.inf
        if self.flaw is None or self.flaw not in _FLAWS_BEFORE_TIMES:
            self.valid_until = claims["exp"] + leeway
            if "nbf" in claims:
                self.valid_from = claims["nbf"] - leeway

    def claims(self) -> dict[str, Any]:
        """Its claims, the caller's own.

        Who asks first gets those that were read. Only a token that comes again is worth more memory
        than its text: its claims are kept, and copied for each request. Those in which there is a
        list or an object (or a bracket in a text) are read anew each time, so that no request can
        reach into another's.
        """
        if self.flat_claims is not None:
            return self.flat_claims.copy()
        try:
            unshared = self._unshared
            del self._unshared  # which one of several threads succeeds in
        except AttributeError:
            return self._read_anew()
        return unshared

    def _read_anew(self) -> dict[str, Any]:
        try:
            parsed: dict[str, Any] = json.loads(self._payload)
        except (ValueError, RecursionError):
            # A number of more digits, or a deeper nesting, than Python reads.
            parsed = claims_in(self._payload)
        if self._payload.rfind(b"{") <= 0 and b"[" not in self._payload:
            self.flat_claims = parsed
            return parsed.copy()
        return parsed

    def flaw_at(self, now: float) -> Flaw:
        """The first check that it fails at ``now``, given that it has a flaw or is out of its time."""
        if self.flaw is not None and self.flaw in _FLAWS_BEFORE_TIMES:
            return self.flaw
        if now >= self.valid_until:
            return EXPIRED
        return self.flaw if self.flaw is not None and now >= self.valid_from else NOT_YET_VALID

    def refused(self, flaw: Flaw) -> TokenValidationError:
        """The error that refuses it."""
        return self.identify(refused(flaw))

    def identify(self, error: Rejected) -> Rejected:
        """Return ``error`` with this token's client, scopes, key and pool.

        Only a verified token names anyone: the claims of any other token are the caller's to choose.
        """
        error.client_id = self.client_id if type(self.client_id) is str and self.client_id else None
        error.token_scopes = self.scopes
        error.kid, error.pool = self.key.kid, self.trusted.pool.pool_id
        return error


def refused(flaw: Flaw, kid: str | None = None, trusted: TrustedPool | None = None) -> TokenValidationError:
    """The error for a flaw, with what is known of the token for logs."""
    reason, message = flaw
    pool = None if trusted is None else trusted.pool.pool_id
    return TokenValidationError(message, reason=reason, kid=kid, pool=pool)


# Tokens of one client say the same again and again. Only what a pool has signed comes here.
_scopes_of = functools.lru_cache(maxsize=1024)(parse_scopes)


def _flaw_in(claims: dict[str, Any], machines_only: bool) -> Flaw | None:
    """The first check that these claims fail whenever and whoever asks."""
    if claims.get("token_use") != "access":
        return _WRONG_TOKEN_USE
    if not has_times(claims):
        return _BAD_TIMES
    client_id = claims.get("client_id")
    if not client_id or not isinstance(client_id, str):
        return _NO_CLIENT
    if not isinstance(claims.get("sub", ""), str):
        return _BAD_SUB
    if machines_only and ("username" in claims or claims.get("sub") != client_id):
        return _USER_TOKEN
    if not isinstance(claims.get("scope") or "", str):
        return _BAD_SCOPE
    return None


def has_times(claims: dict[str, Any]) -> bool:
    """Return whether exp and iat are moments, and nbf too, if it is there."""
    return _is_time(claims.get("exp")) and _is_time(claims.get("iat")) and _is_time(claims.get("nbf", 0))


def _is_time(value: object) -> bool:
    # Not isinstance: a bool is an int to it. NaN and infinity can't be parsed.
    return (type(value) is int or type(value) is float) and -_LATEST < value < _LATEST
