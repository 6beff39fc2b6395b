"""Run the fetches of one value, at most one at a time. Threads block on it, and coroutines await it."""

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
from .reports import Note, Report, hold_reports, send_reports, unobserved
from .threads import PerProcess, start_daemon

R = TypeVar("R")


class Attempt(Generic[T]):
    """A fetch in progress.

    Attributes:
        number: how many attempts this process has started, including this one.
        ask: what is fetched, and by when.
        started: when it started, in seconds on the monotonic clock.
        is_background: whether no caller waited for it when it started.
        on_callers_thread: whether it runs on the thread of the caller that started it.
        outcome: the value or the error, once it has finished; ``None`` before.
    """

    __slots__ = ("_ended", "ask", "is_background", "number", "on_callers_thread", "outcome", "started")

    def __init__(self, number: int, ask: Ask[T], started: float) -> None:
        self.number: int = number
        self.ask: Ask[T] = ask
        self.started: float = started
        self.is_background: bool = False
        self.on_callers_thread: bool = False
        self.outcome: Fetched[T] | Exception | None = None
        self._ended: Future[None] = Future()
        # Otherwise the first coroutine that is cancelled would cancel it for all.
        self._ended.set_running_or_notify_cancel()

    def end(self) -> None:
        """Release every waiting caller. Call this once, after :attr:`outcome` is set."""
        self._ended.set_result(None)

    def wait(self, seconds: float) -> bool:
        """Wait at most ``seconds``. Return whether the attempt has finished."""
        try:
            self._ended.result(max(0.0, min(seconds, threading.TIMEOUT_MAX)))
        except FutureTimeout:
            return self._ended.done()
        return True

    async def wait_async(self, seconds: float) -> bool:
        """Wait as :meth:`wait` does, in a coroutine and without a thread."""
        import asyncio  # a coroutine's caller has imported it already; others do not need it

        try:
            await asyncio.wait_for(asyncio.wrap_future(self._ended), max(0.0, seconds))
        except asyncio.TimeoutError:
            return self._ended.done()
        return True


class Wait(NamedTuple):
    """A request of steps to wait until ``attempt`` finishes, at most ``seconds``."""

    attempt: Attempt[Any]
    seconds: float


Steps = Generator[Wait, bool, R]
"""What a caller does, written once for threads and coroutines.

It yields each wait, and receives whether the attempt finished in that time."""


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
    """What all refreshables of an application share.

    Attributes:
        clock: the clock by which values age.
        jitter: returns a random number from 0 to 1, called for each backoff.
        start_thread: calls a function on another thread.
        in_background: whether usable values are renewed in the background. ``False`` where a process is
            frozen between requests: there callers wait for a renewal.
        observer: observes each fetch.
    """

    clock: Clock = SYSTEM
    jitter: Callable[[], float] = random.random
    start_thread: Callable[[Callable[[], None]], None] = start_daemon
    in_background: bool = True
    observer: RefreshObserver | None = None


REFRESHING = Refreshing()
"""The machine's clock and threads, renewal in the background, and no observer."""


class _Sync(Generic[T]):
    """The lock and the attempts of one process."""

    __slots__ = ("attempt", "lock", "newest", "started_count")

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.attempt: Attempt[T] | None = None  # the one in progress; guarded by lock
        self.started_count = 0  # how many were started; guarded by lock
        #: The number of the last attempt that fetched a value from the source itself, and that value.
        self.newest: tuple[int, T] | None = None


