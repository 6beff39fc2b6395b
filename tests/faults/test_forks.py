"""A process forks during some work: its child has its own locks, attempts and connections."""

from __future__ import annotations

import functools
import json
import multiprocessing
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from flask import Flask

from flask_m2m_cognito import AppM2M
from flask_m2m_cognito.inbound.verified_token import VerifiedTokens
from flask_m2m_cognito.outbound.client_secret import ClientSecret
from flask_m2m_cognito.outbound.token_sources import TokenSources
from flask_m2m_cognito.remote.clock import Clock, Deadline
from flask_m2m_cognito.remote.transport import Answer
from flask_m2m_cognito.telemetry.request_count import RequestCount
from flask_m2m_cognito.testing import LocalUserPool, MovedClock
from flask_m2m_cognito.web.rejection_log import Rejection, RejectionLog
from tests.support.clocks import Clocks
from tests.support.forks import in_a_child
from tests.support.services import Service
from tests.support.settling import refresh_threads, settle
from tests.support.threads import LONG, wait_for

from .caches import HangingCache
from .stage import PAST_FRESH, SECRET_KEY, MovedService, app_on, get, moved_service

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")


def statuses(service: MovedService, token: str) -> list[int]:
    return [service.get(path, token).status_code for path in ("/items", "/relay")]


def test_child_of_a_warm_process_uses_inherited_values(service: MovedService, pool: LocalUserPool) -> None:
    token = pool.token()
    assert in_a_child(lambda: statuses(service, token)) == [200, 200]
    assert (pool.count("jwks"), pool.count("token")) == (1, 1)


JOBS = 12
"""Each runs in a process of its own, as with RQ, cron, or Celery with one task per child."""


def run_jobs(calls: AppM2M, before: Callable[[], object] = lambda: None) -> None:
    def job() -> str:
        token = calls.token()
        settle()  # a job waits for a renewal that it has started
        return token

    for _ in range(JOBS):
        before()
        assert in_a_child(job).startswith("eyJ")


def test_forked_jobs_with_a_shared_cache_request_one_token(real_pool: LocalUserPool, tmp_path: Path) -> None:
    app, m2m = app_on(real_pool, CACHE_TYPE="FileSystemCache", CACHE_DIR=str(tmp_path))
    run_jobs(m2m.for_app(app))
    assert real_pool.count("token") == 1


def test_jobs_of_a_warm_parent_share_its_token() -> None:
    with MovedClock() as clock, LocalUserPool(clock=clock.wall) as pool:
        app, m2m = app_on(pool, RENEW="inline")
        calls = m2m.for_app(app)
        run_jobs(calls, before=lambda: calls.warm_up([None]))
        assert pool.count("token") == 1
        clock.move(3600 * 0.9)  # usable but no longer fresh: in the background, each job would renew it
        run_jobs(calls, before=lambda: calls.warm_up([None]))
        assert pool.count("token") == 2


def test_child_forked_during_a_first_fetch_makes_its_own(pool: LocalUserPool, clocks: Clocks) -> None:
    service, token = moved_service(pool, clocks), pool.token()
    pool.fail("jwks", hang=True, times=1)
    waiting = threading.Thread(target=service.get, args=("/items", token))
    waiting.start()
    pool.wait_for("jwks")
    # It also has its own copy of the cache, in which the parent's lease is never released.
    assert in_a_child(lambda: statuses(_without_leases(service), token)) == [200, 200]
    pool.recover()
    waiting.join(LONG)
    assert statuses(service, token) == [200, 200]


def _without_leases(service: MovedService) -> MovedService:
    service.backend.call(lambda cache: cache.clear())
    return service


