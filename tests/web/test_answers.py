"""The answers to rejected requests: a real request for each reason of the table on docs/answers.md."""

from __future__ import annotations

import base64
import contextlib
import json
import pickle
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from flask import Flask, Response, abort
from werkzeug.datastructures import WWWAuthenticate
from werkzeug.exceptions import (
    Forbidden,
    HTTPException,
    Unauthorized,
    default_exceptions,
)
from werkzeug.test import TestResponse

from flask_m2m_cognito import (
    CognitoM2M,
    InsufficientScopeError,
    KeysUnavailableError,
    M2MCognitoError,
    TokenUnavailableError,
    TokenValidationError,
    require_scopes,
    signals,
)
from flask_m2m_cognito.exceptions import REASONS
from flask_m2m_cognito.testing import LocalUserPool
from flask_m2m_cognito.web.decorators import authorize
from flask_m2m_cognito.web.problems import (
    ANSWERS,
    Wording,
    problem_from,
)
from tests.faults.caches import WatchedCache
from tests.support.headers import bearer
from tests.web.conftest import MakeApp

REALM = 'the "shop" \\ of all'


@dataclass(frozen=True)
class Case:
    """A rejected request and its expected answer.

    Attributes:
        names_client: whether the rejection names the client, because the token was verified.
        is_revoked: whether the client's tokens are revoked.
    """

    status: int
    error: str | None = None
    token: Callable[[LocalUserPool], str] = LocalUserPool.token
    names_client: bool = False
    scheme: str = "Bearer "
    settings: dict[str, Any] = field(default_factory=dict)
    requirement: dict[str, Any] = field(default_factory=dict)
    fault: dict[str, Any] | None = None
    is_revoked: bool = False


def token_with(**named: Any) -> Callable[[LocalUserPool], str]:
    return lambda pool: pool.token(**named)


def invalid_token(make: Callable[[LocalUserPool], str], names_client: bool = False, **settings: Any) -> Case:
    return Case(401, "invalid_token", make, names_client, settings=settings)


def forged(pool: LocalUserPool) -> str:
    content, _, signature = pool.token().rpartition(".")
    return f"{content}.{'A' * len(signature)}"


CASES = {
    "missing_token": Case(401, scheme="Basic "),
    "bad_header": Case(400, "invalid_request", scheme="Bearer Bearer "),
    "malformed": invalid_token(lambda pool: "nonsense"),
    "wrong_algorithm": invalid_token(token_with(headers={"alg": "none"})),
    "wrong_issuer": invalid_token(token_with(iss="https://issuer.example.com")),
    "unknown_key": invalid_token(token_with(headers={"kid": "unknown"})),
    "bad_signature": invalid_token(forged),
    "wrong_token_use": invalid_token(LocalUserPool.id_token),
    "expired": invalid_token(token_with(expires_in=-60), True),
    "not_yet_valid": invalid_token(token_with(nbf=2**40), True),
    "missing_client_id": invalid_token(token_with(without="client_id")),
    "user_token": invalid_token(LocalUserPool.user_token, True),
    "revoked": Case(
        401,
        "invalid_token",
        names_client=True,
        settings={"REVOCATIONS": True, "CACHE_KEY": "k" * 16},
        is_revoked=True,
    ),
    "wrong_audience": invalid_token(token_with(aud="elsewhere"), True, AUDIENCE="orders"),
    "rejected_by_check": Case(403, names_client=True, settings={"TOKEN_CHECK": lambda token: False}),
    "client_not_allowed": Case(403, names_client=True, settings={"ALLOWED_CLIENT_IDS": ["stranger"]}),
    "method_not_allowed": Case(403, names_client=True, requirement={"by_method": {"POST": "a/write"}}),
    "insufficient_scope": Case(403, "insufficient_scope", token_with(scopes="other/read"), True),
    "keys_unavailable": Case(503, fault={"status": 503, "headers": {"Retry-After": "7"}}),
}
"""By reason. A guard itself never answers ``token_unavailable`` or ``invalid``."""


def make_rejecting_app(make_app: MakeApp, case: Case, **settings: Any) -> Flask:
    """Return an application with a view that rejects the request of ``case``."""
    app = Flask("shop")
    if case.is_revoked:
        app.extensions["cache"] = {"cache": WatchedCache()}
    make_app(app, **{**case.settings, **settings})
    if case.is_revoked:
        app.extensions["cognito_m2m"].revoke("local-client")
    requirement = case.requirement or {"match": "any"}

    @app.get("/a")
    @require_scopes(*([] if case.requirement else ["b/write", "a/read"]), **requirement)
    def view() -> str:
        raise AssertionError("the view ran")

    return app


