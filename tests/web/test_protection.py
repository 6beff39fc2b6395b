"""``protect``, ``public``, ``optional_token`` and ``principal_loader`` in an application."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from flask import Blueprint, Flask, Response, abort, g, request
from flask.typing import ResponseReturnValue
from flask.views import MethodView
from werkzeug.exceptions import HTTPException

from flask_m2m_cognito import (
    CognitoM2M,
    ConfigurationError,
    TokenValidationError,
    ValidatedAccessToken,
    current_token,
    signals,
)
from flask_m2m_cognito.testing import LocalUserPool
from flask_m2m_cognito.web.routes import routes_by_method
from tests.web.conftest import Bearer


def add_view(scaffold: Flask | Blueprint, path: str, mark: Callable[..., object] | None = None) -> None:
    def view() -> ResponseReturnValue:
        return "reached"

    view.__name__ = path.strip("/").replace("/", "_")
    scaffold.get(path)(mark(view) if mark else view)  # type: ignore[type-var]


def test_protected_app_rejects_every_url_without_a_token(app: Flask, m2m: CognitoM2M, bearer: Bearer) -> None:
    m2m.protect(app)
    add_view(app, "/a")
    client = app.test_client()
    assert [client.get(path).status_code for path in ("/a", "/unknown")] == [401, 401]
    assert [client.get(path, headers=bearer()).status_code for path in ("/a", "/unknown")] == [200, 404]


def test_scopes_of_the_app_and_the_view_both_apply(app: Flask, m2m: CognitoM2M, bearer: Bearer) -> None:
    m2m.protect(app, "shop/use")
    add_view(app, "/a", m2m.require_scopes("shop/admin"))
    client = app.test_client()
    assert client.get("/a", headers=bearer("shop/use")).status_code == 403
    assert client.get("/a", headers=bearer("shop/admin")).status_code == 403
    assert client.get("/a", headers=bearer("shop/use", "shop/admin")).status_code == 200


def test_protected_blueprint_guards_itself_and_nested_ones(
    app: Flask, m2m: CognitoM2M, bearer: Bearer
) -> None:
    outer, inner = Blueprint("outer", __name__), Blueprint("inner", __name__)
    m2m.protect(outer, "shop/use")
    add_view(outer, "/a")
    add_view(inner, "/b")
    outer.register_blueprint(inner, url_prefix="/inner")
    app.register_blueprint(outer, url_prefix="/outer")
    add_view(app, "/open")
    client = app.test_client()
    statuses = [client.get(path).status_code for path in ("/outer/a", "/outer/inner/b", "/open")]
    assert statuses == [401, 401, 200]
    assert client.get("/outer/inner/b", headers=bearer("shop/use")).status_code == 200


def test_public_view_ignores_the_token(app: Flask, m2m: CognitoM2M) -> None:
    m2m.protect(app)
    add_view(app, "/a", m2m.public)
    client = app.test_client()
    assert client.get("/a").status_code == 200
    assert client.get("/a", headers={"Authorization": "Bearer bad"}).status_code == 200


def test_class_is_public_by_its_decorators(app: Flask, m2m: CognitoM2M) -> None:
    class Open(MethodView):
        decorators = [m2m.public]  # noqa: RUF012

        def get(self) -> ResponseReturnValue:
            return "reached"

    m2m.protect(app)
    app.add_url_rule("/a", view_func=Open.as_view("open"))
    assert app.test_client().get("/a").status_code == 200


def test_public_names_endpoints_of_other_packages(app: Flask, m2m: CognitoM2M) -> None:
    blueprint = Blueprint("bp", __name__, static_folder=".", static_url_path="/files")
    m2m.protect(app, public=["static", "bp.static"])
    m2m.protect(blueprint, public=["static"])
    app.register_blueprint(blueprint, url_prefix="/bp")
    assert app.test_client().get("/static/none.css").status_code == 404
    assert app.test_client().get("/bp/files/none.css").status_code == 404


def test_public_view_keeps_its_own_scopes(app: Flask, m2m: CognitoM2M, bearer: Bearer) -> None:
    m2m.protect(app)
    add_view(app, "/a", lambda view: m2m.public(m2m.require_scopes("shop/use")(view)))
    assert app.test_client().get("/a").status_code == 401
    assert app.test_client().get("/a", headers=bearer("shop/use")).status_code == 200


def test_automatic_options_passes_but_own_options_does_not(app: Flask, m2m: CognitoM2M) -> None:
    m2m.protect(app)
    add_view(app, "/automatic")

    @app.route("/own", methods=["OPTIONS", "GET"], provide_automatic_options=False)
    def own() -> ResponseReturnValue:
        return "reached"

    assert app.test_client().options("/automatic").status_code == 200
    assert app.test_client().options("/own").status_code == 401
    assert app.test_client().options("/unknown").status_code == 401


def test_by_method_applies_to_a_whole_blueprint(app: Flask, m2m: CognitoM2M, bearer: Bearer) -> None:
    blueprint = Blueprint("bp", __name__)
    m2m.protect(blueprint, by_method={"get": "shop/read"})

    @blueprint.route("/a", methods=["GET", "POST"])
    def view() -> ResponseReturnValue:
        return "reached"

    app.register_blueprint(blueprint)
    client = app.test_client()
    headers = bearer("shop/read")
    answers = [client.open("/a", method=method, headers=headers) for method in ("GET", "HEAD", "POST")]
    assert [answer.status_code for answer in answers] == [200, 200, 403]
    assert answers[2].json is not None
    assert answers[2].json["reason"] == "method_not_allowed"


def test_public_applies_wherever_a_blueprint_is_registered(
    app: Flask, m2m: CognitoM2M, bearer: Bearer
) -> None:
    parent, child = Blueprint("parent", __name__), Blueprint("child", __name__, url_prefix="/c")
    m2m.protect(child, "child/use", public=["open"])
    add_view(child, "/open")
    add_view(child, "/closed")
    parent.register_blueprint(child)
    app.register_blueprint(parent, url_prefix="/p")
    app.register_blueprint(child, name="renamed", url_prefix="/r")
    client = app.test_client()
    assert [client.get(f"{path}/open").status_code for path in ("/p/c", "/r")] == [200, 200]
    assert [client.get(f"{path}/closed").status_code for path in ("/p/c", "/r")] == [401, 401]
    open_rules = {
        route.rule for route in routes_by_method(app) if route.is_open and route.methods == ("GET",)
    }
    assert open_rules == {"/p/c/open", "/r/open", "/static/<path:filename>"}


@pytest.mark.parametrize(
    "arguments",
    [{"public": "static"}, {"public": [1]}, {"match": "some"}, {"clients": "one"}],
    ids=["public as text", "public of numbers", "bad match", "clients as text"],
)
def test_invalid_arguments_are_errors_at_once(
    app: Flask, m2m: CognitoM2M, arguments: dict[str, object]
) -> None:
    with pytest.raises(ConfigurationError):
        m2m.protect(app, **arguments)  # type: ignore[arg-type]


def test_protect_without_an_app_and_public_on_a_class_are_errors(m2m: CognitoM2M) -> None:
    with pytest.raises(ConfigurationError):
        m2m.protect("shop/read")  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError):
        m2m.public(type("View", (MethodView,), {}))


def test_optional_token_rejects_an_invalid_token(app: Flask, m2m: CognitoM2M, bearer: Bearer) -> None:
    @app.get("/a")
    @m2m.optional_token
    def view() -> ResponseReturnValue:
        assert (g.m2m_token is None) is not bool(current_token)
        return current_token.client_id if current_token else "anonymous"

    client = app.test_client()
    assert client.get("/a").text == "anonymous"
    assert client.get("/a", headers=bearer()).text == "local-client"
    assert client.get("/a", headers={"Authorization": "Bearer bad"}).status_code == 401
    assert client.get("/a", headers={"Authorization": "Bearer"}).status_code == 400


def test_two_guards_load_the_principal_once_a_request(app: Flask, m2m: CognitoM2M, bearer: Bearer) -> None:
    loaded: list[str] = []

    @m2m.principal_loader
    def tenant(token: ValidatedAccessToken) -> str:
        loaded.append(token.client_id)
        return f"tenant of {token.client_id}"

    @app.get("/a")
    @m2m.require_scopes("shop/use")
    def view() -> ResponseReturnValue:
        return str(g.m2m_principal)

    m2m.protect(app)
    client = app.test_client()
    assert client.get("/a", headers=bearer("shop/use")).text == "tenant of local-client"
    assert client.get("/a", headers=bearer("shop/use")).text == "tenant of local-client"
    assert len(loaded) == 2


def test_nested_app_loads_its_own_principal(pool: LocalUserPool, bearer: Bearer) -> None:
    def service(name: str) -> tuple[Flask, CognitoM2M]:
        app, m2m = Flask(name), CognitoM2M()
        app.config.update(pool.config(ALLOWED_CLIENT_IDS="*"))
        m2m.init_app(app)
        m2m.principal_loader(lambda token: f"{name}'s")
        return app, m2m

    (outer, outer_m2m), (inner, inner_m2m) = service("outer"), service("inner")
    inner.get("/")(inner_m2m.require_scopes()(lambda: str(g.m2m_principal)))

    @outer.get("/")
    @outer_m2m.require_scopes()
    def pass_on() -> Response:
        return Response.from_app(inner.wsgi_app, request.environ)

    assert outer.test_client().get("/", headers=bearer()).text == "inner's"


@pytest.mark.parametrize("kind", ["sync", "async", "async loader", "authorize"])
def test_rejection_by_the_principal_loader_is_reported(
    app: Flask, m2m: CognitoM2M, bearer: Bearer, caplog: pytest.LogCaptureFixture, kind: str
) -> None:
    caplog.set_level("INFO", "flask_m2m_cognito.auth")
    accepted: list[str] = []

    def tenant(token: ValidatedAccessToken) -> str:
        if current_token.client_id == "billing":
            abort(410)
        return "row"

    async def load_async(token: ValidatedAccessToken) -> str:
        return tenant(token)

    m2m.principal_loader(load_async if kind == "async loader" else tenant)

    async def async_view() -> str:
        return str(g.m2m_principal)

    def view() -> str:
        if kind == "authorize":
            try:
                m2m.authorize("shop/use")
            except HTTPException:
                assert "m2m_token" not in g
                raise
        return str(g.m2m_principal)

    chosen: Any = async_view if kind.startswith("async") else view
    app.get("/a")(chosen if kind == "authorize" else m2m.require_scopes("shop/use")(chosen))
    client = app.test_client()
    with signals.token_accepted.connected_to(lambda app, token, **_: accepted.append(token.client_id), app):
        assert client.get("/a", headers=bearer("shop/use", client_id="billing")).status_code == 410
        assert client.get("/a", headers=bearer("shop/use", client_id="reports")).text == "row"
    assert accepted == ["reports"]
    (record,) = map(vars, caplog.records)
    assert (record["reason"], record["status"]) == ("rejected_by_check", 410)
    assert (record["client_id"], record["token_scopes"]) == ("billing", ["shop/use"])
    assert record["required_scopes"] == ["shop/use"]


def test_error_of_the_loader_names_the_client(
    app: Flask, m2m: CognitoM2M, bearer: Bearer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "flask_m2m_cognito.auth")

    @m2m.principal_loader
    def tenant(token: ValidatedAccessToken) -> None:
        raise TokenValidationError("Suspended.", reason="client_not_allowed")

    add_view(app, "/a", m2m.require_scopes())
    answer = app.test_client().get("/a", headers=bearer(client_id="billing"))
    assert (answer.status_code, answer.json["detail"]) == (403, "Suspended.")
    (record,) = map(vars, caplog.records)
    assert (record["reason"], record["client_id"]) == ("client_not_allowed", "billing")


@pytest.mark.parametrize("prefix", ["/probes", "/outer/probes"])
@pytest.mark.parametrize("is_guarded", [False, True])
def test_health_is_public_unless_guarded_itself(
    app: Flask, m2m: CognitoM2M, bearer: Bearer, prefix: str, is_guarded: bool
) -> None:
    m2m.protect(app, "shop/use")
    health = m2m.health_blueprint()
    if is_guarded:
        m2m.protect(health, "health/read")
    parent: Flask | Blueprint = app
    if prefix == "/outer/probes":
        parent = Blueprint("outer", __name__)
        m2m.protect(parent, "outer/use")
    parent.register_blueprint(health, url_prefix="/probes")
    if isinstance(parent, Blueprint):
        app.register_blueprint(parent, url_prefix="/outer")
    client = app.test_client()
    for path in ("/health", "/ready"):
        assert client.get(prefix + path).status_code == (401 if is_guarded else 200)
        assert client.get(prefix + path, headers=bearer("health/read")).status_code == 200
    opened = {route.rule for route in routes_by_method(app) if route.is_open}
    assert (f"{prefix}/ready" in opened) is not is_guarded


def test_principal_loader_must_be_a_function(m2m: CognitoM2M) -> None:
    with pytest.raises(ConfigurationError, match="principal_loader"):
        m2m.principal_loader("tenant")  # type: ignore[arg-type]


@pytest.mark.parametrize("is_protected", [False, True], ids=["guarded", "protected and guarded"])
@pytest.mark.parametrize("is_view_async", [False, True], ids=["a view", "an async view"])
@pytest.mark.parametrize("is_async", [False, True], ids=["a function", "a coroutine function"])
def test_principal_is_loaded_once_for_each_kind_of_view(
    app: Flask, m2m: CognitoM2M, bearer: Bearer, is_async: bool, is_view_async: bool, is_protected: bool
) -> None:
    calls: list[str] = []

    def tenant(token: ValidatedAccessToken) -> str:
        calls.append(token.client_id)
        return "row"

    async def load_async(token: ValidatedAccessToken) -> str:
        await asyncio.sleep(0)
        return tenant(token)

    def view() -> str:
        return str(g.m2m_principal)

    async def async_view() -> str:
        await asyncio.sleep(0)
        return view()

    m2m.principal_loader(load_async if is_async else tenant)
    if is_protected:
        m2m.protect(app)
    chosen: Any = async_view if is_view_async else view
    app.get("/a", endpoint="a")(m2m.require_scopes()(chosen))
    app.get("/b", endpoint="b")(m2m.optional_token(chosen))
    client = app.test_client()
    assert client.get("/a", headers=bearer()).text == "row"
    assert len(calls) == 1
    assert client.get("/b").status_code == (401 if is_protected else 200)
    assert client.get("/b", headers=bearer()).text == "row"
    assert len(calls) == 2


@pytest.mark.parametrize("name", ["public", "optional_token", "principal_loader"])
def test_parentheses_are_a_clear_error(m2m: CognitoM2M, name: str) -> None:
    with pytest.raises(ConfigurationError, match=f"{name} takes no parentheses"):
        getattr(m2m, name)()


def test_optional_token_without_a_view_is_an_error_at_once(m2m: CognitoM2M) -> None:
    with pytest.raises(ConfigurationError, match="optional_token"):
        m2m.optional_token("orders/read")  # type: ignore[type-var]
