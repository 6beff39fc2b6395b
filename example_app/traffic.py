"""The requests between the services: recorded in front of each, and shown without secrets."""

from __future__ import annotations

import functools
import inspect
import threading
import time
from collections import deque
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
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
    "sub": "The subject: the client id in a machine token, a UUID in a user's token.",
    "token_use": "“access” is for calling an API. An ID token has “id”, and is rejected.",
    "scope": "The scopes that the pool granted to this client.",
    "iss": "The issuer: the URL of the user pool. Its keys are published below it.",
    "client_id": "The app client that it was issued to.",
    "exp": "When it expires, in seconds since 1970.",
    "iat": "When it was issued.",
    "auth_time": "When the client authenticated with its secret.",
    "jti": "The id of this token.",
    "version": "The version of Cognito's token format.",
    "username": "The user's name. A machine token has none.",
    "cognito:groups": "The user's groups in the pool.",
    "origin_jti": "An id of the user's sign-in.",
    "event_id": "An id of the user's sign-in.",
}


_SERVICES = Path(__file__).with_name("services.py")


@dataclass(frozen=True)
class Line:
    """The line of ``services.py`` that decided a response."""

    number: int
    text: str


@dataclass(frozen=True)
class Hop:
    """One request to a service, and its response."""

    service: str
    request: Request = field(repr=False)
    response: Response = field(repr=False)
    line: Line | None
    started: float
    seconds: float

    @property
    def token(self) -> str | None:
        """The text after ``Bearer``."""
        scheme, _, token = self.request.headers.get("Authorization", "").partition(" ")
        return token if scheme == "Bearer" else None

    @property
    def reason(self) -> str | None:
        """Why it was rejected, or ``None``."""
        return _problem(self.response).get("reason")

    @property
    def sent_by(self) -> Line | None:
        """The line that added the token, or ``None`` if the caller is not one of the two services."""
        return _session_line(_SERVICES) if _caller_of(self) == "orders" else None


class Tap:
    """Keep the latest hops of all services, in the order in which they began."""

    def __init__(self) -> None:
        self._hops: deque[Hop] = deque(maxlen=1000)
        self._lock = threading.Lock()

    def add(self, hop: Hop) -> None:
        with self._lock:
            self._hops.append(hop)

    def since(self, moment: float) -> list[Hop]:
        """Return the hops that began at or after ``moment`` of ``time.perf_counter``."""
        with self._lock:
            return sorted((hop for hop in self._hops if hop.started >= moment), key=lambda hop: hop.started)

    def latest_of_client(self, client_id: str) -> Hop | None:
        """Return the latest hop with a token of this client."""
        with self._lock:
            return next((hop for hop in reversed(self._hops) if _caller_of(hop) == client_id), None)


class Tapped:
    """Record the requests of a Flask application. ``app`` may be replaced by another."""

    def __init__(self, name: str, app: Flask, tap: Tap) -> None:
        self.name = name
        self.app = app
        self._tap = tap

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        app, request, started = self.app, Request(environ), time.perf_counter()
        response = Response.from_app(app, environ, buffered=True)
        seconds = time.perf_counter() - started
        line = _deciding_line(app, request, _problem(response).get("reason"))
        self._tap.add(Hop(self.name, request, response, line, started, seconds))
        return response(environ, start_response)


def describe_hop(hop: Hop) -> dict[str, Any]:
    """Return a hop as the page shows it."""
    return {
        "from": _caller_of(hop) or "anonymous",
        "to": hop.service,
        "request": _request_lines(hop.request),
        "token": None if hop.token is None else describe_token(hop.token),
        "status": hop.response.status_code,
        "response": [f"HTTP/1.1 {hop.response.status}", *_header_lines(hop.response)],
        "body": _body_text(hop.response),
        "reason": hop.reason,
        "milliseconds": round(hop.seconds * 1000, 1),
        "line": None if hop.line is None else asdict(hop.line),
        "sent_by": None if hop.sent_by is None else asdict(hop.sent_by),
    }


def describe_token(token: str) -> dict[str, Any] | None:
    """Return a token's unverified claims with their meaning, or ``None`` if it is malformed."""
    claims = decode_unverified(token)
    if not claims:
        return None
    return {
        "short": shortened(token),
        "kid": shortened(str(jwt.get_unverified_header(token).get("kid"))),
        "expires_at": claims.get("exp"),
        "lifetime": claims.get("exp", 0) - claims.get("iat", 0),
        "claims": [
            {"name": name, "value": value, "meaning": MEANINGS.get(name, "")}
            for name, value in claims.items()
        ],
    }


def decode_unverified(token: str) -> dict[str, Any]:
    """Return a token's claims without verifying it, or an empty dict if it is malformed."""
    try:
        claims: dict[str, Any] = jwt.decode(token, options={"verify_signature": False})
    except jwt.PyJWTError:
        return {}
    return claims


def shortened(text: str) -> str:
    """Return enough of a token or a key id to distinguish it from others.

    >>> shortened("eyJraWQiOiJhYmMifQ.eyJzdWIiOiJvcmRlcnMifQ.c2lnbmF0dXJl")
    'eyJraWQi…dXJl'
    """
    return text if len(text) <= 20 else f"{text[:8]}…{text[-4:]}"


def _caller_of(hop: Hop) -> str | None:
    return decode_unverified(hop.token).get("client_id") if hop.token else None


def _request_lines(request: Request) -> list[str]:
    lines = [f"{request.method} {request.path} HTTP/1.1", f"Host: {request.host}"]
    scheme, _, credentials = request.headers.get("Authorization", "").partition(" ")
    return [*lines, f"Authorization: {scheme} {shortened(credentials)}"] if scheme else lines


def _header_lines(response: Response) -> list[str]:
    return [f"{name}: {value}" for name, value in response.headers]


def _body_text(response: Response) -> str:
    return response.get_data(as_text=True).strip()


def _problem(response: Response) -> dict[str, Any]:
    """Return the members of an RFC 9457 body, or an empty dict."""
    if response.mimetype != "application/problem+json":
        return {}
    problem: dict[str, Any] = response.get_json()
    return problem


def _deciding_line(app: Flask, request: Request, reason: str | None) -> Line | None:
    try:
        endpoint, _ = app.url_map.bind_to_environ(request.environ).match()
    except HTTPException:
        return None
    view: Any = inspect.unwrap(app.view_functions[endpoint])
    path = Path(view.__code__.co_filename)
    source = _lines_of(path)
    above = range(view.__code__.co_firstlineno, 0, -1)  # from the view's decorators up
    if reason == "client_not_allowed":
        return _first_line_with("COGNITO_M2M_ALLOWED_CLIENT_IDS", source, above)
    if reason == "token_unavailable":
        return _session_line(path)
    return _first_line_with(".require_scopes(", source, range(view.__code__.co_firstlineno, len(source) + 1))


def _session_line(path: Path) -> Line | None:
    source = _lines_of(path)
    return _first_line_with("_m2m.session(", source, range(1, len(source) + 1))


@functools.cache
def _lines_of(path: Path) -> list[str]:
    return path.read_text("utf-8").splitlines()


def _first_line_with(text: str, source: list[str], numbers: Iterable[int]) -> Line | None:
    return next(
        (Line(number, source[number - 1].strip()) for number in numbers if text in source[number - 1]), None
    )


def phrase_of(status: int) -> str:
    """Return a status with its reason phrase: ``"403 Forbidden"``."""
    return f"{status} {HTTP_STATUS_CODES.get(status, '')}".strip()
