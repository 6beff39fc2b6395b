"""A master that loads the application, and may warm it up, before it forks its workers."""

from __future__ import annotations

from pathlib import Path

import pytest

from flask_m2m_cognito.testing import LocalUserPool
from tests.processes.fleet import gunicorn
from tests.processes.settings import IN_PROCESS, files, memcached, redis, settings
from tests.support.services import Service

pytestmark = [pytest.mark.processes, pytest.mark.slow]

CALLERS = 50
CLASSES = {
    "sync": ["-k", "sync"],
    "gthread": ["-k", "gthread", "--threads", "8"],
    "gevent": ["-k", "gevent"],
}
every_class = pytest.mark.parametrize("options", CLASSES.values(), ids=CLASSES)


@pytest.fixture(params=["redis", "memcached", "files", "no shared cache"])
def cache(request: pytest.FixtureRequest, tmp_path: Path) -> dict[str, object]:
    if request.param == "files":
        return files(tmp_path / "cache")
    if request.param == "no shared cache":
        return IN_PROCESS
    server: Service = request.getfixturevalue(f"{request.param}_server")
    return redis(server) if request.param == "redis" else memcached(server)


@every_class
def test_workers_of_a_warmed_master_send_no_requests(
    pool: LocalUserPool, cache: dict[str, object], options: list[str]
) -> None:
    config = {**settings(pool, cache), "WARM_UP": 30}
    with gunicorn(config, ["-w", "4", "--preload", *options]) as fleet:
        replies = fleet.get_at_once("/work", pool.token("inventory/read"), CALLERS)
        assert {reply.status for reply in replies} == {200}, fleet.log
    assert len({reply.json["token"] for reply in replies}) == 1
    assert (pool.count("jwks"), pool.count("token")) == (1, 1)


@every_class
def test_workers_forked_during_the_masters_fetch_wait_for_it(
    pool: LocalUserPool, redis_server: Service, options: list[str]
) -> None:
    pool.delay("all", 1.0)
    config = {**settings(pool, redis(redis_server)), "WARM_UP": 0.05}
    with gunicorn(config, ["-w", "4", "--preload", *options]) as fleet:
        replies = fleet.get_at_once("/work", pool.token("inventory/read"), CALLERS)
        assert {reply.status for reply in replies} == {200}, fleet.log
    assert len({reply.json["token"] for reply in replies}) == 1
    assert (pool.count("jwks"), pool.count("token")) == (1, 1)


@every_class
def test_workers_forked_during_a_fetch_need_no_shared_cache(pool: LocalUserPool, options: list[str]) -> None:
    pool.delay("all", 1.0)
    config = {**settings(pool, IN_PROCESS), "WARM_UP": 0.05}
    with gunicorn(config, ["-w", "4", "--preload", *options]) as fleet:
        replies = fleet.get_at_once("/work", pool.token("inventory/read"), CALLERS)
        assert {reply.status for reply in replies} == {200}, fleet.log
    # One for the master, and one for each worker.
    assert pool.count("jwks") <= 5
    assert pool.count("token") <= 5
