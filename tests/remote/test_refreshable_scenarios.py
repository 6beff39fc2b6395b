"""What happens as time passes, as scenarios: the age of a value, steps, and the number of fetches.

Each runs twice: for ``Refreshable`` alone, and over a shared store. Values are named ``v1``, ``v2``, … in the
order of their fetches. ``v1`` is fresh for 100 s and usable for 1000 s.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from flask_m2m_cognito.remote.refreshable import Fetched
from tests.remote.conftest import Build
from tests.remote.moved import DEADLINE, Source, SourceDown, Threads, Unavailable, outcome_of
from tests.support.clocks import Clocks

HOUR = 3600.0
EMPTY = None


class Lasting(SourceDown):
    """An error that an operator must fix, such as ``invalid_client``."""


class Stage:
    """The objects of a scenario. A background fetch starts when its caller has the value."""

    def __init__(self, build: Build, clocks: Clocks, source: Source, **arguments: Any) -> None:
        self.clocks = clocks
        self.source = source
        self.refreshable = build(
            **{
                "start_thread": self._start,
                "is_lasting": lambda error: isinstance(error, Lasting),
                **arguments,
            }
        )
        self.fetches_before = 0
        self._in_background = arguments.get("in_background", True)
        self._is_background = False
        self._background: list[Callable[[], None]] = []
        self._hanging = Threads()
        self._gates: list[threading.Event] = []

    def play(self, age: float | None, steps: Sequence[Step]) -> int:
        """Run ``steps`` for a value of this age. Return the number of fetches."""
        if age is not EMPTY:
            assert self.refreshable.get() == "v1"
            self.clocks.advance(age)
            self.fetches_before = self.source.fetches
        for step in steps:
            step(self)
        self.release_late_answers()
        return self.fetches

    @property
    def fetches(self) -> int:
        return self.source.fetches - self.fetches_before

    def get(self) -> str:
        is_usable = self.refreshable.snapshot()["state"] == "usable"
        self._is_background = is_usable and self._in_background
        try:
            return self.refreshable.get()
        finally:
            self._is_background = False
            background, self._background = self._background, []
            for run in background:
                self._run(run)

    def hang(self) -> None:
        self._gates.append(self.source.hang())

    def release_late_answers(self) -> None:
        for gate in self._gates:
            gate.set()
        self._hanging.join()

    def _start(self, run: Callable[[], None]) -> None:
        if self._is_background:
            self._background.append(run)
            return
        self._run(run)
        if self.source.hangs:
            self.clocks.advance(DEADLINE)  # the time that the caller waits

    def _run(self, run: Callable[[], None]) -> None:
        if not self.source.hangs:
            run()
            return
        entered = self.source.entered

        def run_to_the_end() -> None:
            try:
                run()
            finally:
                entered.release()  # it may not have called the source

        self._hanging(run_to_the_end)
        self.source.wait_until_called()


Step = Callable[[Stage], None]


def get(expected: object) -> Step:
    def step(stage: Stage) -> None:
        assert outcome_of(stage.get) == expected

    return step


def renew(refused: str, expected: object) -> Step:
    def step(stage: Stage) -> None:
        assert outcome_of(lambda: stage.refreshable.renew(refused)) == expected

    return step


def forget(refused: str) -> Step:
    return lambda stage: stage.refreshable.forget(refused)


def passes(seconds: float) -> Step:
    return lambda stage: stage.clocks.advance(seconds)


def wall_jumps(seconds: float) -> Step:
    """Set the wall clock. A number above 0 also stands for a machine that was asleep."""

    def step(stage: Stage) -> None:
        stage.clocks.wall_now += seconds

    return step


def monotonic_jumps(seconds: float) -> Step:
    def step(stage: Stage) -> None:
        stage.clocks.monotonic_now += seconds

    return step


def fails(error: Exception | None = None) -> Step:
    def step(stage: Stage) -> None:
        stage.source.error = error or SourceDown()

    return step


def recovers(stage: Stage) -> None:
    stage.source.error = None
    stage.source.answer()


def hangs(stage: Stage) -> None:
    stage.hang()


def late_answers_arrive(stage: Stage) -> None:
    stage.release_late_answers()


def repeats(value: str) -> Step:
    def step(stage: Stage) -> None:
        stage.source.repeats = value

    return step


def returns_values_that_live(fresh: float, usable: float) -> Step:
    def step(stage: Stage) -> None:
        stage.source.fresh_for, stage.source.usable_for = fresh, usable

    return step


def has_fetched(times: int) -> Step:
    """Check the number of fetches until now."""

    def step(stage: Stage) -> None:
        assert stage.fetches == times

    return step


def backs_off(seconds: float) -> Sequence[Step]:
    """Check that the backoff lasts this long, and that one fetch follows it."""

    def fetches_only_at_the_end(stage: Stage) -> None:
        times = stage.fetches
        passes(seconds - 0.01)(stage)
        outcome_of(stage.get)
        assert stage.fetches == times
        passes(0.01)(stage)
        outcome_of(stage.get)
        assert stage.fetches == times + 1

    return [fetches_only_at_the_end]


def scenario(name: str, age: float | None, *steps: Step, fetches: int) -> Any:
    return pytest.param(age, steps, fetches, id=name)


AGES = [
    scenario("nothing is fetched before the first get", EMPTY, fetches=0),
    scenario("a cold start fetches", EMPTY, get("v1"), get("v1"), fetches=1),
    scenario("a fresh value is returned without a fetch", 99.9, get("v1"), get("v1"), fetches=0),
    scenario(
        "a usable value is returned, and renewed in the background", 100, get("v1"), get("v2"), fetches=1
    ),
    scenario("a usable value is returned until its last moment", 999.9, get("v1"), get("v2"), fetches=1),
    scenario("callers wait if the value is gone", 1000, get("v2"), fetches=1),
    scenario("a new value is fresh as long as the first", 100, get("v1"), passes(99.9), get("v2"), fetches=1),
]

CLOCKS = [
    scenario(
        "a wall clock set forward makes a value usable", 0, wall_jumps(100), get("v1"), get("v2"), fetches=1
    ),
    scenario("after an hour of sleep the value is gone", 0, wall_jumps(HOUR), get("v2"), fetches=1),
    scenario(
        "the monotonic clock alone makes a value usable",
        0,
        monotonic_jumps(100),
        get("v1"),
        get("v2"),
        fetches=1,
    ),
    scenario(
        "the monotonic clock alone makes a value expire", 0, monotonic_jumps(1000), get("v2"), fetches=1
    ),
    scenario("a wall clock set back keeps a fresh value fresh", 50, wall_jumps(-HOUR), get("v1"), fetches=0),
    scenario(
        "a wall clock set back does not keep a value fresh for longer",
        0,
        wall_jumps(-HOUR),
        passes(100),
        get("v1"),
        get("v2"),
        fetches=1,
    ),
    scenario(
        "a wall clock set back does not keep a value usable for longer",
        0,
        wall_jumps(-HOUR),
        passes(1000),
        get("v2"),
        fetches=1,
    ),
    scenario(
        "a value fetched after a jump back is fresh for its full time",
        0,
        wall_jumps(-HOUR),
        passes(100),
        get("v1"),
        get("v2"),
        passes(99.9),
        get("v2"),
        has_fetched(1),
        passes(0.1),
        get("v2"),
        get("v3"),
        fetches=2,
    ),
    scenario(
        "a wall clock set forward does not shorten the backoff",
        500,
        fails(),
        get("v1"),
        wall_jumps(30),
        get("v1"),
        fetches=1,
    ),
    scenario(
        "a wall clock set back does not extend the backoff",
        500,
        fails(),
        get("v1"),
        wall_jumps(-HOUR),
        recovers,
        passes(1),
        get("v1"),
        get("v3"),
        fetches=2,
    ),
]

FAILURES = [
    scenario("a failed fetch keeps a usable value", 100, fails(), get("v1"), get("v1"), fetches=1),
    scenario("a failed fetch without a value is an error", EMPTY, fails(), get(Unavailable), fetches=1),
    scenario(
        "a failed fetch of a value that is gone is an error", 1000, fails(), get(Unavailable), fetches=1
    ),
    scenario(
        "during a backoff each caller gets the error at once",
        EMPTY,
        fails(),
        *[get(Unavailable)] * 5,
        fetches=1,
    ),
    scenario(
        "during a backoff no fetch notices the recovery",
        EMPTY,
        fails(),
        get(Unavailable),
        recovers,
        passes(0.99),
        get(Unavailable),
        has_fetched(1),
        passes(0.01),
        get("v2"),
        fetches=2,
    ),
    scenario(
        "a usable value is returned until it is gone, then the error",
        100,
        fails(),
        get("v1"),
        passes(899.9),
        get("v1"),
        passes(0.1),
        get(Unavailable),
        fetches=2,
    ),
    scenario(
        "a value that is renewed after a failure is fresh",
        100,
        fails(),
        get("v1"),
        recovers,
        passes(1),
        get("v1"),
        get("v3"),
        passes(99.9),
        get("v3"),
        fetches=2,
    ),
    scenario(
        "the backoff doubles from one second to sixty without a value",
        EMPTY,
        fails(),
        get(Unavailable),
        *[step for seconds in (1, 2, 4, 8, 16, 32, 60, 60) for step in backs_off(seconds)],
        fetches=9,
    ),
    scenario(
        "the backoff doubles from one second to sixty with a usable value",
        100,
        fails(),
        get("v1"),
        *[step for seconds in (1, 2, 4, 8, 16, 32, 60, 60) for step in backs_off(seconds)],
        fetches=9,
    ),
    scenario(
        "a success resets the backoff to one second",
        EMPTY,
        fails(),
        get(Unavailable),
        *backs_off(1),
        *backs_off(2),
        recovers,
        passes(4),
        get("v4"),
        fails(),
        passes(1000),
        get(Unavailable),
        *backs_off(1),
        fetches=6,
    ),
    scenario(
        "a lasting error backs off for a minute from the first time on",
        EMPTY,
        fails(Lasting()),
        get(Unavailable),
        *backs_off(60),
        *backs_off(60),
        fetches=3,
    ),
    scenario(
        "a lasting error backs off for a minute with a usable value",
        100,
        fails(Lasting()),
        get("v1"),
        *backs_off(60),
        fetches=2,
    ),
    scenario(
        "an expired answer is a failed fetch",
        EMPTY,
        returns_values_that_live(0, 0),
        get(Unavailable),
        get(Unavailable),
        fetches=1,
    ),
    scenario(
        "an expired answer does not replace a usable value",
        100,
        returns_values_that_live(-5, -1),
        get("v1"),
        get("v1"),
        fetches=1,
    ),
]

RETRY_AFTER = [
    scenario(
        "Retry-After is obeyed while a value is usable",
        100,
        fails(SourceDown(retry_after=300)),
        get("v1"),
        *backs_off(300),
        fetches=2,
    ),
    scenario(
        "Retry-After is obeyed for at most an hour",
        EMPTY,
        returns_values_that_live(100, 9000),
        get("v1"),
        passes(100),
        fails(SourceDown(retry_after=7200)),
        get("v1"),
        *backs_off(HOUR),
        fetches=3,
    ),
    scenario(
        "Retry-After is obeyed for at most a minute without a value",
        EMPTY,
        fails(SourceDown(retry_after=7200)),
        get(Unavailable),
        *backs_off(60),
        fetches=2,
    ),
    scenario(
        "Retry-After is obeyed without a value",
        EMPTY,
        fails(SourceDown(retry_after=20)),
        get(Unavailable),
        *backs_off(20),
        fetches=2,
    ),
    scenario(
        "when the value is gone, a long Retry-After ends after a minute",
        990,
        fails(SourceDown(retry_after=300)),
        get("v1"),
        passes(10),
        get(Unavailable),
        has_fetched(1),
        recovers,
        passes(50),
        get("v3"),
        fetches=2,
    ),
    scenario(
        "a short Retry-After does not shorten the backoff",
        EMPTY,
        fails(SourceDown(retry_after=0.1)),
        get(Unavailable),
        *backs_off(1),
        fetches=2,
    ),
    scenario(
        "an invalid Retry-After is ignored",
        EMPTY,
        fails(SourceDown(retry_after=float("nan"))),
        get(Unavailable),
        *backs_off(1),
        fetches=2,
    ),
]

RENEWALS = [
    scenario("a refused value is replaced although it is fresh", 50, renew("v1", "v2"), fetches=1),
    scenario("an old refused value causes no fetch", 50, renew("v0", "v1"), fetches=0),
    scenario(
        "a late refusal of an old value keeps the new one", 100, get("v1"), renew("v1", "v2"), fetches=1
    ),
    scenario("a refusal without a value is a get", EMPTY, renew("v0", "v1"), fetches=1),
    scenario("a refusal of a value that is gone makes one fetch", 1000, renew("v1", "v2"), fetches=1),
    scenario("a cold start does not start the cooldown", EMPTY, get("v1"), renew("v1", "v2"), fetches=2),
    scenario("a refresh by age does not start the cooldown", 100, get("v1"), renew("v2", "v3"), fetches=2),
    scenario(
        "one renewal is made per cooldown",
        0,
        renew("v1", "v2"),
        renew("v2", "v2"),
        passes(9.9),
        renew("v2", "v2"),
        has_fetched(1),
        passes(0.1),
        renew("v2", "v3"),
        fetches=2,
    ),
    scenario(
        "an attempt starts the cooldown, even if it fails",
        0,
        fails(),
        renew("v1", "v1"),
        recovers,
        passes(9.9),
        renew("v1", "v1"),
        has_fetched(1),
        passes(0.1),
        renew("v1", "v3"),
        fetches=2,
    ),
    scenario(
        "no renewal is made during a backoff",
        100,
        fails(SourceDown(retry_after=30)),
        get("v1"),
        recovers,
        passes(29.9),
        renew("v1", "v1"),
        has_fetched(1),
        passes(0.1),
        renew("v1", "v3"),
        fetches=2,
    ),
    scenario(
        "if the source returns the refused value again, it is used",
        0,
        repeats("v1"),
        renew("v1", "v1"),
        renew("v1", "v1"),
        get("v1"),
        fetches=1,
    ),
    scenario(
        "a failed renewal without a usable value is an error",
        1000,
        fails(),
        renew("v1", Unavailable),
        renew("v1", Unavailable),
        fetches=1,
    ),
    scenario(
        "a forgotten value is replaced by the next get", 50, forget("v1"), get("v2"), get("v2"), fetches=1
    ),
    scenario(
        "a value that replaced a forgotten one is fresh",
        50,
        forget("v1"),
        get("v2"),
        passes(99.9),
        get("v2"),
        has_fetched(1),
        passes(0.1),
        get("v2"),
        get("v3"),
        fetches=2,
    ),
    scenario("forgetting alone causes no fetch", 50, forget("v1"), fetches=0),
    scenario("another value than the current one is not forgotten", 50, forget("v0"), get("v1"), fetches=0),
    scenario(
        "a value forgotten twice is replaced once", 50, forget("v1"), forget("v1"), get("v2"), fetches=1
    ),
    scenario(
        "a value is not forgotten in a cooldown",
        0,
        renew("v1", "v2"),
        forget("v2"),
        get("v2"),
        fetches=1,
    ),
    scenario(
        "replacing a forgotten value starts the cooldown",
        0,
        forget("v1"),
        get("v2"),
        renew("v2", "v2"),
        passes(10),
        renew("v2", "v3"),
        fetches=2,
    ),
    scenario(
        "a forgotten value is used if no other is available",
        0,
        forget("v1"),
        fails(),
        get("v1"),
        get("v1"),
        passes(9.9),
        get("v1"),
        has_fetched(1),
        recovers,
        passes(0.1),
        get("v3"),
        fetches=2,
    ),
    scenario(
        "a forgotten value that is gone is an error while the source fails",
        0,
        forget("v1"),
        passes(1000),
        fails(),
        get(Unavailable),
        fetches=1,
    ),
]

HANGING = [
    scenario(
        "a fetch is abandoned at its deadline, and the source backs off",
        EMPTY,
        hangs,
        get(Unavailable),
        get(Unavailable),
        fetches=1,
    ),
    scenario(
        "the next fetch may start after an abandoned one",
        EMPTY,
        hangs,
        get(Unavailable),
        recovers,
        passes(1),
        get("v2"),
        fetches=2,
    ),
    scenario(
        "a late answer never replaces a newer one",
        EMPTY,
        hangs,
        get(Unavailable),
        recovers,
        passes(1),
        get("v2"),
        late_answers_arrive,
        get("v2"),
        fetches=2,
    ),
    scenario(
        "a late answer is better than none",
        EMPTY,
        hangs,
        get(Unavailable),
        late_answers_arrive,
        get("v1"),
        fetches=1,
    ),
    scenario(
        "a late background answer never replaces a newer one",
        100,
        hangs,
        get("v1"),
        recovers,
        passes(DEADLINE),
        get("v1"),
        passes(1),
        get("v1"),
        get("v3"),
        late_answers_arrive,
        get("v3"),
        fetches=2,
    ),
    scenario(
        "a late answer that has expired is ignored",
        EMPTY,
        returns_values_that_live(5, 5),
        hangs,
        get(Unavailable),
        recovers,
        returns_values_that_live(100, 1000),
        passes(1),
        get("v2"),
        passes(100),
        late_answers_arrive,
        get("v2"),
        get("v3"),
        fetches=3,
    ),
    scenario(
        "a late failure is ignored",
        EMPTY,
        fails(),
        hangs,
        get(Unavailable),
        recovers,
        passes(1),
        get("v2"),
        passes(100),
        late_answers_arrive,
        get("v2"),
        get("v3"),
        fetches=3,
    ),
    scenario(
        "while a background fetch hangs, no other fetch starts",
        100,
        hangs,
        get("v1"),
        get("v1"),
        passes(DEADLINE - 0.1),
        get("v1"),
        fetches=1,
    ),
    scenario(
        "a hanging renewal returns the refused value at the deadline",
        0,
        hangs,
        renew("v1", "v1"),
        renew("v1", "v1"),
        fetches=1,
    ),
]


@pytest.mark.parametrize(
    ("age", "steps", "expected"), [*AGES, *CLOCKS, *FAILURES, *RETRY_AFTER, *RENEWALS, *HANGING]
)
def test_scenario(
    build: Build, clocks: Clocks, source: Source, age: float | None, steps: Sequence[Step], expected: int
) -> None:
    assert Stage(build, clocks, source).play(age, steps) == expected


@pytest.mark.parametrize(
    ("age", "steps", "expected"),
    [
        scenario("a young value is not replaced because it was refused", 4.9, renew("v1", "v1"), fetches=0),
        scenario("a young value is not forgotten", 4.9, forget("v1"), get("v1"), fetches=0),
        scenario("a value of the minimum age is replaced", 5, renew("v1", "v2"), fetches=1),
        scenario("a value of the minimum age is forgotten", 5, forget("v1"), get("v2"), fetches=1),
        scenario(
            "the minimum age is measured by the monotonic clock",
            0,
            wall_jumps(60),
            renew("v1", "v1"),
            fetches=0,
        ),
    ],
)
def test_scenario_with_a_minimum_age_of_five_seconds(
    build: Build, clocks: Clocks, source: Source, age: float | None, steps: Sequence[Step], expected: int
) -> None:
    assert Stage(build, clocks, source, min_age=5.0).play(age, steps) == expected


@pytest.mark.parametrize(
    ("age", "steps", "expected"),
    [
        scenario("a cold start fetches", EMPTY, get("v1"), get("v1"), fetches=1),
        scenario("a caller with a usable value fetches, and gets the new one", 100, get("v2"), fetches=1),
        scenario("a failed fetch keeps a usable value", 100, fails(), get("v1"), get("v1"), fetches=1),
        scenario("a failed fetch without a value is an error", EMPTY, fails(), get(Unavailable), fetches=1),
        scenario("a refused value is replaced", 0, renew("v1", "v2"), fetches=1),
        scenario("a forgotten value is replaced", 0, forget("v1"), get("v2"), fetches=1),
        scenario("a hanging fetch is abandoned at its deadline", EMPTY, hangs, get(Unavailable), fetches=1),
        scenario(
            "while a renewal hangs, callers get the usable value", 100, hangs, get("v1"), get("v1"), fetches=1
        ),
    ],
)
def test_inline_scenario(
    build: Build, clocks: Clocks, source: Source, age: float | None, steps: Sequence[Step], expected: int
) -> None:
    assert Stage(build, clocks, source, in_background=False).play(age, steps) == expected


FOREVER = float("inf")
PINNED = Fetched("pinned", -FOREVER, FOREVER, -FOREVER, "pinned")


@pytest.mark.parametrize(
    ("steps", "expected"),
    [
        pytest.param(
            [get("pinned"), get("v1")], 1, id="it is returned at once while a newer value is fetched"
        ),
        pytest.param(
            [fails(), get("pinned"), get("pinned")], 1, id="it is returned if no other value is available"
        ),
        pytest.param(
            [fails(), get("pinned"), *backs_off(1), *backs_off(2)], 3, id="the source backs off as usual"
        ),
        pytest.param([renew("pinned", "v1")], 1, id="it is replaced if it is refused"),
        pytest.param(
            [fails(), renew("pinned", "pinned")],
            1,
            id="a refused one is returned if no other is available",
        ),
        pytest.param(
            [get("pinned"), get("v1"), passes(999), get("v1"), get("v2")], 2, id="a fetched value comes first"
        ),
        pytest.param(
            [get("pinned"), get("v1"), fails(), passes(1000), get("pinned"), get("pinned")],
            2,
            id="it is returned again when the fetched value is gone",
        ),
        pytest.param(
            [
                get("pinned"),
                get("v1"),
                fails(),
                passes(1000),
                get("pinned"),
                recovers,
                passes(1),
                get("pinned"),
                get("v3"),
            ],
            3,
            id="a fetched value replaces it again",
        ),
        pytest.param([passes(1e8), wall_jumps(1e8), get("pinned")], 1, id="it does not age"),
        pytest.param([hangs, get("pinned"), get("pinned")], 1, id="it is returned while a fetch hangs"),
    ],
)
def test_last_resort(
    build: Build, clocks: Clocks, source: Source, steps: Sequence[Step], expected: int
) -> None:
    assert Stage(build, clocks, source, last_resort=PINNED).play(EMPTY, steps) == expected
