"""The cache fails, or a process forks: revocations still reach every process that can reach the cache."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from cachelib import FileSystemCache

from flask_m2m_cognito.testing import LocalUserPool, MovedClock
from tests.support.clocks import Clocks
from tests.support.forks import in_a_child, needs_fork
from tests.support.relay import relay_to
from tests.support.services import Service
from tests.support.settling import settle

from .caches import HangingCache, RaisingCache
from .stage import HOUR, MovedService, app_on, get, moved_service

REACH = 11.0

Start = Callable[..., MovedService]


@pytest.fixture
def cache() -> RaisingCache:
    return RaisingCache()


@pytest.fixture
def start(pool: LocalUserPool, clocks: Clocks, cache: RaisingCache) -> Start:
    """Return a function that starts a process of the fleet, which has read the list."""

    def start(**settings: object) -> MovedService:
        service = moved_service(pool, clocks, cache=cache, REVOCATIONS=True, **settings)
        assert status(service, pool.token()) == 200
        return service

    return start


def status(service: MovedService, token: str) -> int:
    return service.get("/items", token).status_code


@pytest.mark.parametrize("reads", [1, 60])
def test_revocation_is_in_time_after_the_cache_has_recovered(
    reads: int, start: Start, pool: LocalUserPool, clocks: Clocks, cache: RaisingCache
) -> None:
    worker, operator = start(), start()
    token = pool.token(expires_in=86400)
    cache.misbehaves = True
    for _ in range(reads):
        clocks.advance(REACH)
        assert status(worker, token) == 200
    cache.misbehaves = False
    operator.parts.revoke(pool.client().client_id)
    clocks.advance(REACH)
    assert status(worker, token) == 401


@needs_fork
def test_child_of_a_process_that_read_the_list_reads_it_again(
    start: Start, pool: LocalUserPool, clocks: Clocks
) -> None:
    parent, operator = start(), start()
    token = pool.token()
    operator.parts.revoke(pool.client().client_id)
    assert in_a_child(lambda: status(parent, token)) == 200
    clocks.advance(REACH)
    assert in_a_child(lambda: status(parent, token)) == 401


def test_idle_process_reads_the_list_over_a_new_connection(
    real_pool: LocalUserPool, redis_server: Service
) -> None:
    """A firewall forgot the idle one, so that bytes on it get no answer."""
    token = real_pool.token()
    with relay_to(redis_server.port) as relay, MovedClock() as clock:
        shared = {"CACHE_TYPE": "RedisCache", "REVOCATIONS": True}
        worker, _ = app_on(real_pool, CACHE_REDIS_URL=f"redis://127.0.0.1:{relay.port}/0", **shared)
        operator, m2m = app_on(real_pool, CACHE_REDIS_URL=redis_server.url, **shared)
        assert get(worker.test_client(), "/items", token).status_code == 200
        settle()
        relay.forget(resets=False)
        m2m.for_app(operator).revoke(real_pool.client().client_id)
        clock.move(REACH)
        assert get(worker.test_client(), "/items", token).status_code == 401


def test_pool_that_hangs_delays_one_read_of_the_list(
    start: Start, pool: LocalUserPool, clocks: Clocks
) -> None:
    """An operator has refreshed the keys, and this process cannot download them."""
    worker, operator = start(), start()
    token = pool.token()
    clocks.advance(HOUR / 2)
    source = operator.parts._revocations
    assert source is not None
    pool.delay("jwks", HOUR)
    source.announce_keys({pool.pool_id: clocks.wall()})
    seconds = []
    for _ in range(3):
        clocks.advance(REACH)
        answer, took = worker.status("/items", token)
        assert answer == 200
        seconds.append(took)
    assert [round(each) for each in seconds] == [1, 0, 0]


def test_redis_never_expires_the_list(real_pool: LocalUserPool, redis_server: Service) -> None:
    """A `maxmemory-policy` of `volatile-…` then keeps it."""
    from redis import Redis

    app, m2m = app_on(real_pool, REVOCATIONS=True, CACHE_TYPE="RedisCache", CACHE_REDIS_URL=redis_server.url)
    m2m.for_app(app).revoke("shop")
    with Redis(port=redis_server.port) as redis:
        assert [redis.ttl(name) for name in redis.keys("*:revocations:*")] == [-1]


def test_full_file_cache_drops_other_entries_first(real_pool: LocalUserPool, tmp_path: Path) -> None:
    files = {"CACHE_TYPE": "FileSystemCache", "CACHE_DIR": str(tmp_path), "CACHE_THRESHOLD": 10}
    app, m2m = app_on(real_pool, REVOCATIONS=True, **files)
    m2m.for_app(app).revoke(real_pool.client().client_id)
    others = FileSystemCache(str(tmp_path), threshold=10)
    for number in range(20):
        others.set(str(number), "of the application", timeout=30 * 86400)
    started, _ = app_on(real_pool, REVOCATIONS=True, **files)
    assert get(started.test_client(), "/items", real_pool.token()).status_code == 401


def test_cache_that_hangs_holds_three_threads(pool: LocalUserPool, clocks: Clocks) -> None:
    cache = HangingCache()
    worker = moved_service(pool, clocks, cache=cache, REVOCATIONS=True, STORE_TIMEOUT=0.05)
    assert status(worker, pool.token()) == 200
    cache.misbehaves, before = True, cache.calls
    try:
        for _ in range(10):
            clocks.advance(REACH)
            assert status(worker, pool.token()) == 200
        assert cache.calls == before + 3
    finally:
        cache.recover()
