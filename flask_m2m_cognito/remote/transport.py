"""GET and POST: one deadline, a limit on what is read, the first address that answers.

``requests`` bounds each wait but not their sum: a server that drips one byte a second holds a
caller for hours. Here the connection is shut down at the deadline (see ``bounded_adapter``).
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urlsplit

from ..formats.urls import is_loopback_host
from .clock import Deadline
from .redaction import Redaction
from .reports import Note, unobserved

Timeout = tuple[float, float]
"""Seconds for connecting, and for each read."""

MAX_BODY = 64 * 1024
"""Bytes of a body, decompressed. A key set has about 1 KiB, a token answer 2 KiB."""

_WORTH_A_RETRY = frozenset({502, 503, 504})

_NO_PROXY = {"http": "", "https": ""}
"""For loopback, whatever the environment says: a proxy would read the client secret in plain http, and could
answer with signing keys of its own."""

_LONGEST_DATE = 64


@dataclass(frozen=True)
class Answer:
    """What a server said, whatever its status. Redirects are answers: none is followed."""

    url: str
    status: int
    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(repr=False)

    @property
    def text(self) -> str:
        return self.body.decode("utf-8", "replace")

    def retry_after(self, wall: float) -> float | None:
        """Seconds of ``Retry-After``, in either of its forms (RFC 9110, section 10.2.3)."""
        text = self.headers.get("Retry-After", "").strip()
        if text.isascii() and text.isdigit():
            return float(text[:9])
        moment = _http_date(text)
        return None if moment is None else max(0.0, moment - wall)

    def clock_offset(self, wall: float) -> float | None:
        """Seconds by which the server's ``Date`` is ahead of ``wall``; whole seconds only."""
        moment = _http_date(self.headers.get("Date", ""))
        return None if moment is None else moment - wall


class TransportError(Exception):
    """No answer. Holds no request, no traceback of one, and no secret.

    Attributes:
        is_timeout: the time ran out.
        may_retry: the connection failed at once, so that a second try costs little.
        cause: an exception of ``requests`` with the same type and text, a :class:`ForeignError`, or ``None``.
    """

    def __init__(
        self,
        message: str,
        *,
        is_timeout: bool = False,
        may_retry: bool = False,
        cause: Exception | None = None,
    ) -> None:
        super().__init__(message)
        self.is_timeout = is_timeout
        self.may_retry = may_retry
        self.cause = cause


def _http_date(text: str) -> float | None:
    # An HTTP date has 29 characters; a number of 60,000 digits takes long to read on Python 3.10.
    if len(text) > _LONGEST_DATE:
        return None
    try:
        return parsedate_to_datetime(text).timestamp()
    except (ValueError, TypeError, IndexError, OverflowError):
        return None


class Body:
    """A body to send, and its headers. Mute: error trackers walk dictionaries in stack frames.

    Args:
        content: what is sent.
        headers: replace those that each request has.
    """

    __slots__ = ("content", "headers")

    def __init__(self, content: bytes, headers: Mapping[str, str]) -> None:
        self.content: bytes = content
        self.headers: Mapping[str, str] = headers


OnRequest = Callable[[str, str], AbstractContextManager[Note]]
"""Called with method and URL; what it returns is entered around the request, on its thread, and given the
:class:`Answer` or :class:`TransportError`."""


