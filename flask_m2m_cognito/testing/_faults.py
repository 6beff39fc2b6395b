"""How a local pool misbehaves when a test tells it to."""

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
    """What is wrong with an answer. See :meth:`Misbehaving.fail`."""

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
        """Return the answer that is sent instead of ``answer``; all of it, if it is cut off later."""
        changed = self._with_content(answer)
        body = changed.body
        if self.size is not None:
            # Whitespace after JSON is still JSON: only a limit on size can reject this one.
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
    """An answer, and how to send it. ``recovered`` ends every wait on the way."""

    answer: Answer
    fault: Fault
    delay: float
    recovered: threading.Event


class Misbehaving:
    """The part of a pool that a test can tell to fail."""

    def __init__(self, lock: threading.Condition) -> None:
        self._lock = lock
        # An endpoint yields its fault once for each request that it meets.
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
        """Misbehave from now on, until :meth:`recover`, or to the end of a ``with`` block.

        Without any fault: status 500. A later call for the same endpoint replaces this one;
        a :meth:`delay` stays and comes on top.

        Args:
            endpoint: ``"jwks"``, ``"token"``, ``"openid-configuration"``, ``"other"`` or ``"all"``.
            status: HTTP status; with a body as AWS has it, unless it is 2xx or ``body`` is given.
            body: instead of the right one; a mapping is sent as JSON.
            headers: on top of the right ones; ``None`` leaves one out, ``Content-Length`` too, and
                then the end of the connection ends the body.
            hang: take the request and never answer. Ends, without an answer, when the pool
                recovers, goes offline or stops.
            cut_off: close the connection in the middle of the body.
            reset: reset the connection instead of answering.
            garbage: 200 with a page of HTML.
            drip: send the body at so many bytes a second; the rest at once when the pool recovers.
            size: make the body so many bytes, with spaces at its end: what was JSON is still JSON.
            times: only the next so many requests, counted over all of ``endpoint``; then be well.

        Raises:
            ConfigurationError: a number that can't be, or ``hang`` and ``reset`` at once.
        """
        fault = Fault(status, body, headers, hang, cut_off, reset, garbage, drip, size)
        _check_fault(fault, times)
        if fault == WELL:
            fault = Fault(status=500)
        endpoints = _endpoints(endpoint)
        # One iterator for all of them, so `times` counts over all.
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
        """Give this answer instead of the right one, as :meth:`fail` does."""
        return self.fail(endpoint, body=body, status=status, headers=headers, times=times)

    def delay(self, endpoint: Target, seconds: float) -> AbstractContextManager[object, None]:
        """Answer so many seconds later, until :meth:`recover`, which lets waiting answers go."""
        _check("seconds", seconds, seconds >= 0)
        with self._lock:
            self._delays.update(dict.fromkeys(_endpoints(endpoint), seconds))
        return self._until_recovered(endpoint)

    def recover(self, endpoint: Target = "all") -> None:
        """Be well again: no fault, no delay, and nothing hangs any more."""
        with self._lock:
            for each in _endpoints(endpoint):
                self._faults.pop(each, None)
                self._delays.pop(each, None)
            self._end_waits(endpoint)

    def _end_waits(self, target: Target = "all") -> None:
        """End every hang, drip and delay; later requests meet the same faults as before."""
        with self._lock:
            for endpoint in _endpoints(target):
                self._recovered[endpoint].set()
                self._recovered[endpoint] = threading.Event()

    def _delivery(self, endpoint: Endpoint, answer: Answer) -> Delivery:
        """Return how to send ``answer``, which would be right. Uses up one of a fault's ``times``."""
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
        raise ConfigurationError(f"endpoint must be 'all' or one of {ENDPOINTS}, not {target!r}.")
    return (target,)


def _check_fault(fault: Fault, times: int | None) -> None:
    if fault.hang and fault.reset:
        raise ConfigurationError("hang and reset can't both be: one waits, the other does not.")
    _check("status", fault.status, fault.status is None or 200 <= fault.status <= 599)
    _check("drip", fault.drip, fault.drip is None or fault.drip > 0)
    _check("size", fault.size, fault.size is None or fault.size >= 0)
    _check("times", times, times is None or times > 0)


def _check(name: str, value: object, is_right: bool) -> None:
    if not is_right:
        raise ConfigurationError(f"{name} can't be {value!r}.")
