"""A ``requests`` session with a deadline, for any kind of connection that ``requests`` chooses.

This module is imported with the first request, because ``requests`` takes longer to import than Flask.
"""

from __future__ import annotations

import http.client
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import requests
import urllib3.connection
from requests.adapters import HTTPAdapter
from urllib3 import exceptions as urllib3_errors

from .clock import Deadline
from .redaction import proxy_urls
from .threads import ForeignError


@contextmanager
def bounded_session(deadline: Deadline) -> Iterator[requests.Session]:
    """Yield a session for one request. At ``deadline`` its connection is shut down.

    A timeout of ``requests`` covers a single read. A server that sends one byte at a time never exceeds it,
    so only the shutdown ends such a request.

    Raises:
        requests.Timeout: the connection was shut down.
    """
    adapter = _BoundedAdapter(deadline)
    has_answer = False
    timer = None
    if deadline.is_watched:
        deadline.shut_down = adapter.shut_down  # called by the waiting thread
    else:
        timer = threading.Timer(deadline.left(), adapter.shut_down)
        timer.daemon = True
        with suppress(RuntimeError):  # no thread can be started, at shutdown or at a limit
            timer.start()
    try:
        with requests.Session() as session:
            # Otherwise requests would add Basic credentials from an entry for the host in ~/.netrc.
            session.auth = _no_auth
            session.mount("https://", adapter)
            session.mount("http://", adapter)
            yield session
        has_answer = True
    except Exception:
        if not adapter.is_shut_down:
            raise
    finally:
        deadline.shut_down = None
        if timer is not None:
            timer.cancel()
        adapter.rank_address(has_answer and not adapter.is_shut_down)
    if adapter.is_shut_down:
        # Even if there is an answer: a body without a length seems complete after the shutdown.
        raise requests.Timeout("the deadline has passed")


def failure_from(
    error: Exception, seconds: float, redact: Callable[[str], str]
) -> tuple[str, bool, bool, Exception | None]:
    """Describe ``error`` without the request, response and traceback that it holds.

    Return its text, whether it is a timeout, whether to retry, and the cause: see ``TransportError``.
    """
    is_timeout = _is_timeout(error)
    text = f"timed out within {seconds:.3g} s" if is_timeout else _root_text(error, redact)
    may_retry = not is_timeout and isinstance(error, _CONNECTION_ERRORS)
    return text, is_timeout, may_retry, _bare_copy(error, text)


_LONGEST_TEXT = 300
_UNUSABLE_PROXY = (
    "invalid or unsupported proxy URL: check HTTP_PROXY, HTTPS_PROXY and ALL_PROXY "
    "(a SOCKS proxy needs requests[socks])"
)


_CONNECTION_ERRORS = (
    requests.ConnectionError,
    requests.exceptions.ChunkedEncodingError,
    urllib3_errors.ProtocolError,
    ConnectionError,
)


_REQUEST_ERRORS = (
    OSError,
    http.client.HTTPException,
    urllib3_errors.HTTPError,
    # A proxy's URL that urllib3 cannot parse.
    ValueError,
    AssertionError,
)

_ranks: dict[tuple[str, int, str], int] = {}
"""For host, port and address: -1 if the address answered last time, 1 if it did not. The lowest is first."""

_MOST_RANKS = 1000


