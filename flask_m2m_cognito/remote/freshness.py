"""Decide how fresh a remote value is, and what to do next: records and pure functions.

A value is *fresh*, then *usable*, then *gone*. It counts as old when *either* clock says so: the wall clock
jumps when it is set, and the monotonic clock may stand still while a machine sleeps.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from typing import Any, Generic, Literal, Protocol, TypedDict, TypeVar

from .clock import Deadline, Moment
from .threads import is_foreign

T = TypeVar("T")

NEVER = float("-inf")

MAX_BACKOFF = 60.0
_LASTING_BACKOFF = 60.0
_LONGEST_RETRY_AFTER = 3600.0
_LONGEST_RETRY_AFTER_IF_GONE = 60.0
_LONGEST_COOLDOWN = 3600.0


@dataclass(frozen=True)
class Fetched(Generic[T]):
    """A value and how long it may be used. All times are seconds since the epoch, on the wall clock.

    Attributes:
        fresh_until: until then callers get it, and no newer one is fetched.
        usable_until: until then callers get it while a newer one is fetched.
        fetched_at: when its source returned it.
        source: ``"network"``, ``"store"`` or ``"pinned"``.
        failure: why no newer value could be fetched, if this one is a fallback.
        expires_at: when the value itself expires, regardless of settings; ``None`` if it does not.
        payload: what the store keeps, as plain JSON, if the value alone is not enough.
    """

    value: T = field(repr=False)
    fresh_until: float
    usable_until: float
    fetched_at: float
    source: str = "network"
    failure: Exception | None = None
    expires_at: float | None = None
    payload: Any = field(default=None, repr=False)


def accept_any(value: object) -> bool:
    return True


@dataclass(frozen=True)
class Ask(Generic[T]):
    """The request that a fetch must answer.

    Attributes:
        deadline: by when the fetch must have finished.
        held: the value that the process has now.
        is_enough: returns whether a value answers the request: not the refused one, or a key set with the
            missing key. If the value from the cache does not, the source itself is asked.
        is_forced: whether only a new value from the source itself is accepted, and none from the cache.
    """

    deadline: Deadline
    held: Fetched[T] | None = None
    is_enough: Callable[[T], bool] = accept_any
    is_forced: bool = False


Fetch = Callable[[Ask[T]], Fetched[T]]
"""Returns a value or raises. An error may have ``retry_after``, in seconds."""


class Phase(enum.Enum):
    FRESH = "fresh"
    USABLE = "usable"
    REFUSED = "refused"
    GONE = "gone"


class Step(enum.Enum):
    SERVE = "return the value"
    SERVE_AND_RENEW = "return the value, and fetch a newer one in the background"
    WAIT = "wait for a newer value"
    FAIL = "raise the error at once"


@dataclass(frozen=True)
class Failure:
    """The last fetch failed, the last of ``count`` in a row.

    All times are on the monotonic clock, except ``failed_at``, which is on the wall clock.

    Attributes:
        only_background: whether all failures since the last success are timeouts of background attempts.
            Those also happen in a process that is frozen between requests.
        is_foreign: whether code around ``requests`` raised, perhaps because its thread lacks something. Then
            the next fetch runs on a caller's thread.
    """

    error: Exception
    count: int
    retry_at: float
    retry_at_if_gone: float
    failed_at: float
    only_background: bool
    is_foreign: bool


@dataclass(frozen=True)
class State(Generic[T]):
    """Everything that threads share, replaced whole. The fields are flat because the fast path reads them.

    Attributes:
        ready_wall, ready_monotonic: until then callers get ``value``, and nothing else happens: it is fresh,
            or it is usable during a backoff.
        must_replace: ``value`` was refused, and the next caller waits for a newer one.
        was_refused: ``value`` was refused, whether or not it may be replaced yet.
        refused_before: how many values in a row were refused before this one.
    """

    value: T | None = field(default=None, repr=False)
    ready_wall: float = NEVER
    ready_monotonic: float = NEVER
    fresh_wall: float = NEVER
    fresh_monotonic: float = NEVER
    usable_wall: float = NEVER
    usable_monotonic: float = NEVER
    fetched_monotonic: float = NEVER
    fetched: Fetched[T] | None = None
    must_replace: bool = False
    was_refused: bool = False
    refused_before: int = 0
    failure: Failure | None = None
    renewed_monotonic: float = NEVER


@dataclass(frozen=True)
class Refreshed(Generic[T]):
    """An event: a newer value was fetched."""

    fetched: Fetched[T]
    recovered: bool
    seconds: float


@dataclass(frozen=True)
class RefreshFailed:
    """An event: a fetch failed, the last of ``count`` in a row. ``has_value``: callers still get a value."""

    error: Exception
    count: int
    retry_in: float
    has_value: bool
    seconds: float
    source: str | None = None


class RefreshObserver(Protocol):
    """Observes the refreshes of a value."""

    def around(self, is_background: bool) -> AbstractContextManager[Callable[[Any], object]]:
        """Return a context manager that wraps a fetch and receives its outcome. Must not raise.

        It is entered on the fetch's thread. This method is called on the thread of the caller that starts
        the fetch. ``is_background`` says that this caller does not wait.
        """

    def ended(self, event: Refreshed[Any] | RefreshFailed) -> None:
        """Handle the outcome of a fetch. Called outside locks, after every waiter was released."""


class RefreshTimeout(Exception):
    """A fetch did not finish before its deadline, and was abandoned."""


def phase_of(state: State[Any], now: Moment) -> Phase:
    """Return the phase of the value at ``now``, by the stricter of the two clocks.

    >>> held = State(value="v", fetched=Fetched("v", 10, 20, 0), fresh_wall=10, fresh_monotonic=10,
    ...              usable_wall=20, usable_monotonic=20)
    >>> [phase_of(held, Moment(*now)).value for now in ((9, 9), (9, 10), (10, 9), (9, 20), (20, 9))]
    ['fresh', 'usable', 'usable', 'gone', 'gone']
    """
    if state.fetched is None or now.wall >= state.usable_wall or now.monotonic >= state.usable_monotonic:
        return Phase.GONE
    if state.must_replace:
        return Phase.REFUSED
    if now.wall >= state.fresh_wall or now.monotonic >= state.fresh_monotonic:
        return Phase.USABLE
    return Phase.FRESH


def next_step(phase: Phase, is_backing_off: bool) -> Step:
    """Return the next step of a caller in ``phase``.

    >>> next_step(Phase.USABLE, is_backing_off=False).name, next_step(Phase.GONE, is_backing_off=True).name
    ('SERVE_AND_RENEW', 'FAIL')
    """
    if phase is Phase.FRESH:
        return Step.SERVE
    if is_backing_off:
        return Step.FAIL if phase is Phase.GONE else Step.SERVE
    return Step.SERVE_AND_RENEW if phase is Phase.USABLE else Step.WAIT


def step_at(state: State[Any], now: Moment, cooldown: float) -> Step:
    """Return the next step of a caller for ``state`` at ``now``."""
    phase = phase_of(state, now)
    cools_down = phase is Phase.REFUSED and now.monotonic < state.renewed_monotonic + cooldown
    has_failed = state.failure is not None and backoff_left(state, now) > 0
    return next_step(phase, cools_down or has_failed)


def is_late(state: State[Any], now: Moment, late_after: float) -> bool:
    """Return whether the value was last fresh ``late_after`` seconds ago or longer."""
    return now.wall >= state.fresh_wall + late_after or now.monotonic >= state.fresh_monotonic + late_after


def backoff_left(state: State[Any], now: Moment) -> float:
    """Return the seconds of backoff left before the next fetch; 0 unless the last fetch failed."""
    failure = state.failure
    if failure is None:
        return 0.0
    until = failure.retry_at_if_gone if phase_of(state, now) is Phase.GONE else failure.retry_at
    return max(0.0, until - now.monotonic)


def backoff_after(failures: int, jitter: float) -> float:
    """Return the backoff in seconds after ``failures`` failures in a row.

    Doubles from 1 to 60. ``jitter``, from 0 to 1, removes up to half, so that processes that failed at the
    same time do not retry at the same time.

    >>> [backoff_after(failures, jitter=0.0) for failures in (1, 2, 3, 2000)]
    [1.0, 2.0, 4.0, 60.0]
    >>> backoff_after(3, jitter=1.0)
    2.0
    """
    return min(MAX_BACKOFF, 2.0 ** min(failures - 1, 6)) * (1 - jitter / 2)


def may_replace(state: State[Any], now: Moment, cooldown: float, min_age: float) -> bool:
    """Return whether a value may be replaced because it was refused, or because it lacks a key."""
    min_age = max(min_age, refusal_cooldown(state.refused_before, cooldown))
    return (
        now.monotonic >= state.renewed_monotonic + cooldown
        and now.monotonic >= state.fetched_monotonic + min_age
        and backoff_left(state, now) == 0
    )


def refusal_cooldown(refused_before: int, first: float) -> float:
    """Return the age in seconds that a value must have before it is replaced because it was refused.

    Doubles from ``first`` to an hour while each newer value is refused too.

    >>> [refusal_cooldown(refused_before, first=30.0) for refused_before in (0, 1, 2, 3, 2000)]
    [0.0, 30.0, 60.0, 120.0, 3600.0]
    """
    if refused_before == 0:
        return 0.0
    return min(_LONGEST_COOLDOWN, first * 2.0 ** min(refused_before - 1, 20))


def with_value(state: State[T], fetched: Fetched[T], now: Moment) -> State[T]:
    """Return ``state`` with ``fetched`` in it. Its times are converted to the monotonic clock as well."""
    # If the wall clock was set back during the fetch, the value counts as fetched now.
    shift = now.monotonic - max(now.wall, fetched.fetched_at)
    is_same = state.fetched is not None and state.value == fetched.value
    refused_before = state.refused_before + 1 if state.was_refused else 0
    return replace(
        state,
        value=fetched.value,
        fetched=fetched,
        must_replace=False,
        was_refused=is_same and state.was_refused,
        refused_before=state.refused_before if is_same else refused_before,
        ready_wall=fetched.fresh_until,
        ready_monotonic=fetched.fresh_until + shift,
        fresh_wall=fetched.fresh_until,
        usable_wall=fetched.usable_until,
        fresh_monotonic=fetched.fresh_until + shift,
        usable_monotonic=fetched.usable_until + shift,
        fetched_monotonic=fetched_monotonic(fetched, now),
    )


def with_failure(
    state: State[T],
    error: Exception,
    now: Moment,
    *,
    is_lasting: bool,
    jitter: float,
    is_background: bool = False,
    on_callers_thread: bool = False,
    max_backoff: float = MAX_BACKOFF,
) -> State[T]:
    """Return ``state`` after a failed fetch. During the backoff callers get the value while it is usable.

    ``is_background`` and ``on_callers_thread`` are those of the ``Attempt``. For ``jitter`` see
    :func:`backoff_after`. ``max_backoff`` is in seconds.
    """
    before = state.failure
    count = before.count + 1 if before else 1
    backoff = min(max_backoff, _LASTING_BACKOFF if is_lasting else backoff_after(count, jitter))
    retry_after = getattr(error, "retry_after", None) or 0.0
    left = max(backoff, min(retry_after, _LONGEST_RETRY_AFTER))
    left_if_gone = max(backoff, min(retry_after, _LONGEST_RETRY_AFTER_IF_GONE))
    only_background = is_background and isinstance(error, RefreshTimeout)
    if before is not None and not before.only_background:
        only_background = False
    if only_background:
        # No caller waited for it, so the first caller without a value starts an attempt at once.
        left_if_gone = 0.0
    has_foreign_cause = is_foreign(error)
    if has_foreign_cause and not on_callers_thread:
        # Retry at once: the fetch may succeed on a caller's thread.
        left = left_if_gone = 0.0
        state = replace(state, renewed_monotonic=NEVER)
    retry_at, retry_at_if_gone = now.monotonic + left, now.monotonic + left_if_gone
    error = error.with_traceback(None)
    failure = Failure(error, count, retry_at, retry_at_if_gone, now.wall, only_background, has_foreign_cause)
    state = replace(state, failure=failure)
    if phase_of(state, now) is not Phase.USABLE:
        return state
    ready_monotonic = min(retry_at, state.usable_monotonic)
    return replace(state, ready_wall=state.usable_wall, ready_monotonic=ready_monotonic)


def failure_event(state: State[Any], now: Moment, seconds: float) -> RefreshFailed:
    """Return the event for the failure in ``state``, of a fetch that took ``seconds``."""
    failure, has_value = state.failure, phase_of(state, now) is not Phase.GONE
    assert failure is not None
    source = state.fetched.source if has_value and state.fetched else None
    return RefreshFailed(failure.error, failure.count, backoff_left(state, now), has_value, seconds, source)


def is_newer(fetched: Fetched[T], state: State[T], now: Moment, is_late: bool) -> bool:
    """Return whether ``fetched`` replaces the value in ``state``.

    ``is_late`` says that its attempt was abandoned before it finished.
    """
    if state.fetched is None or phase_of(state, now) is Phase.GONE:
        return True
    # If the wall clock was set back since, only the monotonic clock shows which is newer. If it was set
    # forward, another host's value seems too old; without the second comparison each get would fetch it
    # again.
    if fetched_monotonic(fetched, now) >= state.fetched_monotonic:
        return not (is_late and fetched.failure)
    return not is_late and fetched.fetched_at > state.fetched.fetched_at


def fetched_monotonic(fetched: Fetched[Any], now: Moment) -> float:
    """Return when ``fetched`` was fetched, on the monotonic clock. A value from the future counts as new."""
    return min(fetched.fetched_at - now.wall + now.monotonic, now.monotonic)


class Snapshot(TypedDict):
    """The state of a value, as in ``health()``. Durations are in seconds, times in seconds since the epoch.

    Attributes:
        state: the phase of the value. ``"refused"`` means that it was refused and must be replaced.
        source: where it came from: ``"network"``, ``"store"`` (the cache) or ``"pinned"``.
        age: the time since it was fetched.
        seconds_left: the time until it can no longer be used.
        last_success: when the last successful refresh was.
        last_error: why the last refresh failed, if it did.
        last_error_at: when it failed.
        failures: how many refreshes in a row failed.
        next_try_in: the backoff left, after a failure.
    """

    state: Literal["fresh", "usable", "refused", "gone"]
    source: str | None
    age: float | None
    seconds_left: float | None
    last_success: float | None
    last_error: str | None
    last_error_at: float | None
    failures: int
    next_try_in: float | None


def snapshot_of(state: State[Any], now: Moment) -> Snapshot:
    """Return the state of a value as plain data, with times on the wall clock.

    >>> snapshot_of(State(), Moment(0, 0))["state"]
    'gone'
    """
    fetched, failure = state.fetched, state.failure
    until = min(state.usable_wall - now.wall, state.usable_monotonic - now.monotonic)
    return {
        "state": phase_of(state, now).value,
        "source": fetched.source if fetched else None,
        "age": _finite(now.monotonic - state.fetched_monotonic),
        "seconds_left": _finite(max(0.0, until)) if fetched else None,
        "last_success": _finite(fetched.fetched_at) if fetched else None,
        "last_error": f"{type(failure.error).__name__}: {failure.error}" if failure else None,
        "last_error_at": failure.failed_at if failure else None,
        "failures": failure.count if failure else 0,
        "next_try_in": backoff_left(state, now) if failure else None,
    }


def _finite(seconds: float) -> float | None:
    return seconds if math.isfinite(seconds) else None
