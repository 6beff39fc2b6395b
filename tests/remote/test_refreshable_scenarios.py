"""The design's table of states as scenarios: given a value's age, steps, and how often the source was asked.

Each runs twice: for ``Refreshable`` itself, and over a shared store. Values are named ``v1``, ``v2``, …
in the order in which the source was asked for them. ``v1`` is fresh for 100 s and usable for 1000 s.
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
    """As ``invalid_client``: won't mend by itself."""


class Stage:
    """What a scenario's steps act upon. A fetch behind a caller begins when the caller has its value."""

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
        self.asked_before = 0
        self._in_background = arguments.get("in_background", True)
        self._is_behind = False
        self._behind: list[Callable[[], None]] = []
        self._hanging = Threads()
        self._gates: list[threading.Event] = []

    def play(self, age: float | None, steps: Sequence[Step]) -> int:
        """How often the source was asked in ``steps``, for a value of this age."""
        if age is not EMPTY:
            assert self.refreshable.get() == "v1"
            self.clocks.advance(age)
            self.asked_before = self.source.asked
        for step in steps:
            step(self)
        self.let_late_answers_come()
        return self.asked

    @property
    def asked(self) -> int:
        return self.source.asked - self.asked_before

    def get(self) -> str:
        is_usable = self.refreshable.snapshot()["state"] == "usable"
        self._is_behind = is_usable and self._in_background
        try:
            return self.refreshable.get()
        finally:
            self._is_behind = False
            behind, self._behind = self._behind, []
            for run in behind:
                self._run(run)

    def hang(self) -> None:
        self._gates.append(self.source.hang())

    def let_late_answers_come(self) -> None:
        for gate in self._gates:
            gate.set()
        self._hanging.join()

    def _start(self, run: Callable[[], None]) -> None:
        if self._is_behind:
            self._behind.append(run)
            return
        self._run(run)
        if self.source.hangs:
            self.clocks.advance(DEADLINE)  # the caller's wait

    def _run(self, run: Callable[[], None]) -> None:
        if not self.source.hangs:
            run()
            return
        entered = self.source.entered

        def run_to_the_end() -> None:
            try:
                run()
            finally:
                entered.release()  # it may not have asked at all

        self._hanging(run_to_the_end)
        self.source.wait_until_asked()


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
    """The wall clock is set; or with a number above 0, the machine slept with its monotonic clock."""

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


def late_answers_come(stage: Stage) -> None:
    stage.let_late_answers_come()


def repeats(value: str) -> Step:
    def step(stage: Stage) -> None:
        stage.source.repeats = value

    return step


def gives_values_that_live(fresh: float, usable: float) -> Step:
    def step(stage: Stage) -> None:
        stage.source.fresh_for, stage.source.usable_for = fresh, usable

    return step


def asked(times: int) -> Step:
    """The source was asked so often until now."""

    def step(stage: Stage) -> None:
        assert stage.asked == times

    return step


def resting(seconds: float) -> Sequence[Step]:
    """A failing source is left alone for so long, and is asked once after that."""

    def not_asked_before_the_end(stage: Stage) -> None:
        times = stage.asked
        passes(seconds - 0.01)(stage)
        outcome_of(stage.get)
        assert stage.asked == times
        passes(0.01)(stage)
        outcome_of(stage.get)
        assert stage.asked == times + 1

    return [not_asked_before_the_end]


def scenario(name: str, age: float | None, *steps: Step, asked: int) -> Any:
    return pytest.param(age, steps, asked, id=name)


AGES = [
    scenario("nothing is asked for before the first get", EMPTY, asked=0),
    scenario("an empty start fetches", EMPTY, get("v1"), get("v1"), asked=1),
    scenario("a fresh value is served as it is", 99.9, get("v1"), get("v1"), asked=0),
    scenario("a usable value is served and renewed behind", 100, get("v1"), get("v2"), asked=1),
    scenario("a usable value is served to its last moment", 999.9, get("v1"), get("v2"), asked=1),
    scenario("a value that is gone is waited for", 1000, get("v2"), asked=1),
    scenario("a new value lives as long as the first", 100, get("v1"), passes(99.9), get("v2"), asked=1),
]

