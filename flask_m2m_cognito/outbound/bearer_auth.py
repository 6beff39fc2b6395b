"""One auth flow, two drivers: an ``auth=`` for requests, and for httpx.

The flow puts a fresh token on each request, and after a 401 ``invalid_token`` tries once more with
a newer one. The token goes to the scheme, host and port that it was put on for, and no further.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Collection, Generator, Iterator, Mapping
from contextlib import suppress
from typing import Any, Protocol, cast
from urllib.parse import urljoin, urlsplit
from urllib.request import getproxies

from ..exceptions import CognitoTokenRequestError, ConfigurationError
from ..formats.urls import is_loopback_url, is_safe_url
from .challenges import bearer_challenges
from .refused_calls import MOST_READ as MOST_OF_A_PROBLEM
from .refused_calls import REFUSALS, Refusal, has_problem, read_refusal

MOST_READ = 64 * 1024
"""Bytes of a 401 that are read before the request is sent again."""

_DEFAULT_PORTS = {"https": 443, "http": 80}


class Tokens(Protocol):
    """Where the flow's tokens come from."""

    def token(self) -> str: ...
    async def token_async(self) -> str: ...
    def renew(self, refused: str) -> str: ...
    def forget(self, refused: str) -> None: ...
    def note_refusal(self, refused: str, refusal: Refusal) -> None: ...


SessionTimeout = float | tuple[float, float] | None
"""Seconds for connecting and for each read, or one for each."""

Flow = Generator[str, bool, None]


def bearer_flow(tokens: Tokens, can_resend: Callable[[], bool], token: str | None = None) -> Flow:
    """Yields the token to send; is sent whether it was refused; may yield a newer one to send.

    ``can_resend`` says whether the request can go out again. If it can't, the refused token is
    forgotten, so that the next request has a newer one. ``token`` is the first to send, if it has been
    asked for already.
    """
    token = tokens.token() if token is None else token
    was_refused = yield token
    if not was_refused:
        return
    if not can_resend():
        tokens.forget(token)
        return
    newer = _renewed(tokens, token)
    if newer == token:
        return
    if (yield newer):
        # It counts towards the backoff: a peer may refuse every token.
        tokens.forget(newer)


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
        http_hosts: Callable[[], Collection[str]] = tuple,
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
        url = str(request.url)
        is_of_requests = hasattr(request, "register_hook")
        check_destination(url, self._http_hosts)
        if not self._is_sent_directly(url):
            check_route(url, _uses_proxy_in_requests if is_of_requests else _uses_proxy_in_httpx)
        if not is_of_requests:
            # httpx's, made before httpx was imported: it takes this for a plain function.
            request.headers["Authorization"] = f"Bearer {self._tokens.token()}"
            return request
        request.headers["Authorization"] = f"Bearer {self._tokens.token()}"
        hooks = _RequestHooks(self._tokens, self._retry_401, request)
        request.register_hook("response", hooks.on_response)
        return request


def bearer_auth(
    tokens: Tokens, retry_401: bool = True, http_hosts: Callable[[], Collection[str]] = tuple
) -> BearerAuth:
    """A :class:`BearerAuth`, which is an ``httpx.Auth`` too if httpx has been imported."""
    auth_class = _httpx_auth_class() if "httpx" in sys.modules else BearerAuth
    return auth_class(tokens, retry_401, http_hosts=http_hosts)


def check_destination(url: str, http_hosts: Callable[[], Collection[str]] = tuple) -> None:
    """Raise unless a token may be sent to ``url``: over https, or over http to loopback or an allowed host.

    Raises:
        ConfigurationError: it may not.
    """
    if not (is_safe_url(url) or is_safe_url(url, http_hosts())):
        parts = urlsplit(url)
        raise ConfigurationError(
            "An access token is only sent over https, or over plain http to loopback and hosts in "
            f"COGNITO_M2M_ALLOW_HTTP_HOSTS, not to {parts.scheme}://{parts.hostname}: use an https URL."
        )


def check_route(url: str, uses_proxy: Callable[[str], bool]) -> None:
    """Raise if a request for loopback would leave this machine through a proxy of the environment.

    The route of a session or client that is not ours cannot be chosen, and proxies that were set on
    it cannot be seen from an ``auth=``.

    Raises:
        ConfigurationError: it would.
    """
    if is_loopback_url(url) and uses_proxy(url):
        host = urlsplit(url).hostname
        raise ConfigurationError(
            f"The environment (HTTP_PROXY, HTTPS_PROXY or ALL_PROXY) sends requests for {host} through a "
            f"proxy, which would see the access token. Add {host} to NO_PROXY, or use m2m.session()."
        )


def _uses_proxy_in_requests(url: str) -> bool:
    from requests.utils import get_environ_proxies, select_proxy

    return bool(select_proxy(url, get_environ_proxies(url)))


