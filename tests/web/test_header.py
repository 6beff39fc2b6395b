"""Which header contains the token, in which form, and how shared caches treat the answer."""

from __future__ import annotations

from typing import Any

import pytest
from flask import Flask, g, request
from flask.testing import FlaskClient
from werkzeug.exceptions import HTTPException

from flask_m2m_cognito import CognitoM2M, require_scopes
from flask_m2m_cognito.testing import LocalUserPool
from tests.web.conftest import Bearer, MakeApp


def caller() -> dict[str, Any]:
    return {"client": g.m2m_token and g.m2m_token.client_id}


class TestAuthorization:
    @pytest.fixture
    def client(self, app: Flask) -> FlaskClient:
        app.route("/a", methods=["GET", "POST"])(require_scopes()(caller))
        return app.test_client()

    @pytest.mark.parametrize(
        ("value", "status"),
        [
            pytest.param("Bearer {}", 200, id="as the RFC writes it"),
            pytest.param("bearer {}", 200, id="scheme in lower case"),
            pytest.param("Bearer  {} ", 200, id="more spaces"),
            pytest.param("Bearer {},Bearer {}", 400, id="two joined by the server"),
            pytest.param("Basic eDp5, Bearer {}", 400, id="hidden behind Basic"),
            pytest.param("Bearer", 400, id="only the scheme"),
            pytest.param("\tBearer {}\t ", 200, id="tabs around it"),
            pytest.param("Bearer {}\t{}", 400, id="a tab inside"),
            pytest.param("Bearer é{}", 400, id="a letter that is not ASCII"),
            pytest.param("Basic eDp5", 401, id="Basic"),
            pytest.param("{}", 401, id="no scheme"),
        ],
    )
    @pytest.mark.parametrize("is_known", [False, True], ids=["a new token", "a remembered token"])
    def test_each_form_of_the_header_has_its_status(
        self, client: FlaskClient, pool: LocalUserPool, value: str, status: int, is_known: bool
    ) -> None:
        token = pool.token()
        if is_known:
            assert client.get("/a", headers={"Authorization": f"Bearer {token}"}).status_code == 200
        # Not through the test client's headers, which werkzeug would strip and join.
        environ = {"HTTP_AUTHORIZATION": value.replace("{}", token).encode().decode("latin-1")}
        assert client.get("/a", environ_overrides=environ).status_code == status

    def test_two_headers_are_400(self, client: FlaskClient, bearer: Bearer) -> None:
        answer = client.get("/a", headers=[*bearer().items()] * 2)
        assert (answer.status_code, answer.json["reason"]) == (400, "bad_header")

    @pytest.mark.parametrize("is_known", [False, True], ids=["a new token", "a remembered token"])
    def test_header_above_8_kib_is_400_and_not_parsed(
        self, app: Flask, client: FlaskClient, pool: LocalUserPool, is_known: bool
    ) -> None:
        token = pool.token(padding="x" * 8192)
        if is_known:
            app.extensions["cognito_m2m"].validator.validate(token)
        for each in (token, "a" * 8186):
            answer = client.get("/a", headers={"Authorization": f"Bearer {each}"})
            assert (answer.status_code, answer.json["reason"]) == (400, "bad_header")
        assert pool.count() == is_known

    def test_token_in_the_query_or_the_body_is_ignored(
        self, client: FlaskClient, pool: LocalUserPool
    ) -> None:
        token = {"access_token": pool.token()}
        answer = client.post("/a", query_string=token, data=token)
        assert (answer.status_code, answer.json["reason"]) == (401, "missing_token")


class TestAnotherHeader:
    """Headers that proxies send. A shared cache protects only answers to requests with Authorization."""

    @pytest.fixture
    def app(self, make_app: MakeApp, m2m: CognitoM2M) -> Flask:
        app = make_app(HEADER_NAME="X-Access-Token")
        app.add_url_rule("/open", "open", lambda: "open")
        app.add_url_rule("/optional", "optional", m2m.optional_token(caller))
        app.add_url_rule("/guarded", "guarded", require_scopes("a")(caller))
        app.add_url_rule("/own", "own", require_scopes()(lambda: ("", dict(request.args))))
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
    def test_header_may_contain_the_bare_token(
        self, app: Flask, pool: LocalUserPool, value: str, optional: int, guarded: int
    ) -> None:
        headers = {"X-Access-Token": value.replace("{}", pool.token("a", "x"))}
        answers = [app.test_client().get(path, headers=headers) for path in ("/optional", "/guarded") * 2]
        assert [answer.status_code for answer in answers] == [optional, guarded] * 2
        if guarded == 200:
            assert {answer.json["client"] for answer in answers} == {"x"}

    def test_authorization_header_is_ignored(self, app: Flask, bearer: Bearer, pool: LocalUserPool) -> None:
        client, token = app.test_client(), {"X-Access-Token": pool.token("a")}
        assert client.get("/guarded", headers={**token, "Authorization": "Bearer bad"}).status_code == 200
        assert client.get("/guarded", headers=bearer("a")).status_code == 401

    def test_header_name_is_in_the_problem(self, app: Flask) -> None:
        answer = app.test_client().get("/guarded", headers={"X-Access-Token": "Bearer"})
        assert (answer.status_code, "The X-Access-Token header" in answer.json["detail"]) == (400, True)

    @pytest.mark.parametrize("path", ["/optional", "/guarded", "/unknown"])
    @pytest.mark.parametrize("scopes", [None, "a", "b"], ids=["no token", "a valid token", "lacking scopes"])
    @pytest.mark.parametrize("is_handled", [False, True], ids=["own answer", "an application's handler"])
    def test_shared_caches_do_not_store_answers(
        self,
        app: Flask,
        m2m: CognitoM2M,
        pool: LocalUserPool,
        path: str,
        scopes: str | None,
        is_handled: bool,
    ) -> None:
        if path == "/unknown":
            m2m.protect(app)
        if is_handled:
            app.register_error_handler(HTTPException, lambda error: ("handled", error.code))
        headers = {} if scopes is None else {"X-Access-Token": pool.token(scopes)}
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
            pytest.param("public, max-age=60", {"max-age", "private"}, id="public, as send_file sets it"),
        ],
    )
    def test_own_cache_headers_stay(
        self, app: Flask, pool: LocalUserPool, own: str, directives: set[str]
    ) -> None:
        headers, query = {"X-Access-Token": pool.token()}, {"Cache-Control": own, "Vary": "Origin"}
        answer = app.test_client().get("/own", query_string=query, headers=headers)
        assert set(answer.cache_control) == directives
        assert set(answer.vary) == {"Origin", "X-Access-Token"}

    def test_answers_without_a_guard_are_unchanged(
        self, app: Flask, m2m: CognitoM2M, make_app: MakeApp
    ) -> None:
        m2m.protect(app, public=["open"])
        usual = make_app()
        usual.add_url_rule("/open", "open", m2m.optional_token(lambda: "open"))
        for each in (app, usual):
            answer = each.test_client().get("/open")
            assert "Vary" not in answer.headers
            assert "Cache-Control" not in answer.headers
