"""What a caller is answered: the design's table "Answers", one real request for each reason."""

from __future__ import annotations

import base64
import contextlib
import copy
import json
import pickle
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from flask import Flask, Response, abort
from werkzeug.datastructures import WWWAuthenticate
from werkzeug.exceptions import (
    Forbidden,
    HTTPException,
    ServiceUnavailable,
    Unauthorized,
    default_exceptions,
)
from werkzeug.test import TestResponse

from flask_m2m_cognito import (
    CognitoM2M,
    CognitoTokenRequestError,
    ConfigurationError,
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
from tests.support.headers import bearer
from tests.web.conftest import MakeApp

REALM = 'the "shop" \\ of all'


@dataclass(frozen=True)
class Case:
    """A rejected request, and the answer by the design's table.

    Attributes:
        names_client: the token is verified, so its rejection names its client.
    """

    status: int
    error: str | None = None
    token: Callable[[LocalUserPool], str] = LocalUserPool.token
    names_client: bool = False
    scheme: str = "Bearer "
    settings: dict[str, Any] = field(default_factory=dict)
    requirement: dict[str, Any] = field(default_factory=dict)
    fault: dict[str, Any] | None = None


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
    "wrong_audience": invalid_token(token_with(aud="elsewhere"), True, AUDIENCE="orders"),
    "rejected_by_check": Case(403, names_client=True, settings={"TOKEN_CHECK": lambda token: False}),
    "client_not_allowed": Case(403, names_client=True, settings={"ALLOWED_CLIENT_IDS": ["stranger"]}),
    "method_not_allowed": Case(403, names_client=True, requirement={"by_method": {"POST": "a/write"}}),
    "insufficient_scope": Case(403, "insufficient_scope", token_with(scopes="other/read"), True),
    "keys_unavailable": Case(503, fault={"status": 503, "headers": {"Retry-After": "7"}}),
}
"""By reason, but for two: ``token_unavailable`` is not of a guard, and ``invalid`` of nobody's own."""


def rejected_app(make_app: MakeApp, case: Case, **settings: Any) -> Flask:
    """An application with a view that rejects the request of ``case``."""
    app = make_app(**{**case.settings, **settings})
    requirement = case.requirement or {"match": "any"}

    @app.get("/a")
    @require_scopes(*([] if case.requirement else ["b/write", "a/read"]), **requirement)
    def view() -> str:
        raise AssertionError("the view ran")

    return app


def rejection_by(app: Flask, pool: LocalUserPool, case: Case, token: str | None = None) -> TestResponse:
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
    answer = rejection_by(rejected_app(make_app, case, REALM=REALM, PROBLEM_TYPE_BASE=base), pool, case)
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
    app = rejected_app(make_app, case)
    app.register_error_handler(case.status, lambda error: raised.append(error) or error)
    token = case.token(pool)
    with signals.token_rejected.connected_to(lambda sender, **named: sent.append(named), app):
        rejection_by(app, pool, case, token)
    (signal,), (error,) = sent, raised
    (fields,) = (vars(each) for each in caplog.records if each.name == "flask_m2m_cognito.auth")
    assert (fields["reason"], fields["status"], fields["path"]) == (reason, case.status, "/a")
    if not case.names_client:
        assert (signal["client_id"], fields["client_id"], getattr(error, "client_id", None)) == (None,) * 3
        if reason not in ("wrong_token_use", "missing_client_id"):
            assert (signal["token_scopes"], fields["token_scopes"]) == (None, None)
            assert (signal["required_scopes"], fields["required_scopes"]) == (None, None)
        return
    claims = claims_in(token)
    needed = {"a/write"} if case.requirement else {"a/read", "b/write"}
    had = set(claims.get("scope", "").split())
    assert signal["client_id"] == fields["client_id"] == error.client_id == claims["client_id"]
    assert signal["token_scopes"] == set(fields["token_scopes"]) == error.token_scopes == had
    if reason != "method_not_allowed":
        assert signal["required_scopes"] == set(fields["required_scopes"]) == error.required_scopes == needed
    assert (error.kid, error.pool) == (pool.kid, pool.pool_id)
    assert (fields["kid"], fields["pool"]) == (pool.kid, pool.pool_id)


def claims_in(token: str) -> dict[str, Any]:
    payload = token.split(".")[1]
    claims: dict[str, Any] = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    return claims


