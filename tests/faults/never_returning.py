"""Check the time limits of a guarded application whose cache never returns from one operation.

``test_store_faults.py`` runs it on threads, and in a process of its own under gevent.
"""

from __future__ import annotations

import functools
import threading
import time
from collections.abc import Callable

from flask_caching.backends.base import BaseCache

from flask_m2m_cognito.testing import LocalUserPool
from tests.faults.caches import NeverReturning
from tests.faults.stage import app_on, get
from tests.support.threads import LONG, threads

OPERATIONS = ("constructor", "get", "add", "set", "delete")

LONGEST_COLD_START = 4.0
"""Seconds: 2 for building the cache and its first call, 2 for a busy machine."""
LONGEST_AFTERWARDS = 0.5


def check_all() -> None:
    """Check all operations at once: they mostly wait."""
    with LocalUserPool() as pool:
        app, _ = app_on(pool)
        assert get(app.test_client(), "/relay", pool.token()).status_code == 200  # does the late imports
    prepared = threading.Barrier(len(OPERATIONS))
    with threads() as started:
        for operation in OPERATIONS:
            started(functools.partial(check, operation, prepared))
    assert started.outcomes == [None] * len(OPERATIONS), started.outcomes


def check(operation: str, prepared: threading.Barrier) -> None:
    never, name = threading.Event(), f"Cache_{operation}"

    class Cache(BaseCache, NeverReturning):
        def __init__(self) -> None:
            NeverReturning.__init__(self, operation, never)

        @classmethod
        def factory(cls, *_: object) -> Cache:
            return cls()

    globals()[name] = Cache
    try:
        with LocalUserPool() as pool:
            app, _ = app_on(pool, CACHE_TYPE=f"{__name__}.{name}")
            client, first, *later = app.test_client(), *(pool.token() for _ in range(4))
            prepared.wait(LONG)
            status, seconds = _timed(lambda: get(client, "/relay", first).status_code)
            assert (status, seconds < LONGEST_COLD_START) == (200, True), (operation, status, seconds)
            for token in later:
                status, seconds = _timed(lambda token=token: get(client, "/relay", token).status_code)  # type: ignore[misc]
                assert (status, seconds < LONGEST_AFTERWARDS) == (200, True), (operation, status, seconds)
            assert (pool.count("jwks"), pool.count("token")) == (1, 1), operation
            other, other_m2m = app_on(pool, CACHE_TYPE=f"{__name__}.{name}")
            _, seconds = _timed(lambda: len(other_m2m.for_app(other).warm_up(timeout=1.0)))
            assert seconds < 1.0 + LONGEST_AFTERWARDS, (operation, seconds)
    finally:
        never.set()


def _timed(run: Callable[[], int]) -> tuple[int, float]:
    began = time.monotonic()
    return run(), time.monotonic() - began
