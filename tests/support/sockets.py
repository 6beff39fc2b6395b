"""Servers of raw sockets: what they must read before they answer."""

from __future__ import annotations

import re
import socket

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
