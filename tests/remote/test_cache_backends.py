"""One suite over each of Flask-Caching's backends: real Redis, real Memcached, files, and in the process."""

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
    """A backend as Flask-Caching makes it, empty."""
    kind, _, serializer = request.param.partition(" with ")
    made = _made(_settings(kind, request))
    make = SERIALIZERS[serializer or "pickle"]
    if make is not None:
        made.serializer = make()
    return made


def _made(settings: dict[str, Any]) -> Any:
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
    """The store of one more process, on real threads and with time for a busy machine."""
    return lambda: SealedStore(BoundedBackend(lambda: backend, timeout=LONG), Seal(KEY))


@over(*ATOMIC, *OF_ONE_HOST, *OF_ONE_PROCESS)
class TestEachBackend:
    def test_an_entry_of_one_process_is_read_by_another(self, process: Processes) -> None:
        entry = Entry({"keys": ["é", 1.5, None]}, 1_750_000_000.25, 1_750_086_400.25)
        process().save(NAME, "keys", entry)
        assert process().load(NAME, "keys") == entry

    def test_an_entry_may_be_kept_for_longer_than_thirty_days(self, process: Processes) -> None:
        """Which Memcached would take for a moment in 1970."""
        entry = Entry("v1", 1_750_000_000.0, 1_750_000_000.0 + 90 * 86400.0)
        process().save(NAME, "keys", entry)
        assert process().load(NAME, "keys") == entry

    def test_an_entry_is_replaced(self, process: Processes) -> None:
        for payload in ("v1", "v2"):
            process().save(NAME, "keys", Entry(payload, 0.0, A_WHILE))
        found = process().load(NAME, "keys")
        assert found is not None
        assert found.payload == "v2"

    def test_what_is_not_there_is_no_news(self, process: Processes, caplog: pytest.LogCaptureFixture) -> None:
        assert process().load(NAME, "keys") is None
        ours = [record for record in caplog.records if record.name.startswith("flask_m2m_cognito")]
        assert ours == []

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
    def test_an_entry_changed_by_hand_is_ignored_logged_once_and_replaced(
        self, process: Processes, backend: Any, caplog: pytest.LogCaptureFixture, text: Any
    ) -> None:
        store = process()
        entry = Entry("v1", 0.0, A_WHILE)
        store.save(NAME, "keys", entry)
        key = store._key("keys", NAME)
        assert backend.get(key)
        backend.set(key, text, 60)
        assert [store.load(NAME, "keys"), store.load(NAME, "keys")] == [None, None]
        ours = [record for record in caplog.records if record.name.startswith("flask_m2m_cognito")]
        assert [record.levelno for record in ours] == [logging.WARNING]
        store.save(NAME, "keys", entry)
        assert store.load(NAME, "keys") == entry

    def test_cleared_by_the_application_it_holds_nothing_and_no_lease(
        self, process: Processes, backend: Any
    ) -> None:
        store = process()
        store.save(NAME, "keys", Entry("v1", 0.0, A_WHILE))
        assert store.take_lease(NAME, A_WHILE) is not None
        backend.clear()
        assert store.load(NAME, "keys") is None
        assert process().take_lease(NAME, A_WHILE) is not None

    def test_a_lease_is_one_process_s_until_it_is_given_back(self, process: Processes) -> None:
        first = process()
        lease = first.take_lease(NAME, A_WHILE)
        assert isinstance(lease, Lease)
        assert lease.key is not None
        assert process().take_lease(NAME, A_WHILE) is None
        first.give_back(lease)
        assert process().take_lease(NAME, A_WHILE) is not None

    def test_a_lease_past_its_own_deadline_is_taken_by_one_though_the_backend_keeps_it(
        self, backend: Any, clocks: Clocks
    ) -> None:
        def process() -> SealedStore:
            bounded = BoundedBackend(lambda: backend, timeout=LONG)
            return SealedStore(bounded, Seal(KEY), clock=clocks.clock)

        assert process().take_lease(NAME, A_WHILE) is not None
        clocks.advance(A_WHILE)
        leases = [process().take_lease(NAME, A_WHILE) for _ in range(4)]
        assert sum(lease is not None for lease in leases) == 1

    def test_a_lease_that_was_forged_is_taken(self, process: Processes, backend: Any) -> None:
        backend.set(process()._key("lease", NAME), "for ever mine", 3600)
        assert process().take_lease(NAME, A_WHILE) is not None


