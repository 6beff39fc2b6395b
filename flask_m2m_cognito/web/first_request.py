"""What is done at an application's first request, when its routes and its other extensions are complete.

Its guards are checked, and the library's errors that a view, a principal loader or ``before_request`` raises
get answers from then on.
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
"""Where an application keeps the receiver, in ``app.extensions``: signals hold their receivers weakly."""


def prepare_first_request(app: Flask, guard: Guard | None, wording: Wording) -> None:
    """Have both done before the first request of ``app`` is handled; later requests pay nothing.

    A step that raises ends that request, and is called again at the next one.
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
    """Have ``app`` answer them as its guard does.

    Such an error becomes the guard's exception, which is of its class and werkzeug's, and then takes its way
    through the application's handlers. A handler registered by the library could come before one of theirs.
    """
    handle = app.handle_user_exception

    def handle_user_exception(e: Exception) -> Any:
        answer = _answer_to(e, guard, wording)
        if isinstance(answer, Problem):
            complete_answer_to(answer)
            if app.trap_http_exception(answer):
                return _handle_untrapped(app, answer)
        return handle(answer)

    # As Flask-RESTful and Flask-RESTX do. Theirs are within this one, so their own bodies are made of the
    # answer, and not of an error that they do not know.
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