def _uses_proxy_in_httpx(url: str) -> bool:
    """Read NO_PROXY more strictly than httpx, which has no public function for it: ``*`` or the very host."""
    proxies, parts = getproxies(), urlsplit(url)
    exempt = {each.strip().lower() for each in proxies.get("no", "").split(",")}
    return bool(proxies.get(parts.scheme) or proxies.get("all")) and exempt.isdisjoint({"*", parts.hostname})


def is_invalid_token(status: int, headers: Mapping[str, str]) -> bool:
    """Return whether an answer says that the token was not valid (RFC 6750, section 3.1).

    The Cognito authorizer of an API Gateway sends no challenge, but the type of its error.
    """
    if status != 401:
        return False
    error_type = headers.get("x-amzn-ErrorType", "").partition(":")[0].strip()
    return error_type == "UnauthorizedException" or any(
        challenge.parameters.get("error", "").lower() == "invalid_token"
        for challenge in bearer_challenges(headers)
    )


def note_refusal(tokens: Tokens, token: str | None, response: Any, body: bytes) -> None:
    """Tell where the token came from that a peer refused it, if that is what an answer says.

    Raises nothing: the caller has its answer, and this is for the log.
    """
    with suppress(Exception):
        refusal = read_refusal(str(response.url), response.status_code, response.headers, body)
        if refusal is not None and token is not None:
            tokens.note_refusal(token, refusal)


def origin_of(url: str) -> tuple[str, str | None, int | None] | None:
    """Return scheme, host and port (RFC 6454), or ``None`` for a malformed URL, which has none."""
    try:
        parts = urlsplit(url)
        return parts.scheme.lower(), parts.hostname, parts.port or _DEFAULT_PORTS.get(parts.scheme.lower())
    except ValueError:
        return None


class _RequestHooks:
    """The flow for one prepared request of ``requests``, driven by its response hook.

    Holds no state of one answer: a prepared request may be sent again and again, by several threads.
    """

    def __init__(self, tokens: Tokens, retry_401: bool, request: Any) -> None:
        self._tokens = tokens
        self._origin = origin_of(request.url)
        self._body = request.body
        self._body_start = _position(self._body)
        self._can_resend = retry_401

    def on_response(self, response: Any, **sending: Any) -> Any:
        request = response.request
        if origin_of(request.url) != self._origin or _token_of(request) is None:
            return response
        if response.is_redirect:
            self._keep_token_from_https(response, request)
            return response
        if not is_invalid_token(response.status_code, response.headers):
            self._note_refusal(response, sending)
            return response
        # Kept in the flow and in no variable of who sends it: error trackers send those of each frame.
        flow = bearer_flow(self._tokens, self._rewound, _token_of(request))
        next(flow)
        newer = request.copy()
        if not _put_newer_token(flow, newer):
            self._note_refusal(response, sending)
            return response
        return self._sent_again(flow, response, newer, sending)

    def _sent_again(self, flow: Flow, response: Any, newer: Any, sending: dict[str, Any]) -> Any:
        # The connection is free for the second try once the first answer is read.
        _read_beginning(response)
        again = response.connection.send(newer, **sending)
        again.history.append(response)
        again.request = newer
        if again.is_redirect:
            # requests follows it with the headers of the caller's request. Otherwise that one stays as it
            # is: another thread may be sending it, and its refusal is that of the token in it.
            request, response.request = response.request, response.request.copy()
            request.headers["Authorization"] = newer.headers["Authorization"]
            self._keep_token_from_https(again, request)
        with suppress(StopIteration):
            flow.send(is_invalid_token(again.status_code, again.headers))
        self._note_refusal(again, sending)
        return again

    def _note_refusal(self, response: Any, sending: Mapping[str, Any]) -> None:
        """Note an answer that the caller gets, if it is a refusal."""
        if response.status_code not in REFUSALS:
            return
        body = b""
        if not sending.get("stream") and has_problem(response.status_code, response.headers):
            body = response.content  # which requests would read next
        note_refusal(self._tokens, _token_of(response.request), response, body)

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

    def _rewound(self) -> bool:
        if not self._can_resend:
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


