"""The port of a local pool, which the pool keeps while it is offline."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable

from ._server import PoolServer, Receive, bind_socket


class Listener:
    """One port, and the server on it while the pool listens.

    Args:
        host: the address to listen on.
        port: 0 takes a free one, and keeps it from then on.
        receive, clock: see :class:`PoolServer`.
        end_waits: ends every hang.
    """

    def __init__(
        self,
        host: str,
        port: int,
        receive: Receive,
        clock: Callable[[], float],
        end_waits: Callable[[], None],
    ) -> None:
        self._host = host
        self._port = port
        self._receive = receive
        self._clock = clock
        self._end_waits = end_waits
        # Held while a server starts or stops. No request's thread takes it: stopping waits for those.
        self._lock = threading.RLock()
        self._server: PoolServer | None = None
        self._reserved: socket.socket | None = None  # bound, but not listening, while offline

    @property
    def port(self) -> int:
        """The port. It is known from the first start on."""
        if not self._port:
            raise RuntimeError(
                "This LocalUserPool has not been started: use `with pool:` or call pool.start()."
            )
        return self._port

    @property
    def is_listening(self) -> bool:
        return self._server is not None

    def listen(self) -> None:
        """Start to listen, unless the port already listens."""
        with self._lock:
            if self._server is not None:
                return
            bound = self._reserved or bind_socket(self._host, self._port)
            self._reserved = None
            self._port = bound.getsockname()[1]
            self._server = PoolServer(bound, self._receive, self._clock)

    def refuse(self) -> None:
        """Stop the server and close its connections, but keep the port reserved."""
        with self._lock:
            if self._server is not None:
                self._end_server()
                self._reserved = bind_socket(self._host, self._port)

    def close(self) -> None:
        """Stop the server, close its connections, and release the port."""
        with self._lock:
            self._end_server()
            if self._reserved is not None:
                self._reserved.close()
                self._reserved = None

    def _end_server(self) -> None:
        if self._server is not None:
            self._server.end(self._end_waits)
            self._server = None
