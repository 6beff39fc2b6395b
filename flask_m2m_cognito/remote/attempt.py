"""The fetches of one value: at most one at a time, for which threads wait and coroutines await."""

from __future__ import annotations

import functools
import random
import threading
from collections.abc import Callable, Generator
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import Any, Generic, NamedTuple, TypeVar

from .clock import SYSTEM, Clock, Deadline
from .freshness import (
    NEVER,
    Ask,
    Fetch,
    Fetched,
    Refreshed,
    RefreshFailed,
    RefreshObserver,
    RefreshTimeout,
    State,
    T,
    accept_any,
    failure_event,
    is_newer,
    with_failure,
    with_value,
)
from .reports import Note, Report, held_reports, send_reports, unobserved
from .threads import PerProcess, start_daemon

R = TypeVar("R")


class Attempt(Generic[T]):
    """A fetch under way.

    Attributes:
        number: how many of this process had begun, with this one.
        ask: what it is for.
        started: when it began, on the monotonic clock.
        is_background: no caller waited for it when it began.
        is_here: it runs on the thread of the caller that leads it.
        outcome: what it ended with, once it has.
    """

    __slots__ = ("_ended", "ask", "is_background", "is_here", "number", "outcome", "started")

    def __init__(self, number: int, ask: Ask[T], started: float) -> None:
        self.number: int = number
        self.ask: Ask[T] = ask
        self.started: float = started
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


@dataclass(frozen=True)
class Refreshing:
    """What the refreshables of an application share.

    Attributes:
        clock: the clock by which values age.
        jitter: chance in 0..1, drawn for each backoff.
        start_thread: calls a function on another thread.
        in_background: ``False`` where a process is frozen between requests: callers wait for a renewal.
        observer: observes each fetch.
    """

    clock: Clock = SYSTEM
    jitter: Callable[[], float] = random.random
    start_thread: Callable[[Callable[[], None]], None] = start_daemon
    in_background: bool = True
    observer: RefreshObserver | None = None


REFRESHING = Refreshing()
"""The machine's clock and threads, renewal in background, and nobody who observes."""


class _Sync(Generic[T]):
    """A process's lock, and its attempts."""

    __slots__ = ("attempt", "begun", "lock", "newest")

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.attempt: Attempt[T] | None = None  # the one under way; guarded by lock
        self.begun = 0  # how many have begun; guarded by lock
        #: The number of the last attempt to which the source gave a value, and that value.
        self.newest: tuple[int, T] | None = None


