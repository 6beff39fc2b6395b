"""A ``requests`` session whose every wait on the socket ends by one deadline.

Imported when the first request is made, since ``requests`` takes longer to import than Flask.
"""

from __future__ import annotations

import io
import socket
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any, NamedTuple

import requests
from urllib3 import exceptions as urllib3_errors
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

from .loopback_adapter import LoopbackAdapter
from .redaction import proxy_urls
from .transport import Deadline, TransportError


def bounded_session(deadline: Deadline, read_timeout: float) -> requests.Session:
    """A session for one request on this thread, that ends by ``deadline`` whatever the server does."""
    _bound.set(_Bound(deadline, read_timeout))
    session = requests.Session()
    # Otherwise an entry for the host in ~/.netrc adds Basic credentials of its own.
    session.auth = _unchanged
    for prefix in ("https://", "http://"):
        session.mount(prefix, _BoundedAdapter())
    return session


def failure_from(
    error: Exception, place: str, seconds: float, redact: Callable[[str], str]
) -> TransportError:
    """What ``error`` means, without the request, response and traceback that it holds."""
    is_timeout = _is_timeout(error)
    reason = f"no answer in time, at most {seconds:.3g} s" if is_timeout else _root_text(error, redact)
    return TransportError(
        f"{place}: {reason}",
        is_timeout=is_timeout,
        may_retry=not is_timeout and isinstance(error, _CONNECTION_ERRORS),
        cause=_bare_copy(error, reason),
    )


_LONGEST_TEXT = 300
_UNUSABLE_PROXY = (
    "the proxy of HTTP_PROXY, HTTPS_PROXY or ALL_PROXY cannot be used: check its URL "
    "(a SOCKS proxy needs requests[socks])"
)


class _Bound(NamedTuple):
    deadline: Deadline
    read_timeout: float

    def seconds(self) -> float:
        """For one wait: the read timeout, or what is left."""
        return min(self.left(), self.read_timeout)

    def left(self) -> float:
        left = self.deadline.left()
        if left <= 0:
            raise TimeoutError("the deadline has passed")
        return left


_bound: ContextVar[_Bound] = ContextVar("cognito_m2m_bound")

_CONNECTION_ERRORS = (
    requests.ConnectionError,
    requests.exceptions.ChunkedEncodingError,
    urllib3_errors.ProtocolError,
    ConnectionError,
)


class _BoundedReader(io.RawIOBase):
    """The socket's bytes; each read waits for what is left of the deadline, not for its own time anew."""

    def __init__(self, sock: Any, bound: _Bound) -> None:
        self._sock = sock
        self._bound = bound
        # SocketIO keeps the socket open after the connection object lets go of it.
        self._file = socket.socket.makefile(sock, "rb", buffering=0)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        self._sock.settimeout(self._bound.seconds())
        return self._file.readinto(buffer)

    def close(self) -> None:
        self._file.close()
        super().close()


class _BoundedSocket:
    """A socket with a deadline, as far as ``http.client`` uses one."""

    def __init__(self, sock: Any, bound: _Bound) -> None:
        self._sock = sock
        self._bound = bound

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sock, name)

    def makefile(self, *_: Any, **__: Any) -> io.BufferedReader:
        return io.BufferedReader(_BoundedReader(self._sock, self._bound))

    def sendall(self, content: Any) -> None:
        self._sock.settimeout(self._bound.seconds())
        self._sock.sendall(content)


class _Connection(HTTPConnection):
    def _new_conn(self) -> socket.socket:
        return _connected(self, super()._new_conn)

    def connect(self) -> None:
        super().connect()
        self.sock: Any = _BoundedSocket(self.sock, _bound.get())


class _SecureConnection(HTTPSConnection):
    def _new_conn(self) -> socket.socket:
        return _connected(self, super()._new_conn)

    def connect(self) -> None:
        super().connect()
        self.sock: Any = _BoundedSocket(self.sock, _bound.get())


def _connected(connection: HTTPConnection, connect: Callable[[], socket.socket]) -> socket.socket:
    """A connected socket, by the deadline: urllib3 gives each address of a host the whole time anew."""
    bound, host = _bound.get(), connection.host
    timeout = connection.timeout or bound.read_timeout
    for address, is_last in _addresses(host, connection.port):
        connection.host = address
        connection.timeout = min(timeout, bound.left())
        try:
            sock = connect()
        except (urllib3_errors.NewConnectionError, urllib3_errors.ConnectTimeoutError):
            if is_last:
                raise
        else:
            # The TLS handshake takes this time, and not what connecting had. Nothing may raise here: the
            # socket would stay open. With no time left the next wait ends at once.
            sock.settimeout(min(timeout, max(bound.deadline.left(), 0.001)))
            return sock
        finally:
            connection.host = host
    raise AssertionError("a host has at least one address")


def _addresses(host: str, port: int) -> list[tuple[str, bool]]:
    """The addresses of ``host``, and whether each is the last; ``host`` itself if there are none."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        found = []
    addresses = list(dict.fromkeys(str(address[0]) for *_, address in found)) or [host]
    return [(address, address == addresses[-1]) for address in addresses]


class _Pool(HTTPConnectionPool):
    ConnectionCls = _Connection


class _SecurePool(HTTPSConnectionPool):
    ConnectionCls = _SecureConnection


class _BoundedAdapter(LoopbackAdapter):
    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs)
        self.poolmanager.pool_classes_by_scheme = {"http": _Pool, "https": _SecurePool}

    def proxy_manager_for(self, *args: Any, **kwargs: Any) -> Any:
        manager = super().proxy_manager_for(*args, **kwargs)
        manager.pool_classes_by_scheme = {"http": _Pool, "https": _SecurePool}
        return manager


def _unchanged(request: requests.PreparedRequest) -> requests.PreparedRequest:
    return request


def _is_timeout(error: BaseException) -> bool:
    if isinstance(error, (requests.Timeout, urllib3_errors.TimeoutError, TimeoutError)):
        return True
    # requests turns a read timeout inside a body into a ConnectionError around it.
    return any(isinstance(inner, BaseException) and _is_timeout(inner) for inner in error.args)


def _root_text(error: BaseException, redact: Callable[[str], str]) -> str:
    """The innermost operating system error, which says more in fewer words than what wraps it."""
    seen: BaseException | None = error
    root: BaseException = error
    for _ in range(10):
        if seen is None:
            break
        if isinstance(seen, OSError) and not isinstance(seen, requests.RequestException):
            root = seen
        seen = seen.__cause__ or seen.__context__
    text = str(root)
    if isinstance(root, (ValueError, AssertionError)) and proxy_urls():
        # What cannot be parsed is quoted, and our own URLs were checked.
        text = _UNUSABLE_PROXY
    # A malformed status line is quoted whole, up to 64 KiB. Redacted first: half a secret is not found.
    return redact(f"{type(root).__name__}: {text}")[:_LONGEST_TEXT]


def _bare_copy(error: Exception, text: str) -> Exception | None:
    if not isinstance(error, requests.RequestException):
        return None
    has_usual_init = type(error).__init__ is requests.RequestException.__init__
    return (type(error) if has_usual_init else requests.RequestException)(text)
