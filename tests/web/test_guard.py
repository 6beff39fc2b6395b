"""Which requests reach a view, however it is guarded, and what the view finds there."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from hashlib import blake2b
from typing import Any

import pytest
from flask import (
    Blueprint,
    Flask,
    Request,
    copy_current_request_context,
    g,
    jsonify,
    request,
)
from flask.testing import FlaskClient
from flask.views import MethodView, View
from werkzeug.exceptions import HTTPException

from flask_m2m_cognito import (
    CognitoM2M,
    ConfigurationError,
    InsufficientScopeError,
    ValidatedAccessToken,
    current_principal,
    current_token,
    require_scopes,
    signals,
)
from flask_m2m_cognito.inbound import verified_token
from flask_m2m_cognito.testing import LocalUserPool
from tests.support.headers import bearer
from tests.web.conftest import MakeApp

Answer = dict[str, Any]


def caller() -> Answer:
    return {"client": current_token.client_id, "method": request.method}


# Defined before any extension object or application exists, as a module of views would.
@require_scopes("inventory/read")
def early_view() -> Answer:
    return caller()


def function_view(app: Flask) -> None:
    @app.route("/items", methods=["GET", "POST"])
    @require_scopes("inventory/read")
    def items() -> Answer:
        return caller()


def view_of_the_object(app: Flask) -> None:
    m2m = CognitoM2M()  # knows no application: the guard is found through the current one

    @app.route("/items", methods=["GET", "POST"])
    @m2m.require_scopes("inventory/read")
    def items() -> Answer:
        return caller()


def view_from_a_module(app: Flask) -> None:
    app.add_url_rule("/items", view_func=early_view, methods=["GET", "POST"])


def async_view(app: Flask) -> None:
    @app.route("/items", methods=["GET", "POST"])
    @require_scopes("inventory/read")
    async def items() -> Answer:
        return caller()


def partial_of_an_async_view(app: Flask) -> None:
    async def items(client: str) -> Answer:
        return {**caller(), "said": client}

    guarded = require_scopes("inventory/read")(functools.partial(items, "x"))
    app.add_url_rule("/items", endpoint="items", view_func=guarded, methods=["GET", "POST"])


def methods_of_a_class(app: Flask) -> None:
    class Items(MethodView):
        @require_scopes("inventory/read")
        def get(self) -> Answer:
            return caller()

        @require_scopes("inventory/read")
        def post(self) -> Answer:
            return caller()

    app.add_url_rule("/items", view_func=Items.as_view("items"))


def async_methods_of_a_class(app: Flask) -> None:
    class Items(MethodView):
        @require_scopes("inventory/read")
        async def get(self) -> Answer:
            return caller()

        @require_scopes("inventory/read")
        async def post(self) -> Answer:
            return caller()

    app.add_url_rule("/items", view_func=Items.as_view("items"))


def decorators_of_a_class(app: Flask) -> None:
    class Items(View):
        decorators = [require_scopes("inventory/read")]  # noqa: RUF012 - as Flask's documentation has it
        methods = ["GET", "POST"]  # noqa: RUF012

        def dispatch_request(self) -> Answer:
            return caller()

    app.add_url_rule("/items", view_func=Items.as_view("items"))


def view_of_a_blueprint(app: Flask) -> None:
    blueprint = Blueprint("stock", __name__)

    @blueprint.route("/items", methods=["GET", "POST"])
    @require_scopes("inventory/read")
    def items() -> Answer:
        return caller()

    app.register_blueprint(blueprint)


def before_request(app: Flask) -> None:
    blueprint = Blueprint("stock", __name__)
    blueprint.before_request(require_scopes("inventory/read")(lambda: None))
    blueprint.route("/items", methods=["GET", "POST"])(caller)
    app.register_blueprint(blueprint)


@pytest.mark.parametrize(
    "guard",
    [
        pytest.param(function_view, id="a function view"),
        pytest.param(view_of_the_object, id="a function view by the object's decorator"),
        pytest.param(view_from_a_module, id="a view that was defined before any extension object"),
        pytest.param(async_view, id="an async view"),
        pytest.param(partial_of_an_async_view, id="a partial of an async view"),
        pytest.param(methods_of_a_class, id="methods of a MethodView"),
        pytest.param(async_methods_of_a_class, id="async methods of a MethodView"),
        pytest.param(decorators_of_a_class, id="decorators of a View"),
        pytest.param(view_of_a_blueprint, id="a view of a blueprint"),
        pytest.param(before_request, id="before_request of a blueprint"),
    ],
)
class TestEveryWayToGuard:
    @pytest.fixture
    def client(self, app: Flask, guard: Callable[[Flask], None]) -> FlaskClient:
        guard(app)
        return app.test_client()

    def test_a_good_token_reaches_the_view(self, client: FlaskClient, local_pool: LocalUserPool) -> None:
        token = local_pool.token("inventory/read", "billing")
        for method in ("GET", "POST", "GET"):
            answer = client.open("/items", method=method, headers=bearer(token))
            assert (answer.status_code, answer.json["client"], answer.json["method"]) == (
                200,
                "billing",
                method,
            )

    def test_no_token_does_not(self, client: FlaskClient) -> None:
        for method in ("GET", "POST", "HEAD"):
            assert client.open("/items", method=method).status_code == 401

    def test_a_token_with_other_scopes_does_not(self, client: FlaskClient, local_pool: LocalUserPool) -> None:
        answer = client.get("/items", headers=bearer(local_pool.token("inventory/write")))
        assert (answer.status_code, answer.json["reason"]) == (403, "insufficient_scope")

    def test_an_automatic_options_needs_no_token(
        self, client: FlaskClient, guard: Callable[[Flask], None]
    ) -> None:
        answer = client.options("/items")
        if guard is before_request:
            # This one runs for OPTIONS too: protect() is what lets a preflight pass.
            assert answer.status_code == 401
        else:
            assert (answer.status_code, answer.data) == (200, b"")


def reached(app: Flask, *scopes: str, method: str = "GET", token: str, **demand: Any) -> str:
    """``"reached"``, or why not, of a view that demands this."""
    app.route("/a", methods=["GET", "POST", "PUT"])(
        require_scopes(*scopes, **demand)(lambda: {"reason": "reached"})
    )
    answer = app.test_client().open("/a", method=method, headers=bearer(token))
    return str(answer.json["reason"]) if answer.data else {200: "reached"}.get(answer.status_code, "refused")


class TestDemands:
    @pytest.mark.parametrize(
        ("match", "scopes", "reason"),
        [
            pytest.param("all", "a b", "reached", id="all of all"),
            pytest.param("all", "a b c", "reached", id="more than all"),
            pytest.param("all", "a", "insufficient_scope", id="one of all"),
            pytest.param("any", "a", "reached", id="one of any"),
            pytest.param("any", "c", "insufficient_scope", id="another of any"),
        ],
    )
    def test_match(self, app: Flask, local_pool: LocalUserPool, match: str, scopes: str, reason: str) -> None:
        assert reached(app, "a", "b", match=match, token=local_pool.token(scopes)) == reason

    @pytest.mark.parametrize(
        ("token", "reason"),
        [
            pytest.param({"scopes": "x/y"}, "reached", id="with scopes"),
            pytest.param({"scope": ""}, "reached", id="without scopes"),
            pytest.param({"expires_in": -60}, "expired", id="that has expired"),
        ],
    )
    def test_no_scopes_is_any_valid_token(
        self, app: Flask, local_pool: LocalUserPool, token: dict[str, Any], reason: str
    ) -> None:
        assert reached(app, token=local_pool.token(**token)) == reason

    @pytest.mark.parametrize(
        ("client_id", "scopes", "reason"),
        [
            pytest.param("billing", "a", "reached", id="one that may"),
            pytest.param("stranger", "a", "client_not_allowed", id="one that may not"),
            pytest.param("stranger", "b", "client_not_allowed", id="one that may not and lacks the scope"),
            pytest.param("billing", "b", "insufficient_scope", id="one that may and lacks the scope"),
        ],
    )
    def test_clients(
        self, app: Flask, local_pool: LocalUserPool, client_id: str, scopes: str, reason: str
    ) -> None:
        token = local_pool.token(scopes, client_id)
        assert reached(app, "a", clients=["billing", "reports"], token=token) == reason

    @pytest.mark.parametrize(
        ("method", "scopes", "reason"),
        [
            pytest.param("GET", "read", "reached", id="GET with its scope"),
            pytest.param("HEAD", "read", "reached", id="HEAD with GET's scope"),
            pytest.param("HEAD", "write", "refused", id="HEAD without it"),
            pytest.param("GET", "write", "insufficient_scope", id="GET with another method's scope"),
            pytest.param("POST", "read", "insufficient_scope", id="POST with GET's scope"),
            pytest.param("POST", "write", "reached", id="POST with one of any"),
            pytest.param("PUT", "read write", "method_not_allowed", id="a method that is not in the map"),
        ],
    )
    def test_by_method(
        self, app: Flask, local_pool: LocalUserPool, method: str, scopes: str, reason: str
    ) -> None:
        demand: Any = {"by_method": {"get": "read", "POST": ["write", "admin"]}, "match": "any"}
        assert reached(app, method=method, token=local_pool.token(scopes), **demand) == reason

    def test_a_method_that_is_not_in_the_map_is_still_401_without_a_token(self, app: Flask) -> None:
        assert reached(app, method="PUT", by_method={"GET": "read"}, token="nonsense") == "malformed"

    @pytest.mark.parametrize(
        ("method", "scopes", "reason"),
        [
            pytest.param("PATCH", "write", "insufficient_scope", id="a method with a scope that is lacking"),
            pytest.param("patch", "admin", "reached", id="its scope, for a name in lower case"),
            pytest.param("HEAD", "write", "insufficient_scope", id="HEAD without GET's scope"),
            pytest.param("PURGE", "write admin", "method_not_allowed", id="a method that is not in the map"),
        ],
    )
    @pytest.mark.parametrize("where", ["a Request class", "before_request", "before_request, protected"])
    def test_by_method_reads_the_overridden_method(
        self, app: Flask, local_pool: LocalUserPool, where: str, method: str, scopes: str, reason: str
    ) -> None:
        if where == "a Request class":

            class Overridden(Request):
                method = property(lambda self: self.args["_method"], lambda self, value: None)  # type: ignore[assignment]

            app.request_class = Overridden
        else:

            @app.before_request
            def override() -> None:
                request.method = request.args["_method"]

        demand: Any = {"by_method": {"GET": "read", "POST": "write", "PATCH": "admin"}}
        view = lambda: {"reason": "reached"}  # noqa: E731
        if where.endswith("protected"):
            CognitoM2M().protect(app, **demand)
        else:
            view = require_scopes(**demand)(view)
        app.post("/a")(view)
        token = local_pool.token(scopes)
        answer = app.test_client().post("/a", query_string={"_method": method}, headers=bearer(token))
        assert answer.json["reason"] == reason

    @pytest.mark.parametrize(
        ("scopes", "lacked"),
        [
            pytest.param("a b", None, id="both"),
            pytest.param("a", "b", id="the outer's alone"),
            pytest.param("b", "a", id="the inner's alone"),
        ],
    )
    def test_stacked_guards_both_hold(
        self, app: Flask, local_pool: LocalUserPool, scopes: str, lacked: str | None
    ) -> None:
        app.route("/a")(require_scopes("a")(require_scopes("b")(caller)))
        answer = app.test_client().get("/a", headers=bearer(local_pool.token(scopes)))
        if lacked is None:
            assert answer.status_code == 200
        else:
            assert answer.www_authenticate.parameters["scope"] == lacked

    def test_the_applications_own_demands_come_before_the_views(
        self, make_app: MakeApp, local_pool: LocalUserPool
    ) -> None:
        app = make_app(REQUIRED_SCOPES=["base"], TOKEN_CHECK=lambda token: "tenant" not in token.claims)
        token = local_pool.token("base", tenant="x")
        assert reached(app, "extra", token=token) == "rejected_by_check"

    def test_its_token_check_runs_before_the_views_scopes_and_after_its_own(
        self, make_app: MakeApp, local_pool: LocalUserPool
    ) -> None:
        seen: list[ValidatedAccessToken] = []
        app = make_app(REQUIRED_SCOPES=["base"], TOKEN_CHECK=lambda token: seen.append(token) or True)
        app.route("/a")(require_scopes("extra")(caller))
        client = app.test_client()
        for scopes, checked in (("other", 0), ("base", 1), ("base extra", 2)):
            client.get("/a", headers=bearer(local_pool.token(scopes)))
            assert len(seen) == checked


@pytest.fixture
def digests(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A line for each digest of a token that is computed."""
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
    def test_digest_of_a_new_token_is_computed_once(
        self, digests: list[str], make_app: MakeApp, local_pool: LocalUserPool
    ) -> None:
        app = make_app()
        function_view(app)
        client = app.test_client()
        for claims in ({"first": "long" * 50}, {"then": "new"}):
            token = local_pool.token("inventory/read", **claims)
            for _ in range(2):
                digests.clear()
                assert client.get("/items", headers=bearer(token)).status_code == 200
                assert digests == ["digest"]

    def test_token_after_more_spaces_is_remembered_without_them(
        self, make_app: MakeApp, local_pool: LocalUserPool
    ) -> None:
        app = make_app()
        function_view(app)
        client = app.test_client()
        client.get("/items", headers=bearer(local_pool.token("inventory/read", first="long" * 50)))
        token = local_pool.token("inventory/read")
        checks: list[str] = []

        def note(sender: Flask, check: str, **_: Any) -> None:
            checks.append(check)

        with signals.token_accepted.connected_to(note, app):
            for sent in (f"  {token}", f"  {token}", f"{token} ", token):
                assert client.get("/items", headers=bearer(sent)).status_code == 200
        assert checks == ["signature", "memory", "memory", "memory"]