def test_child_forked_during_a_refresh_refreshes_itself(
    service: MovedService, pool: LocalUserPool, clocks: Clocks
) -> None:
    token = pool.token(expires_in=100_000)
    pool.fail("jwks", hang=True, times=1)
    clocks.advance(PAST_FRESH)
    service.get("/items", token)
    pool.wait_for("jwks", 2)

    def refreshed() -> str:
        _without_leases(service).get("/items", token)
        wait_for(lambda: service.keys.key_source.snapshot()["state"] == "fresh", "the child's refresh")
        return "fresh"

    assert in_a_child(refreshed) == "fresh"
    assert pool.count("jwks") == 3
    pool.recover()
    wait_for(lambda: not refresh_threads(), "the parent's refresh has ended")


def test_child_forked_during_a_hanging_cache_call_can_use_it(pool: LocalUserPool, clocks: Clocks) -> None:
    cache, token = HangingCache(), pool.token()
    service = moved_service(pool, clocks, cache=cache)
    cache.misbehaves = True
    waiting = threading.Thread(target=service.get, args=("/items", token))
    waiting.start()
    wait_for(lambda: cache.calls, "the cache is called")

    def child() -> object:
        cache.misbehaves = False
        return [*statuses(service, token), service.backend.works, cache.calls > 2]

    assert in_a_child(child) == [200, 200, True, True]
    cache.recover()
    waiting.join(LONG)


def test_child_forked_while_the_secret_is_read_reads_it_itself(pool: LocalUserPool) -> None:
    parent, called, released = os.getpid(), threading.Event(), threading.Event()

    def secret() -> str:
        called.set()
        if os.getpid() == parent:
            assert released.wait(LONG)
        return "the secret"

    held = ClientSecret(secret)
    reading = threading.Thread(target=held.try_with, args=(lambda text: text.reveal(), Deadline(LONG)))
    reading.start()
    assert called.wait(LONG)
    assert in_a_child(lambda: held.try_with(lambda text: text.reveal(), Deadline(LONG))) == "the secret"
    released.set()
    reading.join(LONG)


class Gate:
    """Blocks a thread of this process, and not those of a child."""

    def __init__(self) -> None:
        self._pid = os.getpid()
        self.reached = threading.Event()
        self.opened = threading.Event()

    def pass_through(self, value: Any = None) -> Any:
        if os.getpid() == self._pid:
            self.reached.set()
            assert self.opened.wait(LONG)
        return value


class Remembered:
    """An entry that is read while the memory is locked."""

    def __init__(self, gate: Gate) -> None:
        self._gate = gate

    @property
    def used(self) -> bool:
        return bool(self._gate.pass_through(False))

    @used.setter
    def used(self, used: bool) -> None: ...


def verified_tokens(gate: Gate) -> Callable[[], object]:
    memory: VerifiedTokens = VerifiedTokens(1)
    memory.put(b"first", Remembered(gate))
    return lambda: memory.put(b"second", Remembered(gate))


def request_count(gate: Gate) -> Callable[[], object]:
    count = RequestCount("client", Clock(time.time, lambda: gate.pass_through(0.0)))
    return lambda: (count.last_hour, count.look_at(Answer("", 200, {}, b"")))


def rejection_log(gate: Gate) -> Callable[[], object]:
    log = RejectionLog(Flask("shop"), Clock(time.time, lambda: gate.pass_through(0.0)))
    return lambda: log.note(Rejection("expired", 401, None, None, "/"))


def token_sources(gate: Gate) -> Callable[[], object]:
    source = SimpleNamespace(token=str)
    sources = TokenSources({None: ("a/b",)}, lambda name, scopes, metadata: gate.pass_through(source))
    return lambda: (sources.get(), sources.all())


@pytest.mark.parametrize("make", [verified_tokens, request_count, rejection_log, token_sources])
def test_lock_held_at_the_fork_does_not_block_the_child(
    make: Callable[[Gate], Callable[[], object]],
) -> None:
    gate = Gate()
    use = make(gate)
    holding = threading.Thread(target=use)
    holding.start()
    assert gate.reached.wait(LONG)
    try:
        assert in_a_child(lambda: use() and None) is None
    finally:
        gate.opened.set()
        holding.join(LONG)