def get_rejection(app: Flask, pool: LocalUserPool, case: Case, token: str | None = None) -> TestResponse:
    token = case.token(pool) if token is None else token
    if case.fault is not None:
        pool.fail("jwks", **case.fault)
    answer = app.test_client().get("/a", headers={"Authorization": case.scheme + token})
    assert len(token) < 9 or token not in answer.text + str(answer.headers)
    return answer


def test_every_reason_has_a_row_and_every_row_a_reason() -> None:
    assert set(ANSWERS) == set(REASONS)
    assert set(CASES) == set(REASONS) - {"token_unavailable", "invalid"}


by_case = pytest.mark.parametrize(("reason", "case"), CASES.items(), ids=CASES)


@by_case
def test_rejection_has_its_status_headers_and_body(
    make_app: MakeApp, pool: LocalUserPool, reason: str, case: Case
) -> None:
    base = "https://errors.example.com/#"
    answer = get_rejection(
        make_rejecting_app(make_app, case, REALM=REALM, PROBLEM_TYPE_BASE=base), pool, case
    )
    assert (answer.status_code, answer.content_type) == (case.status, "application/problem+json")
    assert answer.headers["Cache-Control"] == "no-store"
    assert answer.headers.get("Retry-After") == ("7" if case.status == 503 else None)
    body = json.loads(answer.data)
    detail = body.pop("detail")
    title = ANSWERS[reason].title
    assert body == {"type": f"{base}{reason}", "title": title, "status": case.status, "reason": reason}
    assert detail
    for secret in (pool.pool_id, pool.url, pool.kid, "b/write", "elsewhere", "stranger"):
        assert secret not in detail
    if case.status == 503:
        assert "WWW-Authenticate" not in answer.headers
        return
    text = answer.headers["WWW-Authenticate"]
    # A realm is always a quoted string: RFC 9110, section 11.5.
    assert text.startswith('Bearer realm="the \\"shop\\" \\\\ of all"')
    challenge = WWWAuthenticate.from_header(text)
    assert challenge is not None
    expected = {"realm": REALM}
    if case.error is not None:
        expected |= {"error": case.error, "error_description": detail}
    if reason == "insufficient_scope" or case.status == 401:
        expected["scope"] = "a/read b/write"
    assert dict(challenge.parameters) == expected


@by_case
def test_rejection_names_the_client_of_a_verified_token(
    make_app: MakeApp, pool: LocalUserPool, caplog: pytest.LogCaptureFixture, reason: str, case: Case
) -> None:
    caplog.set_level("INFO", "flask_m2m_cognito.auth")
    sent: list[dict[str, Any]] = []
    raised: list[Any] = []
    app = make_rejecting_app(make_app, case)
    app.register_error_handler(case.status, lambda error: raised.append(error) or error)
    token = case.token(pool)
    with signals.token_rejected.connected_to(lambda sender, **named: sent.append(named), app):
        get_rejection(app, pool, case, token)
    (signal,), (error,) = sent, raised
    (fields,) = (vars(each) for each in caplog.records if each.name == "flask_m2m_cognito.auth")
    assert (fields["reason"], fields["status"], fields["path"]) == (reason, case.status, "/a")
    if not case.names_client:
        assert (signal["client_id"], fields["client_id"], getattr(error, "client_id", None)) == (None,) * 3
        if reason not in ("wrong_token_use", "missing_client_id"):
            assert (signal["token_scopes"], fields["token_scopes"]) == (None, None)
            assert (signal["required_scopes"], fields["required_scopes"]) == (None, None)
        return
    claims = decode_claims(token)
    required = {"a/write"} if case.requirement else {"a/read", "b/write"}
    granted = set(claims.get("scope", "").split())
    assert signal["client_id"] == fields["client_id"] == error.client_id == claims["client_id"]
    assert signal["token_scopes"] == set(fields["token_scopes"]) == error.token_scopes == granted
    if reason != "method_not_allowed":
        assert (
            signal["required_scopes"] == set(fields["required_scopes"]) == error.required_scopes == required
        )
    assert (error.kid, error.pool) == (pool.kid, pool.pool_id)
    assert (fields["kid"], fields["pool"]) == (pool.kid, pool.pool_id)


