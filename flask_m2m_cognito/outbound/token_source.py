"""Keep the token of one client for one set of scopes fresh."""

from __future__ import annotations

import functools
import json
import logging
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from ..exceptions import CognitoTokenRequestError, TokenUnavailableError
from ..formats.scopes import join_scopes, parse_scopes
from ..formats.strict_json import decode_base64url, parse_object
from ..remote.freshness import Ask, Fetch, Fetched
from ..remote.refreshable import REFRESHING, Refreshable, Refreshing
from ..remote.reports import report
from ..remote.sealed_store import Entry, SealedStore
from ..remote.sharing import Codec, shared
from ..remote.transport import import_http
from .client_secret import SecretText
from .refused_calls import Refusal, RefusedCall, missing_scopes
from .token_answer import DatedToken
from .token_endpoint import CognitoM2MClient

DEFAULT_LIFETIME = 300.0
"""Seconds for which a token without any lifetime is used."""

MIN_AGE = 10.0
"""Seconds: a younger token is not replaced, even if a peer refused it."""

COOLDOWN = 30.0
"""Seconds in which at most one refused token is replaced, because a peer may answer every call with 401.

Doubles up to an hour while each newer token is refused too. Without that, such a peer cost 60 tokens an hour.
"""

_KIND = "token"
"""The kind of an entry with a token in the store."""

_LASTING = frozenset({"invalid_client", "unauthorized_client", "invalid_scope", "unsupported_grant_type"})
_LONGEST_MARGIN = 0.1
_SHORTEST_PART = 16

_logger = logging.getLogger("flask_m2m_cognito.token")


@dataclass(frozen=True)
class TokenPolicy:
    """How a client's tokens are fetched and renewed; see the settings with the same names.

    Attributes:
        fresh_fraction: the fraction of its lifetime after which a token is renewed.
        margin: seconds before expiry in which a token is not returned, at most a tenth of its lifetime.
        timeout: seconds for connecting and for each read.
        refresh_deadline: seconds that one refresh may take.
        scopes_missing: whether a token with fewer scopes than requested causes a warning or an error.
    """

    fresh_fraction: float = 0.75
    margin: float = 30.0
    timeout: tuple[float, float] = (3.05, 5.0)
    refresh_deadline: float = 10.0
    scopes_missing: Literal["warn", "raise"] = "warn"


