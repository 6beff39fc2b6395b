"""Time and threads for tests of what is kept fresh: both move by hand."""

from __future__ import annotations

from collections.abc import Callable

from flask_m2m_cognito.remote.refreshable import Refreshing
from tests.support.clocks import Clocks


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


def refreshing(
    clocks: Clocks, threads: Threads | None = None, chance: float = 0.0, in_background: bool = True
) -> Refreshing:
    """Time, chance and threads for a ``TokenSource``."""
    return Refreshing(clocks.clock, lambda: chance, (threads or Threads()).start, in_background)
