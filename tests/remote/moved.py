"""Sources, errors and threads that a test controls."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from flask_m2m_cognito.remote.refreshable import Ask, Fetched, Refreshable
from flask_m2m_cognito.remote.sealed_store import Entry
from flask_m2m_cognito.remote.sharing import Codec
from tests.support.clocks import Clocks
from tests.support.threads import LONG as LONG
from tests.support.threads import Threads as Threads
from tests.support.threads import at_once as at_once
from tests.support.threads import threads as threads
from tests.support.threads import together as together

FRESH_FOR = 100.0
USABLE_FOR = 1000.0
DEADLINE = 10.0
COOLDOWN = 10.0


class SourceDown(Exception):
    """The error of a source, with ``Retry-After`` like the real ones."""

    def __init__(self, text: str = "down", retry_after: float | None = None) -> None:
        super().__init__(text)
        self.retry_after = retry_after


class Unavailable(Exception):
    """The error that callers get."""

    def __init__(self, cause: Exception, retry_in: float) -> None:
        super().__init__(f"unavailable: {cause}")
        self.cause = cause
        self.retry_in = retry_in


class Source:
    """Returns ``v1``, ``v2``, … and counts its calls."""

    def __init__(self, clocks: Clocks) -> None:
        self._clocks = clocks
        self.requests: list[Ask[str]] = []
        self.error: Exception | None = None
        self.repeats: str | None = None
        self.fresh_for = FRESH_FOR
        self.usable_for = USABLE_FOR
        self.entered = threading.Semaphore(0)
        self._gate: threading.Event | None = None

    @property
    def fetches(self) -> int:
        return len(self.requests)

    def __call__(self, ask: Ask[str]) -> Fetched[str]:
        self.requests.append(ask)
        fetched = self.fetched(self.repeats or f"v{self.fetches}", self._clocks.wall())
        error, gate = self.error, self._gate
        self.entered.release()
        if gate is not None:
            assert gate.wait(LONG)
        if error is not None:
            raise error
        return fetched

    def hang(self) -> threading.Event:
        """Make each fetch from now on wait for the returned event."""
        self._gate, self.entered = threading.Event(), threading.Semaphore(0)
        return self._gate

    @property
    def hangs(self) -> bool:
        return self._gate is not None

    def answer(self) -> None:
        """Stop hanging, from the next fetch on."""
        self._gate = None

    def wait_until_called(self) -> None:
        assert self.entered.acquire(timeout=LONG)

    def fetched(self, value: str, at: float) -> Fetched[str]:
        """Return ``value`` as if it was fetched ``at`` this moment."""
        return Fetched(value, at + self.fresh_for, at + self.usable_for, at)


def text_codec(fresh_for: float = FRESH_FOR, usable_for: float = USABLE_FOR) -> Codec[str]:
    """Return a codec for texts, with the reader's limits for fresh and usable values."""

    def decode(entry: Entry, held: str | None) -> Fetched[str]:
        if not isinstance(entry.payload, str):
            raise ValueError("not a text")
        at = entry.fetched_at
        return Fetched(entry.payload, at + fresh_for, at + usable_for, at)

    return Codec("text", str, decode)


def no_thread(run: Callable[[], None]) -> None:
    """Raise as Python does at shutdown, or at a limit of the operating system."""
    raise RuntimeError("can't start new thread")


def outcome_of(get: Callable[[], str]) -> object:
    """Return the value, or the class of the error."""
    try:
        return get()
    except Unavailable:
        return Unavailable


def held(refreshable: Refreshable[str]) -> str | None:
    """Return the value in memory, without calling ``get``."""
    return refreshable.state.value


def error_of(get: Callable[[], object]) -> Unavailable:
    """Return the error that ``get`` raises."""
    with pytest.raises(Unavailable) as caught:
        get()
    return caught.value
