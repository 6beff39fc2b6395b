"""``m2m.openapi(document)`` says what the guards demand, in documents that a real validator takes."""

from __future__ import annotations

import copy
import re
from typing import Any

import pytest
from apispec import APISpec
from apispec_webframeworks.flask import FlaskPlugin
from flask import Blueprint, Flask
from flask.views import MethodView
from openapi_spec_validator import validate

from flask_m2m_cognito import CognitoM2M, ConfigurationError
from flask_m2m_cognito.testing import LocalUserPool
from tests.web.conftest import MakeApp

# What these frameworks import warns of what the framework will have to change.
pytestmark = pytest.mark.filterwarnings("ignore")

SCHEME = "cognito_m2m"
OK: dict[str, Any] = {"responses": {"200": {"description": "What was asked for."}}}
RECEIVES_ONLY: dict[str, Any] = {"TOKEN_URL": None, "CLIENT_ID": None, "CLIENT_SECRET": None, "SCOPES": None}


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

    def make(self, make_app: MakeApp, version: str = "3.0.3") -> Flask:
        self.version = version
        return make_app()

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

    def make(self, make_app: MakeApp, version: str = "3.0.3") -> Flask:
        from flask_smorest import Api

        app = make_app()
        app.config.update(API_TITLE="shop", API_VERSION="1", OPENAPI_VERSION=version)
        app.config["OPENAPI_URL_PREFIX"] = "/docs"
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

    def make(self, make_app: MakeApp, version: str = "3.0.3") -> Flask:
        from apiflask import APIFlask

        app = make_app(APIFlask("shop"))
        app.config["OPENAPI_VERSION"] = version
        return app

    def blueprint(self, name: str) -> Any:
        from apiflask import APIBlueprint

        return APIBlueprint(name, __name__)

    def document(self, app: Flask) -> dict[str, Any]:
        with app.test_request_context():
            return dict(app.spec)  # type: ignore[attr-defined]


@pytest.fixture(params=[Plain, Smorest, Api], ids=["apispec", "flask-smorest", "APIFlask"])
def maker(request: pytest.FixtureRequest) -> Plain:
    made: Plain = request.param()
    return made


@pytest.mark.parametrize("version", ["3.0.3", "3.1.0"])
def test_each_guard_is_in_the_document(
    maker: Plain, make_app: MakeApp, m2m: CognitoM2M, pool: LocalUserPool, version: str
) -> None:
    app = maker.make(make_app, version)
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
                "tokenUrl": pool.token_url,
                "scopes": {scope: scope for scope in sorted(named)},
            }
        },
    }


@pytest.mark.parametrize("where", ["decorators", "methods"])
def test_class_based_views_are_in_it(maker: Plain, make_app: MakeApp, m2m: CognitoM2M, where: str) -> None:
    app = maker.make(make_app)
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


def test_protected_application_is_in_it(maker: Plain, make_app: MakeApp, m2m: CognitoM2M) -> None:
    app = maker.make(make_app)
    shop = maker.blueprint("shop")
    shop.route("/a", endpoint="a")(copied(view))
    shop.route("/b", endpoint="b")(copied(view))
    maker.register(app, shop)
    m2m.protect(app, "all/use", public=["shop.b"])
    document = m2m.openapi(maker.document(app), app)
    validate(document)
    assert securities_of(document) == {"GET /a": [{SCHEME: ["all/use"]}], "GET /b": None}


# -- rules of any document -----------------------------------------------------------------------


def described(app: Flask, paths: Any = None, token_url: str | None = None, **members: Any) -> dict[str, Any]:
    """A document of these operations, else of ``GET /a``, with what the guards of ``app`` require."""
    info = {"title": "shop", "version": "1"}
    document = {"openapi": "3.0.3", "info": info, "paths": paths or {"/a": {"get": OK}}, **members}
    with app.app_context():
        made = app.extensions["cognito_m2m"].owner.openapi(document, token_url=token_url)
    return dict(made)


@pytest.fixture
def guarded_app(app: Flask, m2m: CognitoM2M) -> Flask:
    app.get("/a")(m2m.require_scopes("a/read")(view))
    return app


def test_required_scopes_of_the_settings_hold_too(make_app: MakeApp, m2m: CognitoM2M) -> None:
    app = make_app(REQUIRED_SCOPES=["all/a", "all/b"], SCOPE_MATCH="any")
    app.get("/a")(m2m.require_scopes("a/read")(view))
    document = described(app)
    validate(document)
    assert security_of(document) == [{SCHEME: ["a/read", "all/a"]}, {SCHEME: ["a/read", "all/b"]}]
    flow = document["components"]["securitySchemes"][SCHEME]["flows"]["clientCredentials"]
    assert flow["scopes"].keys() == {"a/read", "all/a", "all/b"}


def test_more_than_is_needed_is_no_alternative(app: Flask, m2m: CognitoM2M) -> None:
    inner = m2m.require_scopes("a/read")(view)
    app.get("/a")(m2m.require_scopes("a/read", "a/admin", match="any")(inner))
    assert security_of(described(app)) == [{SCHEME: ["a/read"]}]


