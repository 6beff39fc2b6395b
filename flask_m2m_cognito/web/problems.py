"""What a caller is answered: one table from a reason to a status, a challenge and a body.

Each is a werkzeug exception and one of the library's, so that an application's handlers for the code or for
either class replace it.

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
"""Seconds, where nothing better is known."""


@dataclass(frozen=True)
class Row:
    """How a reason is answered. ``error`` is the challenge's code (RFC 6750, section 3.1), if it has one."""

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
    "wrong_audience": _INVALID_TOKEN,
    "invalid": _INVALID_TOKEN,
    # The token is valid: 401 would make callers get a new one, which is rejected too.
    "rejected_by_check": Row(403, "Rejected by this service"),
    "client_not_allowed": Row(403, "Client not allowed"),
    "method_not_allowed": Row(403, "Method not allowed for this token"),
    "insufficient_scope": Row(403, "Insufficient scope", "insufficient_scope"),
    "keys_unavailable": Row(503, "Access tokens can't be checked at the moment"),
    "token_unavailable": Row(503, "Another service can't be called at the moment"),
}

_CHECKS_OF_THE_APPLICATION = ("rejected_by_check", "client_not_allowed")
"""Reasons for which the application's own check may have raised the answer."""


@dataclass(frozen=True)
class Wording:
    """An application's part of every answer.

    Attributes:
        realm: of the challenge.
        problem_type_base: a URL to which a reason is appended for a problem's ``type``.
        challenge_suffix: more parameters of the challenge.
    """

    realm: str
    problem_type_base: str | None = None
    challenge_suffix: str = ""


_NO_TOKEN_OF_OUR_OWN = "This service has no access token for a service that it calls."
_NOT_IN_A_DESCRIPTION = re.compile(r"[^\x20-\x21\x23-\x5B\x5D-\x7E]")
"""An application's own text may have what no header can carry (RFC 6750, section 3)."""

Answerable = TokenValidationError | KeysUnavailableError | CognitoTokenRequestError
"""The library's errors that have an answer; any other is a mistake in the program."""


class Problem(HTTPException):
    """A rejection as ``application/problem+json``. ``reason`` and ``error`` say what happened.

    Each one is of the class of its error too, see :func:`problem_from`.

    Attributes:
        reason: which check failed.
        error: the exception behind it.
    """

    reason: Reason = "invalid"
    title: str = ""
    error: Exception | None = None
    wording: Wording = Wording("")
    # Before those of a class of the application's.
    description: str | None = None
    response: Any = None
    retry_after: Any = None

    def __str__(self) -> str:
        # The library's text, as where nothing turns the error into an answer.
        return str(self.args[0]) if self.args else ""

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self)!r})"

    def __reduce__(self) -> tuple[Any, ...]:
        return _new_problem, (type(self.error), self.code, self.args), self.__dict__

    @property
    def challenge(self) -> str | None:
        """The ``WWW-Authenticate`` of the answer (RFC 6750, section 3)."""
        if not isinstance(self, TokenValidationError):
            return None
        row = ANSWERS.get(self.reason, _INVALID_TOKEN)
        # werkzeug's WWWAuthenticate leaves token-like values bare, but a realm must be quoted.
        parameters = {"realm": self.wording.realm}
        if row.error is not None:
            parameters |= {"error": row.error, "error_description": _NOT_IN_A_DESCRIPTION.sub("?", str(self))}
        if self.required_scopes and (row.status == 401 or self.reason == "insufficient_scope"):
            # A 401 names them too: MCP clients ask the token endpoint for exactly these.
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

    def answer_of_a_check(self) -> HTTPException | None:
        """What a check of the application's own raised as the answer, if that is why a token was rejected."""
        own = self.error.__cause__ if self.error is not None else None
        is_by_check = self.reason in _CHECKS_OF_THE_APPLICATION
        return own if is_by_check and isinstance(own, HTTPException) else None

    def complete(self, response: Response) -> Response:
        """Put its headers on the answer, which a framework's handler may have made without."""
        if response.status_code == self.code:
            for name, value in self._other_headers():
                response.headers.setdefault(name, value)
            self.add_challenge(response)
        return response

    def add_challenge(self, response: Response) -> None:
        """Put the challenge on ``response``, if its status is this one and it has no Bearer challenge."""
        challenges = response.headers.get_all("WWW-Authenticate")
        is_missing = not any(each.lower().startswith("bearer") for each in challenges)
        if self.challenge is not None and response.status_code == self.code and is_missing:
            # Beside a framework's own, such as Basic: a client may choose (RFC 9110, section 11.6.1).
            response.headers.add("WWW-Authenticate", self.challenge)


def problem_from(error: Answerable, wording: Wording) -> Problem:
    """The answer to ``error``: an exception of its class, with its attributes, that is werkzeug's as well.

    So an application's ``errorhandler`` for the status, for the library's class and for ``HTTPException`` all
    work, and a handler for a subclass of its own gets what that subclass holds. What the application raised
    may hold anything, and be of any class: a rejection must not become a 500 because of that.
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
    problem.code = row.status  # over an attribute of that name of the application's class
    problem.response = None
    problem.reason = reason
    problem.title = row.title
    problem.error = problem.__cause__ = error
    problem.wording = wording
    # Callers of this service are not told what its own token request was answered.
    is_own = isinstance(error, CognitoTokenRequestError)
    problem.description = _NO_TOKEN_OF_OUR_OWN if is_own else text
    return problem


def _new_problem(kind: type[Exception], status: int, arguments: tuple[Any, ...]) -> Problem:
    # Without __init__: a class of the application's may take other arguments than a text.
    problem_class = _class_of(kind, status)  # type: ignore[arg-type]  # mypy: no class is Hashable
    return problem_class.__new__(problem_class, *arguments)


@functools.lru_cache(maxsize=256)
def _class_of(kind: type[Exception], status: int) -> type[Problem]:
    """A class that is a ``Problem``, the library's (or the application's) class, and werkzeug's for a status.

    The library's comes before werkzeug's, so that handlers for it are the more specific ones.
    """
    bases = (Problem, kind, default_exceptions[status])
    problem: type[Problem] = type(kind.__name__, bases, {"code": status})
    return problem


def _check_answer(problem: Problem) -> None:
    """Raise unless the answer can be sent and reported."""
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
    """An error of the library's own class, with the text and reason of one of the application's class."""
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
"""The attribute of a request for its last 401 that did not leave the view."""


def add_challenge_if_caught(problem: Problem) -> Problem:
    """Return ``problem``, which the view may catch. Then it says nothing of the answer, with one exception.

    Where the view catches it and a framework answers 401 with a challenge of another scheme, such as
    Flask-HTTPAuth with Basic, the answer has its challenge too: a token is another way in.
    """
    held = current_request().__dict__
    if problem.code == 401:
        if _CAUGHT not in held:
            after_this_request(_add_caught_challenge)
        held[_CAUGHT] = problem
    return problem


def complete_answer_to(problem: Problem) -> None:
    """Put the headers of ``problem``, which left the view, on the answer, whoever makes its body."""
    # Frameworks with a handler for every HTTPException make an answer of their own.
    current_request().__dict__.pop(_CAUGHT, None)
    after_this_request(problem.complete)


def _add_caught_challenge(response: Response) -> Response:
    problem: Problem | None = current_request().__dict__.get(_CAUGHT)
    if problem is not None and "WWW-Authenticate" in response.headers:
        problem.add_challenge(response)
    return response
