"""Cognito is down until the keys are no longer fresh, then no longer usable, and then it recovers."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from flask_m2m_cognito.testing import LocalUserPool
from tests.processes.fleet import Fleet, gunicorn
from tests.processes.settings import IN_PROCESS, redis, settings
from tests.support.services import Service
from tests.support.threads import load, wait_for

pytestmark = [pytest.mark.processes, pytest.mark.slow]

FRESH, USABLE = 1.0, 6.0
MARGIN = 2.0


@pytest.fixture(params=["redis", "no shared cache"])
def cache(request: pytest.FixtureRequest) -> Iterator[dict[str, object]]:
    if request.param == "redis":
        server: Service = request.getfixturevalue("redis_server")
        yield redis(server)
    else:
        yield IN_PROCESS


def send(fleet: Fleet, token: str, failures: list[tuple[float, int]]) -> tuple[int, float]:
    """Send a request. If it fails, store when, and the seconds of Retry-After."""
    started = time.monotonic()
    reply = fleet.get("/items", token)
    if reply.status != 200:
        failures.append((started, int(reply.headers["Retry-After"])))
    return reply.status, time.monotonic() - started


def test_outage_is_hidden_then_503_then_over_after_the_backoff(
    pool: LocalUserPool, cache: dict[str, object]
) -> None:
    token = pool.token("inventory/read", expires_in=3600)
    config = settings(pool, cache, KEYS_FRESH_FOR=FRESH, KEYS_USABLE_FOR=USABLE)
    failures: list[tuple[float, int]] = []
    with gunicorn(config, ["-w", "2", "-k", "gthread", "--threads", "4"]) as fleet:
        fleet.get_at_once("/items", token, 20)
        with load(lambda: send(fleet, token, failures)) as callers:
            pool.wait_for("jwks", pool.count("jwks") + 2, timeout=30)
            callers.go_on_for(20)
            assert callers.statuses == {200}, fleet.log
            down_at = time.monotonic()
            pool.offline()
            wait_for(lambda: failures, "keys are no longer usable", within=USABLE + MARGIN)
            callers.go_on_for(100)
            pool.online()
            backoff = max(retry_after for _, retry_after in failures)
            wait_for(
                lambda: [fleet.get("/items", token).status for _ in range(8)] == [200] * 8,
                "keys are available again",
                within=backoff + MARGIN,
            )
    assert callers.statuses == {200, 503}
    # No request waits for a fetch.
    assert callers.slowest < MARGIN
    assert failures[0][0] - down_at > USABLE - FRESH - MARGIN
    assert all(1 <= retry_after <= 60 for _, retry_after in failures)
