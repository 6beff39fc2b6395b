"""An ``auth=`` for the clients of httpx, sync and async. Imported only if httpx has been imported."""

from __future__ import annotations

import functools
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator, Iterator
from contextlib import suppress
from typing import cast

import httpx

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


class HttpxFlow(httpx.Auth):
    """The interface of ``httpx.Auth``: the part of a :class:`BearerAuth` that only the clients of httpx use.

    httpx follows redirects within the flow, so ``response.request`` is the last request of a chain. The
    earlier ones succeeded, so only the last one is sent again.
    """

    _tokens: Tokens
    _retry_401: bool
    _http_hosts: HttpHosts

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        check_destination(str(request.url), self._http_hosts, uses_proxy_in_httpx)
        put_token(request, self._tokens.token())
        response = yield request
        again = self._build_second_request(request, response)
        if again is None:
            return
        if not response.is_stream_consumed:
            _read_beginning(response)
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
        if not response.is_stream_consumed:
            await _read_beginning_async(response)
        self._finish(again, (yield again))

    def _build_second_request(self, request: httpx.Request, response: httpx.Response) -> httpx.Request | None:
        """Return the request with a newer token. If it must not be sent again, report a refusal."""
        last = response.request
        token = token_of(last)
        if token is None or not carries_our_token(last, origin_of(str(request.url))):
            return None
        if is_invalid_token(response.status_code, response.headers):
            can_resend = self._retry_401 and isinstance(last.stream, httpx.ByteStream)
            newer = token_for_second_try(self._tokens, token, can_resend)
            if newer is not None:
                put_token(last, newer)
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
            response.stream = _ReadAlong(response.stream, note)
            return
        body = b""
        with suppress(httpx.ResponseNotRead):
            body = response.content  # available if a hook of the application has read it
        note(body)


class _ReadAlong(httpx.SyncByteStream, httpx.AsyncByteStream):
    """A body that keeps its beginning while the application reads it, and calls ``note`` with it when closed.

    An auth cannot see whether the application streams the response.
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
        # Keep one byte more than the limit, which shows that the body is too long.
        self._beginning += chunk[: MOST_OF_A_PROBLEM + 1 - len(self._beginning)]


# httpx reads a response to its end before it sends the next request. These functions shorten the response.


def _read_beginning(response: httpx.Response) -> None:
    chunks, body = cast("httpx.SyncByteStream", response.stream), bytearray()
    with suppress(httpx.TransportError):
        for chunk in chunks:
            body += chunk
            if len(body) > MOST_READ:
                break
    chunks.close()
    response.stream = httpx.ByteStream(bytes(body[:MOST_READ]))


async def _read_beginning_async(response: httpx.Response) -> None:
    chunks, body = cast("httpx.AsyncByteStream", response.stream), bytearray()
    with suppress(httpx.TransportError):
        async for chunk in chunks:
            body += chunk
            if len(body) > MOST_READ:
                break
    await chunks.aclose()
    response.stream = httpx.ByteStream(bytes(body[:MOST_READ]))
