"""What an HTTP request ends with: an answer, or an error that holds neither the request nor a secret."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime

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
