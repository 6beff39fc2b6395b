"""Builds the answers to rejected requests: one table maps a reason to a status, a challenge and a body.

Each answer is both a werkzeug exception and one of the library's. An application's error handler for the
status code or for either class replaces it.

Sources: RFC 6750, section 3 (challenge); RFC 9457 (body); RFC 9110, section 10.2.3 (Retry-After).
"""

from __future__ import annotations

import contextlib
import functools
import json
import math
import re
from dataclasses import dataclass
from typing import Any, cast

from flask import Response, after_this_request
from werkzeug.exceptions import HTTPException, default_exceptions
from werkzeug.http import quote_header_value

from ..exceptions import (
    CognitoTokenRequestError,
    KeysUnavailableError,
    Reason,
    TokenUnavailableError,
    TokenValidationError,
)
from ..formats.scopes import join_scopes
from .request_globals import current_request, hide_request_token

_DEFAULT_RETRY_AFTER = 5.0
"""Seconds to wait if the error has no ``retry_after``."""


@dataclass(frozen=True)
class Row:
    """The answer to a reason. ``error`` is the code in the challenge, if any (RFC 6750, section 3.1)."""

    status: int
    title: str
    error: str | None = None


_INVALID_TOKEN = Row(401, "Invalid access token", "invalid_token")

ANSWERS: dict[str, Row] = {
    "missing_token": Row(401, "Access token required"),
    "bad_header": Row(400, "Malformed access token header", "invalid_request"),
    "malformed": _INVALID_TOKEN,
    "wrong_algorithm": _INVALID_TOKEN,
    "wrong_issuer": _INVALID_TOKEN,
    "unknown_key": _INVALID_TOKEN,
    "bad_signature": _INVALID_TOKEN,
    "wrong_token_use": _INVALID_TOKEN,
    "expired": _INVALID_TOKEN,
    "not_yet_valid": _INVALID_TOKEN,
    "missing_client_id": _INVALID_TOKEN,
    "user_token": _INVALID_TOKEN,
    "revoked": _INVALID_TOKEN,
    "wrong_audience": _INVALID_TOKEN,
    "invalid": _INVALID_TOKEN,
    # The token is valid: 401 would make callers get a new one, which is rejected too.
    "rejected_by_check": Row(403, "Access denied"),
    "client_not_allowed": Row(403, "Client not allowed"),
    "method_not_allowed": Row(403, "HTTP method not allowed"),
    "insufficient_scope": Row(403, "Insufficient scope", "insufficient_scope"),
    "keys_unavailable": Row(503, "Token verification unavailable"),
    "token_unavailable": Row(503, "Outgoing call unavailable"),
}

_OWN_CHECK_REASONS = ("rejected_by_check", "client_not_allowed")
"""Reasons for which a check of the application may have raised its own answer."""


@dataclass(frozen=True)
class Wording:
    """The parts of every answer that an application configures.

    Attributes:
        realm: the ``realm`` of the challenge.
        problem_type_base: the URL to which the reason is appended to form a problem's ``type``.
        challenge_suffix: further parameters of the challenge.
    """

    realm: str
    problem_type_base: str | None = None
    challenge_suffix: str = ""


_TOKEN_UNAVAILABLE = "This service could not obtain a token for its own outgoing call."
_NOT_IN_A_DESCRIPTION = re.compile(r"[^\x20-\x21\x23-\x5B\x5D-\x7E]")
"""Characters that an ``error_description`` must not have (RFC 6750, section 3)."""

Answerable = TokenValidationError | KeysUnavailableError | CognitoTokenRequestError
"""The library's errors that have an answer. Any other error is a mistake in the program."""


