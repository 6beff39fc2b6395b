"""An ``auth=`` for requests, which httpx takes too where it is in use: see ``httpx_auth``."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
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
"""Seconds for connecting and for each read, or one for each."""


class BearerAuth:
    """An ``auth=`` for requests and, where httpx is in use, for its clients as well.

    Args:
        tokens: where tokens come from.
        retry_401: whether a request is sent once more after a 401 ``invalid_token``.
        is_sent_directly: tells of a loopback URL that its request goes past any proxy.
        http_hosts: returns the hosts that a token may be sent to over plain http, besides loopback.
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
        """Return the same auth for ``requests`` sessions that choose the route themselves."""
        return BearerAuth(self._tokens, self._retry_401, is_sent_directly, self._http_hosts)

    def __repr__(self) -> str:
        return "BearerAuth()"

    # Two auth objects over the same tokens are the same to requests' redirect and session code.
    def __eq__(self, other: object) -> bool:
        return isinstance(other, BearerAuth) and self._tokens is other._tokens

    def __hash__(self) -> int:
        return hash(id(self._tokens))

    def __call__(self, request: Any) -> Any:
        """Put the token on a request of ``requests``.

        Raises:
            ConfigurationError: the URL is neither https nor http to loopback or an allowed host, or it is a
                loopback URL and the environment names a proxy for it.
            TokenUnavailableError: there is no token.
        """
        is_of_requests = hasattr(request, "register_hook")
        uses_proxy = _uses_proxy_in_requests if is_of_requests else uses_proxy_in_httpx
        check_destination(
            str(request.url),
            self._http_hosts,
            lambda url: not self._is_sent_directly(url) and uses_proxy(url),
        )
        put_token(request, self._tokens.token())
        # Else it is httpx's, and this was made before httpx was imported: it takes this for a plain function.
        if is_of_requests:
            hooks = _RequestHooks(self._tokens, self._retry_401, request)
            request.register_hook("response", hooks.on_response)
        return request


def bearer_auth(tokens: Tokens, retry_401: bool = True, http_hosts: HttpHosts = tuple) -> BearerAuth:
    """Return a :class:`BearerAuth`, which is an ``httpx.Auth`` too if httpx has been imported."""
    auth_class = _class_for_httpx() if "httpx" in sys.modules else BearerAuth
    return auth_class(tokens, retry_401, http_hosts=http_hosts)


@functools.lru_cache(maxsize=1)
def _class_for_httpx() -> type[BearerAuth]:
    from .httpx_auth import HttpxFlow

    class HttpxBearerAuth(BearerAuth, HttpxFlow):
        """A BearerAuth that httpx takes for one of its own."""

    return HttpxBearerAuth


def _uses_proxy_in_requests(url: str) -> bool:
    from requests.utils import get_environ_proxies, select_proxy

    return bool(select_proxy(url, get_environ_proxies(url)))


class _RequestHooks:
    """The flow for one prepared request of ``requests``, driven by its response hook.

    Holds no state of one answer: a prepared request may be sent again and again, by several threads.
    """

    def __init__(self, tokens: Tokens, retry_401: bool, request: Any) -> None:
        self._tokens = tokens
        self._origin = origin_of(request.url)
        self._body = request.body
        self._body_start = _position(self._body)
        self._retry_401 = retry_401

    def on_response(self, response: Any, **sending: Any) -> Any:
        """Return the response, or that of a second try."""
        request = response.request
        if not carries_our_token(request, self._origin):
            return response
        if response.is_redirect:
            self._keep_token_from_https(response, request)
            return response
        again = self._request_after(response)
        if again is None:
            self._note_refusal(response, sending)
            return response
        return self._send_again(response, again, sending)

    # The token is in no variable of what sends: error trackers send those of each frame.

    def _request_after(self, response: Any) -> Any:
        """Return a copy of the request with a newer token, or ``None`` if there is to be no second try."""
        if not is_invalid_token(response.status_code, response.headers):
            return None
        request = response.request
        newer = token_for_second_try(self._tokens, str(token_of(request)), self._rewind())
        if newer is None:
            return None
        again = request.copy()
        put_token(again, newer)
        return again

    def _send_again(self, refusal: Any, request: Any, sending: dict[str, Any]) -> Any:
        # The connection is free for the second try once the first answer is read.
        _read_beginning(refusal)
        response = refusal.connection.send(request, **sending)
        response.history.append(refusal)
        response.request = request
        if response.is_redirect:
            # requests follows it with the headers of the caller's request. Otherwise that one stays as it
            # is: another thread may be sending it, and its refusal is that of the token in it.
            callers, refusal.request = refusal.request, refusal.request.copy()
            callers.headers["Authorization"] = request.headers["Authorization"]
            self._keep_token_from_https(response, callers)
        forget_if_invalid(self._tokens, request, response)
        self._note_refusal(response, sending)
        return response

    def _note_refusal(self, response: Any, sending: Mapping[str, Any]) -> None:
        """Note an answer that the caller gets, if it is a refusal."""
        if response.status_code not in REFUSALS:
            return
        body = b""
        if not sending.get("stream") and has_problem(response.status_code, response.headers):
            body = response.content  # which requests would read next
        note_refusal(self._tokens, response, body)

    def _keep_token_from_https(self, response: Any, request: Any) -> None:
        """Drop the header from a request that requests would follow from http to https of the same host.

        For any other origin requests drops it itself, from a copy: the request may be sent again.
        """
        try:
            target = urljoin(request.url, response.headers.get("Location", ""))
        except ValueError:
            target = ""  # malformed: what follows it decides what to raise
        found = origin_of(target)
        if found != self._origin and (found is None or self._origin is None or found[0] != self._origin[0]):
            request.headers.pop("Authorization", None)

    def _rewind(self) -> bool:
        """Make the body ready to be sent again; return whether it is."""
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
    """The first ``MOST_READ`` bytes of a body, in the place of ``response.raw`` of requests."""

    def __init__(self, raw: Any) -> None:
        self._raw = raw
        self.is_whole = False

    def stream(self, size: int, decode_content: bool) -> Iterator[bytes]:
        from urllib3.exceptions import HTTPError

        left = MOST_READ
        # A refusal that breaks off is a refusal, too.
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
    """Read a response of requests, as much as a refusal has to say; close its connection if there is more."""
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
