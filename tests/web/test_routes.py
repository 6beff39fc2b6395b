"""``m2m.routes`` lists what each route requires, wherever its guard is."""

from __future__ import annotations

import functools
import importlib
from typing import Any

import pytest
from flask import Blueprint, Flask
from flask.views import MethodView, View
from flask_caching import Cache
from flask_cors import cross_origin
from flask_limiter import Limiter
from flask_limiter.util import get_remote_address
from webargs.fields import Int
from webargs.flaskparser import use_args

from flask_m2m_cognito import CognitoM2M, Route, RouteNeed, require_scopes
from flask_m2m_cognito.web.routes import routes_by_method, scopes_in
from tests.web.conftest import MakeApp

READ = frozenset({"shop/read"})
guard = require_scopes("shop/read")
cache = Cache()
limiter = Limiter(get_remote_address, storage_uri="memory://")


def scopes_of_get(app: Flask) -> frozenset[str]:
    scopes = scopes_in(route_of_get(app).needs)
    assert route_of_get(app).is_open is (not scopes)
    return scopes


def route_of_get(app: Flask) -> Route:
    (route,) = [each for each in routes_by_method(app) if (each.rule, each.methods) == ("/a", ("GET",))]
    return route


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
    """An attribute of Flask-RESTful, which Flask ignores."""

    method_decorators = [guard]  # noqa: RUF012

    def get(self) -> str:
        return ""


class NoMethod(View):
    """A plain view, which answers in dispatch_request."""

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
def test_class_requires_what_guards_its_method(view_class: type[View], scopes: frozenset[str]) -> None:
    assert scopes_of_get(add(Flask("shop"), view_class)) == scopes


@pytest.mark.parametrize("view_class", [MethodDecorators, NoMethod])
def test_guard_that_flask_does_not_run_is_not_listed(view_class: type[View]) -> None:
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


def remember(view: Any) -> Any:
    """Cache answers like a hand-written decorator that shows its cache."""
    answers: dict[str, Any] = {}

    @functools.wraps(view)
    def remembering() -> Any:
        return answers.setdefault("", view())

    remembering.cached_answers = answers  # type: ignore[attr-defined]
    return remembering


def plain(view: Any) -> Any:
    """Wrap a function in one that calls it."""
    return functools.wraps(view)(lambda: view())


def named_after(view: Any) -> Any:
    """Return a function with the name and docstring of another, which it does not call."""
    return functools.wraps(view)(lambda: str(READ))


def memo(view: Any) -> Any:
    """Cache answers like a hand-written decorator that hides its cache."""
    answers: dict[str, Any] = {}

    @functools.wraps(view)
    def wrapper() -> Any:
        if "" not in answers:
            answers[""] = view()
        return answers[""]

    return wrapper


class Memo:
    """The same as ``memo``, as a class."""

    def __init__(self, view: Any) -> None:
        functools.update_wrapper(self, view)

    def __call__(self) -> str:
        return "kept"


class OwnAsView(Method):
    @classmethod
    def as_view(cls, name: str, *arguments: Any, **named: Any) -> Any:
        def view() -> str:
            return "open"

        view.view_class = cls  # type: ignore[attr-defined]
        return view


def dispatched(*guards: Any) -> Any:
    """Return a class with its own dispatch_request, below ``guards``, above its guarded method."""

    class Dispatched(Method):
        def dispatch_request(self) -> str:  # type: ignore[override]
            return ""

    for each in guards:
        Dispatched.dispatch_request = each(Dispatched.dispatch_request)  # type: ignore[method-assign]
    return Dispatched.as_view("a")


class WrappedDispatch(Method):
    dispatch_request = guard(MethodView.dispatch_request)  # type: ignore[assignment]


