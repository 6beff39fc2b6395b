"""The pool, both services and their ports, and the switches that the page has for them."""

from __future__ import annotations

import socket
import threading
from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from flask import Flask
from werkzeug.serving import WSGIRequestHandler, make_server

from flask_m2m_cognito.testing import LocalUserPool

from . import services
from .traffic import Tap, Tapped, shortened, told_token

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication

T = TypeVar("T")

HOST = "127.0.0.1"
SHORT_LIFE = 20
CLIENTS = {
    "shop": "orders/read orders/write",
    "reports": "orders/read",
    "orders": "inventory/read inventory/write",
}


class ExamplePool(LocalUserPool):
    """A local pool that can give orders tokens which end soon: in Cognito a setting of the app client."""

    orders_lifetime: int | None = None

    def token(
        self,
        scopes: Any = None,
        client_id: str | None = None,
        *,
        expires_in: float | None = None,
        **more: Any,
    ) -> str:
        if client_id == "orders" and expires_in is None:
            expires_in = self.orders_lifetime
        return super().token(scopes, client_id, expires_in=expires_in, **more)


class Stage:
    """Two services over a local pool, each on a port of its own. A context manager.

    Args:
        port: orders gets ``port + 1``, inventory ``port + 2``, the pool ``port + 3``; or a free port
            where that one is taken. 0 is free ports for all.
    """

    def __init__(self, port: int = 0) -> None:
        self.tap = Tap()
        self.pool = _started_pool(port and port + 3)
        self._is_online = True
        # Nobody waits 10 s, the default, before pressing the next button.
        self._config = self.pool.config("orders", UNKNOWN_KEY_COOLDOWN=0.1)
        self._inventory = Tapped("inventory", services.create_inventory_app(self._config), self.tap)
        self._inventory_server = LoopbackServer(self._inventory, port and port + 2)
        self._orders = Tapped("orders", self._new_orders_app(), self.tap)
        self._orders_server = LoopbackServer(self._orders, port and port + 1)
        self.urls = {"orders": self._orders_server.url, "inventory": self._inventory_server.url}

    def __enter__(self) -> Stage:
        return self

    def __exit__(self, *error: object) -> None:
        self._orders_server.end()
        self._inventory_server.end()
        self.pool.stop()

    def switch_pool(self, on: bool) -> str:
        """Have the pool listen, or refuse connections. Gives a sentence about it, as all switches do."""
        if on:
            self.pool.online()
        else:
            self.pool.offline()
        self._is_online = on
        if on:
            return "The pool is back. Who missed it rests a moment (Retry-After), and asks at the next call."
        return "The pool is off. Keys and tokens that are in memory go on serving: try to read an order."

    def rotate_key(self) -> str:
        """Have the pool sign with a new key."""
        self.pool.rotate_key()
        return (
            "The pool signs with a new key from now on, and still shows the old ones: tokens that are out go "
            "on working. The first token with the new key costs each service one download."
        )

    def shorten_life(self, on: bool) -> str:
        """Have the pool give orders tokens of 20 s, from the next one on, which is asked for at once."""
        self.pool.orders_lifetime = SHORT_LIFE if on else None
        if not on:
            return "The next token that orders gets lives an hour again."
        self._orders.app = self._new_orders_app()
        return (
            f"Orders has forgotten its token, and those that it gets now live {SHORT_LIFE} s. Read an order "
            "every few seconds: it is renewed before it ends. With the pool off it ends, and that is a 503."
        )

    def restart_orders(self) -> str:
        """Begin orders anew, with nothing in memory."""
        self._orders.app = self._new_orders_app()
        return "Orders has begun anew: its next call needs one download of the keys and one token."

    def state(self) -> dict[str, Any]:
        """What the page shows all the time."""
        asked = self.asked_of_pool()
        hop = self.tap.latest_of_client("orders")
        token = told_token(hop.token) if hop is not None and hop.token else None
        return {
            "pool_on": self._is_online,
            "short_life": self.pool.orders_lifetime is not None,
            "key_downloads": asked["keys"],
            "token_requests": {client: asked[client] for client in CLIENTS},
            "keys": [shortened(kid) for kid in self.pool.kids],
            "orders_token": token and {name: token[name] for name in ("ends_at", "life", "kid")},
        }

    def asked_of_pool(self) -> Counter[str]:
        """How often the pool was asked for ``"keys"``, and for a token by each client id."""
        return Counter(
            "keys" if request.endpoint == "jwks" else request.form.get("client_id", "")
            for request in self.pool.requests
        )

    def _new_orders_app(self) -> Flask:
        return services.create_orders_app({**self._config, "INVENTORY_URL": self._inventory_server.url})


class LoopbackServer:
    """A WSGI application on a loopback port, one thread for each connection, until :meth:`end`.

    Args:
        port: a free one is taken if this one is not; 0 is any.
    """

    def __init__(self, app: WSGIApplication, port: int) -> None:
        with _listening_socket(port) as listening:
            # Werkzeug ends the process when it can't have a port, so it is given a socket.
            self._server = make_server(
                HOST,
                listening.getsockname()[1],
                app,
                threaded=True,
                request_handler=_Handler,
                fd=listening.fileno(),
            )
        self.url = f"http://{HOST}:{self._server.port}"
        self._thread = threading.Thread(target=self._serve, name=f"example-{self._server.port}", daemon=True)
        self._thread.start()

    def end(self) -> None:
        """Stop listening."""
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def _serve(self) -> None:
        self._server.serve_forever(poll_interval=0.05)


class _Handler(WSGIRequestHandler):
    protocol_version = "HTTP/1.1"

    def log(self, type: str, message: str, *args: Any) -> None:
        """Nothing: the page shows what happens."""


def _started_pool(port: int) -> ExamplePool:
    def started(port: int) -> ExamplePool:
        pool = ExamplePool("eu-central-1_Example01", clients=CLIENTS, port=port)
        pool.start()
        return pool

    return _with_fallback(started, port)


def _listening_socket(port: int) -> socket.socket:
    return _with_fallback(lambda port: socket.create_server((HOST, port), backlog=64), port)


def _with_fallback(make: Callable[[int], T], port: int) -> T:
    """What ``make`` gives with this port, or with a free one if it is taken."""
    try:
        return make(port)
    except OSError:
        return make(0)
