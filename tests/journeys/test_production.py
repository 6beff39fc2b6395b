"""Gunicorn with several workers on two hosts, with Redis, OTLP, probes and a log."""

from __future__ import annotations

import json
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from flask_m2m_cognito.testing import LocalUserPool
from tests.journeys.collector import Collector, running_collector
from tests.journeys.running import HOST, Program, program
from tests.support.services import Service
from tests.support.sockets import free_port
from tests.support.threads import wait_for

pytestmark = pytest.mark.processes

WORKERS = 2
CONF = "python:tests.journeys.production.gunicorn_conf"


@pytest.fixture
def pool() -> Iterator[LocalUserPool]:
    with LocalUserPool(clients={"stock": "purchase/write"}) as pool:
        yield pool


@pytest.fixture
def collector() -> Iterator[Collector]:
    with running_collector() as collector:
        yield collector


@contextmanager
def host(pool: LocalUserPool, redis: Service, collector: Collector) -> Generator[Program, None, None]:
    """Run one of the hosts behind the load balancer."""
    settings = {
        **pool.config(ALLOWED_CLIENT_IDS=["orders", "reports"]),
        "COGNITO_M2M_CACHE_KEY": "the same long random text in every process",
        "CACHE_TYPE": "RedisCache",
        "CACHE_REDIS_URL": redis.url,
    }
    environ = {
        "OTEL_SERVICE_NAME": "stock",
        "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": collector.url,
        "OTEL_METRIC_EXPORT_INTERVAL": "200",  # milliseconds
    }
    port = free_port()
    # A worker ignores a signal to stop while it boots.
    options = ["--bind", f"{HOST}:{port}", "--graceful-timeout", "3"]
    others = len(collector.latest)
    with program(["gunicorn", "--config", CONF, *options], port, settings, environ) as running:
        wait_for(lambda: len(collector.latest) == others + WORKERS, "all workers have started")
        yield running


def json_lines(host: Program) -> list[dict[str, Any]]:
    return [json.loads(line) for line in host.log.splitlines() if line.startswith("{")]


@pytest.mark.slow
def test_two_hosts_fetch_keys_and_a_token_once(
    pool: LocalUserPool, redis_server: Service, collector: Collector
) -> None:
    read, write = pool.token("stock/read", "orders"), pool.token("stock/read stock/write", "orders")
    with host(pool, redis_server, collector) as first, host(pool, redis_server, collector) as second:
        for each in (first, second) * 4:
            assert each.get("/items", read).json()["caller"] == "orders"
            assert each.post("/orders", write).json() == {"authorized": True}
        for each in (first, second):
            assert each.get("/internal/health").json()["store"] == {"works": True, "kind": "RedisCache"}
    assert (pool.count("jwks"), pool.count("token")) == (1, 1)


@pytest.mark.slow
def test_host_that_starts_in_an_outage_serves(
    pool: LocalUserPool, redis_server: Service, collector: Collector
) -> None:
    read = pool.token("stock/read", "orders")
    with (
        host(pool, redis_server, collector) as first,
        pool.offline(),
        host(pool, redis_server, collector) as second,
    ):
        assert second.get("/internal/ready").status_code == 200
        assert [each.get("/items", read).status_code for each in (first, second)] == [200, 200]


def test_only_probes_are_public_and_rejections_are_logged(
    pool: LocalUserPool, redis_server: Service, collector: Collector
) -> None:
    with host(pool, redis_server, collector) as stock:
        paths = ("/internal/ready", "/internal/health", "/items", "/nowhere")
        assert [stock.get(path).status_code for path in paths] == [200, 200, 401, 401]
        stock.post("/orders", pool.token("stock/read", "reports"))
        (line,) = [line for line in json_lines(stock) if line.get("status") == 403]
    names = ("event", "level", "logger", "reason", "status", "path", "client_id")
    assert {name: line[name] for name in names} == {
        "event": "token-rejected",
        "level": "INFO",
        "logger": "flask_m2m_cognito.auth",
        "reason": "insufficient_scope",
        "status": 403,
        "path": "/orders",
        "client_id": "reports",
    }
    assert "stock/write" in line["required_scopes"]


def test_metrics_of_all_workers_add_up(
    pool: LocalUserPool, redis_server: Service, collector: Collector
) -> None:
    read = pool.token("stock/read", "orders")
    with host(pool, redis_server, collector) as stock:
        pids: list[int] = []

        def each_worker_has_served() -> bool:
            pids.append(stock.get("/items", read).json()["pid"])
            return len(set(pids)) == WORKERS

        wait_for(each_worker_has_served, "each worker has served")
        stock.get("/items")

        def count(**attributes: str) -> float:
            return collector.total("cognito_m2m.requests", **attributes)

        wait_for(lambda: count(cognito_m2m_outcome="accepted") == len(pids), "requests are counted")
        wait_for(lambda: count(error_type="missing_token") == 1, "rejected ones too")
        assert collector.total("cognito_m2m.ready") == WORKERS
        assert collector.total("cognito_m2m.cache.up") == WORKERS
