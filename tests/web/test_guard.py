"""Which requests reach a guarded view, for each kind of guard, and what the view finds."""

from __future__ import annotations

import functools
from collections.abc import Callable
from hashlib import blake2b
from typing import Any

import pytest
from flask import (
    Blueprint,
    Flask,
    Request,
    request,
)
from flask.testing import FlaskClient
from flask.views import MethodView, View

from flask_m2m_cognito import (
    CognitoM2M,
    ValidatedAccessToken,
    current_token,
    require_scopes,
    signals,
)
from flask_m2m_cognito.inbound import verified_token
from flask_m2m_cognito.testing import LocalUserPool
from tests.support.headers import bearer as bearer_header
from tests.web.conftest import Bearer, MakeApp

Answer = dict[str, Any]


def caller() -> Answer:
    return {"client": current_token.client_id, "method": request.method}


guard = require_scopes("inventory/read")
BOTH: Any = {"methods": ["GET", "POST"]}


# Defined before any extension object or application exists, as in a module of views.
@guard
def early_view() -> Answer:
    return caller()


async def async_view() -> Answer:
    return caller()


async def view_of_a_partial(client: str) -> Answer:
    return caller()


class Methods(MethodView):
    @guard
    def get(self) -> Answer:
        return caller()

    @guard
    async def post(self) -> Answer:
        return caller()


class Decorators(View):
    decorators = [guard]  # noqa: RUF012 - as in Flask's documentation
    methods = ["GET", "POST"]  # noqa: RUF012

    def dispatch_request(self) -> Answer:
        return caller()


def view_of_a_blueprint(app: Flask) -> None:
    blueprint = Blueprint("stock", __name__)
    blueprint.route("/items", **BOTH)(guard(caller))
    app.register_blueprint(blueprint)


def before_request(app: Flask) -> None:
    blueprint = Blueprint("stock", __name__)
    blueprint.before_request(guard(lambda: None))
    blueprint.route("/items", **BOTH)(lambda: caller())
    app.register_blueprint(blueprint)


def rule(view: Any, **named: Any) -> Callable[[Flask], None]:
    return lambda app: app.add_url_rule("/items", "items", view, **named)


WAYS = {
    "a function view": rule(guard(caller), **BOTH),
    # The object has no application: the guard is found through current_app.
    "a view by the object's decorator": rule(CognitoM2M().require_scopes("inventory/read")(caller), **BOTH),
    "a view that was defined before any extension object": rule(early_view, **BOTH),
    "an async view": rule(guard(async_view), **BOTH),
    "a partial of an async view": rule(guard(functools.partial(view_of_a_partial, "x")), **BOTH),
    "methods of a MethodView": rule(Methods.as_view("items")),
    "decorators of a View": rule(Decorators.as_view("items")),
    "a view of a blueprint": view_of_a_blueprint,
    "before_request of a blueprint": before_request,
}


@pytest.mark.parametrize("way", WAYS)
def test_every_kind_of_guard_accepts_only_valid_tokens(app: Flask, bearer: Bearer, way: str) -> None:
    WAYS[way](app)
    client = app.test_client()
    headers = bearer("inventory/read", client_id="billing")
    for method in ("GET", "POST", "GET"):
        answer = client.open("/items", method=method, headers=headers)
        assert (answer.status_code, answer.json) == (200, {"client": "billing", "method": method})
    for method in ("GET", "POST", "HEAD"):
        assert client.open("/items", method=method).status_code == 401
    lacking = client.get("/items", headers=bearer("inventory/write"))
    assert (lacking.status_code, lacking.json["reason"]) == (403, "insufficient_scope")
    # A before_request function runs for OPTIONS too; only protect() lets a preflight pass.
    assert client.options("/items").status_code == (401 if way.startswith("before_request") else 200)


def reason_for(app: Flask, headers: Any, *scopes: str, method: str = "GET", **named: Any) -> str:
    """Return ``"reached"``, or the reason for the rejection, for a view with this requirement."""
    app.route("/a", methods=["GET", "POST", "PUT"])(
        require_scopes(*scopes, **named)(lambda: {"reason": "reached"})
    )
    answer = app.test_client().open("/a", method=method, headers=headers)
    return str(answer.json["reason"]) if answer.data else {200: "reached"}.get(answer.status_code, "refused")


