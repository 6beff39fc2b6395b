"""``m2m.openapi`` completes the documents of apispec, flask-smorest, APIFlask and Flask-RESTX."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from apispec import APISpec
from apispec_webframeworks.flask import FlaskPlugin
from flask import Blueprint, Flask
from flask.views import MethodView
from openapi_spec_validator import validate

from flask_m2m_cognito import CognitoM2M
from flask_m2m_cognito.testing import LocalUserPool
from tests.web.conftest import MakeApp
from tests.web.documents import (
    RECEIVES_ONLY,
    SCHEME,
    copied,
    numbered,
    resolve,
    securities_of,
    security_of,
    view,
    view_of_both,
)

# These frameworks import packages that emit deprecation warnings.
pytestmark = pytest.mark.filterwarnings("ignore")


class Plain:
    """Flask with apispec, to which each view is added."""

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
def test_class_based_views_are_in_the_document(
    maker: Plain, make_app: MakeApp, m2m: CognitoM2M, where: str
) -> None:
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


def test_protected_application_is_in_the_document(maker: Plain, make_app: MakeApp, m2m: CognitoM2M) -> None:
    app = maker.make(make_app)
    shop = maker.blueprint("shop")
    shop.route("/a", endpoint="a")(copied(view))
    shop.route("/b", endpoint="b")(copied(view))
    maker.register(app, shop)
    m2m.protect(app, "all/use", public=["shop.b"])
    document = m2m.openapi(maker.document(app), app)
    validate(document)
    assert securities_of(document) == {"GET /a": [{SCHEME: ["all/use"]}], "GET /b": None}


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
    assert resolve(document, resolve(document, operation["responses"]["401"])["schema"])["required"]
    scheme = document["securityDefinitions"][SCHEME]
    if receives_only:
        assert scheme == {"type": "apiKey", "in": "header", "name": "Authorization"}
        assert operation["security"] == [{SCHEME: []}]  # Swagger 2 has scopes only for oauth2
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


def test_apiflask_spec_processor_completes_the_document(make_app: MakeApp, m2m: CognitoM2M) -> None:
    app: Any = Api().make(make_app)
    app.get("/a")(m2m.require_scopes("a/read")(view))
    app.spec_processor(m2m.openapi)
    document = app.test_client().get("/openapi.json").json
    validate(document)
    assert security_of(document) == [{SCHEME: ["a/read"]}]
