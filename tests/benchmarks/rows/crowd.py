"""Two hundred threads that need the outbound token of a process that has none yet."""

from __future__ import annotations

import random
import time
from collections import defaultdict

from flask import Flask

from tests.benchmarks.limits import fetch_token, limit_crowd
from tests.benchmarks.pool_process import PoolProcess, pool_process
from tests.benchmarks.results import LIMIT, RowResult, count_figure, ratio_figure, spreads
from tests.benchmarks.row import Effort, Row
from tests.benchmarks.subjects import Ask, in_context
from tests.benchmarks.threads import at_once, first_error

THREADS = 200
DELAY = 0.05


def _measure(effort: Effort) -> RowResult:
    asking = {subject.name: subject.token for subject in effort.patient_subjects if subject.token is not None}
    asking[LIMIT] = lambda app, address, lifetime: limit_crowd(address)
    requests: dict[str, list[float]] = defaultdict(list)
    against: dict[str, list[float]] = defaultdict(list)
    with pool_process() as pool:
        for number in range(effort.pick(5, 16)):
            for name in random.sample(sorted(asking), len(asking)):
                # Measured just before, because the machine's speed varies.
                trip = min(_round_trip(pool) for _ in range(3))
                app = Flask(name)
                count, seconds = _crowd(pool, app, asking[name](app, pool.address, 3600))
                if number:
                    requests[name].append(count)
                    against[name].append(seconds / trip)
    return RowResult(
        "crowd",
        f"{THREADS} threads on a cold start",
        (
            count_figure("token requests", spreads(requests), target=1),
            ratio_figure(
                "all served, against one round trip",
                spreads(against),
                target=1.25,
            ),
        ),
        (
            f"the endpoint takes {DELAY * 1000:g} ms; a round trip is one request with urllib.request",
            *effort.left_out,
        ),
    )


def _crowd(pool: PoolProcess, app: Flask, ask: Ask) -> tuple[int, float]:
    """Return the number of token requests, and the seconds until all threads were served."""
    _begin(pool)
    seconds, waits = at_once(THREADS, in_context(app, ask))
    error = first_error(waits)
    if error is not None:
        raise error
    return pool.count("token"), seconds


def _round_trip(pool: PoolProcess) -> float:
    _begin(pool)
    begun = time.perf_counter()
    fetch_token(pool.address)
    return time.perf_counter() - begun


def _begin(pool: PoolProcess) -> None:
    pool.reset()
    pool.delay("token", DELAY)


ROW = Row("crowd", _measure)