CLOCKS = [
    scenario("a wall clock set forward makes a value old", 0, wall_jumps(100), get("v1"), get("v2"), asked=1),
    scenario(
        "a machine that slept for an hour holds a value that is gone", 0, wall_jumps(HOUR), get("v2"), asked=1
    ),
    scenario(
        "a monotonic clock makes a value old by itself",
        0,
        monotonic_jumps(100),
        get("v1"),
        get("v2"),
        asked=1,
    ),
    scenario("a monotonic clock lets a value go by itself", 0, monotonic_jumps(1000), get("v2"), asked=1),
    scenario("a wall clock set back keeps a fresh value fresh", 50, wall_jumps(-HOUR), get("v1"), asked=0),
    scenario(
        "a wall clock set back does not keep a value fresh for longer",
        0,
        wall_jumps(-HOUR),
        passes(100),
        get("v1"),
        get("v2"),
        asked=1,
    ),
    scenario(
        "a wall clock set back does not keep a value alive for longer",
        0,
        wall_jumps(-HOUR),
        passes(1000),
        get("v2"),
        asked=1,
    ),
    scenario(
        "what is fetched after a jump back lives its own time",
        0,
        wall_jumps(-HOUR),
        passes(100),
        get("v1"),
        get("v2"),
        passes(99.9),
        get("v2"),
        asked(1),
        passes(0.1),
        get("v2"),
        get("v3"),
        asked=2,
    ),
    scenario(
        "a rest is not shortened by a wall clock set forward",
        500,
        fails(),
        get("v1"),
        wall_jumps(30),
        get("v1"),
        asked=1,
    ),
    scenario(
        "a rest is not lengthened by a wall clock set back",
        500,
        fails(),
        get("v1"),
        wall_jumps(-HOUR),
        recovers,
        passes(1),
        get("v1"),
        get("v3"),
        asked=2,
    ),
]

FAILURES = [
    scenario("a failed fetch leaves a usable value", 100, fails(), get("v1"), get("v1"), asked=1),
    scenario("a failed fetch with nothing in hand is an error", EMPTY, fails(), get(Unavailable), asked=1),
    scenario("a failed fetch of a value that is gone is an error", 1000, fails(), get(Unavailable), asked=1),
    scenario(
        "while the source rests each caller gets the error at once",
        EMPTY,
        fails(),
        *[get(Unavailable)] * 5,
        asked=1,
    ),
    scenario(
        "while the source rests its recovery is not noticed",
        EMPTY,
        fails(),
        get(Unavailable),
        recovers,
        passes(0.99),
        get(Unavailable),
        asked(1),
        passes(0.01),
        get("v2"),
        asked=2,
    ),
    scenario(
        "a usable value is served until it is gone, then it is an error",
        100,
        fails(),
        get("v1"),
        passes(899.9),
        get("v1"),
        passes(0.1),
        get(Unavailable),
        asked=2,
    ),
    scenario(
        "a value that is renewed again is fresh",
        100,
        fails(),
        get("v1"),
        recovers,
        passes(1),
        get("v1"),
        get("v3"),
        passes(99.9),
        get("v3"),
        asked=2,
    ),
    scenario(
        "a rest doubles from one second to sixty, with nothing in hand",
        EMPTY,
        fails(),
        get(Unavailable),
        *[rest for seconds in (1, 2, 4, 8, 16, 32, 60, 60) for rest in resting(seconds)],
        asked=9,
    ),
    scenario(
        "a rest doubles from one second to sixty, while a value is usable",
        100,
        fails(),
        get("v1"),
        *[rest for seconds in (1, 2, 4, 8, 16, 32, 60, 60) for rest in resting(seconds)],
        asked=9,
    ),
    scenario(
        "after a success the next rest is one second again",
        EMPTY,
        fails(),
        get(Unavailable),
        *resting(1),
        *resting(2),
        recovers,
        passes(4),
        get("v4"),
        fails(),
        passes(1000),
        get(Unavailable),
        *resting(1),
        asked=6,
    ),
    scenario(
        "what won't mend rests a minute, from the first time on",
        EMPTY,
        fails(Lasting()),
        get(Unavailable),
        *resting(60),
        *resting(60),
        asked=3,
    ),
    scenario(
        "what won't mend rests a minute while a value is usable",
        100,
        fails(Lasting()),
        get("v1"),
        *resting(60),
        asked=2,
    ),
    scenario(
        "an answer that has already ended is a failed fetch",
        EMPTY,
        gives_values_that_live(0, 0),
        get(Unavailable),
        get(Unavailable),
        asked=1,
    ),
    scenario(
        "an answer that has already ended does not replace a usable value",
        100,
        gives_values_that_live(-5, -1),
        get("v1"),
        get("v1"),
        asked=1,
    ),
]

