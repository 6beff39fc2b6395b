"""Threads, processes and errors of ``Refreshable``. The scenarios test what happens as time passes."""

from __future__ import annotations

import asyncio
import gc
import itertools
import os
import threading
import time
import traceback
import weakref
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from typing import Any

import pytest

from flask_m2m_cognito.remote.clock import Clock
from flask_m2m_cognito.remote.refreshable import (
    Ask,
    Fetch,
    Fetched,
    Refreshable,
    Refreshed,
    RefreshFailed,
    Refreshing,
    RefreshTimeout,
)
from flask_m2m_cognito.remote.reports import Note, report, unobserved
from flask_m2m_cognito.remote.threads import ForeignError, start_daemon
from tests.remote.conftest import Build
from tests.remote.moved import (
    DEADLINE,
    FRESH_FOR,
    LONG,
    USABLE_FOR,
    Source,
    SourceDown,
    Unavailable,
    at_once,
    error_of,
    held,
    no_thread,
    threads,
    together,
)
from tests.support.clocks import Clocks
from tests.support.forks import in_a_child, needs_fork
from tests.support.settling import REFRESH_THREAD, settle

SOON = 0.2
"""Real seconds for which a test makes a caller wait for a hanging source."""


@pytest.fixture
def traced(source: Source) -> Fetch[str]:
    """A fetch in which a tracer raises on every thread except those of callers."""

    def fetch(ask: Ask[str]) -> Fetched[str]:
        if threading.current_thread().name == REFRESH_THREAD:
            raise SourceDown("no segment") from ForeignError("no segment")
        return source(ask)

    return fetch


class TestForeignErrors:
    """Code around requests raises on the library's threads. Only a fetch on a caller's thread succeeds."""

    def test_caller_without_a_value_fetches_on_its_own_thread(self, build: Build, traced: Fetch[str]) -> None:
        assert build(fetch=traced, start_thread=start_daemon).get() == "v1"

    def test_crowd_makes_one_fetch_on_a_callers_thread(
        self, build: Build, traced: Fetch[str], source: Source
    ) -> None:
        refreshable = build(fetch=traced, start_thread=start_daemon)
        assert together(8, refreshable.get) == ["v1"] * 8
        assert source.fetches == 1

    @pytest.mark.parametrize(
        "ask", [lambda each: each.renew("v1"), lambda each: each.refresh()], ids=["renew", "refresh"]
    )
    def test_newer_value_is_fetched_on_the_callers_thread(
        self, build: Build, traced: Fetch[str], ask: Callable[[Refreshable[str]], str]
    ) -> None:
        refreshable = build(fetch=traced, start_thread=start_daemon)
        refreshable.get()
        assert ask(refreshable) == "v2"

    def test_next_caller_repeats_a_failed_background_renewal(
        self, build: Build, traced: Fetch[str], clocks: Clocks
    ) -> None:
        refreshable = build(fetch=traced, start_thread=start_daemon)
        refreshable.get()
        clocks.advance(FRESH_FOR)
        assert refreshable.get() == "v1"
        settle()
        assert refreshable.get() == "v2"

    def test_event_loop_thread_does_not_fetch(self, build: Build, traced: Fetch[str], clocks: Clocks) -> None:
        fetched_on: list[threading.Thread] = []

        def fetch(ask: Ask[str]) -> Fetched[str]:
            fetched_on.append(threading.current_thread())
            return traced(ask)

        refreshable = build(fetch=fetch, start_thread=start_daemon)
        refreshable.get()
        clocks.advance(FRESH_FOR)
        refreshable.get()
        settle()
        asyncio.run(refreshable.get_async())
        assert len(fetched_on) > 1
        assert threading.current_thread() is not fetched_on[-1]

    def test_failure_on_the_callers_thread_starts_a_backoff(self, build: Build, source: Source) -> None:
        source.error = SourceDown("no segment")
        source.error.__cause__ = ForeignError("no segment")
        refreshable = build(start_thread=start_daemon)
        assert [str(error_of(refreshable.get)) for _ in range(3)] == ["unavailable: no segment"] * 3
        with pytest.raises(Unavailable):
            refreshable.refresh()
        assert source.fetches == 2