class TokenSource:
    """The token of one client for one set of scopes: fetched at first use, renewed before it expires.

    Safe to use from any number of threads, which share one request.

    Args:
        client: fetches the tokens.
        scopes: the scopes to request. Without any, Cognito grants all that the client may have.
        metadata: merged over the client's own metadata.
        policy: lifetimes, timeouts and how missing scopes are handled.
        unavailable: returns the exception to raise when no token is available.
        store: shares tokens with other processes.
        on_refused_by_peer: called on the caller's thread with each call that a peer refused.
        refreshing: clock, jitter, threads and observers. The jitter also varies when a token is renewed.
    """

    def __init__(
        self,
        client: CognitoM2MClient,
        scopes: Sequence[str] = (),
        metadata: Mapping[str, str] | None = None,
        *,
        policy: TokenPolicy | None = None,
        unavailable: Callable[[TokenUnavailableError], Exception] = lambda error: error,
        store: SealedStore | None = None,
        on_refused_by_peer: Callable[[RefusedCall], object] = lambda call: None,
        refreshing: Refreshing = REFRESHING,
    ) -> None:
        self.client = client
        self.scopes: tuple[str, ...] = tuple(sorted(set(scopes)))
        self.metadata: dict[str, str] = {**(client.client_metadata or {}), **(metadata or {})}
        #: The key of this token, in the store and for requests that callers share.
        self.identity: str = identity_of(client, self.scopes, self.metadata)
        self._policy = policy or TokenPolicy()
        self._clock = clock = refreshing.clock
        self._jitter = refreshing.jitter
        self._on_refused_by_peer = on_refused_by_peer
        fetch: Fetch[str] = self._fetch
        if store is not None:
            codec = Codec(_KIND, str, self._decode)
            fetch = shared(fetch, store, self.identity, codec, clock=clock)
        self.refreshable: Refreshable[str] = Refreshable(
            fetch,
            unavailable=lambda cause, retry_in: unavailable(_unavailable(cause, retry_in)),
            deadline=self._policy.refresh_deadline,
            cooldown=COOLDOWN,
            min_age=MIN_AGE,
            is_lasting=is_lasting,
            prepare=functools.partial(_import_all, store),
            refreshing=refreshing,
        )
        refreshable = self.refreshable
        #: Return a fresh access token, or raise TokenUnavailableError if none is usable or can be fetched.
        self.token: Callable[[], str] = refreshable.get
        #: The same for a coroutine. It waits without occupying a thread.
        self.token_async: Callable[[], Coroutine[Any, Any, str]] = refreshable.get_async
        #: Return a token whose request started after the call, or raise. Other callers get the old token.
        self.refreshed_token: Callable[[], str] = refreshable.refresh
        self.refreshed_token_async: Callable[[], Coroutine[Any, Any, str]] = refreshable.refresh_async
        #: Return a newer token than this refused one if one may be fetched now, else the current one.
        self.renew: Callable[[str], str] = refreshable.renew
        #: Mark this token as refused: the next call gets a newer one, within the limits of renewal.
        self.forget: Callable[[str], None] = refreshable.forget

    def note_refusal(self, token: str, refusal: Refusal) -> None:
        """Call ``on_refused_by_peer`` with the client and the scopes that a refusal is about."""
        held = parse_scopes(str(_claims_of(token).get("scope", "")))
        # A peer may quote the token or a part of it. Redact before parsing: half a secret would not be found.
        parts = (part for part in token.split(".") if len(part) >= _SHORTEST_PART)
        redact = self.client.build_redaction(SecretText(token), *map(SecretText, parts))
        missing = missing_scopes(redact(refusal.required_scopes), held)
        self._on_refused_by_peer(
            RefusedCall(self.client.client_id, refusal.peer, refusal.status, refusal.reason, missing)
        )

    def entry_in(self, store: SealedStore) -> Entry | None:
        """Return the entry of ``store`` for this token."""
        return store.load(self.identity, _KIND)

    def __repr__(self) -> str:
        return f"TokenSource(client_id={self.client.client_id!r}, scopes={self.scopes!r})"

    def _fetch(self, ask: Ask[str]) -> Fetched[str]:
        found = self.client.request_dated_token(
            self.scopes, self._policy.timeout, ask.deadline, self.metadata
        )
        answered_at, response = self._clock.wall(), found.response
        if response.token_type is not None and response.token_type.lower() != "bearer":
            raise CognitoTokenRequestError("The token endpoint returned a token_type other than Bearer.")
        token, claims = response.access_token, _claims_of(response.access_token)
        granted = claims.get("scope", response.raw.get("scope"))
        self._check_scopes(granted)
        exp, iat = _seconds(claims.get("exp")), _seconds(claims.get("iat"))
        left = _seconds_left(found, exp, iat)
        if left <= 0:
            raise CognitoTokenRequestError(
                f"The token endpoint returned a token that expired {max(0.0, -left):.0f} s ago by the "
                "server's clock. A gateway may be caching its responses for too long."
            )
        fetched = self._fetched(token, answered_at, left, exp, iat)
        if "scope" not in claims:
            # The scopes of an opaque token are only in the response, so the store keeps them with it.
            kept = {"token": token, "scope": granted if isinstance(granted, str) else None}
            fetched = replace(fetched, payload=kept)
        if fetched.fresh_until <= answered_at and ask.held is not None and ask.held.value == token:
            # Without this failure, and its backoff, each call would send a request.
            error = CognitoTokenRequestError(
                f"The token endpoint returned the same token again, which expires in {left:.0f} s. "
                "A gateway may be caching its responses for too long."
            )
            return replace(fetched, failure=error)
        return fetched

    def _decode(self, entry: Entry, held: str | None) -> Fetched[str]:
        """Return the token of another process, if this process would accept it from the endpoint too."""
        payload = entry.payload if isinstance(entry.payload, dict) else {"token": entry.payload}
        token = payload["token"]
        if not isinstance(token, str) or not token.isascii() or not token.isprintable() or " " in token:
            raise ValueError("not a token")
        if entry.expires_at is None:
            raise ValueError("an entry without an expiry")
        claims = _claims_of(token)
        # Earlier versions stored an opaque token without its granted scopes. The KeyError rejects the entry.
        self._check_scopes(claims["scope"] if "scope" in claims else payload["scope"])
        exp, iat = _seconds(claims.get("exp")), _seconds(claims.get("iat"))
        # The clock of another process dated this entry. If it was ahead, the token expires earlier.
        expires_at = entry.expires_at if exp is None else min(entry.expires_at, exp)
        return self._fetched(token, entry.fetched_at, expires_at - entry.fetched_at, exp, iat)

    def _fetched(
        self, token: str, fetched_at: float, left: float, exp: float | None, iat: float | None
    ) -> Fetched[str]:
        """Return a token that expires in ``left`` seconds.

        If that is less than the margin, the waiting callers get the token, and the next call renews it.
        """
        life = left if exp is None or iat is None else max(left, exp - iat)
        margin = min(self._policy.margin, _LONGEST_MARGIN * life)
        usable_for = left - margin if left > margin else left
        # Drawn for each token, so processes that started together do not renew together.
        fresh_for = left * self._policy.fresh_fraction * (0.93 + 0.14 * self._jitter())
        return Fetched(
            token,
            fresh_until=fetched_at + (min(fresh_for, usable_for) if left > margin else 0.0),
            usable_until=fetched_at + usable_for,
            fetched_at=fetched_at,
            expires_at=fetched_at + left,
        )

    def _check_scopes(self, granted: object) -> None:
        """Warn or raise if scopes are missing: Cognito may grant fewer than requested without an error."""
        missing = set(self.scopes) - parse_scopes(granted) if isinstance(granted, str) else set()
        if not missing:
            return
        text = (
            f"Cognito granted client {self.client.client_id} a token without these requested scopes: "
            f"{join_scopes(missing)}. Allow them for the app client, then request a new token."
        )
        if self._policy.scopes_missing == "raise":
            raise CognitoTokenRequestError(text, error_code="invalid_scope", error_description=text)
        extra = {
            "event": "scopes-missing",
            "client_id": self.client.client_id,
            "scopes": join_scopes(missing),
        }
        report(lambda: _logger.warning(text, extra=extra))


