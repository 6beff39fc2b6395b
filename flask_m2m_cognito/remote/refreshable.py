"""One state machine that keeps a remote value fresh: a key set in one use, an access token in the other.

While the value is fresh a caller gets it for one attribute read and a read of each clock. While it
is usable a caller gets it as well, and one background thread fetches a newer. When it is gone
callers wait for the one fetch under way. What to do is decided by :func:`phase_of` and
:func:`next_step`; only thin methods lock.
"""

from __future__ import annotations

import os
import random
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Generic

from .freshness import (
    NEVER,
    Around,
    Ask,
    Failure,
    Fetch,
    Fetched,
    Moment,
    Observer,
    Phase,
    Refreshed,
    RefreshFailed,
    RefreshTimeout,
    State,
    Step,
    T,
    fetched_monotonic,
    just_that,
    next_step,
    phase_of,
    rest_after,
    vitals_of,
    with_failure,
    with_value,
)
from .transport import Deadline
from .turnstile import Turnstile

__all__ = [
    "Ask",
    "Fetch",
    "Fetched",
    "Phase",
    "RefreshFailed",
    "RefreshTimeout",
    "Refreshable",
    "Refreshed",
    "State",
    "Step",
    "next_step",
    "phase_of",
    "rest_after",
    "start_daemon",
]

_LASTING_REST = 60.0
_LONGEST_WISH = 3600.0
_LONGEST_WISH_IF_GONE = 60.0


def start_daemon(run: Callable[[], None]) -> None:
    """Run ``run`` on a thread that does not keep the process alive.

    Raises:
        RuntimeError: no thread can be started, at shutdown or at a limit.
    """
    threading.Thread(target=run, name="cognito-m2m-refresh", daemon=True).start()


class _Flight:
    """One fetch under way in this process."""

    __slots__ = ("deadline", "done", "refused", "started")

    def __init__(self, deadline: Deadline, started: float, refused: bool) -> None:
        self.deadline = deadline
        self.started = started
        self.refused = refused
        self.done = Turnstile()


class _Sync:
    """A process's lock and its flight; a forked child makes its own."""

    __slots__ = ("flight", "lock")

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.flight: _Flight | None = None  # guarded by lock