class TestThreads:
    def test_eight_threads_make_one_cold_fetch(self, build: Build, source: Source) -> None:
        refreshable = build(start_thread=start_daemon)
        assert together(8, refreshable.get) == ["v1"] * 8
        assert source.fetches == 1

    def test_all_waiting_threads_get_the_error(self, build: Build, source: Source) -> None:
        source.error = SourceDown("no route")
        refreshable = build(start_thread=start_daemon)
        errors = together(8, refreshable.get)
        assert [str(error) for error in errors] == ["unavailable: no route"] * 8
        assert source.fetches == 1

    def test_eight_refusals_of_one_value_make_one_fetch(self, build: Build, source: Source) -> None:
        refreshable = build(start_thread=start_daemon)
        refreshable.get()
        assert together(8, lambda: refreshable.renew("v1")) == ["v2"] * 8
        assert source.fetches == 2

    def test_threads_with_a_usable_value_do_not_wait_for_the_fetch(
        self, build: Build, source: Source, clocks: Clocks
    ) -> None:
        with threads() as behind:
            refreshable = build(start_thread=lambda run: at_once(run) if source.fetches == 0 else behind(run))
            refreshable.get()
            clocks.advance(100)
            gate = source.hang()
            assert together(8, refreshable.get) == ["v1"] * 8
            source.wait_until_called()
            assert source.fetches == 2
            gate.set()
        assert held(refreshable) == "v2"

    def test_refusal_during_a_fetch_waits_for_its_value(
        self, build: Build, source: Source, clocks: Clocks
    ) -> None:
        with threads() as started:
            refreshable = build(
                start_thread=lambda run: at_once(run) if source.fetches == 0 else started(run)
            )
            refreshable.get()
            clocks.advance(100)
            gate = source.hang()
            assert refreshable.get() == "v1"
            source.wait_until_called()
            started(lambda: refreshable.renew("v1"))
            gate.set()
        assert "v2" in started.outcomes
        assert source.fetches == 2

    def test_second_fetch_follows_if_the_first_value_is_refused(
        self, build: Build, source: Source, clocks: Clocks
    ) -> None:
        with threads() as started:
            refreshable = build(
                start_thread=lambda run: at_once(run) if source.fetches == 0 else started(run)
            )
            refreshable.get()
            clocks.advance(100)
            source.repeats = "v1"
            gate = source.hang()
            assert refreshable.get() == "v1"
            source.wait_until_called()
            source.repeats = None
            source.answer()
            started(lambda: refreshable.renew("v1"))
            gate.set()
        # The value is different, whether the refusal came during the fetch or after it.
        assert refreshable.get() == "v3"
        assert source.fetches == 3

    def test_late_caller_waits_only_until_the_fetchs_deadline(
        self, build: Build, source: Source, clocks: Clocks
    ) -> None:
        gate = source.hang()
        with threads() as started:
            refreshable = build(start_thread=started)
            started(refreshable.get)
            source.wait_until_called()
            clocks.advance(10)  # its deadline has passed, while the first caller still waits in real time
            with pytest.raises(Unavailable):
                refreshable.get()
            gate.set()

    @pytest.mark.parametrize("error", [RuntimeError("can't start new thread"), OSError("no more processes")])
    def test_caller_fetches_if_no_thread_can_start(
        self, build: Build, source: Source, clocks: Clocks, error: Exception
    ) -> None:
        def start(run: Callable[[], None]) -> None:
            raise error

        refreshable = build(start_thread=start)
        assert refreshable.get() == "v1"
        clocks.advance(100)
        assert refreshable.get() == "v2"
        assert refreshable.renew("v2") == "v3"

    def test_no_thread_lives_between_refreshes(self, build: Build, clocks: Clocks) -> None:
        with threads() as started:
            refreshable = build(start_thread=started)
            refreshable.get()
            started.join()
            clocks.advance(100)
            refreshable.get()
        assert len(started.threads) == 2

    def test_usable_value_takes_no_lock_during_a_backoff(
        self, build: Build, source: Source, clocks: Clocks
    ) -> None:
        refreshable = build(start_thread=at_once, jitter=lambda: 0.0)
        refreshable.get()
        clocks.advance(FRESH_FOR)
        source.error = SourceDown()
        for backoff in (1.0, 2.0):
            assert refreshable.get() == "v1"
            failed = source.fetches
            clocks.advance(backoff - 0.01)
            with pytest.MonkeyPatch.context() as patched:
                patched.setattr(os, "getpid", lambda: pytest.fail("a lock was taken"))
                assert refreshable.get() == "v1"
            assert source.fetches == failed
            clocks.advance(0.01)
        source.error = None
        assert refreshable.get() == f"v{source.fetches}" != "v1"

    @pytest.mark.parametrize("clock", ["wall_now", "monotonic_now"])
    def test_value_expires_during_a_backoff_by_either_clock(
        self, build: Build, source: Source, clocks: Clocks, clock: str
    ) -> None:
        refreshable = build(start_thread=at_once)
        refreshable.get()
        clocks.advance(USABLE_FOR - 0.1)
        source.error = SourceDown(retry_after=3600)
        assert refreshable.get() == "v1"
        setattr(clocks, clock, getattr(clocks, clock) + 0.2)
        with pytest.raises(Unavailable):
            refreshable.get()

    def test_value_forgotten_during_a_backoff_is_replaced_after_it(
        self, build: Build, source: Source, clocks: Clocks
    ) -> None:
        refreshable = build(start_thread=at_once, cooldown=0.0, jitter=lambda: 0.0)
        refreshable.get()
        clocks.advance(FRESH_FOR)
        source.error = SourceDown()
        assert refreshable.get() == "v1"
        source.error = None
        clocks.advance(1.0)
        refreshable.forget("v1")
        assert refreshable.get() == f"v{source.fetches}" != "v1"

    def test_fresh_value_takes_one_read_of_each_clock(self, build: Build, clocks: Clocks) -> None:
        reads: list[str] = []
        clock = Clock(
            lambda: reads.append("wall") or clocks.wall(),  # type: ignore[func-returns-value]
            lambda: reads.append("monotonic") or clocks.monotonic(),  # type: ignore[func-returns-value]
        )
        refreshable = build(clock=clock)
        refreshable.get()
        reads.clear()
        refreshable.get()
        assert sorted(reads) == ["monotonic", "wall"]

    def test_aborted_fetch_releases_waiters_and_raises(self, build: Build, clocks: Clocks) -> None:
        def fetch(ask: Ask[str]) -> Fetched[str]:
            raise SystemExit(1)

        refreshable = build(fetch=fetch, in_background=False)
        with pytest.raises(SystemExit):
            refreshable.get()
        assert str(error_of(refreshable.get).cause) == "the fetch was aborted"


