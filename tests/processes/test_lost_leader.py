"""SIGKILL to the leader: other processes take over when its lease expires, and later refreshes are normal."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from flask_m2m_cognito.testing import LocalUserPool
from tests.processes.fleet import Fleet, gunicorn
from tests.processes.settings import files, redis, settings
from tests.support.services import Service
from tests.support.threads import wait_for

pytestmark = [pytest.mark.processes, pytest.mark.slow]

DEADLINE = 10.0
LEASE = 0.6 * DEADLINE
MARGIN = 3.0
"""Seconds for a request and a pause between two reads of the cache, on a busy machine."""

WORKERS = 4
LIFETIME = 12
"""Seconds of a token, which is renewed after nine seconds, 7 % more or less."""


@pytest.fixture
def short_lived() -> Iterator[LocalUserPool]:
    with LocalUserPool(token_lifetime=LIFETIME) as pool:
        yield pool


@pytest.fixture(params=["redis", "files"])
def cache(request: pytest.FixtureRequest, tmp_path: Path) -> dict[str, object]:
    if request.param == "files":
        return files(tmp_path / "cache")
    server: Service = request.getfixturevalue("redis_server")
    return redis(server)


def test_other_processes_take_over_when_the_lease_expires(
    short_lived: LocalUserPool, cache: dict[str, object]
) -> None:
    pool = short_lived
    pool.fail("token", hang=True, times=1)
    config = settings(pool, cache, REFRESH_DEADLINE=DEADLINE)
    with gunicorn(config, ["-w", str(WORKERS), "-k", "sync"]) as fleet:
        requested_at = time.monotonic()
        with fleet.asking("/pid-then-token") as leader:
            pool.wait_for("token", timeout=30)
            leased_at = time.monotonic()
            with ThreadPoolExecutor(WORKERS - 1) as callers:
                # A sync worker handles one request at a time, so other workers get these, or they wait.
                others = [callers.submit(fleet.get, "/pid-then-token") for _ in range(WORKERS - 1)]
                os.kill(int(leader), signal.SIGKILL)
                lines = [other.result().text.split() for other in others]
            finished_at = time.monotonic()
        assert {len(line) for line in lines} == {2}, fleet.log
        assert leader not in {pid for pid, _ in lines}
        digests = {digest for _, digest in lines}
        assert len(digests) == 1
        # One request of the dead leader, and one of its successor.
        assert pool.count("token") == 2
        # The leader took the lease after it got the request, and before it sent one to the pool.
        assert finished_at - requested_at > LEASE
        assert finished_at - leased_at < LEASE + MARGIN

        assert_next_refresh_is_normal(pool, fleet, digests)


def assert_next_refresh_is_normal(pool: LocalUserPool, fleet: Fleet, before: set[str]) -> None:
    held: dict[str, str] = {}
    requests_before = pool.count("token")

    def all_have_a_new_one() -> bool:
        pid, digest = fleet.get("/pid-then-token").text.split()
        held[pid] = digest
        return len(held) == WORKERS and before.isdisjoint(held.values())

    wait_for(all_have_a_new_one, "each worker has a new token", within=3 * LIFETIME)
    assert len(set(held.values())) == 1
    assert pool.count("token") - requests_before == 1


def test_leader_that_stops_normally_leaves_no_lease(pool: LocalUserPool, cache: dict[str, object]) -> None:
    config = settings(pool, cache, REFRESH_DEADLINE=DEADLINE)
    with gunicorn(config, ["-w", "2", "-k", "sync"]) as fleet:
        first = digest_from(fleet)
    with gunicorn(config, ["-w", "2", "-k", "sync"]) as fleet:
        assert digest_from(fleet) == first
    assert pool.count("token") == 1


def digest_from(fleet: Fleet) -> str:
    return fleet.get("/pid-then-token").text.split()[1]
