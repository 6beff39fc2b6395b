"""Threads, processes and errors around ``Refreshable``. What it does when is in the table of scenarios."""

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
"""Real seconds that a test lets a caller wait for a source that hangs."""


@pytest.fixture
def traced(source: Source) -> Fetch[str]:
    """A fetch in which a tracer raises on every thread but those of callers."""

    def fetch(ask: Ask[str]) -> Fetched[str]:
        if threading.current_thread().name == REFRESH_THREAD:
            raise SourceDown("no segment") from ForeignError("no segment")
        return source(ask)

    return fetch


class TestForeignErrors:
    """Code around requests raises on the library's threads. Without a caller's thread no value was had."""

    def test_caller_without_a_value_fetches_itself_at_once(self, build: Build, traced: Fetch[str]) -> None:
        assert build(fetch=traced, start_thread=start_daemon).get() == "v1"

    def test_crowd_makes_one_fetch_on_a_callers_thread(
        self, build: Build, traced: Fetch[str], source: Source
    ) -> None:
        refreshable = build(fetch=traced, start_thread=start_daemon)
        assert together(8, refreshable.get) == ["v1"] * 8
        assert source.asked == 1

    @pytest.mark.parametrize(
        "ask", [lambda each: each.renew("v1"), lambda each: each.refresh()], ids=["renew", "refresh"]
    )
    def test_newer_value_is_had_on_the_callers_thread(
        self, build: Build, traced: Fetch[str], ask: Callable[[Refreshable[str]], str]
    ) -> None:
        refreshable = build(fetch=traced, start_thread=start_daemon)
        refreshable.get()
        assert ask(refreshable) == "v2"

    def test_renewal_that_failed_behind_is_made_by_the_next_caller(
        self, build: Build, traced: Fetch[str], clocks: Clocks
    ) -> None:
        refreshable = build(fetch=traced, start_thread=start_daemon)
        refreshable.get()
        clocks.advance(FRESH_FOR)
        assert refreshable.get() == "v1"
        settle()
        assert refreshable.get() == "v2"

    def test_loop_s_thread_does_not_fetch_for_a_coroutine(
        self, build: Build, traced: Fetch[str], clocks: Clocks
    ) -> None:
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

    def test_callers_own_failure_backs_off(self, build: Build, source: Source) -> None:
        source.error = SourceDown("no segment")
        source.error.__cause__ = ForeignError("no segment")
        refreshable = build(start_thread=start_daemon)
        assert [str(error_of(refreshable.get)) for _ in range(3)] == ["not to be had: no segment"] * 3
        with pytest.raises(Unavailable):
            refreshable.refresh()
        assert source.asked == 2


