"""Answers the library's errors that a view, a principal loader or ``before_request`` raises."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from flask import Flask
from werkzeug.exceptions import HTTPException

from ..exceptions import CognitoTokenRequestError, KeysUnavailableError, TokenValidationError
from .guard import Guard
from .problems import Problem, Wording, completed, problem_from_any
from .request_globals import current_request


def answer_library_errors(guard: Guard | None, wording: Wording) -> Callable[[Flask], None]:
    """Return what makes an application answer them, to be called when its other extensions are there.

    Such an error becomes the guard's exception, which is of its class and werkzeug's, and then takes its way
    through the application's handlers. A handler registered by the library could come before one of theirs.
    """

    def answer_of(error: Exception) -> Exception:
        if isinstance(error, HTTPException):
            return error
        if guard is not None and isinstance(error, (TokenValidationError, KeysUnavailableError)):
            return guard.answer_to(error, current_request())
        if isinstance(error, (TokenValidationError, KeysUnavailableError, CognitoTokenRequestError)):
            return problem_from_any(error, wording)
        return error

    def install(app: Flask) -> None:
        handle = app.handle_user_exception

        def handle_user_exception(e: Exception) -> Any:
            answer = answer_of(e)
            if isinstance(answer, Problem):
                completed(answer)
            if isinstance(answer, Problem) and app.trap_http_exception(answer):
                return _untrapped(app, answer)
            return handle(answer)

        # As Flask-RESTful and Flask-RESTX do. Theirs are within this one, so their own bodies are made of
        # the answer, and not of an error that they do not know.
        app.handle_user_exception = handle_user_exception  # type: ignore[method-assign]

    return install


def _untrapped(app: Flask, answer: Problem) -> Any:
    """The answer of an application with TRAP_HTTP_EXCEPTIONS, which connexion sets.

    connexion's handler raises an exception of Starlette's with the status and the text alone, of which its
    middleware makes the answer: the headers would be lost.
    """
    try:
        return app.handle_http_exception(answer)
    except Exception as error:
        if getattr(error, "status_code", None) != answer.code:
            raise
        return answer