def decode_claims(token: str) -> dict[str, Any]:
    payload = token.split(".")[1]
    claims: dict[str, Any] = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    return claims


@by_case
def test_handlers_of_the_application_replace_the_answer(
    make_app: MakeApp, pool: LocalUserPool, reason: str, case: Case
) -> None:
    kind: type[Exception] = KeysUnavailableError if case.status == 503 else TokenValidationError
    kinds = [case.status, default_exceptions[case.status], HTTPException, kind, M2MCognitoError]
    if reason == "insufficient_scope":
        kinds.append(InsufficientScopeError)
    for handled in kinds:
        seen: list[Any] = []
        app = make_rejecting_app(make_app, case)
        app.register_error_handler(Exception, lambda error: ("any", 500))
        app.register_error_handler(
            handled, lambda error, seen=seen: seen.append(error) or ({"own": error.reason}, error.code)
        )
        answer = get_rejection(app, pool, case)
        assert (answer.status_code, answer.json) == (case.status, {"own": reason})
        assert ("WWW-Authenticate" in answer.headers) is (case.status != 503)
        (error,) = seen
        assert isinstance(error, HTTPException)
        assert isinstance(error.error, kind)
        assert (error.reason, str(error), error.error.reason) == (reason, error.description, reason)
        arrived = pickle.loads(pickle.dumps(error))
        assert isinstance(arrived, InsufficientScopeError if reason == "insufficient_scope" else kind)
        assert (arrived.reason, str(arrived), arrived.code) == (reason, str(error), case.status)


def test_401_names_every_scope_the_route_requires(make_app: MakeApp, m2m: CognitoM2M) -> None:
    app = make_app(REQUIRED_SCOPES=["fleet/use"])
    m2m.protect(app, "shop/enter")
    scopes = {"GET": "shelf/read", "POST": ["shelf/write", "shelf/admin"]}
    app.route("/shelf", methods=["GET", "POST"])(m2m.require_scopes(by_method=scopes)(lambda: {}))
    app.get("/open", endpoint="open")(lambda: {})
    client = app.test_client()

    def named(method: str, path: str, headers: dict[str, str] | None = None) -> str | None:
        answer = client.open(path, method=method, headers=headers)
        assert answer.status_code == 401
        return answer.www_authenticate.parameters.get("scope")

    assert named("GET", "/shelf") == named("HEAD", "/shelf") == "fleet/use shelf/read shop/enter"
    assert named("POST", "/shelf", bearer("bad")) == "fleet/use shelf/admin shelf/write shop/enter"
    assert named("GET", "/open") == named("GET", "/unknown") == "fleet/use shop/enter"


@pytest.mark.parametrize("known", [False, True], ids=["a new token", "a remembered token"])
def test_missing_settings_scope_names_the_client_too(
    make_app: MakeApp, pool: LocalUserPool, caplog: pytest.LogCaptureFixture, known: bool
) -> None:
    caplog.set_level("INFO", "flask_m2m_cognito.auth")
    app = make_app(REQUIRED_SCOPES=["fleet/use"])
    app.get("/a")(require_scopes()(lambda: "in"))
    headers = bearer(pool.token("x/y", "reports"))
    for _ in range(1 + known):
        caplog.clear()
        app.test_client().get("/a", headers=headers)
    (record,) = map(vars, caplog.records)
    assert (record["client_id"], record["token_scopes"]) == ("reports", ["x/y"])
    assert (record["required_scopes"], record["kid"]) == (["fleet/use"], pool.kid)


@pytest.fixture
def guarded_app(app: Flask) -> Flask:
    app.get("/a")(require_scopes()(lambda: {}))
    return app


def test_401_names_no_scope_if_none_is_required(guarded_app: Flask) -> None:
    assert guarded_app.test_client().get("/a").headers["WWW-Authenticate"] == 'Bearer realm="shop"'


def test_handler_for_another_code_is_not_used(guarded_app: Flask) -> None:
    guarded_app.register_error_handler(Forbidden, lambda error: ("own", 403))
    body = guarded_app.test_client().get("/a").json
    assert (body["reason"], body["type"]) == ("missing_token", "about:blank")