class TestLateAnswers:
    def test_late_answer_does_not_start_a_third_fetch(
        self, build: Build, source: Source, clocks: Clocks
    ) -> None:
        source.error = SourceDown()  # so that there is no value
        first = source.hang()
        with threads() as started:
            refreshable = build(start_thread=started, deadline=SOON)
            error_of(refreshable.get)
            clocks.advance(1)
            second = source.hang()
            started(refreshable.get)
            source.wait_until_called()
            first.set()
            started.threads[0].join(LONG)
            error_of(refreshable.get)
            assert source.fetches == 2
            second.set()


def _never(value: object) -> bool:
    return False


class TestSince:
    """``renew_for(…, since)``: a value that was fetched after that moment is final."""

    def test_cold_download_is_final_for_its_caller(
        self, build: Build, source: Source, clocks: Clocks
    ) -> None:
        refreshable = build()
        since = clocks.monotonic()
        refreshable.get()
        assert refreshable.renew_for(_never, since=since) == "v1"
        assert source.fetches == 1

    def test_older_value_is_replaced(self, build: Build, source: Source, clocks: Clocks) -> None:
        refreshable = build()
        refreshable.get()
        clocks.advance(1)
        assert refreshable.renew_for(_never, since=clocks.monotonic()) == "v2"

    def test_same_value_is_not_fetched_twice(self, build: Build, source: Source, clocks: Clocks) -> None:
        refreshable = build(cooldown=0)
        refreshable.get()
        source.repeats = "v1"
        clocks.advance(1)
        assert refreshable.renew_for(_never, since=clocks.monotonic()) == "v1"
        assert source.fetches == 2

    def test_value_of_another_process_is_not_final(self, build: Build, source: Source) -> None:
        stored = []

        def fetch(ask: Ask[str]) -> Fetched[str]:
            fetched = source(ask)
            stored.append(fetched.value)
            return replace(fetched, source="store") if len(stored) == 1 else fetched

        refreshable = build(fetch=fetch)
        refreshable.get()
        assert refreshable.renew_for(lambda value: value == "v9", since=0) == "v2"
        assert refreshable.renew_for(lambda value: value == "v9", since=0) == "v2"
        assert source.fetches == 2


