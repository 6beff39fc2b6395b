"""What went over the wire between the services: recorded in front of each, and told without secrets."""

from __future__ import annotations

import inspect
import threading
import time
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jwt
from flask import Flask
from werkzeug.exceptions import HTTPException
from werkzeug.http import HTTP_STATUS_CODES
from werkzeug.wrappers import Request, Response

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

MEANINGS = {
    "sub": "Whom the token is about: in a machine's token its client id, in a person's a UUID.",
    "token_use": "“access” is for calling an API; an ID token says “id”, and is refused.",
    "scope": "What its bearer may do, granted by the pool to this client.",
    "iss": "Who issued it: the URL of the user pool, under which the keys are found too.",
    "client_id": "Which app client it was issued to.",
    "exp": "When it ends, in seconds since 1970.",
    "iat": "When it was issued.",
    "auth_time": "When the client showed its secret.",
    "jti": "The token's own id.",
    "version": "The version of Cognito's token format.",
    "username": "Only people have one: this is not a machine's token.",
    "cognito:groups": "A person's groups in the pool.",
    "origin_jti": "Belongs to a person's sign-in.",
    "event_id": "Belongs to a person's sign-in.",
}


@dataclass(frozen=True)
class Line:
    """The line of ``services.py`` that an answer comes from."""

    number: int
    text: str


@dataclass(frozen=True)
class Hop:
    """One request that reached a service, and its answer."""

    service: str
    request: Request = field(repr=False)
    response: Response = field(repr=False)
    line: Line | None
    started: float
    seconds: float

    @property
    def token(self) -> str | None:
        """What stood after ``Bearer``."""
        scheme, _, token = self.request.headers.get("Authorization", "").partition(" ")
        return token if scheme == "Bearer" else None

    @property
    def reason(self) -> str | None:
        """Why it was refused, if it was."""
        return _problem(self.response).get("reason")


class Tap:
    """Remembers the latest hops of all services, in the order in which they began."""

    def __init__(self) -> None:
        self._hops: deque[Hop] = deque(maxlen=100)
        self._lock = threading.Lock()

    def add(self, hop: Hop) -> None:
        with self._lock:
            self._hops.append(hop)

    def since(self, moment: float) -> list[Hop]:
        """The hops that began after ``moment`` of ``time.perf_counter``."""
        with self._lock:
            return sorted((hop for hop in self._hops if hop.started >= moment), key=lambda hop: hop.started)

    def latest_of_client(self, client_id: str) -> Hop | None:
        """The latest hop with a token of this client's."""
        with self._lock:
            return next((hop for hop in reversed(self._hops) if _caller_of(hop) == client_id), None)


class Tapped:
    """A WSGI application in front of a Flask application, which may be replaced by another."""

    def __init__(self, name: str, app: Flask, tap: Tap) -> None:
        self.name = name
        self.app = app
        self._tap = tap

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        app, request, started = self.app, Request(environ), time.perf_counter()
        response = Response.from_app(app, environ, buffered=True)
        line = _line_behind(app, request, _problem(response).get("reason"))
        self._tap.add(Hop(self.name, request, response, line, started, time.perf_counter() - started))
        return response(environ, start_response)


def told(hop: Hop) -> dict[str, Any]:
    """A hop as the page shows it."""
    return {
        "from": _caller_of(hop) or "somebody",
        "to": hop.service,
        "request": _request_lines(hop.request),
        "token": None if hop.token is None else told_token(hop.token),
        "status": hop.response.status_code,
        "answer": [f"HTTP/1.1 {hop.response.status}", *_header_lines(hop.response)],
        "body": _body_text(hop.response),
        "reason": hop.reason,
        "milliseconds": round(hop.seconds * 1000, 1),
        "line": None if hop.line is None else {"number": hop.line.number, "text": hop.line.text},
    }


def told_token(token: str) -> dict[str, Any] | None:
    """A token's claims with their meaning, as it says itself; ``None`` if it says nothing."""
    claims = claims_in(token)
    if not claims:
        return None
    return {
        "short": shortened(token),
        "kid": shortened(str(jwt.get_unverified_header(token).get("kid"))),
        "ends_at": claims.get("exp"),
        "life": claims.get("exp", 0) - claims.get("iat", 0),
        "claims": [
            {"name": name, "value": value, "meaning": MEANINGS.get(name, "")}
            for name, value in claims.items()
        ],
    }


def claims_in(token: str) -> dict[str, Any]:
    """What a token says of itself, believed by nobody; nothing, if it is no token."""
    try:
        claims: dict[str, Any] = jwt.decode(token, options={"verify_signature": False})
    except jwt.PyJWTError:
        return {}
    return claims


def shortened(text: str) -> str:
    """Enough of a token or a key id to tell it from another.

    >>> shortened("eyJraWQiOiJhYmMifQ.eyJzdWIiOiJvcmRlcnMifQ.c2lnbmF0dXJl")
    'eyJraWQi…dXJl'
    """
    return text if len(text) <= 20 else f"{text[:8]}…{text[-4:]}"


def _caller_of(hop: Hop) -> str | None:
    return claims_in(hop.token).get("client_id") if hop.token else None


def _request_lines(request: Request) -> list[str]:
    lines = [f"{request.method} {request.path} HTTP/1.1", f"Host: {request.host}"]
    scheme, _, rest = request.headers.get("Authorization", "").partition(" ")
    return [*lines, f"Authorization: {scheme} {shortened(rest)}"] if scheme else lines


def _header_lines(response: Response) -> list[str]:
    return [f"{name}: {value}" for name, value in response.headers]


def _body_text(response: Response) -> str:
    return response.get_data(as_text=True).strip()


def _problem(response: Response) -> dict[str, Any]:
    """The members of an RFC 9457 body."""
    if response.mimetype != "application/problem+json":
        return {}
    problem: dict[str, Any] = response.get_json()
    return problem


def _line_behind(app: Flask, request: Request, reason: str | None) -> Line | None:
    try:
        endpoint, _ = app.url_map.bind_to_environ(request.environ).match()
    except HTTPException:
        return None
    view: Any = inspect.unwrap(app.view_functions[endpoint])
    source = Path(view.__code__.co_filename).read_text("utf-8").splitlines()
    above = range(view.__code__.co_firstlineno, 0, -1)  # from the view's decorators up
    if reason == "client_not_allowed":
        return _first_line_with("COGNITO_M2M_ALLOWED_CLIENT_IDS", source, above)
    if reason == "token_unavailable":
        return _first_line_with("_m2m.session(", source, range(1, len(source) + 1))
    return _first_line_with(".require_scopes(", source, range(view.__code__.co_firstlineno, len(source) + 1))


def _first_line_with(text: str, source: list[str], numbers: Iterable[int]) -> Line | None:
    return next(
        (Line(number, source[number - 1].strip()) for number in numbers if text in source[number - 1]), None
    )


def phrase_of(status: int) -> str:
    """A status with its words: ``"403 Forbidden"``."""
    return f"{status} {HTTP_STATUS_CODES.get(status, '')}".strip()
