"""The applications of these tests. Their settings come from the environment, as in a deployment."""

from __future__ import annotations

import os
from typing import Any

from flask import Blueprint, Flask
from flask.views import MethodView

from flask_m2m_cognito import CognitoM2M

m2m = CognitoM2M()


def create_app() -> Flask:
    """Create an application that uses every kind of guard."""
    app = configured("shop")
    app.register_blueprint(_pages())
    app.register_blueprint(_orders())
    app.add_url_rule("/items", view_func=Items.as_view("items"))

    @app.get("/report")
    @m2m.require_scopes("reports/read", "reports/all", match="any", clients=["billing"])
    def report() -> str:
        return ""

    @app.route("/stock", methods=["GET", "PUT", "DELETE"])
    @m2m.require_scopes(by_method={"GET": "stock/read", "PUT": ["stock/write"]})
    def stock() -> str:
        return ""

    return app


def create_protected_app() -> Flask:
    """Create an application that is guarded as a whole, with exceptions."""
    app = configured("protected")
    m2m.protect(app, "shop/use", public=["static"])

    @app.get("/hello")
    @m2m.public
    def hello() -> str:
        return ""

    @app.get("/secret")
    def secret() -> str:
        return ""

    return app


def create_bare_app() -> Flask:
    """Create an application without the extension."""
    return Flask("bare")


def create_unguarded_app() -> Flask:
    """Create an application without guards."""
    return configured("unguarded")


def create_checking_app() -> Flask:
    """Create an application with its own token check."""
    return configured("checking", COGNITO_M2M_TOKEN_CHECK=lambda token: token.claims.get("version") != 2)


def create_app_without_its_secret() -> Flask:
    """Create an application whose secret cannot be read on this machine."""

    def secret() -> str:
        raise RuntimeError("no credentials for top-secret")

    return configured("elsewhere", COGNITO_M2M_CLIENT_SECRET=secret)


def create_app_with_a_number_as_secret() -> Flask:
    """Create an application whose secret is a callable that does not return text."""
    return configured("numbered", COGNITO_M2M_CLIENT_SECRET=lambda: 7)


def create_own_cache_app() -> Flask:
    """Create an application with its own cache, with Flask-Caching's default serializer."""
    from flask_caching import Cache

    app = Flask("own-cache")
    app.config.from_prefixed_env()
    cache = Cache(app)
    m2m.init_app(app)
    guard = m2m.require_scopes("shop/use")
    app.add_url_rule("/above", "above", cache.cached()(guard(lambda: "")))
    app.add_url_rule("/below", "below", guard(cache.cached()(lambda: "")))
    return app


def configured(name: str, **config: Any) -> Flask:
    app = Flask(name, static_folder=os.path.dirname(__file__))
    app.config.from_prefixed_env()
    app.config.update(config)
    m2m.init_app(app)
    return app


class Items(MethodView):
    """A class whose methods require different scopes."""

    @m2m.require_scopes("items/read")
    def get(self) -> str:
        return ""

    @m2m.require_scopes("items/write")
    def post(self) -> str:
        return ""


def _pages() -> Blueprint:
    pages = Blueprint("pages", __name__)

    @pages.get("/")
    def home() -> str:
        return ""

    @pages.get("/who")
    @m2m.optional_token
    def who() -> str:
        return ""

    return pages


def _orders() -> Blueprint:
    orders, lines = Blueprint("orders", __name__, url_prefix="/orders"), Blueprint("lines", __name__)
    m2m.protect(orders, "orders/read", public=["about"])

    @orders.get("/about")
    def about() -> str:
        return ""

    @lines.get("/lines")
    @m2m.require_scopes("orders/lines")
    def all_lines() -> str:
        return ""

    orders.register_blueprint(lines)
    return orders
