"""A guard above its route never runs. The first request and the commands detect that."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import pytest
from flask import Blueprint, Flask
from flask.views import MethodView

from flask_m2m_cognito import CognitoM2M, ConfigurationError

Add = Callable[[Flask, CognitoM2M], Any]


def plain(decorated: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap a function without keeping its attributes."""

    @functools.wraps(decorated, updated=())
    def wrapper() -> Any:
        return decorated()

    return wrapper


def route_of_app(app: Flask, m2m: CognitoM2M) -> None:
    @m2m.require_scopes("a/read")
    @app.get("/a")
    def a() -> str:
        return "open"


def route_of_blueprint(app: Flask, m2m: CognitoM2M) -> None:
    blueprint = Blueprint("shop", __name__)

    @m2m.require_scopes(clients=["billing"])
    @blueprint.get("/a")
    async def a() -> str:
        return "open"

    app.register_blueprint(blueprint)


def decorator_between(app: Flask, m2m: CognitoM2M) -> None:
    @m2m.require_scopes("a/read")
    @app.get("/a")
    @plain
    def a() -> str:
        return "open"


def optional_token(app: Flask, m2m: CognitoM2M) -> None:
    @m2m.optional_token
    @app.get("/a")
    def a() -> str:
        return "open"


def second_guard(app: Flask, m2m: CognitoM2M) -> None:
    @m2m.require_scopes("a/write")
    @app.get("/a")
    @m2m.require_scopes()
    def a() -> str:
        return "half guarded"


def public_above_a_wrapping_route(app: Flask, m2m: CognitoM2M) -> None:
    def route(view: Callable[..., Any]) -> Callable[..., Any]:
        app.add_url_rule("/a", "a", plain(view))
        return view

    @m2m.public
    @route
    def a() -> str:
        return "guarded"

    m2m.protect(app)


def decorators_that_flask_admin_ignores(app: Flask, m2m: CognitoM2M) -> None:
    from flask_admin import Admin, BaseView, expose

    class Shop(BaseView):
        decorators = [m2m.require_scopes("a/read")]  # noqa: RUF012

        @expose("/")
        def index(self) -> str:
            return "open"

    Admin(app).add_view(Shop(endpoint="shop", url="/a"))


def decorators_that_openapi_view_ignores(app: Flask, m2m: CognitoM2M) -> None:
    from flask_openapi3 import APIView, OpenAPI

    views = APIView()

    @views.route("/a")
    class Shop:
        decorators = [m2m.optional_token]  # noqa: RUF012

        @views.doc(summary="a")
        def get(self) -> str:
            return "open"

    # flask-openapi3 needs an application of its own class.
    described = OpenAPI("shop")
    described.register_api_view(views)
    for rule in described.url_map.iter_rules():
        if rule.rule == "/a":
            app.add_url_rule("/a", rule.endpoint, described.view_functions[rule.endpoint])


def decorators_that_an_own_as_view_ignores(app: Flask, m2m: CognitoM2M) -> None:
    class Shop(MethodView):
        decorators = [m2m.require_scopes()]  # noqa: RUF012

        def get(self) -> str:
            return "open"

        @classmethod
        def as_view(cls, name: str, *arguments: Any, **named: Any) -> Any:
            def view() -> str:
                return cls().get()

            view.view_class = cls  # type: ignore[attr-defined]
            return view

    app.add_url_rule("/a", "shop", Shop.as_view("shop"))


def before_request(app: Flask, m2m: CognitoM2M) -> None:
    @m2m.require_scopes()
    @app.before_request
    def check_all() -> None:
        pass

    app.get("/a")(lambda: "open")


def unknown_public_endpoint(app: Flask, m2m: CognitoM2M) -> None:
    app.get("/a", endpoint="health")(lambda: "guarded")
    m2m.protect(app, public=["helth"])


def unknown_public_endpoint_of_a_blueprint(app: Flask, m2m: CognitoM2M) -> None:
    blueprint = Blueprint("shop", __name__)
    blueprint.get("/a", endpoint="a")(lambda: "guarded")
    m2m.protect(blueprint, public=["b"])
    app.register_blueprint(blueprint)


MISTAKES = [
    (route_of_app, "'a' is not guarded: its guard is above the route decorator"),
    (route_of_blueprint, "'shop.a' is not guarded: its guard is above the route decorator"),
    (decorator_between, "'a' is not guarded: its guard is above the route decorator"),
    (optional_token, "'a' is not guarded: its guard is above the route decorator"),
    (second_guard, "'a' is not guarded: its guard is above the route decorator"),
    (public_above_a_wrapping_route, "'a' is not public: its public is above the route decorator"),
    (decorators_that_flask_admin_ignores, "'shop.index' is not guarded: the guard in the decorators"),
    (decorators_that_openapi_view_ignores, "'Shop.get' is not guarded: the guard in the decorators"),
    (decorators_that_an_own_as_view_ignores, "'shop' is not guarded: the guard in the decorators"),
    (before_request, "check_all' is not guarded: its guard is above before_request"),
    (unknown_public_endpoint, "the endpoint 'helth', which does not exist"),
    (unknown_public_endpoint_of_a_blueprint, "the endpoint 'b', which does not exist"),
]
# These frameworks import packages that emit deprecation warnings.
pytestmark = pytest.mark.filterwarnings("ignore")
by_mistake = pytest.mark.parametrize(
    ("add", "text"), MISTAKES, ids=lambda each: getattr(each, "__name__", "")
)


