"""How far this machine's clock is from the servers', by the ``Date`` of their answers."""

from __future__ import annotations

from collections.abc import Callable

from ..remote.clock import SYSTEM
from ..remote.transport import Answer


class ClockOffset:
    """The last offset that was seen. ``Date`` has whole seconds, so it is good to about one.

    Args:
        wall: the clock that is compared, in seconds since the epoch.
    """

    def __init__(self, wall: Callable[[], float] = SYSTEM.wall) -> None:
        self._wall = wall
        #: Seconds by which the servers are ahead of this machine; ``None`` before the first answer.
        self.seconds: float | None = None

    def look_at(self, answer: Answer) -> None:
        """Take the offset from an answer that has just come."""
        offset = answer.clock_offset(self._wall())
        if offset is not None:
            # The middle of the second that the header names.
            self.seconds = offset + 0.5
