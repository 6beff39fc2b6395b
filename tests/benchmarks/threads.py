"""Many threads that do the same at once, and how long each of them waited."""

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


def waited(work: Callable[[], object]) -> Wait:
    """Do ``work`` once."""
    begun = time.perf_counter()
    try:
        work()
    except Exception as error:
        return Wait(begun, time.perf_counter() - begun, error)
    return Wait(begun, time.perf_counter() - begun)


def at_once(count: int, work: Callable[[], object]) -> tuple[float, list[Wait]]:
    """The seconds until all of ``count`` threads that start together are done, and each one's wait."""
    gate = threading.Event()
    waits: list[Wait] = []

    def run() -> None:
        gate.wait()
        waits.append(waited(work))

    threads = [threading.Thread(target=run, daemon=True) for _ in range(count)]
    for thread in threads:
        thread.start()
    begun = time.perf_counter()
    gate.set()
    for thread in threads:
        thread.join()
    return max(wait.begun + wait.seconds for wait in waits) - begun, waits


def again_and_again(count: int, work: Callable[[], object], seconds: float, pause: float) -> list[Wait]:
    """Every wait of ``count`` threads that do ``work`` for ``seconds``, with ``pause`` between.

    Without the pause they would fight for the interpreter, and the waits be those for its lock.
    """
    until = time.perf_counter() + seconds
    waits: list[Wait] = []

    def run() -> None:
        while time.perf_counter() < until:
            waits.append(waited(work))
            time.sleep(pause)

    threads = [threading.Thread(target=run, daemon=True) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return waits


def first_error(waits: list[Wait]) -> Exception | None:
    """What one of them raised, if any did."""
    return next((wait.error for wait in waits if wait.error is not None), None)
