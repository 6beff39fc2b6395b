"""Send GET and POST requests with one deadline, a size limit, and several addresses to try.

``requests`` limits each wait but not their sum: a server that sends one byte a second blocks a caller for
hours. Here the connection is shut down at the deadline (see ``bounded_adapter``).
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
"""Seconds to connect, and seconds for each read."""

MAX_BODY = 64 * 1024
"""The most bytes of a decompressed body. A key set has about 1 KiB, a token response 2 KiB."""

_WORTH_A_RETRY = frozenset({502, 503, 504})

_NO_PROXY = {"http": "", "https": ""}
"""For loopback, regardless of the environment. A proxy would read the client secret over plain http, and
could return its own signing keys."""

_LONGEST_DATE = 64


@dataclass(frozen=True)
class Answer:
    """The response of a server, with any status. Redirects are not followed, so they are answers too."""

    url: str
    status: int
    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(repr=False)

    @property
    def text(self) -> str:
        return self.body.decode("utf-8", "replace")

    def retry_after(self, wall: float) -> float | None:
        """Return the seconds of ``Retry-After``, in either of its forms (RFC 9110, section 10.2.3)."""
        text = self.headers.get("Retry-After", "").strip()
        if text.isascii() and text.isdigit():
            return float(text[:9])
        moment = _http_date(text)
        return None if moment is None else max(0.0, moment - wall)

    def clock_offset(self, wall: float) -> float | None:
        """Return the seconds by which the server's ``Date`` is ahead of ``wall``, to a whole second."""
        moment = _http_date(self.headers.get("Date", ""))
        return None if moment is None else moment - wall


class TransportError(Exception):
    """A request got no answer. The error holds no request, no traceback of one, and no secret.

    Attributes:
        is_timeout: whether the request timed out.
        may_retry: whether the connection failed, so that a retry takes little time.
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
    # An HTTP date has 29 characters. Python 3.10 takes long to parse a number of 60,000 digits.
    if len(text) > _LONGEST_DATE:
        return None
    try:
        return parsedate_to_datetime(text).timestamp()
    except (ValueError, TypeError, IndexError, OverflowError):
        return None


class Body:
    """A request body and its headers. It has no ``__dict__``, which error trackers print in stack frames.

    Args:
        content: the bytes to send.
        headers: replace the usual headers of the same names.
    """

    __slots__ = ("content", "headers")

    def __init__(self, content: bytes, headers: Mapping[str, str]) -> None:
        self.content: bytes = content
        self.headers: Mapping[str, str] = headers


OnRequest = Callable[[str, str], AbstractContextManager[Note]]
"""Called with the method and the URL. Returns a context manager that is entered around the request, on its
thread, and yields a function that receives the :class:`Answer` or :class:`TransportError`."""


class Transport:
    """Send one request at a time to the first address that answers, without keeping connections.

    Args:
        timeout: seconds to connect, and seconds for each read.
        max_body: the most bytes of a response body. A longer one is an error.
        on_request: wraps each request, see :data:`OnRequest`.
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
        # Return a failure instead of raising it. A raised one would carry the frames of requests into every
        # error tracker, and their local variables hold the encoded form.
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
                    return TransportError(f"{_place(url)}: response larger than {self._max_body} bytes")
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
    """Import what a request needs before its deadline starts."""
    from . import bounded_adapter  # noqa: F401


def first_answer(
    urls: Sequence[str],
    deadline: Deadline,
    is_final: Callable[[Answer], bool],
    ask: Callable[[str, Deadline], Answer | TransportError],
) -> Answer:
    """Return the first final answer of ``urls``, tried in order; if there is none, the answer of the first.

    Each address gets an equal share of the time left, so that the next one has time even if it hangs. If all
    fail, the first one is retried at once if its connection failed or it answered 502, 503 or 504 without
    ``Retry-After``. The first one's failure is reported, because a later address may answer 403 if it does
    not serve this resource at all.

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
        raise TransportError("timed out before a request was sent", is_timeout=True)
    if _is_worth_a_retry(outcomes[0]) and not deadline.passed:
        outcome = ask(urls[0], deadline)
        if isinstance(outcome, Answer) and is_final(outcome):
            return outcome
        outcomes[0] = _most_informative(outcome, outcomes[0])
    failure = _most_informative(*outcomes)
    if isinstance(failure, TransportError):
        raise failure
    return failure


def _most_informative(
    first: Answer | TransportError, *later: Answer | TransportError
) -> Answer | TransportError:
    """Return ``first`` if it is an answer, else the first later answer with status 5xx or 429, if any."""
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
    # A firewall may block "python-requests" as a bot. The package is in sys.modules: it imports this module.
    version = sys.modules[__name__.partition(".")[0]].__version__
    headers = {"Accept": "application/json", "User-Agent": f"flask-m2m-cognito/{version}"}
    return headers if body is None else merge_headers(headers, body.headers)


def merge_headers(usual: Mapping[str, str], more: Mapping[str, str]) -> dict[str, str]:
    """Return the headers of ``usual`` and ``more``. Those in ``more`` replace others, ignoring case."""
    replaced = {name.lower() for name in more}
    return {**{name: text for name, text in usual.items() if name.lower() not in replaced}, **more}


def _place(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