def test_receive_only_service_keeps_its_scopes(
    make_app: MakeApp, m2m: CognitoM2M, pool: LocalUserPool
) -> None:
    app = make_app(**RECEIVES_ONLY)
    app.get("/a")(m2m.require_scopes("a/read", "a/admin", match="any")(view))
    document = described(app)
    validate(document)
    assert document["components"]["securitySchemes"][SCHEME] == {
        "type": "openIdConnect",
        "openIdConnectUrl": f"{pool.issuer}/.well-known/openid-configuration",
    }
    assert security_of(document) == [{SCHEME: ["a/admin"]}, {SCHEME: ["a/read"]}]


def test_token_url_may_be_given(guarded_app: Flask) -> None:
    url = "https://auth.example.com/oauth2/token"
    document = described(guarded_app, token_url=url)
    validate(document)
    scheme = document["components"]["securitySchemes"][SCHEME]
    assert scheme["flows"]["clientCredentials"] == {"tokenUrl": url, "scopes": {"a/read": "a/read"}}


def test_guarded_operation_has_the_answers_of_its_guard(guarded_app: Flask) -> None:
    own = {"description": "Not you."}
    operation = {"responses": {**OK["responses"], "403": own}}
    paths = {"/a": {"get": operation}, "/b": {"get": {**OK, "security": []}}}
    document = described(guarded_app, paths)
    validate(document)
    responses = document["paths"]["/a"]["get"]["responses"]
    assert list(responses) == ["200", "403", "401", "503"]
    assert responses["403"] == own
    assert list(document["paths"]["/b"]["get"]["responses"]) == ["200"]
    unauthorized = referred(document, responses["401"])
    assert list(unauthorized["headers"]) == ["WWW-Authenticate"]
    assert list(referred(document, responses["503"])["headers"]) == ["Retry-After"]
    schema = referred(document, unauthorized["content"]["application/problem+json"]["schema"])
    assert sorted(schema["required"]) == sorted(guarded_app.test_client().get("/a").get_json(force=True))


@pytest.mark.parametrize(
    ("rule", "path", "servers"),
    [
        pytest.param("/v1/a", "/a", ["https://api.example.com/v1"], id="relative to a server"),
        pytest.param("/v1/a", "/a", ["/v1/"], id="relative to a server's path"),
        pytest.param("/v2/a", "/a", ["/v1", "/v2"], id="relative to the second server"),
        pytest.param("/a", "/a", ["https://api.example.com/mounted"], id="an application that is mounted"),
        pytest.param("/v1/a", "/a", ["https://example.com/{version}"], id="a server with a variable"),
        pytest.param("/a/<int:number>", "/a/{id}", [], id="a parameter of another name"),
        pytest.param("/v1/<x>/a/<y>", "/{p}/a/{q}", ["/v1"], id="both"),
        pytest.param("/a/", "/a", [], id="without the last slash"),
        pytest.param("/a/<name>", "/a/{name}", [], id="no converter"),
        pytest.param("/a/<int:name>", "/a/{name}", [], id="converter"),
        pytest.param("/a/<string(length=2):name>", "/a/{name}", [], id="converter with an argument"),
        pytest.param("/a/<any(one, two):name>/b", "/a/{name}/b", [], id="converter with a list"),
        pytest.param("/a/<path:name>/", "/a/{name}/", [], id="path with a last slash"),
    ],
)
def test_operation_is_matched_by_what_its_path_means(
    app: Flask, m2m: CognitoM2M, rule: str, path: str, servers: list[str]
) -> None:
    app.add_url_rule(rule, "a", m2m.require_scopes("a/read")(view))
    urls = [{"url": url, "variables": {"version": {"default": "v1"}}} for url in servers]
    for item, more in (({"get": OK}, {"servers": urls}), ({"servers": urls, "get": OK}, {})):
        assert security_of(described(app, {path: item}, **more), path) == [{SCHEME: ["a/read"]}]


@pytest.mark.parametrize(("path", "method"), [("/typo", "get"), ("/a", "delete"), ("/a/{id}", "get")])
def test_operation_without_a_route_is_an_error(guarded_app: Flask, path: str, method: str) -> None:
    with pytest.raises(ConfigurationError, match=re.escape(f": {method.upper()} {path}. ")):
        described(guarded_app, {"/a": {"get": OK}, path: {method: OK}})


def test_operation_of_several_routes_is_an_error(app: Flask, m2m: CognitoM2M) -> None:
    app.add_url_rule("/a/<int:number>", "number", m2m.require_scopes("a/read")(view))
    app.add_url_rule("/a/<name>", "name", copied(view))
    document = described(app, {"/a/{number}": {"get": OK}, "/a/{name}": {"get": OK}})
    assert security_of(document, "/a/{number}") == [{SCHEME: ["a/read"]}]
    assert "security" not in document["paths"]["/a/{name}"]["get"]
    with pytest.raises(ConfigurationError, match=r"/a/<int:number>, /a/<name>"):
        described(app, {"/a/{id}": {"get": OK}})


