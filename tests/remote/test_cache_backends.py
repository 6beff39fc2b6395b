"""The same tests with each of Flask-Caching's backends: real Redis, real Memcached, files, memory."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cachelib import serializers
from flask import Flask
from flask_caching import Cache

from flask_m2m_cognito.app.cache_backend import backend_finder, text_serializer
from flask_m2m_cognito.remote.bounded_backend import BoundedBackend
from flask_m2m_cognito.remote.refreshable import Refreshable, Refreshing
from flask_m2m_cognito.remote.sealed_store import Entry, Lease, Seal, SealedStore
from flask_m2m_cognito.remote.sharing import shared
from tests.remote.moved import LONG, Source, Threads, Unavailable, text_codec, together
from tests.support.clocks import Clocks
from tests.support.forks import in_a_child, in_children, needs_fork
from tests.support.services import Service

Processes = Callable[[], SealedStore]

KEY = b"sixteen bytes or more"
NAME = "the value of https://cognito-idp.us-east-1.amazonaws.com/us-east-1_AbCdEfGhI"
A_WHILE = 60.0

SERIALIZERS = {
    "pickle": None,
    "our JSON": text_serializer,
    # cachelib's own, since 0.15
    **({"its JSON": serializers.JSONSerializer} if hasattr(serializers, "JSONSerializer") else {}),
}
ATOMIC = [*(f"Redis with {serializer}" for serializer in SERIALIZERS), "Memcached"]
OF_ONE_HOST = [f"files with {serializer}" for serializer in SERIALIZERS]
OF_ONE_PROCESS = [f"memory with {serializer}" for serializer in SERIALIZERS]


def _settings(kind: str, request: pytest.FixtureRequest) -> dict[str, Any]:
    if kind == "Redis":
        return {"CACHE_TYPE": "RedisCache", "CACHE_REDIS_URL": request.getfixturevalue("redis_server").url}
    if kind == "Memcached":
        server: Service = request.getfixturevalue("memcached_server")
        return {"CACHE_TYPE": "MemcachedCache", "CACHE_MEMCACHED_SERVERS": [server.address]}
    if kind == "files":
        folder: Path = request.getfixturevalue("tmp_path")
        return {"CACHE_TYPE": "FileSystemCache", "CACHE_DIR": str(folder / "cache")}
    return {"CACHE_TYPE": "SimpleCache"}


@pytest.fixture
def backend(request: pytest.FixtureRequest) -> Any:
    """An empty backend, built by Flask-Caching."""
    kind, _, serializer = request.param.partition(" with ")
    built = _build(_settings(kind, request))
    make = SERIALIZERS[serializer or "pickle"]
    if make is not None:
        built.serializer = make()
    return built


def _build(settings: dict[str, Any]) -> Any:
    app = Flask("app")
    app.config.update(settings)
    return backend_finder(app, Cache(app))()


def over(*kinds: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize(
        "backend",
        [pytest.param(kind, marks=_marks(kind), id=kind) for kind in kinds],
        indirect=True,
    )


def _marks(kind: str) -> list[pytest.MarkDecorator]:
    return [pytest.mark.services] if kind.startswith(("Redis", "Memcached")) else []


@pytest.fixture
def process(backend: Any) -> Processes:
    """Return a function that opens the store of another process, with enough time on a busy machine."""
    return lambda: SealedStore(BoundedBackend(lambda: backend, timeout=LONG), Seal(KEY))


@over(*ATOMIC, *OF_ONE_HOST, *OF_ONE_PROCESS)
class TestEachBackend:
    def test_other_process_reads_the_entry(self, process: Processes) -> None:
        entry = Entry({"keys": ["é", 1.5, None]}, 1_750_000_000.25, 1_750_086_400.25)
        process().save(NAME, "keys", entry)
        assert process().load(NAME, "keys") == entry

    def test_entry_may_expire_after_more_than_thirty_days(self, process: Processes) -> None:
        """Memcached would read such a time to live as a date in 1970."""
        entry = Entry("v1", 1_750_000_000.0, 1_750_000_000.0 + 90 * 86400.0)
        process().save(NAME, "keys", entry)
        assert process().load(NAME, "keys") == entry

    def test_entry_is_replaced(self, process: Processes) -> None:
        for payload in ("v1", "v2"):
            process().save(NAME, "keys", Entry(payload, 0.0, A_WHILE))
        found = process().load(NAME, "keys")
        assert found is not None
        assert found.payload == "v2"

    def test_missing_entry_is_not_logged(self, process: Processes, caplog: pytest.LogCaptureFixture) -> None:
        assert process().load(NAME, "keys") is None
        records = [record for record in caplog.records if record.name.startswith("flask_m2m_cognito")]
        assert records == []

    @pytest.mark.parametrize(
        "text",
        [
            pytest.param("changed by hand", id="other text"),
            pytest.param(Seal(KEY + b"!").close({"name": NAME, "kind": "keys"}), id="another key's"),
            pytest.param(Seal(KEY).close({"name": "another", "kind": "keys"}), id="another name's"),
            pytest.param({"a": 1}, id="an object"),
            pytest.param(7, id="a number"),
        ],
    )
    def test_changed_entry_is_ignored_logged_once_and_replaced(
        self, process: Processes, backend: Any, caplog: pytest.LogCaptureFixture, text: Any
    ) -> None:
        store = process()
        entry = Entry("v1", 0.0, A_WHILE)
        store.save(NAME, "keys", entry)
        key = store._key("keys", NAME)
        assert backend.get(key)
        backend.set(key, text, 60)
        assert [store.load(NAME, "keys"), store.load(NAME, "keys")] == [None, None]
        records = [record for record in caplog.records if record.name.startswith("flask_m2m_cognito")]
        assert [record.levelno for record in records] == [logging.WARNING]
        store.save(NAME, "keys", entry)
        assert store.load(NAME, "keys") == entry

    def test_cleared_cache_has_no_entry_and_no_lease(self, process: Processes, backend: Any) -> None:
        store = process()
        store.save(NAME, "keys", Entry("v1", 0.0, A_WHILE))
        assert store.take_lease(NAME, A_WHILE) is not None
        backend.clear()
        assert store.load(NAME, "keys") is None
        assert process().take_lease(NAME, A_WHILE) is not None

    def test_lease_belongs_to_one_process_until_it_is_released(self, process: Processes) -> None:
        first = process()
        lease = first.take_lease(NAME, A_WHILE)
        assert isinstance(lease, Lease)
        assert lease.key is not None
        assert process().take_lease(NAME, A_WHILE) is None
        first.give_back(lease)
        assert process().take_lease(NAME, A_WHILE) is not None

    def test_one_process_takes_an_expired_lease(self, backend: Any, clocks: Clocks) -> None:
        def process() -> SealedStore:
            bounded = BoundedBackend(lambda: backend, timeout=LONG)
            return SealedStore(bounded, Seal(KEY), clock=clocks.clock)

        assert process().take_lease(NAME, A_WHILE) is not None
        clocks.advance(A_WHILE)
        leases = [process().take_lease(NAME, A_WHILE) for _ in range(4)]
        assert sum(lease is not None for lease in leases) == 1

    def test_forged_lease_does_not_block(self, process: Processes, backend: Any) -> None:
        backend.set(process()._key("lease", NAME), "forged", 3600)
        assert process().take_lease(NAME, A_WHILE) is not None


@over(*ATOMIC, *OF_ONE_PROCESS)
class TestBackendsWhoseAddIsAtomic:
    def test_one_of_eight_processes_gets_the_lease(self, process: Processes) -> None:
        stores = [process() for _ in range(8)]
        leases = together(8, lambda: stores.pop().take_lease(NAME, A_WHILE))
        assert sum(lease is not None for lease in leases) == 1


@over(*ATOMIC)
def test_eight_cold_processes_make_one_fetch(process: Processes, source: Source, clocks: Clocks) -> None:
    assert together(8, lambda: _get(process, source, clocks)) == ["v1"] * 8
    assert source.fetches == 1


@needs_fork
@over(*OF_ONE_HOST)
class TestFilesWhoseAddIsNotAtomic:
    """Sixteen processes in many rounds, because this tests a race. Without a lease all sixteen lead."""

    ROUNDS = 10
    MOST_ON_AVERAGE = 4

    def test_few_of_sixteen_processes_get_the_lease(self, process: Processes) -> None:
        leaders = 0
        for _ in range(self.ROUNDS):
            process()._delete(process()._key("lease", NAME))
            leaders += leaders_of(16, process)
        assert self.ROUNDS <= leaders <= self.ROUNDS * self.MOST_ON_AVERAGE

    def test_few_of_sixteen_processes_get_an_expired_lease(self, process: Processes, backend: Any) -> None:
        leaders = 0
        for _ in range(self.ROUNDS):
            # Expired in 1970: the lease of a dead process, which no other process has seen yet.
            backend.set(process()._key("lease", NAME), "any text", -int(time.time()) + 1)
            leaders += leaders_of(16, process)
        assert self.ROUNDS <= leaders <= self.ROUNDS * self.MOST_ON_AVERAGE


def leaders_of(count: int, process: Processes) -> int:
    answers = in_children(count, lambda: "leads" if process().take_lease(NAME, A_WHILE) else "watches")
    assert set(answers) <= {"leads", "watches"}
    return answers.count("leads")


def _get(process: Processes, source: Source, clocks: Clocks) -> str:
    """Return the value as a new process gets it."""
    return Refreshable(
        shared(source, process(), NAME, text_codec(), clock=clocks.clock),
        unavailable=Unavailable,
        deadline=LONG,
        refreshing=Refreshing(clocks.clock),
    ).get()


@over("Redis with our JSON")
def test_silent_redis_times_out_and_recovers(redis_server: Service, backend: Any, clocks: Clocks) -> None:
    changes: list[bool] = []
    bounded = BoundedBackend(
        lambda: backend,
        timeout=0.5,
        on_change=lambda works, error: changes.append(works),
        clock=clocks.clock,
        start_thread=(helpers := Threads()),
    )
    store = SealedStore(bounded, Seal(KEY))
    entry = Entry("v1", 0.0, A_WHILE)
    store.save(NAME, "text", entry)
    with redis_server.paused():
        assert store.load(NAME, "text") is None
        assert store.take_lease(NAME, 6.0) == Lease(None)
        clocks.advance(60)
        assert store.load(NAME, "text") is None
        assert (changes, len(helpers.threads)) == ([False], 2)
    helpers.join()
    clocks.advance(300)
    assert store.load(NAME, "text") == entry
    assert changes == [False, True]


def test_stopped_redis_is_no_error(own_redis: Service) -> None:
    backend = _build({"CACHE_TYPE": "RedisCache", "CACHE_REDIS_URL": own_redis.url})
    store = SealedStore(BoundedBackend(lambda: backend, timeout=LONG), Seal(KEY))
    store.save(NAME, "text", Entry("v1", 0.0, A_WHILE))
    assert store.backend.works
    own_redis.stop()
    assert store.load(NAME, "text") is None
    assert store.take_lease(NAME, 6.0) == Lease(None)
    assert not store.backend.works


@needs_fork
@over("Redis with our JSON", "files with our JSON")
def test_forked_child_waits_for_its_parents_lease(process: Processes) -> None:
    store = process()
    assert store.take_lease(NAME, A_WHILE) is not None
    assert in_a_child(lambda: "leads" if store.take_lease(NAME, A_WHILE) else "waits") == "waits"
