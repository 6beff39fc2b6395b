"""The cache fails, hangs, returns wrong values or loses them: no request fails or waits beyond a bound."""

from __future__ import annotations

import contextlib
import logging
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from cachelib import SimpleCache
from flask import Flask, current_app

from flask_m2m_cognito import CognitoM2M
from flask_m2m_cognito.remote.bounded_backend import BoundedBackend, StoreDown
from flask_m2m_cognito.remote.sealed_store import Seal, SealedStore
from flask_m2m_cognito.testing import LocalUserPool
from tests.support.clocks import Clocks
from tests.support.settling import refresh_threads
from tests.support.threads import crowd, load, wait_for

from . import never_returning
from .caches import HangingCache, LyingCache, RaisingCache, SwappingCache, WatchedCache
from .stage import HOUR, Records, SharedCache, moved_service

STORE_TIMEOUT = 0.25
MARGIN = 2.0
"""Seconds that a busy machine may add."""

BAD_CACHES = {
    "raises": RaisingCache,
    "hangs": HangingCache,
    "returns garbage": lambda: LyingCache(found=b"\x80garbage"),
    "returns objects": lambda: LyingCache(found={"keys": []}),
    "returns other entries": SwappingCache,
    "stores nothing": lambda: LyingCache(found=None),
    "stores nothing and grants no lease": lambda: LyingCache(found=None, adds=False),
}


@contextmanager
def misbehaving(cache: WatchedCache) -> Iterator[None]:
    cache.misbehaves = True
    try:
        yield
    finally:
        cache.recover()
        wait_for(lambda: not refresh_threads(), "no thread is left behind")


@pytest.mark.slow
@pytest.mark.parametrize("make", BAD_CACHES.values(), ids=BAD_CACHES)
def test_cold_start_with_a_bad_cache_fetches_each_value_once(
    pool: LocalUserPool, clocks: Clocks, make: Any
) -> None:
    cache = make()
    service, token = moved_service(pool, clocks, cache=cache), pool.token()
    with misbehaving(cache):
        assert crowd(8, lambda: service.get("/relay", token).status_code) == [200] * 8
    assert (pool.count("jwks"), pool.count("token")) == (1, 1)


@pytest.mark.slow
@pytest.mark.parametrize("make", BAD_CACHES.values(), ids=BAD_CACHES)
def test_cache_that_breaks_fails_no_request(pool: LocalUserPool, clocks: Clocks, make: Any) -> None:
    cache = make()
    service, token = moved_service(pool, clocks, cache=cache), pool.token(expires_in=48 * HOUR)
    with load(lambda: service.status("/relay", token)) as callers:
        callers.go_on_for(10)
        with misbehaving(cache):
            for _ in range(24):
                service.advance(HOUR / 2)
                callers.go_on_for(10)
        callers.go_on_for(10)
    assert callers.statuses == {200}
    # Twelve hours: about one refresh an hour, and not more because the cache is broken.
    assert pool.count("jwks") <= 1 + 24
    assert pool.count("token") <= 1 + 24


def test_cache_that_never_returns_delays_a_cold_start_by_4_s() -> None:
    never_returning.check_all()


@pytest.mark.processes
def test_cache_that_never_returns_is_bounded_under_gevent() -> None:
    program = (
        "from gevent import monkey; monkey.patch_all()\n"
        "import os\n"
        "from tests.faults import never_returning\n"
        "never_returning.check_all()\n"
        "print('checked', flush=True)\n"
        "os._exit(0)\n"  # without waiting for the call that never returns
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        timeout=60,
        cwd=Path(__file__).parents[2],
    )
    assert done.stdout == "checked\n", done.stderr


def test_hanging_cache_costs_one_bounded_wait_and_one_thread(pool: LocalUserPool, clocks: Clocks) -> None:
    cache = HangingCache()
    service = moved_service(pool, clocks, cache=cache, STORE_TIMEOUT=STORE_TIMEOUT)
    assert service.get("/token").status_code == 200
    before = cache.calls
    with misbehaving(cache):
        clocks.advance(HOUR)  # the token has expired
        waits = crowd(8, lambda: service.status("/token"))
        assert {status for status, _ in waits} == {200}
        assert max(seconds for _, seconds in waits) < STORE_TIMEOUT + MARGIN
        assert cache.calls == before + 1
        wait_for(lambda: len(refresh_threads()) <= 1, "the other threads have finished")
        # It is not called any more: the next wait is for the network only.
        clocks.advance(60)
        service.tokens.forget(service.tokens.token())
        assert service.get("/token").status_code == 200
        assert cache.calls == before + 1
        # It is tried again later, on one more thread.
        clocks.advance(HOUR)
        assert service.get("/token").status_code == 200
        assert cache.calls == before + 2
        wait_for(lambda: len(refresh_threads()) <= 2, "the other threads have finished")
    assert pool.count("token") == 4