class TestWhatTheViewFinds:
    def test_the_token_and_its_claims(self, app: Flask, local_pool: LocalUserPool) -> None:
        found: list[Any] = []

        @app.get("/a")
        @require_scopes()
        def view() -> Any:
            assert g.m2m_token == current_token
            assert g.m2m_claims is g.m2m_token.claims
            assert current_token.has_scopes("b", "a")
            assert bool(current_token)
            found.append(g.m2m_token)
            return jsonify(g.m2m_claims)

        answer = app.test_client().get("/a", headers=bearer(local_pool.token("a b", "billing", tenant="x")))
        assert type(found[0]) is ValidatedAccessToken
        assert found[0].scopes == {"a", "b"}
        assert answer.json["tenant"] == "x"

    def test_claims_that_a_view_changes_do_not_reach_another_request(
        self, app: Flask, local_pool: LocalUserPool
    ) -> None:
        @app.get("/a")
        @require_scopes()
        def view() -> Any:
            before = jsonify(g.m2m_claims)
            g.m2m_claims["roles"].append("admin")
            g.m2m_claims["more"] = True
            return before

        headers, client = bearer(local_pool.token(roles=["reader"])), app.test_client()
        first, second = (client.get("/a", headers=headers).json for _ in range(2))
        assert first == second

    def test_current_token_is_false_where_no_guard_was(self, app: Flask) -> None:
        app.get("/a")(lambda: {"has_token": bool(current_token)})
        assert app.test_client().get("/a").json == {"has_token": False}
        assert not current_token
        with app.app_context(), pytest.raises(RuntimeError, match="not guarded"):
            _ = current_token.client_id

    def test_requests_at_once_find_each_their_own(self, app: Flask, local_pool: LocalUserPool) -> None:
        together = threading.Barrier(8)

        @app.get("/a")
        @require_scopes()
        def view() -> str:
            together.wait(5)
            return current_token.client_id

        def called_by(client_id: str) -> str:
            headers = bearer(local_pool.token(client_id=client_id))
            return app.test_client().get("/a", headers=headers).text

        ids = [f"client-{number}" for number in range(8)]
        with ThreadPoolExecutor(8) as threads:
            assert list(threads.map(called_by, ids)) == ids
        assert local_pool.count("jwks") == 1