@by_case
def test_handlers_of_the_application_replace_the_answer(
    make_app: MakeApp, pool: LocalUserPool, reason: str, case: Case
) -> None:
    kind: type[Exception] = KeysUnavailableError if case.status == 503 else TokenValidationError
    kinds = [case.status, default_exceptions[case.status], kind, M2MCognitoError]
    if reason == "insufficient_scope":
        kinds.append(InsufficientScopeError)
    for handled in kinds:
        seen: list[Any] = []
        app = rejected_app(make_app, case)
        app.register_error_handler(Exception, lambda error: ("any", 500))
        app.register_error_handler(
            handled, lambda error, seen=seen: seen.append(error) or ({"own": error.reason}, error.code)
        )
        answer = rejection_by(app, pool, case)
        assert (answer.status_code, answer.json) == (case.status, {"own": reason})
        (error,) = seen
        assert isinstance(error, HTTPException)
        assert isinstance(error.error, kind)
        assert (error.reason, str(error), error.error.reason) == (reason, error.description, reason)
        arrived = pickle.loads(pickle.dumps(error))
        assert isinstance(arrived, InsufficientScopeError if reason == "insufficient_scope" else kind)
        assert (arrived.reason, str(arrived), arrived.code) == (reason, str(error), case.status)


def test_401_names_every_scope_the_route_needs(make_app: MakeApp, m2m: CognitoM2M) -> None:
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
def test_settings_scopes_name_the_client_too(
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


def test_401_names_no_scope_where_none_is_needed(guarded_app: Flask) -> None:
    assert guarded_app.test_client().get("/a").headers["WWW-Authenticate"] == 'Bearer realm="shop"'


def test_handler_for_every_http_exception_gets_rejections(guarded_app: Flask) -> None:
    guarded_app.register_error_handler(HTTPException, lambda error: ({"name": error.name}, error.code))
    answer = guarded_app.test_client().get("/a")
    assert (answer.status_code, answer.json) == (401, {"name": "Unauthorized"})
    assert answer.headers["WWW-Authenticate"] == 'Bearer realm="shop"'


def test_handler_for_another_code_leaves_the_answer(guarded_app: Flask) -> None:
    guarded_app.register_error_handler(Forbidden, lambda error: ("own", 403))
    body = guarded_app.test_client().get("/a").json
    assert (body["reason"], body["type"]) == ("missing_token", "about:blank")


def test_handlers_own_status_and_headers_stay(guarded_app: Flask) -> None:
    guarded_app.register_error_handler(Unauthorized, lambda error: ("hidden", 404))
    answer = guarded_app.test_client().get("/a")
    assert (answer.status_code, answer.headers.get("WWW-Authenticate")) == (404, None)


def test_head_request_gets_the_headers_alone(guarded_app: Flask) -> None:
    answer = guarded_app.test_client().head("/a")
    assert (answer.status_code, answer.data) == (401, b"")
    assert answer.headers["WWW-Authenticate"] == 'Bearer realm="shop"'


def test_abort_in_a_check_answers_where_a_view_validates(make_app: MakeApp, pool: LocalUserPool) -> None:
    app = make_app(TOKEN_CHECK=lambda token: abort(409))
    app.get("/a")(lambda: app.extensions["cognito_m2m"].validator.validate(pool.token()).client_id)
    assert app.test_client().get("/a").status_code == 409


@pytest.mark.parametrize("own", [401, 403, 503])
def test_caught_rejection_says_nothing_of_a_later_answer(app: Flask, pool: LocalUserPool, own: int) -> None:
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
def test_challenge_is_of_the_rejection_that_left_the_view(app: Flask, replaces: bool) -> None:
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


@pytest.mark.parametrize("match", ["all", "any"])
def test_insufficient_scope_names_what_is_needed_sorted(app: Flask, pool: LocalUserPool, match: str) -> None:
    app.get("/a")(require_scopes("c", "a", "b", match=match)(lambda: {}))
    answer = app.test_client().get("/a", headers=bearer(pool.token("x")))
    assert answer.www_authenticate.parameters["scope"] == "a b c"


def test_each_other_validation_error_is_401_invalid_token() -> None:
    problem = problem_from(TokenValidationError("text"), Wording("shop"))
    assert (problem.code, problem.reason) == (401, "invalid")
    assert problem.challenge == 'Bearer realm="shop", error="invalid_token", error_description="text"'


def test_more_parameters_of_a_challenge_come_last() -> None:
    error = InsufficientScopeError("text", token_scopes=frozenset(), required_scopes=frozenset({"a"}))
    problem = problem_from(error, Wording("shop", challenge_suffix=', more="x"'))
    assert problem.challenge is not None
    assert problem.challenge.endswith(', scope="a", more="x"')


@pytest.mark.parametrize(
    ("seconds", "whole"),
    [
        pytest.param(None, 5, id="nothing known"),
        pytest.param(0.0, 1, id="now"),
        pytest.param(0.2, 1, id="less than one"),
        pytest.param(7.0, 7, id="whole"),
        pytest.param(7.001, 8, id="rounded up"),
    ],
)
def test_retry_after_is_whole_and_at_least_one(seconds: float | None, whole: int) -> None:
    problem: Any = problem_from(TokenUnavailableError("", retry_after=seconds), Wording("shop"))
    assert dict(problem.get_headers())["Retry-After"] == str(whole)


class TestTokenUnavailableInAView:
    """A view that calls another service, which can't be done without a token of our own."""

    @pytest.fixture
    def app(self, make_app: MakeApp, m2m: CognitoM2M, pool: LocalUserPool) -> Flask:
        app = make_app(PROBLEM_TYPE_BASE="https://errors.example.com/")
        app.get("/call")(lambda: m2m.token())
        pool.fail("token", status=503, headers={"Retry-After": "9"})
        return app

    def test_it_is_503_and_says_nothing_of_the_other_service(self, app: Flask, pool: LocalUserPool) -> None:
        answer = app.test_client().get("/call")
        assert (answer.status_code, answer.content_type) == (503, "application/problem+json")
        assert answer.headers["Retry-After"] == "9"
        assert answer.headers["Cache-Control"] == "no-store"
        assert "WWW-Authenticate" not in answer.headers
        body = json.loads(answer.data)
        assert set(body) == {"type", "title", "status", "detail", "reason"}
        assert (body["status"], body["reason"]) == (503, "token_unavailable")
        assert body["type"] == "https://errors.example.com/token_unavailable"
        for internal in (pool.url, "local-client", "503"):
            assert internal not in body["detail"] + body["title"]

    @pytest.mark.parametrize(
        "handled",
        [
            pytest.param(TokenUnavailableError, id="TokenUnavailableError"),
            pytest.param(CognitoTokenRequestError, id="CognitoTokenRequestError"),
            pytest.param(M2MCognitoError, id="M2MCognitoError"),
            pytest.param(ServiceUnavailable, id="ServiceUnavailable"),
            pytest.param(HTTPException, id="HTTPException"),
            pytest.param(503, id="503"),
            pytest.param(Exception, id="Exception"),
        ],
    )
    def test_an_application_may_handle(self, app: Flask, handled: Any) -> None:
        seen: list[Exception] = []

        @app.errorhandler(handled)
        def handle(error: Exception) -> tuple[str, int]:
            seen.append(error)
            return "own", 502

        answer = app.test_client().get("/call")
        assert (answer.status_code, answer.text) == (502, "own")
        (error,) = seen
        assert isinstance(error, TokenUnavailableError)
        assert error.status_code == 503
        assert isinstance(error.__cause__, CognitoTokenRequestError)

    def test_a_handler_for_another_error_leaves_the_answer(self, app: Flask) -> None:
        app.register_error_handler(TokenValidationError, lambda error: ("own", 502))
        assert app.test_client().get("/call").status_code == 503

    def test_a_view_may_catch_it(self, app: Flask, m2m: CognitoM2M) -> None:
        @app.get("/careful")
        def careful() -> dict[str, Any]:
            try:
                return {"token": m2m.token()}
            except TokenUnavailableError as error:
                return {"status": error.status_code, "reason": error.reason}

        assert app.test_client().get("/careful").json == {"status": 503, "reason": "token_unavailable"}

    def test_outside_a_request_its_text_is_for_operators(self, app: Flask) -> None:
        with app.app_context(), pytest.raises(TokenUnavailableError) as raised:
            app.extensions["cognito_m2m"].token()
        error = raised.value
        assert (error.reason, error.status_code) == ("token_unavailable", 503)
        assert str(error) in repr(error)
        arrived = pickle.loads(pickle.dumps(error))
        assert (type(arrived), str(arrived)) == (type(error), str(error))
        assert (arrived.status_code, arrived.retry_after) == (503, error.retry_after)


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
def test_an_abort_in_an_own_check_is_the_answer(
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


@pytest.mark.parametrize("text", ["key → gone", "two\r\nlines", "a\ttab", 'a "quote" and \\'])
def test_text_of_the_application_fits_into_the_challenge(app: Flask, text: str) -> None:
    app.get("/a")(lambda: raise_error(TokenValidationError(text)))
    answer = app.test_client().get("/a")
    description = answer.www_authenticate.parameters["error_description"]
    assert re.fullmatch(r"[\x20-\x21\x23-\x5B\x5D-\x7E]+", description)
    assert (answer.status_code, json.loads(answer.data)["detail"]) == (401, text)


PLAIN_ERRORS = [
    pytest.param(TokenValidationError("No.", reason="expired"), 401, id="TokenValidationError"),
    pytest.param(TokenValidationError("No.", reason="bad_header"), 400, id="a malformed header"),
    pytest.param(TokenValidationError("No.", reason="client_not_allowed"), 403, id="another client"),
    pytest.param(
        InsufficientScopeError("No.", token_scopes=frozenset(), required_scopes=frozenset({"row/7"})),
        403,
        id="InsufficientScopeError",
    ),
    pytest.param(KeysUnavailableError("No.", retry_after=11.2), 503, id="KeysUnavailableError"),
    pytest.param(TokenUnavailableError("No.", retry_after=11.2), 503, id="TokenUnavailableError"),
    pytest.param(CognitoTokenRequestError("No.", retry_after=11.2), 503, id="CognitoTokenRequestError"),
]


def raise_error(error: Exception) -> None:
    raise copy.copy(error)


def raises_in_a_view(app: Flask, error: Exception) -> None:
    app.get("/a")(lambda: raise_error(error))


def raises_in_a_guarded_async_view(app: Flask, error: Exception) -> None:
    async def view() -> None:
        raise_error(error)

    app.get("/a")(require_scopes()(view))


def raises_before_the_request(app: Flask, error: Exception) -> None:
    app.get("/a")(lambda: "reached")
    app.before_request(lambda: raise_error(error))


def raises_in_a_principal_loader(app: Flask, error: Exception) -> None:
    app.get("/a")(require_scopes()(lambda: "reached"))
    app.extensions["cognito_m2m"].owner.principal_loader(lambda token: raise_error(error))


def raises_in_a_restx_resource(app: Flask, error: Exception) -> None:
    from flask_restx import Api, Resource

    class View(Resource):  # type: ignore[misc]
        def get(self) -> None:
            raise_error(error)

    Api(app).add_resource(View, "/a")


class OddReason(TokenValidationError):
    reason = property(lambda self: 1 / 0, lambda self, value: None)  # type: ignore[assignment]


class OddText(TokenValidationError):
    def __str__(self) -> str:
        return 7  # type: ignore[return-value]


class OddDescription(TokenValidationError):
    description = property(lambda self: "read-only")


class OddScopes(TokenValidationError):
    required_scopes = frozenset({1})  # type: ignore[assignment, arg-type]


class OddClient(TokenValidationError):
    @property
    def token_scopes(self) -> frozenset[str]:  # type: ignore[override]
        raise LookupError


class OddReasonType(TokenValidationError):
    def __init__(self, message: str = "No.") -> None:
        super().__init__(message)
        self.reason = ["list"]  # type: ignore[assignment]


def odd_error_of_the_library() -> TokenValidationError:
    return TokenValidationError("No.", reason={})  # type: ignore[arg-type]


def odd_scopes_of_the_library() -> TokenValidationError:
    error = TokenValidationError("No.")
    error.required_scopes = frozenset({7})  # type: ignore[arg-type]
    return error


ODD_KINDS = [
    odd_error_of_the_library,
    odd_scopes_of_the_library,
    OddReason,
    OddText,
    OddDescription,
    OddScopes,
    OddClient,
    OddReasonType,
]


RAISED_IN = [
    raises_in_a_view,
    raises_in_a_guarded_async_view,
    raises_before_the_request,
    raises_in_a_principal_loader,
    raises_in_a_restx_resource,
]


class TestErrorsOfTheLibraryInAView:
    """They get the answer that a guard would give."""

    @pytest.fixture(params=RAISED_IN, ids=lambda place: place.__name__)
    def place(self, request: pytest.FixtureRequest) -> Callable[[Flask, Exception], None]:
        found: Callable[[Flask, Exception], None] = request.param
        return found

    @pytest.mark.filterwarnings("ignore::DeprecationWarning")
    @pytest.mark.parametrize("testing", [False, True])
    @pytest.mark.parametrize(("error", "status"), PLAIN_ERRORS)
    def test_they_are_answered(
        self, make_app: MakeApp, pool: LocalUserPool, place: Any, error: Any, status: int, testing: bool
    ) -> None:
        app = make_app()
        app.testing = testing
        place(app, error)
        answer = app.test_client().get("/a", headers=bearer(pool.token("x/y")))
        assert answer.status_code == status
        assert answer.headers["Cache-Control"] == "no-store"
        assert answer.headers.get("Retry-After") == ("12" if status == 503 else None)
        challenge = answer.headers.get("WWW-Authenticate", "")
        assert challenge.startswith("" if status == 503 else 'Bearer realm="shop"')
        assert ('scope="row/7"' in challenge) is isinstance(error, InsufficientScopeError)
        if place is not raises_in_a_restx_resource:
            reason = getattr(error, "reason", "token_unavailable")
            assert (answer.content_type, answer.json["reason"]) == ("application/problem+json", reason)

    @pytest.mark.parametrize("when", ["before init_app", "after init_app"])
    @pytest.mark.parametrize(
        "handled",
        [InsufficientScopeError, TokenValidationError, M2MCognitoError, 403, Forbidden, HTTPException],
    )
    def test_handlers_of_the_application_come_first(self, make_app: MakeApp, handled: Any, when: str) -> None:
        app = Flask("shop")
        if when == "after init_app":
            make_app(app)
        app.register_error_handler(handled, lambda error: (sorted(error.required_scopes), error.code))
        if when == "before init_app":
            make_app(app)
        raises_in_a_view(app, PLAIN_ERRORS[3].values[0])
        answer = app.test_client().get("/a")
        assert (answer.status_code, answer.json) == (403, ["row/7"])

    def test_handler_for_a_subclass_gets_its_own_error(self, app: Flask, make_app: MakeApp) -> None:
        class Overdrawn(TokenValidationError):
            def __init__(self, balance: int) -> None:
                super().__init__("Overdrawn.", reason="rejected_by_check")
                self.balance = balance
                self.code = "E17"

        raises_in_a_view(app, Overdrawn(-5))
        assert app.test_client().get("/a").status_code == 403

        other = make_app("other")
        raises_in_a_view(other, Overdrawn(-5))
        other.register_error_handler(Overdrawn, lambda error: ({"balance": error.balance}, 402))
        answer = other.test_client().get("/a")
        assert (answer.status_code, answer.json) == (402, {"balance": -5})

    @pytest.mark.parametrize("kind", ODD_KINDS, ids=lambda kind: kind.__name__)
    @pytest.mark.parametrize("place", [raises_in_a_view, raises_in_a_principal_loader])
    def test_odd_error_of_the_application_is_answered(
        self, app: Flask, pool: LocalUserPool, place: Any, kind: Any
    ) -> None:
        place(app, kind())
        answer = app.test_client().get("/a", headers=bearer(pool.token("x/y")))
        assert (answer.status_code, answer.json["reason"]) == (401, "invalid")
        assert answer.headers["WWW-Authenticate"].startswith('Bearer realm="shop", error="invalid_token"')

    def test_they_count_as_rejections(
        self, app: Flask, pool: LocalUserPool, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level("INFO", "flask_m2m_cognito.auth")
        app.get("/a")(require_scopes("x/y")(lambda: raise_error(PLAIN_ERRORS[3].values[0])))
        token = pool.token("x/y", "reports")
        app.test_client().get("/a", headers=bearer(token))
        (record,) = map(vars, caplog.records)
        assert (record["reason"], record["client_id"]) == ("insufficient_scope", "reports")
        assert (record["required_scopes"], record["path"]) == (["row/7"], "/a")

    def test_an_answer_of_the_applications_own_stays(self, app: Flask) -> None:
        class Mine(TokenValidationError, ServiceUnavailable):
            pass

        app.get("/a")(lambda: raise_error(Mine("Own.")))
        assert app.test_client().get("/a").status_code == 503

    def test_a_wrong_argument_is_no_answer(self, app: Flask) -> None:
        app.get("/a")(lambda: raise_error(ConfigurationError("No.")))
        assert app.test_client().get("/a").status_code == 500
