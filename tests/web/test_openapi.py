"""``m2m.openapi(document)`` says what the guards demand, in documents that a real validator takes."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
from apispec import APISpec
from apispec_webframeworks.flask import FlaskPlugin
from flask import Blueprint, Flask
from flask.views import MethodView
from openapi_spec_validator import validate

from flask_m2m_cognito import CognitoM2M, ConfigurationError
from flask_m2m_cognito.testing import LocalUserPool

# What these frameworks import warns of what the framework will have to change.
pytestmark = pytest.mark.filterwarnings("ignore")

SCHEME = "cognito_m2m"
OK: dict[str, Any] = {"responses": {"200": {"description": "What was asked for."}}}
RECEIVES_ONLY = {"TOKEN_URL": None, "CLIENT_ID": None, "CLIENT_SECRET": None, "SCOPES": None}

Described = Callable[..., dict[str, Any]]


@pytest.fixture
def m2m() -> CognitoM2M:
    return CognitoM2M()


@pytest.fixture
def settings(local_pool: LocalUserPool) -> dict[str, Any]:
    return local_pool.config(ALLOWED_CLIENT_IDS="*")


def view() -> dict[str, bool]:
    """A view.
    ---
    get:
      responses: {"200": {"description": "What was asked for."}}
    """
    return {"reached": True}


def view_of_both() -> dict[str, bool]:
    """A view.
    ---
    get:
      responses: {"200": {"description": "What was asked for."}}
    post:
      responses: {"200": {"description": "What was made."}}
    """
    return {"reached": True}


# -- three ways to make a document ---------------------------------------------------------------


class Plain:
    """Flask with apispec, which is told of each view."""

    def make(self, m2m: CognitoM2M, settings: dict[str, Any], version: str) -> Flask:
        self.version = version
        return started(Flask("shop"), m2m, settings)

    def blueprint(self, name: str) -> Any:
        return Blueprint(name, __name__)

    def register(self, app: Flask, blueprint: Any, **more: Any) -> None:
        app.register_blueprint(blueprint, **more)

    def document(self, app: Flask) -> dict[str, Any]:
        spec = APISpec("shop", "1", self.version, plugins=[FlaskPlugin()])
        with app.test_request_context():
            for endpoint, each in app.view_functions.items():
                if endpoint not in ("static", "cognito_m2m_metadata"):
                    spec.path(view=each, app=app)
        return dict(spec.to_dict())


class Smorest(Plain):
    """flask-smorest, whose blueprints describe themselves."""

    def make(self, m2m: CognitoM2M, settings: dict[str, Any], version: str) -> Flask:
        from flask_smorest import Api

        app = Flask("shop")
        app.config.update(API_TITLE="shop", API_VERSION="1", OPENAPI_VERSION=version)
        started(app, m2m, settings)
        self.api = Api(app)
        return app

    def blueprint(self, name: str) -> Any:
        from flask_smorest import Blueprint

        return Blueprint(name, __name__)

    def register(self, app: Flask, blueprint: Any, **more: Any) -> None:
        self.api.register_blueprint(blueprint, **more)

    def document(self, app: Flask) -> dict[str, Any]:
        return dict(self.api.spec.to_dict())


class Api(Plain):
    """APIFlask, whose application describes itself."""

    def make(self, m2m: CognitoM2M, settings: dict[str, Any], version: str) -> Flask:
        from apiflask import APIFlask

        app = APIFlask("shop")
        app.config["OPENAPI_VERSION"] = version
        return started(app, m2m, settings)

    def blueprint(self, name: str) -> Any:
        from apiflask import APIBlueprint

        return APIBlueprint(name, __name__)

    def document(self, app: Flask) -> dict[str, Any]:
        with app.test_request_context():
            return dict(app.spec)  # type: ignore[attr-defined]


def started(app: Flask, m2m: CognitoM2M, settings: dict[str, Any]) -> Flask:
    app.config.update(settings)
    m2m.init_app(app)
    return app


@pytest.fixture(params=[Plain, Smorest, Api], ids=["apispec", "flask-smorest", "APIFlask"])
def maker(request: pytest.FixtureRequest) -> Plain:
    made: Plain = request.param()
    return made


@pytest.mark.parametrize("version", ["3.0.3", "3.1.0"])
def test_each_guard_is_in_the_document(
    maker: Plain, m2m: CognitoM2M, settings: dict[str, Any], local_pool: LocalUserPool, version: str
) -> None:
    app = maker.make(m2m, settings, version)
    shop = maker.blueprint("shop")

    def add(rule: str, guarded: Any, methods: tuple[str, ...] = ("GET",)) -> None:
        shop.route(rule, methods=list(methods), endpoint=rule.strip("/").partition("/")[0])(guarded)

    add("/all/<int:number>", m2m.require_scopes("a/read", "a/write")(numbered))
    add("/any", m2m.require_scopes("b/read", "b/admin", match="any")(copied(view)))
    by_method = {"GET": "c/read", "POST": ["c/write", "c/admin"]}
    add("/by_method", m2m.require_scopes(by_method=by_method)(view_of_both), ("GET", "POST"))
    add("/optional", m2m.optional_token(copied(view)))
    add("/token", m2m.require_scopes()(copied(view)))
    add("/open", copied(view))
    maker.register(app, shop, url_prefix="/shop")

    inner = maker.blueprint("inner")
    inner.route("/own", endpoint="own")(m2m.require_scopes("d/own")(copied(view)))
    inner.route("/public", endpoint="public")(m2m.public(copied(view)))
    m2m.protect(inner, "d/use", "d/admin", match="any")
    maker.register(app, inner, url_prefix="/inner")

    before = maker.document(app)
    untouched = copy.deepcopy(before)
    document = m2m.openapi(before, app)
    validate(document)
    assert before == untouched
    assert securities_of(document) == {
        "GET /shop/all/{number}": [{SCHEME: ["a/read", "a/write"]}],
        "GET /shop/any": [{SCHEME: ["b/admin"]}, {SCHEME: ["b/read"]}],
        "GET /shop/by_method": [{SCHEME: ["c/read"]}],
        "POST /shop/by_method": [{SCHEME: ["c/admin", "c/write"]}],
        "GET /shop/optional": [{}, {SCHEME: []}],
        "GET /shop/token": [{SCHEME: []}],
        "GET /shop/open": None,
        "GET /inner/own": [{SCHEME: ["d/admin", "d/own"]}, {SCHEME: ["d/own", "d/use"]}],
        "GET /inner/public": None,
    }
    named = {
        scope
        for each in securities_of(document).values()
        for one in each or ()
        for scope in one.get(SCHEME, ())
    }
    assert document["components"]["securitySchemes"][SCHEME] == {
        "type": "oauth2",
        "flows": {
            "clientCredentials": {
                "tokenUrl": local_pool.token_url,
                "scopes": {scope: scope for scope in sorted(named)},
            }
        },
    }


@pytest.mark.parametrize("where", ["decorators", "methods"])
def test_class_based_views_are_in_it(
    maker: Plain, m2m: CognitoM2M, settings: dict[str, Any], where: str
) -> None:
    app = maker.make(m2m, settings, "3.0.3")
    shop = maker.blueprint("shop")

    class Items(MethodView):
        decorators = [m2m.require_scopes("items/use")] if where == "decorators" else []

        def get(self) -> dict[str, bool]:
            """All.
            ---
            responses: {"200": {"description": "All of them."}}
            """
            return {"reached": True}

        @m2m.require_scopes("items/write")
        def post(self) -> dict[str, bool]:
            """One.
            ---
            responses: {"200": {"description": "The new one."}}
            """
            return {"reached": True}

    if isinstance(maker, Smorest):
        shop.route("/items")(Items)
    else:
        shop.add_url_rule("/items", view_func=Items.as_view("items"))
    maker.register(app, shop)
    document = m2m.openapi(maker.document(app), app)
    validate(document)
    both = where == "decorators"
    assert securities_of(document) == {
        "GET /items": [{SCHEME: ["items/use"]}] if both else None,
        "POST /items": [{SCHEME: ["items/use", "items/write"] if both else ["items/write"]}],
    }


def test_protected_application_is_in_it(maker: Plain, m2m: CognitoM2M, settings: dict[str, Any]) -> None:
    app = maker.make(m2m, settings, "3.0.3")
    shop = maker.blueprint("shop")
    shop.route("/a", endpoint="a")(copied(view))
    shop.route("/b", endpoint="b")(copied(view))
    maker.register(app, shop)
    m2m.protect(app, "all/use", public=["shop.b"])
    document = m2m.openapi(maker.document(app), app)
    validate(document)
    assert securities_of(document) == {"GET /a": [{SCHEME: ["all/use"]}], "GET /b": None}


# -- rules of any document -----------------------------------------------------------------------


@pytest.fixture
def described(m2m: CognitoM2M, settings: dict[str, Any]) -> Described:
    """The security of one operation, ``GET /a``, and the document, whatever else stood in it."""

    def describe(guarded: Any, rule: str = "/a", path: str | None = None, **members: Any) -> dict[str, Any]:
        app = started(Flask("shop"), m2m, {**settings, **members.pop("settings", {})})
        app.add_url_rule(rule, "a", guarded)
        info = {"title": "shop", "version": "1"}
        document = {"openapi": "3.0.3", "info": info, "paths": {path or rule: {"get": dict(OK)}}, **members}
        with app.app_context():
            made = m2m.openapi(document)
        validate(made)
        return made

    return describe


def test_required_scopes_of_the_settings_hold_too(m2m: CognitoM2M, described: Described) -> None:
    required = {"COGNITO_M2M_REQUIRED_SCOPES": ["all/a", "all/b"], "COGNITO_M2M_SCOPE_MATCH": "any"}
    document = described(m2m.require_scopes("a/read")(view), settings=required)
    assert security_of(document) == [{SCHEME: ["a/read", "all/a"]}, {SCHEME: ["a/read", "all/b"]}]
    assert scopes_of(document) == {"a/read", "all/a", "all/b"}


def test_more_than_is_needed_is_no_alternative(m2m: CognitoM2M, described: Described) -> None:
    inner = m2m.require_scopes("a/read")(view)
    assert security_of(described(m2m.require_scopes("a/read", "a/admin", match="any")(inner))) == [
        {SCHEME: ["a/read"]}
    ]


def test_without_a_client_it_is_a_bearer_scheme_without_scopes(
    m2m: CognitoM2M, described: Described, settings: dict[str, Any]
) -> None:
    receives_only = {f"COGNITO_M2M_{key}": value for key, value in RECEIVES_ONLY.items()}
    document = described(m2m.require_scopes("a/read", "a/admin", match="any")(view), settings=receives_only)
    assert document["components"]["securitySchemes"][SCHEME] == {
        "type": "http", "scheme": "bearer", "bearerFormat": "JWT",
    }  # fmt: skip
    assert security_of(document) == [{SCHEME: []}]


@pytest.mark.parametrize(
    ("rule", "path"),
    [
        pytest.param("/a/<name>", "/a/{name}", id="no converter"),
        pytest.param("/a/<int:name>", "/a/{name}", id="converter"),
        pytest.param("/a/<string(length=2):name>", "/a/{name}", id="converter with an argument"),
        pytest.param("/a/<any(one, two):name>/b", "/a/{name}/b", id="converter with a list"),
        pytest.param("/a/<path:name>/", "/a/{name}/", id="path with a last slash"),
    ],
)
def test_operation_is_found_by_its_path(m2m: CognitoM2M, described: Described, rule: str, path: str) -> None:
    operation = {
        **OK,
        "parameters": [{"name": "name", "in": "path", "required": True, "schema": {"type": "string"}}],
    }
    document = described(
        m2m.require_scopes("a/read")(lambda name: name), rule, path, paths={path: {"get": operation}}
    )
    assert security_of(document, path) == [{SCHEME: ["a/read"]}]


def test_what_else_the_document_has_stays(m2m: CognitoM2M, described: Described) -> None:
    other = {"basic": {"type": "http", "scheme": "basic"}}
    document = described(
        m2m.require_scopes("a/read")(view),
        components={"securitySchemes": other, "schemas": {"Item": {"type": "object"}}},
        paths={"/a": {"summary": "An a.", "get": OK}, "/elsewhere": {"get": OK}},
        security=[{"basic": []}],
    )
    assert document["components"]["schemas"] == {"Item": {"type": "object"}}
    assert document["components"]["securitySchemes"]["basic"] == other["basic"]
    assert document["security"] == [{"basic": []}]
    assert security_of(document) == [{SCHEME: ["a/read"]}]
    assert document["paths"]["/elsewhere"]["get"] == OK  # though it is the same object as the one of /a
    assert document["paths"]["/a"]["summary"] == "An a."


def test_made_twice_it_is_the_same(m2m: CognitoM2M, settings: dict[str, Any]) -> None:
    app = started(Flask("shop"), m2m, settings)
    app.get("/a")(m2m.optional_token(view))
    document = {"openapi": "3.0.3", "info": {"title": "s", "version": "1"}, "paths": {"/a": {"get": OK}}}
    once = m2m.openapi(document, app)
    assert m2m.openapi(once, app) == once


def test_application_of_another_is_refused(m2m: CognitoM2M) -> None:
    with pytest.raises(RuntimeError):
        m2m.openapi({"paths": {}}, Flask("other"))


@pytest.mark.parametrize(
    "document",
    [{"swagger": "2.0", "paths": {"/a": {"get": OK}}}, [], None],
    ids=["Swagger 2", "a list", "nothing"],
)
def test_what_is_no_openapi_3_document_is_refused(
    m2m: CognitoM2M, settings: dict[str, Any], document: Any
) -> None:
    app = started(Flask("shop"), m2m, settings)
    with pytest.raises(ConfigurationError, match="OpenAPI 3"):
        m2m.openapi(document, app)


def test_empty_parts_of_a_document_are_none(m2m: CognitoM2M, settings: dict[str, Any]) -> None:
    app = started(Flask("shop"), m2m, settings)
    app.get("/a")(m2m.require_scopes("a/read")(view))
    document = m2m.openapi({"openapi": "3.1.0", "paths": {"/a": None}, "components": None}, app)
    assert list(document["components"]["securitySchemes"]) == [SCHEME]
    assert m2m.openapi({"openapi": "3.1.0", "paths": None}, app)["paths"] is None


def test_spec_processor_of_apiflask_may_make_it(m2m: CognitoM2M, settings: dict[str, Any]) -> None:
    from apiflask import APIFlask

    app = APIFlask("shop")
    started(app, m2m, settings)
    app.get("/a")(m2m.require_scopes("a/read")(view))
    app.spec_processor(m2m.openapi)
    document = app.test_client().get("/openapi.json").json
    validate(document)
    assert security_of(document) == [{SCHEME: ["a/read"]}]


# -- helpers -------------------------------------------------------------------------------------


def numbered(number: int) -> dict[str, int]:
    """A view.
    ---
    get:
      parameters: [{name: number, in: path, required: true, schema: {type: integer}}]
      responses: {"200": {"description": "What was asked for."}}
    """
    return {"number": number}


def copied(function: Any) -> Any:
    """The function anew: marks and descriptions are of one view."""

    def anew() -> Any:
        return function()

    anew.__doc__ = function.__doc__
    return anew


def securities_of(document: dict[str, Any]) -> dict[str, Any]:
    return {
        f"{method.upper()} {path}": operation.get("security")
        for path, operations in document["paths"].items()
        for method, operation in operations.items()
        if method in ("get", "post")
    }


def security_of(document: dict[str, Any], path: str = "/a") -> Any:
    return document["paths"][path]["get"].get("security")


def scopes_of(document: dict[str, Any]) -> set[str]:
    return set(document["components"]["securitySchemes"][SCHEME]["flows"]["clientCredentials"]["scopes"])