class Refreshable(Generic[T]):
    """A value that is fetched at first use and kept fresh, for any number of threads.

    Args:
        fetch: gives a value or raises. Called by one thread at a time, unless one was given up.
        unavailable: the error for callers, from the cause and the seconds until the next try.
        deadline: seconds that one fetch may take, for who leads and for who waits.
        cooldown: seconds in which :meth:`renew` and :meth:`forget` cause at most one fetch.
        min_age: seconds for which a value is not replaced because it was refused.
        is_lasting: whether an error won't mend by itself, so that it rests 60 s.
        last_resort: serves at once, and whenever nothing else can be had.
        prepare: is called before callers wait for a fetch, outside its deadline: imports what it needs.
        in_background: ``False`` where a process is frozen between requests: callers fetch.
        observer: is told how each fetch ended, outside locks.
        around: gives what is called in the fetch's stead, each time: see :class:`Around`.
        wall, monotonic, jitter, start_thread: clocks in seconds, chance in 0..1, threads.
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
        in_background: bool = True,
        observer: Observer = lambda event: None,
        around: Around = just_that,
        wall: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
        jitter: Callable[[], float] = random.random,
        start_thread: Callable[[Callable[[], None]], None] = start_daemon,
    ) -> None:
        self._fetch = fetch
        self._unavailable = unavailable
        self._deadline = deadline
        self._cooldown = cooldown
        self._min_age = min_age
        self._is_lasting = is_lasting
        self._last_resort = last_resort
        self._prepare = prepare
        self._in_background = in_background
        self._observer = observer
        self._around = around
        self._wall = wall
        self._monotonic = monotonic
        self._jitter = jitter
        self._start_thread = start_thread
        self._syncs: dict[int, _Sync] = {}
        #: What is held, and how the last fetch ended. Replaced whole, under the lock; read without.
        self.state: State[T] = State()
        if last_resort is not None:
            self.state = with_value(self.state, last_resort, self._now())

    def get(self) -> T:
        """The value, waiting only if none is usable.

        Raises:
            what ``unavailable`` makes: none is usable, and none can be had now.
        """
        state = self.state
        if self._wall() < state.ready_wall and self._monotonic() < state.ready_monotonic:
            return state.value  # type: ignore[return-value]
        return self._get_slowly()

    def get_at_once(self) -> T | None:
        """The value as :meth:`get` gives it, or ``None`` where that would wait for a fetch.

        Raises:
            what ``unavailable`` makes: none is usable, and the source rests.
        """
        step = self._step()
        if step is Step.WAIT or (step is Step.SERVE_AND_RENEW and not self._in_background):
            return None
        # Read before a fetch is begun, and not asked again: what is usable may end meanwhile.
        state = self.state
        if step is Step.FAIL:
            raise self._unavailable_because(state.failure, self._now())
        self._follow(step)
        return state.value

    def renew(self, refused: T, *, since: float = float("inf")) -> T:
        """A value other than ``refused``, if one can be had; else what there is.

        At once when what is held is another one, or was fetched after ``since`` (on the monotonic
        clock), or while the source rests or the cooldown lasts; else after one fetch, led or joined.

        Raises:
            what ``unavailable`` makes: none is usable, and none can be had now.
        """
        # Twice, because a fetch that began before the refusal may end with the refused value.
        for _ in range(2):
            if not self._is_refused_value(refused, since):
                break
            flight, leads = self._board(
                lambda: self._is_refused_value(refused, since), self._may_replace, True
            )
            if flight is None:
                break
            self._fly(flight) if leads else self._wait_for(flight)
        return self.get()

    def forget(self, refused: T) -> None:
        """Have the next caller wait for a newer value than ``refused``, within the cooldown's bounds."""
        with self._sync().lock:
            if self._is_refused_value(refused) and self._may_replace():
                self.state = replace(self.state, refused=True, fresh_wall=NEVER, ready_wall=NEVER)

    def phase(self) -> Phase:
        """How good what is held is now."""
        return phase_of(self.state, self._now())

    def renewable_in(self) -> float:
        """Seconds until :meth:`renew` may cause a fetch again."""
        state, now = self.state, self._now()
        rest = 0.0 if state.failure is None else state.failure.rest_until
        return max(0.0, max(rest, state.renewed_monotonic + self._cooldown) - now.monotonic)

    def vitals(self) -> dict[str, Any]:
        """How it does, as plain data from memory: see :func:`vitals_of`."""
        return vitals_of(self.state, self._now())

    def _get_slowly(self) -> T:
        flight = self._sync().flight
        if flight is not None and self.state.fetched is None:
            return self._of_first(flight)
        # Twice, because what was usable at the first look, or was waited for, may have ended since.
        for _ in range(2):
            step = self._step()
            self._follow(step)
            state, now = self.state, self._now()
            if phase_of(state, now) is not Phase.GONE:
                return state.value  # type: ignore[return-value]
            if step is Step.FAIL or (step is Step.WAIT and state.failure is not None):
                break
        raise self._unavailable_because(state.failure, now)

    def _of_first(self, flight: _Flight) -> T:
        """What the first fetch gives. In a crowd it has its turn the sooner, the sooner others wait."""
        self._wait_for(flight)
        state, now = self.state, self._now()
        if phase_of(state, now) is Phase.GONE:
            raise self._unavailable_because(state.failure, now)
        return state.value  # type: ignore[return-value]

    def _follow(self, step: Step) -> None:
        if step not in (Step.WAIT, Step.SERVE_AND_RENEW):
            return
        if step is Step.WAIT:
            # At the cold start of a fleet its imports take longer than its fetch.
            self._prepare()
        flight, leads = self._board(self._needs_fetch, self._needs_fetch)
        if flight is not None and leads:
            self._fly(flight, behind=step is Step.SERVE_AND_RENEW)
        elif flight is not None and step is Step.WAIT:
            self._wait_for(flight)

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
        state, now = self.state, self._now()
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

    def _is_refused_value(self, refused: T, since: float = float("inf")) -> bool:
        state = self.state
        return (
            state.fetched is not None
            and state.fetched_monotonic < since
            and (state.value is refused or state.value == refused)
        )

    def _may_replace(self) -> bool:
        state, now = self.state, self._now()
        return (
            now.monotonic >= state.renewed_monotonic + self._cooldown
            and now.monotonic >= state.fetched_monotonic + self._min_age
            and not self._is_resting(state, phase_of(state, now), now)
        )

    def _board(
        self, is_wanted: Callable[[], bool], may_lead: Callable[[], bool], renewal: bool = False
    ) -> tuple[_Flight | None, bool]:
        """The flight under way, or a new one that the caller must fly; ``None`` if there is to be none."""
        sync = self._sync()
        flight = sync.flight  # which another thread may land meanwhile
        if flight is not None and flight.deadline.passed:
            self._give_up(flight)
        with sync.lock:
            if not is_wanted():
                return None, False
            if sync.flight is not None:
                return sync.flight, False
            if not may_lead():
                return None, False
            now = self._now()
            if renewal or self.state.refused:
                self.state = replace(self.state, renewed_monotonic=now.monotonic)
            sync.flight = _Flight(
                Deadline(self._deadline, self._monotonic), now.monotonic, renewal or self.state.refused
            )
            return sync.flight, True

    def _fly(self, flight: _Flight, behind: bool = False) -> None:
        """Fetch, on a thread that can be left when it outlives the deadline."""
        ask = Ask(flight.deadline, self.state.fetched, flight.refused)
        fetch = self._around(self._fetch, behind and self._in_background)
        if not self._in_background:
            self._run(flight, fetch, ask)
            return
        try:
            self._start_thread(lambda: self._run(flight, fetch, ask))
        except (RuntimeError, OSError):
            # No thread can be had, at shutdown or at a limit: then this one must do.
            self._run(flight, fetch, ask)
        if not behind:
            self._wait_for(flight)

    def _wait_for(self, flight: _Flight) -> None:
        if not flight.done.passed(flight.deadline.left()):
            self._give_up(flight)

    def _run(self, flight: _Flight, fetch: Fetch[T], ask: Ask[T]) -> None:
        try:
            outcome: Fetched[T] | Exception = fetch(ask)
        except Exception as error:
            outcome = error
        except BaseException:
            self._land(flight, RefreshTimeout("the fetch was aborted"))
            raise
        self._land(flight, outcome)

    def _give_up(self, flight: _Flight) -> None:
        self._land(flight, RefreshTimeout(f"no answer within {flight.deadline.seconds:g} s"))

    def _land(self, flight: _Flight, outcome: Fetched[T] | Exception) -> None:
        sync = self._sync()
        event: Refreshed[T] | RefreshFailed | None = None
        with sync.lock:
            is_late = sync.flight is not flight
            if not is_late:
                sync.flight = None
            if isinstance(outcome, Fetched):
                event = self._take(flight, outcome, is_late)
            elif not is_late:
                event = self._note_failure(flight, outcome)
        try:
            if event is not None:
                self._observer(event)
        finally:
            flight.done.open()

    def _take(
        self, flight: _Flight, fetched: Fetched[T], is_late: bool
    ) -> Refreshed[T] | RefreshFailed | None:
        now, before = self._now(), self.state
        if fetched.usable_until <= now.wall:
            error = ValueError("what was fetched has already ended")
            return None if is_late else self._note_failure(flight, error)
        if not self._is_newer(fetched, now, is_late):
            # A slow old answer never replaces a newer one.
            return None
        self.state = with_value(before, fetched, now)
        if fetched.failure is not None:
            return self._note_failure(flight, fetched.failure)
        self.state = replace(self.state, failure=None)
        return Refreshed(fetched, before.failure is not None, now.monotonic - flight.started)

    def _is_newer(self, fetched: Fetched[T], now: Moment, is_late: bool) -> bool:
        held = self.state.fetched
        if held is None or phase_of(self.state, now) is Phase.GONE:
            return True
        # The wall clock may have been set back since, so that the monotonic one tells; or forward, so
        # that another host's value looks too old: refused here, it would be asked for at each get.
        if fetched_monotonic(fetched, now) >= self.state.fetched_monotonic:
            return not (is_late and fetched.failure)
        return not is_late and fetched.fetched_at > held.fetched_at

    def _note_failure(self, flight: _Flight, error: Exception) -> RefreshFailed:
        now, before = self._now(), self.state
        count = before.failure.count + 1 if before.failure else 1
        rest = _LASTING_REST if self._is_lasting(error) else rest_after(count, self._jitter())
        wish = getattr(error, "retry_after", None) or 0.0
        failure = Failure(
            error=error.with_traceback(None),
            count=count,
            rest_until=now.monotonic + max(rest, min(wish, _LONGEST_WISH)),
            rest_until_if_gone=now.monotonic + max(rest, min(wish, _LONGEST_WISH_IF_GONE)),
            failed_at=now.wall,
        )
        self.state = with_failure(before, failure, now)
        has_value = phase_of(self.state, now) is not Phase.GONE
        until = failure.rest_until if has_value else failure.rest_until_if_gone
        return RefreshFailed(
            error=error,
            count=count,
            retry_in=until - now.monotonic,
            has_value=has_value,
            seconds=now.monotonic - flight.started,
            source=before.fetched.source if has_value and before.fetched else None,
        )

    def _now(self) -> Moment:
        return Moment(self._wall(), self._monotonic())

    def _sync(self) -> _Sync:
        # A lock that another thread held at a fork stays locked in the child, where that thread is
        # not. Fork hooks alone do not run under uWSGI. setdefault is atomic.
        pid = os.getpid()
        return self._syncs.get(pid) or self._syncs.setdefault(pid, _Sync())