def seen() -> Answer:
    """All that a request can see of its token, by each name."""
    return {
        "g": None if g.get("m2m_token") is None else g.m2m_token.client_id,
        "claims": None if g.get("m2m_claims") is None else g.m2m_claims["client_id"],
        "principal": g.get("m2m_principal"),
        "current_token": current_token.client_id if current_token else None,
        "in g": [name for name in ("m2m_token", "m2m_claims", "m2m_principal") if name in g],
    }


NOTHING = {"g": None, "claims": None, "principal": None, "current_token": None, "in g": []}


def all_of(client_id: str) -> Answer:
    return {
        "g": client_id,
        "claims": client_id,
        "principal": f"row of {client_id}",
        "current_token": client_id,
        "in g": ["m2m_token", "m2m_claims", "m2m_principal"],
    }


class TestTheTokenBelongsToTheRequest:
    @pytest.fixture
    def app(self, make_app: MakeApp) -> Flask:
        """With a view of each kind that shows what it sees, and a loader of principals."""
        app = make_app()
        app.extensions["cognito_m2m"].owner.principal_loader(lambda token: f"row of {token.client_id}")
        app.add_url_rule("/open", "open", seen)
        app.add_url_rule("/optional", "optional", CognitoM2M().optional_token(seen))
        app.add_url_rule("/guarded", "guarded", require_scopes("a")(seen))

        @app.get("/fails")
        @require_scopes("a")
        def fails() -> None:
            raise ZeroDivisionError

        return app

    @pytest.mark.parametrize(
        ("path", "scopes", "status"),
        [
            pytest.param("/open", None, 200, id="an open view"),
            pytest.param("/open", "a", 200, id="an open view, with a token"),
            pytest.param("/optional", None, 200, id="an optional view"),
            pytest.param("/optional", "a", 200, id="an optional view, with a token"),
            pytest.param("/guarded", "a", 200, id="a guarded view"),
            pytest.param("/guarded", None, 401, id="a guarded view, without a token"),
            pytest.param("/guarded", "b", 403, id="a guarded view, without the scope"),
            pytest.param("/fails", "a", 500, id="a view that raises"),
            pytest.param("/unknown", "a", 404, id="an unknown URL"),
        ],
    )
    @pytest.mark.parametrize("outer", ["sync", "async"])
    def test_a_request_inside_it_changes_nothing(
        self, app: Flask, local_pool: LocalUserPool, outer: str, path: str, scopes: str | None, status: int
    ) -> None:
        headers = {} if scopes is None else bearer(local_pool.token(scopes, "inner"))
        inner: Any = None

        def view() -> Answer:
            nonlocal inner
            inner = app.test_client().get(path, headers=headers)
            return seen()

        async def async_view() -> Answer:
            return view()

        app.add_url_rule("/outer", "outer", require_scopes()(async_view if outer == "async" else view))
        answer = app.test_client().get("/outer", headers=bearer(local_pool.token(client_id="outer")))
        assert inner.status_code == status
        if status == 200:
            nobody = {**NOTHING, "in g": all_of("")["in g"]} if path == "/optional" else NOTHING
            assert inner.json == (nobody if scopes is None or path == "/open" else all_of("inner"))
        assert answer.json == all_of("outer")

    @pytest.mark.parametrize("name", ["m2m_token", "m2m_claims", "m2m_principal"])
    def test_an_unguarded_view_gets_an_error_that_says_so(
        self, app: Flask, local_pool: LocalUserPool, name: str
    ) -> None:
        app.testing = True
        app.add_url_rule("/a", "a", lambda: str(getattr(g, name)))
        app.add_url_rule("/outer", "outer", require_scopes()(lambda: app.test_client().get("/a").text))
        for path in ("/a", "/outer"):
            with pytest.raises(AttributeError, match="not guarded"):
                app.test_client().get(path, headers=bearer(local_pool.token()))

    def test_a_principal_without_a_loader_is_an_error_that_says_so(
        self, make_app: MakeApp, local_pool: LocalUserPool
    ) -> None:
        app = make_app()
        app.testing = True
        app.add_url_rule("/a", "a", require_scopes()(lambda: str(g.m2m_principal)))
        with pytest.raises(AttributeError, match="principal_loader"):
            app.test_client().get("/a", headers=bearer(local_pool.token()))

    def test_requests_under_one_context_share_nothing(self, app: Flask, local_pool: LocalUserPool) -> None:
        client = app.test_client()
        with app.app_context():
            headers = bearer(local_pool.token("a", "first"))
            assert client.get("/guarded", headers=headers).json == all_of("first")
            assert seen() == client.get("/open").json == NOTHING
            assert client.get("/optional").json == {**NOTHING, "in g": all_of("")["in g"]}
            assert client.get("/guarded").status_code == 401
            assert seen() == client.get("/open").json == NOTHING

    def test_a_copied_request_context_has_it(self, app: Flask, local_pool: LocalUserPool) -> None:
        @app.get("/a")
        @require_scopes()
        def view() -> Answer:
            with ThreadPoolExecutor(1) as threads:
                return threads.submit(copy_current_request_context(seen)).result()

        headers = bearer(local_pool.token(client_id="copied"))
        assert app.test_client().get("/a", headers=headers).json == all_of("copied")

    def test_a_rejection_keeps_the_token_the_request_had(self, app: Flask, local_pool: LocalUserPool) -> None:
        app.register_error_handler(403, lambda error: seen())
        app.register_error_handler(401, lambda error: seen())
        CognitoM2M().protect(app, public=["open"])
        client = app.test_client()
        assert client.get("/guarded", headers=bearer(local_pool.token("b", "x"))).json == all_of("x")
        assert client.get("/guarded").json == NOTHING

    def test_the_context_of_another_app_does_not_have_it(
        self, make_app: MakeApp, local_pool: LocalUserPool
    ) -> None:
        app, other = make_app(), make_app("other")

        @app.get("/a")
        @require_scopes()
        def view() -> Answer:
            with other.app_context():
                return seen()

        assert app.test_client().get("/a", headers=bearer(local_pool.token())).json == NOTHING

    def test_an_app_initialised_under_its_own_context_has_it(self, local_pool: LocalUserPool) -> None:
        app = Flask("shop")
        app.config.update(local_pool.config(ALLOWED_CLIENT_IDS="*"))
        app.get("/a")(require_scopes()(lambda: g.m2m_token.client_id))
        with app.app_context():
            CognitoM2M(app)
            headers = bearer(local_pool.token(client_id="x"))
            assert app.test_client().get("/a", headers=headers).text == "x"

    def test_a_value_of_the_applications_own_is_a_default(
        self, app: Flask, local_pool: LocalUserPool
    ) -> None:
        @app.before_request
        def set_default() -> None:
            g.m2m_principal = "nobody"

        client = app.test_client()
        assert client.get("/open").json["principal"] == "nobody"
        assert client.get("/guarded", headers=bearer(local_pool.token("a", "x"))).json == all_of("x")

    def test_a_globals_class_of_the_applications_own_stays(self, local_pool: LocalUserPool) -> None:
        class Globals(Flask.app_ctx_globals_class):  # type: ignore[misc]
            def __getattr__(self, name: str) -> str:
                return f"no {name}"

        class Shop(Flask):
            app_ctx_globals_class = Globals

        app = Shop("shop")
        app.config.update(local_pool.config(ALLOWED_CLIENT_IDS="*"))
        CognitoM2M(app)
        app.get("/a")(require_scopes()(lambda: [g.m2m_token.client_id, g.other]))
        answer = app.test_client().get("/a", headers=bearer(local_pool.token(client_id="x")))
        assert answer.json == ["x", "no other"]