class Transport:
    """Sends one request at a time to the first address that answers; keeps no connection.

    Args:
        timeout: seconds for connecting and for each read.
        max_body: bytes of a body that are read; more is an error.
        on_request: what each request happens in, see :data:`OnRequest`.
        redact: removes the secrets of a request from the text of its failure.
    """

    def __init__(
        self,
        timeout: Timeout = (3.05, 5.0),
        max_body: int = MAX_BODY,
        on_request: OnRequest = unobserved,
        redact: Redaction | None = None,
    ) -> None:
        self._redact = redact or Redaction()
        self._timeout = timeout
        self._max_body = max_body
        self._on_request = on_request

    def get(self, urls: Sequence[str], deadline: Deadline, is_final: Callable[[Answer], bool]) -> Answer:
        """Return the first final answer to GET, see :func:`first_answer`."""
        return first_answer(urls, deadline, is_final, self._try)

    def post(
        self, urls: Sequence[str], body: Body, deadline: Deadline, is_final: Callable[[Answer], bool]
    ) -> Answer:
        """Return the first final answer to POST of ``body``, see :func:`first_answer`."""
        return first_answer(urls, deadline, is_final, lambda url, share: self._try(url, share, body))

    def _try(self, url: str, deadline: Deadline, body: Body | None = None) -> Answer | TransportError:
        method = "GET" if body is None else "POST"
        with self._on_request(method, url) as note:
            outcome = self._send(method, url, deadline, body)
            note(outcome)
        return outcome

    def _send(self, method: str, url: str, deadline: Deadline, body: Body | None) -> Answer | TransportError:
        # A failure is returned, not raised: a raised one would carry the frames of requests,
        # whose locals hold the encoded form, into every error tracker.
        from .bounded_adapter import bounded_session, failure_from

        connect, read = self._timeout
        seconds = deadline.left()
        try:
            with (
                bounded_session(deadline) as session,
                session.request(
                    method,
                    url,
                    data=None if body is None else body.content,
                    headers=_headers(body),
                    timeout=(min(connect, seconds), min(read, seconds)),
                    proxies=_NO_PROXY if is_loopback_host(urlsplit(url).hostname or "") else None,
                    allow_redirects=False,
                    stream=True,
                ) as response,
            ):
                received = self._read_body(response, deadline)
                if received is None:
                    return TransportError(f"{_place(url)} sent more than {self._max_body} bytes")
                return Answer(url, response.status_code, response.headers, received)
        except Exception as error:
            text, is_timeout, may_retry, cause = failure_from(error, seconds, self._redact)
            text = f"{_place(url)}: {text}"
            return TransportError(text, is_timeout=is_timeout, may_retry=may_retry, cause=cause)

    def _read_body(self, response: Any, deadline: Deadline) -> bytes | None:
        body = bytearray()
        for chunk in response.iter_content(8192):
            if deadline.passed:
                raise TimeoutError("the deadline has passed")
            body += chunk
            if len(body) > self._max_body:
                return None
        return bytes(body)


def import_http() -> None:
    """Import what a request needs, so that it does not take its time from the deadline."""
    from . import bounded_adapter  # noqa: F401


def first_answer(
    urls: Sequence[str],
    deadline: Deadline,
    is_final: Callable[[Answer], bool],
    ask: Callable[[str, Deadline], Answer | TransportError],
) -> Answer:
    """Return the first final answer of ``urls``, asked in order; else what the first of them said.

    Each address gets an equal share of the time left, so that one that hangs does not starve
    the next; a single address gets all of it. If all fail, the first is asked once more, at once, if its
    connection failed or it answered 502, 503 or 504 without ``Retry-After``. Its failure is the one that is
    reported: a later address may answer 403 because it does not serve this resource at all.

    Raises:
        TransportError: no address answered, or the first did not and the others answered 4xx.
    """
    outcomes: list[Answer | TransportError] = []
    for position, url in enumerate(urls):
        if deadline.passed:
            break
        outcome = ask(url, deadline.part(len(urls) - position))
        if isinstance(outcome, Answer) and is_final(outcome):
            return outcome
        outcomes.append(outcome)
    if not outcomes:
        raise TransportError("no time left to ask", is_timeout=True)
    if _is_worth_a_retry(outcomes[0]) and not deadline.passed:
        outcome = ask(urls[0], deadline)
        if isinstance(outcome, Answer) and is_final(outcome):
            return outcome
        outcomes[0] = _first_that_tells(outcome, outcomes[0])
    failure = _first_that_tells(*outcomes)
    if isinstance(failure, TransportError):
        raise failure
    return failure


def _first_that_tells(
    first: Answer | TransportError, *later: Answer | TransportError
) -> Answer | TransportError:
    """Return ``first``; if it is no answer, the first later answer that reports an outage."""
    if isinstance(first, Answer):
        return first
    outages = (
        each for each in later if isinstance(each, Answer) and (each.status >= 500 or each.status == 429)
    )
    return next(outages, first)


def _is_worth_a_retry(outcome: Answer | TransportError) -> bool:
    if isinstance(outcome, TransportError):
        return outcome.may_retry
    return outcome.status in _WORTH_A_RETRY and "Retry-After" not in outcome.headers


def _headers(body: Body | None) -> dict[str, str]:
    # A firewall may block "python-requests" as a bot. The package itself imports this module.
    version = sys.modules[__name__.partition(".")[0]].__version__
    headers = {"Accept": "application/json", "User-Agent": f"flask-m2m-cognito/{version}"}
    return headers if body is None else merge_headers(headers, body.headers)


def merge_headers(usual: Mapping[str, str], more: Mapping[str, str]) -> dict[str, str]:
    """Return ``usual`` and ``more``, which replaces headers of the same name in any case."""
    replaced = {name.lower() for name in more}
    return {**{name: text for name, text in usual.items() if name.lower() not in replaced}, **more}


def _place(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
