"""Requests that a guard does not check, with the packages of docs/guide/what-is-not-guarded.md."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from flask import Flask
from werkzeug.middleware.dispatcher import DispatcherMiddleware
from werkzeug.test import Client

from example_app.stage import LoopbackServer
from flask_m2m_cognito import CognitoM2M, ConfigurationError
from tests.web.conftest import Bearer

# These frameworks import packages that emit deprecation warnings.
pytestmark = pytest.mark.filterwarnings("ignore")

UPGRADE = (
    "Connection: Upgrade",
    "Upgrade: websocket",
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
    "Sec-WebSocket-Version: 13",
)


def statuses_of_upgrade(app: Flask, path: str, *headers: str) -> list[int]:
    """Return the status of each answer on one connection that requests a WebSocket."""
    with served(app) as port, socket.create_connection(("127.0.0.1", port), 10) as connection:
        lines = (f"GET {path} HTTP/1.1", f"Host: 127.0.0.1:{port}", *UPGRADE, *headers, "", "")
        connection.sendall("\r\n".join(lines).encode())
        answers = connection.makefile("rb").read()
    return [int(part[:3]) for part in answers.split(b"HTTP/1.1 ")[1:]]


@contextmanager
def served(app: Flask) -> Iterator[int]:
    server = LoopbackServer(app, 0)
    try:
        yield int(server.url.rpartition(":")[2])
    finally:
        server.end()


def test_other_apps_of_a_dispatcher_are_not_guarded(app: Flask, m2m: CognitoM2M) -> None:
    m2m.protect(app)
    other = Flask("other")
    other.get("/a")(lambda: "open")
    client = Client(DispatcherMiddleware(app, {"/other": other}))
    assert (client.get("/a").status_code, client.get("/other/a").status_code) == (401, 200)


def test_socket_io_events_pass_protect(app: Flask, m2m: CognitoM2M) -> None:
    from flask_socketio import SocketIO

    m2m.protect(app)
    socketio = SocketIO(app, async_mode="threading")
    socketio.on("count")(lambda data: "open")
    client = socketio.test_client(app)
    assert client.emit("count", {}, callback=True) == "open"
    client.disconnect()


class TestFlaskSock:
    def test_guard_below_the_route_runs_after_the_upgrade(self, app: Flask, m2m: CognitoM2M) -> None:
        from flask_sock import Sock

        opened: list[Any] = []
        Sock(app).route("/a")(m2m.require_scopes("a/read")(opened.append))
        assert statuses_of_upgrade(app, "/a") == [101, 401]
        assert opened == []

    def test_protect_rejects_before_the_upgrade(self, app: Flask, m2m: CognitoM2M, bearer: Bearer) -> None:
        from flask_sock import Sock

        m2m.protect(app, "a/read")
        Sock(app).route("/a")(lambda ws: ws.send("a"))
        assert statuses_of_upgrade(app, "/a") == [401]
        allowed = f"Authorization: {bearer('a/read')['Authorization']}"
        assert statuses_of_upgrade(app, "/a", allowed)[0] == 101

    def test_guard_above_the_route_is_an_error(self, app: Flask, m2m: CognitoM2M) -> None:
        from flask_sock import Sock

        def echo(ws: Any) -> None: ...

        with pytest.raises(ConfigurationError, match=r"got None\. Put the route's"):
            m2m.require_scopes("a/read")(Sock(app).route("/a")(echo))
