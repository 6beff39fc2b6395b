"""Keep the key set of one pool fresh: fetch it, share it over the cache, refresh it."""

from __future__ import annotations

import functools
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from threading import Event

from ..exceptions import KeysUnavailableError
from ..remote.clock import SYSTEM, Clock
from ..remote.freshness import Ask, Fetch, Fetched
from ..remote.refreshable import REFRESHING, Refreshable, Refreshing
from ..remote.sealed_store import Entry, SealedStore
from ..remote.sharing import Codec, shared
from ..remote.threads import explain_subinterpreters
from ..remote.transport import Answer, Transport, import_http
from .key_set import KeySet, NoUsableKeys, parse_key_set
from .user_pool import UserPool

KIND = "keys"
"""The kind of a store entry that holds keys."""

_FOREVER = float("inf")


@dataclass(frozen=True)
class KeyTimes:
    """How long keys are used, in seconds: see the settings of the same names."""

    fresh_for: float = 3600.0
    usable_for: float = 86400.0
    unknown_key_cooldown: float = 10.0
    refresh_deadline: float = 10.0

    def build_fetched(self, keys: KeySet, fetched_at: float, chance: float) -> Fetched[KeySet]:
        """Return ``keys`` with the times until which they are fresh and usable.

        Args:
            keys: the key set.
            fetched_at: when it was fetched, in seconds since the epoch.
            chance: 0 to 1. It moves the renewal by up to 7 % either way, so hosts that started together do
                not renew together.
        """
        fresh_for = min(self.fresh_for * (0.93 + 0.14 * chance), self.usable_for)
        return Fetched(keys, fetched_at + fresh_for, fetched_at + self.usable_for, fetched_at)


@dataclass(frozen=True)
class TrustedPool:
    """A user pool with the source of its keys.

    Attributes:
        pool: the user pool.
        key_source: keeps the pool's keys fresh.
        has_no_keys: is set once the pool has reported that it has no keys.
    """

    pool: UserPool
    key_source: Refreshable[KeySet] = field(repr=False)
    has_no_keys: Event = field(repr=False)

    def entry_in(self, store: SealedStore) -> Entry | None:
        """Return the entry of this pool's keys in ``store``, if there is one."""
        return store.load(_store_name(self.pool), KIND)


def _store_name(pool: UserPool) -> str:
    return "keys of " + " ".join(pool.jwks_urls)


def trusted_pool_from(
    pool: UserPool,
    *,
    transport: Transport | None = None,
    times: KeyTimes | None = None,
    pinned: KeySet | None = None,
    store: SealedStore | None = None,
    refreshing: Refreshing = REFRESHING,
    spread: Callable[[], float] = random.random,
) -> TrustedPool:
    """Return ``pool`` with a source of its keys, which are fetched at first use and shared over ``store``.

    Args:
        pinned: keys to use at once, and whenever the pool's own keys are unavailable.
        refreshing: the clock by which keys age, threads and observers.
        spread: returns a random number in 0..1 for each value: see :meth:`KeyTimes.build_fetched`.
    """
    times = KeyTimes() if times is None else times
    has_no_keys = Event()
    fetch = build_fetch(
        transport or Transport(),
        pool.jwks_urls,
        times,
        spread,
        clock=refreshing.clock,
        on_no_keys=has_no_keys.set,
    )
    if store is not None:

        def decode(entry: Entry, held: KeySet | None) -> Fetched[KeySet]:
            return times.build_fetched(parse_key_set(entry.payload, held), entry.fetched_at, spread())

        codec = Codec(KIND, KeySet.to_document, decode)
        fetch = shared(fetch, store, _store_name(pool), codec, clock=refreshing.clock)
    key_source: Refreshable[KeySet] = Refreshable(
        fetch,
        unavailable=_build_unavailable_error,
        deadline=times.refresh_deadline,
        cooldown=times.unknown_key_cooldown,
        last_resort=None if pinned is None else Fetched(pinned, -_FOREVER, _FOREVER, -_FOREVER, "pinned"),
        prepare=functools.partial(_import_all, store),
        refreshing=refreshing,
    )
    return TrustedPool(pool, key_source, has_no_keys)


def build_fetch(
    transport: Transport,
    urls: Sequence[str],
    times: KeyTimes,
    spread: Callable[[], float],
    *,
    clock: Clock = SYSTEM,
    on_no_keys: Callable[[], None] = lambda: None,
) -> Fetch[KeySet]:
    """Return a function that fetches the first usable key set from ``urls``.

    Args:
        times, spread: how long a set is used, counted from before the request.
        on_no_keys: is called when the source reports that there are no keys.
    """

    def fetch(ask: Ask[KeySet]) -> Fetched[KeySet]:
        known = ask.held.value if ask.held else None
        found: list[KeySet] = []
        problems: dict[str, NoUsableKeys] = {}

        def is_final(answer: Answer) -> bool:
            try:
                found.append(_parse_answer(answer, known))
            except NoUsableKeys as error:
                problems[answer.url] = error
            return bool(found)

        requested_at = clock.wall()
        last = transport.get(urls, ask.deadline, is_final)
        if not found:
            problem = problems[last.url]
            problem.retry_after = last.retry_after(clock.wall())
            if problem.is_final:
                on_no_keys()
            raise problem
        return times.build_fetched(found[0], requested_at, spread())

    return fetch


def _parse_answer(answer: Answer, known: KeySet | None) -> KeySet:
    if answer.status != 200:
        is_final = answer.status in (400, 404, 410)
        raise NoUsableKeys(f"{answer.url} returned HTTP status {answer.status}", is_final=is_final)
    try:
        return parse_key_set(answer.body, known)
    except ValueError:
        raise NoUsableKeys(f"{answer.url} did not return a JSON object") from None
    except NoUsableKeys as error:
        raise NoUsableKeys(f"{answer.url}: {error}", is_final=error.is_final) from None


def _import_all(store: SealedStore | None) -> None:
    with explain_subinterpreters():
        import jwt.algorithms  # noqa: F401  # and cryptography with it

    import_http()
    if store is not None:
        store.import_all()


def _build_unavailable_error(cause: Exception, retry_in: float) -> KeysUnavailableError:
    return KeysUnavailableError(
        "The token signing keys are temporarily unavailable.",
        retry_after=retry_in,
    )
