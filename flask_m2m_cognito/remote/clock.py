"""Time: the two clocks of an application's parts, a moment on both, and a deadline."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from types import BuiltinFunctionType, SimpleNamespace
from typing import Any, NamedTuple, Protocol


class Moment(NamedTuple):
    """One instant on both clocks, in seconds."""

    wall: float
    monotonic: float


class WallReader(Protocol):
    """What is read of the module ``time``."""

    def time(self) -> float:
        """Return the seconds since the epoch."""


@dataclass(frozen=True)
class Clock:
    """Two clocks, in seconds.

    Attributes:
        wall: since the epoch; jumps when it is set.
        monotonic: since some moment; never goes back, and may stand still while the machine sleeps.
        wall_reader: what each request reads ``wall`` from. For the machine's clock it is the module ``time``:
            a call of :data:`SYSTEM`'s function takes 40 ns more of the 410 ns for a token in memory.
    """

    wall: Callable[[], float]
    monotonic: Callable[[], float]
    wall_reader: WallReader = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        reader: Any = time if self.wall is _wall else SimpleNamespace(time=self.wall)
        object.__setattr__(self, "wall_reader", reader)

    def now(self) -> Moment:
        """Return this instant on both clocks."""
        return Moment(self.wall_reader.time(), self.monotonic())


# Not time.time itself: freezegun puts another function into the module. What was bound before stays real.
def _wall() -> float:
    return time.time()


def _real_monotonic() -> Callable[[], float]:
    # freezegun's jumps by decades, and back when the freeze ends: a backoff would then end decades later.
    # time-machine leaves this clock alone too.
    if isinstance(time.monotonic, BuiltinFunctionType) or not hasattr(time, "clock_gettime"):
        return time.monotonic
    return functools.partial(time.clock_gettime, time.CLOCK_MONOTONIC)  # imported in the middle of a freeze


SYSTEM = Clock(_wall, _real_monotonic())
"""The machine's clocks. The wall clock is that of the module ``time`` when it is read."""


class Deadline:
    """A moment on the monotonic clock by which something must have ended.

    Attributes:
        is_watched: whether another thread waits for it, and calls :meth:`enforce` when it has passed.
        shut_down: ends what is under way; set while something is.
    """

    __slots__ = ("_at", "_clock", "is_watched", "seconds", "shut_down")

    def __init__(self, seconds: float, clock: Clock = SYSTEM) -> None:
        self.seconds: float = seconds
        self.is_watched: bool = False
        self.shut_down: Callable[[], None] | None = None
        self._clock = clock
        self._at = clock.monotonic() + seconds

    def left(self) -> float:
        """Return the seconds left, 0 when it has passed."""
        return max(0.0, self._at - self._clock.monotonic())

    @property
    def passed(self) -> bool:
        return self._clock.monotonic() >= self._at

    def part(self, parts: int) -> Deadline:
        """Return a deadline after an equal share of the time left; this one itself if it is the only part."""
        return self if parts == 1 else Deadline(self.left() / parts, self._clock)

    def enforce(self) -> None:
        """End what is under way."""
        shut_down = self.shut_down
        if shut_down is not None:
            shut_down()


_for_new_apps = SYSTEM


def clock_for_new_apps() -> Clock:
    """The clock that an application which is initialised now is to have."""
    return _for_new_apps


def set_clock_for_new_apps(clock: Clock) -> Clock:
    """Give applications that are initialised from now on this clock. The one that was set before.

    For tests: see ``testing.MovedClock``.
    """
    global _for_new_apps
    before, _for_new_apps = _for_new_apps, clock
    return before
