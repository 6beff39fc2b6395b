"""Raw WSGI calls to a small application: no test client, no socket."""

from __future__ import annotations

import functools
import random
from collections.abc import Callable, Sequence
from typing import Any

from flask import Flask
from werkzeug.test import EnvironBuilder

from tests.benchmarks.measuring import Contender
from tests.benchmarks.pool_process import Address
from tests.benchmarks.subjects import Decorator, Subject

Environ = dict[str, Any]


def app_with(guard: Callable[[Flask], Decorator] | None, name: str = "measured") -> Flask:
    """An application with one view, ``/items``, behind ``guard``, if there is one."""
    app = Flask(name)

    def items() -> str:
        return "some"

    app.add_url_rule("/items", view_func=items if guard is None else guard(app)(items))
    return app


def guard_of(subject: Subject, address: Address) -> Callable[[Flask], Decorator]:
    """A subject's guard of tokens of the pool at ``address``."""
    guard = subject.guard
    assert guard is not None
    return lambda app: guard(app, address)


def caller(name: str, app: Flask, tokens: Sequence[str], times: int, path: str = "/items") -> Contender:
    """Requests to ``app``, each with an environ and a header string of its own.

    Raises:
        RuntimeError: the application does not let the first token in.
    """
    template = EnvironBuilder(path).get_environ()
    _check(app, environs(template, tokens, 1)[0])
    return Contender(
        name, functools.partial(serve, app), functools.partial(environs, template, tokens, times)
    )


def environs(template: Environ, tokens: Sequence[str], times: int) -> list[Environ]:
    """So many requests' environs."""
    return [
        {**template, "HTTP_AUTHORIZATION": "".join(("Bearer ", token))}
        for token in random.choices(tokens, k=times)
    ]


def serve(app: Flask, requests: Sequence[Environ]) -> None:
    """Answer them all, as a server would."""
    wsgi_app = app.wsgi_app
    for environ in requests:
        body = wsgi_app(environ, _start_response)
        b"".join(body)
        body.close()  # type: ignore[attr-defined]


def _start_response(status: str, headers: object, exc_info: object = None) -> Any:
    return None


def _check(app: Flask, environ: Environ) -> None:
    answered: list[str] = []

    def start_response(status: str, headers: object, exc_info: object = None) -> Any:
        answered.append(status)

    b"".join(app.wsgi_app(environ, start_response))
    if not answered or not answered[0].startswith("200"):
        raise RuntimeError(f"{app.name} answered {answered} to a good token")
