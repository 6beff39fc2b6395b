"""The clocks of an application's parts: the machine's, unless a test has put others in their place."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Clock:
    """Two clocks, in seconds.

    Attributes:
        wall: since the epoch; jumps when it is set.
        monotonic: since some moment; never goes back, and may stand still while the machine sleeps.
    """

    wall: Callable[[], float]
    monotonic: Callable[[], float]


SYSTEM = Clock(time.time, time.monotonic)

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
