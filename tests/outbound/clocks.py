"""Clocks and threads for tests of values that are refreshed. The test controls both."""

from __future__ import annotations

from collections.abc import Callable

from flask_m2m_cognito.remote.refreshable import Refreshing
from tests.support.clocks import Clocks


class Threads:
    """Runs a thread's function at once on the caller's thread. While ``held``, ``run_waiting`` runs it."""

    def __init__(self) -> None:
        self.held = False
        self.waiting: list[Callable[[], None]] = []

    def start(self, run: Callable[[], None]) -> None:
        if self.held:
            self.waiting.append(run)
        else:
            run()

    def run_waiting(self) -> None:
        """Run the functions that were started while held."""
        while self.waiting:
            self.waiting.pop(0)()


def refreshing(
    clocks: Clocks, threads: Threads | None = None, chance: float = 0.0, in_background: bool = True
) -> Refreshing:
    """Clocks, jitter and threads for a ``TokenSource``."""
    return Refreshing(clocks.clock, lambda: chance, (threads or Threads()).start, in_background)
