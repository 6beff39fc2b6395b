"""Keep the list of revocations fresh: read it from the cache, merge it, and change it.

The list is only in the shared cache and in the memory of each process. So a process that finds the cache
without its list stores it again.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import operator
import time
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from ..exceptions import ConfigurationError, KeysUnavailableError, M2MCognitoError
from ..remote.bounded_backend import StoreDown
from ..remote.clock import Clock, Deadline
from ..remote.freshness import Ask, Fetched
from ..remote.refreshable import REFRESHING, Refreshable, Refreshing
from ..remote.reports import report
from ..remote.sealed_store import MOST_AHEAD, Entry, Lease, SealedStore
from .key_set import KeySet
from .key_source import TrustedPool
from .revocation_list import EVERY_TOKEN, KeyRefresh, Revocation, RevocationList, parse_revocation_list

FRESH_FOR = 10.0
"""Seconds after which a process reads the list again."""

REACH = 11.0
"""Seconds after which every process that can reach the cache obeys a change.

Between 10 and 11 s the list is read in the background. Later, requests wait for it: the process was idle."""

NOT_READ = "none"
"""The source of the empty list that a process has until it has read one."""

_NAME = KIND = "revocations"
_LEASE = 5.0
_PAUSE = 0.1
_PATIENCE = 1.0
"""Seconds for which a new list waits for the keys that it asks for."""

_FOREVER = float("inf")
_logger = logging.getLogger("flask_m2m_cognito.store")


class RevocationSource:
    """The list of revocations of one application.

    Args:
        store: the shared store with the list.
        pools: the pools whose keys are renewed when an operator has refreshed them.
        deadline: the seconds that reading or changing the list may take.
        refreshing: the clock, threads and observers.
        pause: waits for the given seconds.

    Attributes:
        clock: the clock by which changes are dated.
        refreshable: keeps the list fresh.
    """

    def __init__(
        self,
        store: SealedStore,
        pools: Sequence[TrustedPool] = (),
        *,
        deadline: float = 10.0,
        refreshing: Refreshing = REFRESHING,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        self._store = store
        self._pools = pools
        self._deadline = deadline
        self.clock: Clock = refreshing.clock
        self._pause = pause
        self._seen: dict[str, _SeenRefresh] = {}  # the last refresh of the keys of each pool
        self.refreshable: Refreshable[RevocationList] = Refreshable(
            self._fetch,
            unavailable=_unavailable,
            deadline=deadline,
            last_resort=Fetched(RevocationList(), -_FOREVER, _FOREVER, -_FOREVER, NOT_READ),
            late_after=REACH - FRESH_FOR,
            max_backoff=FRESH_FOR,
            prepare=store.import_all,
            refreshing=refreshing,
        )

    # -- changes -----------------------------------------------------------------------------

    def revoke(
        self, client_id: str, before: float = EVERY_TOKEN, token_ids: tuple[str, ...] = ()
    ) -> Revocation:
        """Revoke tokens of a client, in addition to those that are revoked already.

        Args:
            client_id: the client.
            before: the tokens that were issued before then, in seconds since the epoch; 0 for none.
            token_ids: the ids (``jti``) of tokens.

        Raises:
            M2MCognitoError: the cache is unavailable, or another process is changing the list.
            ConfigurationError: the cache is not shared.
        """
        now = self.clock.wall()
        changed = self._change(lambda current: current.with_revoked(client_id, now, before, token_ids))
        return changed.clients[client_id]

    def unrevoke(self, client_id: str, keep_before: float = 0.0) -> Revocation:
        """Accept the tokens of a client again. Raises as :meth:`revoke`, and if nothing is revoked.

        Args:
            client_id: the client.
            keep_before: the tokens that were issued before then stay revoked; 0 for none.
        """

        def edit(current: RevocationList) -> RevocationList:
            if client_id not in current.revoked:
                raise M2MCognitoError(f"No token of the client {client_id!r} is revoked.")
            return current.without(client_id, self.clock.wall(), keep_before)

        return self._change(edit).clients[client_id]

    def announce_keys(self, fetched_at: dict[str, float]) -> None:
        """Make every process renew the keys of these pools, unless it has the keys fetched at that time."""
        now = self.clock.wall()
        self._change(lambda current: current.with_keys_refreshed(fetched_at, now))

    def read(self) -> RevocationList:
        """Return the list in the cache.

        Raises:
            M2MCognitoError, ConfigurationError: as :meth:`revoke`.
        """
        self._store.import_all()
        with _as_error():
            return self._read_stored() or RevocationList()

    def _change(self, edit: Callable[[RevocationList], RevocationList]) -> RevocationList:
        self._store.import_all()
        with _as_error():
            lease = self._wait_for_lease()
            try:
                changed = edit(self._held.merge(self._read_stored() or RevocationList()))
                self._write(changed)
                if self._read_stored() != changed:
                    raise M2MCognitoError("The cache does not keep the list of revocations.")
            finally:
                self._store.give_back(lease)
        self.refreshable.end_backoff()
        self.refreshable.renew_for(lambda held: held.merge(changed) is held)
        return changed

    def _wait_for_lease(self) -> Lease:
        """Return the right to change the list, so that two changes at a time do not lose one."""
        deadline = Deadline(self._deadline, self.clock)
        while (lease := self._store.take_lease(_NAME, _LEASE)) is None:
            if deadline.passed:
                raise M2MCognitoError("Another process is changing the list of revocations. Try again.")
            self._pause(_PAUSE)
        return lease

    # -- reading -----------------------------------------------------------------------------

    @property
    def seal(self) -> str:
        """The fingerprint of the cache key. Processes with another one have another list."""
        return self._store.seal.fingerprint

    @property
    def _held(self) -> RevocationList:
        return self.refreshable.state.value or RevocationList()

    @property
    def _has_read(self) -> bool:
        fetched = self.refreshable.state.fetched
        return fetched is not None and fetched.source != NOT_READ

    def _fetch(self, ask: Ask[RevocationList]) -> Fetched[RevocationList]:
        began, held = self.clock.wall(), self._held
        stored = self._read_stored()
        merged = held.merge(stored or RevocationList())
        if merged != (stored or RevocationList()):
            self._restore(merged, is_missing=stored is None)
        if merged.revoked != held.revoked:
            count = len(merged.revoked)
            report(lambda: _logger.info(_CHANGED, count, extra={"event": "revocations-changed"}))
        for trusted in self._pools:
            self._renew_keys(trusted, merged)
        return Fetched(merged, began + FRESH_FOR, _FOREVER, began, "store")

    def _read_stored(self) -> RevocationList | None:
        backend = self._store.backend
        entry = self._read_entry() if backend.is_configured() else None
        if backend.is_in_process or not backend.is_configured():
            raise ConfigurationError(_NOT_SHARED)
        return None if entry is None else parse_revocation_list(entry.payload)

    def _read_entry(self) -> Entry | None:
        """Return the entry. Do not wait for the end of a backoff of the cache, which may be 5 minutes."""
        try:
            return self._store.read(_NAME, KIND, insists=True)
        except StoreDown:
            # A firewall may have forgotten an idle connection. The next call does not use the one that hangs.
            return self._store.read(_NAME, KIND, insists=True)

    def _write(self, changed: RevocationList) -> None:
        # Each row has its own time. The entry has none, so a host whose clock is ahead can store it, too.
        self._store.write(_NAME, KIND, Entry(changed.to_document(), 0.0), is_permanent=True)

    def _restore(self, held: RevocationList, *, is_missing: bool) -> None:
        """Store what this process has and the cache lacks, if that is possible.

        Another process may be changing the list, or this one may only read the cache.
        """
        if is_missing:
            count = len(held.revoked)
            report(lambda: _logger.warning(_MISSING, count, extra={"event": "revocations-missing"}))
        lease = self._store.take_lease(_NAME, _LEASE)
        if lease is not None:
            with contextlib.suppress(StoreDown, ValueError):
                self._write(held.merge(self._read_stored() or RevocationList()))
            self._store.give_back(lease)

    def _renew_keys(self, trusted: TrustedPool, current: RevocationList) -> None:
        """Renew the keys of a pool if an operator has refreshed them since they were fetched."""
        pool_id, keys = trusted.pool.pool_id, trusted.key_source
        refresh = current.key_refreshes.get(pool_id)
        if refresh is None:
            return
        is_new = pool_id not in self._seen or self._seen[pool_id].refresh != refresh
        if is_new:
            self._seen[pool_id] = _SeenRefresh(refresh, self.clock.monotonic(), not self._has_read)
        seen = self._seen[pool_id]
        # Twice, because a fetch in progress may have begun before the refresh.
        for _ in range(2):
            held = keys.state.fetched
            if held is None or seen.is_covered_by(held, keys.state.fetched_monotonic):
                return
            if is_new:
                keys.end_backoff()
            # Only once: a pool that hangs would delay each read of the list, and requests with it.
            patience = _PATIENCE if is_new else 0.0
            try:
                keys.renew_for(
                    functools.partial(operator.is_not, held.value), since=seen.at, patience=patience
                )
            except KeysUnavailableError:
                return


class _SeenRefresh(NamedTuple):
    """A refresh of a pool's keys by an operator, as this process saw it.

    Attributes:
        refresh: the refresh, with times of the operator's clock.
        at: when this process read of it, on its monotonic clock.
        is_past: whether it may be long ago, because this process had read no list before.
    """

    refresh: KeyRefresh
    at: float
    is_past: bool

    def is_covered_by(self, held: Fetched[KeySet], fetched_monotonic: float) -> bool:
        """Return whether these keys were fetched in the refresh, or after it.

        The operator's clock may differ from this machine's, so the two are compared only if nothing else
        shows which was first.
        """
        is_later = self.is_past and held.fetched_at > self.refresh.fetched_at + MOST_AHEAD
        return held.fetched_at == self.refresh.fetched_at or fetched_monotonic >= self.at or is_later


_NOT_SHARED = (
    "COGNITO_M2M_REVOCATIONS requires a cache that all processes share, but the Cache of this application is "
    "in this process only: use another CACHE_TYPE."
)
_CHANGED = "The list of revocations has changed. Clients with revoked tokens: %d."
_MISSING = (
    "The cache has lost the list of revocations. The list of this process stays in force, and is stored "
    "again. Clients with revoked tokens: %d."
)


@contextlib.contextmanager
def _as_error() -> Iterator[None]:
    """Raise what makes the list unusable as an error for the operator."""
    try:
        yield
    except StoreDown as down:
        raise M2MCognitoError(
            f"The list of revocations is unavailable, because the cache is: {down}."
        ) from None
    except M2MCognitoError:  # a ConfigurationError is a ValueError, too
        raise
    except ValueError as error:
        raise M2MCognitoError(f"The list of revocations cannot be used: {error}.") from None


def _unavailable(cause: Exception, retry_in: float) -> Exception:
    return M2MCognitoError(f"The list of revocations is unavailable: {cause}.")
