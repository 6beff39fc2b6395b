"""A guarded view and a token that was seen before: what the guard adds to a request."""

from __future__ import annotations

from tests.benchmarks.limits import limit_guard
from tests.benchmarks.measuring import measure_times, overhead_ratios, ratios
from tests.benchmarks.pool_process import pool_process
from tests.benchmarks.results import BARE, LIMIT, Figure, RowResult, Spread, ratio_figure, spreads
from tests.benchmarks.row import Effort, Row
from tests.benchmarks.wsgi import app_with, caller, guard_of

_MANY = 50
_FEW = 10


def _measure(effort: Effort) -> RowResult:
    slow = [subject.name for subject in effort.peers]
    guarding = [subject for subject in effort.subjects if subject.guard is not None]
    with pool_process() as pool:
        tokens = pool.tokens(1)
        apps = {
            BARE: app_with(None),
            LIMIT: app_with(limit_guard(tokens)),
            **{subject.name: app_with(guard_of(subject, pool.address)) for subject in guarding},
        }
        contenders = [
            caller(name, app, tokens, times=_FEW if name in slow else _MANY) for name, app in apps.items()
        ]
        times = measure_times(contenders, rounds=effort.pick(6, 100), passes=10)
    measured = [name for name in apps if name != BARE]
    overhead = {name: overhead_ratios(times, name, LIMIT, BARE) for name in measured}
    return RowResult(
        "seen-token",
        "a guarded view, a token seen before",
        (
            ratio_figure("the guard's overhead against the limit's", overhead, target=1.0),
            ratio_figure("the request against the bare one", _against_bare(times, measured), target=1.08),
            Figure("a request", "us", spreads(times, 1e6)),
        ),
        (f"the token has {len(tokens[0])} bytes",),
    )


def _against_bare(times: dict[str, list[float]], names: list[str]) -> dict[str, Spread]:
    return {name: ratios(times, name, BARE) for name in names}


ROW = Row("seen-token", _measure)
