"""The errors: base classes, attributes, copying and pickling."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any

import pytest

import flask_m2m_cognito
from flask_m2m_cognito import (
    CognitoTokenRequestError,
    ConfigurationError,
    InsufficientScopeError,
    KeysUnavailableError,
    M2MCognitoError,
    TokenUnavailableError,
    TokenValidationError,
)
from flask_m2m_cognito.exceptions import REASONS

REQUEST_FAILED = {
    "status_code": 400,
    "error_code": "invalid_client",
    "error_description": "no such client",
    "response_body": '{"error": "invalid_client"}',
    "request_id": "7a1c",
    "retry_after": 3.0,
}


class ApplicationError(InsufficientScopeError):
    """A subclass of an application."""


def rejected_by_an_application() -> ApplicationError:
    error = ApplicationError("text", token_scopes=frozenset(), required_scopes=frozenset("a"))
    error.kid = "a"
    return error


ERRORS = [
    pytest.param(M2MCognitoError("text"), {}, id="M2MCognitoError"),
    pytest.param(ConfigurationError("text"), {"problems": ("text",)}, id="ConfigurationError"),
    pytest.param(
        TokenValidationError("text", reason="expired", kid="a"),
        {"reason": "expired", "kid": "a"},
        id="TokenValidationError",
    ),
    pytest.param(
        InsufficientScopeError("text", token_scopes=frozenset("a"), required_scopes=frozenset("ab")),
        {"reason": "insufficient_scope", "token_scopes": {"a"}, "required_scopes": {"a", "b"}},
        id="InsufficientScopeError",
    ),
    pytest.param(
        rejected_by_an_application(),
        {"kid": "a", "required_scopes": {"a"}},
        id="a subclass of an application",
    ),
    pytest.param(
        KeysUnavailableError("text", retry_after=2.5),
        {"reason": "keys_unavailable", "retry_after": 2.5},
        id="KeysUnavailableError",
    ),
    pytest.param(
        CognitoTokenRequestError("text", **REQUEST_FAILED), REQUEST_FAILED, id="CognitoTokenRequestError"
    ),
    pytest.param(
        TokenUnavailableError("text", **REQUEST_FAILED),
        {**REQUEST_FAILED, "reason": "token_unavailable"},
        id="TokenUnavailableError",
    ),
]

TRIPS = [
    pytest.param(lambda error: error, id="original"),
    pytest.param(lambda error: pickle.loads(pickle.dumps(error)), id="pickled"),
    pytest.param(copy.copy, id="copy"),
    pytest.param(copy.deepcopy, id="deep copy"),
]


@pytest.mark.parametrize("trip", TRIPS)
@pytest.mark.parametrize(("error", "attributes"), ERRORS)
def test_type_text_and_attributes_survive(
    error: Exception, attributes: dict[str, Any], trip: Callable[[Exception], Exception]
) -> None:
    arrived = trip(error)
    assert (type(arrived), str(arrived)) == (type(error), "text")
    assert {name: getattr(arrived, name) for name in attributes} == attributes


@pytest.mark.parametrize(
    ("child", "parents"),
    [
        (ConfigurationError, {M2MCognitoError, ValueError}),
        (TokenValidationError, {M2MCognitoError}),
        (InsufficientScopeError, {M2MCognitoError, TokenValidationError}),
        (KeysUnavailableError, {M2MCognitoError}),
        (CognitoTokenRequestError, {M2MCognitoError}),
        (TokenUnavailableError, {M2MCognitoError, CognitoTokenRequestError}),
    ],
)
def test_each_error_has_its_base_classes(child: type[Exception], parents: set[type[Exception]]) -> None:
    ours = {M2MCognitoError, TokenValidationError, CognitoTokenRequestError, ValueError}
    assert set(child.__mro__) & (ours - {child}) == parents


def test_every_error_is_a_public_name() -> None:
    errors = {
        name
        for name, value in vars(flask_m2m_cognito.exceptions).items()
        if isinstance(value, type) and issubclass(value, M2MCognitoError)
    }
    assert errors <= set(flask_m2m_cognito.__all__)


def test_unset_attributes_are_none() -> None:
    assert set(vars(CognitoTokenRequestError("text")).values()) == {None}
    assert KeysUnavailableError("text").retry_after is None
    error = TokenValidationError("text")
    assert (error.reason, error.kid) == ("invalid", None)


def test_each_of_several_problems_has_a_line() -> None:
    error = ConfigurationError("A is wrong.", "B is wrong.")
    assert error.problems == ("A is wrong.", "B is wrong.")
    assert str(error).splitlines()[1:] == ["  - A is wrong.", "  - B is wrong."]
    assert pickle.loads(pickle.dumps(error)).problems == error.problems


def test_reasons_are_stable() -> None:
    """Add new reasons here. Removing one breaks the logs, metrics and tests of users."""
    assert set(REASONS) == {
        "missing_token",
        "bad_header",
        "malformed",
        "wrong_algorithm",
        "wrong_issuer",
        "unknown_key",
        "bad_signature",
        "wrong_token_use",
        "expired",
        "not_yet_valid",
        "missing_client_id",
        "user_token",
        "revoked",
        "client_not_allowed",
        "wrong_audience",
        "insufficient_scope",
        "rejected_by_check",
        "method_not_allowed",
        "keys_unavailable",
        "token_unavailable",
        "invalid",
    }
