"""Keep a remote value fresh with one state machine. The value is a key set or an access token.

While the value is fresh, a caller gets it for one attribute read and a read of each clock. While it is
usable, a caller also gets it at once, and one background thread fetches a newer one. When it is gone, callers
wait for the one fetch in progress. :func:`step_at` and other pure functions of ``freshness`` decide what to
do. Only short methods take the lock.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from .attempt import (
    REFRESHING,
    Attempt,
    Attempts,
    Refreshing,
    Steps,
    Wait,
    run_steps,
    run_steps_async,
)
from .clock import Moment
from .freshness import (
    MAX_BACKOFF,
    NEVER,
    Ask,
    Fetch,
    Fetched,
    Phase,
    Refreshed,
    RefreshFailed,
    RefreshTimeout,
    Snapshot,
    State,
    Step,
    T,
    backoff_left,
    is_late,
    may_replace,
    phase_of,
    snapshot_of,
    step_at,
    with_value,
)

__all__ = [
    "REFRESHING",
    "Ask",
    "Fetch",
    "Fetched",
    "RefreshFailed",
    "RefreshTimeout",
    "Refreshable",
    "Refreshed",
    "Refreshing",
]

_FETCHING = (Step.WAIT, Step.SERVE_AND_RENEW)
_SHORT_RETRY = 1.0
"""Seconds after which a caller that did not wait for a fetch in progress may retry."""


class Refreshable(Attempts[T]):
    """A value that is fetched at first use and kept fresh, for any number of threads.

    Args:
        fetch: returns a value or raises. Called by one thread at a time, unless a fetch was abandoned.
        unavailable: returns the error for callers, from the cause and the seconds until the next try.
        deadline: seconds that one fetch may take, for the caller that starts it and for those that join.
        cooldown: seconds in which :meth:`renew` and :meth:`forget` cause at most one fetch. Doubles to an
            hour while each newer value is refused too.
        min_age: the age in seconds below which a value is not replaced, although it was refused.
        is_lasting: returns whether an error remains until an operator fixes it. Then the backoff is 60 s.
        max_backoff: the longest backoff in seconds.
        last_resort: a value that is available at once, and whenever no other one is.
        late_after: the seconds after a value was fresh from which callers wait for the newer one. Otherwise
            the first callers of an idle process would get a value of any age.
        prepare: imports what a fetch needs. Called before callers wait, outside the deadline.
        refreshing: the clock, threads and observers.
    """

    state: State[T]  # repeated for type checkers: a generic base class makes it ambiguous

    def __init__(
        self,
        fetch: Fetch[T],
        *,
        unavailable: Callable[[Exception, float], Exception],
        deadline: float = 10.0,
        cooldown: float = 10.0,
        min_age: float = 0.0,
        is_lasting: Callable[[Exception], bool] = lambda error: False,
        max_backoff: float = MAX_BACKOFF,
        last_resort: Fetched[T] | None = None,
        late_after: float = float("inf"),
        prepare: Callable[[], None] = lambda: None,
        refreshing: Refreshing = REFRESHING,
    ) -> None:
        super().__init__(fetch, deadline, is_lasting, max_backoff, refreshing)
        self._unavailable = unavailable
        self._cooldown = cooldown
        self._min_age = min_age
        self._last_resort = last_resort
        self._late_after = late_after
        self.prepare = prepare
        # For the fast path, which saves an attribute lookup.
        self._time, self._monotonic = refreshing.clock.wall_reader, refreshing.clock.monotonic
        if last_resort is not None:
            self.state = with_value(self.state, last_resort, self._clock.now())

    def get(self) -> T:
        """Return the value. Wait only if none is usable.

        Raises:
            the error of ``unavailable``: no value is usable, and none could be fetched.
        """
        state = self.state
        if self._time.time() < state.ready_wall and self._monotonic() < state.ready_monotonic:
            return state.value  # type: ignore[return-value]
        return run_steps(self._get_steps())

    async def get_async(self) -> T:
        """Return the same as :meth:`get`, but wait as a coroutine, without a thread.

        The imports of the first fetch run on the event loop's thread. Warm up first if that matters.
        """
        state = self.state
        if self._time.time() < state.ready_wall and self._monotonic() < state.ready_monotonic:
            return state.value  # type: ignore[return-value]
        return await self._run_async(self._get_steps)

    def held(self) -> T | None:
        """Return the value from memory, without a fetch; ``None`` if it is gone."""
        state = self.state
        return None if phase_of(state, self._clock.now()) is Phase.GONE else state.value

    def renew(self, refused: T) -> T:
        """Return a value other than ``refused`` if one is available, otherwise the current one.

        See :meth:`renew_for`.
        """
        self._mark_refused(refused)
        return self.renew_for(lambda value: value is not refused and value != refused)

    def renew_for(
        self,
        is_enough: Callable[[T], bool],
        *,
        since: float = float("inf"),
        patience: float = float("inf"),
    ) -> T:
        """Return a value for which ``is_enough`` is true if one is available, otherwise the current one.

        Return without a fetch if the current value is enough, if the source returned it after ``since``, and
        during a backoff or cooldown. Otherwise start or join one fetch first.

        Args:
            is_enough: called under a lock, so it must return at once.
            since: a moment on the monotonic clock. A value that the source returned later is final.
            patience: the age in seconds up to which a caller waits for a fetch in progress.

        Raises:
            the error of ``unavailable``: no value is usable and none could be fetched, or the fetch in
                progress is older than ``patience``.
        """
        return run_steps(self._renew_steps(is_enough, since, patience))

    def refresh(self) -> T:
        """Return a value whose fetch began after this call. Other callers get the old value until it arrives.

        Callers that arrive during a fetch share the next one.

        Raises:
            the error of ``unavailable``: the fetch failed, or a backoff is in progress.
        """
        return run_steps(self._refresh_steps())

    async def refresh_async(self) -> T:
        """Return the same as :meth:`refresh`, but wait as a coroutine, without a thread."""
        return await self._run_async(self._refresh_steps)

    def forget(self, refused: T) -> None:
        """Make the next caller wait for a newer value than ``refused``, unless the cooldown prevents it."""
        with self._sync().lock:
            if self._mark_refused(refused) and self._may_replace():
                self.state = replace(self.state, must_replace=True, fresh_wall=NEVER, ready_wall=NEVER)

    def end_backoff(self) -> None:
        """End a backoff and a cooldown, so that the next :meth:`renew_for` starts a fetch at once."""
        with self._sync().lock:
            self.state = replace(self.state, failure=None, renewed_monotonic=NEVER)

    def renewable_in(self) -> float:
        """Return the seconds until :meth:`renew` may cause a fetch again."""
        state, now = self.state, self._clock.now()
        cooldown_left = state.renewed_monotonic + self._cooldown - now.monotonic
        return max(0.0, cooldown_left, backoff_left(state, now))

    def snapshot(self) -> Snapshot:
        """Return the state as plain data from memory: see :func:`snapshot_of`."""
        return snapshot_of(self.state, self._clock.now())

    # -- what callers do, as steps: see attempt.Steps --

    def _get_steps(self) -> Steps[T]:
        # Twice, because the value may have expired since the first look, or during the wait.
        for _ in range(2):
            now = self._clock.now()
            seen = self.state if self._last_resort is None else self._fall_back(self._last_resort, now)
            step = step_at(seen, now, self._cooldown)
            if step is Step.SERVE_AND_RENEW and is_late(seen, now, self._late_after):
                step = Step.WAIT
            attempt = self._fetch_for(step, seen) if step in _FETCHING else None
            if attempt is not None and not (yield Wait(attempt, attempt.ask.deadline.left())):
                self._abandon(attempt)
            state, now = self.state, self._clock.now()
            if phase_of(state, now) is not Phase.GONE:
                return state.value  # type: ignore[return-value]
            has_failed = step is Step.WAIT and state.failure is not None
            if step is Step.FAIL or (has_failed and not self._needs_callers_thread):
                break
        raise self._error(state, now)

    def _fetch_for(self, step: Step, seen: State[T]) -> Attempt[T] | None:
        """Start or join a fetch. Return it if the caller must wait for it."""
        is_background = False
        if step is Step.WAIT:
            # At the cold start of a fleet the imports take longer than the fetch.
            self.prepare()
        else:
            is_background = self._shared.in_background and not self._needs_callers_thread

        def is_needed() -> bool:
            state = self.state
            return state is seen or step_at(state, self._clock.now(), self._cooldown) in _FETCHING

        attempt, leads = self._join_or_begin(is_needed)
        if attempt is not None and leads:
            self._start(attempt, is_background)
        return attempt if step is Step.WAIT or (leads and not is_background) else None

    def _renew_steps(self, is_enough: Callable[[T], bool], since: float, patience: float) -> Steps[T]:
        def is_needed() -> bool:
            state = self.state
            if state.fetched is None or is_enough(state.value):  # type: ignore[arg-type]
                return False  # if there is no value yet, _get_steps fetches the first one
            # The value of another process may be older than its entry says if the two clocks differ.
            return state.fetched.source != "network" or state.fetched_monotonic < since

        # Twice, because a fetch that began before this call may return a value that is not enough.
        for _ in range(2):
            attempt, leads = self._join_or_begin(is_needed, self._may_replace, is_enough)
            if attempt is None:
                break
            if leads:
                self._start(attempt)
            left = attempt.ask.deadline.left()
            most = max(0.0, attempt.started + patience - self._monotonic())
            if not (yield Wait(attempt, min(most, left))):
                if most < left:
                    raise self._unavailable(RefreshTimeout("a fetch is still in progress"), _SHORT_RETRY)
                self._abandon(attempt)
        return (yield from self._get_steps())

    def _refresh_steps(self) -> Steps[T]:
        self.prepare()
        sync = self._sync()
        # Compare numbers and not times, because a clock may stand still.
        started_count = sync.started_count
        while True:
            # This includes an attempt that began and finished before this caller woke up from another one.
            if sync.newest is not None and sync.newest[0] > started_count:
                return sync.newest[1]
            attempt, leads = self._join_or_begin(lambda: True, self._is_ready, is_forced=True)
            if attempt is None:
                break
            if leads:
                self._start(attempt)
            if not (yield Wait(attempt, attempt.ask.deadline.left())):
                self._abandon(attempt)
            has_failed = attempt.number > started_count and isinstance(attempt.outcome, Exception)
            if (
                has_failed
                and attempt.ask.is_forced
                and (attempt.on_callers_thread or not self._needs_callers_thread)
            ):
                break
        raise self._error(self.state, self._clock.now())

    async def _run_async(self, steps: Callable[[], Steps[T]]) -> T:
        if self._needs_callers_thread:
            import asyncio

            # The fetch may run on the caller's thread, which must not be the event loop's.
            return await asyncio.to_thread(lambda: run_steps(steps()))
        return await run_steps_async(steps())

    # -- what they look at --

    def _is_ready(self) -> bool:
        return backoff_left(self.state, self._clock.now()) == 0

    def _may_replace(self) -> bool:
        return may_replace(self.state, self._clock.now(), self._cooldown, self._min_age)

    def _mark_refused(self, refused: T) -> bool:
        """Remember that ``refused`` was refused. Return whether it is the current value."""
        with self._sync().lock:
            is_held = self.state.fetched is not None and self.state.value == refused
            if is_held:
                self.state = replace(self.state, was_refused=True)
            return is_held

    def _fall_back(self, last_resort: Fetched[T], now: Moment) -> State[T]:
        """Use the last resort if no other value is usable. Return the state."""
        if phase_of(self.state, now) is Phase.GONE:
            with self._sync().lock:
                if phase_of(self.state, now) is Phase.GONE:
                    self.state = with_value(self.state, last_resort, now)
        return self.state

    def _error(self, state: State[T], now: Moment) -> Exception:
        """Return the error for a caller that gets no value."""
        failure = state.failure
        cause = RefreshTimeout("the fetch timed out") if failure is None else failure.error
        error = self._unavailable(cause, backoff_left(state, now))
        error.__cause__ = cause
        return error
