"""``authorize`` runs the guard's check in a view, for requirements that depend on the request."""

from __future__ import annotations

from typing import Any

import pytest
from flask import Flask, g, request

from flask_m2m_cognito import (
    CognitoM2M,
    ConfigurationError,
    InsufficientScopeError,
    ValidatedAccessToken,
    current_principal,
    current_token,
    signals,
)
from flask_m2m_cognito.testing import LocalUserPool
from tests.web.conftest import Bearer

Answer = dict[str, Any]


def add_view(app: Flask, m2m: CognitoM2M, kind: str) -> None:
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
        ({"scopes": ["rows/a"]}, {"scope": "rows/see rows/a"}, 200, "reached"),
        ({"scopes": []}, {"scope": "rows/see"}, 200, "reached"),
        ({"scopes": ["rows/a", "rows/b"]}, {"scope": "rows/see rows/a"}, 403, "insufficient_scope"),
        (
            {"scopes": ["rows/a", "rows/b"], "match": "any"},
            {"scope": "rows/see rows/b"},
            200,
            "reached",
        ),
        ({"scopes": [], "clients": ["reports"]}, {"scope": "rows/see"}, 403, "client_not_allowed"),
        ({"scopes": ["rows/a"]}, {"scope": "rows/see rows/a", "expires_in": -60}, 401, "expired"),
        ({"scopes": ["rows/a"]}, None, 401, "missing_token"),
    ],
)
def test_answers_equal_those_of_a_guard(
    app: Flask,
    m2m: CognitoM2M,
    bearer: Bearer,
    kind: str,
    body: Any,
    token: Any,
    status: int,
    reason: str,
) -> None:
    add_view(app, m2m, kind)
    headers = {} if token is None else bearer(**token)
    answer = app.test_client().post("/rows", json=body, headers=headers)
    assert (answer.status_code, answer.json["reason"]) == (status, reason)
    if reason == "insufficient_scope":
        assert answer.www_authenticate.parameters["scope"] == " ".join(sorted(body["scopes"]))


def test_unavailable_keys_are_503(app: Flask, m2m: CognitoM2M, pool: LocalUserPool, bearer: Bearer) -> None:
    add_view(app, m2m, "unguarded")
    with pool.fail("jwks", status=500):
        answer = app.test_client().post("/rows", json={"scopes": []}, headers=bearer())
    assert (answer.status_code, answer.json["reason"]) == (503, "keys_unavailable")


def test_caught_rejection_keeps_the_token_of_the_request(app: Flask, m2m: CognitoM2M, bearer: Bearer) -> None:
    @app.get("/rows")
    @m2m.require_scopes("rows/see")
    def rows() -> Answer:
        try:
            m2m.authorize("rows/secret")
        except InsufficientScopeError as error:
            return {"lacks": sorted(error.required_scopes), "client": g.m2m_token.client_id}
        return {}

    answer = app.test_client().get("/rows", headers=bearer("rows/see", client_id="billing"))
    assert answer.json == {"lacks": ["rows/secret"], "client": "billing"}


def test_principal_is_loaded(app: Flask, m2m: CognitoM2M, bearer: Bearer) -> None:
    m2m.principal_loader(lambda token: token.client_id.upper())

    @app.get("/rows")
    async def rows() -> Answer:
        m2m.authorize()
        return {"principal": g.m2m_principal, "lower": current_principal.lower()}

    answer = app.test_client().get("/rows", headers=bearer(client_id="billing"))
    assert answer.json == {"principal": "BILLING", "lower": "billing"}


@pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])
def test_principal_loader_may_call_authorize(
    app: Flask, m2m: CognitoM2M, bearer: Bearer, is_async: bool
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
    answer = client.get("/a", headers=bearer("rows/read", client_id="billing"))
    assert (answer.text, calls) == ("row", ["billing"])
    rejected = client.get("/a", headers=bearer("rows/write"))
    assert (rejected.status_code, rejected.json["reason"]) == (403, "insufficient_scope")


def test_async_view_without_a_principal_gets_an_error(app: Flask, m2m: CognitoM2M, bearer: Bearer) -> None:
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
    with signals.token_accepted.connected_to(lambda app, token, **_: accepted.append(token.client_id), app):
        answer = app.test_client().get("/a", headers=bearer("x/y", client_id="billing"))
    assert (answer.text, accepted) == ("seen", ["billing"])


def test_missing_principal_is_a_clear_error(app: Flask, m2m: CognitoM2M, bearer: Bearer) -> None:
    app.testing = True
    app.get("/a", endpoint="unguarded")(lambda: str(current_principal))
    app.get("/b", endpoint="guarded")(m2m.require_scopes()(lambda: str(current_principal.name)))
    client = app.test_client()
    with pytest.raises(RuntimeError, match="not guarded"):
        client.get("/a")
    with pytest.raises(RuntimeError, match="no principal_loader is set"):
        client.get("/b", headers=bearer())


@pytest.mark.parametrize("arguments", [{"match": "some"}, {"clients": "billing"}])
def test_invalid_arguments_are_errors(app: Flask, m2m: CognitoM2M, arguments: Any) -> None:
    with app.test_request_context(), pytest.raises(ConfigurationError):
        m2m.authorize("a", **arguments)
