"""A cold fleet under load acts as one client: one JWKS download and one token request in total."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from flask_m2m_cognito.testing import LocalUserPool
from tests.processes.fleet import Reply, gunicorn, waitress
from tests.processes.settings import files, memcached, redis, settings
from tests.support.services import Service

pytestmark = [pytest.mark.processes, pytest.mark.slow]

MOST_LEADERS_ON_FILES = 4
"""Adding a file is not atomic, so a few processes may get the lease."""

CALLERS = 200

WORKER_CLASSES = {
    "sync": ["-k", "sync"],
    "gthread": ["-k", "gthread", "--threads", "8"],
    "gevent": ["-k", "gevent"],
    "sync, preloaded": ["-k", "sync", "--preload"],
    "gthread, preloaded": ["-k", "gthread", "--threads", "8", "--preload"],
    "gevent, preloaded": ["-k", "gevent", "--preload"],
}


def assert_all_served(replies: list[Reply], workers: int, log: str, most_tokens: int = 1) -> None:
    assert {reply.status for reply in replies} == {200}, log
    assert len({reply.json["token"] for reply in replies}) <= most_tokens
    assert len({reply.json["pid"] for reply in replies}) <= workers


@pytest.mark.parametrize("workers", [4, 16])
@pytest.mark.parametrize("options", WORKER_CLASSES.values(), ids=WORKER_CLASSES)
def test_cold_fleet_on_redis_fetches_keys_and_token_once(
    pool: LocalUserPool, redis_server: Service, options: list[str], workers: int
) -> None:
    with gunicorn(settings(pool, redis(redis_server)), ["-w", str(workers), *options]) as fleet:
        replies = fleet.get_at_once("/work", pool.token("inventory/read"), CALLERS)
        assert_all_served(replies, workers, fleet.log)
    assert (pool.count("jwks"), pool.count("token")) == (1, 1)


@pytest.mark.parametrize("workers", [4, 16])
@pytest.mark.parametrize("options", WORKER_CLASSES.values(), ids=WORKER_CLASSES)
def test_cold_fleet_on_memcached_fetches_keys_and_token_once(
    pool: LocalUserPool, memcached_server: Service, options: list[str], workers: int
) -> None:
    with gunicorn(settings(pool, memcached(memcached_server)), ["-w", str(workers), *options]) as fleet:
        replies = fleet.get_at_once("/work", pool.token("inventory/read"), CALLERS)
        assert_all_served(replies, workers, fleet.log)
    assert (pool.count("jwks"), pool.count("token")) == (1, 1)


@pytest.mark.parametrize("workers", [4, 16])
@pytest.mark.parametrize("options", WORKER_CLASSES.values(), ids=WORKER_CLASSES)
def test_cold_fleet_on_files_sends_few_requests(
    pool: LocalUserPool, tmp_path: Path, options: list[str], workers: int
) -> None:
    with gunicorn(settings(pool, files(tmp_path / "cache")), ["-w", str(workers), *options]) as fleet:
        replies = fleet.get_at_once("/work", pool.token("inventory/read"), CALLERS)
        assert_all_served(replies, workers, fleet.log, MOST_LEADERS_ON_FILES)
    assert 1 <= pool.count("jwks") <= MOST_LEADERS_ON_FILES
    assert 1 <= pool.count("token") <= MOST_LEADERS_ON_FILES


@pytest.mark.parametrize("cache", [redis, memcached])
def test_four_waitress_processes_fetch_keys_and_token_once(
    pool: LocalUserPool, request: pytest.FixtureRequest, cache: Callable[[Service], dict[str, object]]
) -> None:
    server: Service = request.getfixturevalue(f"{cache.__name__}_server")
    with waitress(settings(pool, cache(server)), processes=4) as fleet:
        replies = fleet.get_at_once("/work", pool.token("inventory/read"), CALLERS)
        assert_all_served(replies, 4, fleet.log)
    assert (pool.count("jwks"), pool.count("token")) == (1, 1)
