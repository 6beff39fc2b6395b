"""Seals, and what they protect: entries and leases."""

from __future__ import annotations

import base64
import json
import logging
from collections.abc import Callable
from typing import Any

import pytest
from cryptography.fernet import Fernet

from flask_m2m_cognito.remote.bounded_backend import BoundedBackend
from flask_m2m_cognito.remote.clock import Clock
from flask_m2m_cognito.remote.sealed_store import BrokenSeal, Entry, Lease, Seal, SealedStore
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
from tests.remote.moved import at_once, together
from tests.support.clocks import Clocks

KEY = b"sixteen bytes or more"
ENTRY = Entry("v1", fetched_at=1_750_000_000.0, expires_at=1_750_001_000.0)

Open = Callable[..., SealedStore]


@pytest.fixture
def opened(clocks: Clocks) -> Open:
    """Return a function that opens the store of one process over a backend."""

    def store(backend: Any, key: bytes = KEY, **arguments: Any) -> SealedStore:
        bounded = BoundedBackend(lambda: backend, clock=clocks.clock, start_thread=at_once)
        clock = {"clock": clocks.clock, **arguments}
        return SealedStore(bounded, Seal(key), **clock)

    return store


@pytest.fixture
def memory(clocks: Clocks) -> Memory:
    return Memory(clocks)


class TestSeal:
    @pytest.mark.parametrize(
        "content", [{}, {"answer": 42}, {"nested": [{"é": None}], "number": 1.5, "yes": True}], ids=str
    )
    def test_sealed_content_opens_unchanged(self, content: dict[str, Any]) -> None:
        assert Seal(KEY).open(Seal(KEY).close(content)) == content

    def test_sealed_text_is_ascii_and_hides_the_content(self) -> None:
        text = Seal(KEY).close({"token": "very-secret-token"})
        assert text.isascii()
        assert "very-secret-token" not in text
        assert b"very-secret-token" not in base64.urlsafe_b64decode(text)

    def test_same_content_gives_different_texts(self) -> None:
        assert Seal(KEY).close({}) != Seal(KEY).close({})

    def test_sealed_bytes_open(self) -> None:
        assert Seal(KEY).open(Seal(KEY).close({"answer": 42}).encode()) == {"answer": 42}

    def test_any_changed_character_breaks_the_seal(self) -> None:
        text = Seal(KEY).close({"answer": 42})
        for place, character in enumerate(
            text.rstrip("=")[:-1]
        ):  # the last one may have bits that say nothing
            with pytest.raises(BrokenSeal):
                Seal(KEY).open(text[:place] + ("A" if character != "A" else "B") + text[place + 1 :])

    def test_any_truncation_breaks_the_seal(self) -> None:
        text = Seal(KEY).close({"answer": 42})
        for length in range(len(text)):
            with pytest.raises(BrokenSeal):
                Seal(KEY).open(text[:length])

    def test_other_key_does_not_open_the_seal(self) -> None:
        with pytest.raises(BrokenSeal):
            Seal(KEY + b"!").open(Seal(KEY).close({}))

    def test_key_is_not_used_by_the_cipher_directly(self) -> None:
        key = Fernet.generate_key()
        with pytest.raises(BrokenSeal):
            Seal(key).open(Fernet(key).encrypt(b"{}").decode())

    @pytest.mark.parametrize("lie", LIES.values(), ids=LIES.keys())
    def test_unsealed_content_does_not_open(self, lie: object) -> None:
        with pytest.raises(BrokenSeal):
            Seal(KEY).open(lie)

    @pytest.mark.parametrize("content", [[], "text", 7, None], ids=["a list", "text", "a number", "nothing"])
    def test_sealed_content_must_be_an_object(self, content: Any) -> None:
        with pytest.raises(BrokenSeal):
            Seal(KEY).open(Seal(KEY).close(content))

    def test_fingerprint_identifies_a_key_without_revealing_it(self) -> None:
        first, second = Seal(KEY).fingerprint, Seal(KEY + b"!").fingerprint
        assert first != second
        assert first == Seal(KEY).fingerprint
        assert len(bytes.fromhex(first)) == 8
        assert KEY.hex() not in first


