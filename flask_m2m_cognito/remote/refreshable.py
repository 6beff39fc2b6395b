"""One state machine that keeps a remote value fresh: a key set in one use, an access token in the other.

While the value is fresh a caller gets it for one attribute read and a read of each clock. While it
is usable a caller gets it as well, and one background thread fetches a newer. When it is gone
callers wait for the one fetch under way. What to do is decided by :func:`phase_of` and
:func:`next_step`; only thin methods lock.
"""

from __future__ import annotations

import functools
import logging
import random
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import Generic

from .attempt import Attempt, Steps, Wait, run_steps, run_steps_async
from .clock import SYSTEM, Clock, Moment, WatchedDeadline, wall_reader
from .freshness import (
    NEVER,
    Ask,
    Failure,
    Fetch,
    Fetched,
    Phase,
    Refreshed,
    RefreshFailed,
    RefreshObserver,
    RefreshTimeout,
    Snapshot,
    State,
    Step,
    T,
    accept_any,
    fetched_monotonic,
    next_step,
    phase_of,
    refusal_cooldown,
    rest_after,
    snapshot_of,
    with_failure,
    with_value,
)
from .reports import Note, Report, held_reports, send_reports, unobserved
from .threads import PerProcess, is_foreign, start_daemon

__all__ = [
    "REFRESHING",
    "Ask",
    "Fetch",
    "Fetched",
    "Phase",
    "RefreshFailed",
    "RefreshTimeout",
    "Refreshable",
    "Refreshed",
    "Refreshing",
    "State",
    "Step",
    "next_step",
    "phase_of",
    "rest_after",
]

_logger = logging.getLogger("flask_m2m_cognito")

_LASTING_REST = 60.0
_LONGEST_WISH = 3600.0
_LONGEST_WISH_IF_GONE = 60.0
_SHORT_RETRY = 1.0
"""Seconds after which a caller may ask again that did not wait for a fetch under way."""


class _Sync(Generic[T]):
    """A process's lock, and its attempts."""

    __slots__ = ("attempt", "begun", "lock", "newest")

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.attempt: Attempt[T] | None = None  # the one under way; guarded by lock
        self.begun = 0  # how many have begun; guarded by lock
        #: The number of the last attempt to which the source gave a value, and that value.
        self.newest: tuple[int, T] | None = None


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


