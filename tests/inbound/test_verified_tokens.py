"""The bounded memory of verified tokens."""

from __future__ import annotations

import pytest

from flask_m2m_cognito.inbound.verified_token import VerifiedTokens


class Entry:
    """A remembered entry, with the flag that a hit sets."""

    def __init__(self, used: bool = False) -> None:
        self.used = used


def kept(memory: VerifiedTokens, names: str) -> str:
    return "".join(name for name in names if memory.get(memory.digest(name)) is not None)


def put(memory: VerifiedTokens, names: str) -> dict[str, Entry]:
    entries = {name: Entry() for name in names}
    for name, entry in entries.items():
        memory.put(memory.digest(name), entry)
    return entries


def test_entry_is_found_by_its_token_only() -> None:
    memory: VerifiedTokens = VerifiedTokens()
    entry = put(memory, "a")["a"]
    assert memory.get(memory.digest("a")) is entry
    assert memory.get(memory.digest("b")) is None


def test_oldest_entry_is_dropped_above_the_size() -> None:
    memory: VerifiedTokens = VerifiedTokens(3)
    put(memory, "abcde")
    assert (len(memory), kept(memory, "abcde")) == (3, "cde")


def test_used_entry_gets_one_second_chance() -> None:
    memory: VerifiedTokens = VerifiedTokens(3)
    put(memory, "abc")["a"].used = True
    put(memory, "d")
    assert kept(memory, "abcd") == "acd"
    put(memory, "efg")
    assert kept(memory, "acdefg") == "efg"


def test_entry_in_regular_use_stays() -> None:
    memory: VerifiedTokens = VerifiedTokens(3)
    regular = put(memory, "a")["a"]
    for name in "bcdefghijklm":
        regular.used = True
        put(memory, name)
    assert kept(memory, "a") == "a"


def test_an_entry_is_dropped_even_if_all_were_used() -> None:
    memory: VerifiedTokens = VerifiedTokens(3)
    for entry in put(memory, "abc").values():
        entry.used = True
    put(memory, "d")
    assert (len(memory), kept(memory, "abcd")) == (3, "bcd")


def test_cost_of_dropping_does_not_grow_with_size() -> None:
    memory: VerifiedTokens = VerifiedTokens(1000)
    entries = [Entry(used=True) for _ in range(1000)]
    for number, entry in enumerate(entries):
        memory.put(memory.digest(str(number)), entry)
    for number in range(5):
        memory.put(memory.digest(f"new {number}"), Entry())
    # Each entry that is examined loses its mark.
    assert sum(not entry.used for entry in entries) <= 100
    assert len(memory) == 1000


def test_putting_a_token_again_replaces_its_entry_only() -> None:
    memory: VerifiedTokens = VerifiedTokens(2)
    put(memory, "ab")
    newer = put(memory, "b")["b"]
    assert memory.get(memory.digest("b")) is newer
    assert kept(memory, "ab") == "ab"


@pytest.mark.parametrize("size", [0, -1])
def test_size_0_keeps_none(size: int) -> None:
    memory: VerifiedTokens = VerifiedTokens(size)
    put(memory, "a")
    assert len(memory) == 0


def test_digests_of_two_memories_differ() -> None:
    digests = {VerifiedTokens().digest("a") for _ in range(3)}
    assert len(digests) == 3
    assert all(len(digest) >= 16 for digest in digests)


def test_invalid_text_has_a_digest_too() -> None:
    memory: VerifiedTokens = VerifiedTokens()
    assert memory.digest("\ud800") != memory.digest("\ud801")