class TestApplications:
    def test_one_object_serves_applications_with_settings_of_their_own(
        self, local_pool: LocalUserPool
    ) -> None:
        m2m = CognitoM2M()
        view = m2m.require_scopes()(caller)
        apps = []
        for allowed in ("billing", "reports"):
            app = Flask(allowed)
            app.config.update(local_pool.config(ALLOWED_CLIENT_IDS=[allowed]))
            m2m.init_app(app)
            app.add_url_rule("/a", view_func=view)
            apps.append(app)
        statuses = [
            app.test_client().get("/a", headers=bearer(local_pool.token(client_id=client_id))).status_code
            for app in apps
            for client_id in ("billing", "reports")
        ]
        assert statuses == [200, 403, 403, 200]

    def test_a_guarded_view_of_an_application_without_the_extension_is_an_error_and_not_open(self) -> None:
        app = Flask("bare")
        app.testing = True
        app.get("/a")(require_scopes()(caller))
        with pytest.raises(RuntimeError, match="init_app"):
            app.test_client().get("/a")

    def test_a_guarded_view_without_a_trusted_pool_is_an_error_and_not_open(
        self, local_pool: LocalUserPool
    ) -> None:
        config = {
            key: value
            for key, value in local_pool.config().items()
            if not key.endswith(("USER_POOL_ID", "ISSUER", "JWKS_URL"))
        }
        app = Flask("caller")
        app.config.update(config, TESTING=True)
        CognitoM2M(app)
        app.get("/a")(require_scopes()(caller))
        with pytest.raises(RuntimeError, match="USER_POOL_ID"):
            app.test_client().get("/a")

    def test_a_second_object_on_one_application_is_an_error(self, app: Flask) -> None:
        with pytest.raises(RuntimeError):
            CognitoM2M(app)