class Problem(HTTPException):
    """A rejection as ``application/problem+json``.

    Each problem is also an instance of the class of its error, see :func:`problem_from`.

    Attributes:
        reason: which check failed.
        error: the exception that caused the rejection.
    """

    reason: Reason = "invalid"
    title: str = ""
    error: Exception | None = None
    wording: Wording = Wording("")
    # These take precedence over attributes of a class of the application.
    description: str | None = None
    response: Any = None
    retry_after: Any = None

    def __str__(self) -> str:
        # The library's text, the same as that of the error itself.
        return str(self.args[0]) if self.args else ""

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self)!r})"

    def __reduce__(self) -> tuple[Any, ...]:
        return _new_problem, (type(self.error), self.code, self.args), self.__dict__

    @property
    def challenge(self) -> str | None:
        """The ``WWW-Authenticate`` header of the answer (RFC 6750, section 3)."""
        if not isinstance(self, TokenValidationError):
            return None
        row = ANSWERS.get(self.reason, _INVALID_TOKEN)
        # werkzeug's WWWAuthenticate leaves token-like values bare, but a realm must be quoted.
        parameters = {"realm": self.wording.realm}
        if row.error is not None:
            parameters |= {"error": row.error, "error_description": _NOT_IN_A_DESCRIPTION.sub("?", str(self))}
        if self.required_scopes and (row.status == 401 or self.reason == "insufficient_scope"):
            # A 401 names them too: MCP clients request a token with exactly these scopes.
            parameters["scope"] = join_scopes(self.required_scopes)
        text = ", ".join(
            f"{name}={quote_header_value(value, allow_token=False)}" for name, value in parameters.items()
        )
        return f"Bearer {text}{self.wording.challenge_suffix}"

    def get_body(self, environ: Any = None, scope: Any = None) -> str:
        base = self.wording.problem_type_base
        return json.dumps(
            {
                "type": f"{base}{self.reason}" if base else "about:blank",
                "title": self.title,
                "status": self.code,
                "detail": self.description,
                "reason": self.reason,
            }
        )

    def get_headers(self, environ: Any = None, scope: Any = None) -> list[tuple[str, str]]:
        headers = [("Content-Type", "application/problem+json"), *self._other_headers()]
        if self.challenge is not None:
            headers.append(("WWW-Authenticate", self.challenge))
        return headers

    def _other_headers(self) -> list[tuple[str, str]]:
        headers = [("Cache-Control", "no-store")]
        if self.code == 503:
            seconds = _DEFAULT_RETRY_AFTER if self.retry_after is None else self.retry_after
            headers.append(("Retry-After", str(max(1, math.ceil(seconds)))))
        return headers

    def answer_of_own_check(self) -> HTTPException | None:
        """Return the answer that a check of the application raised, if that is why the token was rejected."""
        own = self.error.__cause__ if self.error is not None else None
        is_by_check = self.reason in _OWN_CHECK_REASONS
        return own if is_by_check and isinstance(own, HTTPException) else None

    def complete(self, response: Response) -> Response:
        """Add the headers to ``response``, which a framework's error handler may have built without them."""
        if response.status_code == self.code:
            for name, value in self._other_headers():
                response.headers.setdefault(name, value)
            self.add_challenge(response)
        return response

    def add_challenge(self, response: Response) -> None:
        """Add the challenge to ``response`` if it has the same status and no Bearer challenge."""
        challenges = response.headers.get_all("WWW-Authenticate")
        is_missing = not any(each.lower().startswith("bearer") for each in challenges)
        if self.challenge is not None and response.status_code == self.code and is_missing:
            # Keep a framework's own challenge, such as Basic: a client may choose (RFC 9110, section 11.6.1).
            response.headers.add("WWW-Authenticate", self.challenge)


def problem_from(error: Answerable, wording: Wording) -> Problem:
    """Return the answer to ``error``: an exception of its class and of werkzeug's.

    The answer has the attributes of ``error``. An application's ``errorhandler`` for the status, for the
    library's class or for ``HTTPException`` works, and one for a subclass gets that subclass's attributes. An
    error that the application raised may have any attributes and class, and must not cause a 500.
    """
    try:
        problem = _problem(error, wording)
        _check_answer(problem)
    except Exception:
        problem = _problem(_plain(error), wording)
    return problem


