"""A cache that is down, hangs or does not exist costs its callers a limited time."""

from __future__ import annotations

import functools
import os
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from flask_m2m_cognito.remote.bounded_backend import (
    FIRST_CALL_TIMEOUT,
    LONGEST_CALL,
    BoundedBackend,
    StoreDown,
)
from tests.remote.moved import LONG, at_once, no_thread, threads, together
from tests.support.clocks import Clocks
from tests.support.forks import in_a_child, needs_fork

SOON = 0.1
"""Real seconds that a call may take in these tests."""


class Backend:
    """The part of a cachelib backend that these tests need."""

    def __init__(self) -> None:
        self.calls = 0
        self.error: Exception | None = None
        self.gate: threading.Event | None = None
        self._changed = threading.Condition()

    def get(self, key: str) -> str:
        with self._changed:
            self.calls += 1
            self._changed.notify_all()
        if self.gate is not None:
            assert self.gate.wait(LONG)
        if self.error is not None:
            raise self.error
        return f"the value of {key}"

    def wait_for_calls(self, calls: int) -> None:
        """Wait until so many calls have started."""
        with self._changed:
            assert self._changed.wait_for(lambda: self.calls >= calls, LONG)


@pytest.fixture
def backend() -> Backend:
    return Backend()


@pytest.fixture
def changes() -> list[tuple[bool, str]]:
    """The calls of ``on_change``: whether the backend works, and the error's class."""
    return []


Bound = Callable[..., BoundedBackend]


@pytest.fixture
def bound(backend: Backend, clocks: Clocks, changes: list[tuple[bool, str]]) -> Bound:
    def built(**arguments: Any) -> BoundedBackend:
        return BoundedBackend(
            **{
                "build": lambda: backend,
                "timeout": SOON,
                "on_change": lambda works, error: changes.append((works, type(error).__name__)),
                "clock": clocks.clock,
                "start_thread": at_once,
                **arguments,
            }
        )

    return built


def get(bounded: BoundedBackend) -> str:
    return bounded.call(lambda backend: str(backend.get("k")))


def fails(bounded: BoundedBackend) -> None:
    with pytest.raises(StoreDown):
        get(bounded)


def wait_at(gate: threading.Event, begun: threading.Event, backend: Backend) -> None:
    """Hang, as an operation."""
    begun.set()
    assert gate.wait(LONG)


@contextmanager
def hanging(backend: Backend) -> Iterator[threading.Event]:
    """Make calls of ``backend`` that start inside the block wait for the event, which is set at its end."""
    backend.gate = gate = threading.Event()
    try:
        yield gate
    finally:
        backend.gate = None
        gate.set()


