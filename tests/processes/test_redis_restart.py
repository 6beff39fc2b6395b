"""Redis restarts under load, or hangs: no request fails, and each waits for a limited time."""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from flask_m2m_cognito.testing import LocalUserPool
from tests.processes.fleet import Fleet, gunicorn
from tests.processes.settings import redis, settings
from tests.support.services import Service, running_redis
from tests.support.threads import load, wait_for

pytestmark = [pytest.mark.processes, pytest.mark.slow]

STORE_TIMEOUT = 0.25
FIRST_CALL_TIMEOUT = 2.0
CIRCUIT = 30.0
MARGIN = 2.0
WORKERS = 2
HOUR = 3600

OPTIONS = {
    "gthread": ["-w", str(WORKERS), "-k", "gthread", "--threads", "4"],
    "gevent": ["-w", str(WORKERS), "-k", "gevent"],
}


@pytest.fixture
def short_lived() -> Iterator[LocalUserPool]:
    """A pool whose tokens are renewed every three seconds."""
    with LocalUserPool(token_lifetime=4) as pool:
        yield pool


def send(fleet: Fleet, token: str) -> tuple[int, float]:
    started = time.perf_counter()
    status = fleet.get("/work", token).status
    return status, time.perf_counter() - started


def processes_that_said(fleet: Fleet, text: str) -> Counter[str]:
    return Counter(re.findall(rf"^(\d+) flask_m2m_cognito: {text}", fleet.log, re.MULTILINE))


def processes_that_serve(fleet: Fleet) -> set[str]:
    return {fleet.get("/internal/health").headers["X-Pid"] for _ in range(8)}


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_redis_restart_under_load_fails_no_request(
    short_lived: LocalUserPool, own_redis: Service, options: list[str]
) -> None:
    pool = short_lived
    token = pool.token("inventory/read", expires_in=HOUR)
    config = settings(pool, redis(own_redis), KEYS_FRESH_FOR=1, STORE_TIMEOUT=STORE_TIMEOUT)
    with gunicorn(config, options) as fleet, ExitStack() as again:
        fleet.get_at_once("/work", token, 20)
        with load(lambda: send(fleet, token)) as callers:
            pool.wait_for("jwks", pool.count("jwks") + 2, timeout=30)
            own_redis.stop()
            wait_for(
                lambda: len(processes_that_said(fleet, "The cache is unavailable")) == WORKERS, "noticed"
            )
            again.enter_context(running_redis(own_redis.port))
            wait_for(
                lambda: len(processes_that_said(fleet, "Recovered: the cache")) == WORKERS,
                "the recovery is noticed",
                within=CIRCUIT + 15,
            )
            callers.go_on_for(40)
        assert callers.statuses == {200}, fleet.log
        assert callers.slowest < STORE_TIMEOUT + MARGIN
        assert set(processes_that_said(fleet, "The cache is unavailable").values()) == {1}, fleet.log
        assert set(processes_that_said(fleet, "Recovered: the cache").values()) == {1}, fleet.log


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_redis_that_hangs_from_the_start_causes_one_short_wait(
    pool: LocalUserPool, own_redis: Service, options: list[str]
) -> None:
    token = pool.token("inventory/read", expires_in=HOUR)
    with own_redis.paused(), gunicorn(settings(pool, redis(own_redis)), options) as fleet:
        # They have started, and have sent no request yet.
        wait_for(lambda: len(processes_that_serve(fleet)) == WORKERS, "the workers have started")
        # Not more callers than threads of one worker, or some would wait for others.
        with load(lambda: send(fleet, token), threads=4) as callers:
            callers.go_on_for(64)
    assert callers.statuses == {200}, fleet.log
    # The first request also makes late imports. A get without a time limit would take 59 s.
    assert callers.slowest < FIRST_CALL_TIMEOUT + 2 * MARGIN
    assert pool.count("jwks") <= WORKERS
    assert pool.count("token") <= WORKERS
