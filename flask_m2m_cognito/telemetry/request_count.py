"""Counts the tokens that a client has requested. Cognito bills each of them."""

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
"""More in one process means that tokens are not reused: the cache is not shared, or there are many scopes."""

_HOUR = 3600.0

_logger = logging.getLogger("flask_m2m_cognito.token")


class RequestCount:
    """Counts the token requests of one client that were answered with a token, and warns about many.

    Args:
        client_id: the client's id, for the warning.
        clock: the clock for counting the last hour.
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
        """The number since the process started."""
        return self._total

    @property
    def last_hour(self) -> int:
        """The number in the last hour, at most 1000."""
        with self._lock.get():
            return self._recent_at(self._clock.monotonic())

    def look_at(self, answer: Answer) -> None:
        """Count an answer if Cognito bills it."""
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
            "Client %s requested %d tokens within an hour from this process, %d since it started. Cognito "
            "bills each of them. Run flask m2m check to see whether processes share their tokens.",
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