@by_mistake
@pytest.mark.parametrize("flag", ["debug", "testing"])
def test_mistake_raises_in_debug_and_testing(
    app: Flask, m2m: CognitoM2M, add: Add, text: str, flag: str
) -> None:
    add(app, m2m)
    setattr(app, flag, True)
    for _ in range(2):
        with pytest.raises(ConfigurationError, match=text):
            app.test_client().get("/a")


@by_mistake
def test_mistake_is_logged_once_in_production(
    app: Flask, m2m: CognitoM2M, add: Add, text: str, caplog: pytest.LogCaptureFixture
) -> None:
    add(app, m2m)
    assert {app.test_client().get("/a", follow_redirects=True).status_code for _ in range(3)} <= {200, 401}
    (record,) = [each for each in caplog.records if each.levelname == "ERROR"]
    assert text in record.getMessage()


def below_the_route(app: Flask, m2m: CognitoM2M) -> None:
    @app.get("/a")
    @plain
    @m2m.require_scopes()
    @plain
    def a() -> str:
        return ""


def public_that_works_above(app: Flask, m2m: CognitoM2M) -> None:
    @m2m.public
    @app.get("/a")
    def a() -> str:
        return ""

    m2m.protect(app, public=["static"])


def once_open_and_once_guarded(app: Flask, m2m: CognitoM2M) -> None:
    def view() -> str:
        return ""

    app.add_url_rule("/a", "open", view)
    app.add_url_rule("/b", "guarded", m2m.require_scopes()(view))


def class_based(app: Flask, m2m: CognitoM2M) -> None:
    class A(MethodView):
        decorators = [m2m.require_scopes()]  # noqa: RUF012

        @m2m.require_scopes("a/read")
        def get(self) -> str:
            return ""

    app.add_url_rule("/a", view_func=A.as_view("a"))


def methods_of_other_frameworks(app: Flask, m2m: CognitoM2M) -> None:
    from flask_admin import Admin, BaseView, expose

    class Shop(BaseView):
        @expose("/")
        @m2m.require_scopes("a/read")
        def index(self) -> str:
            return ""

    Admin(app).add_view(Shop(endpoint="shop", url="/a"))


def view_that_only_mentions_a_class(app: Flask, m2m: CognitoM2M) -> None:
    class Items(MethodView):
        decorators = [m2m.require_scopes()]  # noqa: RUF012

        def get(self) -> str:
            return ""

    app.add_url_rule("/items", view_func=Items.as_view("items"))
    app.get("/a", endpoint="a")(lambda: Items.__name__)


def nested_blueprint(app: Flask, m2m: CognitoM2M) -> None:
    inner, outer = Blueprint("inner", __name__), Blueprint("outer", __name__)
    inner.get("/a", endpoint="a")(lambda: "")
    m2m.protect(outer, public=["inner.a"])
    m2m.protect(inner, public=["inner.a"])
    outer.register_blueprint(inner)
    app.register_blueprint(outer, name="renamed")


@pytest.mark.parametrize(
    ("add", "status"),
    [
        (below_the_route, 401),
        (public_that_works_above, 200),
        (once_open_and_once_guarded, 200),
        (class_based, 401),
        (methods_of_other_frameworks, 401),
        (view_that_only_mentions_a_class, 200),
        (nested_blueprint, 200),
    ],
    ids=lambda each: getattr(each, "__name__", ""),
)
def test_correct_guards_are_not_errors(app: Flask, m2m: CognitoM2M, add: Add, status: int) -> None:
    add(app, m2m)
    app.testing = True
    assert app.test_client().get("/a", follow_redirects=True).status_code == status


def test_commands_report_mistakes(app: Flask, m2m: CognitoM2M, monkeypatch: pytest.MonkeyPatch) -> None:
    from click.testing import CliRunner
    from flask.cli import ScriptInfo

    from flask_m2m_cognito.cli import m2m as group

    route_of_app(app, m2m)
    decorators_that_flask_admin_ignores(app, m2m)
    runner, info = CliRunner(), ScriptInfo(create_app=lambda: app)
    routes = runner.invoke(group, ["routes"], obj=info)
    assert "OPEN; its guard is above the route decorator" in routes.output
    assert "OPEN; the decorators of its class are not applied" in routes.output
    found = runner.invoke(group, ["check"], obj=info)
    assert found.exit_code == 1
    assert "'a' is not guarded: its guard is above the route decorator" in found.output
    assert "'shop.index' is not guarded: the guard in the decorators" in found.output