@over(*ATOMIC, *OF_ONE_PROCESS)
class TestBackendsWhoseAddIsAtomic:
    def test_of_eight_processes_at_once_one_has_the_lease(self, process: Processes) -> None:
        stores = [process() for _ in range(8)]
        leases = together(8, lambda: stores.pop().take_lease(NAME, A_WHILE))
        assert sum(lease is not None for lease in leases) == 1


@over(*ATOMIC)
def test_eight_processes_that_start_together_make_one_fetch(
    process: Processes, source: Source, clocks: Clocks
) -> None:
    assert together(8, lambda: _get(process, source, clocks)) == ["v1"] * 8
    assert source.asked == 1


@needs_fork
@over(*OF_ONE_HOST)
class TestFilesWhoseAddIsNotAtomic:
    """Sixteen processes, and often, since what is to be seen is a race. Without a lease all sixteen lead."""

    ROUNDS = 10
    MOST_ON_AVERAGE = 4

    def test_of_sixteen_processes_at_once_few_have_the_lease(self, process: Processes) -> None:
        leaders = 0
        for _ in range(self.ROUNDS):
            process()._delete(process()._key("lease", NAME))
            leaders += leaders_of(16, process)
        assert self.ROUNDS <= leaders <= self.ROUNDS * self.MOST_ON_AVERAGE

    def test_of_sixteen_that_find_an_expired_lease_few_have_it(
        self, process: Processes, backend: Any
    ) -> None:
        leaders = 0
        for _ in range(self.ROUNDS):
            # Since 1970: of a process that died, and whose lease nobody has looked at since.
            backend.set(process()._key("lease", NAME), "any text", -int(time.time()) + 1)
            leaders += leaders_of(16, process)
        assert self.ROUNDS <= leaders <= self.ROUNDS * self.MOST_ON_AVERAGE


def leaders_of(count: int, process: Processes) -> int:
    said = in_children(count, lambda: "leads" if process().take_lease(NAME, A_WHILE) else "watches")
    assert set(said) <= {"leads", "watches"}
    return said.count("leads")


def _get(process: Processes, source: Source, clocks: Clocks) -> str:
    """The value, as a process gets it that has just started."""
    return Refreshable(
        shared(source, process(), NAME, text_codec(), clock=clocks.clock),
        unavailable=Unavailable,
        deadline=LONG,
        refreshing=Refreshing(clocks.clock),
    ).get()


@over("Redis with our JSON")
def test_a_redis_that_says_nothing_is_left_after_the_timeout_until_it_speaks_again(
    redis_server: Service, backend: Any, clocks: Clocks
) -> None:
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


def test_a_redis_that_ends_is_done_without(own_redis: Service) -> None:
    backend = _made({"CACHE_TYPE": "RedisCache", "CACHE_REDIS_URL": own_redis.url})
    store = SealedStore(BoundedBackend(lambda: backend, timeout=LONG), Seal(KEY))
    store.save(NAME, "text", Entry("v1", 0.0, A_WHILE))
    assert store.backend.works
    own_redis.stop()
    assert store.load(NAME, "text") is None
    assert store.take_lease(NAME, 6.0) == Lease(None)
    assert not store.backend.works


@needs_fork
@over("Redis with our JSON", "files with our JSON")
def test_a_forked_child_waits_for_its_parents_lease_in_a_cache_that_they_share(process: Processes) -> None:
    store = process()
    assert store.take_lease(NAME, A_WHILE) is not None
    assert in_a_child(lambda: "leads" if store.take_lease(NAME, A_WHILE) else "waits") == "waits"
