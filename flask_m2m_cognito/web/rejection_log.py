"""Log records of refused requests: a few a minute for each reason, then a count.

Anybody can make a service refuse requests, so that one record for each would fill its disk.
"""

from __future__ import annotations

import logging
import os
import weakref
from collections.abc import Mapping
from dataclasses import dataclass

from flask import Flask, request_started

from ..remote.clock import SYSTEM, Clock
from ..remote.threads import ProcessLock

MOST_A_MINUTE = 10

_MINUTE = 60.0

_logger = logging.getLogger("flask_m2m_cognito.auth")


@dataclass(frozen=True)
class Rejection:
    """One refused request. ``kid`` and ``path`` are the caller's text: fields, never the message.

    ``client_id`` and both sets of scopes are ``None`` unless the token's signature was verified.
    """

    reason: str
    status: int
    kid: str | None
    pool: str | None
    path: str
    client_id: str | None = None
    token_scopes: frozenset[str] | None = None
    required_scopes: frozenset[str] | None = None


@dataclass(frozen=True)
class _Minute:
    began_at: float
    count: int = 0


class RejectionLog:
    """Logs rejections at INFO, at most ten a minute for each reason; the rest are counted.

    The count is logged at the first request after the minute, whatever its answer, and else when the process
    ends. Requests pay for that only while there is a count.

    Args:
        app: whose requests are counted.
        clock: by which the minute is counted.
    """

    def __init__(self, app: Flask, clock: Clock = SYSTEM) -> None:
        self._app = weakref.ref(app)
        self._clock = clock
        self._minutes: dict[str, _Minute] = {}  # guarded by lock
        self._lock = ProcessLock()
        self._pid = 0  # of the process that counts: a forked child does not log its parent's counts
        weakref.finalize(app, self._end)

    def note(self, rejection: Rejection) -> None:
        """Log or count a rejection."""
        with self._lock:
            now = self._clock.monotonic()
            # Of every reason: a burst may be followed by rejections of other reasons only.
            ended = self._pop_ended(now)
            minute = self._minutes.get(rejection.reason, _Minute(now))
            minute = _Minute(minute.began_at, minute.count + 1)
            self._minutes[rejection.reason] = minute
            self._pid = os.getpid()
        _log_counts(ended)
        app = self._app()
        if minute.count == MOST_A_MINUTE + 1 and app is not None:
            request_started.connect(self._on_request, sender=app)
        if minute.count <= MOST_A_MINUTE:
            _logger.info(
                "Refused a request: %s",
                rejection.reason,
                extra={
                    "event": "token-rejected",
                    "reason": rejection.reason,
                    "status": rejection.status,
                    "kid": rejection.kid,
                    "pool": rejection.pool,
                    "path": rejection.path,
                    "client_id": rejection.client_id,
                    "token_scopes": _listed(rejection.token_scopes),
                    "required_scopes": _listed(rejection.required_scopes),
                },
            )

    def _on_request(self, app: Flask, **_: object) -> None:
        with self._lock:
            ended = self._pop_ended(self._clock.monotonic())
            if not any(_left_out(minute) for minute in self._minutes.values()):
                request_started.disconnect(self._on_request, sender=app)
        _log_counts(ended)

    def _pop_ended(self, now: float) -> dict[str, _Minute]:
        ended = {
            reason: minute for reason, minute in self._minutes.items() if now >= minute.began_at + _MINUTE
        }
        for reason in ended:
            del self._minutes[reason]
        return ended

    def _end(self) -> None:
        if self._pid == os.getpid():
            _log_counts(self._minutes)


def _left_out(minute: _Minute) -> int:
    return max(0, minute.count - MOST_A_MINUTE)


def _log_counts(minutes: Mapping[str, _Minute]) -> None:
    for reason, minute in minutes.items():
        if _left_out(minute):
            _logger.info(
                "%d more requests were refused: %s",
                _left_out(minute),
                reason,
                extra={"event": "token-rejected-more", "reason": reason, "count": _left_out(minute)},
            )


def _listed(scopes: frozenset[str] | None) -> list[str] | None:
    # A list, because log formatters that write JSON reject a set.
    return None if scopes is None else sorted(scopes)