class TestRequirements:
    @pytest.mark.parametrize(
        ("required", "token", "reason"),
        [
            pytest.param({"match": "all"}, "a b", "reached", id="all of all"),
            pytest.param({"match": "all"}, "a b c", "reached", id="more than all"),
            pytest.param({"match": "all"}, "a", "insufficient_scope", id="one of all"),
            pytest.param({"match": "any"}, "a", "reached", id="one of any"),
            pytest.param({"match": "any"}, "c", "insufficient_scope", id="another of any"),
        ],
    )
    def test_match_decides_between_all_and_any_scopes(
        self, app: Flask, bearer: Bearer, required: Any, token: str, reason: str
    ) -> None:
        assert reason_for(app, bearer(*token.split()), "a", "b", **required) == reason

    @pytest.mark.parametrize(
        ("claims", "reason"),
        [
            pytest.param({"scope": "x/y"}, "reached", id="with scopes"),
            pytest.param({"scope": ""}, "reached", id="without scopes"),
            pytest.param({"expires_in": -60}, "expired", id="that has expired"),
        ],
    )
    def test_without_scopes_any_valid_token_passes(
        self, app: Flask, bearer: Bearer, claims: dict[str, Any], reason: str
    ) -> None:
        assert reason_for(app, bearer(**claims)) == reason

    @pytest.mark.parametrize(
        ("client_id", "scopes", "reason"),
        [
            pytest.param("billing", "a", "reached", id="listed"),
            pytest.param("stranger", "a", "client_not_allowed", id="not listed"),
            pytest.param("stranger", "b", "client_not_allowed", id="not listed, without the scope"),
            pytest.param("billing", "b", "insufficient_scope", id="listed, without the scope"),
        ],
    )
    def test_only_listed_clients_pass(
        self, app: Flask, bearer: Bearer, client_id: str, scopes: str, reason: str
    ) -> None:
        headers = bearer(scopes, client_id=client_id)
        assert reason_for(app, headers, "a", clients=["billing", "reports"]) == reason

    @pytest.mark.parametrize(
        ("method", "scopes", "reason"),
        [
            pytest.param("GET", "read", "reached", id="GET with its scope"),
            pytest.param("HEAD", "read", "reached", id="HEAD with GET's scope"),
            pytest.param("HEAD", "write", "refused", id="HEAD without it"),
            pytest.param("GET", "write", "insufficient_scope", id="GET with another method's scope"),
            pytest.param("POST", "read", "insufficient_scope", id="POST with GET's scope"),
            pytest.param("POST", "write", "reached", id="POST with one of any"),
            pytest.param("PUT", "read write", "method_not_allowed", id="a method without an entry"),
        ],
    )
    def test_scopes_depend_on_the_method(
        self, app: Flask, bearer: Bearer, method: str, scopes: str, reason: str
    ) -> None:
        required: Any = {"by_method": {"get": "read", "POST": ["write", "admin"]}, "match": "any"}
        assert reason_for(app, bearer(*scopes.split()), method=method, **required) == reason

    def test_method_without_an_entry_is_401_without_a_valid_token(self, app: Flask) -> None:
        headers = {"Authorization": "Bearer nonsense"}
        assert reason_for(app, headers, method="PUT", by_method={"GET": "read"}) == "malformed"

    @pytest.mark.parametrize(
        ("method", "scopes", "reason"),
        [
            pytest.param("PATCH", "write", "insufficient_scope", id="a method without its scope"),
            pytest.param("patch", "admin", "reached", id="its scope, for a name in lower case"),
            pytest.param("HEAD", "write", "insufficient_scope", id="HEAD without GET's scope"),
            pytest.param("PURGE", "write admin", "method_not_allowed", id="a method without an entry"),
        ],
    )
    @pytest.mark.parametrize("where", ["a Request class", "before_request", "before_request, protected"])
    def test_by_method_reads_the_overridden_method(
        self, app: Flask, m2m: CognitoM2M, bearer: Bearer, where: str, method: str, scopes: str, reason: str
    ) -> None:
        if where == "a Request class":

            class Overridden(Request):
                method = property(lambda self: self.args["_method"], lambda self, value: None)  # type: ignore[assignment]

            app.request_class = Overridden
        else:

            @app.before_request
            def override() -> None:
                request.method = request.args["_method"]

        required: Any = {"by_method": {"GET": "read", "POST": "write", "PATCH": "admin"}}
        view = lambda: {"reason": "reached"}  # noqa: E731
        if where.endswith("protected"):
            m2m.protect(app, **required)
        else:
            view = require_scopes(**required)(view)
        app.post("/a")(view)
        headers, query = bearer(*scopes.split()), {"_method": method}
        answer = app.test_client().post("/a", query_string=query, headers=headers)
        assert answer.json["reason"] == reason

    @pytest.mark.parametrize(
        ("scopes", "missing"),
        [
            pytest.param("a b", None, id="both"),
            pytest.param("a", "b", id="only the outer scope"),
            pytest.param("b", "a", id="only the inner scope"),
        ],
    )
    def test_stacked_guards_both_apply(
        self, app: Flask, bearer: Bearer, scopes: str, missing: str | None
    ) -> None:
        app.route("/a")(require_scopes("a")(require_scopes("b")(caller)))
        answer = app.test_client().get("/a", headers=bearer(*scopes.split()))
        if missing is None:
            assert answer.status_code == 200
        else:
            assert answer.www_authenticate.parameters["scope"] == missing

    def test_token_check_runs_after_settings_scopes_before_views(
        self, make_app: MakeApp, bearer: Bearer
    ) -> None:
        seen: list[ValidatedAccessToken] = []

        def check(token: ValidatedAccessToken) -> bool:
            seen.append(token)
            return "tenant" not in token.claims

        app = make_app(REQUIRED_SCOPES=["base"], TOKEN_CHECK=check)
        app.route("/a")(require_scopes("extra")(caller))
        client = app.test_client()
        for scopes, checked in ((["other"], 0), (["base"], 1), (["base", "extra"], 2)):
            client.get("/a", headers=bearer(*scopes))
            assert len(seen) == checked
        answer = client.get("/a", headers=bearer("base", tenant="x"))
        assert answer.json["reason"] == "rejected_by_check"


