"""cachelib backends that raise, hang or return wrong values."""

from __future__ import annotations

import threading
from typing import Any

from cachelib import SimpleCache

from tests.support.threads import LONG


class WatchedCache(SimpleCache):
    """Counts its calls. Each of them misbehaves while ``misbehaves`` is true."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0
        self.misbehaves = False
        self._end = threading.Event()

    def recover(self) -> None:
        """Work again, and release the calls that hang."""
        self.misbehaves = False
        self._end.set()

    def misbehave(self) -> None:
        """Run at the start of each call while ``misbehaves`` is true."""

    def get(self, key: str) -> Any:
        self._note()
        return super().get(key)

    def set(self, key: str, value: Any, timeout: int | None = None) -> bool | None:
        self._note()
        return super().set(key, value, timeout)

    def add(self, key: str, value: Any, timeout: int | None = None) -> bool:
        self._note()
        return super().add(key, value, timeout)

    def delete(self, key: str) -> bool:
        self._note()
        return super().delete(key)

    def _note(self) -> None:
        self.calls += 1
        if self.misbehaves:
            self.misbehave()


class RaisingCache(WatchedCache):
    """Like a Redis that has stopped."""

    def misbehave(self) -> None:
        raise ConnectionError("no connection to the cache")


class HangingCache(WatchedCache):
    """Like a Redis that accepts connections and does not answer."""

    def misbehave(self) -> None:
        assert self._end.wait(LONG)


class NeverReturning(SimpleCache):
    """Never returns from one operation: its constructor or one method.

    Args:
        operation: ``"constructor"``, ``"get"``, ``"add"``, ``"set"`` or ``"delete"``.
        never: an event that is not set during the test.
    """

    def __init__(self, operation: str, never: Any) -> None:
        super().__init__()
        self._operation, self._never = operation, never
        self._pass("constructor")

    def get(self, key: str) -> Any:
        self._pass("get")
        return super().get(key)

    def set(self, key: str, value: Any, timeout: int | None = None) -> bool | None:
        self._pass("set")
        return super().set(key, value, timeout)

    def add(self, key: str, value: Any, timeout: int | None = None) -> bool:
        self._pass("add")
        return super().add(key, value, timeout)

    def delete(self, key: str) -> bool:
        self._pass("delete")
        return super().delete(key)

    def _pass(self, operation: str) -> None:
        if operation == self._operation:
            assert self._never.wait(LONG)


class LyingCache(WatchedCache):
    """Returns wrong values.

    Args:
        found: what each ``get`` returns.
        adds: what each ``add`` returns.
    """

    def __init__(self, found: Any = None, adds: bool = True) -> None:
        super().__init__()
        self.misbehaves = True
        self._found = found
        self._adds = adds

    def get(self, key: str) -> Any:
        found = super().get(key)
        return self._found if self.misbehaves else found

    def add(self, key: str, value: Any, timeout: int | None = None) -> bool:
        added = super().add(key, value, timeout)
        return self._adds if self.misbehaves else added


class SwappingCache(WatchedCache):
    """Returns for each key the value that was stored last, under any key."""

    last: Any = None

    def get(self, key: str) -> Any:
        super().get(key)
        return self.last

    def set(self, key: str, value: Any, timeout: int | None = None) -> bool | None:
        self.last = value
        return super().set(key, value, timeout)
