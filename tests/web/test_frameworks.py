"""Refusals keep their status and challenge under frameworks that answer every HTTPException themselves."""

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
from tests.support.headers import bearer

# What these frameworks import warns of what the framework will have to change.
pytestmark = pytest.mark.filterwarnings("ignore")

Make = Callable[[CognitoM2M, dict[str, Any]], Flask]


def plain(m2m: CognitoM2M, config: dict[str, Any]) -> Flask:
    app = started(Flask("shop"), m2m, config)
    app.get("/a")(m2m.require_scopes("shop/use")(lambda: {"reached": True}))
    return app


def flask_restful(m2m: CognitoM2M, config: dict[str, Any]) -> Flask:
    from flask_restful import Api, Resource

    class View(Resource):  # type: ignore[misc]
        method_decorators = [m2m.require_scopes("shop/use")]  # noqa: RUF012

        def get(self) -> dict[str, bool]:
            return {"reached": True}

    app = started(Flask("shop"), m2m, config)
    Api(app).add_resource(View, "/a")
    return app


def flask_restx(m2m: CognitoM2M, config: dict[str, Any]) -> Flask:
    from flask_restx import Api, Resource

    app = started(Flask("shop"), m2m, config)

    @Api(app).route("/a")
    class View(Resource):  # type: ignore[misc]
        @m2m.require_scopes("shop/use")
        def get(self) -> dict[str, bool]:
            return {"reached": True}

    return app


def flask_smorest(m2m: CognitoM2M, config: dict[str, Any]) -> Flask:
    from flask_smorest import Api, Blueprint

    versions = {"API_TITLE": "shop", "API_VERSION": "1", "OPENAPI_VERSION": "3.0.3"}
    app = started(Flask("shop"), m2m, {**config, **versions})
    blueprint = Blueprint("shop", __name__)

    @blueprint.route("/a")
    class View(MethodView):
        @m2m.require_scopes("shop/use")
        def get(self) -> dict[str, bool]:
            return {"reached": True}

    Api(app).register_blueprint(blueprint)
    return app


def apiflask(m2m: CognitoM2M, config: dict[str, Any]) -> Flask:
    from apiflask import APIFlask

    app = started(APIFlask("shop"), m2m, config)
    app.get("/a")(m2m.require_scopes("shop/use")(lambda: {"reached": True}))
    return app


def beside_cors_and_limiter(m2m: CognitoM2M, config: dict[str, Any]) -> Flask:
    from flask_cors import CORS
    from flask_limiter import Limiter
    from flask_limiter.util import get_remote_address

    app = plain(m2m, config)
    CORS(app)
    Limiter(get_remote_address, app=app, default_limits=["1000/second"], storage_uri="memory://")
    return app


def started(app: Flask, m2m: CognitoM2M, config: dict[str, Any]) -> Flask:
    app.config.update(config)
    m2m.init_app(app)
    return app


@pytest.fixture(params=["not set", True, False], ids=lambda param: f"PROPAGATE_EXCEPTIONS {param}")
def config(request: pytest.FixtureRequest, pool: LocalUserPool) -> dict[str, Any]:
    propagate = {} if request.param == "not set" else {"PROPAGATE_EXCEPTIONS": request.param}
    return {**pool.config(allowed_client_ids="*"), **propagate}


@pytest.fixture(
    params=[plain, flask_restful, flask_restx, flask_smorest, apiflask, beside_cors_and_limiter],
    ids=lambda make: make.__name__,
)
def app(request: pytest.FixtureRequest, config: dict[str, Any]) -> Flask:
    make: Make = request.param
    return make(CognitoM2M(), config)


