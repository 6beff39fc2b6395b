"""Bounded memory of tokens whose signature has been verified.

It holds no token: entries are found by a keyed BLAKE2b digest, whose key is random for each
object. A hit writes nothing that needs a lock: it marks the entry, and an entry that is marked
gets a second chance when room is needed.
"""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Callable
from hashlib import blake2b
from typing import Generic, Protocol, TypeVar

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
        self._key = os.urandom(32)
        self._entries: OrderedDict[bytes, E] = OrderedDict()
        self._lock = ProcessLock()  # for writing
        #: The entry under a digest, or ``None``.
        self.get: Callable[[bytes], E | None] = self._entries.get

    def digest(self, token: str) -> bytes:
        """What ``token`` is found by."""
        # A lone surrogate can't be in a token, but it must not raise here.
        return blake2b(token.encode("utf-8", "surrogatepass"), key=self._key, digest_size=16).digest()

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
