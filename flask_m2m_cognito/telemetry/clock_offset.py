"""Measures how far this machine's clock is from the servers' clocks, by the ``Date`` of their answers."""

from __future__ import annotations

import logging

from ..remote.clock import SYSTEM, Clock
from ..remote.reports import report
from ..remote.transport import Answer

_SECONDS_TO_WARN_OF = 60.0

_logger = logging.getLogger("flask_m2m_cognito")


class ClockOffset:
    """The latest offset between this machine's clock and the servers'.

    It is exact to about one second, because ``Date`` has whole seconds.

    Args:
        clock: the clock to compare.
    """

    def __init__(self, clock: Clock = SYSTEM) -> None:
        self._clock = clock
        self._has_warned = False
        #: Seconds by which the servers are ahead of this machine; ``None`` before the first answer.
        self.seconds: float | None = None

    def look_at(self, answer: Answer) -> None:
        """Measure the offset from an answer that has just arrived. Log a large one, once."""
        offset = answer.clock_offset(self._clock.wall())
        if offset is None:
            return
        # The middle of the second that the header names.
        self.seconds = offset + 0.5
        if abs(self.seconds) >= _SECONDS_TO_WARN_OF and not self._has_warned:
            self._has_warned = True
            self._warn(self.seconds)

    def _warn(self, offset: float) -> None:
        text = (
            f"This machine's clock is {abs(offset):.0f} s {'ahead of' if offset < 0 else 'behind'} the "
            "servers' clocks, so callers' tokens may be rejected as expired or not yet valid. Synchronize "
            "the clock with NTP. The lifetimes of this service's own tokens do not depend on it."
        )
        extra = {"event": "clock-offset", "clock_offset": offset}
        report(lambda: _logger.warning(text, extra=extra))
