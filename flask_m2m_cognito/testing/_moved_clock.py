"""A clock that tests move, so they need not wait until a token expires."""

from __future__ import annotations

import threading
import time
from types import TracebackType

from ..remote.clock import Clock, set_clock_for_new_apps


class MovedClock:
    """A clock that a test moves. Applications that are initialised inside its ``with`` block use it.

    ::

        with MovedClock() as clock, LocalUserPool(clock=clock.wall) as pool:
            app = create_app(pool.config())
            clock.move(3600)        # one hour later, for this application and this pool

    An application keeps the clock after the end of the block.
    """

    def __init__(self) -> None:
        self._moved = 0.0
        self._wall_set = 0.0
        self._lock = threading.Lock()
        self._before: list[Clock] = []

    def wall(self) -> float:
        """Return the seconds since the epoch."""
        return time.time() + self._moved + self._wall_set

    def monotonic(self) -> float:
        """Return the seconds of the monotonic clock, whose start is arbitrary."""
        return time.monotonic() + self._moved

    def move(self, seconds: float) -> None:
        """Move both clocks forward.

        Raises:
            ValueError: ``seconds`` is negative.
        """
        if seconds < 0:
            raise ValueError(
                f"seconds must not be negative, got {seconds}: use set_wall() to set the wall clock back."
            )
        with self._lock:
            self._moved += seconds

    def set_wall(self, seconds: float) -> None:
        """Set the wall clock forward, or back with a negative number, as an administrator or NTP does.

        The monotonic clock does not change.
        """
        with self._lock:
            self._wall_set += seconds

    def __enter__(self) -> MovedClock:
        self._before.append(set_clock_for_new_apps(Clock(self.wall, self.monotonic)))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        set_clock_for_new_apps(self._before.pop())
