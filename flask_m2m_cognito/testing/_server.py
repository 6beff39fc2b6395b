"""HTTP for a local pool: reads requests, and sends answers as well or as badly as told."""

from __future__ import annotations

import os
import socket
import struct
import sys
import threading
import uuid
from collections.abc import Callable
from contextlib import suppress
from email.message import Message
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from ._answers import merged_headers
from ._faults import Delivery

HOST = "127.0.0.1"

Receive = Callable[[str, str, Message, bytes], Delivery]


def bound_socket(host: str, port: int) -> socket.socket:
    """A socket that holds a port and does not listen: connections to it are refused."""
    held = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    try:
        if os.name == "posix":
            # On Windows this option lets two processes have one port.
            held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        held.bind((host, port))
    except OSError:
        held.close()
        raise
    return held


def reachable_host(host: str) -> str:
    """Return where this machine reaches a server that listens on ``host``.

    >>> reachable_host("0.0.0.0"), reachable_host("::"), reachable_host("127.0.0.2")
    ('127.0.0.1', '::1', '127.0.0.2')
    """
    return {"0.0.0.0": HOST, "::": "::1"}.get(host, host)


class PoolServer(ThreadingHTTPServer):
    """Listens on a bound socket from when it is made until :meth:`end`, one thread for each connection.

    Args:
        bound: from :func:`bound_socket`; becomes the server's own.
        receive: takes method, target, headers and body of a request, and gives what to send.
        clock: for the ``Date`` header.
    """

    daemon_threads = True
    request_queue_size = 128  # the default of 5 makes a crowd of threads wait a second for a SYN

    def __init__(self, bound: socket.socket, receive: Receive, clock: Callable[[], float]) -> None:
        super().__init__(bound.getsockname(), _Handler, bind_and_activate=False)
        self.socket.close()
        self.socket = bound
        self.receive = receive
        self.clock = clock
        self.ended = threading.Event()
        self._connections: dict[threading.Thread, socket.socket] = {}
        self._ending: list[threading.Thread] = []
        self._connections_lock = threading.Lock()  # the server's own: request threads end under it
        self.server_activate()
        self._accepting = threading.Thread(target=self._accept, name="local-user-pool", daemon=True)
        self._accepting.start()

    def end(self, end_waits: Callable[[], None]) -> None:
        """Stop listening, close every connection, and wait for their threads.

        Args:
            end_waits: makes threads that hang go on. Called when no new one can hang any more.
        """
        self.ended.set()
        end_waits()
        host, port = self.socket.getsockname()[:2]
        with suppress(OSError):
            # Wakes the thread.
            socket.create_connection((reachable_host(host), port), timeout=1).close()
        self._accepting.join()
        with suppress(OSError):
            # Closing is not enough where a forked process still holds a copy of the socket.
            self.socket.shutdown(socket.SHUT_RDWR)
        self.server_close()
        self._end_connections()

    def verify_request(self, request: Any, client_address: Any) -> bool:
        return not self.ended.is_set()

    def process_request(self, request: Any, client_address: Any) -> None:
        thread = threading.Thread(
            target=self.process_request_thread,
            args=(request, client_address),
            name="local-user-pool-connection",
            daemon=True,
        )
        with self._connections_lock:
            self._connections[thread] = request
            # One that has closed its connection may still be ending: end() waits for it too.
            self._ending = [each for each in self._ending if each.is_alive()]
        thread.start()

    def shutdown_request(self, request: Any) -> None:
        # The inherited one says goodbye with a FIN first, which would make a reset look like an end.
        with self._connections_lock:
            if self._connections.pop(threading.current_thread(), None) is not None:
                self._ending.append(threading.current_thread())
            self.close_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exc_info()[1], OSError):  # a client that has gone is no news
            super().handle_error(request, client_address)

    def _accept(self) -> None:
        # Not serve_forever: it looks for its end by polling, which each stop() would wait for.
        while not self.ended.is_set():
            self.handle_request()

    def _end_connections(self) -> None:
        with self._connections_lock:
            for connection in self._connections.values():
                with suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)
            threads = [*self._connections, *self._ending]
        for thread in threads:
            thread.join(timeout=5)


class _Handler(BaseHTTPRequestHandler):
    server: PoolServer
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # head and body in one segment; apart, they meet Nagle and delayed ACKs: 40 ms
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        body = self._body()
        if body is None:
            self.send_error(400)
            return
        self._deliver(self.server.receive(self.command, self.path, self.headers, body))

    do_POST = do_GET

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: a request line may hold a token, and the pool keeps its own record."""

    def _body(self) -> bytes | None:
        """The request's body, or ``None`` if its length is not said, or wrongly."""
        length = self.headers.get("Content-Length", "0")
        if "Transfer-Encoding" in self.headers or not (length.isascii() and length.isdigit()):
            return None
        return self.rfile.read(int(length))

    def _deliver(self, delivery: Delivery) -> None:
        # First of all: a wait that begins after end_waits() would have nobody to end it.
        if self._has_ended():
            return
        fault = delivery.fault
        if delivery.delay:
            delivery.recovered.wait(delivery.delay)
        if fault.hang:
            delivery.recovered.wait()
            self.close_connection = True
            return
        if self._has_ended():
            return
        if fault.reset:
            self._reset()
            return
        self._send(delivery)

    def _has_ended(self) -> bool:
        if self.server.ended.is_set():
            self.close_connection = True
        return self.server.ended.is_set()

    def _reset(self) -> None:
        # Lingering for no time makes the coming close a RST. Windows has two shorts there.
        for_no_time = struct.pack("hh" if os.name == "nt" else "ii", 1, 0)
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, for_no_time)
        self.close_connection = True

    def _send(self, delivery: Delivery) -> None:
        body = delivery.answer.body
        self._send_head(delivery, announced=max(len(body), 1) if delivery.fault.cut_off else len(body))
        if delivery.fault.cut_off:
            body = body[: len(body) // 2]
            self.close_connection = True
        self._send_body(body, delivery)

    def _send_head(self, delivery: Delivery, announced: int) -> None:
        answer = delivery.answer
        headers = merged_headers(
            {
                "Date": formatdate(self.server.clock(), usegmt=True),
                "Content-Length": str(announced),
                self._request_id_header(): str(uuid.uuid4()),
            },
            answer.headers,
        )
        self.send_response_only(answer.status)
        if "content-length" not in {name.lower() for name in headers}:
            headers["Connection"] = "close"
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()

    def _request_id_header(self) -> str:
        """Return the name that Cognito's token endpoint uses, or that of its API."""
        is_token_endpoint = self.path.partition("?")[0] == "/oauth2/token"
        return "x-amz-cognito-request-id" if is_token_endpoint else "x-amzn-RequestId"

    def _send_body(self, body: bytes, delivery: Delivery) -> None:
        drip = delivery.fault.drip
        if drip is not None:
            self.wfile.flush()
            body = self._dripped(body, drip, delivery.recovered)
        self.wfile.write(body)
        self.wfile.flush()

    def _dripped(self, body: bytes, drip: float, recovered: threading.Event) -> bytes:
        """Send at ``drip`` bytes a second; gives what is left when the pool recovers."""
        portion = max(1, int(drip / 20))
        while body and not recovered.wait(portion / drip):
            self.wfile.write(body[:portion])
            self.wfile.flush()
            body = body[portion:]
        return body
