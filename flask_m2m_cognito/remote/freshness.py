"""How good a remote value is at a moment, and what to do then: records and pure functions.

A value is *fresh*, then *usable*, then *gone*. It counts as old when *either* clock says so: the wall clock
jumps when it is set, the monotonic one may stand still while a machine sleeps.
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

_MAX_BACKOFF = 60.0
_LASTING_BACKOFF = 60.0
_LONGEST_RETRY_AFTER = 3600.0
_LONGEST_RETRY_AFTER_IF_GONE = 60.0
_LONGEST_COOLDOWN = 3600.0


@dataclass(frozen=True)
class Fetched(Generic[T]):
    """A value and how long it serves; moments on the wall clock, in seconds since the epoch.

    Attributes:
        fresh_until: until then it is handed out as it is.
        usable_until: until then it is handed out while a newer one is fetched.
        fetched_at: when its source gave it.
        source: ``"network"``, ``"store"`` or ``"pinned"``.
        failure: why there is no newer one, if this is only what was left.
        expires_at: when the value itself expires, whatever the settings are; ``None``: it does not.
        payload: what the store keeps where the value alone does not say enough; plain JSON.
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
    """What a fetch is for.

    Attributes:
        deadline: by when it must have ended.
        held: what the process has now.
        is_enough: whether a value is what is asked for: not the rejected one, or a set with the missing key.
            A value that is not ends no fetch before the source itself was asked.
        is_forced: only a new value from the source itself will do, whatever others have.
    """

    deadline: Deadline
    held: Fetched[T] | None = None
    is_enough: Callable[[T], bool] = accept_any
    is_forced: bool = False


Fetch = Callable[[Ask[T]], Fetched[T]]
"""Gives a value or raises. An error may have ``retry_after``, in seconds."""


class Phase(enum.Enum):
    FRESH = "fresh"
    USABLE = "usable"
    REFUSED = "refused"
    GONE = "gone"


class Step(enum.Enum):
    SERVE = "serve what is held"
    SERVE_AND_RENEW = "serve what is held, and fetch a newer one behind"
    WAIT = "wait for a newer one"
    FAIL = "say at once that there is none"


@dataclass(frozen=True)
class Failure:
    """The last fetch failed, ``count`` in a row. Moments on the monotonic clock, but for ``failed_at``.

    Attributes:
        only_background: since the last success only background attempts failed, by a timeout: a frozen
            process fails so too.
        is_foreign: code around ``requests`` raised, perhaps for what its thread lacks: the next fetch is a
            caller's.
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
    """All that threads share, replaced whole. The flat fields are what the fast path reads.

    Attributes:
        ready_wall, ready_monotonic: until then ``value`` is handed out, and there is nothing else to do:
            it is fresh, or it is usable and its source is backing off.
        must_replace: ``value`` was refused, and the next caller waits for a newer one.
        was_refused: ``value`` was refused, whether or not it may be replaced yet.
        refused_before: how many values in a row before this one were refused.
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
    """An event: a newer value was taken."""

    fetched: Fetched[T]
    recovered: bool
    seconds: float


@dataclass(frozen=True)
class RefreshFailed:
    """An event: a fetch failed, ``count`` times in a row; callers may have a value from ``source``."""

    error: Exception
    count: int
    retry_in: float
    has_value: bool
    seconds: float
    source: str | None = None


class RefreshObserver(Protocol):
    """Observes the refreshes of a value."""

    def around(self, is_background: bool) -> AbstractContextManager[Callable[[Any], object]]:
        """Return what is entered around a fetch, on its thread, and given what was fetched. Must not raise.

        Called on the thread of the caller who starts it. ``is_background``: that caller does not wait.
        """

    def ended(self, event: Refreshed[Any] | RefreshFailed) -> None:
        """Take note of how a fetch ended. Called under no lock, after every waiter was released."""


class RefreshTimeout(Exception):
    """A fetch outlived its deadline and was given up."""