class TestAnotherHeader:
    """What proxies send, and what a shared cache may do with the answer: it protects Authorization only."""

    @pytest.fixture
    def app(self, make_app: MakeApp) -> Flask:
        app = make_app(HEADER_NAME="X-Access-Token")
        app.add_url_rule("/open", "open", lambda: "open")
        app.add_url_rule("/optional", "optional", CognitoM2M().optional_token(seen))
        app.add_url_rule("/guarded", "guarded", require_scopes("a")(seen))

        @app.get("/own")
        @require_scopes()
        def own() -> Any:
            return "", {name: request.args[name] for name in request.args}

        return app

    @pytest.mark.parametrize(
        ("value", "optional", "guarded"),
        [
            pytest.param("{}", 200, 200, id="the bare token"),
            pytest.param("Bearer {}", 200, 200, id="the token after its scheme"),
            pytest.param("Basic eDp5", 200, 401, id="another scheme"),
            pytest.param("nonsense", 401, 401, id="no token"),
            pytest.param("{}, {}", 400, 400, id="two tokens"),
        ],
    )
    def test_it_may_hold_the_bare_token(
        self, app: Flask, local_pool: LocalUserPool, value: str, optional: int, guarded: int
    ) -> None:
        headers = {"X-Access-Token": value.replace("{}", local_pool.token("a", "x"))}
        answers = [app.test_client().get(path, headers=headers) for path in ("/optional", "/guarded") * 2]
        assert [answer.status_code for answer in answers] == [optional, guarded] * 2
        if guarded == 200:
            assert {answer.json["current_token"] for answer in answers} == {"x"}

    @pytest.mark.parametrize("path", ["/optional", "/guarded", "/unknown"])
    @pytest.mark.parametrize("scopes", [None, "a", "b"], ids=["no token", "a valid token", "lacking scopes"])
    @pytest.mark.parametrize("is_handled", [False, True], ids=["own answer", "an application's handler"])
    def test_answers_are_kept_from_shared_caches(
        self, app: Flask, local_pool: LocalUserPool, path: str, scopes: str | None, is_handled: bool
    ) -> None:
        if path == "/unknown":
            CognitoM2M().protect(app)
        if is_handled:
            app.register_error_handler(HTTPException, lambda error: ("handled", error.code))
        headers = {} if scopes is None else {"X-Access-Token": local_pool.token(scopes)}
        answer = app.test_client().get(path, headers=headers)
        assert "X-Access-Token" in answer.vary
        assert answer.cache_control.private
        assert answer.cache_control.no_store is (answer.status_code in (401, 403))

    @pytest.mark.parametrize(
        ("own", "directives"),
        [
            pytest.param("no-store", {"no-store", "private"}, id="stricter"),
            pytest.param(
                "max-age=60, must-revalidate", {"max-age", "must-revalidate", "private"}, id="fresh"
            ),
            pytest.param("public, max-age=60", {"max-age", "private"}, id="public, as send_file says"),
        ],
    )
    def test_what_the_application_says_of_caches_stays(
        self, app: Flask, local_pool: LocalUserPool, own: str, directives: set[str]
    ) -> None:
        headers = {"X-Access-Token": local_pool.token()}
        query = {"Cache-Control": own, "Vary": "Origin"}
        answer = app.test_client().get("/own", query_string=query, headers=headers)
        assert set(answer.cache_control) == directives
        assert set(answer.vary) == {"Origin", "X-Access-Token"}

    def test_answers_that_depend_on_no_token_are_left_alone(self, app: Flask, make_app: MakeApp) -> None:
        CognitoM2M().protect(app, public=["open"])
        usual = make_app()
        usual.add_url_rule("/open", "open", CognitoM2M().optional_token(lambda: "open"))
        for each in (app, usual):
            answer = each.test_client().get("/open")
            assert "Vary" not in answer.headers
            assert "Cache-Control" not in answer.headers


