"""The token object that a view gets: the claims of a valid token."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ..formats.scopes import ScopeMatch, check_match, has_scopes
from ..remote.clock import WallReader


class _Clocked:
    """The clock of the validator that accepted a token.

    It is a slot, not a field of the dataclass. So tokens with different clocks can be equal, and the clock is
    neither in the ``repr`` nor pickled.
    """

    __slots__ = ("_clock",)
    _clock: WallReader


@dataclass(frozen=True, slots=True)
class ValidatedAccessToken(_Clocked):
    """An access token that passed every check.

    Attributes:
        client_id: the id of the app client that the token was issued to.
        scopes: the scopes that the token was granted.
        claims: all claims. They belong to this object: changing them does not affect other requests.
    """

    client_id: str
    scopes: frozenset[str]
    claims: dict[str, Any]

    @property
    def sub(self) -> str | None:
        """The subject (``sub``). In a machine token it is the client id."""
        return self.claims.get("sub")

    @property
    def iss(self) -> str | None:
        """The issuer (``iss``): a URL that names the user pool."""
        return self.claims.get("iss")

    @property
    def aud(self) -> str | list[str] | None:
        """The audience (``aud``), if the token was requested for a resource."""
        return self.claims.get("aud")

    @property
    def exp(self) -> int | None:
        """The time when the token expires (``exp``), in seconds since the epoch."""
        return self.claims.get("exp")

    @property
    def iat(self) -> int | None:
        """The time when the token was issued (``iat``), in seconds since the epoch."""
        return self.claims.get("iat")

    @property
    def expires_in(self) -> float:
        """The seconds until the token expires; 0 if it has expired.

        The clock is that of the validator that accepted the token. A token that you created, copied or
        unpickled uses the system clock.
        """
        clock: WallReader = getattr(self, "_clock", time)
        return max(0.0, (self.exp or 0) - clock.time())

    def has_scope(self, scope: str) -> bool:
        """Return whether the token has ``scope``."""
        return scope in self.scopes

    def has_scopes(self, *scopes: str, match: ScopeMatch = "all") -> bool:
        """Return whether the token has all, or any, of ``scopes``. Return true if you name none.

        Args:
            scopes: the scopes to look for.
            match: ``"all"`` or ``"any"`` of them.

        Raises:
            ConfigurationError: ``match`` is neither ``"all"`` nor ``"any"``.
        """
        check_match(match)
        return has_scopes(self.scopes, frozenset(scopes), match)


def build_token(
    client_id: str, scopes: frozenset[str], claims: dict[str, Any], clock: WallReader
) -> ValidatedAccessToken:
    """Return a new token, in half the time that the constructor of a frozen dataclass takes."""
    token = new_token(ValidatedAccessToken)
    set_client_id(token, client_id)
    set_scopes(token, scopes)
    set_claims(token, claims)
    set_clock(token, clock)
    return token


# For the fast path, where even a call of build_token costs too much.
new_token: Callable[[type[ValidatedAccessToken]], ValidatedAccessToken] = object.__new__
set_client_id: Callable[[ValidatedAccessToken, str], None]
set_scopes: Callable[[ValidatedAccessToken, frozenset[str]], None]
set_claims: Callable[[ValidatedAccessToken, dict[str, Any]], None]
set_clock: Callable[[ValidatedAccessToken, WallReader], None]
set_client_id, set_scopes, set_claims, set_clock = (
    getattr(ValidatedAccessToken, name).__set__ for name in ("client_id", "scopes", "claims", "_clock")
)
