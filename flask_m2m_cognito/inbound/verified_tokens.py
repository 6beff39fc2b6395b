"""Bounded memory of tokens whose signature has been verified.

It holds no token: entries are found by a keyed digest, whose key is random for each object. The
digest is most of what a guard costs, so that it is BLAKE2b or SHA-256, whichever this machine is
quicker at: the first in software, the second where the processor has instructions for it. A hit
writes nothing that needs a lock: it marks the entry, and an entry that is marked gets a second
chance when room is needed.
"""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Callable
from hashlib import blake2b, sha256
from timeit import Timer
from typing import Any, Generic, Protocol, TypeVar

from ..remote.process_lock import ProcessLock


class Markable(Protocol):
    """What can be kept: it has a flag of its own that says it was used."""

    used: bool


E = TypeVar("E", bound=Markable)


class VerifiedTokens(Generic[E]):
    """The last ``size`` tokens that were verified, and what they said.

    Args:
        size: how many are kept; 0 keeps none.
    """

    def __init__(self, size: int = 4096) -> None:
        self._size = size
        #: What a token is found by.
        self.digest: Callable[[str], bytes] = quickest_digest(os.urandom(64))
        self._entries: OrderedDict[bytes, E] = OrderedDict()
        self._lock = ProcessLock()  # for writing
        #: The entry under a digest, or ``None``.
        self.get: Callable[[bytes], E | None] = self._entries.get

    def put(self, digest: bytes, entry: E) -> None:
        """Remember ``entry``, forgetting an older one that nobody used since room was last needed."""
        if self._size <= 0:
            return
        with self._lock:
            while len(self._entries) >= self._size and digest not in self._entries:
                oldest, candidate = self._entries.popitem(last=False)
                if candidate.used:
                    candidate.used = False
                    self._entries[oldest] = candidate
            self._entries[digest] = entry

    def __len__(self) -> int:
        return len(self._entries)


def quickest_digest(key: bytes) -> Callable[[str], bytes]:
    """A digest of text that nobody without ``key``, 64 random bytes, can foresee.

    The key goes into the digest's state once, not for each text. For SHA-256 it is the first block:
    nobody sees a digest, so that what could be appended to a text does not matter.
    """
    candidates = [_digest_from(blake2b(key=key, digest_size=16)), _digest_from(sha256(key))]
    text = "." * 900
    return min(candidates, key=lambda digest: min(Timer(lambda: digest(text)).repeat(5, 4)))


def _digest_from(keyed: Any) -> Callable[[str], bytes]:
    copy = keyed.copy

    def digest(text: str) -> bytes:
        state = copy()
        # A lone surrogate can't be in a token, but it must not raise here.
        state.update(text.encode("utf-8", "surrogatepass"))
        result: bytes = state.digest()
        return result

    return digest
