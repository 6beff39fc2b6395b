"""A guarded view and a token that was seen before, with revocations on and off."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from typing import Any

from flask import Flask

from flask_m2m_cognito import AppM2M, CognitoM2M
from tests.benchmarks.measuring import Contender, measure_times, ratios
from tests.benchmarks.pool_process import NEEDED, Address, pool_process
from tests.benchmarks.results import OURS, Figure, RowResult, ratio_figure, spread_of, spreads
from tests.benchmarks.row import Effort, Row
from tests.benchmarks.subjects import Decorator
from tests.benchmarks.wsgi import app_with, caller

OFF = "off"
REVOKED = 100
"""The clients on the list. The token's client is not one of them."""


def _measure(effort: Effort) -> RowResult:
    with pool_process() as pool, tempfile.TemporaryDirectory(prefix="revocations-") as folder:
        apps = {
            OFF: app_with(lambda app: _guard(app, pool.address, folder)),
            OURS: app_with(lambda app: _guard(app, pool.address, folder, REVOCATIONS=True)),
        }
        for number in range(REVOKED):
            apps[OURS].extensions["cognito_m2m"].revoke(f"client-{number}")
        tokens = pool.tokens(1)
        requests = [caller(name, app, tokens, times=100) for name, app in apps.items()]
        times = measure_times(requests, rounds=effort.pick(6, 100), passes=20)
        alone = [_recalling(name, app.extensions["cognito_m2m"], tokens[0]) for name, app in apps.items()]
        recalls = measure_times(alone, rounds=effort.pick(20, 300))
    more = spread_of(1e6 * (on - off) for on, off in zip(recalls[OURS], recalls[OFF], strict=True))
    return RowResult(
        "revocations",
        "a guarded view, a token seen before, revocations on",
        (
            ratio_figure(
                "the request against one with revocations off", {OURS: ratios(times, OURS, OFF)}, target=1.01
            ),
            # Measured alone, because the noise of a whole request is 1 us.
            Figure("more for the token, without a request", "us", {OURS: more}, 0.1, fails_above=0.5),
            Figure("a request", "us", spreads(times, 1e6)),
        ),
        (f"the list has {REVOKED} clients; a background thread reads it every 10 s",),
    )


def _recalling(name: str, m2m: AppM2M, token: str) -> Contender:
    """Return a contender that finds a remembered token, as each request does."""
    validator = m2m.validator

    def work(inputs: Sequence[str]) -> None:
        recall = validator.recall
        for token in inputs:
            recall(token)

    def inputs() -> Sequence[str]:
        validator.validate(token)  # as a request does when the list must be read again
        return [token] * 1000

    return Contender(name, work, inputs)


def _guard(app: Flask, address: Address, folder: str, **settings: Any) -> Decorator:
    app.config.update(address.config(**settings), CACHE_TYPE="FileSystemCache", CACHE_DIR=folder)
    return CognitoM2M(app).require_scopes(NEEDED)


ROW = Row("revocations", _measure)
