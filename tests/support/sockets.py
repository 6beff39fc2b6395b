"""Free ports for other programs, and servers of raw sockets: what they must read before they answer."""

from __future__ import annotations

import itertools
import os
import re
import socket

# Below the ports that the system gives to connections and to servers that ask for any port (32768 and above
# on Linux): one of those may be taken before the program listens. Each process begins elsewhere.
_numbers = itertools.count(os.getpid() * 61)


def free_port() -> int:
    """Return a port of loopback for a program that cannot choose one itself."""
    while True:
        port = 20_000 + next(_numbers) % 12_000
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port


_LENGTH = re.compile(rb"^content-length:\s*(\d+)", re.IGNORECASE | re.MULTILINE)


def read_request(connection: socket.socket) -> bytes:
    """Read one HTTP request with its body, and return it; less if the client ends it.

    A connection that is closed while a part of the body is unread is reset, and the answer may be lost.
    """
    request = b""
    while b"\r\n\r\n" not in request:
        chunk = connection.recv(65536)
        if not chunk:
            return request
        request += chunk
    head, _, body = request.partition(b"\r\n\r\n")
    length = _LENGTH.search(head)
    left = int(length[1]) - len(body) if length else 0
    while left > 0:
        chunk = connection.recv(left)
        if not chunk:
            break
        request, left = request + chunk, left - len(chunk)
    return request