@pytest.mark.parametrize(
    ("view", "skippable"),
    [
        pytest.param(cache.cached()(guard(lambda: "")), 1, id="cached above"),
        pytest.param(cache.memoize()(guard(lambda: "")), 1, id="memoize above"),
        pytest.param(functools.lru_cache(guard(lambda: "")), 1, id="lru_cache above"),
        pytest.param(plain(functools.cache(plain(guard(lambda: "")))), 1, id="cache among others above"),
        pytest.param(remember(guard(lambda: "")), 1, id="an own cache above"),
        pytest.param(plain(remember(guard(lambda: ""))), 1, id="an own cache below another decorator"),
        pytest.param(functools.singledispatch(guard(lambda: "")), 1, id="singledispatch above"),
        pytest.param(named_after(guard(lambda: "")), 1, id="a function with only its name above"),
        pytest.param(
            plain(named_after(guard(lambda: ""))), 1, id="a function with only its name below another"
        ),
        pytest.param(plain(guard(lambda: "")), 1, id="an own decorator above"),
        pytest.param(memo(guard(lambda: "")), 1, id="a hidden cache above"),
        pytest.param(Memo(guard(lambda: "")), 1, id="a cache that is a class above"),
        pytest.param(OwnAsView.as_view("a"), 1, id="an own as_view above"),
        pytest.param(cross_origin()(guard(lambda: "")), 0, id="Flask-CORS above"),
        pytest.param(limiter.limit("9 per second")(guard(lambda: "")), 0, id="Flask-Limiter above"),
        pytest.param(use_args({"a": Int()})(guard(lambda: "")), 0, id="webargs above"),
        pytest.param(CachedMethod.as_view("a"), 1, id="above a method"),
        pytest.param(CachedClass.as_view("a"), 1, id="above a class"),
        pytest.param(dispatched(), 1, id="an own dispatch_request above"),
        pytest.param(dispatched(guard), 1, id="an own dispatch_request below another guard"),
        pytest.param(guard(functools.lru_cache(guard(lambda: ""))), 1, id="between two guards"),
        pytest.param(guard(cache.cached()(lambda: "")), 0, id="cached below"),
        pytest.param(guard(functools.lru_cache(lambda: "")), 0, id="lru_cache below"),
        pytest.param(guard(plain(remember(lambda: ""))), 0, id="an own cache below"),
        pytest.param(CachedBelow.as_view("a"), 0, id="below the class's guard"),
        pytest.param(WrappedDispatch.as_view("a"), 0, id="Flask's dispatch_request above"),
    ],
)
def test_guard_that_may_be_skipped_does_not_count(view: Any, skippable: int) -> None:
    app = Flask("shop")
    app.add_url_rule("/a", "a", view)
    route = route_of_get(app)
    assert scopes_in(route.needs) == READ
    assert sum(need.is_skippable for need in route.needs) == skippable
    assert route.is_open is (len(route.needs) == skippable)


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


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("library", ["flask_restful", "flask_restx"])
def test_dispatch_request_counts_if_a_framework_defines_it(library: str) -> None:
    module = importlib.import_module(library)

    class Item(module.Resource):  # type: ignore[misc, name-defined]
        @guard
        def get(self) -> str:
            return ""

    class Own(Item):
        def dispatch_request(self) -> str:
            return ""

    app = Flask("shop")
    api = module.Api(app)
    api.add_resource(Item, "/item")
    api.add_resource(Own, "/own")
    is_open = {route.rule: route.is_open for route in routes_by_method(app) if route.needs}
    assert is_open == {"/item": False, "/own": True}


@pytest.fixture
def shop(make_app: MakeApp, m2m: CognitoM2M) -> Flask:
    app = make_app(Flask("shop", static_folder=None))
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


def test_routes_list_what_each_method_requires(shop: Flask, m2m: CognitoM2M) -> None:
    of_blueprint = RouteNeed("blueprint orders", frozenset({"orders/read"}), "all", None, is_optional=False)
    listed = RouteNeed("view", frozenset({"orders/list"}), "all", frozenset({"billing"}), is_optional=False)
    rejected = RouteNeed("view", None, "all", frozenset({"billing"}), is_optional=False)
    assert [route for route in m2m.routes(shop) if route.rule in ("/about", "/orders")] == [
        Route("/about", "about", ("GET",), ()),
        Route("/orders", "orders.list", ("GET",), (of_blueprint, listed)),
        Route("/orders", "orders.list", ("POST",), (of_blueprint, rejected)),
    ]
    assert m2m.routes() == m2m.for_app(shop).routes() == m2m.routes(shop)


def test_routes_show_open_unknown_and_misplaced(shop: Flask, m2m: CognitoM2M) -> None:
    routes = m2m.routes(shop)
    assert {route.endpoint for route in routes if route.is_open} == {"about", "kept", "unsure", "above"}
    assert {route.endpoint for route in routes if route.is_unknown} == {"unsure"}
    assert {route.endpoint: route.misplaced for route in routes if route.misplaced} == {"above": "guard"}


def test_routes_of_an_uninitialised_application_raise(m2m: CognitoM2M) -> None:
    with pytest.raises(RuntimeError, match="'other'"):
        m2m.routes(Flask("other"))
