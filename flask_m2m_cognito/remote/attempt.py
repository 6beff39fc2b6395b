"""One fetch that is under way in this process: threads wait for it, and coroutines await it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from typing import Any, Generic, NamedTuple, TypeVar

from .clock import WatchedDeadline
from .freshness import Fetched, T, accept_any

R = TypeVar("R")


class Attempt(Generic[T]):
    """A fetch under way, and what it is for: see :class:`Ask`.

    Attributes:
        number: how many of this process had begun, with this one.
        started: when it began, on the monotonic clock.
        is_background: no caller waited for it when it began.
        is_here: it runs on the thread of the caller that leads it.
        outcome: what it ended with, once it has.
    """

    __slots__ = (
        "_ended",
        "deadline",
        "is_background",
        "is_enough",
        "is_forced",
        "is_here",
        "number",
        "outcome",
        "started",
    )

    def __init__(
        self,
        number: int,
        deadline: WatchedDeadline,
        started: float,
        is_enough: Callable[[T], bool] = accept_any,
        is_forced: bool = False,
    ) -> None:
        self.number: int = number
        self.deadline: WatchedDeadline = deadline
        self.started: float = started
        self.is_enough: Callable[[T], bool] = is_enough
        self.is_forced: bool = is_forced
        self.is_background: bool = False
        self.is_here: bool = False
        self.outcome: Fetched[T] | Exception | None = None
        self._ended: Future[None] = Future()
        # Otherwise the first coroutine that is cancelled would cancel it for all.
        self._ended.set_running_or_notify_cancel()

    def end(self) -> None:
        """Release every caller that waits, after :attr:`outcome` is set. Called once."""
        self._ended.set_result(None)

    def wait(self, seconds: float) -> bool:
        """Wait for at most ``seconds``. Return whether it has ended."""
        try:
            self._ended.result(max(0.0, min(seconds, threading.TIMEOUT_MAX)))
        except FutureTimeout:
            return self._ended.done()
        return True

    async def wait_async(self, seconds: float) -> bool:
        """Wait as :meth:`wait` does, in a coroutine and without a thread."""
        import asyncio  # which the caller has imported, and others should not pay for

        try:
            await asyncio.wait_for(asyncio.wrap_future(self._ended), max(0.0, seconds))
        except asyncio.TimeoutError:
            return self._ended.done()
        return True


class Wait(NamedTuple):
    """Where steps wait: for the end of ``attempt``, for at most ``seconds``."""

    attempt: Attempt[Any]
    seconds: float


Steps = Generator[Wait, bool, R]
"""What a caller does, for threads and coroutines: it yields each wait, and is sent whether that ended."""


def run_steps(steps: Steps[R]) -> R:
    """Run ``steps`` on this thread."""
    try:
        wait = next(steps)
        while True:
            wait = steps.send(wait.attempt.wait(wait.seconds))
    except StopIteration as end:
        result: R = end.value
        return result


async def run_steps_async(steps: Steps[R]) -> R:
    """Run ``steps`` in this coroutine."""
    try:
        wait = next(steps)
        while True:
            wait = steps.send(await wait.attempt.wait_async(wait.seconds))
    except StopIteration as end:
        result: R = end.value
        return result
