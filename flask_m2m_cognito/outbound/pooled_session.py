"""Light ``requests`` sessions: all sessions of a process share one connection pool.

Imported when the first session is created, because ``requests`` takes longer to import than Flask.
"""

from __future__ import annotations

import queue
import weakref
from collections.abc import Mapping
from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit

import requests
from requests.adapters import BaseAdapter, HTTPAdapter
from urllib3 import BaseHTTPResponse, Retry
from urllib3.connectionpool import HTTPConnectionPool
from urllib3.exceptions import InvalidHeader

from ..exceptions import ConfigurationError
from ..formats.urls import is_loopback_host
from ..remote.clock import SYSTEM
from ..remote.threads import PerProcess
from .bearer_auth import BearerAuth, SessionTimeout

POOL_SIZE = 32
"""The number of connections kept for each host, and the number of hosts."""


LONGEST_IDLE = 50.0
"""Seconds after which an idle connection is not used again: many load balancers drop it after 60 s."""

LONGEST_WAIT = 10.0
"""The longest ``Retry-After`` in seconds that a session without a timeout obeys."""

IDEMPOTENT = frozenset({"GET", "HEAD", "OPTIONS", "PUT", "DELETE", "TRACE"})

_MOST_RETRIES = 10
_LONGEST_TIMEOUT = 86_400
_WORTH_A_RETRY = (429, 502, 503, 504)


def pooled_session(auth: BearerAuth, timeout: SessionTimeout = None, retries: int = 0) -> requests.Session:
    """Return a session that sends a token with each request. Closing it keeps the shared connections.

    Args:
        auth: adds the token to each request.
        timeout: seconds for connecting and for each read, or a tuple with one value for each. The default for
            requests without a timeout of their own.
        retries: how often an idempotent request is sent again (RFC 9110, section 9.2.2).

    Raises:
        ConfigurationError: ``timeout`` or ``retries`` is invalid.
    """
    _check_timeout(timeout)
    if not isinstance(retries, int) or isinstance(retries, bool) or not 0 <= retries <= _MOST_RETRIES:
        raise ConfigurationError(
            f"retries must be an integer between 0 and {_MOST_RETRIES}, got {retries!r}."
        )
    session = requests.Session() if timeout is None else _SessionWithTimeout(timeout)
    adapters = session.adapters  # not the session itself, which would be a reference cycle
    session.auth = auth.with_route(lambda url: _is_sent_directly(url, adapters))
    adapter = _RetryingAdapter(retries, timeout) if retries else _shared_adapter.get()
    session.mount("https://", adapter)
    session.mount("http://", adapter)
    return session


def _check_timeout(timeout: SessionTimeout) -> None:
    parts = timeout if isinstance(timeout, tuple) else (timeout, timeout)
    are_seconds = len(parts) == 2 and all(
        isinstance(each, int | float) and not isinstance(each, bool) and 0 < each < _LONGEST_TIMEOUT
        for each in parts
    )
    if timeout is not None and not are_seconds:
        raise ConfigurationError(
            f"timeout must be a positive number of seconds, or a tuple (connect, read), got {timeout!r}."
        )


class _SessionWithTimeout(requests.Session):
    def __init__(self, timeout: SessionTimeout) -> None:
        super().__init__()
        self._timeout = timeout

    def send(self, request: requests.PreparedRequest, **kwargs: Any) -> requests.Response:
        if kwargs.get("timeout") is None:
            kwargs["timeout"] = self._timeout
        return super().send(request, **kwargs)


class _BoundedRetry(Retry):
    """A ``Retry`` that waits at most ``longest`` seconds. urllib3's own obeys any ``Retry-After``."""

    longest = LONGEST_WAIT

    def new(self, **changes: Any) -> Any:
        copy = super().new(**changes)
        copy.longest = self.longest
        return copy

    def get_retry_after(self, response: BaseHTTPResponse) -> float | None:
        try:
            seconds = super().get_retry_after(response)
        except InvalidHeader:
            return None  # a malformed header is ignored
        return None if seconds is None else min(seconds, self.longest)


def _is_sent_directly(url: str, adapters: Mapping[str, BaseAdapter]) -> bool:
    """Return whether the adapter for ``url`` is ours; the application may have mounted another one."""
    prefix = next((each for each in adapters if url.lower().startswith(each.lower())), "")
    return isinstance(adapters.get(prefix), _DirectAdapter)


