"""Four sync workers of gunicorn: their CPU time per guarded request, and requests per second."""

from __future__ import annotations

import random
from collections import defaultdict

from tests.benchmarks.gunicorn_process import cpu_seconds, gunicorn, workers_of
from tests.benchmarks.load import LoadProcess
from tests.benchmarks.measuring import Times, ratios
from tests.benchmarks.pool_process import pool_process
from tests.benchmarks.results import BARE, LIMIT, Figure, RowResult, ratio_figure, spreads
from tests.benchmarks.row import Effort, Row
from tests.benchmarks.served_app import Plan
from tests.processes.fleet import Fleet


def _measure(effort: Effort) -> RowResult:
    guarding = [subject.name for subject in effort.subjects if subject.guard is not None]
    names = [BARE, LIMIT, *guarding]
    with pool_process() as pool:
        token = pool.tokens(1)[0]
        with gunicorn(Plan(pool.address, token)) as fleet, LoadProcess() as load:
            cpu, wall = _measure_load(fleet, load, names, token, effort)
    measured = [name for name in names if name != BARE]
    return RowResult(
        "workers",
        "gunicorn, 4 sync workers",
        (
            ratio_figure(
                "worker CPU for a request, against the bare view",
                {name: ratios(cpu, name, BARE) for name in measured},
                target=1.05,
            ),
            Figure(
                "requests a second, against the bare view",
                "x",
                {name: ratios(wall, BARE, name) for name in measured},
                target=0.95,
                more_is_better=True,
            ),
            Figure(
                "worker CPU for a request",
                "us",
                spreads(cpu, 1e6),
            ),
        ),
        (f"load by {load.name}, on the same cores as the workers",),
    )


def _measure_load(
    fleet: Fleet, load: LoadProcess, names: list[str], token: str, effort: Effort
) -> tuple[Times, Times]:
    """Return the CPU and the wall clock seconds per request, for each name and round."""
    cpu: Times = defaultdict(list)
    wall: Times = defaultdict(list)
    pids = workers_of(fleet)
    for name in names:
        load.run(fleet.port, f"/{name}", token, 0.3)  # each worker fetches its keys
    for _ in range(effort.pick(3, 20)):
        for name in random.sample(names, len(names)):
            before = cpu_seconds(pids)
            result = load.run(fleet.port, f"/{name}", token, effort.pick(0.3, 1.0))
            cpu[name].append((cpu_seconds(pids) - before) / result.served)
            wall[name].append(1 / result.a_second)
    return cpu, wall


ROW = Row("workers", _measure)
