"""A TCP relay on loopback that can drop its connections, as a firewall drops idle ones."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

_RESET_AT_CLOSE = struct.pack("ii", 1, 0)


class Relay:
    """Connect each client to ``port`` of this machine."""

    def __init__(self, port: int, listening: socket.socket) -> None:
        self._behind = port
        self._listening = listening
        self._ends: list[socket.socket] = []
        self._forgotten: set[socket.socket] = set()
        self._resets = False

    @property
    def port(self) -> int:
        port: int = self._listening.getsockname()[1]
        return port

    def forget(self, resets: bool) -> None:
        """Answer the next bytes on each existing connection with a reset, or with nothing."""
        self._resets = resets
        self._forgotten.update(self._ends)

    def accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listening.accept()
                server = socket.create_connection(("127.0.0.1", self._behind))
                self._ends += [client, server]
                for ends in ((client, server), (server, client)):
                    threading.Thread(target=self._pass_on, args=ends, daemon=True).start()

    def _pass_on(self, one: socket.socket, other: socket.socket) -> None:
        with suppress(OSError):
            while content := one.recv(65536):
                if one not in self._forgotten:
                    other.sendall(content)
                elif self._resets:
                    one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_AT_CLOSE)
                    one.close()

    def close(self) -> None:
        for each in (self._listening, *self._ends):
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()


@contextmanager
def relay_to(port: int) -> Iterator[Relay]:
    """Run a relay inside the block."""
    relay = Relay(port, socket.create_server(("127.0.0.1", 0)))
    accepting = threading.Thread(target=relay.accept, daemon=True)
    accepting.start()
    try:
        yield relay
    finally:
        relay.close()
        accepting.join(10)
