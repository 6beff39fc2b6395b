"""Bounded memory of tokens whose signature has been verified.

It holds no token: entries are found by a keyed digest, whose key is random for each object. The
digest is most of what a guard costs. Inside a request BLAKE2b takes three quarters of what SHA-256
does, also where the processor has instructions for the latter, which wins in a loop. A hit writes
nothing that needs a lock: it marks the entry, and an entry that is marked gets a second chance when
room is needed.
"""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Callable
from hashlib import blake2b
from typing import Any, Generic, Protocol, TypeVar

from ..remote.threads import ProcessLock

_MOST_CHANCES = 8
"""Second chances for each entry that is put. Unbounded, a million used entries held the lock for 0.5 s."""


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
        #: The beginning of each digest: the key goes in once, not for each token.
        self.new_digest: Callable[[], Any] = blake2b(key=os.urandom(64), digest_size=16).copy
        self._entries: OrderedDict[bytes, E] = OrderedDict()
        self._lock = ProcessLock()  # for writing
        #: The entry under a digest, or ``None``.
        self.get: Callable[[bytes], E | None] = self._entries.get

    def digest(self, token: str) -> bytes:
        """What ``token`` is found by."""
        digest = self.new_digest()
        # A lone surrogate can't be in a token, but it must not raise here.
        digest.update(token.encode("utf-8", "surrogatepass"))
        result: bytes = digest.digest()
        return result

    def put(self, digest: bytes, entry: E) -> None:
        """Remember ``entry``, and forget an older one, if possible one that was not used lately."""
        if self._size <= 0:
            return
        chances = _MOST_CHANCES
        with self._lock.of_this_process():
            while len(self._entries) >= self._size and digest not in self._entries:
                oldest, candidate = self._entries.popitem(last=False)
                if candidate.used and chances:
                    chances -= 1
                    candidate.used = False
                    self._entries[oldest] = candidate
            self._entries[digest] = entry

    def __len__(self) -> int:
        return len(self._entries)
