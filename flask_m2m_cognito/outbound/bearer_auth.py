"""An ``auth=`` for requests, and for httpx and httpx2 if they are imported: see ``httpx_auth``."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from types import ModuleType
from typing import Any
from urllib.parse import urljoin

from .auth_flow import (
    MOST_READ,
    HttpHosts,
    Tokens,
    carries_our_token,
    check_destination,
    forget_if_invalid,
    is_invalid_token,
    note_refusal,
    origin_of,
    put_token,
    token_for_second_try,
    token_of,
    uses_proxy_in_httpx,
)
from .refused_calls import REFUSALS, has_problem

SessionTimeout = float | tuple[float, float] | None
"""Seconds for connecting and for each read, or a tuple with one value for each."""


class BearerAuth:
    """Add a fresh access token to each request, as an ``auth=`` for requests, httpx and httpx2.

    Works with the clients of httpx or httpx2 if that was imported before ``m2m.auth()`` was called.

    Args:
        tokens: the source of the tokens.
        retry_401: whether to send a request a second time, with a newer token, after a 401 ``invalid_token``.
        is_sent_directly: returns whether the request to a loopback URL bypasses every proxy.
        http_hosts: returns the hosts, besides loopback, that a token may be sent to over plain http.
    """

    def __init__(
        self,
        tokens: Tokens,
        retry_401: bool = True,
        is_sent_directly: Callable[[str], bool] = lambda url: False,
        http_hosts: HttpHosts = tuple,
    ) -> None:
        self._tokens = tokens
        self._retry_401 = retry_401
        self._is_sent_directly = is_sent_directly
        self._http_hosts = http_hosts

    def with_route(self, is_sent_directly: Callable[[str], bool]) -> BearerAuth:
        """Return the same auth for a ``requests`` session that chooses its route itself."""
        return BearerAuth(self._tokens, self._retry_401, is_sent_directly, self._http_hosts)

    def __repr__(self) -> str:
        return "BearerAuth()"

    # Auth objects with the same source of tokens are equal for the redirect and session code of requests.
    def __eq__(self, other: object) -> bool:
        return isinstance(other, BearerAuth) and self._tokens is other._tokens

    def __hash__(self) -> int:
        return hash(id(self._tokens))

    def __call__(self, request: Any) -> Any:
        """Add the token to a request of ``requests``, and return the request.

        Raises:
            ConfigurationError: the URL is neither https nor http to loopback or an allowed host, or it is a
                loopback URL and the environment names a proxy for it.
            TokenUnavailableError: no token is available.
        """
        is_of_requests = hasattr(request, "register_hook")
        uses_proxy = _uses_proxy_in_requests if is_of_requests else uses_proxy_in_httpx
        check_destination(
            str(request.url),
            self._http_hosts,
            lambda url: not self._is_sent_directly(url) and uses_proxy(url),
        )
        put_token(request, self._tokens.token())
        # Else it is a request of httpx, which calls this object as a function: it was created before httpx
        # was imported.
        if is_of_requests:
            hooks = _RequestHooks(self._tokens, self._retry_401, request)
            request.register_hook("response", hooks.on_response)
        return request


def bearer_auth(tokens: Tokens, retry_401: bool = True, http_hosts: HttpHosts = tuple) -> BearerAuth:
    """Return a :class:`BearerAuth`. If httpx or httpx2 has been imported, its clients accept it too."""
    # A set, because httpx2 can make `httpx` an alias of itself.
    libraries = frozenset(filter(None, (sys.modules.get("httpx"), sys.modules.get("httpx2"))))
    auth_class = _class_for(libraries) if libraries else BearerAuth
    return auth_class(tokens, retry_401, http_hosts=http_hosts)


@functools.cache
def _class_for(libraries: frozenset[ModuleType]) -> type[BearerAuth]:
    from .httpx_auth import httpx_flow

    return type("HttpxBearerAuth", (BearerAuth, httpx_flow(libraries)), {})


def _uses_proxy_in_requests(url: str) -> bool:
    from requests.utils import get_environ_proxies, select_proxy

    return bool(select_proxy(url, get_environ_proxies(url)))


class _RequestHooks:
    """The auth flow of one prepared request of ``requests``, run by its response hook.

    Keeps no state of a response, because several threads may send a prepared request many times.
    """

    def __init__(self, tokens: Tokens, retry_401: bool, request: Any) -> None:
        self._tokens = tokens
        self._origin = origin_of(request.url)
        self._body = request.body
        self._body_start = _position(self._body)
        self._retry_401 = retry_401

    def on_response(self, response: Any, **send_options: Any) -> Any:
        """Return the response, or the response of a second try."""
        request = response.request
        if not carries_our_token(request, self._origin):
            return response
        if response.is_redirect:
            self._keep_token_from_https(response, request)
            return response
        again = self._build_second_request(response)
        if again is None:
            self._note_refusal(response, send_options)
            return response
        return self._send_again(response, again, send_options)

    # No frame below which a request is sent has the token in a local: error trackers send the locals.

    def _build_second_request(self, response: Any) -> Any:
        """Return a copy of the request with a newer token, or ``None`` if it must not be sent again."""
        if not is_invalid_token(response.status_code, response.headers):
            return None
        request = response.request
        newer = token_for_second_try(self._tokens, str(token_of(request)), self._rewind())
        if newer is None:
            return None
        again = request.copy()
        put_token(again, newer)
        return again

    def _send_again(self, refusal: Any, request: Any, send_options: dict[str, Any]) -> Any:
        # Reading the first response frees its connection for the second try.
        _read_beginning(refusal)
        response = refusal.connection.send(request, **send_options)
        response.history.append(refusal)
        response.request = request
        if response.is_redirect:
            # requests follows the redirect with the headers of the caller's request, so that one gets the
            # newer token. In all other cases it is not changed: another thread may be sending it, and its
            # refusal is about the token that it has.
            callers, refusal.request = refusal.request, refusal.request.copy()
            callers.headers["Authorization"] = request.headers["Authorization"]
            self._keep_token_from_https(response, callers)
        forget_if_invalid(self._tokens, request, response)
        self._note_refusal(response, send_options)
        return response

    def _note_refusal(self, response: Any, send_options: Mapping[str, Any]) -> None:
        """Report a response that the caller gets, if it is a refusal."""
        if response.status_code not in REFUSALS:
            return
        body = b""
        if not send_options.get("stream") and has_problem(response.status_code, response.headers):
            body = response.content  # requests would read it next anyway
        note_refusal(self._tokens, response, body)

    def _keep_token_from_https(self, response: Any, request: Any) -> None:
        """Remove the token from a request whose redirect goes from http to https of the same host.

        requests would keep it there. For any other origin requests removes it itself, from a copy.
        """
        try:
            target = urljoin(request.url, response.headers.get("Location", ""))
        except ValueError:
            target = ""  # malformed: requests decides what to raise when it follows the redirect
        found = origin_of(target)
        if found != self._origin and (found is None or self._origin is None or found[0] != self._origin[0]):
            request.headers.pop("Authorization", None)

    def _rewind(self) -> bool:
        """Rewind the body, and return whether it can be sent again."""
        if not self._retry_401:
            return False
        if self._body is None or isinstance(self._body, (str, bytes, bytearray)):
            return True
        if self._body_start is None:
            return False
        try:
            self._body.seek(self._body_start)
        except (AttributeError, OSError, ValueError):
            return False
        return True


class _Beginning:
    """The first ``MOST_READ`` bytes of a body. Replaces ``response.raw`` of requests."""

    def __init__(self, raw: Any) -> None:
        self._raw = raw
        self.is_whole = False

    def stream(self, size: int, decode_content: bool) -> Iterator[bytes]:
        from urllib3.exceptions import HTTPError

        left = MOST_READ
        # A refusal whose body is cut off is still a refusal.
        with suppress(HTTPError, OSError):
            for chunk in self._raw.stream(size, decode_content=decode_content):
                left -= len(chunk)
                if left < 0:
                    return
                yield chunk
            self.is_whole = True

    def __getattr__(self, name: str) -> Any:
        return getattr(self._raw, name)


def _read_beginning(response: Any) -> None:
    """Read at most ``MOST_READ`` bytes of a response; close its connection if the body is longer."""
    raw = response.raw
    beginning = _Beginning(raw)
    if hasattr(raw, "stream"):
        response.raw = beginning
    response.content  # noqa: B018
    response.raw = raw
    if not beginning.is_whole:
        raw.close()
    response.close()


def _position(body: Any) -> int | None:
    try:
        position: int = body.tell()
    except (AttributeError, OSError, ValueError):
        return None
    return position