RETRY_AFTER = [
    scenario(
        "Retry-After is obeyed while a value is usable",
        100,
        fails(SourceDown(retry_after=300)),
        get("v1"),
        *resting(300),
        asked=2,
    ),
    scenario(
        "Retry-After is obeyed for an hour at most",
        EMPTY,
        gives_values_that_live(100, 9000),
        get("v1"),
        passes(100),
        fails(SourceDown(retry_after=7200)),
        get("v1"),
        *resting(HOUR),
        asked=3,
    ),
    scenario(
        "Retry-After is obeyed for a minute at most with nothing in hand",
        EMPTY,
        fails(SourceDown(retry_after=7200)),
        get(Unavailable),
        *resting(60),
        asked=2,
    ),
    scenario(
        "Retry-After is obeyed with nothing in hand",
        EMPTY,
        fails(SourceDown(retry_after=20)),
        get(Unavailable),
        *resting(20),
        asked=2,
    ),
    scenario(
        "a long Retry-After ends a minute after the failure once the value is gone",
        990,
        fails(SourceDown(retry_after=300)),
        get("v1"),
        passes(10),
        get(Unavailable),
        asked(1),
        recovers,
        passes(50),
        get("v3"),
        asked=2,
    ),
    scenario(
        "a short Retry-After does not shorten the rest",
        EMPTY,
        fails(SourceDown(retry_after=0.1)),
        get(Unavailable),
        *resting(1),
        asked=2,
    ),
    scenario(
        "a Retry-After that is no number of seconds is none",
        EMPTY,
        fails(SourceDown(retry_after=float("nan"))),
        get(Unavailable),
        *resting(1),
        asked=2,
    ),
]

