"""The clocks of one process, which a test moves."""

from __future__ import annotations

from flask_m2m_cognito.remote.clock import Clock

NOW = 1_800_000_000
"""The time at the start of a test, in seconds since the epoch."""


class Clocks:
    """A wall clock and a monotonic clock, in seconds. They stand still until a test moves them."""

    def __init__(self, wall: float = NOW) -> None:
        self._began = wall
        self.wall_now = float(wall)
        self.monotonic_now = 5_000.0

    @property
    def clock(self) -> Clock:
        """Both clocks as a ``Clock`` of the package."""
        return Clock(self.wall, self.monotonic)

    def wall(self) -> float:
        return self.wall_now

    def monotonic(self) -> float:
        return self.monotonic_now

    def advance(self, seconds: float) -> None:
        """Let time pass on both clocks."""
        # In the other order, a refresh that begins in between on another thread would seem to take this long.
        self.monotonic_now += seconds
        self.wall_now += seconds

    def advance_to(self, seconds: float) -> None:
        """Move both clocks to this many seconds after the start."""
        self.advance(seconds - (self.wall_now - self._began))