@pytest.mark.slow
def test_forked_children_do_not_mix_up_memcached_answers(
    real_pool: LocalUserPool, memcached_server: Service
) -> None:
    # Its C clients keep one socket, from which all children would read after a fork.
    config = {"CACHE_TYPE": "MemcachedCache", "CACHE_MEMCACHED_SERVERS": [memcached_server.address]}
    app, m2m = app_on(real_pool, **config)
    token = real_pool.token()
    assert get(app.test_client(), "/relay", token).status_code == 200
    backend = m2m.for_app(app)._store.backend
    go = multiprocessing.get_context("fork").Event()

    def wrong_answers(child: int) -> int:
        assert go.wait(LONG)
        key, wrong = f"of-{child}", 0
        for turn in range(300):
            backend.call(functools.partial(_set, key, f"{child}/{turn}"))
            wrong += backend.call(functools.partial(_get, key)) != f"{child}/{turn}"
        return wrong

    outcomes: list[object] = []

    def keep_outcome_of(child: int) -> None:
        outcomes.append(in_a_child(functools.partial(wrong_answers, child)))

    children = [threading.Thread(target=keep_outcome_of, args=(child,)) for child in range(4)]
    for thread in children:
        thread.start()
    go.set()
    for thread in children:
        thread.join(2 * LONG)
    assert outcomes == [0, 0, 0, 0]


def _set(key: str, value: str, cache: Any) -> object:
    return cache.set(key, value)


def _get(key: str, cache: Any) -> object:
    return cache.get(key)


LATE_IMPORTS = """
import json, sys
from flask import Flask
from flask_m2m_cognito import CognitoM2M

app = Flask("inventory")
app.config.update(json.loads(sys.argv[1]))
parts = CognitoM2M(app).for_app(app)
for value in (parts.sources.get().refreshable, parts.validator.pools[0].key_source):
    value.prepare()
before = set(sys.modules)
assert parts.warm_up([None], timeout=30)["status"] == "ok"
late = {name for name in set(sys.modules) - before if name.split(".")[0] not in sys.stdlib_module_names}
print(*sorted(late))
"""


@pytest.mark.slow
@pytest.mark.processes
@pytest.mark.parametrize("kind", ["SimpleCache", "RedisCache"])
def test_warm_up_imports_every_package_on_the_calling_thread(
    real_pool: LocalUserPool, redis_server: Service, kind: str
) -> None:
    config = {
        **real_pool.config(ALLOWED_CLIENT_IDS="*"),
        "SECRET_KEY": SECRET_KEY,
        "CACHE_TYPE": kind,
        "CACHE_REDIS_URL": redis_server.url,
    }
    command = [sys.executable, "-W", "ignore", "-c", LATE_IMPORTS, json.dumps(config)]
    ended = subprocess.run(command, cwd=ROOT, timeout=LONG, check=True, capture_output=True, text=True)
    assert ended.stdout.split() == []


COLD_FORK = """
import os, sys
from flask_m2m_cognito.testing import LocalUserPool, MovedClock
from tests.faults.stage import app_on, get

with LocalUserPool() as pool:
    token = pool.token()
    pool.delay("jwks", 0.5)
    app, m2m = app_on(pool)
    m2m.warm_up(timeout=float(sys.argv[1]))
    child = os.fork()
    if child == 0:
        os._exit(get(app.test_client(), "/items", token).status_code // 100)
    sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


@pytest.mark.slow
@pytest.mark.processes
@pytest.mark.parametrize("seconds", ["0", "0.02", "0.1"])
def test_fork_during_warm_up_leaves_working_children(seconds: str) -> None:
    # A process of its own, in which the late imports of the library are still to come.
    command = [sys.executable, "-W", "ignore", "-c", COLD_FORK, seconds]
    assert subprocess.run(command, cwd=ROOT, timeout=LONG, check=False).returncode == 2