class TestPatience:
    """``renew_for(…, patience)``: callers wait for a fetch only until it has that age."""

    def test_caller_stops_waiting_after_its_patience(self, build: Build, source: Source) -> None:
        with threads() as started:
            refreshable = build(start_thread=started, deadline=LONG)
            refreshable.get()
            gate = source.hang()
            error = error_of(lambda: refreshable.renew_for(_never, patience=SOON))
            assert isinstance(error.__cause__ or error.cause, RefreshTimeout)
            assert error.retry_in == 1
            assert refreshable.get() == "v1"
            gate.set()
            started.join()
            assert refreshable.get() == "v2"

    def test_caller_does_not_wait_for_an_old_fetch(
        self, build: Build, source: Source, clocks: Clocks
    ) -> None:
        with threads() as started:
            refreshable = build(start_thread=started, deadline=LONG)
            refreshable.get()
            gate = source.hang()
            clocks.advance(FRESH_FOR)
            assert refreshable.get() == "v1"  # and starts a renewal
            source.wait_until_called()
            clocks.advance(5)
            began = time.monotonic()
            error_of(lambda: refreshable.renew_for(_never, patience=5))
            assert time.monotonic() - began < 5
            gate.set()

    def test_fetch_that_finishes_in_time_returns_its_value(self, build: Build, source: Source) -> None:
        with threads() as started:
            refreshable = build(start_thread=started, deadline=LONG)
            refreshable.get()
            assert refreshable.renew_for(lambda value: value == "v2", patience=LONG) == "v2"

    def test_caller_without_a_value_waits_despite_patience(self, build: Build, source: Source) -> None:
        gate = source.hang()
        with threads() as started, threads() as callers:
            refreshable = build(start_thread=started, deadline=LONG)
            callers(lambda: refreshable.renew_for(_never, patience=0))
            source.wait_until_called()
            gate.set()
        assert callers.outcomes == ["v1"]


class TestErrors:
    def test_each_caller_gets_its_own_error_with_the_cause(self, build: Build, source: Source) -> None:
        source.error = SourceDown()
        refreshable = build()
        first, second = (error_of(refreshable.get) for _ in range(2))
        assert first is not second
        assert first.__cause__ is second.__cause__ is source.error

    def test_error_holds_the_backoff_left(self, build: Build, source: Source, clocks: Clocks) -> None:
        source.error = SourceDown(retry_after=20)
        refreshable = build()
        assert error_of(refreshable.get).retry_in == 20
        clocks.advance(15)
        assert error_of(refreshable.get).retry_in == pytest.approx(5)

    def test_shared_cause_does_not_grow_with_each_caller(self, build: Build, source: Source) -> None:
        source.error = SourceDown()
        refreshable = build()
        lengths = {len(traceback.format_exception(error_of(refreshable.get))) for _ in range(5)}
        assert len(lengths) == 1

    def test_stored_cause_holds_no_frames(self, build: Build, source: Source) -> None:
        class Large:
            """A local variable of a fetch that failed."""

        seen: list[weakref.ref[Large]] = []

        def fetch(ask: Ask[str]) -> Fetched[str]:
            large = Large()
            seen.append(weakref.ref(large))
            raise SourceDown

        refreshable = build(fetch=fetch)
        with pytest.raises(Unavailable) as caught:
            refreshable.get()
        assert caught.value.__cause__ is not None
        assert caught.value.__cause__.__traceback__ is None
        del caught
        gc.collect()
        assert seen[0]() is None

    def test_abandoned_fetch_has_a_timeout_as_its_cause(self, build: Build, source: Source) -> None:
        gate = source.hang()
        with threads() as started:
            refreshable = build(start_thread=started, deadline=SOON)
            error = error_of(refreshable.get)
            assert isinstance(error.__cause__, RefreshTimeout)
            gate.set()

    def test_value_that_expires_during_the_wait_is_an_error(
        self, build: Build, source: Source, clocks: Clocks
    ) -> None:
        def start(run: Callable[[], None]) -> None:
            run()
            clocks.advance(1000)

        refreshable = build(start_thread=start)
        error = error_of(refreshable.get)
        assert isinstance(error.__cause__, RefreshTimeout)

    def test_value_is_in_no_repr_and_no_snapshot(self, build: Build) -> None:
        refreshable = build()
        refreshable.get()
        assert "v1" not in f"{refreshable.state!r} {refreshable.state.fetched!r} {refreshable.snapshot()!r}"


