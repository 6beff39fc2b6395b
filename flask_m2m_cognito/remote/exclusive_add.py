"""``add`` that lets in one process, also for cachelib's files, whose own looks first and writes after."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from typing import Any

from .clock import SYSTEM

_PAUSE = 0.001


def exclusive_add(backend: Any, key: str, text: str, seconds: int, patience: float) -> bool:
    """Put ``text`` under ``key`` for ``seconds`` unless something is there; whether it was put.

    Redis and Memcached decide that by themselves. ``FileSystemCache`` does not, nor does it look at
    the age of what is in the way: there a lock of the cache's directory keeps others out meanwhile.
    The operating system takes the lock back from a process that dies.

    Args:
        patience: seconds to wait for that lock; another holds it for less than 0.01.
    """
    folder = _folder_of(backend)
    if folder is None:
        return bool(backend.add(key, text, seconds))
    with _locked(folder, patience) as is_ours:
        if not is_ours:
            return False
        if backend.get(key) is None:
            backend.delete(key)
        return bool(backend.add(key, text, seconds))


def _folder_of(backend: Any) -> str | None:
    from cachelib import FileSystemCache

    # cachelib has no public name for it.
    return getattr(backend, "_path", None) if isinstance(backend, FileSystemCache) else None


@contextlib.contextmanager
def _locked(folder: str, patience: float) -> Iterator[bool]:
    """Hold ``folder`` itself, so that no file of ours is in the cache. ``False`` while others hold it."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError:
        # Windows opens no directories, and it may not be there yet.
        yield True
        return
    try:
        yield _lock(descriptor, patience)
    finally:
        _unlock(descriptor)
        os.close(descriptor)


def _lock(descriptor: int, patience: float) -> bool:
    """Asks again and again, since a wait in the system would hold up the greenlet that has the lock."""
    import fcntl

    give_up_at = SYSTEM.monotonic() + patience
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if SYSTEM.monotonic() >= give_up_at:
                return False
            time.sleep(_PAUSE)
        except OSError:
            return True  # some network file systems have no locks: as good as it gets
        else:
            return True


def _unlock(descriptor: int) -> None:
    """Not by closing it alone: a child that was forked meanwhile has it open too, and with it the lock."""
    import fcntl

    with contextlib.suppress(OSError):
        fcntl.flock(descriptor, fcntl.LOCK_UN)
