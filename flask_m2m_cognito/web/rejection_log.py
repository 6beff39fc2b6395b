"""Logs rejected requests: up to ten a minute for each reason, then a count.

Anyone can make a service reject requests, and one log record for each would fill the disk.
"""

from __future__ import annotations

import logging
import math
import os
import threading
import weakref
from collections.abc import Mapping
from dataclasses import dataclass

from flask import Flask, request_started

from ..remote.clock import SYSTEM, Clock
from ..remote.threads import PerProcess

MOST_A_MINUTE = 10

_MINUTE = 60.0

_logger = logging.getLogger("flask_m2m_cognito.auth")


@dataclass(frozen=True)
class Rejection:
    """One rejected request. ``kid`` and ``path`` come from the caller: they are fields, never in the message.

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


class RejectionLog:
    """Logs rejections at INFO, at most ten a minute for each reason, and counts the others.

    The count is logged at the first request after the minute, even if that is accepted, or else when the
    process exits. This costs requests nothing while there is no count.

    Args:
        app: the application whose requests are counted.
        clock: measures the minute.
    """

    def __init__(self, app: Flask, clock: Clock = SYSTEM) -> None:
        self._app = weakref.ref(app)
        self._clock = clock
        # For each reason, when its minute began and the rejections since then. Protected by the lock.
        self._minutes: dict[str, tuple[float, int]] = {}
        self._lock = PerProcess(threading.Lock)
        self._pid = 0  # the process that counts: a forked child does not log its parent's counts
        weakref.finalize(app, self._log_last_counts)

    def note(self, rejection: Rejection) -> None:
        """Log or count a rejection."""
        with self._lock.get():
            now = self._clock.monotonic()
            # Check every reason: only other reasons may follow a burst.
            finished = self._pop_finished(now)
            began_at, count = self._minutes.get(rejection.reason, (now, 0))
            count += 1
            self._minutes[rejection.reason] = began_at, count
            self._pid = os.getpid()
        _log_counts(finished)
        app = self._app()
        if count == MOST_A_MINUTE + 1 and app is not None:
            request_started.connect(self._on_request, sender=app)
        if count <= MOST_A_MINUTE:
            extra = {"event": "token-rejected", **vars(rejection)}
            for name in ("token_scopes", "required_scopes"):
                # A list, because log formatters that write JSON reject a set.
                extra[name] = None if extra[name] is None else sorted(extra[name])
            _logger.info("Rejected a request: %s", rejection.reason, extra=extra)

    def _on_request(self, app: Flask, **_: object) -> None:
        with self._lock.get():
            finished = self._pop_finished(self._clock.monotonic())
            if not any(count > MOST_A_MINUTE for _, count in self._minutes.values()):
                request_started.disconnect(self._on_request, sender=app)
        _log_counts(finished)

    def _pop_finished(self, now: float) -> dict[str, int]:
        """Return and reset the count of each reason whose minute is over."""
        reasons = [reason for reason, (began_at, _) in self._minutes.items() if now >= began_at + _MINUTE]
        return {reason: self._minutes.pop(reason)[1] for reason in reasons}

    def _log_last_counts(self) -> None:
        if self._pid == os.getpid():
            _log_counts(self._pop_finished(math.inf))


def _log_counts(counts: Mapping[str, int]) -> None:
    for reason, count in counts.items():
        suppressed = count - MOST_A_MINUTE
        if suppressed > 0:
            _logger.info(
                "%d more requests were rejected: %s",
                suppressed,
                reason,
                extra={"event": "token-rejected-more", "reason": reason, "count": suppressed},
            )