class TestThreads:
    def test_eight_threads_on_an_empty_start_make_one_fetch(self, build: Build, source: Source) -> None:
        refreshable = build(start_thread=start_daemon)
        assert together(8, refreshable.get) == ["v1"] * 8
        assert source.asked == 1

    def test_threads_that_wait_for_a_failing_fetch_all_get_its_error(
        self, build: Build, source: Source
    ) -> None:
        source.error = SourceDown("no route")
        refreshable = build(start_thread=start_daemon)
        errors = together(8, refreshable.get)
        assert [str(error) for error in errors] == ["not to be had: no route"] * 8
        assert source.asked == 1

    def test_eight_threads_that_were_refused_one_value_make_one_fetch(
        self, build: Build, source: Source
    ) -> None:
        refreshable = build(start_thread=start_daemon)
        refreshable.get()
        assert together(8, lambda: refreshable.renew("v1")) == ["v2"] * 8
        assert source.asked == 2

    def test_eight_threads_with_a_usable_value_make_one_fetch_and_do_not_wait_for_it(
        self, build: Build, source: Source, clocks: Clocks
    ) -> None:
        with threads() as behind:
            refreshable = build(start_thread=lambda run: at_once(run) if source.asked == 0 else behind(run))
            refreshable.get()
            clocks.advance(100)
            gate = source.hang()
            assert together(8, refreshable.get) == ["v1"] * 8
            source.wait_until_asked()
            assert source.asked == 2
            gate.set()
        assert held(refreshable) == "v2"

    def test_a_refusal_during_a_fetch_that_began_before_waits_for_its_value(
        self, build: Build, source: Source, clocks: Clocks
    ) -> None:
        with threads() as started:
            refreshable = build(start_thread=lambda run: at_once(run) if source.asked == 0 else started(run))
            refreshable.get()
            clocks.advance(100)
            gate = source.hang()
            assert refreshable.get() == "v1"
            source.wait_until_asked()
            started(lambda: refreshable.renew("v1"))
            gate.set()
        assert "v2" in started.outcomes
        assert source.asked == 2

    def test_a_refusal_during_a_fetch_that_gives_the_refused_value_makes_one_more(
        self, build: Build, source: Source, clocks: Clocks
    ) -> None:
        with threads() as started:
            refreshable = build(start_thread=lambda run: at_once(run) if source.asked == 0 else started(run))
            refreshable.get()
            clocks.advance(100)
            source.repeats = "v1"
            gate = source.hang()
            assert refreshable.get() == "v1"
            source.wait_until_asked()
            source.repeats = None
            source.answer()
            started(lambda: refreshable.renew("v1"))
            gate.set()
        # Whether the refusal met the fetch or came after it, the value is another.
        assert refreshable.get() == "v3"
        assert source.asked == 3

    def test_who_joins_a_fetch_late_waits_no_longer_than_its_deadline(
        self, build: Build, source: Source, clocks: Clocks
    ) -> None:
        gate = source.hang()
        with threads() as started:
            refreshable = build(start_thread=started)
            started(refreshable.get)
            source.wait_until_asked()
            clocks.advance(10)  # its deadline has passed, while its leader still waits in real time
            with pytest.raises(Unavailable):
                refreshable.get()
            gate.set()

    @pytest.mark.parametrize("error", [RuntimeError("can't start new thread"), OSError("no more processes")])
    def test_a_thread_that_cannot_start_means_a_refresh_by_the_caller(
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

    def test_a_usable_value_costs_no_lock_while_its_source_rests_and_is_renewed_when_it_has(
        self, build: Build, source: Source, clocks: Clocks
    ) -> None:
        refreshable = build(start_thread=at_once, jitter=lambda: 0.0)
        refreshable.get()
        clocks.advance(FRESH_FOR)
        source.error = SourceDown()
        for rest in (1.0, 2.0):
            assert refreshable.get() == "v1"
            failed = source.asked
            clocks.advance(rest - 0.01)
            with pytest.MonkeyPatch.context() as patched:
                patched.setattr(os, "getpid", lambda: pytest.fail("a lock was taken"))
                assert refreshable.get() == "v1"
            assert source.asked == failed
            clocks.advance(0.01)
        source.error = None
        assert refreshable.get() == f"v{source.asked}" != "v1"

    @pytest.mark.parametrize("clock", ["wall_now", "monotonic_now"])
    def test_a_usable_value_ends_in_the_rest_of_its_source_by_either_clock(
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

    def test_a_value_that_is_forgotten_in_the_rest_of_its_source_is_replaced_after_it(
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
        assert refreshable.get() == f"v{source.asked}" != "v1"

    def test_a_fresh_value_costs_one_read_of_each_clock(self, build: Build, clocks: Clocks) -> None:
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

    def test_a_fetch_that_is_aborted_lets_the_waiting_go_and_is_not_swallowed(
        self, build: Build, clocks: Clocks
    ) -> None:
        def fetch(ask: Ask[str]) -> Fetched[str]:
            raise SystemExit(1)

        refreshable = build(fetch=fetch, in_background=False)
        with pytest.raises(SystemExit):
            refreshable.get()
        assert str(error_of(refreshable.get).cause) == "the fetch was aborted"


class TestLateAnswers:
    def test_a_late_answer_does_not_let_a_third_fetch_begin_beside_the_second(
        self, build: Build, source: Source, clocks: Clocks
    ) -> None:
        source.error = SourceDown()  # so that there is nothing to serve
        first = source.hang()
        with threads() as started:
            refreshable = build(start_thread=started, deadline=SOON)
            error_of(refreshable.get)
            clocks.advance(1)
            second = source.hang()
            started(refreshable.get)
            source.wait_until_asked()
            first.set()
            started.threads[0].join(LONG)
            error_of(refreshable.get)
            assert source.asked == 2
            second.set()


def _never(value: object) -> bool:
    return False


class TestSince:
    """``renew_for(…, since)``: a value that was fetched since then answers for itself."""

    def test_a_cold_starts_download_answers_for_its_caller(
        self, build: Build, source: Source, clocks: Clocks
    ) -> None:
        refreshable = build()
        since = clocks.monotonic()
        refreshable.get()
        assert refreshable.renew_for(_never, since=since) == "v1"
        assert source.asked == 1

    def test_a_value_that_was_there_before_is_replaced(
        self, build: Build, source: Source, clocks: Clocks
    ) -> None:
        refreshable = build()
        refreshable.get()
        clocks.advance(1)
        assert refreshable.renew_for(_never, since=clocks.monotonic()) == "v2"

    def test_the_same_value_fetched_since_is_not_asked_for_twice(
        self, build: Build, source: Source, clocks: Clocks
    ) -> None:
        refreshable = build(cooldown=0)
        refreshable.get()
        source.repeats = "v1"
        clocks.advance(1)
        assert refreshable.renew_for(_never, since=clocks.monotonic()) == "v1"
        assert source.asked == 2

    def test_value_of_another_process_is_no_verdict(self, build: Build, source: Source) -> None:
        stored = []

        def fetch(ask: Ask[str]) -> Fetched[str]:
            fetched = source(ask)
            stored.append(fetched.value)
            return replace(fetched, source="store") if len(stored) == 1 else fetched

        refreshable = build(fetch=fetch)
        refreshable.get()
        assert refreshable.renew_for(lambda value: value == "v9", since=0) == "v2"
        assert refreshable.renew_for(lambda value: value == "v9", since=0) == "v2"
        assert source.asked == 2


class TestPatience:
    """``renew_for(…, patience)``: callers wait for a fetch until it has that age, and no longer."""

    def test_caller_leaves_a_fetch_that_outlasts_patience(self, build: Build, source: Source) -> None:
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

    def test_old_fetch_is_not_waited_for_at_all(self, build: Build, source: Source, clocks: Clocks) -> None:
        with threads() as started:
            refreshable = build(start_thread=started, deadline=LONG)
            refreshable.get()
            gate = source.hang()
            clocks.advance(FRESH_FOR)
            assert refreshable.get() == "v1"  # and begins a renewal
            source.wait_until_asked()
            clocks.advance(5)
            began = time.monotonic()
            error_of(lambda: refreshable.renew_for(_never, patience=5))
            assert time.monotonic() - began < 5
            gate.set()

    def test_fetch_that_ends_in_time_is_the_answer(self, build: Build, source: Source) -> None:
        with threads() as started:
            refreshable = build(start_thread=started, deadline=LONG)
            refreshable.get()
            assert refreshable.renew_for(lambda value: value == "v2", patience=LONG) == "v2"

    def test_caller_without_a_value_waits_for_all_of_it(self, build: Build, source: Source) -> None:
        gate = source.hang()
        with threads() as started, threads() as callers:
            refreshable = build(start_thread=started, deadline=LONG)
            callers(lambda: refreshable.renew_for(_never, patience=0))
            source.wait_until_asked()
            gate.set()
        assert callers.outcomes == ["v1"]


class TestErrors:
    def test_an_error_is_made_for_each_caller_with_its_cause(self, build: Build, source: Source) -> None:
        source.error = SourceDown()
        refreshable = build()
        first, second = (error_of(refreshable.get) for _ in range(2))
        assert first is not second
        assert first.__cause__ is second.__cause__ is source.error

    def test_an_error_says_how_long_the_source_rests(
        self, build: Build, source: Source, clocks: Clocks
    ) -> None:
        source.error = SourceDown(retry_after=20)
        refreshable = build()
        assert error_of(refreshable.get).retry_in == 20
        clocks.advance(15)
        assert error_of(refreshable.get).retry_in == pytest.approx(5)

    def test_a_shared_cause_does_not_grow_with_each_caller(self, build: Build, source: Source) -> None:
        source.error = SourceDown()
        refreshable = build()
        lengths = {len(traceback.format_exception(error_of(refreshable.get))) for _ in range(5)}
        assert len(lengths) == 1

    def test_a_cause_that_is_kept_holds_no_frames(self, build: Build, source: Source) -> None:
        class Large:
            """Something that a fetch had in hand when it failed."""

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

    def test_what_is_given_up_has_a_timeout_as_its_cause(self, build: Build, source: Source) -> None:
        gate = source.hang()
        with threads() as started:
            refreshable = build(start_thread=started, deadline=SOON)
            error = error_of(refreshable.get)
            assert isinstance(error.__cause__, RefreshTimeout)
            gate.set()

    def test_a_value_that_ends_before_its_caller_has_it_is_an_error_with_a_cause(
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


class TestRests:
    @pytest.mark.parametrize(
        ("jitter", "rest"),
        [
            pytest.param(0.0, 1.0, id="no chance takes nothing off"),
            pytest.param(0.5, 0.75, id="half"),
            pytest.param(1.0, 0.5, id="the most takes off half"),
        ],
    )
    def test_chance_takes_off_up_to_half_of_a_rest(
        self, build: Build, source: Source, jitter: float, rest: float
    ) -> None:
        source.error = SourceDown()
        refreshable = build(jitter=lambda: jitter)
        assert error_of(refreshable.get).retry_in == pytest.approx(rest)

    def test_chance_does_not_shorten_retry_after(self, build: Build, source: Source) -> None:
        source.error = SourceDown(retry_after=40)
        refreshable = build(jitter=lambda: 1.0)
        assert error_of(refreshable.get).retry_in == pytest.approx(40)

    @pytest.mark.parametrize("given_up", [1, 3])
    def test_timeouts_behind_a_value_do_not_outlast_it(
        self, build: Build, source: Source, clocks: Clocks, given_up: int
    ) -> None:
        held: list[Callable[[], None]] = []
        is_frozen = False
        refreshable = build(start_thread=lambda run: held.append(run) if is_frozen else run())
        refreshable.get()
        lead = (given_up - 1) * (DEADLINE + 60) + DEADLINE + 0.1
        clocks.advance(refreshable.state.usable_wall - clocks.wall() - lead)
        is_frozen = True
        for attempt in range(given_up):
            clocks.advance(60 if attempt else 0)
            refreshable.get()
            clocks.advance(DEADLINE)
            refreshable.get()  # gives it up
        clocks.advance(0.1)
        is_frozen = False
        asked = source.asked
        assert refreshable.get().startswith("v")
        assert (len(held), source.asked) == (given_up, asked + 1)

    def test_own_failure_after_such_a_timeout_backs_off(
        self, build: Build, source: Source, clocks: Clocks
    ) -> None:
        held: list[Callable[[], None]] = []

        def start(run: Callable[[], None]) -> None:
            run() if source.error or not source.asked else held.append(run)

        refreshable = build(start_thread=start)
        refreshable.get()
        clocks.advance(refreshable.state.usable_wall - clocks.wall() - DEADLINE - 0.1)
        refreshable.get()
        clocks.advance(DEADLINE)
        refreshable.get()
        source.error = SourceDown()
        clocks.advance(0.1)
        assert error_of(refreshable.get).retry_in > 0
        asked = source.asked
        error_of(refreshable.get)
        assert source.asked == asked


class TestObserver:
    def test_it_is_told_how_each_fetch_ended(self, build: Build, source: Source, clocks: Clocks) -> None:
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

    def test_it_is_told_of_a_failure_behind_a_value(
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

    def test_it_is_told_outside_locks(self, build: Build) -> None:
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
            assert refreshable.get() == "v2"  # although the observer of the first still takes its time
            go_on.set()

    def test_it_may_ask_for_the_value_itself(self, build: Build, source: Source, clocks: Clocks) -> None:
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

    def test_caller_that_gives_up_does_not_wait_for_it(self, build: Build, source: Source) -> None:
        gate, go_on = source.hang(), threading.Event()
        told: list[object] = []

        def observe(event: object) -> None:
            told.append(event)
            assert go_on.wait(LONG)

        with threads() as started:
            refreshable = build(ended=observe, start_thread=started, deadline=SOON)
            error_of(refreshable.get)
            go_on.set()
            gate.set()
        assert [type(event) for event in told][:1] == [RefreshFailed]

    def test_reports_of_a_fetch_come_before_its_end(self, build: Build, source: Source) -> None:
        told: list[str] = []

        def fetch(ask: Ask[str]) -> Fetched[str]:
            report(lambda: told.append("report"))
            assert told == []
            return source(ask)

        refreshable = build(fetch=fetch, ended=lambda event: told.append("end"))
        refreshable.get()
        assert told == ["report", "end"]
        report(lambda: told.append("at once"))
        assert told[2:] == ["at once"]

    def test_one_that_raises_keeps_nobody_waiting(
        self, build: Build, source: Source, caplog: pytest.LogCaptureFixture
    ) -> None:
        def observe(event: object) -> None:
            raise ValueError("a mistake of the observer's")

        with threads() as started:
            refreshable = build(ended=observe, start_thread=started, deadline=LONG)
            began = time.monotonic()
            assert refreshable.get() == "v1"
            assert time.monotonic() - began < LONG / 2
        (record,) = caplog.records
        assert (vars(record)["event"], record.levelname) == ("watcher-failed", "ERROR")

    def test_it_is_told_once_of_a_fetch_that_several_gave_up(self, build: Build, source: Source) -> None:
        events: list[object] = []
        gate = source.hang()
        with threads() as started:
            refreshable = build(ended=events.append, start_thread=started, deadline=SOON)
            assert {type(error) for error in together(4, refreshable.get)} == {Unavailable}
            gate.set()
        assert len(events) == 1 + 1  # and that the late answer came


class TestWhatAFetchIsToldOf:
    def test_a_first_fetch_is_for_nothing_held(self, build: Build, source: Source) -> None:
        build().get()
        assert source.asks[0].held is None
        assert source.asks[0].is_enough("anything")
        assert source.asks[0].deadline.seconds == 10

    def test_a_refresh_by_age_holds_a_value_that_nobody_refused(
        self, build: Build, source: Source, clocks: Clocks
    ) -> None:
        refreshable = build()
        refreshable.get()
        clocks.advance(100)
        refreshable.get()
        ask = source.asks[1]
        assert ask.held is not None
        assert (ask.held.value, ask.is_enough("v1")) == ("v1", True)

    @pytest.mark.parametrize("by", ["renew", "forget"])
    def test_a_renewal_holds_a_value_that_was_refused(self, build: Build, source: Source, by: str) -> None:
        refreshable = build()
        refreshable.get()
        getattr(refreshable, by)("v1")
        refreshable.get()
        ask = source.asks[1]
        assert ask.held is not None
        assert (ask.held.value, ask.is_enough("v1"), ask.is_enough("v0")) == ("v1", False, True)


class TestAnswersThatAreNotNew:
    def test_a_value_of_a_failed_fetch_serves_while_its_source_rests(
        self, clocks: Clocks, build: Build
    ) -> None:
        failure = SourceDown()
        asked: list[Ask[str]] = []

        def fetch(ask: Ask[str]) -> Fetched[str]:
            asked.append(ask)
            now = clocks.wall()
            return Fetched("left", now - 1, now + 500, now - 100, "store", failure)

        refreshable = build(fetch=fetch)
        assert [refreshable.get(), refreshable.get()] == ["left", "left"]
        assert len(asked) == 1
        assert refreshable.state.failure is not None
        assert refreshable.state.failure.error is failure

    def test_a_value_of_a_failed_fetch_does_not_begin_the_count_of_failures_anew(
        self, clocks: Clocks, source: Source
    ) -> None:
        left: list[Fetched[str]] = []

        def fetch(ask: Ask[str]) -> Fetched[str]:
            return left[0] if left else source(ask)

        source.error = SourceDown()
        refreshable = _plain(clocks, fetch)
        for rest in (1, 2):
            error_of(refreshable.get)
            clocks.advance(rest)
        now = clocks.wall()
        left.append(Fetched("left", now - 1, now + 500, now - 100, "store", source.error))
        assert refreshable.get() == "left"
        assert refreshable.state.failure is not None
        assert refreshable.state.failure.count == 3

    def test_a_value_that_is_newer_by_the_wall_clock_alone_is_taken_once(
        self, clocks: Clocks, source: Source
    ) -> None:
        """Else each get would ask again: another host's value, after this one's clock was set forward."""
        asked: list[Ask[str]] = []

        def fetch(ask: Ask[str]) -> Fetched[str]:
            asked.append(ask)
            if len(asked) == 1:
                return source(ask)
            return Fetched("theirs", began + 4000, began + 90_000, began + 1000, "store")

        began = clocks.wall()
        source.usable_for = 9000
        refreshable = _plain(clocks, fetch)
        refreshable.get()
        clocks.wall_now += 1500
        assert [refreshable.get() for _ in range(3)] == ["theirs"] * 3
        assert len(asked) == 2

    def test_a_value_from_the_future_counts_as_fetched_now(self, clocks: Clocks, source: Source) -> None:
        """The wall clock was set back while it was fetched."""

        def fetch(ask: Ask[str]) -> Fetched[str]:
            fetched = source(ask)
            if source.asked == 1:
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


class TestWhatOneCanSee:
    def test_before_the_first_fetch_there_is_nothing(self, build: Build) -> None:
        snapshot = build().snapshot()
        assert snapshot.pop("state") == "gone"
        assert snapshot.pop("failures") == 0
        assert set(snapshot.values()) == {None}

    def test_a_value_is_shown_by_its_age_and_what_is_left(self, build: Build, clocks: Clocks) -> None:
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

    def test_what_is_left_is_told_by_the_stricter_clock(self, build: Build, clocks: Clocks) -> None:
        refreshable = build()
        refreshable.get()
        clocks.wall_now += 400
        assert refreshable.snapshot()["seconds_left"] == pytest.approx(600)
        clocks.wall_now -= 800
        assert refreshable.snapshot()["seconds_left"] == pytest.approx(1000)

    def test_a_failure_is_shown_with_the_next_try(self, build: Build, source: Source, clocks: Clocks) -> None:
        source.error = SourceDown("no route", retry_after=300)
        refreshable = build()
        error_of(refreshable.get)
        snapshot = refreshable.snapshot()
        assert snapshot["last_error"] == "SourceDown: no route"
        assert (snapshot["last_error_at"], snapshot["failures"]) == (clocks.wall(), 1)
        assert snapshot["next_try_in"] == pytest.approx(60)
        clocks.advance(61)
        assert refreshable.snapshot()["next_try_in"] == 0

    def test_the_end_of_the_cooldown_is_told(self, build: Build, clocks: Clocks) -> None:
        refreshable = build()
        refreshable.get()
        assert refreshable.renewable_in() == 0
        refreshable.renew("v1")
        clocks.advance(4)
        assert refreshable.renewable_in() == pytest.approx(6)

    def test_the_end_of_a_rest_is_told_if_it_is_later_than_the_cooldown_s(
        self, build: Build, source: Source
    ) -> None:
        refreshable = build()
        refreshable.get()
        source.error = SourceDown(retry_after=30)
        refreshable.renew("v1")
        assert refreshable.renewable_in() == pytest.approx(30)


class TestInline:
    def test_callers_beside_an_inline_fetch_wait_for_it(self, build: Build, source: Source) -> None:
        gate = source.hang()
        with threads() as callers:
            refreshable = build(in_background=False, start_thread=no_thread)
            for _ in range(4):
                callers(refreshable.get)
            source.wait_until_asked()
            gate.set()
        assert callers.outcomes == ["v1"] * 4
        assert source.asked == 1

    def test_a_caller_beside_an_inline_fetch_has_a_usable_value_at_once(
        self, build: Build, source: Source, clocks: Clocks
    ) -> None:
        refreshable = build(in_background=False, start_thread=no_thread)
        refreshable.get()
        clocks.advance(100)
        gate = source.hang()
        with threads() as callers:
            callers(refreshable.get)
            source.wait_until_asked()
            assert refreshable.get() == "v1"
            gate.set()
        assert callers.outcomes == ["v2"]


@needs_fork
class TestFork:
    def test_a_child_forked_during_a_refresh_makes_its_own(self, build: Build, source: Source) -> None:
        gate = source.hang()
        with threads() as started:
            refreshable = build(start_thread=started)
            started(refreshable.get)
            source.wait_until_asked()
            source.answer()
            # Only this thread lives on in the child: nobody will ever end the parent's fetch there.
            assert in_a_child(lambda: refreshable.get()) == "v2"
            gate.set()
        assert refreshable.get() == "v1"

    def test_a_child_forked_while_another_thread_has_the_lock_is_not_held_up(
        self, build: Build, source: Source
    ) -> None:
        inside, go_on = threading.Event(), threading.Event()

        class Slow(str):
            """A refused value whose comparison, under the lock, takes as long as we like."""

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

    def test_a_child_starts_with_what_its_parent_had(self, build: Build, source: Source) -> None:
        refreshable = build()
        refreshable.get()
        assert in_a_child(lambda: f"{refreshable.get()} of {source.asked}") == "v1 of 1"


def test_the_usual_thread_does_not_keep_a_process_alive() -> None:
    seen: list[threading.Thread] = []
    ended = threading.Event()

    def run() -> None:
        seen.append(threading.current_thread())
        ended.set()

    start_daemon(run)
    assert ended.wait(LONG)
    assert seen[0].daemon
    assert seen[0] is not threading.current_thread()


def test_what_a_fetch_needs_is_imported_before_its_deadline_begins() -> None:
    order: list[str] = []

    def fetch(ask: Ask[str]) -> Fetched[str]:
        order.append("fetch")
        return Fetched("value", 2e12, 2e12, 0)

    subject = Refreshable(
        fetch, unavailable=lambda cause, rest: cause, prepare=lambda: order.append("prepare")
    )
    assert subject.get() == subject.get() == "value"
    assert order == ["prepare", "fetch"]


class TestRefresh:
    def test_coroutines_that_wake_late_take_what_was_fetched_meanwhile(self) -> None:
        """Without this each of them that woke after the next fetch had ended made one more."""
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
            asked = [asyncio.create_task(refreshable.refresh_async()) for _ in range(60)]
            await asyncio.sleep(0)  # all of them wait for the second fetch
            go_on.set()
            return await asyncio.gather(*asked)

        assert sorted(set(asyncio.run(refresh_often()))) == [2, 3]


class TestOnRefresh:
    """What a fetch happens in is asked for by the caller, and knows whether that one waits."""

    def test_caller_that_waits_asks_for_it_and_the_fetch_enters_it(
        self, build: Build, source: Source
    ) -> None:
        asked: list[tuple[threading.Thread, bool]] = []
        entered: list[threading.Thread] = []
        outcomes: list[Any] = []

        def observe(is_background: bool) -> AbstractContextManager[Note]:
            asked.append((threading.current_thread(), is_background))
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
        assert asked == [(threading.current_thread(), False)] * 2
        assert threading.current_thread() not in entered
        assert [getattr(each, "value", each) for each in outcomes] == ["v1", source.error]

    @pytest.mark.parametrize("in_background", [True, False], ids=["in background", "inline"])
    def test_it_is_background_where_the_caller_does_not_wait(
        self, build: Build, clocks: Clocks, in_background: bool
    ) -> None:
        asked: list[bool] = []

        def observe(is_background: bool) -> AbstractContextManager[Note]:
            asked.append(is_background)
            return unobserved()

        refreshable = build(around=observe, in_background=in_background)
        refreshable.get()
        clocks.advance(100)
        refreshable.get()
        assert asked == [False, in_background]
