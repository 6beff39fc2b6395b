"""The answers to library errors that a view, a principal loader or ``before_request`` raises."""

from __future__ import annotations

import copy
import json
import pickle
import re
from collections.abc import Callable
from typing import Any

import pytest
from flask import Flask
from werkzeug.exceptions import (
    Forbidden,
    HTTPException,
    ServiceUnavailable,
)

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
)
from flask_m2m_cognito.testing import LocalUserPool
from tests.support.headers import bearer
from tests.web.conftest import MakeApp


class TestTokenUnavailableInAView:
    """A view calls another service, and this service cannot obtain a token for that."""

    @pytest.fixture
    def app(self, make_app: MakeApp, m2m: CognitoM2M, pool: LocalUserPool) -> Flask:
        app = make_app(PROBLEM_TYPE_BASE="https://errors.example.com/")
        app.get("/call")(lambda: m2m.token())
        pool.fail("token", status=503, headers={"Retry-After": "9"})
        return app

    def test_answer_is_503_without_internal_details(self, app: Flask, pool: LocalUserPool) -> None:
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
    def test_application_may_handle_the_error(self, app: Flask, handled: Any) -> None:
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

    def test_handler_for_another_error_is_not_used(self, app: Flask) -> None:
        app.register_error_handler(TokenValidationError, lambda error: ("own", 502))
        assert app.test_client().get("/call").status_code == 503

    def test_view_may_catch_the_error(self, app: Flask, m2m: CognitoM2M) -> None:
        @app.get("/careful")
        def careful() -> dict[str, Any]:
            try:
                return {"token": m2m.token()}
            except TokenUnavailableError as error:
                return {"status": error.status_code, "reason": error.reason}

        assert app.test_client().get("/careful").json == {"status": 503, "reason": "token_unavailable"}

    def test_outside_a_request_the_text_has_the_details(self, app: Flask) -> None:
        with app.app_context(), pytest.raises(TokenUnavailableError) as raised:
            app.extensions["cognito_m2m"].token()
        error = raised.value
        assert (error.reason, error.status_code) == ("token_unavailable", 503)
        assert str(error) in repr(error)
        arrived = pickle.loads(pickle.dumps(error))
        assert (type(arrived), str(arrived)) == (type(error), str(error))
        assert (arrived.status_code, arrived.retry_after) == (503, error.retry_after)


