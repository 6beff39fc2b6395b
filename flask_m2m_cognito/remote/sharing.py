"""A fetch that a fleet makes once: the store first, else the lease and fetch, else watch.

``shared`` wraps a fetch and has its shape, so that the order can be read where it is built:
``Refreshable(shared(fetch, store, …))``.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeVar

from .clock import SYSTEM, Clock
from .freshness import Ask, Fetch, Fetched
from .sealed_store import Entry, Lease, SealedStore

T = TypeVar("T")

LEASE_PART = 0.6
"""Of the refresh deadline: after a dead leader there must be time left for another's fetch."""

_FIRST_PAUSE = 0.02
_LONGEST_PAUSE = 0.25


@dataclass(frozen=True)
class Codec(Generic[T]):
    """How a value is put into the store and taken out.

    Attributes:
        kind: what it is, so that one kind can't be passed off as another.
        encode: to plain JSON.
        decode: back, given what the process holds. How long the value serves is decided here, by the
            settings of the process that reads. Raises if it is not one, or if this process would reject it
            from the network too.
    """

    kind: str
    encode: Callable[[T], Any]
    decode: Callable[[Entry, T | None], Fetched[T]]


def shared(
    fetch: Fetch[T],
    store: SealedStore,
    name: str,
    codec: Codec[T],
    *,
    clock: Clock = SYSTEM,
    pause: Callable[[float], None] = time.sleep,
) -> Fetch[T]:
    """``fetch``, made by one process of all that share ``store``.

    A fresh value in the store ends it, unless it is not what was asked for or not newer than what is
    held. Else this process takes the lease and fetches, or watches until another has. If the
    fetch fails, a value that is still usable in the store is better than none.
    """
    return _Sharing(fetch, store, name, codec, clock, pause)


@dataclass(frozen=True)
class _Sharing(Generic[T]):
    fetch: Fetch[T]
    store: SealedStore
    name: str
    codec: Codec[T]
    clock: Clock
    pause: Callable[[float], None]

    def __call__(self, ask: Ask[T]) -> Fetched[T]:
        if not self.store.backend.is_configured():
            return self.fetch(ask)
        if ask.is_forced:
            return self._fetch_and_save(ask)
        found = self._fresh_in_store(ask)
        if found is None and self.store.backend.is_in_process:
            return self._fetch_and_save(ask)  # nobody else could hold the lease
        pause = _FIRST_PAUSE
        while found is None:
            lease = self.store.take_lease(self.name, ask.deadline.seconds * LEASE_PART)
            if lease is not None:
                return self._lead(ask, lease)
            if ask.deadline.left() <= pause:
                # Whoever has the lease is not going to make it; an answer late is better than none.
                return self._fetch_and_save(ask)
            self.pause(pause)
            pause = min(pause * 1.5, _LONGEST_PAUSE)
            found = self._fresh_in_store(ask)
        return found

    def _lead(self, ask: Ask[T], lease: Lease) -> Fetched[T]:
        try:
            # The one who had the lease before may have put it there since we looked.
            return self._fresh_in_store(ask) or self._fetch_and_save(ask)
        finally:
            self.store.give_back(lease)

    def _fetch_and_save(self, ask: Ask[T]) -> Fetched[T]:
        try:
            fetched = self.fetch(ask)
        except Exception as error:
            left = None if ask.is_forced else self._usable_in_store(ask)
            if left is None:
                raise
            return replace(left, failure=error)
        if not self._is_outdated(fetched, ask):
            self.store.save(self.name, self.codec.kind, self._entry_from(fetched))
        return fetched

    def _is_outdated(self, fetched: Fetched[T], ask: Ask[T]) -> bool:
        """Whether this answer comes so late that another process has put a newer one there."""
        return ask.deadline.passed and self._usable_in_store(Ask(ask.deadline, fetched)) is not None

    def _fresh_in_store(self, ask: Ask[T]) -> Fetched[T] | None:
        found = self._usable_in_store(ask)
        return found if found is not None and self.clock.wall() < found.fresh_until else None

    def _usable_in_store(self, ask: Ask[T]) -> Fetched[T] | None:
        """What the store has, if it is newer than what is held, and what was asked for."""
        entry = self.store.load(self.name, self.codec.kind)
        if entry is None:
            return None
        now = self.clock.wall()
        entry = entry.not_after(now)
        if ask.held is not None and entry.fetched_at <= ask.held.fetched_at:
            return None
        try:
            found = self.codec.decode(entry, ask.held.value if ask.held else None)
        except Exception:
            return None
        is_of_use = now < found.usable_until and ask.is_enough(found.value)
        return replace(found, source="store") if is_of_use else None

    def _entry_from(self, fetched: Fetched[T]) -> Entry:
        payload = self.codec.encode(fetched.value) if fetched.payload is None else fetched.payload
        return Entry(payload, fetched.fetched_at, fetched.expires_at)
