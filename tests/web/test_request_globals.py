"""What a view finds in ``g`` and ``current_token``. The token belongs to the request."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from flask import (
    Flask,
    copy_current_request_context,
    g,
    jsonify,
)

from flask_m2m_cognito import (
    CognitoM2M,
    ValidatedAccessToken,
    current_token,
    require_scopes,
)
from flask_m2m_cognito.testing import LocalUserPool
from tests.web.conftest import Bearer, MakeApp

Answer = dict[str, Any]


class TestView:
    def test_view_finds_the_token_and_its_claims(self, app: Flask, bearer: Bearer) -> None:
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

        answer = app.test_client().get("/a", headers=bearer("a", "b", tenant="x"))
        assert type(found[0]) is ValidatedAccessToken
        assert found[0].scopes == {"a", "b"}
        assert answer.json["tenant"] == "x"

    def test_changed_claims_do_not_reach_another_request(self, app: Flask, bearer: Bearer) -> None:
        @app.get("/a")
        @require_scopes()
        def view() -> Any:
            before = jsonify(g.m2m_claims)
            g.m2m_claims["roles"].append("admin")
            g.m2m_claims["more"] = True
            return before

        headers, client = bearer(roles=["reader"]), app.test_client()
        first, second = (client.get("/a", headers=headers).json for _ in range(2))
        assert first == second

    def test_current_token_is_false_without_a_guard(self, app: Flask) -> None:
        app.get("/a")(lambda: {"has_token": bool(current_token)})
        assert app.test_client().get("/a").json == {"has_token": False}
        assert not current_token
        with app.app_context(), pytest.raises(RuntimeError, match="not guarded"):
            _ = current_token.client_id

    def test_concurrent_requests_find_their_own_token(
        self, app: Flask, pool: LocalUserPool, bearer: Bearer
    ) -> None:
        together = threading.Barrier(8)

        @app.get("/a")
        @require_scopes()
        def view() -> str:
            together.wait(5)
            return current_token.client_id

        def call_as(client_id: str) -> str:
            return app.test_client().get("/a", headers=bearer(client_id=client_id)).text

        ids = [f"client-{number}" for number in range(8)]
        with ThreadPoolExecutor(8) as threads:
            assert list(threads.map(call_as, ids)) == ids
        assert pool.count("jwks") == 1


def seen() -> Answer:
    """Return what a request finds of its token under each name."""
    return {
        "g": None if g.get("m2m_token") is None else g.m2m_token.client_id,
        "claims": None if g.get("m2m_claims") is None else g.m2m_claims["client_id"],
        "principal": g.get("m2m_principal"),
        "current_token": current_token.client_id if current_token else None,
        "in g": [name for name in ("m2m_token", "m2m_claims", "m2m_principal") if name in g],
    }


NOTHING = {"g": None, "claims": None, "principal": None, "current_token": None, "in g": []}


def everything_of(client_id: str) -> Answer:
    return {
        "g": client_id,
        "claims": client_id,
        "principal": f"row of {client_id}",
        "current_token": client_id,
        "in g": ["m2m_token", "m2m_claims", "m2m_principal"],
    }


class TestRequest:
    @pytest.fixture
    def app(self, app: Flask, m2m: CognitoM2M) -> Flask:
        """Return an application with a principal loader and a view of each kind."""
        m2m.principal_loader(lambda token: f"row of {token.client_id}")
        app.add_url_rule("/open", "open", seen)
        app.add_url_rule("/optional", "optional", m2m.optional_token(seen))
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
    def test_inner_request_does_not_change_the_token(
        self, app: Flask, bearer: Bearer, outer: str, path: str, scopes: str | None, status: int
    ) -> None:
        headers = {} if scopes is None else bearer(scopes, client_id="inner")
        inner: Any = None

        def view() -> Answer:
            nonlocal inner
            inner = app.test_client().get(path, headers=headers)
            return seen()

        async def async_view() -> Answer:
            return view()

        app.add_url_rule("/outer", "outer", require_scopes()(async_view if outer == "async" else view))
        answer = app.test_client().get("/outer", headers=bearer(client_id="outer"))
        assert inner.status_code == status
        if status == 200:
            nobody = {**NOTHING, "in g": everything_of("")["in g"]} if path == "/optional" else NOTHING
            assert inner.json == (nobody if scopes is None or path == "/open" else everything_of("inner"))
        assert answer.json == everything_of("outer")

    @pytest.mark.parametrize("name", ["m2m_token", "m2m_claims", "m2m_principal"])
    def test_unguarded_view_gets_a_clear_error(self, app: Flask, bearer: Bearer, name: str) -> None:
        app.testing = True
        app.add_url_rule("/a", "a", lambda: str(getattr(g, name)))
        app.add_url_rule("/outer", "outer", require_scopes()(lambda: app.test_client().get("/a").text))
        for path in ("/a", "/outer"):
            with pytest.raises(AttributeError, match="not guarded"):
                app.test_client().get(path, headers=bearer())

    def test_principal_without_a_loader_is_a_clear_error(self, make_app: MakeApp, bearer: Bearer) -> None:
        app = make_app()
        app.testing = True
        app.add_url_rule("/a", "a", require_scopes()(lambda: str(g.m2m_principal)))
        with pytest.raises(AttributeError, match="principal_loader"):
            app.test_client().get("/a", headers=bearer())

    def test_requests_under_one_context_share_nothing(self, app: Flask, bearer: Bearer) -> None:
        client = app.test_client()
        with app.app_context():
            headers = bearer("a", client_id="first")
            assert client.get("/guarded", headers=headers).json == everything_of("first")
            assert seen() == client.get("/open").json == NOTHING
            assert client.get("/optional").json == {**NOTHING, "in g": everything_of("")["in g"]}
            assert client.get("/guarded").status_code == 401
            assert seen() == client.get("/open").json == NOTHING

    def test_copied_request_context_has_the_token(self, app: Flask, bearer: Bearer) -> None:
        @app.get("/a")
        @require_scopes()
        def view() -> Answer:
            with ThreadPoolExecutor(1) as threads:
                return threads.submit(copy_current_request_context(seen)).result()

        headers = bearer(client_id="copied")
        assert app.test_client().get("/a", headers=headers).json == everything_of("copied")

    def test_rejection_keeps_the_token_the_request_had(
        self, app: Flask, m2m: CognitoM2M, bearer: Bearer
    ) -> None:
        app.register_error_handler(403, lambda error: seen())
        app.register_error_handler(401, lambda error: seen())
        m2m.protect(app, public=["open"])
        client = app.test_client()
        assert client.get("/guarded", headers=bearer("b", client_id="x")).json == everything_of("x")
        assert client.get("/guarded").json == NOTHING

    def test_context_of_another_app_has_no_token(self, make_app: MakeApp, bearer: Bearer) -> None:
        app, other = make_app(), make_app("other")

        @app.get("/a")
        @require_scopes()
        def view() -> Answer:
            with other.app_context():
                return seen()

        assert app.test_client().get("/a", headers=bearer()).json == NOTHING

    def test_app_initialised_under_its_own_context_has_the_token(
        self, make_app: MakeApp, bearer: Bearer
    ) -> None:
        app = Flask("shop")
        app.get("/a")(require_scopes()(lambda: g.m2m_token.client_id))
        with app.app_context():
            make_app(app)
            headers = bearer(client_id="x")
            assert app.test_client().get("/a", headers=headers).text == "x"

    def test_own_value_is_a_default(self, app: Flask, bearer: Bearer) -> None:
        @app.before_request
        def set_default() -> None:
            g.m2m_principal = "nobody"

        client = app.test_client()
        assert client.get("/open").json["principal"] == "nobody"
        assert client.get("/guarded", headers=bearer("a", client_id="x")).json == everything_of("x")

    def test_own_globals_class_stays(self, make_app: MakeApp, bearer: Bearer) -> None:
        class Globals(Flask.app_ctx_globals_class):  # type: ignore[misc]
            def __getattr__(self, name: str) -> str:
                return f"no {name}"

        class Shop(Flask):
            app_ctx_globals_class = Globals

        app = make_app(Shop("shop"))
        app.get("/a")(require_scopes()(lambda: [g.m2m_token.client_id, g.other]))
        answer = app.test_client().get("/a", headers=bearer(client_id="x"))
        assert answer.json == ["x", "no other"]