class TestEntries:
    def test_loaded_entry_equals_the_saved_one(self, opened: Open, memory: Memory) -> None:
        opened(memory).save("name", "text", ENTRY)
        assert opened(memory).load("name", "text") == ENTRY

    def test_missing_entry_is_none(self, opened: Open, memory: Memory) -> None:
        assert opened(memory).load("name", "text") is None

    def test_entry_is_stored_until_it_expires(self, opened: Open, memory: Memory, clocks: Clocks) -> None:
        opened(memory).save("name", "text", ENTRY)
        clocks.advance(999)
        assert opened(memory).load("name", "text") == ENTRY
        clocks.advance(1)
        assert opened(memory).load("name", "text") is None

    @pytest.mark.parametrize("seconds", [0.0, 0.2, -5.0], ids=str)
    def test_no_entry_is_stored_forever(self, opened: Open, memory: Memory, seconds: float) -> None:
        opened(memory).save("name", "text", Entry("v1", 0, seconds))
        ((_, until),) = memory.entries.values()
        assert until == memory.clocks.wall() + 1

    def test_names_in_the_cache_have_format_key_and_kind(self, opened: Open, memory: Memory) -> None:
        opened(memory).save("a name with spaces, https://and.a/url " * 20, "text", ENTRY)
        (key,) = memory.entries
        assert key.startswith(f"cognito-m2m:v2:{Seal(KEY).fingerprint}:text:")
        assert len(key) < 120
        assert " " not in key

    def test_stored_text_hides_value_and_name(self, opened: Open, memory: Memory) -> None:
        opened(memory).save("a-name", "text", Entry("very-secret", 0, 1))
        ((key, (text, _)),) = memory.entries.items()
        assert isinstance(text, str)
        assert not any(word in key + text for word in ("a-name", "very-secret"))

    def test_processes_with_different_keys_share_nothing(
        self, opened: Open, memory: Memory, caplog: pytest.LogCaptureFixture
    ) -> None:
        opened(memory).save("name", "text", ENTRY)
        assert opened(memory, KEY + b"!").load("name", "text") is None
        assert caplog.records == []


def _replayed(memory: Memory, store: SealedStore) -> str:
    store.save("another name", "text", ENTRY)
    (text,) = (text for key, (text, _) in memory.entries.items() if key not in memory.keys("text")[:1])
    memory.delete(memory.keys("text")[1])
    return str(text)


def _of_another_kind(memory: Memory, store: SealedStore) -> str:
    store.save("name", "token", ENTRY)
    text = memory.text("token")
    memory.delete(memory.keys("token")[0])
    return text


def _sealed(content: dict[str, Any]) -> str:
    return Seal(KEY).close({"name": "name", "kind": "text", **content})


WHOLE = {"payload": "v1", "fetched_at": 0.0, "fresh_for": 1.0, "usable_for": 1.0}

FORGERIES: dict[str, Callable[[Memory, SealedStore], Any]] = {
    "changed": lambda memory, store: memory.text("text")[:-9] + "AAAAAAAA=",
    "truncated": lambda memory, store: memory.text("text")[:-20],
    "sealed with another key": lambda memory, store: Seal(KEY + b"!").close(
        {**WHOLE, "name": "name", "kind": "text"}
    ),
    "not sealed": lambda memory, store: json.dumps({**WHOLE, "name": "name", "kind": "text"}),
    "another name's": _replayed,
    "another kind's": _of_another_kind,
    "without a payload": lambda memory, store: _sealed({"fetched_at": 0, "fresh_for": 1, "usable_for": 1}),
    "with invalid times": lambda memory, store: _sealed({**WHOLE, "fetched_at": "soon"}),
    **{lie: lambda memory, store, lie=lie: LIES[lie] for lie in LIES},  # type: ignore[misc]
}