class Attempts(Generic[T]):
    """Hold a value in one process, and run its fetches.

    Args:
        fetch, deadline, is_lasting, max_backoff, refreshing: see ``Refreshable``.
    """

    def __init__(
        self,
        fetch: Fetch[T],
        deadline: float,
        is_lasting: Callable[[Exception], bool],
        max_backoff: float,
        refreshing: Refreshing,
    ) -> None:
        self._fetch = fetch
        self._deadline = deadline
        self._is_lasting = is_lasting
        self._max_backoff = max_backoff
        self._shared = refreshing
        self._clock = refreshing.clock
        self._sync: Callable[[], _Sync[T]] = PerProcess[_Sync[T]](_Sync).get
        #: The value, and how the last fetch ended. Replaced whole under the lock, and read without it.
        self.state: State[T] = State()

    @property
    def _needs_callers_thread(self) -> bool:
        """Whether the next fetch must run on a caller's thread: see :attr:`Failure.is_foreign`."""
        failure = self.state.failure
        return failure is not None and failure.is_foreign

    def _join_or_begin(
        self,
        is_needed: Callable[[], bool],
        may_begin: Callable[[], bool] | None = None,
        is_enough: Callable[[T], bool] | None = None,
        is_forced: bool = False,
    ) -> tuple[Attempt[T] | None, bool]:
        """Return the attempt in progress, or a new one that the caller must start, or ``None``.

        The second member says whether the attempt is new. All arguments are called under the lock.
        """
        sync = self._sync()
        attempt = sync.attempt  # another thread may finish it in the meantime
        if attempt is not None and attempt.ask.deadline.passed:
            self._abandon(attempt)
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
            sync.started_count += 1
            deadline = Deadline(self._deadline, self._clock)
            ask = Ask(deadline, self.state.fetched, is_enough or accept_any, is_forced)
            sync.attempt = Attempt(sync.started_count, ask, started)
            return sync.attempt, True

    def _start(self, attempt: Attempt[T], is_background: bool = False) -> None:
        """Fetch on a new thread, which is abandoned if it is still running at the deadline.

        A tracer may raise on that thread because it finds something only on the caller's, such as a segment
        of AWS X-Ray. So the attempt after such a failure runs on the caller's thread.
        """
        attempt.is_background = is_background
        attempt.on_callers_thread = self._needs_callers_thread
        observer = self._shared.observer
        observed = unobserved() if observer is None else observer.around(is_background)
        run = functools.partial(self._run, attempt, observed)
        attempt.ask.deadline.is_watched = True
        if attempt.on_callers_thread or not self._try_to_start(run):
            attempt.ask.deadline.is_watched = False
            run()

    def _try_to_start(self, run: Callable[[], None]) -> bool:
        """Start ``run`` on a thread. Return whether one could be started: not at shutdown, or at a limit."""
        try:
            self._shared.start_thread(run)
        except (RuntimeError, OSError):
            return False
        return True

    def _run(self, attempt: Attempt[T], observed: AbstractContextManager[Note]) -> None:
        outcome: Fetched[T] | Exception = RefreshTimeout("the fetch was aborted")
        reports: list[Report] = []
        try:
            with hold_reports() as reports, observed as note:
                outcome = self._fetch(attempt.ask)
                note(outcome)
        except Exception as error:
            outcome = error
        finally:
            reports += self._finish(attempt, outcome)
            send_reports(reports)

    def _abandon(self, attempt: Attempt[T]) -> None:
        deadline = attempt.ask.deadline
        deadline.enforce()
        reports = self._finish(attempt, RefreshTimeout(f"timed out after {deadline.seconds:g} s"))
        # Preferably on a thread of their own: the current one is a caller's.
        if reports and not self._try_to_start(lambda: send_reports(reports)):
            send_reports(reports)

    def _finish(self, attempt: Attempt[T], outcome: Fetched[T] | Exception) -> list[Report]:
        """Store the outcome of an attempt and release its waiters. Return the reports to send afterwards."""
        sync = self._sync()
        with sync.lock:
            is_late = sync.attempt is not attempt
            if not is_late:
                sync.attempt = None
            event = self._store_outcome(attempt, outcome, is_late)
            if not is_late:
                attempt.outcome = event.error if isinstance(event, RefreshFailed) else outcome
                if isinstance(attempt.outcome, Fetched) and attempt.outcome.source == "network":
                    sync.newest = attempt.number, attempt.outcome.value
        if not is_late:
            attempt.end()
        if event is None or self._shared.observer is None:
            return []
        return [functools.partial(self._shared.observer.ended, event)]

    def _store_outcome(
        self, attempt: Attempt[T], outcome: Fetched[T] | Exception, is_late: bool
    ) -> Refreshed[T] | RefreshFailed | None:
        """Store the outcome of an attempt in the state. A late, older value never replaces a newer one."""
        state, now = self.state, self._clock.now()
        seconds = now.monotonic - attempt.started
        if isinstance(outcome, Fetched) and outcome.usable_until > now.wall:
            if not is_newer(outcome, state, now, is_late):
                return None
            self.state = with_value(state, outcome, now)
            if outcome.failure is None:
                # Another process asked the source. The cooldown limits only the fetches of this process.
                renewed = NEVER if outcome.source == "store" else state.renewed_monotonic
                self.state = replace(self.state, failure=None, renewed_monotonic=renewed)
                return Refreshed(outcome, state.failure is not None, seconds)
            error = outcome.failure
        elif is_late:
            return None
        elif isinstance(outcome, Fetched):
            error = ValueError("the fetched value has already expired")
        else:
            error = outcome
        self.state = with_failure(
            self.state,
            error,
            now,
            is_lasting=self._is_lasting(error),
            jitter=self._shared.jitter(),
            is_background=attempt.is_background,
            on_callers_thread=attempt.on_callers_thread,
            max_backoff=self._max_backoff,
        )
        return failure_event(self.state, now, seconds)