class TestBackoff:
    @pytest.mark.parametrize(
        ("jitter", "backoff"),
        [
            pytest.param(0.0, 1.0, id="no jitter"),
            pytest.param(0.5, 0.75, id="half"),
            pytest.param(1.0, 0.5, id="the most jitter"),
        ],
    )
    def test_jitter_removes_up_to_half_of_the_backoff(
        self, build: Build, source: Source, jitter: float, backoff: float
    ) -> None:
        source.error = SourceDown()
        refreshable = build(jitter=lambda: jitter)
        assert error_of(refreshable.get).retry_in == pytest.approx(backoff)

    def test_jitter_does_not_shorten_retry_after(self, build: Build, source: Source) -> None:
        source.error = SourceDown(retry_after=40)
        refreshable = build(jitter=lambda: 1.0)
        assert error_of(refreshable.get).retry_in == pytest.approx(40)

    @pytest.mark.parametrize("timeouts", [1, 3])
    def test_background_timeouts_cause_no_backoff_without_a_value(
        self, build: Build, source: Source, clocks: Clocks, timeouts: int
    ) -> None:
        held: list[Callable[[], None]] = []
        is_frozen = False
        refreshable = build(start_thread=lambda run: held.append(run) if is_frozen else run())
        refreshable.get()
        lead = (timeouts - 1) * (DEADLINE + 60) + DEADLINE + 0.1
        clocks.advance(refreshable.state.usable_wall - clocks.wall() - lead)
        is_frozen = True
        for attempt in range(timeouts):
            clocks.advance(60 if attempt else 0)
            refreshable.get()
            clocks.advance(DEADLINE)
            refreshable.get()  # abandons the attempt
        clocks.advance(0.1)
        is_frozen = False
        fetches = source.fetches
        assert refreshable.get().startswith("v")
        assert (len(held), source.fetches) == (timeouts, fetches + 1)

    def test_failure_after_a_background_timeout_backs_off(
        self, build: Build, source: Source, clocks: Clocks
    ) -> None:
        held: list[Callable[[], None]] = []

        def start(run: Callable[[], None]) -> None:
            run() if source.error or not source.fetches else held.append(run)

        refreshable = build(start_thread=start)
        refreshable.get()
        clocks.advance(refreshable.state.usable_wall - clocks.wall() - DEADLINE - 0.1)
        refreshable.get()
        clocks.advance(DEADLINE)
        refreshable.get()
        source.error = SourceDown()
        clocks.advance(0.1)
        assert error_of(refreshable.get).retry_in > 0
        fetches = source.fetches
        error_of(refreshable.get)
        assert source.fetches == fetches


class TestObserver:
    def test_observer_receives_the_outcome_of_each_fetch(
        self, build: Build, source: Source, clocks: Clocks
    ) -> None:
        events: list[Refreshed[str] | RefreshFailed] = []
        refreshable = build(ended=events.append)
        source.error = SourceDown()
        for _ in range(3):
            error_of(refreshable.get)
            clocks.advance(2)
        source.error = None
        clocks.advance(60)
        refreshable.get()
        clocks.advance(100)
        refreshable.get()
        failures = [event for event in events if isinstance(event, RefreshFailed)]
        successes = [event for event in events if isinstance(event, Refreshed)]
        assert [(event.count, event.has_value) for event in failures] == [(1, False), (2, False), (3, False)]
        assert [event.retry_in for event in failures] == [1, 2, 4]
        assert [event.recovered for event in successes] == [True, False]
        assert [event.fetched.value for event in successes] == ["v4", "v5"]

    def test_observer_receives_background_failures(
        self, build: Build, source: Source, clocks: Clocks
    ) -> None:
        events: list[Refreshed[str] | RefreshFailed] = []
        refreshable = build(ended=events.append)
        refreshable.get()
        clocks.advance(100)
        source.error = SourceDown(retry_after=300)
        refreshable.get()
        failed = events[-1]
        assert isinstance(failed, RefreshFailed)
        assert (failed.has_value, failed.retry_in, failed.error) == (True, 300, source.error)

    def test_observer_is_called_outside_locks(self, build: Build) -> None:
        def observe(event: object) -> None:
            with threads() as others:
                others(refreshable.get)
                others(lambda: refreshable.forget("v0"))

        refreshable = build(ended=observe)
        assert refreshable.get() == "v1"

    def test_waiters_are_released_before_it_is_called(self, build: Build, clocks: Clocks) -> None:
        go_on = threading.Event()

        def observe(event: object) -> None:
            assert go_on.wait(LONG)

        with threads() as started:
            refreshable = build(ended=observe, start_thread=started, deadline=LONG)
            assert refreshable.get() == "v1"
            clocks.advance(USABLE_FOR)
            assert refreshable.get() == "v2"  # although the observer of the first still runs
            go_on.set()

    def test_observer_may_get_the_value(self, build: Build, source: Source, clocks: Clocks) -> None:
        seen: list[object] = []

        def observe(event: Refreshed[str] | RefreshFailed) -> None:
            if isinstance(event, RefreshFailed):
                source.error = None
                clocks.advance(10)
                seen.append(refreshable.get())

        source.error = SourceDown()
        refreshable = build(ended=observe)
        assert refreshable.get() == "v2"
        assert seen == ["v2"]

    def test_caller_that_times_out_does_not_wait_for_the_observer(self, build: Build, source: Source) -> None:
        gate, go_on = source.hang(), threading.Event()
        received: list[object] = []

        def observe(event: object) -> None:
            received.append(event)
            assert go_on.wait(LONG)

        with threads() as started:
            refreshable = build(ended=observe, start_thread=started, deadline=SOON)
            error_of(refreshable.get)
            go_on.set()
            gate.set()
        assert [type(event) for event in received][:1] == [RefreshFailed]

    def test_reports_of_a_fetch_come_before_its_outcome(self, build: Build, source: Source) -> None:
        received: list[str] = []

        def fetch(ask: Ask[str]) -> Fetched[str]:
            report(lambda: received.append("report"))
            assert received == []
            return source(ask)

        refreshable = build(fetch=fetch, ended=lambda event: received.append("end"))
        refreshable.get()
        assert received == ["report", "end"]
        report(lambda: received.append("at once"))
        assert received[2:] == ["at once"]

    def test_observer_that_raises_delays_no_caller(
        self, build: Build, source: Source, caplog: pytest.LogCaptureFixture
    ) -> None:
        def observe(event: object) -> None:
            raise ValueError("a bug in the observer")

        with threads() as started:
            refreshable = build(ended=observe, start_thread=started, deadline=LONG)
            began = time.monotonic()
            assert refreshable.get() == "v1"
            assert time.monotonic() - began < LONG / 2
        (record,) = caplog.records
        assert (vars(record)["event"], record.levelname) == ("watcher-failed", "ERROR")

    def test_observer_is_called_once_if_several_callers_time_out(self, build: Build, source: Source) -> None:
        events: list[object] = []
        gate = source.hang()
        with threads() as started:
            refreshable = build(ended=events.append, start_thread=started, deadline=SOON)
            assert {type(error) for error in together(4, refreshable.get)} == {Unavailable}
            gate.set()
        assert len(events) == 1 + 1  # the second one is for the late answer


