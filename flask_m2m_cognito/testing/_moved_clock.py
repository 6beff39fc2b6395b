"""A clock that tests move, so that nobody waits for a token to end."""

from __future__ import annotations

import threading
import time
from types import TracebackType

from ..remote.clock import Clock, set_clock_for_new_apps


class MovedClock:
    """The time, and what it was moved by. Applications that are initialised inside its block have it.

    ::

        with MovedClock() as clock, LocalUserPool(clock=clock.wall) as pool:
            app = create_app(pool.config())
            clock.move(3600)        # an hour later, for this application and this pool

    An application keeps the clock after the block has ended.
    """

    def __init__(self) -> None:
        self._moved = 0.0
        self._wall_set = 0.0
        self._lock = threading.Lock()
        self._before: list[Clock] = []

    def wall(self) -> float:
        """Seconds since the epoch."""
        return time.time() + self._moved + self._wall_set

    def monotonic(self) -> float:
        """Seconds that have gone by, since some moment."""
        return time.monotonic() + self._moved

    def move(self, seconds: float) -> None:
        """Let time go by, on both clocks."""
        if seconds < 0:
            raise ValueError(f"Time does not go back: use set_wall({seconds}) for a clock that is set back.")
        with self._lock:
            self._moved += seconds

    def set_wall(self, seconds: float) -> None:
        """Set the wall clock forward, or back with a negative number, as an administrator or NTP does."""
        with self._lock:
            self._wall_set += seconds

    def __enter__(self) -> MovedClock:
        self._before.append(set_clock_for_new_apps(Clock(self.wall, self.monotonic)))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        set_clock_for_new_apps(self._before.pop())
