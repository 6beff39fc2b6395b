"""The port of a local pool: when it listens, and that it stays the pool's own meanwhile."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable

from ._server import PoolServer, Receive, bind_socket


class Listener:
    """One port, and the server on it while there is one.

    Args:
        host: the address to listen on.
        port: 0 takes a free one, and keeps to it from then on.
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
        # Held while a server begins or ends, so never by a request's thread: the end waits for those.
        self._lock = threading.RLock()
        self._server: PoolServer | None = None
        self._reserved: socket.socket | None = None  # bound and not listening, while offline

    @property
    def port(self) -> int:
        """The port, once it is known."""
        if not self._port:
            raise RuntimeError("This LocalUserPool has no address yet: use `with pool:` or pool.start().")
        return self._port

    @property
    def is_listening(self) -> bool:
        return self._server is not None

    def listen(self) -> None:
        """Listen, if it does not already."""
        with self._lock:
            if self._server is not None:
                return
            bound = self._reserved or bind_socket(self._host, self._port)
            self._reserved = None
            self._port = bound.getsockname()[1]
            self._server = PoolServer(bound, self._receive, self._clock)

    def refuse(self) -> None:
        """End the server and all its connections, but keep the port from everybody else."""
        with self._lock:
            if self._server is not None:
                self._end_server()
                self._reserved = bind_socket(self._host, self._port)

    def close(self) -> None:
        """End the server and all its connections, and let go of the port."""
        with self._lock:
            self._end_server()
            if self._reserved is not None:
                self._reserved.close()
                self._reserved = None

    def _end_server(self) -> None:
        if self._server is not None:
            self._server.end(self._end_waits)
            self._server = None
