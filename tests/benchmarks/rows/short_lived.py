"""A token that lives four seconds, at an endpoint that takes 200 ms: who waits for a new one?"""

from __future__ import annotations

import random

from flask import Flask

from tests.benchmarks.limits import limit_ask
from tests.benchmarks.measuring import garbage_left_alone
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
            waits[subject.name], requests[subject.name] = _asked(pool, subject, seconds)
        waits[LIMIT] = again_and_again(THREADS, limit_ask(), seconds / 5, PAUSE)
    asks = ", ".join(f"{name} {len(each)} asks" for name, each in waits.items())
    return RowResult(
        "short-lived",
        f"a token of {LIFETIME} s, {THREADS} threads, an endpoint of {DELAY * 1000:g} ms",
        (
            count_figure(
                f"asks over {LONG * 1000:g} ms",
                {name: spread_of([sum(w.seconds > LONG for w in each)]) for name, each in waits.items()},
                target=0,
                # A machine that stands still for 50 ms makes all of one moment late.
                at_most=2 * THREADS,
            ),
            Figure(
                "the longest ask",
                "ms",
                {name: spread_of([1000 * max(w.seconds for w in each)]) for name, each in waits.items()},
                target=5,
                fails_above=1000 * DELAY,
            ),
            Figure("token requests", "", {name: spread_of([each]) for name, each in requests.items()}),
        ),
        (asks, "the limit shows what waits the machine itself makes", *effort.left_out),
    )


def _asked(pool: PoolProcess, subject: Subject, seconds: float) -> tuple[list[Wait], int]:
    assert subject.token is not None
    app = Flask(subject.name)
    ask = subject.token(app, pool.address, LIFETIME)
    pool.begin_again()
    pool.delay("token", DELAY)
    with app.app_context():
        ask()
    # What these threads keep of each wait is work for the collector, which stops them all for 30 ms.
    with garbage_left_alone() as collect:
        collect()
        waits = again_and_again(THREADS, in_context(app, ask), seconds, PAUSE)
    error = first_error(waits)
    if error is not None:
        raise error
    return waits, pool.count("token")


ROW = Row("short-lived", _measure)
