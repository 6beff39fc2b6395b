"""cachelib backends with the defects of real ones, on test clocks and without a server."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from tests.support.clocks import Clocks


class Memory:
    """A backend without defects, and the base of the others."""

    def __init__(self, clocks: Clocks) -> None:
        self.clocks = clocks
        self.entries: dict[str, tuple[Any, float]] = {}
        self.interludes: list[
            Callable[[], object]
        ] = []  # what other processes do before the next calls, one before each
        self._lock = threading.RLock()

    def get(self, key: str) -> Any:
        self._interlude()
        return self._held(key)

    def set(self, key: str, value: Any, timeout: int) -> bool:
        self._interlude()
        return self._put(key, value, timeout)

    def add(self, key: str, value: Any, timeout: int) -> bool:
        self._interlude()
        with self._lock:
            return self._may_add(key) and self._put(key, value, timeout)

    def delete(self, key: str) -> bool:
        self._interlude()
        with self._lock:
            return self.entries.pop(key, None) is not None

    def _may_add(self, key: str) -> bool:
        return self._held(key) is None

    def _held(self, key: str) -> Any:
        with self._lock:
            value, until = self.entries.get(key, (None, 0.0))
            return value if self.clocks.wall() < until else None

    def _interlude(self) -> None:
        if self.interludes:
            (now, *later), self.interludes = self.interludes, []
            now()
            self.interludes = later

    def _put(self, key: str, value: Any, timeout: int) -> bool:
        assert isinstance(timeout, int)
        assert timeout >= 0
        with self._lock:
            self.entries[key] = (value, self.clocks.wall() + timeout if timeout else float("inf"))
        return True

    def keys(self, kind: str) -> list[str]:
        """Return the names of the entries of one kind."""
        return [key for key in self.entries if f":{kind}:" in key]

    def text(self, kind: str) -> str:
        """Return the stored text of the only entry of this kind."""
        (key,) = self.keys(kind)
        return str(self.entries[key][0])

    def put(self, kind: str, text: Any) -> None:
        """Overwrite the only entry of this kind."""
        (key,) = self.keys(kind)
        self.entries[key] = (text, float("inf"))


class LosesExpiry(Memory):
    """Like a Redis whose client died between SETNX and EXPIRE: an added entry never expires."""

    def add(self, key: str, value: Any, timeout: int) -> bool:
        with self._lock:
            was_added = super().add(key, value, timeout)
            if was_added:
                self.entries[key] = (value, float("inf"))
            return was_added


class AddIgnoresExpiry(Memory):
    """Like FileSystemCache: an expired entry blocks ``add``, and ``get`` does not return it."""

    def _may_add(self, key: str) -> bool:
        return key not in self.entries


class DropsEverything(Memory):
    """Like NullCache: confirms every call, and stores nothing."""

    def _put(self, key: str, value: Any, timeout: int) -> bool:
        return True


class DeniesEverything(Memory):
    """Claims that an entry exists, and does not return it."""

    def _put(self, key: str, value: Any, timeout: int) -> bool:
        return False


class Raises:
    """A backend that is down."""

    def get(self, *_: object) -> Any:
        raise ConnectionError("down")

    set = add = delete = get


class Lies:
    """Returns the same for every call."""

    def __init__(self, lie: Any) -> None:
        self._lie = lie

    def get(self, *_: object) -> Any:
        return self._lie

    set = add = delete = get


LIES: dict[str, Any] = {
    "text": "text",
    "no text": "",
    "text that is not ASCII": "é",
    "bytes": b"\xff\x00",
    "zero": 0,
    "a number": 7,
    "true": True,
    "false": False,
    "a list": [{}],
    "a dict": {"payload": "v1", "fetched_at": 0, "fresh_for": 1e9, "usable_for": 1e9},
    "an object": object(),
    "a class": Memory,
    "an error": ValueError("an answer, not raised"),
    "a long text": "x" * 1_000_000,
}
