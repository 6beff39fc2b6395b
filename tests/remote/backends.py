"""cachelib backends with the traps that real ones have, on moved clocks and without a server."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from tests.support.clocks import Clocks


class Memory:
    """A backend that does all right: what others differ from."""

    def __init__(self, clocks: Clocks) -> None:
        self.clocks = clocks
        self.entries: dict[str, tuple[Any, float]] = {}
        self.interludes: list[Callable[[], object]] = []  # what others do before the next calls, one each
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
        assert timeout > 0  # 0 is for ever
        with self._lock:
            self.entries[key] = (value, self.clocks.wall() + timeout)
        return True

    def keys(self, kind: str) -> list[str]:
        """The names of what it holds of one kind."""
        return [key for key in self.entries if f":{kind}:" in key]

    def text(self, kind: str) -> str:
        """The one entry of this kind, as it is kept."""
        (key,) = self.keys(kind)
        return str(self.entries[key][0])

    def put(self, kind: str, text: Any) -> None:
        """Change the one entry of this kind by hand."""
        (key,) = self.keys(kind)
        self.entries[key] = (text, float("inf"))


class LosesExpiry(Memory):
    """As a Redis whose client died between SETNX and EXPIRE: what was added stays for ever."""

    def add(self, key: str, value: Any, timeout: int) -> bool:
        with self._lock:
            was_added = super().add(key, value, timeout)
            if was_added:
                self.entries[key] = (value, float("inf"))
            return was_added


class AddNeverLooksAtAge(Memory):
    """As FileSystemCache: an entry past its age is in the way of ``add``, and ``get`` does not give it."""

    def _may_add(self, key: str) -> bool:
        return key not in self.entries


class DropsEverything(Memory):
    """As NullCache: says yes, and keeps nothing."""

    def _put(self, key: str, value: Any, timeout: int) -> bool:
        return True


class DeniesEverything(Memory):
    """Says that an entry is there, and does not give it."""

    def _put(self, key: str, value: Any, timeout: int) -> bool:
        return False


class Raises:
    """Down."""

    def get(self, *_: object) -> Any:
        raise ConnectionError("down")

    set = add = delete = get


class Lies:
    """Gives the same, whatever it is asked."""

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
    "very much text": "x" * 1_000_000,
}
