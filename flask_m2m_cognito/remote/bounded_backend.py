"""Call a cachelib backend with a time limit, even if it is slow, down or hanging.

Some clients connect when they are built (a Redis cluster), and a plain Flask-Caching Redis that accepts a
connection and never answers blocks one ``get`` for 59 s. So the backend is built and called on a thread that
can be abandoned. After a failure no call is made for a backoff of 30 s, doubling to 5 min.
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
from .reports import hold_reports, report, send_reports
from .threads import PerProcess, start_daemon

R = TypeVar("R")

FIRST_CALL_TIMEOUT = 2.0
"""Seconds for building the backend and its first call together.

With 0.25 s, half of the cold starts of a fleet timed out."""

LONGEST_CALL = 300.0
"""Seconds for which a call that does not return prevents other calls."""

_LOST_CONNECTION = (ConnectionResetError, ConnectionAbortedError, BrokenPipeError, TimeoutError)
_MOST_HANGING = 2
_BACKOFF = 30.0
_MAX_BACKOFF = 300.0


class StoreDown(Exception):
    """The backend failed, or is not called during a backoff."""


@dataclass(frozen=True)
class _AbandonedCall:
    """A call that timed out and may still be running."""

    call: Future[Any]
    at: float


@dataclass
class _Circuit:
    """A circuit breaker: what one process knows about the backend."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    building: Future[Any] | None = None  # guarded by lock
    backend: Any = None  # set when it is built
    has_answered: bool = False
    failures: int = 0  # guarded by lock
    open_until: float = float("-inf")  # guarded by lock
    abandoned: tuple[_AbandonedCall, ...] = ()  # guarded by lock


class BoundedBackend:
    """Call a backend, each time for at most ``timeout`` seconds.

    Args:
        build: returns the cachelib backend, or ``None`` for no store. Called at first use, on the thread of
            the first call and outside locks.
        is_configured: returns from memory whether there is a backend. Without one nothing is stored.
        import_client: imports what building needs, see :meth:`SealedStore.import_all`.
        timeout: seconds that one call may take. Building and the first call together may take 2 s.
        context: entered around building and each call, on their thread. An application context, because the
            application's code may run there, such as a callable key prefix.
        on_change: called with ``(works, error)`` when the backend fails and when it has recovered, see
            :func:`report`.
        clock, start_thread: the clock, and how to start a thread.
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
        self._kind: str | None = None  # a forked child knows it before its own first call

    @property
    def works(self) -> bool:
        """Whether the last call succeeded."""
        return self._circuit.get().failures == 0

    @property
    def kind(self) -> str | None:
        """The backend's class, such as ``RedisCache``; ``None`` before its first use, or without one."""
        return self._kind

    @property
    def is_in_process(self) -> bool:
        """Whether each process has a backend of its own."""
        return self.kind in ("SimpleCache", "NullCache")

    def call(self, operation: Callable[[Any], R], *, insists: bool = False) -> R:
        """Return what ``operation`` returns for the backend.

        Args:
            insists: call it during a backoff, too, and while up to two calls hang.

        Raises:
            StoreDown: there is no backend, it failed, it timed out, or a backoff is in progress.
        """
        circuit = self._circuit.get()
        failures = self._failures_before_a_call(circuit, insists)
        try:
            outcome = self._call_bounded(circuit, operation)
        except Exception as error:
            self._note_failure(circuit, error, failures)
            raise StoreDown(describe_error(error)) from None
        if outcome is None:
            raise StoreDown("there is none")
        self._note_success(circuit)
        return outcome[0]

    def _failures_before_a_call(self, circuit: _Circuit, insists: bool) -> int:
        with circuit.lock:
            now = self._clock.monotonic()
            hanging = [each for each in circuit.abandoned if not each.call.done()]
            circuit.abandoned = tuple(each for each in hanging if now < each.at + LONGEST_CALL)
            if hanging and not circuit.abandoned and circuit.backend is None:
                circuit.building = None  # building never returned: build another one
            # While an abandoned call still hangs, no other call is made: each would cost a thread.
            is_open = now < circuit.open_until or bool(circuit.abandoned)
            if len(circuit.abandoned) > _MOST_HANGING if insists else is_open:
                raise StoreDown("backing off after a failure")
            if circuit.failures:
                # This call tests whether the backend has recovered. The others go without it in the meantime.
                circuit.open_until = now + _BACKOFF
            return circuit.failures

    def _call_bounded(self, circuit: _Circuit, operation: Callable[[Any], R]) -> tuple[R] | None:
        call: Future[tuple[R] | None] = Future()

        def run() -> None:
            with hold_reports() as reports:
                try:
                    with self._context():
                        backend = self._backend(circuit)
                        outcome = None if backend is None else (self._call_with_retry(operation, backend),)
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
                raise  # the operation itself raised it
            with circuit.lock:
                circuit.abandoned = (*circuit.abandoned, _AbandonedCall(call, self._clock.monotonic()))
            raise TimeoutError(f"timed out after {seconds:g} s") from None
        circuit.has_answered = circuit.backend is not None
        return outcome

    def _call_with_retry(self, operation: Callable[[Any], R], backend: Any) -> R:
        """Return what ``operation`` returns. If its connection was lost, retry once within its time.

        A firewall may have forgotten an idle connection, which the client notices only when it sends the next
        bytes. The client drops a connection that failed, so the retry uses a new one.
        """
        began = self._clock.monotonic()
        try:
            return operation(backend)
        except Exception as error:
            if not _has_lost_connection(error) or self._clock.monotonic() - began >= self.timeout:
                raise
        return operation(backend)

    def _backend(self, circuit: _Circuit) -> Any:
        """Return the backend. The first thread builds it, and the others wait."""
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
                return  # calls that fail at the same time count as one failure
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
    """Return whether a connection was reset or timed out. Clients wrap that error in their own."""
    return any(isinstance(each, _LOST_CONNECTION) for each in causes_of(error))
