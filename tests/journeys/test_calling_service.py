"""Orders calls stock: two services as processes, and a pool that goes offline."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from flask_m2m_cognito.testing import LocalUserPool
from tests.journeys.running import Program, flask_run

pytestmark = pytest.mark.processes


@pytest.fixture
def pool() -> Iterator[LocalUserPool]:
    with LocalUserPool(clients={"orders": "stock/read", "warehouse": "stock/write"}) as pool:
        yield pool


@pytest.fixture
def stock(pool: LocalUserPool) -> Iterator[Program]:
    settings = pool.config(ALLOWED_CLIENT_IDS=["orders", "warehouse"])
    settings["RATELIMIT_ENABLED"] = False
    with flask_run("tests.journeys.company_service.app", settings) as running:
        yield running


@pytest.fixture
def orders(pool: LocalUserPool, stock: Program) -> Iterator[Program]:
    settings = {
        "COGNITO_M2M_TOKEN_URL": pool.token_url,
        "COGNITO_M2M_CLIENT_ID": "orders",
        "COGNITO_M2M_CLIENT_SECRET": pool.client("orders").secret,
        "COGNITO_M2M_CLIENTS": {
            "warehouse": {"CLIENT_ID": "warehouse", "CLIENT_SECRET": pool.client("warehouse").secret}
        },
        "STOCK_URL": stock.url,
    }
    with flask_run("tests.journeys.calling_service.app", settings) as running:
        yield running


def test_each_call_uses_the_token_of_its_client(orders: Program, pool: LocalUserPool) -> None:
    assert orders.get("/stock").json() == {"caller": "orders", "items": ["tea", "coffee"]}
    assert orders.post("/deliveries").json() == {"added": True}
    requested = [
        (each.form["client_id"], each.form["scope"]) for each in pool.requests if each.endpoint == "token"
    ]
    assert requested == [("orders", "stock/read"), ("warehouse", "stock/write")]


def test_calls_continue_while_the_pool_is_offline(orders: Program, pool: LocalUserPool) -> None:
    assert orders.get("/stock").status_code == 200
    with pool.offline():
        assert orders.get("/stock").status_code == 200


def test_without_a_token_callers_get_503(orders: Program, pool: LocalUserPool) -> None:
    with pool.offline():
        assert orders.get("/suggestions").json() == {"items": None}
        reply = orders.get("/stock")
    assert (reply.status_code, reply.json()["reason"]) == (503, "token_unavailable")
    assert int(reply.headers["Retry-After"]) >= 1
    assert "WARNING in app: No token for stock: " in orders.log
