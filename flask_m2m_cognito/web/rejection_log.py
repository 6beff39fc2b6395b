"""Log records of refused requests: a few a minute for each reason, then a count.

Anybody can make a service refuse requests, so that one record for each would fill its disk.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass

from ..remote.process_lock import ProcessLock

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

    Args:
        monotonic: the clock, in seconds.
    """

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._minutes: dict[str, _Minute] = {}  # guarded by lock
        self._lock = ProcessLock()

    def note(self, rejection: Rejection) -> None:
        """Log or count a rejection."""
        with self._lock:
            now = self._monotonic()
            # Of every reason: a burst may be followed by rejections of other reasons only.
            ended = {each: m for each, m in self._minutes.items() if now >= m.began_at + _MINUTE}
            for reason in ended:
                del self._minutes[reason]
            minute = self._minutes.get(rejection.reason, _Minute(now))
            minute = _Minute(minute.began_at, minute.count + 1)
            self._minutes[rejection.reason] = minute
        for reason, last in ended.items():
            left_out = last.count - MOST_A_MINUTE
            if left_out > 0:
                _logger.info(
                    "%d more requests were refused: %s",
                    left_out,
                    reason,
                    extra={"event": "token-rejected-more", "reason": reason, "count": left_out},
                )
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


def _listed(scopes: frozenset[str] | None) -> list[str] | None:
    # A list, because log formatters that write JSON reject a set.
    return None if scopes is None else sorted(scopes)