class TestRequestOfAFetch:
    def test_first_fetch_has_no_current_value(self, build: Build, source: Source) -> None:
        build().get()
        assert source.requests[0].held is None
        assert source.requests[0].is_enough("anything")
        assert source.requests[0].deadline.seconds == 10

    def test_refresh_by_age_accepts_the_current_value(
        self, build: Build, source: Source, clocks: Clocks
    ) -> None:
        refreshable = build()
        refreshable.get()
        clocks.advance(100)
        refreshable.get()
        ask = source.requests[1]
        assert ask.held is not None
        assert (ask.held.value, ask.is_enough("v1")) == ("v1", True)

    @pytest.mark.parametrize("by", ["renew", "forget"])
    def test_renewal_does_not_accept_the_refused_value(self, build: Build, source: Source, by: str) -> None:
        refreshable = build()
        refreshable.get()
        getattr(refreshable, by)("v1")
        refreshable.get()
        ask = source.requests[1]
        assert ask.held is not None
        assert (ask.held.value, ask.is_enough("v1"), ask.is_enough("v0")) == ("v1", False, True)


class TestOldValues:
    def test_fallback_value_is_used_during_the_backoff(self, clocks: Clocks, build: Build) -> None:
        failure = SourceDown()
        requests: list[Ask[str]] = []

        def fetch(ask: Ask[str]) -> Fetched[str]:
            requests.append(ask)
            now = clocks.wall()
            return Fetched("left", now - 1, now + 500, now - 100, "store", failure)

        refreshable = build(fetch=fetch)
        assert [refreshable.get(), refreshable.get()] == ["left", "left"]
        assert len(requests) == 1
        assert refreshable.state.failure is not None
        assert refreshable.state.failure.error is failure

    def test_fallback_value_does_not_reset_the_failure_count(self, clocks: Clocks, source: Source) -> None:
        left: list[Fetched[str]] = []

        def fetch(ask: Ask[str]) -> Fetched[str]:
            return left[0] if left else source(ask)

        source.error = SourceDown()
        refreshable = _plain(clocks, fetch)
        for backoff in (1, 2):
            error_of(refreshable.get)
            clocks.advance(backoff)
        now = clocks.wall()
        left.append(Fetched("left", now - 1, now + 500, now - 100, "store", source.error))
        assert refreshable.get() == "left"
        assert refreshable.state.failure is not None
        assert refreshable.state.failure.count == 3

    def test_value_newer_only_by_the_wall_clock_is_taken_once(self, clocks: Clocks, source: Source) -> None:
        """It is another host's, and this host's clock was set forward. Each get would fetch it again."""
        requests: list[Ask[str]] = []

        def fetch(ask: Ask[str]) -> Fetched[str]:
            requests.append(ask)
            if len(requests) == 1:
                return source(ask)
            return Fetched("theirs", began + 4000, began + 90_000, began + 1000, "store")

        began = clocks.wall()
        source.usable_for = 9000
        refreshable = _plain(clocks, fetch)
        refreshable.get()
        clocks.wall_now += 1500
        assert [refreshable.get() for _ in range(3)] == ["theirs"] * 3
        assert len(requests) == 2

    def test_value_from_the_future_counts_as_fetched_now(self, clocks: Clocks, source: Source) -> None:
        """The wall clock was set back during the fetch."""

        def fetch(ask: Ask[str]) -> Fetched[str]:
            fetched = source(ask)
            if source.fetches == 1:
                clocks.wall_now -= 3600
            return fetched

        refreshable = _plain(clocks, fetch)
        refreshable.get()
        clocks.advance(99.9)
        assert refreshable.snapshot()["state"] == "fresh"
        clocks.advance(0.1)
        assert refreshable.snapshot()["state"] == "usable"
        clocks.advance(900)
        assert refreshable.snapshot()["state"] == "gone"