class _BoundedAdapter(HTTPAdapter):
    """Keep the connection of its only request, of any class, to be able to shut it down."""

    def __init__(self, deadline: Deadline) -> None:
        super().__init__()
        self.is_shut_down = False
        self._deadline = deadline
        self._connection: Any = None
        self._sock: Any = None
        self._address: tuple[str, int, str] | None = None

    def get_connection_with_tls_context(self, *args: Any, **kwargs: Any) -> Any:
        # A subclass of the chosen class and not a function, because vcrpy compares each connection with it.
        pool: Any = super().get_connection_with_tls_context(*args, **kwargs)
        if isinstance(pool.ConnectionCls, type):
            chosen: Any = pool.ConnectionCls
            members: dict[str, Any] = {
                "__module__": chosen.__module__,
                "connect": lambda connection: self.connect(connection, chosen.connect),
            }
            if getattr(chosen, "response_class", None) is http.client.HTTPResponse:
                members["response_class"] = _QuietResponse
            pool.ConnectionCls = type(chosen.__name__, (chosen,), members)
        return pool

    def shut_down(self) -> None:
        """End every wait on the connection."""
        self.is_shut_down = True
        # The first is set during a TLS handshake. The second is left after "Connection: close".
        sock: Any
        for sock in (getattr(self._connection, "sock", None), self._sock):
            with suppress(Exception):
                # TLS inside TLS is not a socket but has one. SSLSocket's own shutdown() ends the encryption.
                socket.socket.shutdown(getattr(sock, "socket", sock), socket.SHUT_RDWR)

    def rank_address(self, has_answer: bool) -> None:
        """Make the connected address the first one next time, or the last one if it did not answer."""
        if self._address is not None:
            if len(_ranks) >= _MOST_RANKS:
                _ranks.clear()
            _ranks[self._address] = -1 if has_answer else 1

    def connect(self, connection: Any, connect: Callable[[Any], None]) -> None:
        """Connect ``connection`` with ``connect`` to an address that answers in time."""
        self._connection = connection
        addresses = _addresses(connection)
        if len(addresses) > 1:
            self._connect_to_one_of(addresses, connection, connect)
        else:
            connect(connection)
        self._sock = connection.sock
        if self._deadline.passed:
            # No caller waits any longer: a token that is requested now would be paid for and lost.
            raise TimeoutError("the deadline has passed")

    def _connect_to_one_of(
        self, addresses: list[str], connection: Any, connect: Callable[[Any], None]
    ) -> None:
        """Connect before the deadline. urllib3 alone would give each address of a host the whole timeout."""
        host, timeout = connection.host, connection.timeout
        is_tls = isinstance(connection, urllib3.connection.HTTPSConnection)
        is_direct_tls = connection.proxy is None and is_tls
        if is_direct_tls:
            connection.server_hostname = connection.server_hostname or host
        for others in reversed(range(len(addresses))):
            connection.host = addresses[-1 - others]
            self._address = host, connection.port, connection.host
            # One more share is reserved for the answer.
            share = self._deadline.left() / (others + 2 if others else 1)
            connection.timeout = max(min(timeout, share), 0.001)
            try:
                return connect(connection)
            except (
                urllib3_errors.NewConnectionError,
                urllib3_errors.ConnectTimeoutError,
                TimeoutError,
            ) as error:
                if not others or (isinstance(error, TimeoutError) and not is_direct_tls):
                    raise
                if is_direct_tls:
                    connection.close()  # it may be in the middle of a TLS handshake
                self.rank_address(has_answer=False)
            finally:
                connection.host, connection.timeout = host, timeout
        raise AssertionError("a host has at least one address")


class _QuietResponse(http.client.HTTPResponse):
    """A response without its malformed headers: urllib3 would log them, and they may quote a secret."""

    def begin(self) -> None:
        super().begin()
        self.msg.defects = []
        self.msg.set_payload("")


def _addresses(connection: Any) -> list[str]:
    """Return the addresses of the connection's host if urllib3 looks them up itself, otherwise none."""
    if type(connection).__module__ != urllib3.connection.__name__:
        return []  # a SOCKS proxy looks them up, or another package has replaced the connection
    if connection.proxy is not None and connection.proxy.scheme != "http":
        return []  # the certificate is checked against the proxy's name
    host, port = connection.host, connection.port
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return []
    addresses = dict.fromkeys(str(address[0]) for *_, address in found)
    return sorted(addresses, key=lambda address: _ranks.get((host, port, address), 0))


def _no_auth(request: requests.PreparedRequest) -> requests.PreparedRequest:
    return request


def _is_timeout(error: BaseException) -> bool:
    if isinstance(error, (requests.Timeout, urllib3_errors.TimeoutError, TimeoutError)):
        return True
    # requests turns a read timeout inside a body into a ConnectionError around it.
    return any(isinstance(inner, BaseException) and _is_timeout(inner) for inner in error.args)


def _root_text(error: BaseException, redact: Callable[[str], str]) -> str:
    """Return the text of the innermost operating system error, which is clearer than its wrappers."""
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
        # The error quotes the URL that cannot be parsed. Our own URLs were checked, so it is a proxy's.
        text = _UNUSABLE_PROXY
    # A malformed status line is quoted whole, up to 64 KiB. Redact it first: half a secret is not found.
    return redact(f"{type(root).__name__}: {text}")[:_LONGEST_TEXT]


def _bare_copy(error: Exception, text: str) -> Exception | None:
    if not isinstance(error, _REQUEST_ERRORS):
        return ForeignError(text)
    if not isinstance(error, requests.RequestException):
        return None
    has_usual_init = type(error).__init__ is requests.RequestException.__init__
    return (type(error) if has_usual_init else requests.RequestException)(text)