class TestCalls:
    def test_call_returns_the_backends_value(self, bound: Bound) -> None:
        assert get(bound()) == "the value of k"

    def test_none_is_a_valid_value(self, bound: Bound) -> None:
        assert bound().call(lambda backend: None) is None

    def test_backend_is_built_once_at_the_first_call(self, bound: Bound, backend: Backend) -> None:
        built: list[Backend] = []

        def build() -> Backend:
            built.append(backend)
            return backend

        bounded = bound(build=build)
        assert built == []
        assert together(8, lambda: get(bounded)) == ["the value of k"] * 8
        assert built == [backend]

    def test_missing_backend_is_no_failure(self, bound: Bound, changes: list[tuple[bool, str]]) -> None:
        bounded = bound(build=lambda: None)
        fails(bounded)
        fails(bounded)
        assert bounded.works
        assert changes == []

    def test_failed_build_is_retried_after_the_backoff(
        self, bound: Bound, backend: Backend, clocks: Clocks
    ) -> None:
        problems = [ConnectionError()]

        def build() -> Backend:
            if problems:
                raise problems.pop()
            return backend

        bounded = bound(build=build)
        fails(bounded)
        fails(bounded)
        clocks.advance(30)
        assert get(bounded) == "the value of k"

    def test_caller_makes_the_call_if_no_thread_can_start(self, bound: Bound) -> None:
        assert get(bound(start_thread=no_thread)) == "the value of k"

    def test_text_of_the_backends_error_is_hidden(self, bound: Bound, backend: Backend) -> None:
        backend.error = ValueError("redis://:password@cache.example")
        with pytest.raises(StoreDown) as caught:
            get(bound())
        assert "password" not in str(caught.value)
        assert caught.value.__cause__ is None
        assert caught.value.__suppress_context__

    @pytest.mark.parametrize(
        ("error", "shown"),
        [
            (ValueError("redis://:password@cache.example"), "ValueError in "),
            (ConnectionRefusedError(111, "password"), "ConnectionRefusedError (Connection refused) in "),
            (TimeoutError("password"), "TimeoutError in "),
        ],
        ids=["any error", "an operating system error", "its own timeout"],
    )
    def test_failure_names_type_reason_and_line(
        self, bound: Bound, backend: Backend, error: Exception, shown: str
    ) -> None:
        backend.error = error
        with pytest.raises(StoreDown, match=re.escape(shown) + r"remote/test_bounded_backend\.py, line \d+$"):
            get(bound())

    def test_failure_names_the_missing_module(self, bound: Bound) -> None:
        def build() -> Backend:
            try:
                import no_such_client_of_a_cache  # type: ignore[import-not-found]  # noqa: F401
            except ImportError as missing:
                raise RuntimeError("no client, password") from missing
            raise AssertionError

        shown = r"RuntimeError \(the module no_such_client_of_a_cache is not installed\) in "
        with pytest.raises(StoreDown, match=shown):
            get(bound(build=build))

    @pytest.mark.parametrize(
        ("error", "calls"),
        [
            (ConnectionResetError(), 2),
            (BrokenPipeError(), 2),
            (TimeoutError(), 2),
            (ConnectionRefusedError(), 1),
            (PermissionError(), 1),
            (ValueError(), 1),
        ],
        ids=repr,
    )
    def test_call_on_a_lost_connection_is_retried_once(
        self, bound: Bound, backend: Backend, error: Exception, calls: int
    ) -> None:
        backend.error = error
        fails(bound())
        assert backend.calls == calls

    def test_call_is_not_retried_after_its_timeout(
        self, bound: Bound, backend: Backend, clocks: Clocks
    ) -> None:
        def time_out(backend: Backend) -> None:
            backend.calls += 1
            clocks.advance(SOON)
            raise TimeoutError

        with pytest.raises(StoreDown):
            bound().call(time_out)
        assert backend.calls == 1

    def test_aborted_call_is_a_failure(self, bound: Bound) -> None:
        def abort(backend: Backend) -> None:
            raise SystemExit

        with threads() as started, pytest.raises(StoreDown):
            bound(start_thread=started).call(abort)