def _plain(clocks: Clocks, fetch: Callable[[Ask[str]], Fetched[str]]) -> Refreshable[str]:
    return Refreshable(
        fetch,
        unavailable=Unavailable,
        refreshing=Refreshing(clocks.clock, lambda: 0.0, at_once),
    )


class TestSnapshot:
    def test_snapshot_before_the_first_fetch_is_empty(self, build: Build) -> None:
        snapshot = build().snapshot()
        assert snapshot.pop("state") == "gone"
        assert snapshot.pop("failures") == 0
        assert set(snapshot.values()) == {None}

    def test_snapshot_has_age_and_seconds_left(self, build: Build, clocks: Clocks) -> None:
        refreshable = build()
        began = clocks.wall()
        refreshable.get()
        clocks.advance(150)
        snapshot = refreshable.snapshot()
        assert (snapshot["state"], snapshot["source"]) == ("usable", "network")
        assert snapshot["age"] == pytest.approx(150)
        assert snapshot["seconds_left"] == pytest.approx(850)
        assert snapshot["last_success"] == began
        assert (snapshot["last_error"], snapshot["next_try_in"]) == (None, None)

    def test_seconds_left_follow_the_stricter_clock(self, build: Build, clocks: Clocks) -> None:
        refreshable = build()
        refreshable.get()
        clocks.wall_now += 400
        assert refreshable.snapshot()["seconds_left"] == pytest.approx(600)
        clocks.wall_now -= 800
        assert refreshable.snapshot()["seconds_left"] == pytest.approx(1000)

    def test_snapshot_has_the_failure_and_the_next_try(
        self, build: Build, source: Source, clocks: Clocks
    ) -> None:
        source.error = SourceDown("no route", retry_after=300)
        refreshable = build()
        error_of(refreshable.get)
        snapshot = refreshable.snapshot()
        assert snapshot["last_error"] == "SourceDown: no route"
        assert (snapshot["last_error_at"], snapshot["failures"]) == (clocks.wall(), 1)
        assert snapshot["next_try_in"] == pytest.approx(60)
        clocks.advance(61)
        assert refreshable.snapshot()["next_try_in"] == 0

    def test_renewable_in_returns_the_cooldown_left(self, build: Build, clocks: Clocks) -> None:
        refreshable = build()
        refreshable.get()
        assert refreshable.renewable_in() == 0
        refreshable.renew("v1")
        clocks.advance(4)
        assert refreshable.renewable_in() == pytest.approx(6)

    def test_renewable_in_returns_the_backoff_if_it_is_longer(self, build: Build, source: Source) -> None:
        refreshable = build()
        refreshable.get()
        source.error = SourceDown(retry_after=30)
        refreshable.renew("v1")
        assert refreshable.renewable_in() == pytest.approx(30)


class TestInline:
    def test_callers_wait_for_an_inline_fetch(self, build: Build, source: Source) -> None:
        gate = source.hang()
        with threads() as callers:
            refreshable = build(in_background=False, start_thread=no_thread)
            for _ in range(4):
                callers(refreshable.get)
            source.wait_until_called()
            gate.set()
        assert callers.outcomes == ["v1"] * 4
        assert source.fetches == 1

    def test_other_callers_get_a_usable_value_during_an_inline_fetch(
        self, build: Build, source: Source, clocks: Clocks
    ) -> None:
        refreshable = build(in_background=False, start_thread=no_thread)
        refreshable.get()
        clocks.advance(100)
        gate = source.hang()
        with threads() as callers:
            callers(refreshable.get)
            source.wait_until_called()
            assert refreshable.get() == "v1"
            gate.set()
        assert callers.outcomes == ["v2"]


