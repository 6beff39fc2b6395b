"""What a forked child must have of its own: locks, connections, and what is under way."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class PerProcess(Generic[T]):
    """A value of each process, made at its first use there.

    A lock that another thread holds at a fork stays held in the child, where that thread does not exist.
    Hooks at a fork would not do: they do not run under uWSGI.
    """

    __slots__ = ("_made", "_make")

    def __init__(self, make: Callable[[], T]) -> None:
        self._make = make
        self._made: dict[int, T] = {}

    def get(self) -> T:
        """Return the value of this process."""
        pid = os.getpid()
        try:
            return self._made[pid]
        except KeyError:
            return self._made.setdefault(pid, self._make())  # setdefault is atomic


class ProcessLock:
    """A :class:`threading.Lock` for each process, used by ``with``."""

    __slots__ = ("_locks",)

    def __init__(self) -> None:
        self._locks = PerProcess(threading.Lock)

    def __enter__(self) -> None:
        self._locks.get().acquire()

    def __exit__(self, *error: object) -> None:
        self._locks.get().release()

    def of_this_process(self) -> threading.Lock:
        """Return the lock itself, for where a call more is too much."""
        return self._locks.get()