class TestHeader:
    @pytest.mark.parametrize(
        ("value", "status"),
        [
            pytest.param("Bearer {}", 200, id="as the RFC writes it"),
            pytest.param("bearer {}", 200, id="scheme in lower case"),
            pytest.param("Bearer  {} ", 200, id="more spaces"),
            pytest.param("Bearer {},Bearer {}", 400, id="two joined by the server"),
            pytest.param("Basic eDp5, Bearer {}", 400, id="hidden behind Basic"),
            pytest.param("Bearer", 400, id="the scheme alone"),
            pytest.param("\tBearer {}\t ", 200, id="tabs around it"),
            pytest.param("Bearer {}\t{}", 400, id="a tab inside"),
            pytest.param("Bearer é{}", 400, id="a letter that is not ASCII"),
            pytest.param("Basic eDp5", 401, id="Basic"),
            pytest.param("{}", 401, id="no scheme"),
        ],
    )
    @pytest.mark.parametrize("is_known", [False, True], ids=["a new token", "a remembered token"])
    def test_statuses(
        self, app: Flask, local_pool: LocalUserPool, value: str, status: int, is_known: bool
    ) -> None:
        app.get("/a")(require_scopes()(caller))
        token, client = local_pool.token(), app.test_client()
        if is_known:
            assert client.get("/a", headers=bearer(token)).status_code == 200
        # Not through the test client's headers: werkzeug would strip and join.
        environ = {"HTTP_AUTHORIZATION": value.replace("{}", token).encode().decode("latin-1")}
        assert client.get("/a", environ_overrides=environ).status_code == status

    def test_two_headers_are_400(self, app: Flask, local_pool: LocalUserPool) -> None:
        app.get("/a")(require_scopes()(caller))
        header = ("Authorization", f"Bearer {local_pool.token()}")
        answer = app.test_client().get("/a", headers=[header, header])
        assert (answer.status_code, answer.json["reason"]) == (400, "bad_header")

    def test_more_than_8_kib_are_400_and_not_looked_at(self, app: Flask, local_pool: LocalUserPool) -> None:
        app.get("/a")(require_scopes()(caller))
        for token in (local_pool.token(padding="x" * 8192), "a" * 8186):
            answer = app.test_client().get("/a", headers=bearer(token))
            assert (answer.status_code, answer.json["reason"]) == (400, "bad_header")
        assert local_pool.count() == 0

    def test_more_than_8_kib_are_400_though_the_token_is_remembered(
        self, app: Flask, local_pool: LocalUserPool
    ) -> None:
        app.get("/a")(require_scopes()(caller))
        token = local_pool.token(padding="x" * 8192)
        app.extensions["cognito_m2m"].validator.validate(token)
        assert app.test_client().get("/a", headers=bearer(token)).status_code == 400

    def test_a_token_in_the_query_or_the_body_is_not_looked_at(
        self, app: Flask, local_pool: LocalUserPool
    ) -> None:
        app.post("/a")(require_scopes()(caller))
        token = {"access_token": local_pool.token()}
        answer = app.test_client().post("/a", query_string=token, data=token)
        assert (answer.status_code, answer.json["reason"]) == (401, "missing_token")

    def test_another_header_may_carry_it_and_then_authorization_is_not_looked_at(
        self, make_app: MakeApp, local_pool: LocalUserPool
    ) -> None:
        app = make_app(HEADER_NAME="X-Service-Authorization")
        app.get("/a")(require_scopes()(caller))
        client, value = app.test_client(), f"Bearer {local_pool.token()}"
        answers = [
            client.get("/a", headers=headers).status_code
            for headers in (
                {"X-Service-Authorization": value},
                {"X-Service-Authorization": value, "Authorization": "Bearer nonsense"},
                {"Authorization": value},
            )
        ]
        assert answers == [200, 200, 401]
        bad = client.get("/a", headers={"X-Service-Authorization": "Bearer"})
        assert bad.status_code == 400
        assert "The X-Service-Authorization header" in bad.json["detail"]


