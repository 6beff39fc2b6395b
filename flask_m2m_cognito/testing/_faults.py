"""Faults that a test sets on a local pool."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field, replace
from itertools import repeat
from typing import Literal

from ..exceptions import ConfigurationError
from ._answers import JSON_TYPE, Answer, Body, Headers, encode, merge_headers, service_error
from ._recorded import ENDPOINTS, Endpoint

Target = Endpoint | Literal["all"]

_GARBAGE = Answer(200, b"<html><body><h1>It works!</h1></body></html>", {"Content-Type": "text/html"})


@dataclass(frozen=True)
class Fault:
    """A fault of an answer. See :meth:`Misbehaving.fail`."""

    status: int | None = None
    body: Body | None = field(default=None, repr=False)
    headers: Headers | None = field(default=None, repr=False)
    hang: bool = False
    cut_off: bool = False
    reset: bool = False
    garbage: bool = False
    drip: float | None = None
    size: int | None = None

    def apply_to(self, answer: Answer) -> Answer:
        """Return the answer to send instead of ``answer``. A body that is cut off later is still whole."""
        changed = self._with_content(answer)
        body = changed.body
        if self.size is not None:
            # JSON with trailing whitespace is still JSON, so only a limit on the size can reject it.
            body = body[: self.size].ljust(self.size)
        return replace(changed, body=body, headers=merge_headers(changed.headers, self.headers or {}))

    def _with_content(self, answer: Answer) -> Answer:
        if self.garbage:
            return replace(_GARBAGE, status=self.status or _GARBAGE.status)
        if self.body is not None:
            kind = answer.headers.get("Content-Type") if isinstance(self.body, (str, bytes)) else None
            headers = {"Content-Type": kind or JSON_TYPE}
            return Answer(self.status or answer.status, encode(self.body), headers)
        if self.status is None:
            return answer
        if 200 <= self.status < 300:
            return replace(answer, status=self.status)
        return service_error(self.status)


WELL = Fault()


@dataclass(frozen=True)
class Delivery:
    """An answer, and how to send it. ``recovered`` ends every delay, hang and drip."""

    answer: Answer
    fault: Fault
    delay: float
    recovered: threading.Event


class Misbehaving:
    """The part of a pool that fails on request."""

    def __init__(self, lock: threading.Condition) -> None:
        self._lock = lock
        # The iterator of an endpoint yields one fault for each request.
        self._faults: dict[Endpoint, Iterator[Fault]] = {}
        self._delays: dict[Endpoint, float] = {}
        self._recovered = {endpoint: threading.Event() for endpoint in ENDPOINTS}

    def fail(
        self,
        endpoint: Target = "all",
        *,
        status: int | None = None,
        body: Body | None = None,
        headers: Headers | None = None,
        hang: bool = False,
        cut_off: bool = False,
        reset: bool = False,
        garbage: bool = False,
        drip: float | None = None,
        size: int | None = None,
        times: int | None = None,
    ) -> AbstractContextManager[object, None]:
        """Fail from now on, until :meth:`recover` or the end of a ``with`` block.

        Without a fault argument the status is 500. A later call for the same endpoint replaces
        this fault. A :meth:`delay` applies as well.

        Args:
            endpoint: ``"jwks"``, ``"token"``, ``"openid-configuration"``, ``"other"`` or ``"all"``.
            status: the HTTP status. Unless it is 2xx or ``body`` is given, the body is an error of AWS.
            body: replaces the correct body. A mapping is sent as JSON.
            headers: added to the correct headers. ``None`` removes a header. Without
                ``Content-Length`` the end of the connection ends the body.
            hang: accept the request, but never answer. The connection ends, without an answer, when
                the pool recovers, goes offline or stops.
            cut_off: close the connection in the middle of the body.
            reset: reset the connection instead of answering.
            garbage: answer 200 with an HTML page.
            drip: bytes of the body to send in each second. When the pool recovers, the remaining
                body is sent at once.
            size: the size of the body in bytes. A shorter body is padded with spaces, so JSON stays
                valid; a longer one is cut.
            times: how many requests fail, counted over all endpoints of ``endpoint``. Later requests
                get the correct answer.

        Raises:
            ConfigurationError: a number is out of range, or ``hang`` and ``reset`` are combined.
        """
        fault = Fault(status, body, headers, hang, cut_off, reset, garbage, drip, size)
        _check_fault(fault, times)
        if fault == WELL:
            fault = Fault(status=500)
        endpoints = _endpoints(endpoint)
        # All endpoints share one iterator, so `times` counts their requests together.
        faults = repeat(fault) if times is None else repeat(fault, times)
        with self._lock:
            self._faults.update(dict.fromkeys(endpoints, faults))
        return self._until_recovered(endpoint)

    def answer(
        self,
        endpoint: Target,
        body: Body,
        status: int = 200,
        headers: Headers | None = None,
        times: int | None = None,
    ) -> AbstractContextManager[object, None]:
        """Send this answer instead of the correct one, until :meth:`recover` or the end of a ``with`` block.

        The arguments are those of :meth:`fail`.
        """
        return self.fail(endpoint, body=body, status=status, headers=headers, times=times)

    def delay(self, endpoint: Target, seconds: float) -> AbstractContextManager[object, None]:
        """Answer ``seconds`` later, until :meth:`recover` or the end of a ``with`` block.

        When the pool recovers, delayed answers are sent at once.
        """
        _check("seconds", seconds, seconds >= 0, "at least 0")
        with self._lock:
            self._delays.update(dict.fromkeys(_endpoints(endpoint), seconds))
        return self._until_recovered(endpoint)

    def recover(self, endpoint: Target = "all") -> None:
        """Answer correctly again: remove faults and delays, and end requests that hang."""
        with self._lock:
            for each in _endpoints(endpoint):
                self._faults.pop(each, None)
                self._delays.pop(each, None)
            self._end_waits(endpoint)

    def _end_waits(self, target: Target = "all") -> None:
        """End the hangs, drips and delays of current requests. Later requests get the same faults."""
        with self._lock:
            for endpoint in _endpoints(target):
                self._recovered[endpoint].set()
                self._recovered[endpoint] = threading.Event()

    def _delivery(self, endpoint: Endpoint, answer: Answer) -> Delivery:
        """Return how to send ``answer``, the correct one. Uses up one of the ``times`` of a fault."""
        fault = next(self._faults.get(endpoint, iter(())), WELL)
        delay = self._delays.get(endpoint, 0.0)
        return Delivery(fault.apply_to(answer), fault, delay, self._recovered[endpoint])

    def _until_recovered(self, endpoint: Target) -> AbstractContextManager[object, None]:
        block: ExitStack[None] = ExitStack()
        block.callback(self.recover, endpoint)
        return block


def _endpoints(target: Target) -> tuple[Endpoint, ...]:
    if target == "all":
        return ENDPOINTS
    if target not in ENDPOINTS:
        raise ConfigurationError(f"endpoint must be 'all' or one of {ENDPOINTS}, got {target!r}.")
    return (target,)


def _check_fault(fault: Fault, times: int | None) -> None:
    if fault.hang and fault.reset:
        raise ConfigurationError("hang and reset exclude each other: use one of them.")
    _check("status", fault.status, fault.status is None or 200 <= fault.status <= 599, "from 200 to 599")
    _check("drip", fault.drip, fault.drip is None or fault.drip > 0, "greater than 0")
    _check("size", fault.size, fault.size is None or fault.size >= 0, "at least 0")
    _check("times", times, times is None or times > 0, "greater than 0")


def _check(name: str, value: object, is_valid: bool, requirement: str) -> None:
    if not is_valid:
        raise ConfigurationError(f"Invalid fault: {name} must be {requirement}, got {value!r}.")