class Attempts(Generic[T]):
    """What one process holds of a value, and the fetches of it.

    Args:
        fetch, deadline, is_lasting, refreshing: see ``Refreshable``.
    """

    def __init__(
        self,
        fetch: Fetch[T],
        deadline: float,
        is_lasting: Callable[[Exception], bool],
        refreshing: Refreshing,
    ) -> None:
        self._fetch = fetch
        self._deadline = deadline
        self._is_lasting = is_lasting
        self._shared = refreshing
        self._clock = refreshing.clock
        self._sync: Callable[[], _Sync[T]] = PerProcess[_Sync[T]](_Sync).get
        #: What is held, and how the last fetch ended. Replaced whole, under the lock; read without.
        self.state: State[T] = State()

    @property
    def _fails_for_the_thread(self) -> bool:
        """Whether the next fetch is to run on a caller's thread: see :attr:`Failure.is_foreign`."""
        failure = self.state.failure
        return failure is not None and failure.is_foreign

    def _join_or_begin(
        self,
        is_needed: Callable[[], bool],
        may_begin: Callable[[], bool] | None = None,
        is_enough: Callable[[T], bool] | None = None,
        is_forced: bool = False,
    ) -> tuple[Attempt[T] | None, bool]:
        """Return the attempt under way, or a new one that the caller must start, or ``None``.

        The second member says whether it is new. Everything that is passed is called under the lock.
        """
        sync = self._sync()
        attempt = sync.attempt  # which another thread may finish meanwhile
        if attempt is not None and attempt.ask.deadline.passed:
            self._give_up(attempt)
        with sync.lock:
            if not is_needed():
                return None, False
            if sync.attempt is not None:
                return sync.attempt, False
            if may_begin is not None and not may_begin():
                return None, False
            started, value = self._clock.monotonic(), self.state.value
            if is_enough is None and self.state.must_replace and not is_forced:
                is_enough = lambda other: other != value  # noqa: E731
            if is_enough is not None:
                self.state = replace(self.state, renewed_monotonic=started)
            sync.begun += 1
            deadline = Deadline(self._deadline, self._clock)
            ask = Ask(deadline, self.state.fetched, is_enough or accept_any, is_forced)
            sync.attempt = Attempt(sync.begun, ask, started)
            return sync.attempt, True

    def _start(self, attempt: Attempt[T], is_background: bool = False) -> None:
        """Fetch, on a thread that is left behind when it outlives the deadline.

        A tracer may raise on that thread for what it has on the caller's, such as a segment of AWS X-Ray. So
        after such a failure the next attempt runs on the caller's.
        """
        attempt.is_background = is_background
        attempt.is_here = self._fails_for_the_thread
        observer = self._shared.observer
        observed = unobserved() if observer is None else observer.around(is_background)
        run = functools.partial(self._run, attempt, observed)
        attempt.ask.deadline.is_watched = True
        if attempt.is_here or not self._starts(run):
            attempt.ask.deadline.is_watched = False
            run()

    def _starts(self, run: Callable[[], None]) -> bool:
        """Start ``run`` on a thread. Return whether there was one: not at shutdown, or at a limit."""
        try:
            self._shared.start_thread(run)
        except (RuntimeError, OSError):
            return False
        return True

    def _run(self, attempt: Attempt[T], observed: AbstractContextManager[Note]) -> None:
        outcome: Fetched[T] | Exception = RefreshTimeout("the fetch was aborted")
        reports: list[Report] = []
        try:
            with held_reports() as reports, observed as note:
                outcome = self._fetch(attempt.ask)
                note(outcome)
        except Exception as error:
            outcome = error
        finally:
            reports += self._finish(attempt, outcome)
            send_reports(reports)

    def _give_up(self, attempt: Attempt[T]) -> None:
        deadline = attempt.ask.deadline
        deadline.enforce()
        reports = self._finish(attempt, RefreshTimeout(f"no answer within {deadline.seconds:g} s"))
        # On a thread of their own where there is one: this one is a caller's.
        if reports and not self._starts(lambda: send_reports(reports)):
            send_reports(reports)

    def _finish(self, attempt: Attempt[T], outcome: Fetched[T] | Exception) -> list[Report]:
        """Take what an attempt gave and release who waits for it. Returns what is to be reported then."""
        sync = self._sync()
        with sync.lock:
            is_late = sync.attempt is not attempt
            if not is_late:
                sync.attempt = None
            event = self._take(attempt, outcome, is_late)
            if not is_late:
                attempt.outcome = event.error if isinstance(event, RefreshFailed) else outcome
                if isinstance(attempt.outcome, Fetched) and attempt.outcome.source == "network":
                    sync.newest = attempt.number, attempt.outcome.value
        if not is_late:
            attempt.end()
        if event is None or self._shared.observer is None:
            return []
        return [functools.partial(self._shared.observer.ended, event)]

    def _take(
        self, attempt: Attempt[T], outcome: Fetched[T] | Exception, is_late: bool
    ) -> Refreshed[T] | RefreshFailed | None:
        """Put what an attempt gave into the state. A slow old answer never replaces a newer one."""
        state, now = self.state, self._clock.now()
        seconds = now.monotonic - attempt.started
        if isinstance(outcome, Fetched) and outcome.usable_until > now.wall:
            if not is_newer(outcome, state, now, is_late):
                return None
            self.state = with_value(state, outcome, now)
            if outcome.failure is None:
                # Where another process asked the source, the cooldown bounds what this one asks.
                renewed = NEVER if outcome.source == "store" else state.renewed_monotonic
                self.state = replace(self.state, failure=None, renewed_monotonic=renewed)
                return Refreshed(outcome, state.failure is not None, seconds)
            error = outcome.failure
        elif is_late:
            return None
        elif isinstance(outcome, Fetched):
            error = ValueError("what was fetched has already ended")
        else:
            error = outcome
        self.state = with_failure(
            self.state,
            error,
            now,
            is_lasting=self._is_lasting(error),
            jitter=self._shared.jitter(),
            is_background=attempt.is_background,
            is_here=attempt.is_here,
        )
        return failure_event(self.state, now, seconds)
