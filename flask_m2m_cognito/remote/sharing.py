"""Fetch once for a whole fleet: look into the store, or take the lease and fetch, or wait for the leader.

``shared`` wraps a fetch and has the same signature, so the order is visible where it is built:
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
"""The part of the refresh deadline that a lease lasts. If the leader dies, another process has the rest."""

_FIRST_PAUSE = 0.02
_LONGEST_PAUSE = 0.25


@dataclass(frozen=True)
class Codec(Generic[T]):
    """Encode a value for the store, and decode it.

    Attributes:
        kind: the kind of value, so that an entry of one kind is not accepted as another.
        encode: returns the value as plain JSON.
        decode: returns the value of an entry, given the current value of the process. It decides, by the
            reader's settings, how long the value is fresh and usable. Raises if the entry is not such a
            value, or if this process would reject it from the network.
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
    """Return a fetch that one process makes for all processes that share ``store``.

    If the store has a fresh value, return it, unless it does not answer the request or is not newer than the
    current one. Otherwise take the lease and fetch, or wait until the process with the lease has fetched. If
    the fetch fails, return a value that is still usable in the store.
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
            return self._fetch_and_save(ask)  # no other process could hold the lease
        pause = _FIRST_PAUSE
        while found is None:
            lease = self.store.take_lease(self.name, ask.deadline.seconds * LEASE_PART)
            if lease is not None:
                return self._lead(ask, lease)
            if ask.deadline.left() <= pause:
                # The leader will not finish in time. A late answer is better than none.
                return self._fetch_and_save(ask)
            self.pause(pause)
            pause = min(pause * 1.5, _LONGEST_PAUSE)
            found = self._fresh_in_store(ask)
        return found

    def _lead(self, ask: Ask[T], lease: Lease) -> Fetched[T]:
        try:
            # The previous leader may have stored a value since the last look.
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
        """Return whether this answer is so late that another process has stored a newer one."""
        return ask.deadline.passed and self._usable_in_store(Ask(ask.deadline, fetched)) is not None

    def _fresh_in_store(self, ask: Ask[T]) -> Fetched[T] | None:
        found = self._usable_in_store(ask)
        return found if found is not None and self.clock.wall() < found.fresh_until else None

    def _usable_in_store(self, ask: Ask[T]) -> Fetched[T] | None:
        """Return the store's value if it is usable, newer than the current one, and answers the request."""
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