def test_refusals_keep_status_and_challenge(app: Flask, pool: LocalUserPool) -> None:
    client = app.test_client()
    realm = 'Bearer realm="shop"'

    missing = client.get("/a")
    assert missing.status_code == 401
    assert missing.headers["WWW-Authenticate"] == f'{realm}, scope="shop/use"'

    malformed = client.get("/a", headers={"Authorization": "Bearer"})
    assert malformed.status_code == 400
    assert malformed.headers["WWW-Authenticate"].startswith(f'{realm}, error="invalid_request"')

    bad = client.get("/a", headers={"Authorization": "Bearer bad"})
    assert bad.status_code == 401
    assert bad.headers["WWW-Authenticate"].startswith(f'{realm}, error="invalid_token"')

    lacking = client.get("/a", headers=bearer(pool.token("shop/other")))
    assert lacking.status_code == 403
    assert 'error="insufficient_scope"' in lacking.headers["WWW-Authenticate"]
    assert lacking.headers["WWW-Authenticate"].endswith('scope="shop/use"')

    good = client.get("/a", headers=bearer(pool.token("shop/use")))
    assert (good.status_code, good.json) == (200, {"reached": True})


def test_an_outage_is_503_with_retry_after(app: Flask, pool: LocalUserPool) -> None:
    with pool.fail("jwks", status=500):
        answer = app.test_client().get("/a", headers=bearer(pool.token("shop/use")))
    assert answer.status_code == 503
    assert int(answer.headers["Retry-After"]) >= 1
    assert "WWW-Authenticate" not in answer.headers


def test_a_token_that_is_not_to_be_had_is_503_with_retry_after(app: Flask, pool: LocalUserPool) -> None:
    app.add_url_rule("/calls", "calls", lambda: {"token": app.extensions["cognito_m2m"].token("stock/read")})
    with pool.fail("token", status=500):
        answer = app.test_client().get("/calls")
    assert answer.status_code == 503
    assert int(answer.headers["Retry-After"]) >= 1
    assert answer.headers["Cache-Control"] == "no-store"


def restful_with_basic_challenges(m2m: CognitoM2M, config: dict[str, Any]) -> Flask:
    from flask_restful import Api, Resource

    class View(Resource):  # type: ignore[misc]
        method_decorators = [m2m.require_scopes("shop/use")]  # noqa: RUF012

        def get(self) -> dict[str, bool]:
            return {"reached": True}

    app = started(Flask("shop"), m2m, config)
    Api(app, serve_challenge_on_401=True).add_resource(View, "/a")
    return app


def httpauth_with_a_token_for_basic(m2m: CognitoM2M, config: dict[str, Any]) -> Flask:
    from flask_httpauth import HTTPBasicAuth

    app, auth = started(Flask("shop"), m2m, config), HTTPBasicAuth()

    @auth.verify_password
    def verify(name: str, password: str) -> str | None:
        try:
            return m2m.authorize("shop/use").client_id
        except TokenValidationError:
            return None

    app.get("/a")(auth.login_required(lambda: {"reached": True}))
    return app


@pytest.mark.parametrize("make", [restful_with_basic_challenges, httpauth_with_a_token_for_basic])
def test_a_frameworks_basic_challenge_does_not_replace_ours(config: dict[str, Any], make: Make) -> None:
    answer = make(CognitoM2M(), config).test_client().get("/a")
    assert answer.status_code == 401
    challenges = answer.headers.get_all("WWW-Authenticate")
    assert 'Bearer realm="shop", scope="shop/use"' in challenges
    assert any(each.startswith("Basic ") for each in challenges)


def test_a_bearer_challenge_of_the_applications_own_stays(config: dict[str, Any]) -> None:
    app = plain(CognitoM2M(), config)
    own = {"WWW-Authenticate": 'Bearer realm="mine"'}
    app.register_error_handler(401, lambda error: ("own", 401, own))
    answer = app.test_client().get("/a")
    assert answer.headers.get_all("WWW-Authenticate") == ['Bearer realm="mine"']


