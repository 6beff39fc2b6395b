"""HTTP servers on loopback that act as the services which are called with a token."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

REFUSED = 'Bearer realm="peer", error="invalid_token"'

PROXY_VARIABLES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY")


@dataclass(frozen=True)
class Received:
    """A request as the peer received it. ``connection`` is the caller's port, unique for each connection."""

    method: str
    path: str
    authorization: str | None
    body: bytes
    connection: int

    @property
    def token(self) -> str | None:
        """The text after ``Bearer``."""
        return None if self.authorization is None else self.authorization.removeprefix("Bearer ")


@dataclass(frozen=True)
class Reply:
    """A response of the peer."""

    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b"well"
    is_endless: bool = False


def refusal(challenge: str = REFUSED) -> Reply:
    """Return a 401 with this challenge."""
    return Reply(401, {"WWW-Authenticate": challenge})


def redirect(url: str, status: int = 307) -> Reply:
    """Return a redirect to ``url``."""
    return Reply(status, {"Location": url}, b"")


def set_proxy(monkeypatch: pytest.MonkeyPatch, name: str, url: str, no_proxy: str = "") -> None:
    """Set this proxy, and no other, in the environment."""
    for each in PROXY_VARIABLES:
        monkeypatch.delenv(each, raising=False)
        monkeypatch.delenv(each.lower(), raising=False)
    monkeypatch.setenv(name, url)
    monkeypatch.setenv("NO_PROXY", no_proxy)


class Peer:
    """A service on its own loopback port, which records its requests.

    ``answer`` may be replaced at any time. By default it accepts every request.
    """

    def __init__(self, host: str = "127.0.0.1") -> None:
        self.answer: Callable[[Received], Reply] = lambda request: Reply()
        self.received: list[Received] = []
        self._server = _Server(self, host)
        self._accepting = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)

    def __enter__(self) -> Peer:
        self._accepting.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._server.shutdown()
        self._server.end_connections()
        self._server.server_close()

    @property
    def port(self) -> int:
        port: int = self._server.server_address[1]
        return port

    def url(self, path: str = "/", host: str = "127.0.0.1") -> str:
        return f"http://{host}:{self.port}{path}"

    @property
    def tokens(self) -> list[str | None]:
        """The token of each request, in order."""
        return [request.token for request in self.received]

    def refuses(self, *tokens: str) -> None:
        """Refuse these tokens."""
        self.answer = lambda request: refusal() if request.token in tokens else Reply()

    def answers(self, paths: Mapping[str, Reply], refused: str | None = None) -> None:
        """Reply by path. The refused token gets a 401 where the reply would be a 200."""

        def answer(request: Received) -> Reply:
            reply = paths.get(request.path, Reply(404))
            is_refused = refused is not None and request.token == refused and reply.status == 200
            return refusal() if is_refused else reply

        self.answer = answer


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def __init__(self, peer: Peer, host: str) -> None:
        super().__init__((host, 0), _Handler)
        self.peer = peer
        self._open: set[Any] = set()

    def process_request(self, request: Any, client_address: Any) -> None:
        self._open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self._open.discard(request)
        super().shutdown_request(request)

    def end_connections(self) -> None:
        for connection in list(self._open):
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Ignore callers that have disconnected."""


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    protocol_version = "HTTP/1.1"
    wbufsize = -1
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        received = Received(
            self.command, self.path, self.headers["Authorization"], self._body(), self.client_address[1]
        )
        self.server.peer.received.append(received)
        reply = self.server.peer.answer(received)
        self.send_response(reply.status)
        length = {} if reply.is_endless else {"Content-Length": str(len(reply.body))}
        for name, value in {**length, **reply.headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(reply.body)
        while reply.is_endless:
            self.wfile.write(reply.body)

    do_POST = do_PUT = do_PATCH = do_DELETE = do_OPTIONS = do_HEAD = do_GET

    def log_message(self, format: str, *args: Any) -> None:
        """Log nothing."""

    def _body(self) -> bytes:
        if self.headers["Transfer-Encoding"] != "chunked":
            return self.rfile.read(int(self.headers["Content-Length"] or 0))
        body = b""
        while size := int(self.rfile.readline(), 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body