PLAIN_ERRORS = [
    pytest.param(TokenValidationError("No.", reason="expired"), 401, id="TokenValidationError"),
    pytest.param(TokenValidationError("No.", reason="bad_header"), 400, id="a malformed header"),
    pytest.param(TokenValidationError("No.", reason="client_not_allowed"), 403, id="client not allowed"),
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


def odd(**attributes: Any) -> TokenValidationError:
    """Return an error of an application's class with attributes that do not fit into an answer."""
    kind: type[TokenValidationError] = type("Odd", (TokenValidationError,), attributes)
    return kind("No.")


def unreadable(name: str) -> property:
    def read(self: Any) -> Any:
        raise LookupError(name)

    return property(read, lambda self, value: None)


def init_with_a_list(self: Any, text: str) -> None:
    self.reason = ["list"]


def init_with_numbers(self: Any, text: str) -> None:
    self.reason, self.required_scopes = "invalid", frozenset({7})


ODD_ERRORS = {
    "a reason that is a dictionary": TokenValidationError("No.", reason={}),  # type: ignore[arg-type]
    "a reason that is a list": odd(__init__=init_with_a_list, kid=None, pool=None),
    "a reason that raises": odd(reason=unreadable("reason")),
    "a text that is a number": odd(__str__=lambda self: 7),
    "a description that is read-only": odd(description=property(lambda self: "read-only")),
    "scopes that are numbers": odd(required_scopes=frozenset({1})),
    "scopes that were set to numbers": odd(__init__=init_with_numbers, kid=None, pool=None),
    "scopes that raise": odd(token_scopes=unreadable("token_scopes")),
}


RAISED_IN = [
    raises_in_a_view,
    raises_in_a_guarded_async_view,
    raises_before_the_request,
    raises_in_a_principal_loader,
    raises_in_a_restx_resource,
]


class TestErrorsOfTheLibraryInAView:
    """Errors of the library get the same answers as those of a guard."""

    @pytest.fixture(params=RAISED_IN, ids=lambda place: place.__name__)
    def place(self, request: pytest.FixtureRequest) -> Callable[[Flask, Exception], None]:
        found: Callable[[Flask, Exception], None] = request.param
        return found

    @pytest.mark.filterwarnings("ignore::DeprecationWarning")
    @pytest.mark.parametrize("testing", [False, True])
    @pytest.mark.parametrize(("error", "status"), PLAIN_ERRORS)
    def test_library_errors_get_the_guards_answers(
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
    def test_handlers_of_the_application_take_precedence(
        self, make_app: MakeApp, handled: Any, when: str
    ) -> None:
        app = Flask("shop")
        if when == "after init_app":
            make_app(app)
        app.register_error_handler(handled, lambda error: (sorted(error.required_scopes), error.code))
        if when == "before init_app":
            make_app(app)
        raises_in_a_view(app, PLAIN_ERRORS[3].values[0])
        answer = app.test_client().get("/a")
        assert (answer.status_code, answer.json) == (403, ["row/7"])

    def test_handler_for_a_subclass_gets_that_error(self, app: Flask, make_app: MakeApp) -> None:
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

    @pytest.mark.parametrize("odd", ODD_ERRORS)
    @pytest.mark.parametrize("place", [raises_in_a_view, raises_in_a_principal_loader])
    def test_unusual_error_of_the_application_is_answered(
        self, app: Flask, pool: LocalUserPool, place: Any, odd: str
    ) -> None:
        place(app, ODD_ERRORS[odd])
        answer = app.test_client().get("/a", headers=bearer(pool.token("x/y")))
        assert (answer.status_code, answer.json["reason"]) == (401, "invalid")
        assert answer.headers["WWW-Authenticate"].startswith('Bearer realm="shop", error="invalid_token"')

    def test_library_errors_count_as_rejections(
        self, app: Flask, pool: LocalUserPool, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level("INFO", "flask_m2m_cognito.auth")
        app.get("/a")(require_scopes("x/y")(lambda: raise_error(PLAIN_ERRORS[3].values[0])))
        token = pool.token("x/y", "reports")
        app.test_client().get("/a", headers=bearer(token))
        (record,) = map(vars, caplog.records)
        assert (record["reason"], record["client_id"]) == ("insufficient_scope", "reports")
        assert (record["required_scopes"], record["path"]) == (["row/7"], "/a")

    def test_http_exception_of_the_application_stays(self, app: Flask) -> None:
        class Mine(TokenValidationError, ServiceUnavailable):
            pass

        app.get("/a")(lambda: raise_error(Mine("Own.")))
        assert app.test_client().get("/a").status_code == 503

    def test_configuration_error_is_a_500(self, app: Flask) -> None:
        app.get("/a")(lambda: raise_error(ConfigurationError("No.")))
        assert app.test_client().get("/a").status_code == 500


@pytest.mark.parametrize("text", ["key → gone", "two\r\nlines", "a\ttab", 'a "quote" and \\'])
def test_own_text_is_sanitized_for_the_challenge(app: Flask, text: str) -> None:
    app.get("/a")(lambda: raise_error(TokenValidationError(text)))
    answer = app.test_client().get("/a")
    description = answer.www_authenticate.parameters["error_description"]
    assert re.fullmatch(r"[\x20-\x21\x23-\x5B\x5D-\x7E]+", description)
    assert (answer.status_code, json.loads(answer.data)["detail"]) == (401, text)