def identity_of(client: CognitoM2MClient, scopes: Sequence[str], metadata: Mapping[str, str]) -> str:
    """Return the key of a token in memory, in the store and for requests that callers share."""
    return json.dumps(["token", client.urls, client.client_id, sorted(scopes), sorted(metadata.items())])


def _import_all(store: SealedStore | None) -> None:
    import_http()
    if store is not None:
        store.import_all()


def is_lasting(error: Exception) -> bool:
    """Return whether only the operator can fix the cause of a failed token request."""
    return isinstance(error, CognitoTokenRequestError) and error.error_code in _LASTING


def _seconds_left(found: DatedToken, exp: float | None, iat: float | None) -> float:
    """Return in how many seconds a token that has just arrived expires.

    This is the lesser of ``expires_in`` and ``exp - iat``, less the token's age if a cache on the way
    returned it. The age comes from the servers' clocks: this machine's clock may be hours off after a virtual
    machine was resumed.
    """
    expires_in = found.response.expires_in
    ends = [] if expires_in is None else [float(expires_in)]
    begins = [each for each in (iat, found.answered_at) if each is not None]
    if exp is not None and begins:
        ends.append(exp - max(begins))
    return min(ends, default=DEFAULT_LIFETIME)


def _seconds(value: object) -> float | None:
    is_number = isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 2**53
    return float(value) if is_number else None  # type: ignore[arg-type]


def _claims_of(token: str) -> Mapping[str, Any]:
    """Return the claims of our own new token, without verifying it; none if it is not a JWT."""
    try:
        return parse_object(decode_base64url(token.split(".")[1].encode("ascii")))
    except (ValueError, IndexError):
        return {}


def _unavailable(cause: Exception, retry_in: float) -> TokenUnavailableError:
    error = cause if isinstance(cause, CognitoTokenRequestError) else CognitoTokenRequestError(str(cause))
    return TokenUnavailableError(
        f"No access token is available: {error}",
        status_code=error.status_code,
        error_code=error.error_code,
        error_description=error.error_description,
        response_body=error.response_body,
        request_id=error.request_id,
        retry_after=retry_in,
    )
