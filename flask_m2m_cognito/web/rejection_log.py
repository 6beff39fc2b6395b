"""Log records of rejected requests: a few a minute for each reason, then a count.

Anybody can make a service reject requests, so one record for each would fill its disk.
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
    """One rejected request. ``kid`` and ``path`` are the caller's text: fields, never the message.

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
        # By reason, when its minute began, and how many there were since. Guarded by lock.
        self._minutes: dict[str, tuple[float, int]] = {}
        self._lock = PerProcess(threading.Lock)
        self._pid = 0  # of the process that counts: a forked child does not log its parent's counts
        weakref.finalize(app, self._log_last_counts)

    def note(self, rejection: Rejection) -> None:
        """Log or count a rejection."""
        with self._lock.get():
            now = self._clock.monotonic()
            # Of every reason: a burst may be followed by rejections of other reasons only.
            ended = self._pop_ended(now)
            began_at, count = self._minutes.get(rejection.reason, (now, 0))
            count += 1
            self._minutes[rejection.reason] = began_at, count
            self._pid = os.getpid()
        _log_counts(ended)
        app = self._app()
        if count == MOST_A_MINUTE + 1 and app is not None:
            request_started.connect(self._on_request, sender=app)
        if count <= MOST_A_MINUTE:
            extra = {"event": "token-rejected", **vars(rejection)}
            for name in ("token_scopes", "required_scopes"):
                # A list, because log formatters that write JSON reject a set.
                extra[name] = None if extra[name] is None else sorted(extra[name])
            _logger.info("Refused a request: %s", rejection.reason, extra=extra)

    def _on_request(self, app: Flask, **_: object) -> None:
        with self._lock.get():
            ended = self._pop_ended(self._clock.monotonic())
            if not any(count > MOST_A_MINUTE for _, count in self._minutes.values()):
                request_started.disconnect(self._on_request, sender=app)
        _log_counts(ended)

    def _pop_ended(self, now: float) -> dict[str, int]:
        """The counts of each minute that has ended, by reason. They begin again."""
        reasons = [reason for reason, (began_at, _) in self._minutes.items() if now >= began_at + _MINUTE]
        return {reason: self._minutes.pop(reason)[1] for reason in reasons}

    def _log_last_counts(self) -> None:
        if self._pid == os.getpid():
            _log_counts(self._pop_ended(math.inf))


def _log_counts(counts: Mapping[str, int]) -> None:
    for reason, count in counts.items():
        left_out = count - MOST_A_MINUTE
        if left_out > 0:
            _logger.info(
                "%d more requests were refused: %s",
                left_out,
                reason,
                extra={"event": "token-rejected-more", "reason": reason, "count": left_out},
            )
