"""The clocks of one process, moved by hand."""

from __future__ import annotations

from flask_m2m_cognito.remote.clock import Clock

NOW = 1_800_000_000
"""When tests take place, in seconds since the epoch."""


class Clocks:
    """A wall clock and a monotonic one, in seconds, that stand still until a test moves them."""

    def __init__(self, wall: float = NOW) -> None:
        self._began = wall
        self.wall_now = float(wall)
        self.monotonic_now = 5_000.0

    @property
    def clock(self) -> Clock:
        """The two as the package takes them."""
        return Clock(self.wall, self.monotonic)

    def wall(self) -> float:
        return self.wall_now

    def monotonic(self) -> float:
        return self.monotonic_now

    def advance(self, seconds: float) -> None:
        """Let time pass, on both."""
        # In the other order, a refresh on another thread that begins in between would seem to take so long.
        self.monotonic_now += seconds
        self.wall_now += seconds

    def advance_to(self, seconds: float) -> None:
        """Let it be so many seconds since the start."""
        self.advance(seconds - (self.wall_now - self._began))