class TestForgeries:
    @pytest.mark.parametrize("forged", FORGERIES.values(), ids=FORGERIES.keys())
    def test_forged_entry_is_ignored_logged_once_and_replaced(
        self,
        opened: Open,
        memory: Memory,
        caplog: pytest.LogCaptureFixture,
        forged: Callable[[Memory, SealedStore], Any],
    ) -> None:
        store = opened(memory)
        store.save("name", "text", ENTRY)
        memory.put("text", forged(memory, store))
        assert [store.load("name", "text") for _ in range(3)] == [None] * 3
        (record,) = caplog.records
        assert (record.name, record.levelno) == ("flask_m2m_cognito.store", logging.WARNING)
        assert "v1" not in record.getMessage().replace(":v1:", "")
        store.save("name", "text", ENTRY)
        assert store.load("name", "text") == ENTRY

    def test_second_forgery_is_logged_again(
        self, opened: Open, memory: Memory, caplog: pytest.LogCaptureFixture
    ) -> None:
        store = opened(memory)
        for _ in range(2):
            store.save("name", "text", ENTRY)
            memory.put("text", "forged")
            store.load("name", "text")
        assert len(caplog.records) == 2


SECONDS = 6.0


@pytest.fixture(
    params=[Memory, LosesExpiry, AddIgnoresExpiry],
    ids=["leases expire", "leases never expire", "add ignores expiry"],
)
def backend(request: pytest.FixtureRequest, clocks: Clocks) -> Memory:
    built: Memory = request.param(clocks)
    return built


def take(store: SealedStore) -> Lease | None:
    return store.take_lease("name", SECONDS)


def taken(store: SealedStore) -> Lease:
    lease = take(store)
    assert lease is not None
    assert lease.key is not None
    return lease


