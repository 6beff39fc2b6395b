"""Clocks that move when told, sources that do as told, and threads that start when told."""

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
    """What a source raises; carries ``Retry-After`` as the real errors do."""

    def __init__(self, text: str = "down", retry_after: float | None = None) -> None:
        super().__init__(text)
        self.retry_after = retry_after


class Unavailable(Exception):
    """What callers get."""

    def __init__(self, cause: Exception, retry_in: float) -> None:
        super().__init__(f"not to be had: {cause}")
        self.cause = cause
        self.retry_in = retry_in


class Source:
    """Gives ``v1``, ``v2``, … and counts how often it was asked."""

    def __init__(self, clocks: Clocks) -> None:
        self._clocks = clocks
        self.asks: list[Ask[str]] = []
        self.error: Exception | None = None
        self.repeats: str | None = None
        self.fresh_for = FRESH_FOR
        self.usable_for = USABLE_FOR
        self.entered = threading.Semaphore(0)
        self._gate: threading.Event | None = None

    @property
    def asked(self) -> int:
        return len(self.asks)

    def __call__(self, ask: Ask[str]) -> Fetched[str]:
        self.asks.append(ask)
        fetched = self.fetched(self.repeats or f"v{self.asked}", self._clocks.wall())
        error, gate = self.error, self._gate
        self.entered.release()
        if gate is not None:
            assert gate.wait(LONG)
        if error is not None:
            raise error
        return fetched

    def hang(self) -> threading.Event:
        """From now on each fetch waits for the event that this gives."""
        self._gate, self.entered = threading.Event(), threading.Semaphore(0)
        return self._gate

    @property
    def hangs(self) -> bool:
        return self._gate is not None

    def answer(self) -> None:
        """Hang no more, from the next fetch on."""
        self._gate = None

    def wait_until_asked(self) -> None:
        assert self.entered.acquire(timeout=LONG)

    def fetched(self, value: str, at: float) -> Fetched[str]:
        """``value`` as it was fetched at a moment."""
        return Fetched(value, at + self.fresh_for, at + self.usable_for, at)


def text_codec(fresh_for: float = FRESH_FOR, usable_for: float = USABLE_FOR) -> Codec[str]:
    """Texts, which serve for so long by the settings of who reads them."""

    def decode(entry: Entry, held: str | None) -> Fetched[str]:
        if not isinstance(entry.payload, str):
            raise ValueError("not a text")
        at = entry.fetched_at
        return Fetched(entry.payload, at + fresh_for, at + usable_for, at)

    return Codec("text", str, decode)


def no_thread(run: Callable[[], None]) -> None:
    """As Python's at shutdown, or at a limit of the operating system."""
    raise RuntimeError("can't start new thread")


class LaterThreads:
    """Threads that begin when told."""

    def __init__(self) -> None:
        self.waiting: list[Callable[[], None]] = []

    def __call__(self, run: Callable[[], None]) -> None:
        self.waiting.append(run)

    def run(self) -> None:
        waiting, self.waiting = self.waiting, []
        for run in waiting:
            run()


def outcome_of(get: Callable[[], str]) -> object:
    """The value, or the class of the error."""
    try:
        return get()
    except Unavailable:
        return Unavailable


def held(refreshable: Refreshable[str]) -> str | None:
    """What it holds, without asking it."""
    return refreshable.state.value


def error_of(get: Callable[[], object]) -> Unavailable:
    """What ``get`` raises."""
    with pytest.raises(Unavailable) as caught:
        get()
    return caught.value
