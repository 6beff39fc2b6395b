"""The HTTP server of a local pool: reads requests, and sends answers with the faults that a test sets."""

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

from ._answers import Answer, merge_headers
from ._faults import Delivery

HOST = "127.0.0.1"

Receive = Callable[[str, str, Message, bytes], Delivery]


def bind_socket(host: str, port: int) -> socket.socket:
    """Return a socket that is bound to a port but does not listen: connections to it are refused."""
    bound = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    try:
        if os.name == "posix":
            # On Windows this option lets two processes bind one port.
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind((host, port))
    except OSError:
        bound.close()
        raise
    return bound


def reachable_host(host: str) -> str:
    """Return the address at which this machine reaches a server that listens on ``host``.

    >>> reachable_host("0.0.0.0"), reachable_host("::"), reachable_host("127.0.0.2")
    ('127.0.0.1', '::1', '127.0.0.2')
    """
    return {"0.0.0.0": HOST, "::": "::1"}.get(host, host)


class PoolServer(ThreadingHTTPServer):
    """Listens on a bound socket until :meth:`end`, with one thread for each connection.

    Args:
        bound: a socket from :func:`bind_socket`. The server owns it from then on.
        receive: takes method, target, headers and body of a request, and returns the answer.
        clock: for the ``Date`` header.
    """

    daemon_threads = True
    request_queue_size = 128  # with the default of 5, many threads at once wait a second for a SYN

    def __init__(self, bound: socket.socket, receive: Receive, clock: Callable[[], float]) -> None:
        super().__init__(bound.getsockname(), _Handler, bind_and_activate=False)
        self.socket.close()
        self.socket = bound
        self.receive = receive
        self.clock = clock
        self.ended = threading.Event()
        self._connections: dict[threading.Thread, socket.socket] = {}
        self._closing = threading.Lock()  # keeps a socket from being shut down while it is closed
        self.server_activate()
        self._accepting = threading.Thread(target=self._accept, name="local-user-pool", daemon=True)
        self._accepting.start()

    def end(self, end_waits: Callable[[], None]) -> None:
        """Stop listening, close all connections, and wait for their threads.

        Args:
            end_waits: releases threads that hang. Called when no other thread can start to hang.
        """
        self.ended.set()
        end_waits()
        host, port = self.socket.getsockname()[:2]
        with suppress(OSError):
            # This connection wakes the accepting thread.
            socket.create_connection((reachable_host(host), port), timeout=1).close()
        self._accepting.join()
        with suppress(OSError):
            # Closing is not enough if a forked process still has a copy of the socket.
            self.socket.shutdown(socket.SHUT_RDWR)
        self.server_close()
        with self._closing:
            for connection in self._connections.values():
                with suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)
        for thread in self._connections:
            thread.join(timeout=5)

    def verify_request(self, request: Any, client_address: Any) -> bool:
        return not self.ended.is_set()

    def process_request(self, request: Any, client_address: Any) -> None:
        thread = threading.Thread(
            target=self.process_request_thread,
            args=(request, client_address),
            name="local-user-pool-connection",
            daemon=True,
        )
        # A thread may still run after it closed its connection: end() waits for it too.
        self._connections = {each: held for each, held in self._connections.items() if each.is_alive()}
        self._connections[thread] = request
        thread.start()

    def shutdown_request(self, request: Any) -> None:
        # The inherited method sends a FIN first, which would turn a reset into a normal close.
        with self._closing:
            self.close_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exc_info()[1], OSError):  # ignore a client that disconnected
            super().handle_error(request, client_address)

    def _accept(self) -> None:
        # serve_forever() is not used: it polls for its end, and each stop() would wait for that.
        while not self.ended.is_set():
            self.handle_request()


class _Handler(BaseHTTPRequestHandler):
    server: PoolServer
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # send head and body in one segment: two segments cost 40 ms, by Nagle and delayed ACKs
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        length = self.headers.get("Content-Length", "0")
        if "Transfer-Encoding" in self.headers or not (length.isascii() and length.isdigit()):
            self.send_error(400)
            return
        body = self.rfile.read(int(length))
        self._deliver(self.server.receive(self.command, self.path, self.headers, body))

    do_POST = do_GET

    def log_message(self, format: str, *args: Any) -> None:
        """Do nothing: a request line may hold a token, and the pool keeps its own record."""

    def _deliver(self, delivery: Delivery) -> None:
        # Check first: nothing would end a wait that starts after end_waits().
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
        # A linger time of 0 makes close() send a RST. On Windows the structure has two shorts.
        for_no_time = struct.pack("hh" if os.name == "nt" else "ii", 1, 0)
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, for_no_time)
        self.close_connection = True

    def _send(self, delivery: Delivery) -> None:
        body, fault = delivery.answer.body, delivery.fault
        self._send_head(delivery.answer, announced=max(len(body), 1) if fault.cut_off else len(body))
        if fault.cut_off:
            body = body[: len(body) // 2]
            self.close_connection = True
        if fault.drip is not None:
            self.wfile.flush()
            body = self._drip(body, fault.drip, delivery.recovered)
        self.wfile.write(body)
        self.wfile.flush()

    def _send_head(self, answer: Answer, announced: int) -> None:
        # Cognito's token endpoint and its API use different names for this header.
        is_token_endpoint = self.path.partition("?")[0] == "/oauth2/token"
        request_id = "x-amz-cognito-request-id" if is_token_endpoint else "x-amzn-RequestId"
        own = {
            "Date": formatdate(self.server.clock(), usegmt=True),
            "Content-Length": str(announced),
            request_id: str(uuid.uuid4()),
        }
        self.send_response_only(answer.status)
        for name, value in merge_headers(own, answer.headers).items():
            if value is not None:
                self.send_header(name, value)
            elif name.lower() == "content-length":
                self.send_header("Connection", "close")
        self.end_headers()

    def _drip(self, body: bytes, drip: float, recovered: threading.Event) -> bytes:
        """Send ``drip`` bytes a second. Return the unsent bytes when the pool recovers."""
        portion = max(1, int(drip / 20))
        while body and not recovered.wait(portion / drip):
            self.wfile.write(body[:portion])
            self.wfile.flush()
            body = body[portion:]
        return body
