"""Tokens that expire after four seconds, and an endpoint that takes 200 ms: do callers wait for new ones?"""

from __future__ import annotations

import random

from flask import Flask

from tests.benchmarks.limits import limit_ask
from tests.benchmarks.measuring import garbage_collection_off
from tests.benchmarks.pool_process import PoolProcess, pool_process
from tests.benchmarks.results import LIMIT, Figure, RowResult, count_figure, spread_of
from tests.benchmarks.row import Effort, Row
from tests.benchmarks.subjects import Subject, in_context
from tests.benchmarks.threads import Wait, again_and_again, first_error

THREADS = 8
LIFETIME = 4
DELAY = 0.2
LONG = 0.05
PAUSE = 0.002


def _measure(effort: Effort) -> RowResult:
    seconds = effort.pick(5.0, 15.0)
    subjects = [s for s in effort.patient_subjects if s.token is not None]
    waits: dict[str, list[Wait]] = {}
    requests: dict[str, int] = {}
    with pool_process(LIFETIME) as pool:
        for subject in random.sample(subjects, len(subjects)):
            waits[subject.name], requests[subject.name] = _measure_waits(pool, subject, seconds)
        waits[LIMIT] = again_and_again(THREADS, limit_ask(), seconds / 5, PAUSE)
    calls = ", ".join(f"{name} {len(each)} calls" for name, each in waits.items())
    return RowResult(
        "short-lived",
        f"a token of {LIFETIME} s, {THREADS} threads, an endpoint of {DELAY * 1000:g} ms",
        (
            count_figure(
                f"calls over {LONG * 1000:g} ms",
                {name: spread_of([sum(w.seconds > LONG for w in each)]) for name, each in waits.items()},
                target=0,
                # A machine that stops for 50 ms delays all calls of that moment.
                at_most=2 * THREADS,
            ),
            Figure(
                "the longest call",
                "ms",
                {name: spread_of([1000 * max(w.seconds for w in each)]) for name, each in waits.items()},
                target=5,
                fails_above=1000 * DELAY,
            ),
            Figure("token requests", "", {name: spread_of([each]) for name, each in requests.items()}),
        ),
        (calls, "the limit shows the waits that the machine itself causes", *effort.left_out),
    )


def _measure_waits(pool: PoolProcess, subject: Subject, seconds: float) -> tuple[list[Wait], int]:
    assert subject.token is not None
    app = Flask(subject.name)
    ask = subject.token(app, pool.address, LIFETIME)
    pool.reset()
    pool.delay("token", DELAY)
    with app.app_context():
        ask()
    # The garbage collector would stop all threads for 30 ms, because they keep a record of each wait.
    with garbage_collection_off() as collect:
        collect()
        waits = again_and_again(THREADS, in_context(app, ask), seconds, PAUSE)
    error = first_error(waits)
    if error is not None:
        raise error
    return waits, pool.count("token")


ROW = Row("short-lived", _measure)
