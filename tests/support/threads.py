"""Threads whose outcomes are kept, threads that start together, load, and bounded waits."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar, cast

LONG = 30.0
"""Seconds after which a test stops waiting for another thread. A passing test never waits this long."""

R = TypeVar("R")

At = tuple[int, float]
"""The status of a response, and the seconds that it took."""


def at_once(run: Callable[[], None]) -> None:
    """Run the work at once, in place of starting a thread."""
    run()


class Threads:
    """Real threads, whose outcomes are kept."""

    def __init__(self) -> None:
        self.threads: list[threading.Thread] = []
        self.outcomes: list[object] = []

    def __call__(self, run: Callable[[], object]) -> None:
        def kept() -> None:
            try:
                self.outcomes.append(run())
            except BaseException as error:
                self.outcomes.append(error)

        thread = threading.Thread(target=kept, daemon=True)
        self.threads.append(thread)
        thread.start()

    def join(self) -> list[object]:
        for thread in self.threads:
            thread.join(LONG)
            assert not thread.is_alive()
        return self.outcomes


@contextmanager
def threads() -> Iterator[Threads]:
    """Start threads, which must end by the end of the block."""
    started = Threads()
    yield started
    started.join()


def together(count: int, run: Callable[[], object]) -> list[object]:
    """Return what ``run`` returned or raised on each of ``count`` threads that start together."""
    barrier = threading.Barrier(count)

    def begin() -> object:
        barrier.wait(LONG)
        return run()

    with threads() as started:
        for _ in range(count):
            started(begin)
    return started.outcomes


def crowd(count: int, run: Callable[[], R]) -> list[R]:
    """Do the same as :func:`together`. No thread may raise."""
    outcomes = together(count, run)
    assert not [outcome for outcome in outcomes if isinstance(outcome, Exception)]
    return cast("list[R]", outcomes)


def wait_for(condition: Callable[[], object], what: str, within: float = LONG) -> None:
    """Wait until ``condition`` is true. Fail if that takes more than ``within`` seconds."""
    ends_at = time.monotonic() + within
    while not condition():
        assert time.monotonic() < ends_at, f"not within {within:g} s: {what}"
        time.sleep(0.005)


def seconds_of(run: Callable[[], object]) -> float:
    """Return the seconds that ``run`` takes until it returns or raises."""
    started = time.perf_counter()
    with contextlib.suppress(Exception):
        run()
    return time.perf_counter() - started


class Load:
    """Threads that repeat a call, and the outcomes."""

    def __init__(self, call: Callable[[], At], threads: int) -> None:
        self._call = call
        self._ended = threading.Event()
        self._of_each: list[list[At]] = [[] for _ in range(threads)]
        self._threads = [threading.Thread(target=self._run, args=(mine,)) for mine in self._of_each]
        self.errors: list[Exception] = []

    def go_on_for(self, calls: int) -> None:
        """Wait for ``calls`` more calls, distributed among the threads, that all began from now on."""
        each = 1 + calls // len(self._threads)
        ends = [len(mine) + 1 + each for mine in self._of_each]

        def is_over() -> bool:
            return all(len(mine) >= end for mine, end in zip(self._of_each, ends, strict=True))

        wait_for(lambda: self.errors or is_over(), f"{calls} more calls")

    @property
    def outcomes(self) -> list[At]:
        return [outcome for mine in self._of_each for outcome in mine]

    @property
    def statuses(self) -> set[int]:
        return {status for status, _ in self.outcomes}

    @property
    def slowest(self) -> float:
        return max(seconds for _, seconds in self.outcomes)

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def end(self) -> None:
        """Let the threads finish their calls. No call may have raised."""
        self._ended.set()
        for thread in self._threads:
            thread.join(LONG)
        assert not self.errors
        assert not any(thread.is_alive() for thread in self._threads)

    def _run(self, mine: list[At]) -> None:
        while not self._ended.is_set():
            try:
                mine.append(self._call())
            except Exception as error:
                self.errors.append(error)
                return


@contextmanager
def load(call: Callable[[], At], threads: int = 4) -> Iterator[Load]:
    """Run ``threads`` callers during the block."""
    running = Load(call, threads)
    running.start()
    try:
        yield running
    finally:
        running.end()
