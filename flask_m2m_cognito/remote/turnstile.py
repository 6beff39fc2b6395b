"""An event that many threads may wait for at once."""

from __future__ import annotations

import threading


class Turnstile:
    """Shut until it is opened, once and for all; then everybody passes, one after the other.

    A :class:`threading.Event` wakes all who wait at the same moment, to contend for a lock of its own.
    Here whoever has passed lets the next one in.
    """

    __slots__ = ("_bolt", "_gate")

    def __init__(self) -> None:
        self._gate = threading.Lock()
        self._gate.acquire()
        self._bolt = [True]

    def open(self) -> None:
        """Let all pass, now and later."""
        try:
            self._bolt.pop()  # which one of several threads succeeds in
        except IndexError:
            return
        self._gate.release()

    def passed(self, seconds: float) -> bool:
        """Whether it was passed, after at most ``seconds``."""
        if not self._gate.acquire(timeout=max(0.0, min(seconds, threading.TIMEOUT_MAX))):
            return not self._bolt
        self._gate.release()
        return True
