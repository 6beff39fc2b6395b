"""Time and threads for tests of what is kept fresh: both move by hand."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

_WALL, _MONOTONIC = 1_800_000_000.0, 5_000.0


class Clock:
    """Both clocks of a process; they stand still until they are told to move."""

    def __init__(self) -> None:
        self._passed = 0.0

    def wall(self) -> float:
        return _WALL + self._passed

    def monotonic(self) -> float:
        return _MONOTONIC + self._passed

    def move(self, seconds: float) -> None:
        """Let so many seconds pass."""
        self._passed += seconds

    def move_to(self, seconds: float) -> None:
        """Let it be so many seconds since the start."""
        self._passed = seconds


class Threads:
    """Runs what a thread would run at once, on the caller's; or, while ``held``, when told to."""

    def __init__(self) -> None:
        self.held = False
        self.waiting: list[Callable[[], None]] = []

    def start(self, run: Callable[[], None]) -> None:
        if self.held:
            self.waiting.append(run)
        else:
            run()

    def run_waiting(self) -> None:
        """Let the threads run that were started while held."""
        while self.waiting:
            self.waiting.pop(0)()


def refreshing(clock: Clock, threads: Threads | None = None, chance: float = 0.0) -> dict[str, Any]:
    """The arguments of ``TokenSource`` for time, chance and threads."""
    return {
        "wall": clock.wall,
        "monotonic": clock.monotonic,
        "jitter": lambda: chance,
        "start_thread": (threads or Threads()).start,
    }