class TestAuthorize:
    """The guard's check in a view, for what a token must have that depends on the request."""

    @pytest.fixture
    def m2m(self) -> CognitoM2M:
        return CognitoM2M()

    @pytest.fixture
    def app(self, m2m: CognitoM2M, local_pool: LocalUserPool) -> Flask:
        app = Flask("shop")
        app.config.update(local_pool.config(ALLOWED_CLIENT_IDS="*"))
        m2m.init_app(app)
        return app

    def add_view(self, app: Flask, m2m: CognitoM2M, kind: str) -> None:
        def check() -> Answer:
            body = request.get_json()
            match = body.get("match", "all")
            token = m2m.authorize(*body["scopes"], match=match, clients=body.get("clients"))
            assert token == g.m2m_token == current_token
            return {"reason": "reached", "client": token.client_id}

        async def check_async() -> Answer:
            return check()

        view: Any = check_async if kind == "async" else check
        app.post("/rows")(m2m.require_scopes("rows/see")(view) if kind == "guarded" else view)

    @pytest.mark.parametrize("kind", ["unguarded", "guarded", "async"])
    @pytest.mark.parametrize(
        ("body", "token", "status", "reason"),
        [
            ({"scopes": ["rows/a"]}, {"scopes": "rows/see rows/a"}, 200, "reached"),
            ({"scopes": []}, {"scopes": "rows/see"}, 200, "reached"),
            ({"scopes": ["rows/a", "rows/b"]}, {"scopes": "rows/see rows/a"}, 403, "insufficient_scope"),
            (
                {"scopes": ["rows/a", "rows/b"], "match": "any"},
                {"scopes": "rows/see rows/b"},
                200,
                "reached",
            ),
            ({"scopes": [], "clients": ["reports"]}, {"scopes": "rows/see"}, 403, "client_not_allowed"),
            ({"scopes": ["rows/a"]}, {"scopes": "rows/see rows/a", "expires_in": -60}, 401, "expired"),
            ({"scopes": ["rows/a"]}, None, 401, "missing_token"),
        ],
    )
    def test_answers_are_the_guards(
        self,
        app: Flask,
        m2m: CognitoM2M,
        local_pool: LocalUserPool,
        kind: str,
        body: Any,
        token: Any,
        status: int,
        reason: str,
    ) -> None:
        self.add_view(app, m2m, kind)
        headers = {} if token is None else bearer(local_pool.token(**token))
        answer = app.test_client().post("/rows", json=body, headers=headers)
        assert (answer.status_code, answer.json["reason"]) == (status, reason)
        if reason == "insufficient_scope":
            assert answer.www_authenticate.parameters["scope"] == " ".join(sorted(body["scopes"]))

    def test_unavailable_keys_are_503(self, app: Flask, m2m: CognitoM2M, local_pool: LocalUserPool) -> None:
        self.add_view(app, m2m, "unguarded")
        with local_pool.fail("jwks", status=500):
            answer = app.test_client().post("/rows", json={"scopes": []}, headers=bearer(local_pool.token()))
        assert (answer.status_code, answer.json["reason"]) == (503, "keys_unavailable")

    def test_a_caught_rejection_leaves_the_requests_token(
        self, app: Flask, m2m: CognitoM2M, local_pool: LocalUserPool
    ) -> None:
        @app.get("/rows")
        @m2m.require_scopes("rows/see")
        def rows() -> Answer:
            try:
                m2m.authorize("rows/secret")
            except InsufficientScopeError as error:
                return {"lacks": sorted(error.required_scopes), "client": g.m2m_token.client_id}
            return {}

        answer = app.test_client().get("/rows", headers=bearer(local_pool.token("rows/see", "billing")))
        assert answer.json == {"lacks": ["rows/secret"], "client": "billing"}

    def test_the_principal_is_loaded(self, app: Flask, m2m: CognitoM2M, local_pool: LocalUserPool) -> None:
        m2m.principal_loader(lambda token: token.client_id.upper())

        @app.get("/rows")
        async def rows() -> Answer:
            m2m.authorize()
            return {"principal": g.m2m_principal, "lower": current_principal.lower()}

        answer = app.test_client().get("/rows", headers=bearer(local_pool.token(client_id="billing")))
        assert answer.json == {"principal": "BILLING", "lower": "billing"}

    @pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])
    def test_principal_loader_may_call_it(
        self, app: Flask, m2m: CognitoM2M, local_pool: LocalUserPool, is_async: bool
    ) -> None:
        calls: list[str] = []

        def load(token: ValidatedAccessToken) -> str:
            calls.append(m2m.authorize("rows/read").client_id)
            return "row"

        async def load_async(token: ValidatedAccessToken) -> str:
            return load(token)

        async def view() -> str:
            return str(current_principal)

        m2m.principal_loader(load_async if is_async else load)
        app.get("/a")(m2m.require_scopes()(view if is_async else lambda: str(current_principal)))
        client = app.test_client()
        answer = client.get("/a", headers=bearer(local_pool.token("rows/read", "billing")))
        assert (answer.text, calls) == ("row", ["billing"])
        refused = client.get("/a", headers=bearer(local_pool.token("rows/write")))
        assert (refused.status_code, refused.json["reason"]) == (403, "insufficient_scope")

    def test_async_view_without_its_principal_is_told_so(
        self, app: Flask, m2m: CognitoM2M, local_pool: LocalUserPool
    ) -> None:
        @m2m.principal_loader
        async def load(token: ValidatedAccessToken) -> str:
            return "row"

        @app.get("/a")
        async def view() -> str:
            m2m.authorize()
            with pytest.raises(RuntimeError, match="an async loader runs only under a guard"):
                str(current_principal.name)
            with pytest.raises(AttributeError, match="an async loader runs only under a guard"):
                str(g.m2m_principal)
            return "seen"

        accepted: list[str] = []

        def receive(sender: Flask, token: ValidatedAccessToken, **_: object) -> None:
            accepted.append(token.client_id)

        with signals.token_accepted.connected_to(receive, app):
            answer = app.test_client().get("/a", headers=bearer(local_pool.token("x/y", "billing")))
        assert (answer.text, accepted) == ("seen", ["billing"])

    def test_no_principal_is_an_error_that_says_so(
        self, app: Flask, m2m: CognitoM2M, local_pool: LocalUserPool
    ) -> None:
        app.testing = True
        app.get("/a", endpoint="unguarded")(lambda: str(current_principal))
        app.get("/b", endpoint="guarded")(m2m.require_scopes()(lambda: str(current_principal.name)))
        client = app.test_client()
        with pytest.raises(RuntimeError, match="not guarded"):
            client.get("/a")
        with pytest.raises(RuntimeError, match="no principal_loader is set"):
            client.get("/b", headers=bearer(local_pool.token()))

    @pytest.mark.parametrize("arguments", [{"match": "some"}, {"clients": "billing"}])
    def test_wrong_arguments_are_errors(self, app: Flask, m2m: CognitoM2M, arguments: Any) -> None:
        with app.test_request_context(), pytest.raises(ConfigurationError):
            m2m.authorize("a", **arguments)
