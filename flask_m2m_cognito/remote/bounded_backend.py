"""A cachelib backend that may be slow, down or hung, at a bounded cost to its callers.

A plain Flask-Caching Redis that accepts and says nothing holds one ``get`` for 59 s, so each call
runs on a thread that can be left. A backend that fails is left alone for 30 s, doubling to 5 min.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

from .refreshable import start_daemon

R = TypeVar("R")

FIRST_CALL_TIMEOUT = 2.0
"""Seconds for the first call, which connects: with 0.25 s half of a fleet's cold starts gave up."""

_REST = 30.0
_MAX_REST = 300.0


class StoreDown(Exception):
    """The backend did not do what was asked, or is not asked for now."""


@dataclass
class _Circuit:
    """What one process knows of the backend; a forked child begins anew."""

    pid: int = field(default_factory=os.getpid)
    lock: threading.Lock = field(default_factory=threading.Lock)
    backend: Any = None
    is_built: bool = False
    has_answered: bool = False
    failures: int = 0  # guarded by lock
    open_until: float = float("-inf")  # guarded by lock
    left_behind: tuple[threading.Event, ...] = ()  # calls that may still hang; guarded by lock


class BoundedBackend:
    """Calls a backend for at most ``timeout`` seconds each.

    Args:
        build: gives the cachelib backend, or ``None`` for no store. Called at first use, and its
            time is not counted.
        timeout: seconds that one call may take; the first, which connects, may take 2 s.
        on_change: is told ``(works, error)`` when the backend goes down and when it is back.
        monotonic, start_thread: the clock in seconds, and threads.
    """

    def __init__(
        self,
        build: Callable[[], Any],
        *,
        timeout: float = 0.25,
        on_change: Callable[[bool, Exception | None], None] = lambda works, error: None,
        monotonic: Callable[[], float] = time.monotonic,
        start_thread: Callable[[Callable[[], None]], None] = start_daemon,
    ) -> None:
        self._build = build
        self.timeout = timeout
        self._on_change = on_change
        self._monotonic = monotonic
        self._start_thread = start_thread
        self._circuit = _Circuit()

    @property
    def works(self) -> bool:
        """Whether it did the last thing that it was asked."""
        return self._circuit.failures == 0

    @property
    def kind(self) -> str | None:
        """The backend's class, such as ``RedisCache``; ``None`` before its first use, or without one."""
        backend = self._circuit.backend
        return None if backend is None else type(backend).__name__

    @property
    def is_in_process(self) -> bool:
        """Whether each process has a backend of its own."""
        return self.kind == "SimpleCache"

    def prepare(self) -> None:
        """Build the backend now, on this thread. If that fails, the first call says so."""
        with contextlib.suppress(Exception):
            self._backend(self._circuit_of_this_process())

    def call(self, operation: Callable[[Any], R]) -> R:
        """What ``operation`` gives for the backend.

        Raises:
            StoreDown: there is no backend, it failed, it took too long, or it is being left alone.
        """
        circuit = self._circuit_of_this_process()
        failures = self._failures_before_a_call(circuit)
        try:
            backend = self._backend(circuit)
            outcome = None if backend is None else self._bounded(circuit, lambda: operation(backend))
        except Exception as error:
            self._note_failure(circuit, error, failures)
            raise StoreDown(type(error).__name__) from None
        if outcome is None:
            raise StoreDown("there is none")
        self._note_success(circuit)
        return outcome[0]

    def _circuit_of_this_process(self) -> _Circuit:
        if self._circuit.pid != os.getpid():
            self._circuit = _Circuit()
        return self._circuit

    def _failures_before_a_call(self, circuit: _Circuit) -> int:
        with circuit.lock:
            circuit.left_behind = tuple(call for call in circuit.left_behind if not call.is_set())
            # While a call that was left still hangs no other begins: each would cost a thread.
            if self._monotonic() < circuit.open_until or circuit.left_behind:
                raise StoreDown("left alone for now")
            if circuit.failures:
                # This call finds out whether it is back; the others do without meanwhile.
                circuit.open_until = self._monotonic() + _REST
            return circuit.failures

    def _backend(self, circuit: _Circuit) -> Any:
        if not circuit.is_built:
            with circuit.lock:
                if not circuit.is_built:
                    circuit.backend = self._build()
                    circuit.is_built = True
        return circuit.backend

    def _bounded(self, circuit: _Circuit, operation: Callable[[], R]) -> tuple[R]:
        outcome: list[R] = []
        failure: list[Exception] = []
        done = threading.Event()

        def run() -> None:
            try:
                outcome.append(operation())
            except Exception as error:
                failure.append(error)
            finally:
                done.set()

        try:
            self._start_thread(run)
        except (RuntimeError, OSError):
            run()
        seconds = self.timeout if circuit.has_answered else max(self.timeout, FIRST_CALL_TIMEOUT)
        if not done.wait(seconds):
            with circuit.lock:
                circuit.left_behind = (*circuit.left_behind, done)
            raise TimeoutError(f"no answer within {seconds:g} s")
        if failure:
            raise failure[0]
        circuit.has_answered = True
        return (outcome[0],)

    def _note_failure(self, circuit: _Circuit, error: Exception, failures_before: int) -> None:
        with circuit.lock:
            if circuit.failures != failures_before:
                return  # calls that fail together are one failure
            circuit.failures += 1
            is_first = circuit.failures == 1
            rest = min(_MAX_REST, _REST * 2.0 ** min(circuit.failures - 1, 4))
            circuit.open_until = self._monotonic() + rest
        if is_first:
            self._on_change(False, error)

    def _note_success(self, circuit: _Circuit) -> None:
        if circuit.failures == 0:
            return
        with circuit.lock:
            was_down, circuit.failures = circuit.failures > 0, 0
            circuit.open_until = float("-inf")
        if was_down:
            self._on_change(True, None)