class _IdleConnections(queue.LifoQueue[Any]):
    """The idle connections of a pool. Discards those that a NAT gateway may have dropped."""

    _generation = 0

    def put(self, item: Any, block: bool = True, timeout: float | None = None) -> None:
        entry = None if item is None else (item, self._generation, SYSTEM.monotonic())
        super().put(entry, block, timeout)

    def get(self, block: bool = True, timeout: float | None = None) -> Any:
        entry = super().get(block, timeout)
        if entry is None:
            return None
        connection, generation, since = entry
        if generation == self._generation and SYSTEM.monotonic() - since < LONGEST_IDLE:
            return connection
        connection.close()
        return None  # urllib3 opens a new connection

    def retire(self) -> None:
        """Discard every connection that is idle now."""
        self._generation += 1

    def close(self) -> None:
        """Close every idle connection."""
        with suppress(queue.Empty):
            while True:
                connection = self.get(block=False)
                if connection is not None:
                    connection.close()


class _DirectAdapter(HTTPAdapter):
    """An adapter that bypasses proxies for loopback, and sends an idempotent request again after a reset.

    Plain http is allowed to loopback because it stays on this machine. A proxy could read the token, even one
    that the application configured. Redirects use this adapter as well.

    A gateway on the way may have dropped an idle connection, which shows only when the next bytes are sent.
    So an idempotent request is sent again if its connection was reset before any response.
    """

    def get_connection_with_tls_context(
        self,
        request: requests.PreparedRequest,
        verify: bool | str,
        proxies: dict[str, str] | None = None,
        cert: tuple[str, str] | str | None = None,
    ) -> HTTPConnectionPool:
        return _shared_adapter.get().get_shared_pool(request, verify, proxies, cert)

    def send(
        self,
        request: requests.PreparedRequest,
        stream: bool = False,
        timeout: Any = None,
        verify: Any = True,
        cert: Any = None,
        proxies: Any = None,
    ) -> requests.Response:
        if is_loopback_host(urlsplit(request.url or "").hostname or ""):
            proxies = None
            # requests adds the proxy's password to a request that follows a redirect.
            request.headers.pop("Proxy-Authorization", None)
        try:
            return super().send(request, stream, timeout, verify, cert, proxies)
        except requests.ConnectionError as error:
            if not (_can_be_sent_again(request) and _was_reset(error)):
                raise
        idle = self.get_connection_with_tls_context(request, verify, proxies, cert).pool
        if isinstance(idle, _IdleConnections):
            idle.retire()
        return super().send(request, stream, timeout, verify, cert, proxies)


def _can_be_sent_again(request: requests.PreparedRequest) -> bool:
    return request.method in IDEMPOTENT and isinstance(request.body, str | bytes | None)


def _was_reset(error: BaseException) -> bool:
    """Return whether the other side reset the connection. requests and urllib3 wrap the cause."""
    cause: object = error
    while isinstance(cause, BaseException):
        if isinstance(cause, ConnectionResetError | ConnectionAbortedError | BrokenPipeError):
            return True
        wrapped = (each for each in cause.args if isinstance(each, BaseException))
        cause = getattr(cause, "reason", None) or next(wrapped, None)
    return False


class _SharedAdapter(_DirectAdapter):
    """The adapter that all sessions of a process share."""

    def __init__(self) -> None:
        super().__init__(pool_connections=POOL_SIZE, pool_maxsize=POOL_SIZE)

    def get_shared_pool(
        self,
        request: requests.PreparedRequest,
        verify: bool | str,
        proxies: dict[str, str] | None,
        cert: tuple[str, str] | str | None,
    ) -> HTTPConnectionPool:
        """Return the connection pool that all sessions use for this request."""
        pool = HTTPAdapter.get_connection_with_tls_context(self, request, verify, proxies, cert)
        if not isinstance(pool.pool, _IdleConnections) and pool.pool is not None:
            # Replaced before the first connection. The pool opens a connection when the queue returns None.
            pool.pool = idle = _IdleConnections(POOL_SIZE)
            weakref.finalize(pool, idle.close)
        return pool

    def close(self) -> None:
        """Keep the connections, because other sessions use them."""


# A socket that a forked child shares would mix up the responses of both processes.
_shared_adapter = PerProcess(_SharedAdapter)


class _RetryingAdapter(_DirectAdapter):
    """An adapter with retries, over the connections that all sessions share."""

    def __init__(self, retries: int, timeout: SessionTimeout) -> None:
        retry = _BoundedRetry(
            retries,
            allowed_methods=IDEMPOTENT,
            status_forcelist=_WORTH_A_RETRY,
            backoff_factor=0.1,
            raise_on_status=False,
        )
        if timeout is not None:
            retry.longest = max(timeout) if isinstance(timeout, tuple) else timeout
        super().__init__(max_retries=retry)
