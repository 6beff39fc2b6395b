"""The list of revocations in each process: read, kept, stored again and changed, over one cache."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import pytest

from flask_m2m_cognito.exceptions import ConfigurationError, M2MCognitoError
from flask_m2m_cognito.inbound.key_source import TrustedPool, trusted_pool_from
from flask_m2m_cognito.inbound.revocation_source import RevocationSource
from flask_m2m_cognito.inbound.user_pool import user_pool_from
from flask_m2m_cognito.remote.bounded_backend import BoundedBackend
from flask_m2m_cognito.remote.refreshable import Refreshing
from flask_m2m_cognito.remote.reports import Note, unobserved
from flask_m2m_cognito.remote.sealed_store import Seal, SealedStore
from flask_m2m_cognito.testing import LocalUserPool
from tests.inbound.trusted import at_once, reason_of, validator_of
from tests.remote.backends import Memory
from tests.remote.conftest import Observing
from tests.support.clocks import Clocks

HOUR = 3600.0


class Cache(Memory):
    """The cache of a fleet, which can go down. It counts the reads."""

    is_down = False
    is_read_only = False
    reads = 0

    def get(self, key: str) -> Any:
        self.reads += "revocations" in key
        if self.is_down:
            raise ConnectionError("down")
        return super().get(key)

    def add(self, key: str, value: Any, timeout: int) -> bool:
        return False if self.is_read_only else super().add(key, value, timeout)

    def set(self, key: str, value: Any, timeout: int) -> bool:
        if self.is_read_only:
            raise PermissionError("read only")
        return super().set(key, value, timeout)

    def lose_everything(self) -> None:
        self.entries.clear()


class Process:
    """One process of the fleet, with its own clocks. A background fetch runs after its request."""

    def __init__(self, cache: Cache, pool: LocalUserPool | None = None) -> None:
        self.clocks = Clocks()
        self._is_background = False
        self._background: list[Callable[[], None]] = []
        observer: Any = Observing(around=self._around)
        refreshing = Refreshing(self.clocks.clock, lambda: 0.0, self._start, observer=observer)
        backend = BoundedBackend(lambda: cache, clock=self.clocks.clock, start_thread=at_once)
        self.store = SealedStore(backend, Seal(bytes(32)), clock=self.clocks.clock)
        self.pools: list[TrustedPool] = []
        if pool is not None:
            address = user_pool_from(pool.pool_id, issuer=pool.issuer, jwks_url=pool.jwks_url)
            self.pools = [trusted_pool_from(address, store=self.store, refreshing=refreshing)]
        self.source = RevocationSource(
            self.store, self.pools, refreshing=refreshing, pause=self.clocks.advance
        )

    def revoked(self) -> set[str]:
        """Return the clients that a request finds revoked, and then do the background work."""
        found = set(self.source.refreshable.get().revoked)
        self.end_background()
        return found

    def end_background(self) -> None:
        background, self._background = self._background, []
        for run in background:
            run()

    def _around(self, is_background: bool) -> AbstractContextManager[Note]:
        self._is_background = is_background
        return unobserved()

    def _start(self, run: Callable[[], None]) -> None:
        if self._is_background:
            self._background.append(run)
        else:
            run()


@pytest.fixture
def cache() -> Cache:
    return Cache(Clocks())


@pytest.fixture
def fleet(cache: Cache) -> tuple[Process, Process]:
    first, second = Process(cache), Process(cache)
    assert first.revoked() == second.revoked() == set()
    return first, second


class TestReading:
    def test_process_obeys_its_own_change_at_once(self, cache: Cache) -> None:
        process = Process(cache)
        process.source.revoke("shop")
        assert process.revoked() == {"shop"}
        process.source.unrevoke("shop")
        assert process.revoked() == set()

    def test_other_process_reads_the_list_after_10_seconds(self, fleet: tuple[Process, Process]) -> None:
        one, other = fleet
        one.source.revoke("shop")
        other.clocks.advance(9.9)
        assert other.revoked() == set()
        other.clocks.advance(0.1)
        assert other.revoked() == set()  # it is read behind this request
        assert other.revoked() == {"shop"}

    @pytest.mark.parametrize("seconds", [11, 60, 30 * 24 * HOUR])
    def test_idle_process_reads_the_list_before_it_accepts(
        self, fleet: tuple[Process, Process], seconds: float
    ) -> None:
        one, other = fleet
        one.source.revoke("shop")
        other.clocks.advance(seconds)
        assert other.revoked() == {"shop"}

    def test_new_process_reads_the_list_before_it_accepts(self, cache: Cache) -> None:
        Process(cache).source.revoke("shop")
        assert Process(cache).revoked() == {"shop"}

    def test_list_is_read_once_in_10_seconds(self, fleet: tuple[Process, Process], cache: Cache) -> None:
        process, _ = fleet
        before = cache.reads
        for _ in range(30):
            process.revoked()
        assert cache.reads == before
        process.clocks.advance(10)
        for _ in range(30):
            process.revoked()
        assert cache.reads == before + 1


class TestCacheDown:
    def test_last_list_stays_in_force(self, fleet: tuple[Process, Process], cache: Cache) -> None:
        one, _ = fleet
        one.source.revoke("shop")
        cache.is_down = True
        for _ in range(5):
            one.clocks.advance(100 * 24 * HOUR)
            assert one.revoked() == {"shop"}

    def test_new_process_accepts_until_the_cache_answers(self, cache: Cache) -> None:
        Process(cache).source.revoke("shop")
        cache.is_down = True
        process = Process(cache)
        assert process.revoked() == set()
        cache.is_down = False
        process.clocks.advance(300)
        assert process.revoked() == {"shop"}

    def test_change_is_an_error_and_changes_nothing(
        self, fleet: tuple[Process, Process], cache: Cache
    ) -> None:
        one, _ = fleet
        cache.is_down = True
        with pytest.raises(M2MCognitoError, match="cache is"):
            one.source.revoke("shop")
        assert one.revoked() == set()


class TestStoringAgain:
    @pytest.fixture
    def process(self, fleet: tuple[Process, Process]) -> Process:
        one, _ = fleet
        one.source.revoke("shop")
        return one

    def test_lost_list_is_stored_again_and_logged(
        self, process: Process, cache: Cache, caplog: pytest.LogCaptureFixture
    ) -> None:
        cache.lose_everything()
        process.clocks.advance(11)
        with caplog.at_level(logging.WARNING):
            assert process.revoked() == {"shop"}
        assert [record.event for record in caplog.records] == ["revocations-missing"]  # type: ignore[attr-defined]
        assert Process(cache).revoked() == {"shop"}

    def test_replayed_list_is_replaced(self, process: Process, cache: Cache) -> None:
        replayed = dict(cache.entries)
        process.source.revoke("billing")
        process.source.unrevoke("shop")
        cache.entries = replayed
        process.clocks.advance(11)
        assert process.revoked() == {"billing"}
        assert Process(cache).revoked() == {"billing"}

    def test_cache_that_refuses_writes_is_read(self, process: Process, cache: Cache) -> None:
        other = Process(cache)
        other.source.revoke("billing")
        cache.lose_everything()
        third = Process(cache)
        third.source.revoke("reports")
        cache.is_read_only = True
        process.clocks.advance(11)
        assert process.revoked() == {"shop", "reports"}

    def test_empty_list_is_not_stored(self, fleet: tuple[Process, Process], cache: Cache) -> None:
        process, _ = fleet
        cache.lose_everything()
        process.clocks.advance(11)
        process.revoked()
        assert cache.entries == {}

    def test_change_keeps_what_the_cache_has_lost(self, process: Process, cache: Cache) -> None:
        cache.lose_everything()
        operator = Process(cache)
        operator.source.revoke("billing")
        process.clocks.advance(11)
        assert process.revoked() == {"shop", "billing"}
        assert Process(cache).revoked() == {"shop", "billing"}


class TestChanging:
    def test_changes_at_the_same_time_all_count(self, fleet: tuple[Process, Process], cache: Cache) -> None:
        one, other = fleet
        # Another operator's whole command runs in each pause of this one's calls of the cache.
        cache.interludes = [functools.partial(other.source.revoke, f"client-{n}") for n in range(3)]
        one.source.revoke("shop")
        assert Process(cache).revoked() >= {"shop", "client-0"}

    def test_unrevoking_a_client_that_is_not_revoked_is_an_error(self, cache: Cache) -> None:
        process = Process(cache)
        with pytest.raises(M2MCognitoError, match="'shop' is revoked"):
            process.source.unrevoke("shop")

    def test_list_that_is_too_long_is_an_error(self, cache: Cache) -> None:
        process = Process(cache)
        ids = tuple(f"{number:0250}" for number in range(1000))
        with pytest.raises(M2MCognitoError, match="at most"):
            process.source.revoke("shop", 0.0, ids)
        assert Process(cache).revoked() == set()

    @pytest.mark.parametrize("backend", ["NullCache", "SimpleCache"])
    def test_cache_of_one_process_is_an_error(self, backend: str) -> None:
        class_ = type(backend, (Cache,), {})
        with pytest.raises(ConfigurationError, match="share"):
            Process(class_(Clocks())).source.revoke("shop")


class TestKeys:
    @pytest.fixture
    def old(self, pool: LocalUserPool) -> str:
        return pool.token("a/b", expires_in=86400)

    def refresh_keys(self, process: Process) -> None:
        """Do what ``flask m2m refresh-keys`` does."""
        (trusted,) = process.pools
        trusted.key_source.refresh()
        entry = trusted.entry_in(process.store)
        assert entry is not None
        process.source.announce_keys({trusted.pool.pool_id: entry.fetched_at})

    @pytest.mark.parametrize("ahead", [0, 5, -5, 59, 7200, -7200])
    @pytest.mark.parametrize(("age", "idle"), [(1, 10), (1, 50), (100, 11), (1000, 10)])
    def test_withdrawn_key_is_refused_after_a_refresh(
        self, pool: LocalUserPool, cache: Cache, old: str, ahead: float, age: float, idle: float
    ) -> None:
        worker, operator, second_operator = (Process(cache, pool) for _ in range(3))
        validator = validator_of(*worker.pools, clocks=worker.clocks, revocations=worker.source.refreshable)
        validator.validate(old)
        second_operator.clocks.advance(age + 1)
        pool.rotate_key(keep_old=False)
        worker.clocks.advance(age)
        worker.revoked()
        operator.clocks.advance(age)
        operator.clocks.wall_now += ahead
        self.refresh_keys(operator)
        worker.clocks.advance(idle)
        worker.revoked()
        assert reason_of(validator, old) == "unknown_key"
        validator.validate(between := pool.token("a/b"))

        pool.rotate_key(keep_old=False)
        self.refresh_keys(second_operator)
        worker.clocks.advance(idle)
        worker.revoked()
        assert reason_of(validator, between) == "unknown_key"

    def test_unchanged_keys_are_downloaded_once_for_the_fleet(
        self, pool: LocalUserPool, cache: Cache
    ) -> None:
        workers = [Process(cache, pool) for _ in range(4)]
        for worker in workers:
            worker.pools[0].key_source.get()
            worker.revoked()
            worker.clocks.advance(100)
        operator = Process(cache, pool)
        operator.clocks.advance(100)
        self.refresh_keys(operator)
        before = pool.count("jwks")
        for _ in range(5):
            for worker in workers:
                worker.clocks.advance(11)
                worker.revoked()
        assert pool.count("jwks") == before

    def test_new_process_does_not_renew_the_keys_it_just_fetched(
        self, pool: LocalUserPool, cache: Cache
    ) -> None:
        operator = Process(cache, pool)
        self.refresh_keys(operator)
        before = pool.count("jwks")
        for age in (0, 30, 1000):
            worker = Process(cache, pool)
            worker.clocks.advance(age)
            worker.pools[0].key_source.get()
            worker.revoked()
        assert pool.count("jwks") == before

    def test_refresh_reaches_a_process_during_a_backoff(
        self, pool: LocalUserPool, cache: Cache, old: str
    ) -> None:
        worker, operator = Process(cache, pool), Process(cache, pool)
        validator = validator_of(*worker.pools, clocks=worker.clocks, revocations=worker.source.refreshable)
        validator.validate(old)
        operator.pools[0].key_source.get()
        pool.fail("jwks", status=503, headers={"Retry-After": "3600"})
        worker.clocks.advance(4000)
        validator.validate(old)
        worker.end_background()
        assert worker.pools[0].key_source.renewable_in() > 60
        pool.recover()
        pool.rotate_key(keep_old=False)
        operator.clocks.advance(4000)
        self.refresh_keys(operator)
        pool.fail("jwks")
        worker.clocks.advance(11)
        worker.revoked()
        keys = worker.pools[0].key_source.held()
        assert keys is not None
        assert set(keys.kids) == {pool.kid}
