"""Counts the tokens that a client has requested: Cognito bills each of them."""

from __future__ import annotations

import functools
import logging
import threading
from collections import deque

from ..remote.clock import SYSTEM, Clock
from ..remote.reports import report
from ..remote.threads import PerProcess
from ..remote.transport import Answer

MANY_AN_HOUR = 10
"""From one process this is a sign that tokens are not kept: by a cache that is not shared, or many scopes."""

_HOUR = 3600.0

_logger = logging.getLogger("flask_m2m_cognito.token")


class RequestCount:
    """Counts one client's token requests that were answered with a token, and warns of many.

    Args:
        client_id: for the warning.
        clock: by which the hour is counted.
    """

    def __init__(self, client_id: str, clock: Clock = SYSTEM) -> None:
        self._client_id = client_id
        self._clock = clock
        self._recent: deque[float] = deque(maxlen=1000)
        self._warned_at = float("-inf")
        self._lock = PerProcess(threading.Lock)
        self._total = 0

    @property
    def total(self) -> int:
        """Since the process began."""
        return self._total

    @property
    def last_hour(self) -> int:
        """In the last hour, 1000 at the most."""
        with self._lock.get():
            return self._recent_at(self._clock.monotonic())

    def look_at(self, answer: Answer) -> None:
        """Count an answer, if it was billed."""
        if answer.status != 200:
            return
        now = self._clock.monotonic()
        with self._lock.get():
            self._total += 1
            self._recent.append(now)
            recent = self._recent_at(now)
            warns = recent > MANY_AN_HOUR and now >= self._warned_at + _HOUR
            if warns:
                self._warned_at = now
        if warns:
            report(functools.partial(self._warn, recent, self._total))

    def _warn(self, recent: int, total: int) -> None:
        _logger.warning(
            "Client %s asked for %d tokens within an hour from this process, %d since it began: "
            "Cognito bills each of them.",
            self._client_id,
            recent,
            total,
            extra={
                "event": "many-token-requests",
                "client_id": self._client_id,
                "last_hour": recent,
                "total": total,
            },
        )

    def _recent_at(self, now: float) -> int:
        while self._recent and self._recent[0] <= now - _HOUR:
            self._recent.popleft()
        return len(self._recent)