def test_handlers_own_status_and_headers_stay(guarded_app: Flask) -> None:
    guarded_app.register_error_handler(Unauthorized, lambda error: ("hidden", 404))
    answer = guarded_app.test_client().get("/a")
    assert (answer.status_code, answer.headers.get("WWW-Authenticate")) == (404, None)


def test_head_request_gets_only_the_headers(guarded_app: Flask) -> None:
    answer = guarded_app.test_client().head("/a")
    assert (answer.status_code, answer.data) == (401, b"")
    assert answer.headers["WWW-Authenticate"] == 'Bearer realm="shop"'


def test_abort_in_a_check_answers_where_a_view_validates(make_app: MakeApp, pool: LocalUserPool) -> None:
    app = make_app(TOKEN_CHECK=lambda token: abort(409))
    app.get("/a")(lambda: app.extensions["cognito_m2m"].validator.validate(pool.token()).client_id)
    assert app.test_client().get("/a").status_code == 409


@pytest.mark.parametrize("own", [401, 403, 503])
def test_caught_rejection_does_not_change_a_later_answer(app: Flask, pool: LocalUserPool, own: int) -> None:
    @app.get("/a")
    def a() -> None:
        with contextlib.suppress(TokenValidationError):
            authorize("a/admin")
        with contextlib.suppress(TokenUnavailableError):
            raise problem_from(TokenUnavailableError("", retry_after=7), Wording("shop"))
        abort(own)

    headers = bearer(pool.token("a/read")) if own == 403 else {}
    answer = app.test_client().get("/a", headers=headers)
    assert (answer.status_code, answer.mimetype) == (own, "text/html")
    for name in ("WWW-Authenticate", "Retry-After", "Cache-Control"):
        assert name not in answer.headers


@pytest.mark.parametrize("replaces", [False, True], ids=["own body", "a handler's body"])
def test_challenge_belongs_to_the_uncaught_rejection(app: Flask, replaces: bool) -> None:
    if replaces:
        app.register_error_handler(HTTPException, lambda error: ("", error.code))

    @app.get("/a")
    def a() -> None:
        with contextlib.suppress(TokenValidationError):
            authorize("a/admin")
        authorize("a/read")

    answer = app.test_client().get("/a")
    (challenge,) = answer.headers.get_all("WWW-Authenticate")
    assert challenge.endswith(', scope="a/read"')


@pytest.mark.parametrize(
    ("seconds", "whole"),
    [
        pytest.param(None, 5, id="unknown"),
        pytest.param(0.0, 1, id="now"),
        pytest.param(0.2, 1, id="less than one"),
        pytest.param(7.0, 7, id="whole"),
        pytest.param(7.001, 8, id="rounded up"),
    ],
)
def test_retry_after_is_a_whole_number_of_at_least_one(seconds: float | None, whole: int) -> None:
    problem: Any = problem_from(TokenUnavailableError("", retry_after=seconds), Wording("shop"))
    assert dict(problem.get_headers())["Retry-After"] == str(whole)


@pytest.mark.parametrize(
    ("abort_with", "status"),
    [
        pytest.param((410, "gone for good"), 410, id="by code"),
        pytest.param((Response("elsewhere", 307, {"Location": "/b"}),), 307, id="by response"),
    ],
)
@pytest.mark.parametrize(
    ("setting", "reason"),
    [("TOKEN_CHECK", "rejected_by_check"), ("ALLOWED_CLIENT_IDS", "client_not_allowed")],
)
def test_abort_in_an_own_check_is_the_answer(
    make_app: MakeApp,
    pool: LocalUserPool,
    caplog: pytest.LogCaptureFixture,
    setting: str,
    reason: str,
    abort_with: tuple[Any, ...],
    status: int,
) -> None:
    caplog.set_level("INFO", "flask_m2m_cognito.auth")
    app = make_app(**{setting: lambda subject: abort(*abort_with)})
    app.get("/a")(require_scopes()(lambda: "in"))
    token = pool.token()
    answers = [app.test_client().get("/a", headers=bearer(token)) for _ in "ab"]
    assert [answer.status_code for answer in answers] == [status, status]
    assert all("gone for good" in each.text or "Location" in each.headers for each in answers)
    events = [vars(each) for each in caplog.records]
    logged = [(each["reason"], each["status"]) for each in events if each.get("event") == "token-rejected"]
    assert logged == [(reason, status)] * 2
