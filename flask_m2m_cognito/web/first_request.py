"""Prepares an application at its first request, when its routes and its other extensions are complete.

This checks its guards, and makes it answer the library's errors that a view, a principal loader or
``before_request`` raises.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable
from typing import Any

from flask import Flask, request_started
from werkzeug.exceptions import HTTPException

from ..exceptions import CognitoTokenRequestError, KeysUnavailableError, TokenValidationError
from .guard import Guard
from .misplaced import check_guards, note_app
from .problems import Problem, Wording, complete_answer_to, problem_from
from .request_globals import current_request

_EXTENSION = "cognito_m2m_first_request"
"""The key of ``app.extensions`` that keeps the receiver alive: signals hold their receivers weakly."""


def prepare_first_request(app: Flask, guard: Guard | None, wording: Wording) -> None:
    """Run both steps before ``app`` handles its first request. Later requests pay nothing.

    If a step raises, that request fails, and the step runs again at the next one.
    """
    note_app(app)
    answer_errors = functools.partial(_answer_library_errors, guard, wording)
    steps: list[Callable[[Flask], None]] = [answer_errors, check_guards]
    lock = threading.Lock()

    def on_request(app: Flask, **_: object) -> None:
        with lock:
            while steps:
                steps[0](app)
                del steps[0]
            request_started.disconnect(on_request, sender=app)

    app.extensions[_EXTENSION] = on_request
    request_started.connect(on_request, sender=app)


def _answer_library_errors(guard: Guard | None, wording: Wording, app: Flask) -> None:
    """Make ``app`` answer the library's errors as its guard does.

    Such an error becomes the guard's exception, which is of the error's class and of werkzeug's, and passes
    through the application's handlers. A handler registered here could take precedence over one of theirs.
    """
    handle = app.handle_user_exception

    def handle_user_exception(e: Exception) -> Any:
        answer = _answer_to(e, guard, wording)
        if isinstance(answer, Problem):
            complete_answer_to(answer)
            if app.trap_http_exception(answer):
                return _handle_untrapped(app, answer)
        return handle(answer)

    # Flask-RESTful and Flask-RESTX do the same. This one wraps theirs, so they build their bodies from the
    # answer, and not from an error that they do not know.
    app.handle_user_exception = handle_user_exception  # type: ignore[method-assign]


def _answer_to(error: Exception, guard: Guard | None, wording: Wording) -> Exception:
    if isinstance(error, HTTPException):
        return error
    if guard is not None and isinstance(error, (TokenValidationError, KeysUnavailableError)):
        request = current_request()
        return guard.reject(error, request, token=request.__dict__.get(guard.held_key, {}).get("m2m_token"))
    if isinstance(error, (TokenValidationError, KeysUnavailableError, CognitoTokenRequestError)):
        return problem_from(error, wording)
    return error


def _handle_untrapped(app: Flask, answer: Problem) -> Any:
    """Return the answer of an application with TRAP_HTTP_EXCEPTIONS, which connexion sets.

    connexion's handler raises a Starlette exception with the status and the text only. Its middleware builds
    the answer from that, without the headers.
    """
    try:
        return app.handle_http_exception(answer)
    except Exception as error:
        if getattr(error, "status_code", None) != answer.code:
            raise
        return answer
