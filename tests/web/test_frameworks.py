"""Rejections keep status and challenge in frameworks that answer every HTTPException themselves."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from flask import Flask, abort, request
from flask.views import MethodView
from werkzeug.exceptions import Conflict, HTTPException

from flask_m2m_cognito import CognitoM2M, TokenValidationError
from flask_m2m_cognito.testing import LocalUserPool
from tests.web.conftest import Bearer, MakeApp

# These frameworks import packages that emit deprecation warnings.
pytestmark = pytest.mark.filterwarnings("ignore")

Start = Callable[..., Flask]
"""Initialises ``m2m`` with the given or a plain application, with extra settings."""


def reached() -> dict[str, bool]:
    """Return an answer. connexion calls this function by its name."""
    return {"reached": True}


def plain(start: Start, m2m: CognitoM2M) -> Flask:
    app = start()
    app.get("/a")(m2m.require_scopes("shop/use")(reached))
    return app


def flask_restful(start: Start, m2m: CognitoM2M, **options: Any) -> Flask:
    from flask_restful import Api, Resource

    class View(Resource):  # type: ignore[misc]
        method_decorators = [m2m.require_scopes("shop/use")]  # noqa: RUF012

        def get(self) -> dict[str, bool]:
            return reached()

    app = start()
    Api(app, **options).add_resource(View, "/a")
    return app


def flask_restx(start: Start, m2m: CognitoM2M) -> Flask:
    from flask_restx import Api, Resource

    app = start()

    @Api(app).route("/a")
    class View(Resource):  # type: ignore[misc]
        @m2m.require_scopes("shop/use")
        def get(self) -> dict[str, bool]:
            return reached()

    return app


def flask_smorest(start: Start, m2m: CognitoM2M) -> Flask:
    from flask_smorest import Api, Blueprint

    app = start(API_TITLE="shop", API_VERSION="1", OPENAPI_VERSION="3.0.3")
    blueprint = Blueprint("shop", __name__)

    @blueprint.route("/a")
    class View(MethodView):
        @m2m.require_scopes("shop/use")
        def get(self) -> dict[str, bool]:
            return reached()

    Api(app).register_blueprint(blueprint)
    return app


def apiflask(start: Start, m2m: CognitoM2M) -> Flask:
    from apiflask import APIFlask

    app = start(APIFlask("shop"))
    app.get("/a")(m2m.require_scopes("shop/use")(reached))
    return app


def beside_cors_and_limiter(start: Start, m2m: CognitoM2M) -> Flask:
    from flask_cors import CORS
    from flask_limiter import Limiter
    from flask_limiter.util import get_remote_address

    app = plain(start, m2m)
    CORS(app)
    Limiter(get_remote_address, app=app, default_limits=["1000/second"], storage_uri="memory://")
    return app


@pytest.fixture(params=["not set", True, False], ids=lambda param: f"PROPAGATE_EXCEPTIONS {param}")
def start(request: pytest.FixtureRequest, make_app: MakeApp) -> Start:
    propagate = {} if request.param == "not set" else {"PROPAGATE_EXCEPTIONS": request.param}

    def start(app: Flask | None = None, **config: Any) -> Flask:
        app = app or Flask("shop")
        app.config.update(**propagate, **config)
        return make_app(app)

    return start


@pytest.mark.parametrize(
    "make",
    [plain, flask_restful, flask_restx, flask_smorest, apiflask, beside_cors_and_limiter],
    ids=lambda make: make.__name__,
)
def test_rejections_keep_status_and_challenge(
    start: Start, m2m: CognitoM2M, pool: LocalUserPool, bearer: Bearer, make: Callable[..., Flask]
) -> None:
    app = make(start, m2m)
    app.add_url_rule("/calls", "calls", lambda: {"token": m2m.token("stock/read")})
    client = app.test_client()
    realm = 'Bearer realm="shop"'

    def answer(status: int, headers: dict[str, str] | None = None, path: str = "/a") -> Any:
        given = client.get(path, headers=headers)
        assert given.status_code == status
        return given

    assert answer(401).headers["WWW-Authenticate"] == f'{realm}, scope="shop/use"'
    malformed = answer(400, {"Authorization": "Bearer"})
    assert malformed.headers["WWW-Authenticate"].startswith(f'{realm}, error="invalid_request"')
    bad = answer(401, {"Authorization": "Bearer bad"})
    assert bad.headers["WWW-Authenticate"].startswith(f'{realm}, error="invalid_token"')
    with pool.fail("jwks", status=500), pool.fail("token", status=500):
        for outage in (answer(503, bearer("shop/use")), answer(503, path="/calls")):
            assert int(outage.headers["Retry-After"]) >= 1
            assert outage.headers["Cache-Control"] == "no-store"
            assert "WWW-Authenticate" not in outage.headers


@pytest.mark.parametrize(
    "make",
    [plain, flask_restful, flask_restx, flask_smorest, apiflask, beside_cors_and_limiter],
    ids=lambda make: make.__name__,
)
def test_scopes_are_checked_under_frameworks(
    start: Start, m2m: CognitoM2M, bearer: Bearer, make: Callable[..., Flask]
) -> None:
    client = make(start, m2m).test_client()
    lacking = client.get("/a", headers=bearer("shop/other"))
    assert lacking.status_code == 403
    assert 'error="insufficient_scope"' in lacking.headers["WWW-Authenticate"]
    assert lacking.headers["WWW-Authenticate"].endswith('scope="shop/use"')
    valid = client.get("/a", headers=bearer("shop/use"))
    assert (valid.status_code, valid.json) == (200, {"reached": True})


def restful_with_basic_challenges(start: Start, m2m: CognitoM2M) -> Flask:
    return flask_restful(start, m2m, serve_challenge_on_401=True)


def httpauth_with_a_token_for_basic(start: Start, m2m: CognitoM2M) -> Flask:
    from flask_httpauth import HTTPBasicAuth

    app, auth = start(), HTTPBasicAuth()

    @auth.verify_password
    def verify(name: str, password: str) -> str | None:
        try:
            return m2m.authorize("shop/use").client_id
        except TokenValidationError:
            return None

    app.get("/a")(auth.login_required(lambda: reached()))
    return app


@pytest.mark.parametrize("make", [restful_with_basic_challenges, httpauth_with_a_token_for_basic])
def test_basic_challenge_does_not_replace_bearer(
    start: Start, m2m: CognitoM2M, make: Callable[..., Flask]
) -> None:
    answer = make(start, m2m).test_client().get("/a")
    assert answer.status_code == 401
    challenges = answer.headers.get_all("WWW-Authenticate")
    assert 'Bearer realm="shop", scope="shop/use"' in challenges
    assert any(each.startswith("Basic ") for each in challenges)


def test_own_bearer_challenge_stays_alone(start: Start, m2m: CognitoM2M) -> None:
    app = plain(start, m2m)
    own = {"WWW-Authenticate": 'Bearer realm="mine"'}
    app.register_error_handler(401, lambda error: ("own", 401, own))
    answer = app.test_client().get("/a")
    assert answer.headers.get_all("WWW-Authenticate") == ['Bearer realm="mine"']


TRAPS = {"TRAP_HTTP_EXCEPTIONS": True, "TRAP_BAD_REQUEST_ERRORS": True}


@pytest.mark.parametrize("raised", ["by the guard", "in the view"])
def test_answers_are_complete_with_trapped_http_exceptions(
    make_app: MakeApp, m2m: CognitoM2M, pool: LocalUserPool, bearer: Bearer, raised: str
) -> None:
    app = make_app()
    app.config.update(TRAPS, PROPAGATE_EXCEPTIONS=True)

    def view() -> dict[str, bool]:
        if raised == "in the view":
            m2m.validator.validate(request.headers.get("Authorization", "").removeprefix("Bearer "))
            m2m.authorize("shop/use")
        return reached()

    app.get("/a")(m2m.require_scopes("shop/use")(view) if raised == "by the guard" else view)
    app.get("/not-ours")(lambda: abort(409))
    client = app.test_client()
    bad = client.get("/a", headers={"Authorization": "Bearer bad"})
    assert (bad.status_code, bad.json["reason"]) == (401, "malformed")
    assert bad.headers["WWW-Authenticate"].startswith('Bearer realm="shop", error="invalid_token"')
    lacking = client.get("/a", headers=bearer("shop/other"))
    assert (lacking.status_code, lacking.json["reason"]) == (403, "insufficient_scope")
    assert lacking.headers["WWW-Authenticate"].endswith('scope="shop/use"')
    with pool.fail("jwks", status=500):
        outage = client.get("/a", headers=bearer("shop/use", headers={"kid": "new"}))
    assert (outage.status_code, outage.json["reason"]) == (503, "keys_unavailable")
    with pytest.raises(Conflict):
        client.get("/not-ours")


def test_handler_that_reraises_errors_keeps_the_answer(
    make_app: MakeApp, m2m: CognitoM2M, bearer: Bearer
) -> None:
    class ForeignError(Exception):
        def __init__(self, status_code: int) -> None:
            self.status_code = status_code

    def reraise(error: HTTPException) -> None:
        raise ForeignError(error.code or 0)

    # connexion does this: its middleware builds an answer from the status and the text only.
    app = plain(make_app, m2m)
    app.config.update(TRAPS, PROPAGATE_EXCEPTIONS=True)
    app.register_error_handler(HTTPException, reraise)
    app.get("/not-ours", endpoint="not_ours")(lambda: abort(409))
    answer = app.test_client().get("/a", headers=bearer("shop/other"))
    assert (answer.status_code, answer.json["reason"]) == (403, "insufficient_scope")
    assert answer.headers["WWW-Authenticate"].endswith('scope="shop/use"')
    with pytest.raises(ForeignError):
        app.test_client().get("/not-ours")


def test_connexion_recipe_and_guards_answer_completely(
    make_app: MakeApp,
    m2m: CognitoM2M,
    pool: LocalUserPool,
    bearer: Bearer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import connexion

    scope: dict[str, Any] = {}
    my_service = ModuleType("my_service")
    vars(my_service)["m2m"] = m2m
    monkeypatch.setitem(sys.modules, "my_service", my_service)
    recipe = (Path(__file__).parents[2] / "docs/guide/frameworks.md").read_text("utf-8")
    exec(recipe.rpartition("```python\n")[2].partition("```")[0], scope)
    module = ModuleType("shop_of_connexion")
    vars(module).update(
        guarded=m2m.require_scopes("shop/use")(reached),
        checked=lambda: reached(),
        bearer_info=scope["bearer_info"],
    )
    monkeypatch.setitem(sys.modules, module.__name__, module)
    service = connexion.FlaskApp("shop", server_args={})
    make_app(service.app)
    info = {"type": "http", "scheme": "bearer", "x-bearerInfoFunc": f"{module.__name__}.bearer_info"}
    paths = {
        f"/{name}": {
            "get": {
                "operationId": f"{module.__name__}.{name}",
                "security": security,
                "responses": {"200": {"description": "ok"}},
            }
        }
        for name, security in (("guarded", []), ("checked", [{"m2m": []}]))
    }
    document = {"openapi": "3.0.0", "info": {"title": "shop", "version": "1"}, "paths": paths}
    service.add_api({**document, "components": {"securitySchemes": {"m2m": info}}})
    client = service.test_client()
    for path in ("/guarded", "/checked"):
        answer = client.get(path, headers=bearer("shop/use", expires_in=-60))
        assert answer.status_code == 401
        assert 'error="invalid_token"' in answer.headers["WWW-Authenticate"]
        assert client.get(path, headers=bearer("shop/use")).json() == {"reached": True}
        with pool.fail("jwks", status=500):
            outage = client.get(path, headers=bearer("shop/use", headers={"kid": "new"}))
        assert (outage.status_code, int(outage.headers["Retry-After"]) >= 1) == (503, True)