class TestCircuit:
    def test_failure_starts_a_backoff_of_thirty_seconds(
        self, bound: Bound, backend: Backend, clocks: Clocks
    ) -> None:
        bounded = bound()
        backend.error = ConnectionError()
        fails(bounded)
        backend.error = None
        clocks.advance(29.9)
        fails(bounded)
        assert backend.calls == 1
        clocks.advance(0.1)
        assert get(bounded) == "the value of k"

    def test_backoff_doubles_to_five_minutes(self, bound: Bound, backend: Backend, clocks: Clocks) -> None:
        bounded = bound()
        backend.error = ConnectionError()
        fails(bounded)
        for failures, backoff in enumerate((30, 60, 120, 240, 300, 300), start=1):
            clocks.advance(backoff - 0.1)
            fails(bounded)
            assert backend.calls == failures
            clocks.advance(0.1)
            fails(bounded)
            assert backend.calls == failures + 1

    def test_success_resets_the_backoff(self, bound: Bound, backend: Backend, clocks: Clocks) -> None:
        bounded = bound()
        for backoff in (30, 60):
            backend.error = ConnectionError()
            fails(bounded)
            clocks.advance(backoff)
        backend.error = None
        get(bounded)
        backend.error = ConnectionError()
        fails(bounded)
        backend.error = None
        clocks.advance(30)
        assert get(bounded) == "the value of k"

    def test_simultaneous_failures_count_once(
        self, bound: Bound, backend: Backend, clocks: Clocks, changes: list[tuple[bool, str]]
    ) -> None:
        with threads() as started:
            bounded = bound(start_thread=started, timeout=LONG)
            get(bounded)
            backend.error = ConnectionError()
            with hanging(backend) as gate:
                for _ in range(8):
                    started(lambda: get(bounded))
                backend.wait_for_calls(9)
                gate.set()
                started.join()
        assert sum(isinstance(outcome, StoreDown) for outcome in started.outcomes) == 8
        assert changes == [(False, "ConnectionError")]
        backend.error = None
        clocks.advance(30)
        assert get(bounded) == "the value of k"

    def test_one_call_tests_the_backend_after_the_backoff(
        self, bound: Bound, backend: Backend, clocks: Clocks
    ) -> None:
        with threads() as started:
            bounded = bound(start_thread=started, timeout=LONG)
            backend.error = ConnectionError()
            fails(bounded)
            backend.error = None
            clocks.advance(30)
            with hanging(backend) as gate:
                started(lambda: get(bounded))
                backend.wait_for_calls(2)
                for _ in range(4):
                    fails(bounded)
                assert backend.calls == 2
                gate.set()
                started.join()
            assert get(bounded) == "the value of k"

    def test_success_after_a_simultaneous_failure_is_a_recovery(
        self, bound: Bound, backend: Backend, changes: list[tuple[bool, str]]
    ) -> None:
        with threads() as started:
            bounded = bound(start_thread=started, timeout=LONG)
            get(bounded)
            with hanging(backend) as gate:
                started(lambda: get(bounded))
                backend.wait_for_calls(2)
                with pytest.raises(StoreDown):
                    bounded.call(lambda backend: 1 / 0)
                gate.set()
                started.join()
            assert bounded.works
            assert get(bounded) == "the value of k"
        assert changes == [(False, "ZeroDivisionError"), (True, "NoneType")]

    def test_failure_and_recovery_are_reported_once(
        self, bound: Bound, backend: Backend, clocks: Clocks, changes: list[tuple[bool, str]]
    ) -> None:
        bounded = bound()
        get(bounded)
        backend.error = ConnectionError()
        for _ in range(4):
            fails(bounded)
            clocks.advance(300)
        assert (bounded.works, changes) == (False, [(False, "ConnectionError")])
        backend.error = None
        get(bounded)
        get(bounded)
        assert (bounded.works, changes) == (True, [(False, "ConnectionError"), (True, "NoneType")])