@pytest.mark.parametrize("raised", ["by the guard", "in the view"])
def test_answers_are_whole_with_trapped_http_exceptions(
    config: dict[str, Any], pool: LocalUserPool, raised: str
) -> None:
    m2m = CognitoM2M()
    traps = {"TRAP_HTTP_EXCEPTIONS": True, "TRAP_BAD_REQUEST_ERRORS": True, "PROPAGATE_EXCEPTIONS": True}
    app = started(Flask("shop"), m2m, {**config, **traps})

    def view() -> dict[str, bool]:
        if raised == "in the view":
            m2m.validator.validate(request.headers.get("Authorization", "").removeprefix("Bearer "))
            m2m.authorize("shop/use")
        return {"reached": True}

    app.get("/a")(m2m.require_scopes("shop/use")(view) if raised == "by the guard" else view)
    app.get("/not-ours")(lambda: abort(409))
    client = app.test_client()
    bad = client.get("/a", headers={"Authorization": "Bearer bad"})
    assert (bad.status_code, bad.json["reason"]) == (401, "malformed")
    assert bad.headers["WWW-Authenticate"].startswith('Bearer realm="shop", error="invalid_token"')
    lacking = client.get("/a", headers=bearer(pool.token("shop/other")))
    assert (lacking.status_code, lacking.json["reason"]) == (403, "insufficient_scope")
    assert lacking.headers["WWW-Authenticate"].endswith('scope="shop/use"')
    with pool.fail("jwks", status=500):
        unknown = pool.token("shop/use", headers={"kid": "new"})
        outage = client.get("/a", headers=bearer(unknown))
    assert (outage.status_code, outage.json["reason"]) == (503, "keys_unavailable")
    with pytest.raises(Conflict):
        client.get("/not-ours")


def test_a_handler_that_passes_errors_on_makes_no_answer(config: dict[str, Any], pool: LocalUserPool) -> None:
    class OfAnotherFramework(Exception):
        def __init__(self, status_code: int) -> None:
            self.status_code = status_code

    def pass_on(error: HTTPException) -> None:
        raise OfAnotherFramework(error.code or 0)

    # As connexion does, whose middleware makes an answer of the status and the text alone.
    traps = {"TRAP_HTTP_EXCEPTIONS": True, "PROPAGATE_EXCEPTIONS": True}
    app = plain(CognitoM2M(), {**config, **traps})
    app.register_error_handler(HTTPException, pass_on)
    app.get("/not-ours", endpoint="not_ours")(lambda: abort(409))
    answer = app.test_client().get("/a", headers=bearer(pool.token("shop/other")))
    assert (answer.status_code, answer.json["reason"]) == (403, "insufficient_scope")
    assert answer.headers["WWW-Authenticate"].endswith('scope="shop/use"')
    with pytest.raises(OfAnotherFramework):
        app.test_client().get("/not-ours")


def protected_item() -> dict[str, bool]:
    """What connexion calls by its name."""
    return {"reached": True}


def test_connexions_recipe_and_guards_give_whole_answers(
    pool: LocalUserPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    import connexion

    m2m, scope = CognitoM2M(), {}
    my_service = ModuleType("my_service")
    vars(my_service)["m2m"] = m2m
    monkeypatch.setitem(sys.modules, "my_service", my_service)
    recipe = (Path(__file__).parents[2] / "docs/guide/frameworks.md").read_text("utf-8")
    exec(recipe.rpartition("```python\n")[2].partition("```")[0], scope)
    module = ModuleType("shop_of_connexion")
    vars(module).update(
        guarded=m2m.require_scopes("shop/use")(protected_item),
        checked=lambda: {"reached": True},
        bearer_info=scope["bearer_info"],
    )
    sys.modules[module.__name__] = module
    try:
        service = connexion.FlaskApp("shop", server_args={})
        started(service.app, m2m, pool.config(ALLOWED_CLIENT_IDS="*"))
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
        service.add_api(
            {
                "openapi": "3.0.0",
                "info": {"title": "shop", "version": "1"},
                "components": {"securitySchemes": {"m2m": info}},
                "paths": paths,
            }
        )
        client = service.test_client()
        for path in ("/guarded", "/checked"):
            expired = bearer(pool.token("shop/use", expires_in=-60))
            answer = client.get(path, headers=expired)
            assert answer.status_code == 401
            assert 'error="invalid_token"' in answer.headers["WWW-Authenticate"]
            good = bearer(pool.token("shop/use"))
            assert client.get(path, headers=good).json() == {"reached": True}
            with pool.fail("jwks", status=500):
                unknown = bearer(pool.token("shop/use", headers={"kid": "new"}))
                outage = client.get(path, headers=unknown)
            assert (outage.status_code, int(outage.headers["Retry-After"]) >= 1) == (503, True)
    finally:
        del sys.modules[module.__name__]
