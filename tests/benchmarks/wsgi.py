"""Call a small application with raw WSGI: no test client, no socket."""

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
    """Return an application with one view, ``/items``, guarded by ``guard`` if there is one."""
    app = Flask(name)

    def items() -> str:
        return "some"

    app.add_url_rule("/items", view_func=items if guard is None else guard(app)(items))
    return app


def guard_of(subject: Subject, address: Address) -> Callable[[Flask], Decorator]:
    """Return the subject's guard for tokens of the pool at ``address``."""
    guard = subject.guard
    assert guard is not None
    return lambda app: guard(app, address)


def caller(name: str, app: Flask, tokens: Sequence[str], times: int, path: str = "/items") -> Contender:
    """Return a contender that sends requests to ``app``, each with its own environ and header string.

    Raises:
        RuntimeError: the application does not accept the first token.
    """
    template = EnvironBuilder(path).get_environ()
    _check(app, environs(template, tokens, 1)[0])
    return Contender(
        name, functools.partial(serve, app), functools.partial(environs, template, tokens, times)
    )


def environs(template: Environ, tokens: Sequence[str], times: int) -> list[Environ]:
    """Return the environs of ``times`` requests."""
    return [
        {**template, "HTTP_AUTHORIZATION": "".join(("Bearer ", token))}
        for token in random.choices(tokens, k=times)
    ]


def serve(app: Flask, requests: Sequence[Environ]) -> None:
    """Answer all requests, as a server would."""
    wsgi_app = app.wsgi_app
    for environ in requests:
        body = wsgi_app(environ, _start_response)
        b"".join(body)
        body.close()  # type: ignore[attr-defined]


def _start_response(status: str, headers: object, exc_info: object = None) -> Any:
    return None


def _check(app: Flask, environ: Environ) -> None:
    statuses: list[str] = []

    def start_response(status: str, headers: object, exc_info: object = None) -> Any:
        statuses.append(status)

    b"".join(app.wsgi_app(environ, start_response))
    if not statuses or not statuses[0].startswith("200"):
        raise RuntimeError(f"{app.name} answered {statuses} to a valid token")