def test_circuit_opens_for_30_s_doubling_to_5_min(
    pool: LocalUserPool,
    clocks: Clocks,
    records: Records,
    signalled: list[tuple[str, Any, dict[str, Any]]],
) -> None:
    cache = RaisingCache()
    service = moved_service(pool, clocks, cache=cache)

    def is_called() -> bool:
        before = cache.calls
        with contextlib.suppress(StoreDown):
            service.backend.call(lambda backend: backend.get("a"))
        return cache.calls > before

    with misbehaving(cache):
        assert is_called()
        backoffs = []
        for _ in range(6):
            backoffs.append(0)
            while not is_called():
                clocks.advance(10)
                backoffs[-1] += 10
    clocks.advance(300)
    assert backoffs == [30, 60, 120, 240, 300, 300]
    assert is_called()
    assert service.backend.works
    assert [event for event in records.events() if event.startswith("store-")] == [
        "store-failed",
        "store-recovered",
    ]
    assert [arguments for name, _, arguments in signalled if name == "store-state-changed"] == [
        {"works": False, "error": "ConnectionError"},
        {"works": True, "error": None},
    ]
    assert records.of("store-failed")[0].levelno == logging.WARNING
    assert records.of("store-recovered")[0].levelno == logging.INFO


def test_cache_clear_fails_no_request(pool: LocalUserPool, clocks: Clocks) -> None:
    cache, token = SharedCache(), pool.token()
    service = moved_service(pool, clocks, cache=cache)
    with load(lambda: service.status("/relay", token)) as callers:
        callers.go_on_for(10)
        cache.clear()
        callers.go_on_for(50)
    assert callers.statuses == {200}
    assert (pool.count("jwks"), pool.count("token")) == (1, 1)
    # The next process that starts finds nothing there, and stores the values for the others.
    for _ in range(3):
        assert moved_service(pool, clocks, cache=cache).get("/relay", token).status_code == 200
    assert (pool.count("jwks"), pool.count("token")) == (2, 2)


def test_cache_clear_during_a_fetch_causes_one_more_at_most(pool: LocalUserPool, clocks: Clocks) -> None:
    cache = SharedCache()
    pool.fail("token", hang=True, times=1)
    leader, other = (moved_service(pool, clocks, cache=cache) for _ in range(2))

    def clear_then_request() -> int:
        pool.wait_for("token")
        cache.clear()
        return other.get("/token").status_code

    statuses: list[int] = []
    leading = threading.Thread(target=lambda: statuses.append(leader.get("/token").status_code))
    leading.start()
    statuses.append(clear_then_request())
    assert pool.count("token") == 2
    pool.recover()
    leading.join()
    assert statuses == [200, 200]
    assert pool.count("token") <= 3


@pytest.mark.parametrize("seconds", [0.5, 1.0, 1.8, 6.0])
def test_lease_lasts_its_time_in_a_cache_of_whole_seconds(seconds: float) -> None:
    # cachelib's caches for files, Memcached and one process store int(time()) + timeout.
    kept_for: list[int] = []

    class Cache(SimpleCache):
        def add(self, key: str, value: Any, timeout: Any = None) -> bool:
            kept_for.append(timeout)
            return super().add(key, value, timeout)

    cache = Cache()
    store = SealedStore(BoundedBackend(lambda: cache), Seal(b"sixteen bytes or more"))
    lease = store.take_lease("a name", seconds)
    assert lease is not None
    assert lease.key is not None
    assert kept_for[0] - 1 >= seconds


def test_request_with_fresh_values_does_not_use_the_cache(pool: LocalUserPool, clocks: Clocks) -> None:
    cache, token = WatchedCache(), pool.token()
    service = moved_service(pool, clocks, cache=cache)
    service.get("/relay", token)
    before = cache.calls
    with load(lambda: service.status("/relay", token)) as callers:
        callers.go_on_for(100)
    assert cache.calls == before


@pytest.mark.parametrize("renew", ["background", "inline"])
def test_application_callables_may_use_current_app(tmp_path: Path, renew: str) -> None:
    with LocalUserPool() as pool:
        secret = pool.client().secret
        app = Flask("tenants")
        app.config.update(pool.config(ALLOWED_CLIENT_IDS="*", RENEW=renew))
        app.config["COGNITO_M2M_CLIENT_SECRET"] = lambda: current_app.config["MY_SECRET"]
        app.config.update(MY_SECRET=secret, SECRET_KEY="k" * 32)
        app.config.update(CACHE_TYPE="FileSystemCache", CACHE_DIR=str(tmp_path))
        m2m = CognitoM2M(app)
        assert m2m.for_app(app).token()
        assert m2m.for_app(app).health()["store"]["works"]


def test_cache_is_built_and_called_in_an_application_context() -> None:
    app = Flask("tenants")
    backend = BoundedBackend(lambda: [current_app.name], context=app.app_context)
    assert [backend.call(lambda names: (*names, current_app.name)) for _ in range(2)] == [
        ("tenants",) * 2
    ] * 2
