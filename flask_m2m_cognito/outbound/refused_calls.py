"""Find out why a peer refused a call of ours, and log it.

The peer may be hostile: only words from closed sets and the names of scopes are used from its response.

Source: RFC 6750, section 3 (challenge); RFC 9457 (problem body, whose ``reason`` is this library's).
"""

from __future__ import annotations

import functools
import json
import logging
import re
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from ..exceptions import REASONS
from ..formats.scopes import is_scope, join_scopes, parse_scopes
from ..remote.clock import SYSTEM, Clock
from ..remote.reports import send_reports
from ..remote.threads import PerProcess, start_daemon
from .challenges import bearer_challenges

MOST_READ = 4 * 1024
"""The number of bytes of a problem body that are read. This library's have a few hundred."""

MOST_NOTED = 256
"""The number of pairs of peer and reason that may be logged within a minute."""

REFUSALS = frozenset({400, 401, 403, 503})
"""The status codes with which this library rejects a request."""

_ERRORS = frozenset({"invalid_request", "invalid_token", "insufficient_scope"})
_MINUTE = 60.0
_LONGEST_PEER = 255
_LONGEST_SCOPES = 500
_NOT_PRINTABLE = re.compile(r"[^\x21-\x7E]")

_logger = logging.getLogger("flask_m2m_cognito")


@dataclass(frozen=True)
class Refusal:
    """A refusal, as the peer describes it.

    Attributes:
        peer: scheme, host and port.
        status: one of ``REFUSALS``.
        reason: a ``Reason``, an error code of RFC 6750, or ``"unknown"``.
        required_scopes: untrusted text of the peer.
    """

    peer: str
    status: int
    reason: str
    required_scopes: str = field(default="", repr=False)


@dataclass(frozen=True)
class RefusedCall:
    """A refusal, with the client of ours that it is about. Safe to log.

    Attributes:
        client_id: the client whose token was sent.
        peer: scheme, host and port.
        status: one of ``REFUSALS``.
        reason: a ``Reason``, an error code of RFC 6750, or ``"unknown"``.
        missing_scopes: the scopes that the peer requires and the token lacks, sorted.
    """

    client_id: str
    peer: str
    status: int
    reason: str
    missing_scopes: tuple[str, ...] = ()


def has_problem(status: int, headers: Mapping[str, str]) -> bool:
    """Return whether a refusal has a problem body, which may name the reason."""
    media_type = headers.get("Content-Type", "").partition(";")[0].strip().lower()
    return status in REFUSALS and media_type == "application/problem+json"


def read_refusal(url: str, status: int, headers: Mapping[str, str], body: bytes = b"") -> Refusal | None:
    """Parse a response that refuses our token. Return ``None`` for any other response.

    Args:
        url: the URL that was called.
        status: the status code of the response.
        headers: the headers of the response.
        body: the body, as far as it was read. A body of more than ``MOST_READ`` bytes is ignored.
    """
    if status not in REFUSALS:
        return None
    challenge = next(bearer_challenges(headers), None)
    parameters: Mapping[str, str] = {} if challenge is None else challenge.parameters
    error = parameters.get("error", "").lower()
    reason = _reason_in(body) if has_problem(status, headers) else None
    if reason is None and error in _ERRORS:
        reason = error
    if reason is None:
        if challenge is None or status == 503:
            return None
        reason = "missing_token" if status == 401 else "unknown"
    scopes = parameters.get("scope", "") if reason == "insufficient_scope" else ""
    return Refusal(_peer_in(url), status, reason, scopes)


def missing_scopes(required: str, held: frozenset[str]) -> tuple[str, ...]:
    """Return the scopes in a peer's text that are not held: only valid ones, 500 characters at most."""
    missing: list[str] = []
    left = _LONGEST_SCOPES
    for scope in sorted(parse_scopes(required) - held):
        left -= len(scope)
        if left < 0:
            break
        if is_scope(scope):
            missing.append(scope)
    return tuple(missing)


def _reason_in(body: bytes) -> str | None:
    if len(body) > MOST_READ:
        return None
    try:
        problem = json.loads(body)
    except (ValueError, RecursionError):
        return None
    reason = problem.get("reason") if isinstance(problem, dict) else None
    return reason if reason in REASONS else None


def _peer_in(url: str) -> str:
    try:
        parts = urlsplit(url)
        host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else str(parts.hostname)
        peer = f"{parts.scheme}://{host}" + (f":{parts.port}" if parts.port else "")
    except ValueError:
        peer = "unknown"
    return _NOT_PRINTABLE.sub("?", peer)[:_LONGEST_PEER]


class RefusedCallLog:
    """A log of refused calls at WARNING, with at most one record a minute for each peer and reason.

    Log handlers may be slow or raise, and the caller may be an event loop, so each record is logged on its
    own thread.

    Args:
        clock: measures the minute.
        start_thread: runs a function on another thread.
    """

    def __init__(
        self,
        clock: Clock = SYSTEM,
        start_thread: Callable[[Callable[[], None]], None] = start_daemon,
    ) -> None:
        self._clock = clock
        self._start_thread = start_thread
        self._noted: dict[tuple[str, str], float] = {}  # guarded by lock
        self._lock = PerProcess(threading.Lock)

    def note(self, call: RefusedCall) -> None:
        """Log a refused call, unless a call with the same peer and reason was logged in the last minute."""
        key = call.peer, call.reason
        with self._lock.get():
            now = self._clock.monotonic()
            self._noted = {each: at for each, at in self._noted.items() if now < at + _MINUTE}
            if key in self._noted or len(self._noted) >= MOST_NOTED:
                return
            self._noted[key] = now
        log = functools.partial(send_reports, [functools.partial(_log, call)])
        try:
            self._start_thread(log)
        except (RuntimeError, OSError):
            log()  # no thread can be started: the process shuts down, or is at a limit


def _log(call: RefusedCall) -> None:
    missing = f" Missing scopes: {join_scopes(call.missing_scopes)}." if call.missing_scopes else ""
    _logger.warning(
        "%s refused a call from client %s: %d %s.%s",
        call.peer,
        call.client_id,
        call.status,
        call.reason,
        missing,
        extra={
            "event": "call-refused",
            "peer": call.peer,
            "client_id": call.client_id,
            "status": call.status,
            "reason": call.reason,
            "missing_scopes": list(call.missing_scopes),
        },
    )