def phase_of(state: State[Any], now: Moment) -> Phase:
    """Return how good what is held is at ``now``, by the stricter of the two clocks.

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
    """Return what a caller gets in ``phase``.

    >>> next_step(Phase.USABLE, is_backing_off=False).name, next_step(Phase.GONE, is_backing_off=True).name
    ('SERVE_AND_RENEW', 'FAIL')
    """
    if phase is Phase.FRESH:
        return Step.SERVE
    if is_backing_off:
        return Step.FAIL if phase is Phase.GONE else Step.SERVE
    return Step.SERVE_AND_RENEW if phase is Phase.USABLE else Step.WAIT


def step_at(state: State[Any], now: Moment, cooldown: float) -> Step:
    """Return what a caller gets of ``state`` at ``now``."""
    phase = phase_of(state, now)
    cools_down = phase is Phase.REFUSED and now.monotonic < state.renewed_monotonic + cooldown
    has_failed = state.failure is not None and backoff_left(state, now) > 0
    return next_step(phase, cools_down or has_failed)


def backoff_left(state: State[Any], now: Moment) -> float:
    """Return the seconds until the source may be asked again; 0 unless the last fetch failed."""
    failure = state.failure
    if failure is None:
        return 0.0
    until = failure.retry_at_if_gone if phase_of(state, now) is Phase.GONE else failure.retry_at
    return max(0.0, until - now.monotonic)


def backoff_after(failures: int, jitter: float) -> float:
    """Return the seconds to leave a failing source alone after ``failures`` failures in a row.

    Doubles from 1 to 60. ``jitter``, 0 to 1, takes off up to half, so that processes
    which failed together do not come back together.

    >>> [backoff_after(failures, jitter=0.0) for failures in (1, 2, 3, 2000)]
    [1.0, 2.0, 4.0, 60.0]
    >>> backoff_after(3, jitter=1.0)
    2.0
    """
    return min(_MAX_BACKOFF, 2.0 ** min(failures - 1, 6)) * (1 - jitter / 2)


def may_replace(state: State[Any], now: Moment, cooldown: float, min_age: float) -> bool:
    """Whether what is held may be replaced because it was refused, or lacks what was asked for."""
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
    """Return ``state`` with ``fetched`` in it, its moments on the monotonic clock too."""
    # The wall clock was set back while it was fetched: then it counts as fetched now.
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
    is_here: bool = False,
) -> State[T]:
    """Return ``state`` after a fetch that failed. What is usable is handed out while its source backs off.

    ``is_background`` and ``is_here`` are those of the ``Attempt``; ``jitter``: see :func:`backoff_after`.
    """
    before = state.failure
    count = before.count + 1 if before else 1
    backoff = _LASTING_BACKOFF if is_lasting else backoff_after(count, jitter)
    retry_after = getattr(error, "retry_after", None) or 0.0
    left = max(backoff, min(retry_after, _LONGEST_RETRY_AFTER))
    left_if_gone = max(backoff, min(retry_after, _LONGEST_RETRY_AFTER_IF_GONE))
    only_background = is_background and isinstance(error, RefreshTimeout)
    if before is not None and not before.only_background:
        only_background = False
    if only_background:
        # Nobody waited for it: the first caller without a value starts an attempt at once.
        left_if_gone = 0.0
    has_foreign_cause = is_foreign(error)
    if has_foreign_cause and not is_here:
        # The caller's thread may do better, at once.
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
    """Return what is reported of the failure in ``state``, of a fetch that took ``seconds``."""
    failure, has_value = state.failure, phase_of(state, now) is not Phase.GONE
    assert failure is not None
    source = state.fetched.source if has_value and state.fetched else None
    return RefreshFailed(failure.error, failure.count, backoff_left(state, now), has_value, seconds, source)


def is_newer(fetched: Fetched[T], state: State[T], now: Moment, is_late: bool) -> bool:
    """Whether ``fetched`` replaces what is held; ``is_late``: its attempt was given up before it ended."""
    if state.fetched is None or phase_of(state, now) is Phase.GONE:
        return True
    # The wall clock may have been set back since, so that the monotonic one tells; or forward, so
    # that another host's value looks too old: refused here, it would be asked for at each get.
    if fetched_monotonic(fetched, now) >= state.fetched_monotonic:
        return not (is_late and fetched.failure)
    return not is_late and fetched.fetched_at > state.fetched.fetched_at


def fetched_monotonic(fetched: Fetched[Any], now: Moment) -> float:
    """When ``fetched`` was fetched, on the monotonic clock; one from the future counts as fetched now."""
    return min(fetched.fetched_at - now.wall + now.monotonic, now.monotonic)


class Snapshot(TypedDict):
    """How a value does: durations in seconds, moments in seconds since the epoch.

    Attributes:
        state: the phase of the value; ``"refused"`` where a newer one is asked for.
        source: where it came from: ``"network"``, ``"store"`` (the cache) or ``"pinned"``.
        age: since it was fetched.
        seconds_left: until it can no longer be used.
        last_success, last_error_at: when the last refresh succeeded, and when one failed.
        last_error: why it failed, if the last refresh did.
        failures: how many refreshes in a row failed.
        next_try_in: until the source may be asked again, after a failure.
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
    """How a value does, as plain data: seconds, and moments on the wall clock.

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
