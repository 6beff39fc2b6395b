"""Run the same work on many threads at once, and measure how long each of them waits."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Wait:
    """One piece of work: when it began, how long it took, and what it raised."""

    begun: float
    seconds: float
    error: Exception | None = None


def measure_wait(work: Callable[[], object]) -> Wait:
    """Do ``work`` once, and return its wait."""
    begun = time.perf_counter()
    try:
        work()
    except Exception as error:
        return Wait(begun, time.perf_counter() - begun, error)
    return Wait(begun, time.perf_counter() - begun)


def at_once(count: int, work: Callable[[], object]) -> tuple[float, list[Wait]]:
    """Start ``count`` threads together. Return the seconds until all are done, and the wait of each."""
    gate = threading.Event()
    waits: list[Wait] = []

    def run() -> None:
        gate.wait()
        waits.append(measure_wait(work))

    threads = [threading.Thread(target=run, daemon=True) for _ in range(count)]
    for thread in threads:
        thread.start()
    begun = time.perf_counter()
    gate.set()
    for thread in threads:
        thread.join()
    return max(wait.begun + wait.seconds for wait in waits) - begun, waits


def again_and_again(count: int, work: Callable[[], object], seconds: float, pause: float) -> list[Wait]:
    """Repeat ``work`` on ``count`` threads for ``seconds``, with pauses. Return every wait.

    Without the pause, the threads would compete for the interpreter's lock, and the waits would include that.
    """
    until = time.perf_counter() + seconds
    waits: list[Wait] = []

    def run() -> None:
        while time.perf_counter() < until:
            waits.append(measure_wait(work))
            time.sleep(pause)

    threads = [threading.Thread(target=run, daemon=True) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return waits


def first_error(waits: list[Wait]) -> Exception | None:
    """Return an exception that one of them raised, if any did."""
    return next((wait.error for wait in waits if wait.error is not None), None)
