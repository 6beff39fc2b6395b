"""How a local pool misbehaves when a test tells it to."""

from __future__ import annotations

import threading
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field, replace
from typing import Literal

from ..exceptions import ConfigurationError
from ._answers import JSON_TYPE, Answer, Body, Headers, encoded, service_error
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

    def applied_to(self, answer: Answer) -> Answer:
        """The answer that is sent instead of ``answer``; all of it, if it is cut off later."""
        changed = self._with_headers(self._with_content(answer))
        if self.size is None:
            return changed
        # White space after JSON is still JSON: only a limit on size can refuse this one.
        return replace(changed, body=changed.body[: self.size].ljust(self.size))

    def _with_content(self, answer: Answer) -> Answer:
        if self.garbage:
            return replace(_GARBAGE, status=self.status or _GARBAGE.status)
        if self.body is not None:
            kind = answer.headers.get("Content-Type") if isinstance(self.body, (str, bytes)) else None
            headers = {"Content-Type": kind or JSON_TYPE}
            return Answer(self.status or answer.status, encoded(self.body), headers)
        if self.status is None:
            return answer
        if 200 <= self.status < 300:
            return replace(answer, status=self.status)
        return service_error(self.status)

    def _with_headers(self, answer: Answer) -> Answer:
        if self.headers is None:
            return answer
        # A None stays for now: it also takes out what the server would add, such as the length.
        named = {name.lower() for name in self.headers}
        kept = {name: value for name, value in answer.headers.items() if name.lower() not in named}
        return replace(answer, headers={**kept, **self.headers})


WELL = Fault()


@dataclass(frozen=True)
class Delivery:
    """An answer, and how it is to be sent. ``recovered`` ends every wait on the way."""

    answer: Answer
    fault: Fault
    delay: float
    recovered: threading.Event


class Faults:
    """What is wrong now, at each endpoint. The pool's lock guards it."""

    def __init__(self) -> None:
        self._faults: dict[Endpoint, tuple[Fault, _Budget]] = {}
        self._delays: dict[Endpoint, float] = {}
        self._recovered = {endpoint: threading.Event() for endpoint in ENDPOINTS}

    def delivery(self, endpoint: Endpoint, answer: Answer) -> Delivery:
        """How ``answer``, which would be right, is sent. Uses up one of a fault's ``times``."""
        fault, budget = self._faults.get(endpoint, (WELL, _Budget(None)))
        if not budget.take():
            fault = WELL
        delay = self._delays.get(endpoint, 0.0)
        return Delivery(fault.applied_to(answer), fault, delay, self._recovered[endpoint])

    def fail(self, target: Target, fault: Fault, times: int | None) -> None:
        """From now on, until told otherwise or ``times`` requests over all of ``target``."""
        budget = _Budget(times)
        self._faults.update(dict.fromkeys(_endpoints(target), (fault, budget)))

    def delay(self, target: Target, seconds: float) -> None:
        """From now on each answer comes this much later."""
        self._delays.update(dict.fromkeys(_endpoints(target), seconds))

    def recover(self, target: Target) -> None:
        """All is well at ``target``, and nothing waits there."""
        for endpoint in _endpoints(target):
            self._faults.pop(endpoint, None)
            self._delays.pop(endpoint, None)
        self.end_waits(target)

    def end_waits(self, target: Target) -> None:
        """Whatever hangs, drips or is delayed goes on; what comes later is as before."""
        for endpoint in _endpoints(target):
            self._recovered[endpoint].set()
            self._recovered[endpoint] = threading.Event()


class Misbehaving:
    """The part of a pool that a test can tell to fail."""

    def __init__(self, lock: threading.Condition) -> None:
        self._lock = lock
        self._faults = Faults()

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

        With no word on how: status 500. A later call for the same endpoint replaces this one;
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
        with self._lock:
            self._faults.fail(endpoint, Fault(status=500) if fault == WELL else fault, times)
        return self._until_recovered(endpoint)

    def answer(
        self,
        endpoint: Target,
        body: Body,
        status: int = 200,
        headers: Headers | None = None,
        times: int | None = None,
    ) -> AbstractContextManager[object, None]:
        """Give this answer instead of the right one: :meth:`fail`, for answers that are none."""
        return self.fail(endpoint, body=body, status=status, headers=headers, times=times)

    def delay(self, endpoint: Target, seconds: float) -> AbstractContextManager[object, None]:
        """Answer so many seconds later, until :meth:`recover`, which lets waiting answers go."""
        _check("seconds", seconds, seconds >= 0)
        with self._lock:
            self._faults.delay(endpoint, seconds)
        return self._until_recovered(endpoint)

    def recover(self, endpoint: Target = "all") -> None:
        """Be well again: no fault, no delay, and nothing hangs any more."""
        with self._lock:
            self._faults.recover(endpoint)

    def _until_recovered(self, endpoint: Target) -> AbstractContextManager[object, None]:
        block: ExitStack[None] = ExitStack()
        block.callback(self.recover, endpoint)
        return block


class _Budget:
    """How many more requests a fault meets; ``None`` is no end."""

    def __init__(self, left: int | None) -> None:
        self._left = left

    def take(self) -> bool:
        if self._left is None:
            return True
        self._left -= 1
        return self._left >= 0


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