@pytest.mark.parametrize("receives_only", [False, True])
def test_swagger_of_restx_is_described(
    make_app: MakeApp, m2m: CognitoM2M, pool: LocalUserPool, receives_only: bool
) -> None:
    from flask_restx import Api as Restx
    from flask_restx import Resource

    app = make_app(**(RECEIVES_ONLY if receives_only else {}))
    blueprint = Blueprint("v1", __name__, url_prefix="/v1")
    api = Restx(blueprint)

    @api.route("/items/<int:number>")
    class Item(Resource):  # type: ignore[misc]
        @m2m.require_scopes("a/read")
        def get(self, number: int) -> dict[str, int]:
            return {"number": number}

    app.register_blueprint(blueprint)
    app.view_functions["v1.specs"] = lambda: m2m.openapi(api.__schema__)
    document: Any = app.test_client().get("/v1/swagger.json").json
    validate(document)
    operation = document["paths"]["/items/{number}"]["get"]
    assert {"401", "403", "503"} < operation["responses"].keys()
    assert referred(document, referred(document, operation["responses"]["401"])["schema"])["required"]
    scheme = document["securityDefinitions"][SCHEME]
    if receives_only:
        assert scheme == {"type": "apiKey", "in": "header", "name": "Authorization"}
        assert operation["security"] == [{SCHEME: []}]  # Swagger 2 knows scopes of oauth2 only
    else:
        assert (scheme["flow"], scheme["tokenUrl"]) == ("application", pool.token_url)
        assert operation["security"] == [{SCHEME: ["a/read"]}]


def test_flask_smorest_serves_the_document(make_app: MakeApp, m2m: CognitoM2M) -> None:
    maker = Smorest()
    app = maker.make(make_app)
    shop = maker.blueprint("shop")
    shop.route("/a", endpoint="a")(m2m.require_scopes("a/read")(view))
    maker.register(app, shop)
    app.view_functions["api-docs.openapi_json"] = lambda: m2m.openapi(maker.api.spec.to_dict())
    document: Any = app.test_client().get("/docs/openapi.json").json
    validate(document)
    assert security_of(document) == [{SCHEME: ["a/read"]}]


def test_what_else_the_document_has_stays(guarded_app: Flask) -> None:
    other = {"basic": {"type": "http", "scheme": "basic"}}
    document = described(
        guarded_app,
        {"/a": {"summary": "An a.", "get": OK}, "/elsewhere": {"get": {**OK, "security": []}}},
        components={"securitySchemes": other, "schemas": {"Item": {"type": "object"}}},
        security=[{"basic": []}],
    )
    validate(document)
    assert document["components"]["schemas"]["Item"] == {"type": "object"}
    assert document["components"]["securitySchemes"]["basic"] == other["basic"]
    assert document["security"] == [{"basic": []}]
    assert security_of(document) == [{SCHEME: ["a/read"]}]
    assert document["paths"]["/elsewhere"]["get"] == {**OK, "security": []}
    assert list(OK["responses"]) == ["200"]  # though both operations share it
    assert document["paths"]["/a"]["summary"] == "An a."


def test_made_twice_it_is_the_same(app: Flask, m2m: CognitoM2M) -> None:
    app.get("/a")(m2m.optional_token(view))
    once = described(app)
    assert m2m.openapi(once, app) == once


def test_application_of_another_is_rejected(m2m: CognitoM2M) -> None:
    with pytest.raises(RuntimeError):
        m2m.openapi({"paths": {}}, Flask("other"))


@pytest.mark.parametrize(
    "document",
    [{"swagger": "1.2", "paths": {"/a": {"get": OK}}}, [], None],
    ids=["Swagger 1", "a list", "nothing"],
)
def test_other_documents_are_errors(app: Flask, m2m: CognitoM2M, document: Any) -> None:
    with pytest.raises(ConfigurationError, match="OpenAPI 3"):
        m2m.openapi(document, app)


def test_empty_parts_of_a_document_are_none(guarded_app: Flask, m2m: CognitoM2M) -> None:
    document = described(guarded_app, {"/a": None}, components=None)
    assert list(document["components"]["securitySchemes"]) == [SCHEME]
    assert m2m.openapi({"openapi": "3.1.0", "paths": None}, guarded_app)["paths"] is None


def test_spec_processor_of_apiflask_may_make_it(make_app: MakeApp, m2m: CognitoM2M) -> None:
    app: Any = Api().make(make_app)
    app.get("/a")(m2m.require_scopes("a/read")(view))
    app.spec_processor(m2m.openapi)
    document = app.test_client().get("/openapi.json").json
    validate(document)
    assert security_of(document) == [{SCHEME: ["a/read"]}]


def referred(document: Any, reference: dict[str, str]) -> Any:
    for name in reference["$ref"].removeprefix("#/").split("/"):
        document = document[name]
    return document


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
