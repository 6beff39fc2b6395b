"""A fetch that many processes make once. Here a process is an object with its own store and fetch."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import cachelib
import pytest

from flask_m2m_cognito.remote.bounded_backend import BoundedBackend
from flask_m2m_cognito.remote.clock import Deadline
from flask_m2m_cognito.remote.refreshable import Ask, Fetch, Fetched
from flask_m2m_cognito.remote.sealed_store import Entry, Seal, SealedStore
from flask_m2m_cognito.remote.sharing import LEASE_PART, Codec, shared
from tests.remote.backends import (
    LIES,
    AddIgnoresExpiry,
    DeniesEverything,
    DropsEverything,
    Lies,
    LosesExpiry,
    Memory,
    Raises,
)
from tests.remote.moved import DEADLINE, Source, SourceDown, at_once, text_codec
from tests.support.clocks import Clocks

NAME = "the value"


class Process:
    """One process of a fleet."""

    def __init__(
        self, backend: Any, clocks: Clocks, fetch: Fetch[str], codec: Codec[str] | None = None
    ) -> None:
        self.clocks = clocks
        self.pauses: list[float] = []
        self.meanwhile: list[Callable[[], object]] = []  # what other processes do in its pauses, one in each
        bounded = BoundedBackend(lambda: backend, clock=clocks.clock, start_thread=at_once)
        self.store = SealedStore(bounded, Seal(b"sixteen bytes or more"), clock=clocks.clock)
        self._fetch = shared(
            fetch, self.store, NAME, codec or text_codec(), clock=clocks.clock, pause=self._pause
        )

    def fetch(self, held: Fetched[str] | None = None, refused: bool = False, **more: Any) -> Fetched[str]:
        deadline = more.pop("deadline", None) or Deadline(DEADLINE, self.clocks.clock)
        if held is None or not refused:
            return self._fetch(Ask(deadline, held))
        return self._fetch(Ask(deadline, held, lambda value: value != held.value))

    def _pause(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.clocks.advance(seconds)
        if self.meanwhile:
            self.meanwhile.pop(0)()


@pytest.fixture
def memory(clocks: Clocks) -> Memory:
    return Memory(clocks)


@pytest.fixture
def process(memory: Memory, clocks: Clocks, source: Source) -> Callable[..., Process]:
    def one(backend: Any = memory, fetch: Fetch[str] = source, **more: Any) -> Process:
        return Process(backend, clocks, fetch, **more)

    return one


Fleet = Callable[..., Process]


class TestStoredValues:
    def test_first_fetch_is_shared(self, process: Fleet, source: Source) -> None:
        assert process().fetch().value == "v1"
        found = process().fetch()
        assert (found.value, found.source) == ("v1", "store")
        assert source.fetches == 1

    def test_shared_value_expires_as_in_the_process_that_fetched_it(
        self, process: Fleet, clocks: Clocks
    ) -> None:
        fetched = process().fetch()
        clocks.advance(50)
        assert process().fetch() == replace(fetched, source="store")

    def test_stored_value_that_is_not_fresh_causes_a_fetch(
        self, process: Fleet, clocks: Clocks, source: Source
    ) -> None:
        process().fetch()
        clocks.advance(100)
        assert process().fetch().value == "v2"
        assert source.fetches == 2

    def test_refused_value_is_not_taken_from_the_store(self, process: Fleet, clocks: Clocks) -> None:
        one, other = process(), process()
        held = one.fetch()
        clocks.advance(1)
        other.store.save(NAME, "text", Entry("v1", clocks.wall()))
        assert one.fetch(held, refused=True).value == "v2"

    def test_other_value_than_the_refused_one_is_taken(
        self, process: Fleet, clocks: Clocks, source: Source
    ) -> None:
        one, other = process(), process()
        held = one.fetch()
        clocks.advance(1)
        assert other.fetch(held, refused=True).value == "v2"
        assert one.fetch(held, refused=True).value == "v2"
        assert source.fetches == 2

    def test_value_that_is_not_newer_is_not_taken(
        self, process: Fleet, clocks: Clocks, source: Source
    ) -> None:
        one = process()
        held = one.fetch()
        older = Entry("older", clocks.wall() - 1)
        one.store.save(NAME, "text", older)
        assert one.fetch(held).value == "v2"
        assert source.fetches == 2

    @pytest.mark.parametrize("ahead", [1, 60])
    def test_entry_of_a_clock_slightly_ahead_counts_as_new(
        self, process: Fleet, clocks: Clocks, ahead: float
    ) -> None:
        process().store.save(NAME, "text", Entry("ahead", clocks.wall() + ahead))
        found = process().fetch()
        now = clocks.wall()
        assert (found.value, found.fetched_at) == ("ahead", now)
        assert (found.fresh_until, found.usable_until) == (now + 100, now + 1000)

    @pytest.mark.parametrize("ahead", [60.5, 3600, 30 * 86400])
    def test_entry_from_the_future_is_ignored_and_replaced(
        self, process: Fleet, clocks: Clocks, ahead: float, caplog: pytest.LogCaptureFixture
    ) -> None:
        process().store.save(NAME, "text", Entry("ahead", clocks.wall() + ahead))
        one = process()
        held = one.fetch()
        assert (held.value, process().fetch(held, refused=True).value) == ("v1", "v2")
        assert [vars(record)["event"] for record in caplog.records] == ["cache-entry-ignored"]
        assert process().fetch().value == "v2"

    def test_entry_from_the_future_counts_from_when_it_was_seen(
        self, process: Fleet, source: Source, clocks: Clocks
    ) -> None:
        source.error, one, seen_at = SourceDown(), process(), clocks.wall()
        one.store.save(NAME, "text", Entry("ahead", seen_at + 800))
        for _ in range(2):
            with pytest.raises(SourceDown):
                one.fetch()
            clocks.advance(400)
        found = one.fetch()
        assert (found.value, found.fetched_at, found.usable_until) == ("ahead", seen_at, seen_at + 1000)
        clocks.advance(200)
        with pytest.raises(SourceDown):
            one.fetch()

    def test_expiry_moves_with_a_date_that_was_ahead(self, process: Fleet, clocks: Clocks) -> None:
        seen: list[Entry] = []

        def decode(entry: Entry, held: str | None) -> Fetched[str]:
            seen.append(entry)
            return text_codec().decode(entry, held)

        now = clocks.wall()
        one = process(codec=Codec("text", str, decode))
        one.store.save(NAME, "text", Entry("ahead", now + 30, now + 330))
        assert one.fetch().value == "ahead"
        assert seen == [Entry("ahead", now, now + 300)]

    @pytest.mark.parametrize(
        "times",
        [
            {},
            {"fetched_at": None},
            {"fetched_at": "now"},
            {"fetched_at": True},
            {"fetched_at": float("nan")},
            {"fetched_at": float("-inf")},
            {"fetched_at": 10**400},
            {"fetched_at": 1_750_000_000.0, "expires_at": float("inf")},
            {"fetched_at": 1_750_000_000.0, "expires_at": "never"},
        ],
        ids=str,
    )
    def test_entry_with_invalid_times_is_not_taken(
        self, process: Fleet, times: dict[str, Any], memory: Memory, clocks: Clocks
    ) -> None:
        one = process()
        one.store.save(NAME, "text", Entry("odd", clocks.wall()))
        memory.put("text", _sealed(times))
        assert one.fetch().value == "v1"

    def test_readers_settings_decide_how_long_an_entry_is_usable(
        self, process: Fleet, clocks: Clocks, source: Source
    ) -> None:
        process().fetch()
        clocks.advance(50)
        patient, strict = process(codec=text_codec(60, 70)), process(codec=text_codec(40, 45))
        found = patient.fetch()
        assert (found.value, found.usable_until) == ("v1", clocks.wall() + 20)
        assert (strict.fetch().value, source.fetches) == ("v2", 2)

    def test_reader_with_longer_settings_takes_an_old_entry(
        self, process: Fleet, clocks: Clocks, source: Source
    ) -> None:
        process().fetch()
        clocks.advance(5000)
        assert process(codec=text_codec(6000, 9000)).fetch().value == "v1"
        assert source.fetches == 1

    @pytest.mark.parametrize("payload", [None, 7, ["v1"], {"v": 1}], ids=str)
    def test_invalid_payload_causes_a_fetch(self, process: Fleet, clocks: Clocks, payload: Any) -> None:
        one = process()
        one.store.save(NAME, "text", Entry(payload, clocks.wall()))
        assert one.fetch().value == "v1"
        assert process().fetch().value == "v1"

    def test_decoder_receives_the_current_value(self, process: Fleet, clocks: Clocks) -> None:
        seen: list[object] = []

        def decode(entry: Entry, held: str | None) -> Fetched[str]:
            seen.append(held)
            return text_codec().decode(entry, held)

        one = process(codec=Codec("text", str, decode))
        held = one.fetch()
        clocks.advance(1)
        one.store.save(NAME, "text", Entry("newer", clocks.wall()))
        assert one.fetch(held).value == "newer"
        assert seen == ["v1"]


def _sealed(times: dict[str, Any]) -> str:
    return Seal(b"sixteen bytes or more").close({"name": NAME, "kind": "text", "payload": "odd", **times})


class SimpleCache(cachelib.SimpleCache):
    """A cache of one process that must not be asked for a lease."""

    def add(self, key: str, value: Any, timeout: int | None = None) -> bool:
        raise AssertionError("no other process could hold the lease")


class TestUnsharedCache:
    def test_cache_in_the_process_keeps_entries_without_a_lease(self, clocks: Clocks, source: Source) -> None:
        backend = SimpleCache()
        assert [Process(backend, clocks, source).fetch().value for _ in range(2)] == ["v1", "v1"]
        assert source.fetches == 1

    def test_no_thread_starts_without_a_cache(self, clocks: Clocks, source: Source) -> None:
        started: list[object] = []
        backend = BoundedBackend(
            lambda: None, is_configured=lambda: False, clock=clocks.clock, start_thread=started.append
        )
        store = SealedStore(backend, Seal(b"sixteen bytes or more"), clock=clocks.clock)
        fetch = shared(source, store, NAME, text_codec(), clock=clocks.clock)
        assert fetch(Ask(Deadline(DEADLINE, clocks.clock))).value == "v1"
        assert started == []


class TestLeader:
    def test_second_process_waits_for_the_first(self, process: Fleet, clocks: Clocks, source: Source) -> None:
        first, second = process(), process()
        found: list[Fetched[str]] = []

        def fetch(ask: Ask[str]) -> Fetched[str]:
            # The second process starts while the first fetches. In its third pause the first saves its value.
            fetched = source(ask)
            save = lambda: first.store.save(NAME, "text", Entry("v1", fetched.fetched_at))  # noqa: E731
            second.meanwhile = [lambda: None, lambda: None, save]
            found.append(second.fetch())
            return fetched

        first = process(fetch=fetch)
        assert first.fetch().value == "v1"
        assert [each.source for each in found] == ["store"]
        assert second.pauses == pytest.approx([0.02, 0.03, 0.045])
        assert source.fetches == 1

    def test_pauses_grow_to_a_quarter_of_a_second(self, process: Fleet) -> None:
        process().store.take_lease(NAME, DEADLINE * LEASE_PART)
        watching = process()
        watching.fetch()
        assert watching.pauses[0] == 0.02
        assert max(watching.pauses) == 0.25
        assert watching.pauses == sorted(watching.pauses)

    @pytest.mark.parametrize("kind", [Memory, LosesExpiry, AddIgnoresExpiry])
    def test_dead_leader_delays_but_causes_no_error(
        self, process: Fleet, clocks: Clocks, source: Source, kind: type[Memory]
    ) -> None:
        backend = kind(clocks)
        process(backend).store.take_lease(NAME, DEADLINE * LEASE_PART)
        watching, began = process(backend), clocks.monotonic()
        assert watching.fetch().value == "v1"
        assert 6 <= clocks.monotonic() - began < 7
        assert source.requests[0].deadline.left() > 3  # enough for a fetch

    def test_refresh_after_a_dead_leader_is_normal(
        self, process: Fleet, clocks: Clocks, source: Source
    ) -> None:
        backend = LosesExpiry(clocks)
        process(backend).store.take_lease(NAME, DEADLINE * LEASE_PART)
        process(backend).fetch()
        clocks.advance(100)
        next_one = process(backend)
        assert next_one.fetch().value == "v2"
        assert next_one.pauses == []
        assert backend.keys("lease") == []

    def test_other_process_leads_at_once_after_a_failed_fetch(self, process: Fleet, source: Source) -> None:
        source.error = SourceDown()
        with pytest.raises(SourceDown):
            process().fetch()
        source.error = None
        other = process()
        assert other.fetch().value == "v2"
        assert other.pauses == []

    def test_waiting_process_leads_after_a_failed_fetch(
        self, process: Fleet, source: Source, clocks: Clocks
    ) -> None:
        watching = process()
        leading = process()
        lease = leading.store.take_lease(NAME, DEADLINE * LEASE_PART)
        assert lease is not None
        watching.meanwhile = [lambda: None, lambda: leading.store.give_back(lease)]
        assert watching.fetch().value == "v1"
        assert len(watching.pauses) == 2

    def test_leader_reads_the_store_again_before_it_fetches(
        self, process: Fleet, source: Source, clocks: Clocks, memory: Memory
    ) -> None:
        other, one = process(), process()
        memory.interludes = [
            lambda: None,  # this process looks, and finds nothing
            lambda: other.store.save(NAME, "text", Entry("theirs", clocks.wall())),
        ]
        assert one.fetch().value == "theirs"
        assert source.fetches == 0
        assert memory.keys("lease") == []

    def test_process_without_the_lease_fetches_at_its_deadline(
        self, process: Fleet, source: Source, clocks: Clocks
    ) -> None:
        others = process().store
        leases = [others.take_lease(NAME, DEADLINE)]

        def change_hands() -> None:
            lease = leases.pop()
            assert lease is not None
            others.give_back(lease)
            leases.append(others.take_lease(NAME, DEADLINE))

        watching, began = process(), clocks.monotonic()
        watching.meanwhile = [change_hands] * 1000
        assert watching.fetch().value == "v1"
        assert DEADLINE - 0.25 <= clocks.monotonic() - began < DEADLINE

    def test_late_answer_does_not_replace_a_newer_one(
        self, process: Fleet, source: Source, clocks: Clocks
    ) -> None:
        def fetch(ask: Ask[str]) -> Fetched[str]:
            fetched = source(ask)
            clocks.advance(DEADLINE + 1)
            assert process().fetch().value == "v2"
            return fetched

        assert process(fetch=fetch).fetch().value == "v1"
        assert process().fetch().value == "v2"
        assert source.fetches == 2

    def test_late_answer_is_stored_if_there_is_no_newer_one(
        self, process: Fleet, source: Source, clocks: Clocks
    ) -> None:
        def fetch(ask: Ask[str]) -> Fetched[str]:
            fetched = source(ask)
            clocks.advance(DEADLINE + 1)
            return fetched

        process(fetch=fetch).fetch()
        assert process().fetch().value == "v1"
        assert source.fetches == 1


class TestFailedFetch:
    def test_usable_stored_value_is_the_fallback(
        self, process: Fleet, source: Source, clocks: Clocks
    ) -> None:
        process().fetch()
        clocks.advance(500)
        source.error = SourceDown()
        left = process().fetch()
        assert (left.value, left.source, left.failure) == ("v1", "store", source.error)

    def test_processs_own_value_is_no_fallback(self, process: Fleet, source: Source, clocks: Clocks) -> None:
        one = process()
        held = one.fetch()
        clocks.advance(500)
        source.error = SourceDown()
        with pytest.raises(SourceDown):
            one.fetch(held)

    def test_expired_stored_value_is_no_fallback(
        self, process: Fleet, source: Source, clocks: Clocks
    ) -> None:
        process().fetch()
        clocks.advance(1000)
        source.error = SourceDown()
        with pytest.raises(SourceDown):
            process().fetch()

    def test_refused_value_is_no_fallback(self, process: Fleet, source: Source, clocks: Clocks) -> None:
        one = process()
        held = one.fetch()
        clocks.advance(1)
        one.store.save(NAME, "text", Entry("v1", clocks.wall()))
        source.error = SourceDown()
        with pytest.raises(SourceDown):
            one.fetch(held, refused=True)


USELESS_BACKENDS: dict[str, Callable[[Clocks], Any]] = {
    "is down": lambda clocks: Raises(),
    "does not exist": lambda clocks: None,
    "drops everything": DropsEverything,
    "denies everything": DeniesEverything,
    **{f"returns {name} for everything": lambda clocks, lie=lie: Lies(lie) for name, lie in LIES.items()},  # type: ignore[misc]
}


@pytest.mark.parametrize("make", USELESS_BACKENDS.values(), ids=USELESS_BACKENDS.keys())
def test_process_fetches_without_a_wait_if_the_store_is_useless(
    process: Fleet, clocks: Clocks, source: Source, make: Callable[[Clocks], Any]
) -> None:
    backend = make(clocks)
    for value in ("v1", "v2"):
        one = process(backend)
        assert one.fetch().value == value
        assert one.pauses == []


def test_invalid_entry_is_logged_once_per_fetch(
    process: Fleet, source: Source, caplog: pytest.LogCaptureFixture
) -> None:
    one = process(Lies("text"))
    with caplog.at_level(logging.WARNING):
        one.fetch()
    assert len(caplog.records) == len({record.getMessage() for record in caplog.records})