class Refreshable(Generic[T]):
    """A value that is fetched at first use and kept fresh, for any number of threads.

    Args:
        fetch: gives a value or raises. Called by one thread at a time, unless one was given up.
        unavailable: the error for callers, from the cause and the seconds until the next try.
        deadline: seconds that one fetch may take, for who leads and for who waits.
        cooldown: seconds in which :meth:`renew` and :meth:`forget` cause at most one fetch. Doubles to an
            hour while each newer value is refused too.
        min_age: seconds for which a value is not replaced because it was refused.
        is_lasting: whether an error won't mend by itself, so that it rests 60 s.
        last_resort: serves at once, and whenever nothing else can be had.
        prepare: is called before callers wait for a fetch, outside its deadline: imports what it needs.
        refreshing: clock, threads and observers.
    """

    def __init__(
        self,
        fetch: Fetch[T],
        *,
        unavailable: Callable[[Exception, float], Exception],
        deadline: float = 10.0,
        cooldown: float = 10.0,
        min_age: float = 0.0,
        is_lasting: Callable[[Exception], bool] = lambda error: False,
        last_resort: Fetched[T] | None = None,
        prepare: Callable[[], None] = lambda: None,
        refreshing: Refreshing = REFRESHING,
    ) -> None:
        self._fetch = fetch
        self._unavailable = unavailable
        self._deadline = deadline
        self._cooldown = cooldown
        self._min_age = min_age
        self._is_lasting = is_lasting
        self._last_resort = last_resort
        self.prepare = prepare
        self._shared = refreshing
        self._clock = clock = refreshing.clock
        # For the fast path: an attribute less to look up.
        self._time, self._monotonic = wall_reader(clock.wall), clock.monotonic
        self._sync: Callable[[], _Sync[T]] = PerProcess[_Sync[T]](_Sync).get
        #: What is held, and how the last fetch ended. Replaced whole, under the lock; read without.
        self.state: State[T] = State()
        if last_resort is not None:
            self.state = with_value(self.state, last_resort, self._clock.now())

    def get(self) -> T:
        """The value, waiting only if none is usable.

        Raises:
            what ``unavailable`` makes: none is usable, and none can be had now.
        """
        state = self.state
        if self._time.time() < state.ready_wall and self._monotonic() < state.ready_monotonic:
            return state.value  # type: ignore[return-value]
        return run_steps(self._getting())

    async def get_async(self) -> T:
        """Return what :meth:`get` does, for a coroutine: it waits without a thread.

        What the first fetch needs is imported on the loop's thread: warm up before where that matters.
        """
        state = self.state
        if self._time.time() < state.ready_wall and self._monotonic() < state.ready_monotonic:
            return state.value  # type: ignore[return-value]
        return await self._run_async(self._getting)

    def held(self) -> T | None:
        """The value that is held, unless it is gone, without a fetch."""
        state = self.state
        return None if phase_of(state, self._clock.now()) is Phase.GONE else state.value

    def renew(self, refused: T) -> T:
        """A value other than ``refused``, if one can be had; else what there is: see :meth:`renew_for`."""
        self._note_refusal(refused)
        return self.renew_for(lambda value: value is not refused and value != refused)

    def renew_for(
        self,
        is_enough: Callable[[T], bool],
        *,
        since: float = float("inf"),
        patience: float = float("inf"),
    ) -> T:
        """A value that ``is_enough``, if one can be had; else what there is.

        At once when what is held is enough, or came from the source after ``since`` (on the monotonic
        clock), or while the source rests or the cooldown lasts; else after one fetch, led or joined.

        Args:
            is_enough: called under a lock, so it must return at once.
            since: what was fetched after this moment is the source's verdict.
            patience: the age in seconds, of the fetch under way, up to which a caller waits for it.

        Raises:
            what ``unavailable`` makes: none is usable, and none can be had now; or the fetch under way
                outlasts ``patience``.
        """
        return run_steps(self._renewing(is_enough, since, patience))

    def _renewing(self, is_enough: Callable[[T], bool], since: float, patience: float) -> Steps[T]:
        # Twice, because a fetch that began before this call may end without what is asked for.
        for _ in range(2):
            if self._is_enough(is_enough, since):
                break
            attempt, leads = self._join_or_begin(
                lambda: not self._is_enough(is_enough, since), self._may_replace, is_enough
            )
            if attempt is None:
                break
            if leads:
                self._start(attempt)
            if not (yield from self._waiting(attempt, attempt.started + patience)):
                raise self._unavailable(RefreshTimeout("a fetch is still under way"), _SHORT_RETRY)
        return (yield from self._getting())

    def refresh(self) -> T:
        """Return a value whose fetch began after this call. Until it arrives others get what is held.

        Callers that come while a fetch is under way share the next one.

        Raises:
            what ``unavailable`` makes: the fetch failed, or its source is backing off.
        """
        return run_steps(self._refreshing())

    async def refresh_async(self) -> T:
        """Return what :meth:`refresh` does, for a coroutine: it waits without a thread."""
        return await self._run_async(self._refreshing)

    def _refreshing(self) -> Steps[T]:
        self.prepare()
        sync = self._sync()
        # By number, and not by time: a clock may stand still.
        begun = sync.begun
        while True:
            # Also one that began and ended while this caller was still to be woken after another.
            if sync.newest is not None and sync.newest[0] > begun:
                return sync.newest[1]
            attempt, leads = self._join_or_force()
            if leads:
                self._start(attempt)
            yield from self._waiting(attempt)
            has_failed = attempt.number > begun and isinstance(attempt.outcome, Exception)
            if has_failed and attempt.is_forced and (attempt.is_here or not self._fails_for_the_thread):
                raise self._backing_off() or self._unavailable_because(None, self._clock.now())

    async def _run_async(self, steps: Callable[[], Steps[T]]) -> T:
        if self._fails_for_the_thread:
            import asyncio

            # The fetch may run on the caller's thread, which must not be the loop's.
            return await asyncio.to_thread(lambda: run_steps(steps()))
        return await run_steps_async(steps())

    def _join_or_force(self) -> tuple[Attempt[T], bool]:
        sync = self._sync()
        with sync.lock:
            if sync.attempt is not None:
                return sync.attempt, False
            error = self._backing_off()
            if error is not None:
                raise error
            deadline = WatchedDeadline(self._deadline, self._clock)
            sync.begun += 1
            sync.attempt = Attempt(sync.begun, deadline, self._monotonic(), is_forced=True)
            return sync.attempt, True

    def _backing_off(self) -> Exception | None:
        """Return the error for a caller that what is held does not serve, while the source is backing off."""
        state, now = self.state, self._clock.now()
        if state.failure is None:
            return None
        until = state.failure.rest_until
        if phase_of(state, now) is Phase.GONE:
            until = state.failure.rest_until_if_gone
        if now.monotonic >= until:
            return None
        error = self._unavailable(state.failure.error, until - now.monotonic)
        error.__cause__ = state.failure.error
        return error

    def forget(self, refused: T) -> None:
        """Have the next caller wait for a newer value than ``refused``, within the cooldown's bounds."""
        with self._sync().lock:
            if self._note_refusal(refused) and self._may_replace():
                self.state = replace(self.state, refused=True, fresh_wall=NEVER, ready_wall=NEVER)

    def _note_refusal(self, refused: T) -> bool:
        """Remember that ``refused`` was refused; return whether it is what is held."""
        with self._sync().lock:
            is_held = self.state.fetched is not None and self.state.value == refused
            if is_held:
                self.state = replace(self.state, was_refused=True)
            return is_held

    def renewable_in(self) -> float:
        """Seconds until :meth:`renew` may cause a fetch again."""
        state, now = self.state, self._clock.now()
        rest = 0.0 if state.failure is None else state.failure.rest_until
        return max(0.0, max(rest, state.renewed_monotonic + self._cooldown) - now.monotonic)

    def snapshot(self) -> Snapshot:
        """How it does, as plain data from memory: see :func:`snapshot_of`."""
        return snapshot_of(self.state, self._clock.now())

    def _getting(self) -> Steps[T]:
        # Twice, because what was usable at the first look, or was waited for, may have ended since.
        for _ in range(2):
            step = self._step()
            yield from self._following(step)
            state, now = self.state, self._clock.now()
            if phase_of(state, now) is not Phase.GONE:
                return state.value  # type: ignore[return-value]
            has_failed = step is Step.WAIT and state.failure is not None
            if step is Step.FAIL or (has_failed and not self._fails_for_the_thread):
                break
        raise self._unavailable_because(state.failure, now)

    @property
    def _fails_for_the_thread(self) -> bool:
        """Whether the next fetch is to run on a caller's thread: see :attr:`Failure.is_foreign`."""
        failure = self.state.failure
        return failure is not None and failure.is_foreign

    def _following(self, step: Step) -> Steps[None]:
        if step not in (Step.WAIT, Step.SERVE_AND_RENEW):
            return
        if step is Step.WAIT:
            # At the cold start of a fleet its imports take longer than its fetch.
            self.prepare()
        attempt, leads = self._join_or_begin(self._needs_fetch)
        if attempt is None:
            return
        renews_behind = self._shared.in_background and not self._fails_for_the_thread
        is_background = step is Step.SERVE_AND_RENEW and (renews_behind or not leads)
        if leads:
            self._start(attempt, is_background)
        if not is_background:
            yield from self._waiting(attempt)

    def _unavailable_because(self, failure: Failure | None, now: Moment) -> Exception:
        cause: Exception = RefreshTimeout("nothing was fetched in time")
        rest = 0.0
        if failure is not None:
            cause = failure.error
            rest = max(0.0, failure.rest_until_if_gone - now.monotonic)
        error = self._unavailable(cause, rest)
        error.__cause__ = cause
        return error

    def _needs_fetch(self) -> bool:
        return self._step() in (Step.WAIT, Step.SERVE_AND_RENEW)

    def _step(self) -> Step:
        state, now = self.state, self._clock.now()
        phase = phase_of(state, now)
        if phase is Phase.GONE and self._last_resort is not None:
            state = self._fall_back(self._last_resort, now)
            phase = phase_of(state, now)
        return next_step(phase, self._is_resting(state, phase, now))

    def _is_resting(self, state: State[T], phase: Phase, now: Moment) -> bool:
        if phase is Phase.REFUSED and now.monotonic < state.renewed_monotonic + self._cooldown:
            return True
        if state.failure is None:
            return False
        failure = state.failure
        return now.monotonic < (failure.rest_until_if_gone if phase is Phase.GONE else failure.rest_until)

    def _fall_back(self, last_resort: Fetched[T], now: Moment) -> State[T]:
        with self._sync().lock:
            if phase_of(self.state, now) is Phase.GONE:
                self.state = with_value(self.state, last_resort, now)
            return self.state

    def _is_enough(self, is_enough: Callable[[T], bool], since: float) -> bool:
        state = self.state
        if state.fetched is None:
            return True  # for get, which tells
        if is_enough(state.value):  # type: ignore[arg-type]
            return True
        # What another process fetched may be older than its entry says, by the difference of two clocks.
        return state.fetched.source == "network" and state.fetched_monotonic >= since

    def _may_replace(self) -> bool:
        state, now = self.state, self._clock.now()
        min_age = max(self._min_age, refusal_cooldown(state.refused_before, self._cooldown))
        return (
            now.monotonic >= state.renewed_monotonic + self._cooldown
            and now.monotonic >= state.fetched_monotonic + min_age
            and not self._is_resting(state, phase_of(state, now), now)
        )

    def _join_or_begin(
        self,
        is_wanted: Callable[[], bool],
        may_lead: Callable[[], bool] | None = None,
        is_enough: Callable[[T], bool] | None = None,
    ) -> tuple[Attempt[T] | None, bool]:
        """The attempt under way, or a new one that the caller must start; ``None`` if there is to be none."""
        sync = self._sync()
        attempt = sync.attempt  # which another thread may finish meanwhile
        if attempt is not None and attempt.deadline.passed:
            self._give_up(attempt)
        with sync.lock:
            if not is_wanted():
                return None, False
            if sync.attempt is not None:
                return sync.attempt, False
            if may_lead is not None and not may_lead():
                return None, False
            now, held = self._clock.now(), self.state.value
            if is_enough is None and self.state.refused:
                is_enough = lambda value: value != held  # noqa: E731
            if is_enough is not None:
                self.state = replace(self.state, renewed_monotonic=now.monotonic)
            sync.begun += 1
            deadline = WatchedDeadline(self._deadline, self._clock)
            sync.attempt = Attempt(sync.begun, deadline, now.monotonic, is_enough or accept_any)
            return sync.attempt, True

    def _start(self, attempt: Attempt[T], is_background: bool = False) -> None:
        """Fetch, on a thread that is left behind when it outlives the deadline.

        A tracer may raise on that thread for what it has on the caller's, such as a segment of AWS X-Ray. So
        after such a failure the next attempt runs on the caller's.
        """
        attempt.is_background = is_background
        ask = Ask(attempt.deadline, self.state.fetched, attempt.is_enough, attempt.is_forced)
        observer = self._shared.observer
        observed = unobserved() if observer is None else observer.around(is_background)
        attempt.is_here = self._fails_for_the_thread

        def run() -> None:
            self._run(attempt, ask, observed)

        if attempt.is_here or not self._starts(run):
            attempt.deadline.is_watched = False
            run()

    def _starts(self, run: Callable[[], None]) -> bool:
        """Start ``run`` on a thread. Return whether there was one: not at shutdown, or at a limit."""
        try:
            self._shared.start_thread(run)
        except (RuntimeError, OSError):
            return False
        return True

    def _waiting(self, attempt: Attempt[T], until: float = float("inf")) -> Steps[bool]:
        """Return whether the attempt ended, or was given up at its deadline, before the moment ``until``."""
        left = attempt.deadline.left()
        if until < float("inf"):
            patience = max(0.0, until - self._monotonic())
            if patience < left:
                return (yield Wait(attempt, patience))
        if not (yield Wait(attempt, left)):
            self._give_up(attempt)
        return True

    def _run(self, attempt: Attempt[T], ask: Ask[T], observed: AbstractContextManager[Note]) -> None:
        outcome: Fetched[T] | Exception = RefreshTimeout("the fetch was aborted")
        reports: list[Report] = []
        try:
            with held_reports() as reports, observed as note:
                outcome = self._fetch(ask)
                note(outcome)
        except Exception as error:
            outcome = error
        finally:
            reports += self._finish(attempt, outcome)
            send_reports(reports)

    def _give_up(self, attempt: Attempt[T]) -> None:
        attempt.deadline.enforce()
        reports = self._finish(attempt, RefreshTimeout(f"no answer within {attempt.deadline.seconds:g} s"))
        # On a thread of their own where there is one: this one is a caller's.
        if reports and not self._starts(lambda: send_reports(reports)):
            send_reports(reports)

    def _finish(self, attempt: Attempt[T], outcome: Fetched[T] | Exception) -> list[Report]:
        """Take what an attempt gave and release who waits for it. Returns what is to be reported then."""
        sync = self._sync()
        event: Refreshed[T] | RefreshFailed | None = None
        with sync.lock:
            is_late = sync.attempt is not attempt
            if not is_late:
                sync.attempt = None
            if isinstance(outcome, Fetched):
                event = self._take(attempt, outcome, is_late)
            elif not is_late:
                event = self._note_failure(attempt, outcome)
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
        self, attempt: Attempt[T], fetched: Fetched[T], is_late: bool
    ) -> Refreshed[T] | RefreshFailed | None:
        now, before = self._clock.now(), self.state
        if fetched.usable_until <= now.wall:
            error = ValueError("what was fetched has already ended")
            return None if is_late else self._note_failure(attempt, error)
        if not self._is_newer(fetched, now, is_late):
            # A slow old answer never replaces a newer one.
            return None
        self.state = with_value(before, fetched, now)
        if fetched.failure is not None:
            return self._note_failure(attempt, fetched.failure)
        self.state = replace(self.state, failure=None)
        if fetched.source == "store":
            # Another process asked the source. The cooldown bounds what this one asks.
            self.state = replace(self.state, renewed_monotonic=NEVER)
        return Refreshed(fetched, before.failure is not None, now.monotonic - attempt.started)

    def _is_newer(self, fetched: Fetched[T], now: Moment, is_late: bool) -> bool:
        held = self.state.fetched
        if held is None or phase_of(self.state, now) is Phase.GONE:
            return True
        # The wall clock may have been set back since, so that the monotonic one tells; or forward, so
        # that another host's value looks too old: refused here, it would be asked for at each get.
        if fetched_monotonic(fetched, now) >= self.state.fetched_monotonic:
            return not (is_late and fetched.failure)
        return not is_late and fetched.fetched_at > held.fetched_at

    def _note_failure(self, attempt: Attempt[T], error: Exception) -> RefreshFailed:
        now, before = self._clock.now(), self.state
        count = before.failure.count + 1 if before.failure else 1
        rest = _LASTING_REST if self._is_lasting(error) else rest_after(count, self._shared.jitter())
        wish = getattr(error, "retry_after", None) or 0.0
        only_background = (
            attempt.is_background
            and isinstance(error, RefreshTimeout)
            and (before.failure is None or before.failure.only_background)
        )
        if_gone = max(rest, min(wish, _LONGEST_WISH_IF_GONE))
        failure = Failure(
            error=error.with_traceback(None),
            count=count,
            rest_until=now.monotonic + max(rest, min(wish, _LONGEST_WISH)),
            # Nobody waited for it: the first caller without a value starts an attempt at once.
            rest_until_if_gone=now.monotonic + (0.0 if only_background else if_gone),
            failed_at=now.wall,
            only_background=only_background,
            is_foreign=is_foreign(error),
        )
        if failure.is_foreign and not attempt.is_here:
            # The caller's thread may do better, at once.
            failure = replace(failure, rest_until=now.monotonic, rest_until_if_gone=now.monotonic)
            before = replace(before, renewed_monotonic=NEVER)
        self.state = with_failure(before, failure, now)
        has_value = phase_of(self.state, now) is not Phase.GONE
        until = failure.rest_until if has_value else failure.rest_until_if_gone
        return RefreshFailed(
            error=error,
            count=count,
            retry_in=until - now.monotonic,
            has_value=has_value,
            seconds=now.monotonic - attempt.started,
            source=before.fetched.source if has_value and before.fetched else None,
        )
