"""A lock that a forked child has anew."""

from __future__ import annotations

import os
import threading


class ProcessLock:
    """A :class:`threading.Lock` for each process, used by ``with``.

    One that another thread holds at a fork would stay held in the child, where that thread is not.
    Hooks at a fork would not do: they do not run under uWSGI.
    """

    __slots__ = ("_locks",)

    def __init__(self) -> None:
        self._locks: dict[int, threading.Lock] = {}

    def __enter__(self) -> None:
        self.of_this_process().acquire()

    def __exit__(self, *error: object) -> None:
        self.of_this_process().release()

    def of_this_process(self) -> threading.Lock:
        """The lock itself, for where a call more is too much."""
        pid = os.getpid()
        # setdefault is atomic.
        return self._locks.get(pid) or self._locks.setdefault(pid, threading.Lock())