@pytest.fixture
def digests(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return a list that gets an item for each computed digest of a token."""
    computed: list[str] = []

    class Hash:
        def __init__(self, **options: Any) -> None:
            self.options = options

        def copy(self) -> Any:
            computed.append("digest")
            return blake2b(**self.options)

    monkeypatch.setattr(verified_token, "blake2b", Hash)
    return computed


class TestDigests:
    @pytest.fixture
    def client(self, app: Flask, bearer: Bearer) -> FlaskClient:
        """Return a client that has already called with a token of another length."""
        app.add_url_rule("/items", "items", guard(caller))
        client = app.test_client()
        client.get("/items", headers=bearer("inventory/read", first="long" * 50))
        return client

    def test_digest_of_a_new_token_is_computed_once(
        self, digests: list[str], client: FlaskClient, bearer: Bearer
    ) -> None:
        headers = bearer("inventory/read")
        for _ in range(2):
            digests.clear()
            assert client.get("/items", headers=headers).status_code == 200
            assert digests == ["digest"]

    def test_extra_whitespace_is_not_part_of_the_token(
        self, app: Flask, client: FlaskClient, pool: LocalUserPool
    ) -> None:
        token, checks = pool.token("inventory/read"), []
        with signals.token_accepted.connected_to(lambda app, check, **_: checks.append(check), app):
            for sent in (f"  {token}", f"  {token}", f"{token} ", token):
                assert client.get("/items", headers=bearer_header(sent)).status_code == 200
        assert checks == ["signature", "memory", "memory", "memory"]


class TestApplications:
    def test_one_object_serves_apps_with_different_settings(
        self, make_app: MakeApp, m2m: CognitoM2M, bearer: Bearer
    ) -> None:
        view = m2m.require_scopes()(caller)
        statuses = []
        for allowed in ("billing", "reports"):
            app = make_app(allowed, ALLOWED_CLIENT_IDS=[allowed])
            app.add_url_rule("/a", view_func=view)
            for client_id in ("billing", "reports"):
                answer = app.test_client().get("/a", headers=bearer(client_id=client_id))
                statuses.append(answer.status_code)
        assert statuses == [200, 403, 403, 200]

    @pytest.mark.parametrize(("is_initialised", "text"), [(False, "init_app"), (True, "USER_POOL_ID")])
    def test_view_without_a_usable_guard_is_an_error_not_open(
        self, pool: LocalUserPool, is_initialised: bool, text: str
    ) -> None:
        app = Flask("caller")
        of_pool = ("USER_POOL_ID", "ISSUER", "JWKS_URL")
        settings = {key: value for key, value in pool.config().items() if not key.endswith(of_pool)}
        app.config.update(settings, TESTING=True)
        if is_initialised:
            CognitoM2M(app)
        app.get("/a")(require_scopes()(caller))
        with pytest.raises(RuntimeError, match=text):
            app.test_client().get("/a")

    def test_second_object_on_one_application_is_an_error(self, app: Flask) -> None:
        with pytest.raises(RuntimeError):
            CognitoM2M(app)