@needs_fork
class TestFork:
    def test_child_forked_during_a_refresh_makes_its_own(self, build: Build, source: Source) -> None:
        gate = source.hang()
        with threads() as started:
            refreshable = build(start_thread=started)
            started(refreshable.get)
            source.wait_until_called()
            source.answer()
            # Only this thread exists in the child, so the parent's fetch never finishes there.
            assert in_a_child(lambda: refreshable.get()) == "v2"
            gate.set()
        assert refreshable.get() == "v1"

    def test_child_forked_while_the_lock_is_held_is_not_blocked(self, build: Build, source: Source) -> None:
        inside, go_on = threading.Event(), threading.Event()

        class Slow(str):
            """A refused value whose comparison, under the lock, blocks."""

            __slots__ = ()

            def __eq__(self, other: object) -> bool:
                inside.set()
                assert go_on.wait(LONG)
                return False

            __hash__ = str.__hash__

        refreshable = build()
        refreshable.get()
        with threads() as started:
            started(lambda: refreshable.forget(Slow("slow")))
            assert inside.wait(LONG)
            assert in_a_child(lambda: refreshable.renew("v1")) == "v2"
            go_on.set()

    def test_child_starts_with_its_parents_value(self, build: Build, source: Source) -> None:
        refreshable = build()
        refreshable.get()
        assert in_a_child(lambda: f"{refreshable.get()} of {source.fetches}") == "v1 of 1"


def test_refresh_thread_does_not_keep_the_process_alive() -> None:
    seen: list[threading.Thread] = []
    ended = threading.Event()

    def run() -> None:
        seen.append(threading.current_thread())
        ended.set()

    start_daemon(run)
    assert ended.wait(LONG)
    assert seen[0].daemon
    assert seen[0] is not threading.current_thread()


def test_imports_run_before_the_deadline_starts() -> None:
    order: list[str] = []

    def fetch(ask: Ask[str]) -> Fetched[str]:
        order.append("fetch")
        return Fetched("value", 2e12, 2e12, 0)

    subject = Refreshable(
        fetch, unavailable=lambda cause, retry_in: cause, prepare=lambda: order.append("prepare")
    )
    assert subject.get() == subject.get() == "value"
    assert order == ["prepare", "fetch"]


class TestRefresh:
    def test_late_coroutines_take_the_value_fetched_in_the_meantime(self) -> None:
        """Each one that wakes after the next fetch has finished would otherwise start another."""
        fetched, go_on = itertools.count(1), threading.Event()

        def fetch(ask: Ask[int]) -> Fetched[int]:
            value = next(fetched)
            if value == 2:
                assert go_on.wait(LONG)
            now = time.time()
            return Fetched(value, now + 100, now + 900, now)

        refreshable = Refreshable(fetch, unavailable=Unavailable)
        refreshable.get()

        async def refresh_often() -> list[int]:
            tasks = [asyncio.create_task(refreshable.refresh_async()) for _ in range(60)]
            await asyncio.sleep(0)  # all of them wait for the second fetch
            go_on.set()
            return await asyncio.gather(*tasks)

        assert sorted(set(asyncio.run(refresh_often()))) == [2, 3]


class TestAround:
    """``around`` is called by the caller, and receives whether that caller waits."""

    def test_fetch_enters_the_callers_context_manager(self, build: Build, source: Source) -> None:
        calls: list[tuple[threading.Thread, bool]] = []
        entered: list[threading.Thread] = []
        outcomes: list[Any] = []

        def observe(is_background: bool) -> AbstractContextManager[Note]:
            calls.append((threading.current_thread(), is_background))
            return observed()

        @contextmanager
        def observed() -> Iterator[Note]:
            entered.append(threading.current_thread())
            try:
                yield outcomes.append
            except SourceDown as error:
                outcomes.append(error)
                raise

        refreshable = build(start_thread=start_daemon, around=observe)
        assert refreshable.get() == "v1"
        source.error = SourceDown()
        refreshable.renew("v1")
        assert calls == [(threading.current_thread(), False)] * 2
        assert threading.current_thread() not in entered
        assert [getattr(each, "value", each) for each in outcomes] == ["v1", source.error]

    @pytest.mark.parametrize("in_background", [True, False], ids=["in the background", "inline"])
    def test_fetch_is_background_if_the_caller_does_not_wait(
        self, build: Build, clocks: Clocks, in_background: bool
    ) -> None:
        calls: list[bool] = []

        def observe(is_background: bool) -> AbstractContextManager[Note]:
            calls.append(is_background)
            return unobserved()

        refreshable = build(around=observe, in_background=in_background)
        refreshable.get()
        clocks.advance(100)
        refreshable.get()
        assert calls == [False, in_background]