RENEWALS = [
    scenario("a refused value is replaced, fresh as it is", 50, renew("v1", "v2"), asked=1),
    scenario("what was refused before is no reason to fetch", 50, renew("v0", "v1"), asked=0),
    scenario("a late refusal of an old value keeps the new one", 100, get("v1"), renew("v1", "v2"), asked=1),
    scenario("a refusal with nothing in hand is a get", EMPTY, renew("v0", "v1"), asked=1),
    scenario("a refusal of a value that is gone is one fetch", 1000, renew("v1", "v2"), asked=1),
    scenario("a cold start does not begin the cooldown", EMPTY, get("v1"), renew("v1", "v2"), asked=2),
    scenario("a refresh by age does not begin the cooldown", 100, get("v1"), renew("v2", "v3"), asked=2),
    scenario(
        "there is one renewal in a cooldown",
        0,
        renew("v1", "v2"),
        renew("v2", "v2"),
        passes(9.9),
        renew("v2", "v2"),
        asked(1),
        passes(0.1),
        renew("v2", "v3"),
        asked=2,
    ),
    scenario(
        "an attempt begins the cooldown, whether it succeeds or not",
        0,
        fails(),
        renew("v1", "v1"),
        recovers,
        passes(9.9),
        renew("v1", "v1"),
        asked(1),
        passes(0.1),
        renew("v1", "v3"),
        asked=2,
    ),
    scenario(
        "a source that rests is not asked for a renewal",
        100,
        fails(SourceDown(retry_after=30)),
        get("v1"),
        recovers,
        passes(29.9),
        renew("v1", "v1"),
        asked(1),
        passes(0.1),
        renew("v1", "v3"),
        asked=2,
    ),
    scenario(
        "the refused value given again is one attempt, and serves",
        0,
        repeats("v1"),
        renew("v1", "v1"),
        renew("v1", "v1"),
        get("v1"),
        asked=1,
    ),
    scenario(
        "a renewal that fails with nothing usable is an error",
        1000,
        fails(),
        renew("v1", Unavailable),
        renew("v1", Unavailable),
        asked=1,
    ),
    scenario(
        "a forgotten value is replaced by the next get", 50, forget("v1"), get("v2"), get("v2"), asked=1
    ),
    scenario(
        "a value that replaced a forgotten one is fresh",
        50,
        forget("v1"),
        get("v2"),
        passes(99.9),
        get("v2"),
        asked(1),
        passes(0.1),
        get("v2"),
        get("v3"),
        asked=2,
    ),
    scenario("forgetting asks for nothing by itself", 50, forget("v1"), asked=0),
    scenario("another value than the held one is not forgotten", 50, forget("v0"), get("v1"), asked=0),
    scenario("a value forgotten twice is replaced once", 50, forget("v1"), forget("v1"), get("v2"), asked=1),
    scenario(
        "a value is not forgotten in a cooldown",
        0,
        renew("v1", "v2"),
        forget("v2"),
        get("v2"),
        asked=1,
    ),
    scenario(
        "replacing a forgotten value begins the cooldown",
        0,
        forget("v1"),
        get("v2"),
        renew("v2", "v2"),
        passes(10),
        renew("v2", "v3"),
        asked=2,
    ),
    scenario(
        "a forgotten value serves when no other can be had, and is asked for once in a cooldown",
        0,
        forget("v1"),
        fails(),
        get("v1"),
        get("v1"),
        passes(9.9),
        get("v1"),
        asked(1),
        recovers,
        passes(0.1),
        get("v3"),
        asked=2,
    ),
    scenario(
        "a forgotten value that is gone is an error while the source fails",
        0,
        forget("v1"),
        passes(1000),
        fails(),
        get(Unavailable),
        asked=1,
    ),
]