class TestHanging:
    def test_hanging_call_is_abandoned_at_the_timeout(
        self, bound: Bound, backend: Backend, changes: list[tuple[bool, str]]
    ) -> None:
        with threads() as started:
            bounded = bound(start_thread=started)
            get(bounded)
            with hanging(backend):
                began = time.monotonic()
                with pytest.raises(StoreDown, match=rf"^timed out after {SOON:g} s$"):
                    get(bounded)
                assert SOON <= time.monotonic() - began < FIRST_CALL_TIMEOUT
                assert changes == [(False, "TimeoutError")]

    def test_first_call_times_out_after_two_seconds(self, bound: Bound, backend: Backend) -> None:
        with threads() as started, hanging(backend):
            began = time.monotonic()
            fails(bound(start_thread=started))
            assert FIRST_CALL_TIMEOUT <= time.monotonic() - began < 2 * FIRST_CALL_TIMEOUT

    def test_building_and_first_call_share_two_seconds(
        self, bound: Bound, backend: Backend, clocks: Clocks, changes: list[tuple[bool, str]]
    ) -> None:
        go_on = threading.Event()

        def build() -> Backend:
            assert go_on.wait(LONG)
            return backend

        with threads() as started:
            bounded = bound(build=build, start_thread=started)
            began = time.monotonic()
            fails(bounded)
            assert FIRST_CALL_TIMEOUT <= time.monotonic() - began < 2 * FIRST_CALL_TIMEOUT
            fails(bounded)
            assert time.monotonic() - began < 2 * FIRST_CALL_TIMEOUT
            assert changes == [(False, "TimeoutError")]
            go_on.set()
            started.join()
            clocks.advance(30)
            assert get(bounded) == "the value of k"
            assert (len(started.threads), changes[1:]) == (2, [(True, "NoneType")])

    def test_calls_during_building_share_one_backend(self, bound: Bound, backend: Backend) -> None:
        builds: list[Backend] = []
        building, go_on = threading.Event(), threading.Event()

        def build() -> Backend:
            builds.append(backend)
            building.set()
            assert go_on.wait(LONG)
            return backend

        with threads() as started, threads() as callers:
            bounded = bound(build=build, start_thread=started)
            for _ in range(3):
                callers(lambda: get(bounded))
            assert building.wait(LONG)
            assert bounded.works  # which does not need the lock of building
            go_on.set()
        assert callers.outcomes == ["the value of k"] * 3
        assert len(builds) == 1

    def test_building_that_never_returns_is_tried_again(
        self, bound: Bound, backend: Backend, clocks: Clocks
    ) -> None:
        never = threading.Event()
        builds: list[int] = []

        def build() -> Backend:
            builds.append(1)
            if len(builds) == 1:
                assert never.wait(LONG)
                return Backend()
            return backend

        with threads() as started:
            bounded = bound(build=build, start_thread=started)
            fails(bounded)
            clocks.advance(LONGEST_CALL - 1)
            fails(bounded)
            assert len(builds) == 1
            clocks.advance(1)
            assert (get(bounded), backend.calls) == ("the value of k", 1)
            never.set()
            started.join()
            assert (get(bounded), backend.calls) == ("the value of k", 2)

    def test_hanging_call_stops_blocking_others_after_a_limit(
        self, bound: Bound, backend: Backend, clocks: Clocks
    ) -> None:
        with threads() as started:
            bounded = bound(start_thread=started)
            get(bounded)
            with hanging(backend):
                fails(bounded)
                for _ in range(5):
                    clocks.advance(LONGEST_CALL / 5 - 1)
                    fails(bounded)
                assert (backend.calls, len(started.threads)) == (2, 2)
                backend.gate = None
                clocks.advance(5)
                assert get(bounded) == "the value of k"

    @pytest.mark.parametrize("ended", [0, 1], ids=["the first", "the second"])
    def test_no_call_starts_while_one_of_two_still_hangs(
        self, bound: Bound, clocks: Clocks, ended: int
    ) -> None:
        with threads() as started:
            bounded = bound(start_thread=started, timeout=5 * SOON)
            get(bounded)
            gates = [threading.Event(), threading.Event()]
            with threads() as callers:
                for gate in gates:
                    begun = threading.Event()
                    callers(functools.partial(bounded.call, functools.partial(wait_at, gate, begun)))
                    assert begun.wait(LONG)
            assert [type(outcome) for outcome in callers.outcomes] == [StoreDown, StoreDown]
            gates[ended].set()
            started.threads[1 + ended].join(LONG)
            clocks.advance(60)
            fails(bounded)  # one still hangs
            gates[1 - ended].set()
            started.join()
            assert get(bounded) == "the value of k"

    def test_next_call_starts_when_the_hanging_one_returns(
        self, bound: Bound, backend: Backend, clocks: Clocks
    ) -> None:
        with threads() as started:
            bounded = bound(start_thread=started)
            get(bounded)
            with hanging(backend) as gate:
                fails(bounded)
                gate.set()
                started.join()
            fails(bounded)  # the backoff is not over
            clocks.advance(30)
            assert get(bounded) == "the value of k"


@needs_fork
class TestFork:
    def test_forked_child_starts_without_a_backoff(self, bound: Bound, backend: Backend) -> None:
        bounded = bound()
        backend.error = ConnectionError()
        fails(bounded)
        backend.error = None
        assert in_a_child(lambda: get(bounded)) == "the value of k"
        fails(bounded)

    def test_forked_child_knows_the_kind_before_its_first_call(self, bound: Bound) -> None:
        bounded = bound()
        get(bounded)
        assert in_a_child(lambda: str(bounded.kind)) == bounded.kind

    def test_child_forked_during_a_hanging_call_does_not_wait(self, bound: Bound, backend: Backend) -> None:
        with threads() as started:
            bounded = bound(start_thread=started)
            get(bounded)
            with hanging(backend):
                fails(bounded)
                backend.gate = None
                assert in_a_child(lambda: get(bounded)) == "the value of k"

    def test_child_forked_during_building_builds_its_own(self, bound: Bound, backend: Backend) -> None:
        building, go_on, parent = threading.Event(), threading.Event(), os.getpid()

        def build() -> Backend:
            if os.getpid() == parent:
                building.set()
                assert go_on.wait(LONG)
            return backend

        with threads() as started:
            bounded = bound(build=build)
            started(lambda: get(bounded))
            assert building.wait(LONG)
            assert in_a_child(lambda: get(bounded)) == "the value of k"
            go_on.set()
