"""The errors of this library, and the reasons for a rejection.

::

    M2MCognitoError
    ├── ConfigurationError (also a ValueError)   a setting or an argument is wrong
    ├── TokenValidationError                     the caller's token is rejected: 401, 400 or 403
    │   └── InsufficientScopeError               the token is valid, but lacks scopes: 403
    ├── KeysUnavailableError                     the token may be valid, but its key is unavailable: 503
    └── CognitoTokenRequestError                 one token request failed
        └── TokenUnavailableError                no usable token is cached or could be fetched: 503

No error text contains a token, a client secret or a cache key.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, get_args

Reason = Literal[
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
]
"""Why a request was rejected: stable names for logs, metrics and tests."""

REASONS: tuple[str, ...] = get_args(Reason)


class M2MCognitoError(Exception):
    """The base class of every error of this library."""


class ConfigurationError(M2MCognitoError, ValueError):
    """Settings or arguments are invalid. One message lists all of them.

    Attributes:
        problems: one message for each: the name, its value (never a secret), and what is valid.
    """

    def __init__(self, *problems: str) -> None:
        super().__init__(*problems)
        self.problems: tuple[str, ...] = problems

    def __str__(self) -> str:
        if len(self.problems) == 1:
            return self.problems[0]
        return f"{len(self.problems)} settings are invalid:\n" + "\n".join(
            f"  - {problem}" for problem in self.problems
        )


class TokenValidationError(M2MCognitoError):
    """The caller's token or header is invalid, or not allowed.

    Attributes:
        reason: which check failed, one of :data:`Reason`.
        kid: the token's unverified key id, if it has one, for logs.
        pool: the id of the trusted user pool that the token names, if any, for logs.
        client_id: the token's client, if the signature was verified, else ``None``.
        token_scopes: the token's scopes, if the signature was verified, else ``None``.
        required_scopes: the scopes that the view requires, if a guard rejected the token.
    """

    client_id: str | None = None
    token_scopes: frozenset[str] | None = None
    required_scopes: frozenset[str] | None = None

    def __init__(
        self,
        message: str = "",
        *,
        reason: Reason = "invalid",
        kid: str | None = None,
        pool: str | None = None,
    ) -> None:
        super().__init__(message)
        self.reason: Reason = reason
        self.kid = kid
        self.pool = pool


class InsufficientScopeError(TokenValidationError):
    """The token is valid but lacks the required scopes.

    Attributes:
        token_scopes: the scopes that the token has.
        required_scopes: the scopes that are required.
    """

    token_scopes: frozenset[str]
    required_scopes: frozenset[str]

    def __init__(
        self,
        message: str,
        *,
        token_scopes: frozenset[str],
        required_scopes: frozenset[str],
    ) -> None:
        super().__init__(message, reason="insufficient_scope")
        self.token_scopes = token_scopes
        self.required_scopes = required_scopes

    def __reduce__(self) -> tuple[Any, ...]:
        # Keyword-only arguments do not survive the default pickling (Celery, multiprocessing).
        return _rebuild_error, (type(self), self.args), self.__dict__


class KeysUnavailableError(M2MCognitoError):
    """The signing keys are unavailable, so the token could not be verified. It may be valid.

    This is not a :class:`TokenValidationError`: answer 503, never 401.

    Attributes:
        reason: ``"keys_unavailable"``.
        retry_after: seconds until the next attempt, if known.
    """

    reason: Reason = "keys_unavailable"

    def __init__(self, message: str, *, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class CognitoTokenRequestError(M2MCognitoError):
    """A token request failed, or its answer was not a token.

    Attributes:
        status_code: the HTTP status of the answer, if there was one.
        error_code: the OAuth 2.0 ``error`` of the answer (RFC 6749, section 5.2), if any.
        error_description: the OAuth 2.0 ``error_description`` of the answer, if any.
        response_body: the text of the answer, with tokens and secrets removed.
        request_id: Cognito's ``x-amz-cognito-request-id`` or ``x-amzn-requestid``, for AWS support.
        retry_after: seconds, from the answer's ``Retry-After`` or until the next attempt.
    """

    def __init__(
        self,
        message: str,
        *,
        status_code: int | None = None,
        error_code: str | None = None,
        error_description: str | None = None,
        response_body: str | None = None,
        request_id: str | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message)
        self.status_code = status_code
        self.error_code = error_code
        self.error_description = error_description
        self.response_body = response_body
        self.request_id = request_id
        self.retry_after = retry_after


class TokenUnavailableError(CognitoTokenRequestError):
    """No usable access token is cached, and none could be fetched.

    It has the attributes of its ``__cause__``, the last :class:`CognitoTokenRequestError`.
    """

    reason: Reason = "token_unavailable"


def _rebuild_error(kind: type[InsufficientScopeError], arguments: tuple[Any, ...]) -> InsufficientScopeError:
    return kind.__new__(kind, *arguments)


__all__: Sequence[str] = [
    "REASONS",
    "CognitoTokenRequestError",
    "ConfigurationError",
    "InsufficientScopeError",
    "KeysUnavailableError",
    "M2MCognitoError",
    "Reason",
    "TokenUnavailableError",
    "TokenValidationError",
]