class TestLeases:
    def test_one_of_many_processes_gets_the_lease(self, opened: Open, backend: Memory) -> None:
        stores = [opened(backend) for _ in range(8)]
        leases = together(8, lambda: take(stores.pop()))
        assert sum(lease is not None for lease in leases) == 1

    def test_lease_is_taken_although_the_first_answer_was_lost(self, opened: Open, memory: Memory) -> None:
        add, losses = memory.add, [ConnectionResetError()]

        def add_and_lose_the_answer(key: str, value: Any, timeout: int) -> bool:
            was_added = add(key, value, timeout)
            if losses:
                raise losses.pop()
            return was_added

        memory.add = add_and_lose_the_answer  # type: ignore[method-assign]
        lease = taken(opened(memory))
        opened(memory).give_back(lease)
        assert not memory.keys("lease")

    def test_leases_of_different_names_are_independent(self, opened: Open, backend: Memory) -> None:
        assert taken(opened(backend))
        assert opened(backend).take_lease("another name", SECONDS) is not None

    def test_lease_is_exclusive_until_its_own_deadline(
        self, opened: Open, backend: Memory, clocks: Clocks
    ) -> None:
        taken(opened(backend))
        clocks.advance(SECONDS - 0.1)
        assert take(opened(backend)) is None

    def test_released_lease_may_be_taken_at_once(self, opened: Open, backend: Memory) -> None:
        store = opened(backend)
        store.give_back(taken(store))
        assert taken(opened(backend))

    def test_one_of_many_processes_succeeds_a_dead_leader(
        self, opened: Open, backend: Memory, clocks: Clocks
    ) -> None:
        taken(opened(backend))
        clocks.advance(SECONDS)
        stores = [opened(backend) for _ in range(8)]
        leases = [take(store) for store in stores]
        assert sum(lease is not None for lease in leases) == 1

    def test_dead_successor_is_succeeded_too(self, opened: Open, backend: Memory, clocks: Clocks) -> None:
        for _ in range(3):
            taken(opened(backend))
            assert take(opened(backend)) is None
            clocks.advance(SECONDS)
        assert taken(opened(backend))

    def test_one_process_takes_the_lease_that_a_successor_released(
        self, opened: Open, backend: Memory, clocks: Clocks
    ) -> None:
        taken(opened(backend))
        clocks.advance(SECONDS)
        store = opened(backend)
        store.give_back(taken(store))
        leases = [take(opened(backend)) for _ in range(4)]
        assert sum(lease is not None for lease in leases) == 1

    def test_process_that_saw_the_expired_lease_is_no_second_leader(
        self, opened: Open, clocks: Clocks
    ) -> None:
        backend = LosesExpiry(clocks)
        taken(opened(backend))
        clocks.advance(SECONDS)
        first, second, third = (opened(backend) for _ in range(3))
        lease = taken(first)
        leases: list[Lease | None] = []
        backend.interludes = [lambda: None, lambda: leases.append(take(second))]  # between the two deletions
        first.give_back(lease)
        assert backend.interludes == []
        leases.append(take(third))
        assert sum(lease is not None for lease in leases) == 1

    def test_lease_of_a_fast_clock_expires_by_our_clock(self, opened: Open, clocks: Clocks) -> None:
        backend = LosesExpiry(clocks)
        taken(opened(backend, clock=Clock(lambda: clocks.wall() + 3600, clocks.monotonic)))
        store = opened(backend)
        assert take(store) is None
        clocks.advance(SECONDS - 0.1)
        assert take(store) is None
        clocks.advance(0.1)
        assert taken(store)

    def test_lease_expires_although_the_wall_clock_is_set_back(self, opened: Open, clocks: Clocks) -> None:
        backend = LosesExpiry(clocks)
        taken(opened(backend))
        store = opened(backend)
        clocks.wall_now -= 3600
        assert take(store) is None
        clocks.advance(SECONDS)
        assert taken(store)

    def test_time_restarts_with_a_new_holder(self, opened: Open, clocks: Clocks) -> None:
        backend = LosesExpiry(clocks)
        first, second = opened(backend), opened(backend)
        lease = taken(first)
        assert take(second) is None
        clocks.advance(SECONDS - 1)
        first.give_back(lease)
        taken(first)
        clocks.advance(1)
        assert take(second) is None

    @pytest.mark.parametrize("lie", LIES.values(), ids=LIES.keys())
    def test_forged_lease_does_not_block(self, opened: Open, backend: Memory, lie: Any) -> None:
        taken(opened(backend))
        backend.put("lease", lie)
        assert take(opened(backend)) is not None

    def test_new_lease_of_another_process_is_not_deleted(self, opened: Open, backend: Memory) -> None:
        """Ours was not added, because A had it. A releases it before we look, and then B takes it."""
        a, b, ours = (opened(backend) for _ in range(3))
        lease = taken(a)
        backend.interludes = [lambda: None, lambda: a.give_back(lease), lambda: taken(b)]
        assert take(ours) is None
        assert backend.interludes == []

    def test_last_of_two_simultaneous_leases_counts(self, opened: Open, backend: Memory) -> None:
        """This happens with files: the last one stays."""
        other, ours = opened(backend), opened(backend)

        def replace_ours() -> None:
            backend.entries.clear()
            taken(other)

        backend.interludes = [lambda: None, replace_ours]
        assert take(ours) is None
        assert take(opened(backend)) is None

    def test_lease_released_during_the_check_is_taken(self, opened: Open, backend: Memory) -> None:
        a, ours = opened(backend), opened(backend)
        lease = taken(a)
        backend.interludes = [lambda: None, lambda: a.give_back(lease)]
        assert taken(ours)

    def test_every_process_may_fetch_if_the_backend_drops_all(self, opened: Open, clocks: Clocks) -> None:
        backend = DropsEverything(clocks)
        assert take(opened(backend)) is not None
        assert take(opened(backend)) is not None

    def test_every_process_may_fetch_if_the_backend_denies_all(self, opened: Open, clocks: Clocks) -> None:
        assert take(opened(DeniesEverything(clocks))) == Lease(None)


class TestTrouble:
    """No method of a store raises, and every process may fetch."""

    def test_backend_that_is_down(self, opened: Open, clocks: Clocks) -> None:
        store = opened(Raises())
        assert store.load("name", "text") is None
        store.save("name", "text", ENTRY)
        assert take(store) == Lease(None)
        store.give_back(Lease("key", "another"))
        assert not store.backend.works

    def test_no_backend(self, opened: Open) -> None:
        store = opened(None)
        assert store.load("name", "text") is None
        store.save("name", "text", ENTRY)
        assert take(store) == Lease(None)
        assert store.backend.works

    @pytest.mark.parametrize("lie", LIES.values(), ids=LIES.keys())
    def test_backend_that_returns_nonsense(self, opened: Open, clocks: Clocks, lie: Any) -> None:
        store = opened(Lies(lie))
        assert store.load("name", "text") is None
        store.save("name", "text", ENTRY)
        lease = take(store)
        assert lease is not None
        store.give_back(lease)
        assert store.backend.works