def _problem(error: Answerable, wording: Wording) -> Problem:
    reason: Reason = getattr(error, "reason", "token_unavailable")
    row = ANSWERS.get(reason, _INVALID_TOKEN)
    text = hide_request_token(str(error))
    problem = _new_problem(type(error), row.status, (text,))
    problem.__dict__.update(error.__dict__)
    problem.code = row.status  # replaces an attribute of that name in the application's class
    problem.response = None
    problem.reason = reason
    problem.title = row.title
    problem.error = problem.__cause__ = error
    problem.wording = wording
    # Callers do not learn how this service's own token request was answered.
    is_own = isinstance(error, CognitoTokenRequestError)
    problem.description = _TOKEN_UNAVAILABLE if is_own else text
    return problem


def _new_problem(kind: type[Exception], status: int, arguments: tuple[Any, ...]) -> Problem:
    # Without __init__: a class of the application may take other arguments than one text.
    problem_class = _class_of(kind, status)  # type: ignore[arg-type]  # mypy: no class is Hashable
    return problem_class.__new__(problem_class, *arguments)


@functools.lru_cache(maxsize=256)
def _class_of(kind: type[Exception], status: int) -> type[Problem]:
    """Return a subclass of ``Problem``, of the error's class, and of werkzeug's class for a status.

    The error's class comes before werkzeug's, which makes handlers for it the more specific ones.
    """
    bases = (Problem, kind, default_exceptions[status])
    problem: type[Problem] = type(kind.__name__, bases, {"code": status})
    return problem


def _check_answer(problem: Problem) -> None:
    """Raise an exception unless the answer can be sent and reported."""
    problem.get_body()
    problem.get_headers()
    texts = [problem.reason, *(getattr(problem, name, None) for name in ("client_id", "kid", "pool"))]
    for name in ("token_scopes", "required_scopes"):
        scopes = getattr(problem, name, None)
        if scopes is not None and not isinstance(scopes, (frozenset, set)):
            raise TypeError(f"{name} is not a set")
        texts += scopes or ()
    if not all(text is None or isinstance(text, str) for text in texts):
        raise TypeError("an attribute is not text")


def _plain(error: Answerable) -> Answerable:
    """Return an error of the library's own class, with the text and the reason of ``error``."""
    text, reason = "", ""
    with contextlib.suppress(Exception):
        text = str(error)
    if isinstance(error, CognitoTokenRequestError):
        return TokenUnavailableError(text)
    if isinstance(error, KeysUnavailableError):
        return KeysUnavailableError(text)
    with contextlib.suppress(Exception):
        reason = str(error.reason)
    return TokenValidationError(text, reason=cast("Reason", reason) if reason in ANSWERS else "invalid")


_CAUGHT = "_flask_m2m_cognito_caught"
"""The attribute of a request that holds its last 401 while the view may still catch it."""


def add_challenge_when_caught(problem: Problem) -> Problem:
    """Return ``problem``, and add its challenge to another 401 if the view catches it.

    A problem that the view catches has no effect on the answer, with one exception: a framework may answer
    401 with a challenge of another scheme, such as Flask-HTTPAuth with Basic. That answer gets this challenge
    too, because a token would also be accepted.
    """
    held = current_request().__dict__
    if problem.code == 401:
        if _CAUGHT not in held:
            after_this_request(_add_caught_challenge)
        held[_CAUGHT] = problem
    return problem


def complete_answer_to(problem: Problem) -> None:
    """Add the headers of ``problem``, which the view did not catch, to the answer."""
    # Frameworks with a handler for every HTTPException build an answer of their own.
    current_request().__dict__.pop(_CAUGHT, None)
    after_this_request(problem.complete)


def _add_caught_challenge(response: Response) -> Response:
    problem: Problem | None = current_request().__dict__.get(_CAUGHT)
    if problem is not None and "WWW-Authenticate" in response.headers:
        problem.add_challenge(response)
    return response
