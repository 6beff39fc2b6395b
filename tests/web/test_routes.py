"""``m2m.routes`` says what each route requires, for a test of the application's own."""

from __future__ import annotations

import pytest
from flask import Blueprint, Flask
from flask_caching import Cache

from flask_m2m_cognito import CognitoM2M, Route, RouteNeed
from flask_m2m_cognito.testing import LocalUserPool


@pytest.fixture
def m2m() -> CognitoM2M:
    return CognitoM2M()


@pytest.fixture
def app(m2m: CognitoM2M, local_pool: LocalUserPool) -> Flask:
    app = Flask("shop", static_folder=None)
    app.config.update(local_pool.config(ALLOWED_CLIENT_IDS="*"))
    m2m.init_app(app)
    app.get("/about", endpoint="about")(lambda: "")
    orders = Blueprint("orders", __name__)
    m2m.protect(orders, "orders/read")
    guard = m2m.require_scopes(by_method={"GET": "orders/list"}, clients=["billing"])
    orders.route("/orders", endpoint="list", methods=["GET", "POST"])(guard(lambda: ""))
    app.register_blueprint(orders)
    kept = Cache(app, config={"CACHE_TYPE": "SimpleCache"}).cached()
    app.get("/kept", endpoint="kept")(kept(m2m.optional_token(lambda: "")))
    app.get("/unsure", endpoint="unsure")(kept(m2m.require_scopes()(lambda: "")))
    m2m.require_scopes()(app.get("/above", endpoint="above")(lambda: ""))
    return app


def test_routes_say_what_each_method_requires(app: Flask, m2m: CognitoM2M) -> None:
    of_blueprint = RouteNeed("blueprint orders", frozenset({"orders/read"}), "all", None, is_optional=False)
    listed = RouteNeed("view", frozenset({"orders/list"}), "all", frozenset({"billing"}), is_optional=False)
    refused = RouteNeed("view", None, "all", frozenset({"billing"}), is_optional=False)
    assert [route for route in m2m.routes(app) if route.rule in ("/about", "/orders")] == [
        Route("/about", "about", ("GET",), ()),
        Route("/orders", "orders.list", ("GET",), (of_blueprint, listed)),
        Route("/orders", "orders.list", ("POST",), (of_blueprint, refused)),
    ]
    assert m2m.routes() == m2m.for_app(app).routes() == m2m.routes(app)


def test_routes_tell_open_unknown_and_misplaced(app: Flask, m2m: CognitoM2M) -> None:
    routes = m2m.routes(app)
    assert {route.endpoint for route in routes if route.is_open} == {"about", "kept", "unsure", "above"}
    assert {route.endpoint for route in routes if route.is_unknown} == {"unsure"}
    assert {route.endpoint: route.misplaced for route in routes if route.misplaced} == {"above": "guard"}


def test_routes_are_of_an_initialised_application(m2m: CognitoM2M) -> None:
    with pytest.raises(RuntimeError, match="'other'"):
        m2m.routes(Flask("other"))
