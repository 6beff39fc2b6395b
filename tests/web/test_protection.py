"""protect, public, optional_token and principal_loader, as an application uses them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from flask import Blueprint, Flask, Response, abort, g, request
from flask.testing import FlaskClient
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


@pytest.fixture
def m2m() -> CognitoM2M:
    return CognitoM2M()


@pytest.fixture
def app(pool: LocalUserPool, m2m: CognitoM2M) -> Flask:
    app = Flask("shop")
    app.config.update(pool.config(allowed_client_ids="*"))
    m2m.init_app(app)
    return app


@pytest.fixture
def bearer(pool: LocalUserPool) -> Callable[..., dict[str, str]]:
    return lambda *scopes: {"Authorization": f"Bearer {pool.token(scopes)}"}


def add_view(scaffold: Flask | Blueprint, path: str, mark: Callable[..., object] | None = None) -> None:
    def view() -> ResponseReturnValue:
        return "reached"

    view.__name__ = path.strip("/").replace("/", "_")
    scaffold.get(path)(mark(view) if mark else view)  # type: ignore[type-var]


def test_a_protected_app_refuses_every_view_without_a_token(
    app: Flask, m2m: CognitoM2M, bearer: Callable[..., dict[str, str]]
) -> None:
    m2m.protect(app)
    add_view(app, "/a")
    assert app.test_client().get("/a").status_code == 401
    assert app.test_client().get("/a", headers=bearer()).status_code == 200


def test_a_protected_app_tells_strangers_of_no_url(
    app: Flask, m2m: CognitoM2M, bearer: Callable[..., dict[str, str]]
) -> None:
    m2m.protect(app)
    assert app.test_client().get("/unknown").status_code == 401
    assert app.test_client().get("/unknown", headers=bearer()).status_code == 404


def test_scopes_of_the_app_and_of_the_view_both_hold(
    app: Flask, m2m: CognitoM2M, bearer: Callable[..., dict[str, str]]
) -> None:
    m2m.protect(app, "shop/use")
    add_view(app, "/a", m2m.require_scopes("shop/admin"))
    client = app.test_client()
    assert client.get("/a", headers=bearer("shop/use")).status_code == 403
    assert client.get("/a", headers=bearer("shop/admin")).status_code == 403
    assert client.get("/a", headers=bearer("shop/use", "shop/admin")).status_code == 200


def test_a_blueprint_is_guarded_with_the_blueprints_nested_in_it_and_nothing_else_is(
    app: Flask, m2m: CognitoM2M, bearer: Callable[..., dict[str, str]]
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


@pytest.mark.parametrize("order", ["public first", "public last"])
def test_a_public_view_is_reached_without_a_token_and_with_a_bad_one(
    app: Flask, m2m: CognitoM2M, order: str
) -> None:
    m2m.protect(app)
    mark = m2m.public if order == "public last" else lambda view: m2m.public(view)
    add_view(app, "/a", mark)
    client = app.test_client()
    assert client.get("/a").status_code == 200
    assert client.get("/a", headers={"Authorization": "Bearer bad"}).status_code == 200


def test_a_class_is_public_by_its_decorators(app: Flask, m2m: CognitoM2M) -> None:
    class Open(MethodView):
        decorators = [m2m.public]  # noqa: RUF012

        def get(self) -> ResponseReturnValue:
            return "reached"

    m2m.protect(app)
    app.add_url_rule("/a", view_func=Open.as_view("open"))
    assert app.test_client().get("/a").status_code == 200


def test_endpoints_of_others_are_named(app: Flask, m2m: CognitoM2M) -> None:
    blueprint = Blueprint("bp", __name__, static_folder=".", static_url_path="/files")
    m2m.protect(app, public=["static", "bp.static"])
    m2m.protect(blueprint, public=["static"])
    app.register_blueprint(blueprint, url_prefix="/bp")
    assert app.test_client().get("/static/none.css").status_code == 404
    assert app.test_client().get("/bp/files/none.css").status_code == 404


def test_a_public_view_with_scopes_of_its_own_keeps_them(
    app: Flask, m2m: CognitoM2M, bearer: Callable[..., dict[str, str]]
) -> None:
    m2m.protect(app)
    add_view(app, "/a", lambda view: m2m.public(m2m.require_scopes("shop/use")(view)))
    assert app.test_client().get("/a").status_code == 401
    assert app.test_client().get("/a", headers=bearer("shop/use")).status_code == 200


def test_an_automatic_options_answer_passes_and_a_views_own_does_not(app: Flask, m2m: CognitoM2M) -> None:
    m2m.protect(app)
    add_view(app, "/automatic")

    @app.route("/own", methods=["OPTIONS", "GET"], provide_automatic_options=False)
    def own() -> ResponseReturnValue:
        return "reached"

    assert app.test_client().options("/automatic").status_code == 200
    assert app.test_client().options("/own").status_code == 401
    assert app.test_client().options("/unknown").status_code == 401


def test_methods_that_are_not_in_the_map_are_refused_for_the_whole_blueprint(
    app: Flask, m2m: CognitoM2M, bearer: Callable[..., dict[str, str]]
) -> None:
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


def test_public_endpoints_of_a_blueprint_are_so_wherever_it_is_registered(
    app: Flask, m2m: CognitoM2M, bearer: Callable[..., dict[str, str]]
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
    left_open = {route.rule for route in routes_by_method(app) if route.is_open and route.methods == ("GET",)}
    assert left_open == {"/p/c/open", "/r/open", "/static/<path:filename>"}


@pytest.mark.parametrize(
    "arguments",
    [{"public": "static"}, {"public": [1]}, {"match": "some"}, {"clients": "one"}],
    ids=["public as text", "public of numbers", "bad match", "clients as text"],
)
def test_arguments_that_cannot_be_right_are_errors_at_once(
    app: Flask, m2m: CognitoM2M, arguments: dict[str, object]
) -> None:
    with pytest.raises(ConfigurationError):
        m2m.protect(app, **arguments)  # type: ignore[arg-type]


def test_protect_without_an_app_and_public_on_a_class_are_errors(m2m: CognitoM2M) -> None:
    with pytest.raises(ConfigurationError):
        m2m.protect("shop/read")  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError):
        m2m.public(type("View", (MethodView,), {}))


def test_optional_token_knows_a_caller_nobody_and_a_bad_token_apart(
    app: Flask, m2m: CognitoM2M, bearer: Callable[..., dict[str, str]]
) -> None:
    @app.get("/a")
    @m2m.optional_token
    def view() -> ResponseReturnValue:
        assert (g.m2m_token is None) is not bool(current_token)
        return current_token.client_id if current_token else "nobody"

    client = app.test_client()
    assert client.get("/a").text == "nobody"
    assert client.get("/a", headers=bearer()).text == "local-client"
    assert client.get("/a", headers={"Authorization": "Bearer bad"}).status_code == 401
    assert client.get("/a", headers={"Authorization": "Bearer"}).status_code == 400


def test_a_token_of_an_earlier_request_is_not_the_next_ones_under_one_application_context(
    app: Flask, m2m: CognitoM2M, bearer: Callable[..., dict[str, str]]
) -> None:
    @app.get("/a")
    @m2m.optional_token
    def view() -> ResponseReturnValue:
        return current_token.client_id if current_token else "nobody"

    with app.app_context():
        client: FlaskClient = app.test_client()
        assert client.get("/a", headers=bearer()).text == "local-client"
        assert client.get("/a").text == "nobody"


def test_the_principal_is_loaded_once_a_request_although_two_guards_hold(
    app: Flask, m2m: CognitoM2M, bearer: Callable[..., dict[str, str]]
) -> None:
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


def test_an_application_that_is_handed_anothers_request_loads_a_principal_of_its_own(
    pool: LocalUserPool,
) -> None:
    def service(name: str) -> tuple[Flask, CognitoM2M]:
        app, m2m = Flask(name), CognitoM2M()
        app.config.update(pool.config(ALLOWED_CLIENT_IDS="*"))
        m2m.init_app(app)
        m2m.principal_loader(lambda token: f"{name}'s")
        return app, m2m

    (outer, outer_m2m), (inner, inner_m2m) = service("outer"), service("inner")

    @inner.get("/")
    @inner_m2m.require_scopes()
    def principal() -> str:
        return str(g.m2m_principal)

    @outer.get("/")
    @outer_m2m.require_scopes()
    def hand_on() -> Response:
        return Response.from_app(inner.wsgi_app, request.environ)

    headers = {"Authorization": f"Bearer {pool.token()}"}
    assert outer.test_client().get("/", headers=headers).text == "inner's"


def test_a_principal_loader_may_refuse(
    app: Flask, m2m: CognitoM2M, bearer: Callable[..., dict[str, str]]
) -> None:
    @m2m.principal_loader
    def tenant(token: ValidatedAccessToken) -> None:
        abort(403)

    add_view(app, "/a", m2m.require_scopes())
    assert app.test_client().get("/a", headers=bearer()).status_code == 403


@pytest.mark.parametrize("kind", ["sync", "async", "async loader", "authorize"])
def test_a_rejection_by_the_principal_loader_is_reported(
    app: Flask,
    m2m: CognitoM2M,
    pool: LocalUserPool,
    caplog: pytest.LogCaptureFixture,
    kind: str,
) -> None:
    caplog.set_level("INFO", "flask_m2m_cognito.auth")
    accepted: list[str] = []

    def receiver(sender: Flask, token: ValidatedAccessToken, **more: object) -> None:
        accepted.append(token.client_id)

    signals.token_accepted.connect(receiver, sender=app)

    def tenant(token: ValidatedAccessToken) -> str:
        if current_token.client_id == "billing":
            abort(410)
        return "row"

    async def tenant_later(token: ValidatedAccessToken) -> str:
        return tenant(token)

    m2m.principal_loader(tenant_later if kind == "async loader" else tenant)

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
    assert client.get("/a", headers=bearer_of(pool, "billing")).status_code == 410
    assert client.get("/a", headers=bearer_of(pool, "reports")).text == "row"
    assert accepted == ["reports"]
    (record,) = map(vars, caplog.records)
    assert (record["reason"], record["status"]) == ("rejected_by_check", 410)
    assert (record["client_id"], record["token_scopes"]) == ("billing", ["shop/use"])
    assert record["required_scopes"] == ["shop/use"]


def test_an_error_of_the_loader_names_the_client(
    app: Flask, m2m: CognitoM2M, pool: LocalUserPool, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "flask_m2m_cognito.auth")

    @m2m.principal_loader
    def tenant(token: ValidatedAccessToken) -> None:
        raise TokenValidationError("Suspended.", reason="client_not_allowed")

    add_view(app, "/a", m2m.require_scopes())
    answer = app.test_client().get("/a", headers=bearer_of(pool, "billing"))
    assert (answer.status_code, answer.json["detail"]) == (403, "Suspended.")
    (record,) = map(vars, caplog.records)
    assert (record["reason"], record["client_id"]) == ("client_not_allowed", "billing")


def bearer_of(pool: LocalUserPool, client_id: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {pool.token('shop/use', client_id)}"}


@pytest.mark.parametrize("prefix", ["/probes", "/outer/probes"])
@pytest.mark.parametrize("is_guarded", [False, True])
def test_health_is_public_unless_guarded_itself(
    app: Flask, m2m: CognitoM2M, bearer: Callable[..., dict[str, str]], prefix: str, is_guarded: bool
) -> None:
    m2m.protect(app, "shop/use")
    health = m2m.health_blueprint()
    if is_guarded:
        m2m.protect(health, "health/read")
    if prefix == "/outer/probes":
        outer = Blueprint("outer", __name__)
        m2m.protect(outer, "outer/use")
        outer.register_blueprint(health, url_prefix="/probes")
        app.register_blueprint(outer, url_prefix="/outer")
    else:
        app.register_blueprint(health, url_prefix=prefix)
    client = app.test_client()
    for path in ("/health", "/ready"):
        assert client.get(prefix + path).status_code == (401 if is_guarded else 200)
        assert client.get(prefix + path, headers=bearer("health/read")).status_code == 200
    opened = {route.rule for route in routes_by_method(app) if route.is_open}
    assert (f"{prefix}/ready" in opened) is not is_guarded


def test_a_principal_loader_that_is_no_function_is_an_error_at_once(m2m: CognitoM2M) -> None:
    with pytest.raises(ConfigurationError, match="principal_loader"):
        m2m.principal_loader("tenant")  # type: ignore[arg-type]


def test_an_async_principal_loader_is_awaited(
    app: Flask, m2m: CognitoM2M, bearer: Callable[..., dict[str, str]]
) -> None:
    @m2m.principal_loader
    async def tenant(token: ValidatedAccessToken) -> str:
        return "row"

    @app.get("/a")
    @m2m.require_scopes()
    def view() -> ResponseReturnValue:
        return str(g.m2m_principal)

    assert app.test_client().get("/a", headers=bearer()).text == "row"


@pytest.mark.parametrize("is_protected", [False, True], ids=["guarded", "protected and guarded"])
@pytest.mark.parametrize("is_async", [False, True], ids=["a function", "a coroutine function"])
def test_a_principal_loader_serves_an_async_view_once(
    app: Flask, m2m: CognitoM2M, bearer: Callable[..., dict[str, str]], is_async: bool, is_protected: bool
) -> None:
    calls: list[str] = []

    def tenant(token: ValidatedAccessToken) -> str:
        calls.append(token.client_id)
        return "row"

    async def tenant_later(token: ValidatedAccessToken) -> str:
        await asyncio.sleep(0)
        return tenant(token)

    m2m.principal_loader(tenant_later if is_async else tenant)
    if is_protected:
        m2m.protect(app)

    @app.get("/a")
    @m2m.require_scopes()
    async def view() -> ResponseReturnValue:
        await asyncio.sleep(0)
        return str(g.m2m_principal)

    @app.get("/b")
    @m2m.optional_token
    async def anybody() -> ResponseReturnValue:
        return str(g.m2m_principal)

    client = app.test_client()
    assert client.get("/a", headers=bearer()).text == "row"
    assert len(calls) == 1
    assert client.get("/b").status_code == (401 if is_protected else 200)
    assert client.get("/b", headers=bearer()).text == "row"
    assert len(calls) == 2


@pytest.mark.parametrize("name", ["public", "optional_token", "principal_loader"])
def test_parentheses_are_an_error_that_says_so(m2m: CognitoM2M, name: str) -> None:
    with pytest.raises(ConfigurationError, match=f"{name} takes no parentheses"):
        getattr(m2m, name)()


def test_optional_token_without_a_view_is_an_error_at_once(m2m: CognitoM2M) -> None:
    with pytest.raises(ConfigurationError, match="optional_token"):
        m2m.optional_token("orders/read")  # type: ignore[type-var]
