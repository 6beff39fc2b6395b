"""How far this machine's clock is from the servers', by the ``Date`` of their answers."""

from __future__ import annotations

from ..remote.clock import SYSTEM, Clock
from ..remote.transport import Answer


class ClockOffset:
    """The last offset that was seen. ``Date`` has whole seconds, so it is good to about one.

    Args:
        clock: the clock that is compared.
    """

    def __init__(self, clock: Clock = SYSTEM) -> None:
        self._clock = clock
        #: Seconds by which the servers are ahead of this machine; ``None`` before the first answer.
        self.seconds: float | None = None

    def look_at(self, answer: Answer) -> None:
        """Take the offset from an answer that has just come."""
        offset = answer.clock_offset(self._clock.wall())
        if offset is not None:
            # The middle of the second that the header names.
            self.seconds = offset + 0.5
