"""The outbound token when one is cached, inside an application context."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from flask import Flask

from tests.benchmarks.limits import limit_ask
from tests.benchmarks.measuring import Contender, measure_times, ratios
from tests.benchmarks.pool_process import pool_process
from tests.benchmarks.results import LIMIT, Figure, RowResult, ratio_figure, spreads
from tests.benchmarks.row import Effort, Row
from tests.benchmarks.subjects import Ask

_PASS = 0.002
"""Seconds that one contender's turn takes."""


def _measure(effort: Effort) -> RowResult:
    asking = {subject.name: subject.token for subject in effort.subjects}
    with pool_process() as pool:
        contenders = [_contender(LIMIT, Flask("limit"), limit_ask(), time.thread_time)]
        notes: list[str] = []
        for name, token in asking.items():
            if token is None:
                continue
            app = Flask(name)
            ask = token(app, pool.address, 3600)
            pool.reset()
            with app.app_context():
                ask()
                ask()
            remembers = pool.count("token") == 1
            # A subject that waits for the endpoint uses no CPU time.
            contenders.append(
                _contender(name, app, ask, time.thread_time if remembers else time.perf_counter)
            )
            if not remembers:
                notes.append(f"{name} calls the endpoint each time, on loopback")
        times = measure_times(contenders, rounds=effort.pick(10, 100))
    names = [contender.name for contender in contenders]
    against = {name: ratios(times, name, LIMIT) for name in names}
    in_us = spreads(times, 1e6)
    return RowResult(
        "outbound",
        "the outbound token when one is cached",
        (
            ratio_figure("against an attribute read and a clock read", against, target=4),
            Figure("a token", "us", in_us),
        ),
        tuple(notes),
    )


def _contender(name: str, app: Flask, ask: Ask, clock: Callable[[], float]) -> Contender:
    def work(inputs: Sequence[None]) -> None:
        with app.app_context():
            for _ in inputs:
                # Four calls, so the cost of the loop matters less.
                ask()
                ask()
                ask()
                ask()

    begun = clock()
    work([None])
    work([None])
    times = max(1, min(2000, int(2 * _PASS / (clock() - begun))))
    return Contender(name, work, lambda: [None] * times, per_input=4, clock=clock)


ROW = Row("outbound", _measure)
