"""The pool, both services with their ports, and what the page's switches do."""

from __future__ import annotations

import socket
import threading
from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from flask import Flask
from werkzeug.serving import WSGIRequestHandler, make_server

from flask_m2m_cognito.testing import LocalUserPool, RecordedRequest

from . import plain, services
from .timeline import Events
from .traffic import Tap, Tapped, describe_token, shortened

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
    """A local pool that can issue short-lived tokens to orders, as a setting of the app client does."""

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
    """Two services and a local pool, each on a port of its own. A context manager.

    Args:
        port: orders uses ``port + 1``, inventory ``port + 2``, the pool ``port + 3``. A port that is in
            use is replaced by a free one. 0 means free ports for all.
    """

    def __init__(self, port: int = 0) -> None:
        self.tap = Tap()
        self.events = Events()
        self.pool = _start_pool(port and port + 3)
        self._is_online = True
        # Users press the next button sooner than 10 s, the default, after the last one.
        self._config = self.pool.config("orders", UNKNOWN_KEY_COOLDOWN=0.1)
        self._inventory = Tapped("inventory", services.create_inventory_app(self._config), self.tap)
        self._inventory_server = LoopbackServer(self._inventory, port and port + 2)
        self._orders = Tapped("orders", self._new_orders_app(), self.tap)
        self._orders_server = LoopbackServer(self._orders, port and port + 1)
        self._plain_keys = plain.create_key_client(self.pool.jwks_url)
        plain_app = plain.create_plain_app(self._plain_keys, self.pool.issuer)
        self._plain_server = LoopbackServer(Tapped("plain", plain_app, self.tap), 0)
        self.plain_url = self._plain_server.url
        self.urls = {"orders": self._orders_server.url, "inventory": self._inventory_server.url}

    def __enter__(self) -> Stage:
        return self

    def __exit__(self, *error: object) -> None:
        self._plain_server.end()
        self._orders_server.end()
        self._inventory_server.end()
        self.pool.stop()

    def switch_pool(self, on: bool) -> str:
        """Make the pool listen or refuse connections. Return a message, as all switches do.

        The outage is a long one: the keys of the plain decorator expire at its start. Those of orders are
        usable for a day.
        """
        if on:
            self.pool.online()
        else:
            self.pool.offline()
            plain.expire_keys(self._plain_keys)
        self._is_online = on
        self.events.set_online(on)
        if on:
            return "The pool is on. After a failed fetch, a service tries again when its Retry-After is over."
        return (
            "The pool is off. The plain decorator's keys expire at once, and not after 5 minutes (PyJWT's "
            "default). Read an order: cached keys and tokens still work."
        )

    def rotate_key(self) -> str:
        """Make the pool sign with a new key."""
        self.pool.rotate_key()
        self.events.add_mark("rotation", "new key")
        return (
            "The pool now signs with a new key, and still publishes the old ones, so earlier tokens stay "
            "valid. The first token with the new key makes each service download the keys once."
        )

    def shorten_life(self, on: bool) -> str:
        """Make the pool issue tokens of 20 s to orders, and restart orders so that it requests one."""
        self.pool.orders_lifetime = SHORT_LIFE if on else None
        if not on:
            return "The next token of orders is valid for an hour again."
        self.restart_orders()
        return (
            f"Orders has restarted, and its tokens now expire after {SHORT_LIFE} s. Read an order every few "
            "seconds: the token is renewed before it expires. With the pool off it expires, and you get 503."
        )

    def restart_orders(self) -> str:
        """Restart orders, with nothing in memory."""
        self._orders.app = self._new_orders_app()
        self.events.add_mark("restart", "orders restarted")
        return "Orders has restarted. Its next call downloads the keys and requests one token."

    def state(self) -> dict[str, Any]:
        """Return what the picture at the top of the page shows."""
        counts = self.pool_request_counts()
        hop = self.tap.latest_of_client("orders")
        token = describe_token(hop.token) if hop is not None and hop.token else None
        return {
            "pool_on": self._is_online,
            "short_life": self.pool.orders_lifetime is not None,
            "key_downloads": counts["keys"],
            "token_requests": {client: counts[client] for client in CLIENTS},
            "keys": [shortened(kid) for kid in self.pool.kids],
            "orders_token": token and {name: token[name] for name in ("expires_at", "lifetime", "kid")},
            "health": services.orders_m2m.for_app(self._orders.app).health(),
            "timeline": self.events.describe(self.tap.since(0), self.pool_requests()),
        }

    def pool_request_counts(self) -> Counter[str]:
        """Count the requests to the pool: ``"keys"`` for its keys, a client id for that client's tokens."""
        return Counter(
            "keys" if request.endpoint == "jwks" else request.form.get("client_id", "")
            for request in self.pool_requests()
        )

    def pool_requests(self) -> list[RecordedRequest]:
        """Return the requests to the pool, without those of the service that is only there to compare."""
        return [each for each in self.pool.requests if each.headers["User-Agent"] != plain.AGENT]

    def _new_orders_app(self) -> Flask:
        return services.create_orders_app({**self._config, "INVENTORY_URL": self._inventory_server.url})


class LoopbackServer:
    """Serve a WSGI application on a loopback port, one thread per connection, until :meth:`end`.

    Args:
        port: if it is in use, a free one replaces it. 0 means any free port.
    """

    def __init__(self, app: WSGIApplication, port: int) -> None:
        with _listening_socket(port) as listening:
            # Werkzeug ends the process when a port is in use, so it gets a socket that listens.
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
        """Log nothing: the page shows the requests."""


def _start_pool(port: int) -> ExamplePool:
    def start(port: int) -> ExamplePool:
        pool = ExamplePool("eu-central-1_Example01", clients=CLIENTS, port=port)
        pool.start()
        return pool

    return _with_fallback(start, port)


def _listening_socket(port: int) -> socket.socket:
    return _with_fallback(lambda port: socket.create_server((HOST, port), backlog=64), port)


def _with_fallback(make: Callable[[int], T], port: int) -> T:
    """Return what ``make`` returns for this port, or for a free one if this one is in use."""
    try:
        return make(port)
    except OSError:
        return make(0)
