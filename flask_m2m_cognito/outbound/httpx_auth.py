"""An ``auth=`` for the clients of httpx and httpx2, sync and async. Imports neither of them.

Version 2 of the package mcp uses httpx2, a fork of httpx. Both have the classes and methods that the flow
uses, so the annotations name only those of httpx.
"""

from __future__ import annotations

import functools
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Collection, Generator, Iterator
from contextlib import suppress
from typing import TYPE_CHECKING, Any

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
from .refused_calls import MOST_READ as MOST_OF_A_PROBLEM
from .refused_calls import REFUSALS, has_problem

if TYPE_CHECKING:
    import httpx


def httpx_flow(libraries: Collection[Any]) -> type[HttpxFlow]:
    """Return a flow that the clients of these modules accept as ``auth=``: of httpx, httpx2, or both."""
    streams = [each for http in libraries for each in (http.SyncByteStream, http.AsyncByteStream)]
    members = {
        "_streams_in_memory": tuple(http.ByteStream for http in libraries),
        "_shorten": type("Shortened", (_Shortened, *streams), {}),
        "_read_along": type("ReadAlong", (_ReadAlong, *streams), {}),
    }
    return type("Flow", (HttpxFlow, *(http.Auth for http in libraries)), members)


class HttpxFlow:
    """The interface of ``httpx.Auth``: the part of a :class:`BearerAuth` that only the clients of httpx use.

    httpx follows redirects within the flow, so ``response.request`` is the last request of a chain. The
    earlier ones succeeded, so only the last one is sent again.
    """

    _tokens: Tokens
    _retry_401: bool
    _http_hosts: HttpHosts
    _streams_in_memory: tuple[type, ...]
    _shorten: Callable[[Any], Any]
    _read_along: Callable[[Any, Callable[[bytes], None]], Any]

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        check_destination(str(request.url), self._http_hosts, uses_proxy_in_httpx)
        put_token(request, self._tokens.token())
        response = yield request
        again = self._build_second_request(request, response)
        if again is None:
            return
        self._finish(again, (yield again))

    async def async_auth_flow(self, request: httpx.Request) -> AsyncGenerator[httpx.Request, httpx.Response]:
        check_destination(str(request.url), self._http_hosts, uses_proxy_in_httpx)
        put_token(request, await self._tokens.token_async())
        response = yield request
        if response.status_code == 401:
            import asyncio

            # This may wait for a newer token, so it runs on a thread and does not block the event loop.
            again = await asyncio.to_thread(self._build_second_request, request, response)
        else:
            again = self._build_second_request(request, response)
        if again is None:
            return
        self._finish(again, (yield again))

    def _build_second_request(self, request: httpx.Request, response: httpx.Response) -> httpx.Request | None:
        """Return the request with a newer token. If it must not be sent again, report a refusal."""
        last = response.request
        token = token_of(last)
        if token is None or not carries_our_token(last, origin_of(str(request.url))):
            return None
        if is_invalid_token(response.status_code, response.headers):
            can_resend = self._retry_401 and isinstance(last.stream, self._streams_in_memory)
            newer = token_for_second_try(self._tokens, token, can_resend)
            if newer is not None:
                put_token(last, newer)
                if not response.is_stream_consumed:
                    # The client reads it to its end before it sends the next request.
                    response.stream = self._shorten(response.stream)
                return last
        self._note_when_read(response)
        return None

    def _finish(self, request: httpx.Request, response: httpx.Response) -> None:
        """Report a refusal of the second try."""
        if carries_our_token(response.request, origin_of(str(request.url))):
            forget_if_invalid(self._tokens, response.request, response)
            self._note_when_read(response)

    def _note_when_read(self, response: httpx.Response) -> None:
        if response.status_code not in REFUSALS:
            return
        note = functools.partial(note_refusal, self._tokens, response)
        if has_problem(response.status_code, response.headers) and not response.is_closed:
            response.stream = self._read_along(response.stream, note)
            return
        body = b""
        with suppress(RuntimeError):  # ResponseNotRead
            body = response.content  # available if a hook of the application has read it
        note(body)


class _Stream:
    """Replaces the body of a response."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    @property
    def elapsed(self) -> Any:
        """The duration that ``elapsed`` of a response of httpx2 returns after the body is closed."""
        return getattr(self._stream, "elapsed", None)

    def close(self) -> None:
        self._stream.close()

    async def aclose(self) -> None:
        await self._stream.aclose()


class _Shortened(_Stream):
    """The first ``MOST_READ`` bytes of a body. A refusal whose body is cut off is still a refusal."""

    _left = MOST_READ

    def __iter__(self) -> Iterator[bytes]:
        with suppress(Exception):
            for chunk in self._stream:
                yield chunk[: self._left]
                self._left -= len(chunk)
                if self._left < 0:
                    return

    async def __aiter__(self) -> AsyncIterator[bytes]:
        with suppress(Exception):
            async for chunk in self._stream:
                yield chunk[: self._left]
                self._left -= len(chunk)
                if self._left < 0:
                    return


class _ReadAlong(_Stream):
    """A body that keeps its beginning while the application reads it, and calls ``note`` with it when closed.

    An auth cannot see whether the application streams the response.
    """

    def __init__(self, stream: Any, note: Callable[[bytes], None]) -> None:
        super().__init__(stream)
        self._note = note
        self._beginning = bytearray()

    def __iter__(self) -> Iterator[bytes]:
        for chunk in self._stream:
            self._keep(chunk)
            yield chunk

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for chunk in self._stream:
            self._keep(chunk)
            yield chunk

    def close(self) -> None:
        super().close()
        self._note(bytes(self._beginning))

    async def aclose(self) -> None:
        await super().aclose()
        self._note(bytes(self._beginning))

    def _keep(self, chunk: bytes) -> None:
        # Keep one byte more than the limit, which shows that the body is too long.
        self._beginning += chunk[: MOST_OF_A_PROBLEM + 1 - len(self._beginning)]