HANGING = [
    scenario(
        "a fetch that outlives its deadline is given up, and the source rests",
        EMPTY,
        hangs,
        get(Unavailable),
        get(Unavailable),
        asked=1,
    ),
    scenario(
        "after a fetch that was given up the next may start",
        EMPTY,
        hangs,
        get(Unavailable),
        recovers,
        passes(1),
        get("v2"),
        asked=2,
    ),
    scenario(
        "a late answer never replaces a newer one",
        EMPTY,
        hangs,
        get(Unavailable),
        recovers,
        passes(1),
        get("v2"),
        late_answers_come,
        get("v2"),
        asked=2,
    ),
    scenario(
        "a late answer is better than none",
        EMPTY,
        hangs,
        get(Unavailable),
        late_answers_come,
        get("v1"),
        asked=1,
    ),
    scenario(
        "a late answer never replaces a newer one behind a usable value",
        100,
        hangs,
        get("v1"),
        recovers,
        passes(DEADLINE),
        get("v1"),
        passes(1),
        get("v1"),
        get("v3"),
        late_answers_come,
        get("v3"),
        asked=2,
    ),
    scenario(
        "a late answer that has ended meanwhile leaves no mark",
        EMPTY,
        gives_values_that_live(5, 5),
        hangs,
        get(Unavailable),
        recovers,
        gives_values_that_live(100, 1000),
        passes(1),
        get("v2"),
        passes(100),
        late_answers_come,
        get("v2"),
        get("v3"),
        asked=3,
    ),
    scenario(
        "a late failure leaves no mark",
        EMPTY,
        fails(),
        hangs,
        get(Unavailable),
        recovers,
        passes(1),
        get("v2"),
        passes(100),
        late_answers_come,
        get("v2"),
        get("v3"),
        asked=3,
    ),
    scenario(
        "while a fetch hangs behind, a usable value is served and no other fetch begins",
        100,
        hangs,
        get("v1"),
        get("v1"),
        passes(DEADLINE - 0.1),
        get("v1"),
        asked=1,
    ),
    scenario(
        "a renewal that hangs gives the refused value after the deadline",
        0,
        hangs,
        renew("v1", "v1"),
        renew("v1", "v1"),
        asked=1,
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
        scenario("a young value is not replaced because it was refused", 4.9, renew("v1", "v1"), asked=0),
        scenario("a young value is not forgotten", 4.9, forget("v1"), get("v1"), asked=0),
        scenario("a value of the least age is replaced", 5, renew("v1", "v2"), asked=1),
        scenario("a value of the least age is forgotten", 5, forget("v1"), get("v2"), asked=1),
        scenario(
            "the least age is told by the monotonic clock", 0, wall_jumps(60), renew("v1", "v1"), asked=0
        ),
    ],
)
def test_scenario_with_a_least_age_of_five_seconds(
    build: Build, clocks: Clocks, source: Source, age: float | None, steps: Sequence[Step], expected: int
) -> None:
    assert Stage(build, clocks, source, min_age=5.0).play(age, steps) == expected


@pytest.mark.parametrize(
    ("age", "steps", "expected"),
    [
        scenario("an empty start fetches", EMPTY, get("v1"), get("v1"), asked=1),
        scenario("a caller with a usable value fetches, and gets the new one", 100, get("v2"), asked=1),
        scenario("a failed fetch leaves a usable value", 100, fails(), get("v1"), get("v1"), asked=1),
        scenario(
            "a failed fetch with nothing in hand is an error", EMPTY, fails(), get(Unavailable), asked=1
        ),
        scenario("a refused value is replaced", 0, renew("v1", "v2"), asked=1),
        scenario("a forgotten value is replaced", 0, forget("v1"), get("v2"), asked=1),
        scenario("a fetch that hangs is given up at its deadline", EMPTY, hangs, get(Unavailable), asked=1),
        scenario("while a renewal hangs what is usable serves", 100, hangs, get("v1"), get("v1"), asked=1),
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
        pytest.param([get("pinned"), get("v1")], 1, id="it serves at once, while a newer value is fetched"),
        pytest.param([fails(), get("pinned"), get("pinned")], 1, id="it serves when nothing else can be had"),
        pytest.param([fails(), get("pinned"), *resting(1), *resting(2)], 3, id="the source rests as ever"),
        pytest.param([renew("pinned", "v1")], 1, id="refused, it is replaced"),
        pytest.param(
            [fails(), renew("pinned", "pinned")], 1, id="refused, it serves when nothing else can be had"
        ),
        pytest.param(
            [get("pinned"), get("v1"), passes(999), get("v1"), get("v2")], 2, id="it waits for its turn"
        ),
        pytest.param(
            [get("pinned"), get("v1"), fails(), passes(1000), get("pinned"), get("pinned")],
            2,
            id="it serves again when the fetched value is gone",
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
            id="it makes way again for what is fetched",
        ),
        pytest.param([passes(1e8), wall_jumps(1e8), get("pinned")], 1, id="it does not age"),
        pytest.param([hangs, get("pinned"), get("pinned")], 1, id="it serves while a fetch hangs"),
    ],
)
def test_last_resort(
    build: Build, clocks: Clocks, source: Source, steps: Sequence[Step], expected: int
) -> None:
    assert Stage(build, clocks, source, last_resort=PINNED).play(EMPTY, steps) == expected
