"""What routes demand is read off them wherever a framework lets it be said."""

from __future__ import annotations

from typing import Any

import pytest
from flask import Flask
from flask.views import MethodView, View
from flask_caching import Cache

from flask_m2m_cognito import require_scopes
from flask_m2m_cognito.web.route_demands import route_demands

READ = frozenset({"shop/read"})
guard = require_scopes("shop/read")
cache = Cache()


def scopes_of_get(app: Flask) -> frozenset[str]:
    (route,) = [route for route in route_demands(app) if route.rule == "/a" and route.method == "GET"]
    assert route.is_open is (not route.scopes)
    return route.scopes


def add(app: Flask, view_class: type[View]) -> Flask:
    app.add_url_rule("/a", view_func=view_class.as_view("a"))
    return app


class DispatchRequest(View):
    @guard
    def dispatch_request(self) -> str:
        return ""


class Method(MethodView):
    @guard
    def get(self) -> str:
        return ""


class Decorators(MethodView):
    decorators = [guard]  # noqa: RUF012

    def get(self) -> str:
        return ""


class OtherMethod(MethodView):
    @guard
    def post(self) -> str:
        return ""

    def get(self) -> str:
        return ""


class MethodDecorators(MethodView):
    """As in Flask-RESTful, but Flask does not look at it."""

    method_decorators = [guard]  # noqa: RUF012

    def get(self) -> str:
        return ""


class NoMethod(View):
    """A plain view, which answers by itself."""

    def dispatch_request(self) -> str:
        return ""

    @guard
    def get(self) -> str:
        return ""


@pytest.mark.parametrize(
    ("view_class", "scopes"),
    [(DispatchRequest, READ), (Method, READ), (Decorators, READ), (OtherMethod, frozenset())],
    ids=["dispatch_request", "a method", "decorators of the class", "another method"],
)
def test_a_class_demands_what_stands_before_its_method(
    view_class: type[View], scopes: frozenset[str]
) -> None:
    assert scopes_of_get(add(Flask("shop"), view_class)) == scopes


@pytest.mark.parametrize("view_class", [MethodDecorators, NoMethod])
def test_what_flask_does_not_run_demands_nothing(view_class: type[View]) -> None:
    app = add(Flask("shop"), view_class)
    assert app.test_client().get("/a").status_code == 200
    assert scopes_of_get(app) == frozenset()


class CachedMethod(MethodView):
    @cache.cached()
    @guard
    def get(self) -> str:
        return ""


class CachedClass(MethodView):
    decorators = [cache.cached()]  # noqa: RUF012

    @guard
    def get(self) -> str:
        return ""


class CachedBelow(MethodView):
    decorators = [cache.cached(), guard]  # noqa: RUF012

    def get(self) -> str:
        return ""


@pytest.mark.parametrize(
    ("view", "is_behind"),
    [
        (cache.cached()(guard(lambda: "")), True),
        (cache.memoize()(guard(lambda: "")), True),
        (guard(cache.cached()(lambda: "")), False),
        (CachedMethod.as_view("a"), True),
        (CachedClass.as_view("a"), True),
        (CachedBelow.as_view("a"), False),
    ],
    ids=["above", "memoize above", "below", "above a method", "above a class", "below the class's guard"],
)
def test_guard_that_a_cache_answers_before_is_told_of(view: Any, is_behind: bool) -> None:
    app = Flask("shop")
    app.add_url_rule("/a", view_func=view)
    (route,) = [route for route in route_demands(app) if route.rule == "/a" and route.method == "GET"]
    assert route.scopes == READ
    assert route.behind_cache == (route.demands if is_behind else ())


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("decorators", "scopes"),
    [([guard], READ), ({"get": [guard]}, READ), ({"post": [guard]}, frozenset())],
    ids=["for all methods", "for the method", "for another method"],
)
def test_method_decorators_of_flask_restful_count(decorators: Any, scopes: frozenset[str]) -> None:
    from flask_restful import Api, Resource

    class Item(Resource):  # type: ignore[misc]
        method_decorators = decorators

        def get(self) -> str:
            return ""

    app = Flask("shop")
    Api(app).add_resource(Item, "/a")
    assert scopes_of_get(app) == scopes
