"""A cachelib backend that may be slow, down or hung, at a bounded cost to its callers.

Some clients connect when they are built (a Redis cluster), and a plain Flask-Caching Redis that accepts a
connection and never answers holds one ``get`` for 59 s. So building and each call run on a thread that can be
left behind. A backend that fails is left alone for 30 s, doubling to 5 min.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any, TypeVar

from .clock import SYSTEM, Clock
from .redaction import causes_of, describe_error
from .reports import held_reports, report, send_reports
from .threads import PerProcess, start_daemon

R = TypeVar("R")

FIRST_CALL_TIMEOUT = 2.0
"""Seconds for building the backend and its first call together.

With 0.25 s half of a fleet's cold starts gave up."""

LONGEST_CALL = 300.0
"""Seconds after which a call that never returned no longer keeps others from being tried."""

_LOST = (ConnectionResetError, ConnectionAbortedError, BrokenPipeError, TimeoutError)
_BACKOFF = 30.0
_MAX_BACKOFF = 300.0


class StoreDown(Exception):
    """The backend did not do what was asked, or is not asked for now."""


@dataclass(frozen=True)
class _LeftBehind:
    """A call that was given up, and may still hang."""

    call: Future[Any]
    at: float


@dataclass
class _Circuit:
    """What one process knows of the backend."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    building: Future[Any] | None = None  # guarded by lock
    backend: Any = None  # once it was built
    has_answered: bool = False
    failures: int = 0  # guarded by lock
    open_until: float = float("-inf")  # guarded by lock
    left_behind: tuple[_LeftBehind, ...] = ()  # guarded by lock


class BoundedBackend:
    """Calls a backend for at most ``timeout`` seconds each.

    Args:
        build: returns the cachelib backend, or ``None`` for no store. Called at first use, on the thread of
            the first call and under no lock.
        is_configured: whether there is a backend at all, from memory. Without one nothing is stored.
        import_client: imports what building needs, see :meth:`SealedStore.import_all`.
        timeout: seconds that one call may take; building and the first call together may take 2 s.
        context: entered around building and each call, on their thread: an application context, for code of
            the application's such as a callable key prefix.
        on_change: called with ``(works, error)`` when the backend goes down and when it is back, see
            :func:`report`.
        clock, start_thread: the clock, and threads.
    """

    def __init__(
        self,
        build: Callable[[], Any],
        *,
        is_configured: Callable[[], bool] = lambda: True,
        import_client: Callable[[], None] = lambda: None,
        timeout: float = 0.25,
        context: Callable[[], AbstractContextManager[object]] = nullcontext,
        on_change: Callable[[bool, Exception | None], None] = lambda works, error: None,
        clock: Clock = SYSTEM,
        start_thread: Callable[[Callable[[], None]], None] = start_daemon,
    ) -> None:
        self._build = build
        self.is_configured = is_configured
        self.import_client = import_client
        self.timeout = timeout
        self._context = context
        self._on_change = on_change
        self._clock = clock
        self._start_thread = start_thread
        self._circuit = PerProcess(_Circuit)
        self._kind: str | None = None  # also of a forked child that has not used it yet

    @property
    def works(self) -> bool:
        """Whether it did the last thing that it was asked."""
        return self._circuit.get().failures == 0

    @property
    def kind(self) -> str | None:
        """The backend's class, such as ``RedisCache``; ``None`` before its first use, or without one."""
        return self._kind

    @property
    def is_in_process(self) -> bool:
        """Whether each process has a backend of its own."""
        return self.kind in ("SimpleCache", "NullCache")

    def call(self, operation: Callable[[Any], R]) -> R:
        """Return what ``operation`` returns for the backend.

        Raises:
            StoreDown: there is no backend, it failed, it took too long, or it is being left alone.
        """
        circuit = self._circuit.get()
        failures = self._failures_before_a_call(circuit)
        try:
            outcome = self._call_bounded(circuit, operation)
        except Exception as error:
            self._note_failure(circuit, error, failures)
            raise StoreDown(describe_error(error)) from None
        if outcome is None:
            raise StoreDown("there is none")
        self._note_success(circuit)
        return outcome[0]

    def _failures_before_a_call(self, circuit: _Circuit) -> int:
        with circuit.lock:
            now = self._clock.monotonic()
            hanging = [left for left in circuit.left_behind if not left.call.done()]
            circuit.left_behind = tuple(left for left in hanging if now < left.at + LONGEST_CALL)
            if hanging and not circuit.left_behind and circuit.backend is None:
                circuit.building = None  # it never returned: build another one
            # While a call that was left still hangs no other begins: each would cost a thread.
            if now < circuit.open_until or circuit.left_behind:
                raise StoreDown("left alone for now")
            if circuit.failures:
                # This call finds out whether it is back; the others do without meanwhile.
                circuit.open_until = now + _BACKOFF
            return circuit.failures

    def _call_bounded(self, circuit: _Circuit, operation: Callable[[Any], R]) -> tuple[R] | None:
        call: Future[tuple[R] | None] = Future()

        def run() -> None:
            with held_reports() as reports:
                try:
                    with self._context():
                        backend = self._backend(circuit)
                        outcome = None if backend is None else (self._outcome_of(operation, backend),)
                    call.set_result(outcome)
                except Exception as error:
                    call.set_exception(error)
                except BaseException:
                    call.set_exception(RuntimeError("the call was aborted"))
                    raise
            send_reports(reports)

        try:
            self._start_thread(run)
        except (RuntimeError, OSError):
            run()
        seconds = self.timeout if circuit.has_answered else max(self.timeout, FIRST_CALL_TIMEOUT)
        try:
            outcome = call.result(seconds)
        except FutureTimeout:
            if call.done():
                raise  # it was the operation's own
            with circuit.lock:
                circuit.left_behind = (*circuit.left_behind, _LeftBehind(call, self._clock.monotonic()))
            raise TimeoutError(f"no answer within {seconds:g} s") from None
        circuit.has_answered = circuit.backend is not None
        return outcome

    def _outcome_of(self, operation: Callable[[Any], R], backend: Any) -> R:
        """Return what ``operation`` returns. Try once more, within its time, if its connection was lost.

        A firewall may have forgotten an idle connection, which only the next bytes on it show. A client drops
        a connection that failed, so the second try has a new one.
        """
        began = self._clock.monotonic()
        try:
            return operation(backend)
        except Exception as error:
            if not _has_lost_connection(error) or self._clock.monotonic() - began >= self.timeout:
                raise
        return operation(backend)

    def _backend(self, circuit: _Circuit) -> Any:
        """Return the backend, built by the first thread that asks; the others wait for it."""
        with circuit.lock:
            building, builds = circuit.building, circuit.building is None
            if building is None:
                building = circuit.building = Future()
        if builds:
            self._build_into(building, circuit)
        return building.result()

    def _build_into(self, building: Future[Any], circuit: _Circuit) -> None:
        try:
            backend = self._build()
        except BaseException as error:
            with circuit.lock:
                if circuit.building is building:
                    circuit.building = None  # the next call tries again
            building.set_exception(error)
            raise
        with circuit.lock:
            if circuit.building is building:
                circuit.backend = backend
                self._kind = None if backend is None else type(backend).__name__
        building.set_result(backend)

    def _note_failure(self, circuit: _Circuit, error: Exception, failures_before: int) -> None:
        with circuit.lock:
            if circuit.failures != failures_before:
                return  # calls that fail together are one failure
            circuit.failures += 1
            is_first = circuit.failures == 1
            backoff = min(_MAX_BACKOFF, _BACKOFF * 2.0 ** min(circuit.failures - 1, 4))
            circuit.open_until = self._clock.monotonic() + backoff
        if is_first:
            report(lambda: self._on_change(False, error))

    def _note_success(self, circuit: _Circuit) -> None:
        if circuit.failures == 0:
            return
        with circuit.lock:
            was_down, circuit.failures = circuit.failures > 0, 0
            circuit.open_until = float("-inf")
        if was_down:
            report(lambda: self._on_change(True, None))


def _has_lost_connection(error: BaseException) -> bool:
    """Return whether a connection was reset, or nothing came on it in time; clients wrap the cause."""
    return any(isinstance(each, _LOST) for each in causes_of(error))
