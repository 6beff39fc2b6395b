"""The tests of the team of orders, with the pool and the clock of the pytest plugin."""

from __future__ import annotations

from collections.abc import Iterator
from threading import Thread

import pytest
from flask import Flask, Response, jsonify, request
from flask.testing import FlaskClient
from werkzeug.serving import make_server

from flask_m2m_cognito.testing import LocalUserPool, MovedClock
from tests.journeys.calling_service.app import create_app


class Stock:
    """A service that sends the given answers, then 200, and records the tokens."""

    def __init__(self) -> None:
        self.answers: list[Response] = []
        self.tokens: list[str] = []
        self.app = Flask("stock")
        self.app.add_url_rule("/items", view_func=self.items, methods=["GET", "POST"])

    def items(self) -> Response:
        self.tokens.append(request.headers["Authorization"].removeprefix("Bearer "))
        return self.answers.pop(0) if self.answers else jsonify(items=["tea"])


@pytest.fixture
def stock() -> Stock:
    return Stock()


@pytest.fixture
def orders(m2m_clock: MovedClock, m2m_pool: LocalUserPool, stock: Stock) -> Iterator[FlaskClient]:
    server = make_server("127.0.0.1", 0, stock.app, threaded=True)
    thread = Thread(target=server.serve_forever)
    thread.start()
    url = f"http://127.0.0.1:{server.server_port}"
    warehouse = {"CLIENT_ID": "local-client", "CLIENT_SECRET": m2m_pool.client().secret}
    config = m2m_pool.config(ALLOWED_CLIENT_IDS="*", CLIENTS={"warehouse": warehouse})
    try:
        yield create_app({**config, "STOCK_URL": url}).test_client()
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def rejection() -> Response:
    return Response(status=401, headers={"WWW-Authenticate": 'Bearer error="invalid_token"'})


def test_two_calls_need_one_token(orders: FlaskClient, m2m_pool: LocalUserPool) -> None:
    assert orders.get("/stock").get_json() == {"items": ["tea"]}
    assert orders.get("/stock").status_code == 200
    assert m2m_pool.count("token") == 1


def test_token_is_renewed_before_it_expires(orders: FlaskClient, stock: Stock, m2m_clock: MovedClock) -> None:
    orders.get("/stock")
    m2m_clock.move(3600)
    assert orders.get("/stock").status_code == 200
    first, second = stock.tokens
    assert first != second


def test_rejected_token_is_replaced_once(orders: FlaskClient, stock: Stock, m2m_clock: MovedClock) -> None:
    orders.get("/stock")
    m2m_clock.move(60)
    stock.answers = [rejection()]
    assert orders.get("/stock").status_code == 200
    first, second, third = stock.tokens
    assert first == second != third