@functools.lru_cache(maxsize=1)
def _httpx_auth_class() -> type[BearerAuth]:
    import httpx

    class HttpxBearerAuth(BearerAuth, httpx.Auth):
        """A BearerAuth that httpx takes for one of its own."""

        def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
            _check_in_httpx(str(request.url), self._http_hosts)
            flow = self._flow_with(self._tokens.token(), request)
            outgoing: httpx.Request | None = next(flow)
            while outgoing is not None:
                response = yield outgoing
                outgoing = _sent(flow, response)
                if outgoing is not None and not response.is_stream_consumed:
                    read_beginning(response)

        def _flow_with(
            self, token: str, request: httpx.Request
        ) -> Generator[httpx.Request, httpx.Response, None]:
            flow = bearer_flow(
                self._tokens,
                lambda: self._retry_401 and isinstance(request.stream, httpx.ByteStream),
                token,
            )
            token = next(flow)
            while True:
                request.headers["Authorization"] = f"Bearer {token}"
                response = yield request
                is_same_place = origin_of(str(response.url)) == origin_of(str(request.url))
                had_token = "Authorization" in response.request.headers
                is_ours = is_same_place and had_token
                # The last of a chain of redirects: what came before it has been done.
                request = response.request
                try:
                    token = flow.send(is_ours and is_invalid_token(response.status_code, response.headers))
                except StopIteration:
                    if is_ours and response.status_code in REFUSALS:
                        note_when_read(self._tokens, response)
                    return

        async def async_auth_flow(
            self, request: httpx.Request
        ) -> AsyncGenerator[httpx.Request, httpx.Response]:
            import asyncio

            _check_in_httpx(str(request.url), self._http_hosts)
            flow = self._flow_with(await self._tokens.token_async(), request)
            outgoing: httpx.Request | None = next(flow)
            while outgoing is not None:
                response = yield outgoing
                if response.status_code == 401:
                    # The flow waits for a newer token: on a thread, not on the loop.
                    outgoing = await asyncio.to_thread(_sent, flow, response)
                else:
                    outgoing = _sent(flow, response)
                if outgoing is not None and not response.is_stream_consumed:
                    await read_beginning_async(response)

    class ReadAlong(httpx.SyncByteStream, httpx.AsyncByteStream):
        """A body whose beginning is kept while the application reads it, for ``note`` at its end.

        An auth cannot see whether the response is streamed.
        """

        def __init__(
            self, stream: httpx.SyncByteStream | httpx.AsyncByteStream, note: Callable[[bytes], None]
        ) -> None:
            self._stream = stream
            self._note = note
            self._beginning = bytearray()

        def __iter__(self) -> Iterator[bytes]:
            for chunk in cast("httpx.SyncByteStream", self._stream):
                self._keep(chunk)
                yield chunk

        async def __aiter__(self) -> AsyncIterator[bytes]:
            async for chunk in cast("httpx.AsyncByteStream", self._stream):
                self._keep(chunk)
                yield chunk

        def close(self) -> None:
            cast("httpx.SyncByteStream", self._stream).close()
            self._note(bytes(self._beginning))

        async def aclose(self) -> None:
            await cast("httpx.AsyncByteStream", self._stream).aclose()
            self._note(bytes(self._beginning))

        def _keep(self, chunk: bytes) -> None:
            # One byte more than is read: it tells that the body is longer.
            self._beginning += chunk[: MOST_OF_A_PROBLEM + 1 - len(self._beginning)]

    def note_when_read(tokens: Tokens, response: httpx.Response) -> None:
        note = functools.partial(note_refusal, tokens, _token_of(response.request), response)
        if has_problem(response.status_code, response.headers) and not response.is_closed:
            response.stream = ReadAlong(response.stream, note)
            return
        body = b""
        with suppress(httpx.ResponseNotRead):
            body = response.content  # which a hook of the application has read
        note(body)

    # httpx reads all of a response before it sends the next request: these leave it less to read.

    def read_beginning(response: httpx.Response) -> None:
        chunks, body = cast("httpx.SyncByteStream", response.stream), bytearray()
        with suppress(httpx.TransportError):
            for chunk in chunks:
                body += chunk
                if len(body) > MOST_READ:
                    break
        chunks.close()
        response.stream = httpx.ByteStream(bytes(body[:MOST_READ]))

    async def read_beginning_async(response: httpx.Response) -> None:
        chunks, body = cast("httpx.AsyncByteStream", response.stream), bytearray()
        with suppress(httpx.TransportError):
            async for chunk in chunks:
                body += chunk
                if len(body) > MOST_READ:
                    break
        await chunks.aclose()
        response.stream = httpx.ByteStream(bytes(body[:MOST_READ]))

    return HttpxBearerAuth


def _check_in_httpx(url: str, http_hosts: Callable[[], Collection[str]]) -> None:
    check_destination(url, http_hosts)
    check_route(url, _uses_proxy_in_httpx)


def _sent(flow: Generator[Any, Any, None], response: Any) -> Any:
    try:
        return flow.send(response)
    except StopIteration:
        return None


def _renewed(tokens: Tokens, refused: str) -> str:
    try:
        return tokens.renew(refused)
    except CognitoTokenRequestError:
        # The caller has an answer, the 401: that is what it gets.
        return refused


def _token_of(request: Any) -> str | None:
    """Return the token that a request of requests was sent with."""
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    return token if scheme == "Bearer" and token else None


def _put_newer_token(flow: Flow, request: Any) -> bool:
    """Put the flow's next token on ``request``; return whether there is one."""
    try:
        request.headers["Authorization"] = f"Bearer {flow.send(True)}"
    except StopIteration:
        return False
    return True


def _position(body: Any) -> int | None:
    try:
        position: int = body.tell()
    except (AttributeError, OSError, ValueError):
        return None
    return position
