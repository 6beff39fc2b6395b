"""Sharing over each cache: entries are encrypted, cannot be forged, and are optional."""

from __future__ import annotations

import logging
import pickle
import socket
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask_caching import Cache

from flask_m2m_cognito import CognitoM2M, TokenUnavailableError, require_scopes
from flask_m2m_cognito.testing import LocalUserPool
from tests.support.headers import bearer
from tests.support.relay import relay_to
from tests.support.services import Service
from tests.support.settling import settle

SECRET_KEY = "the key that encrypts cache entries"
SEALED = b"gAAAA"
STORE_LOG = "flask_m2m_cognito.store"


class Process:
    """One process of a service: an application with its own ``CognitoM2M``, and a shared cache."""

    def __init__(self, pool: LocalUserPool, cache: Cache | None = None, **settings: Any) -> None:
        self.app = Flask("inventory")
        defaults = {"SECRET_KEY": SECRET_KEY, **pool.config(ALLOWED_CLIENT_IDS="*")}
        self.app.config.update({**defaults, **settings})
        self.app.get("/items")(require_scopes("inventory/read")(lambda: "items"))
        self.m2m = CognitoM2M(cache=cache)

    def init(self) -> Process:
        self.m2m.init_app(self.app)
        return self

    def status(self, token: str) -> int:
        headers = bearer(token)
        return self.app.test_client().get("/items", headers=headers).status_code

    def token(self) -> str:
        return self.m2m.for_app(self.app).token()


def process(pool: LocalUserPool, cache: Cache | None = None, **settings: Any) -> Process:
    return Process(pool, cache, **settings).init()


class Backend:
    """A cache outside of the process, and raw access to its entries."""

    def __init__(self, **config: Any) -> None:
        self.config = config

    def entries(self) -> dict[bytes, bytes]:
        """Return all raw entries."""
        raise NotImplementedError

    def put(self, key: bytes, value: bytes) -> None:
        """Replace an entry without changing its lifetime."""
        raise NotImplementedError


class Files(Backend):
    def __init__(self, folder: Path) -> None:
        super().__init__(CACHE_TYPE="FileSystemCache", CACHE_DIR=str(folder))
        self._folder = folder

    def entries(self) -> dict[bytes, bytes]:
        return {file.name.encode(): file.read_bytes() for file in self._folder.iterdir()}

    def put(self, key: bytes, value: bytes) -> None:
        (self._folder / key.decode()).write_bytes(value)


class Redis(Backend):
    def __init__(self, server: Service) -> None:
        super().__init__(CACHE_TYPE="RedisCache", CACHE_REDIS_URL=server.url)
        self._server = server

    def entries(self) -> dict[bytes, bytes]:
        with self._client() as client:
            return {key: client.get(key) for key in client.scan_iter()}

    def put(self, key: bytes, value: bytes) -> None:
        with self._client() as client:
            client.set(key, value, keepttl=True)

    @contextmanager
    def _client(self) -> Iterator[Any]:
        import redis

        client = redis.Redis.from_url(self._server.url)
        try:
            yield client
        finally:
            client.close()


class Memcached(Backend):
    """Memcached by its text protocol, which unpickles nothing."""

    def __init__(self, server: Service) -> None:
        super().__init__(CACHE_TYPE="MemcachedCache", CACHE_MEMCACHED_SERVERS=[server.address])
        self._server = server

    def entries(self) -> dict[bytes, bytes]:
        lines = self._send(b"lru_crawler metadump all\r\n").splitlines()
        # Newer versions, 1.6.45 among them, print the line "OK" first.
        entries = [line for line in lines if line.startswith(b"key=")]
        keys = [line.split()[0].removeprefix(b"key=").replace(b"%3A", b":") for line in entries]
        return {key: self._get(key) for key in keys}

    def _get(self, key: bytes) -> bytes:
        head, _, rest = self._send(b"get %s\r\n" % key).partition(b"\r\n")
        return rest[: int(head.split()[-1])]

    def _send(self, command: bytes) -> bytes:
        with socket.create_connection(("127.0.0.1", self._server.port), timeout=5) as connection:
            connection.sendall(command)
            answer = b""
            while not answer.endswith(b"END\r\n"):
                part = connection.recv(65536)
                assert part, answer
                answer += part
        return answer


FIXTURES = {"FileSystemCache": "files", "Redis": "redis", "Memcached": "memcached"}


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path)


@pytest.fixture
def redis(redis_server: Service) -> Redis:
    return Redis(redis_server)


@pytest.fixture
def memcached(memcached_server: Service) -> Memcached:
    return Memcached(memcached_server)


@pytest.fixture(params=FIXTURES.values(), ids=FIXTURES.keys())
def backend(request: pytest.FixtureRequest) -> Backend:
    """Each cache that outlives a process."""
    found: Backend = request.getfixturevalue(request.param)
    return found


class TestSharedEntries:
    def test_raw_entries_contain_no_key_no_token_and_no_address(
        self, pool: LocalUserPool, backend: Backend
    ) -> None:
        service = process(pool, **backend.config)
        service.status(pool.token())
        token = service.token()
        raw = b"\n".join(key + b" " + value for key, value in backend.entries().items())
        modulus = pool.jwks()["keys"][0]["n"]
        hidden = [pool.kid, modulus, *token.split("."), pool.url, "local-client", SECRET_KEY, "orders/read"]
        assert [text for text in hidden if text.encode() in raw] == []

    def test_second_process_needs_no_request(self, pool: LocalUserPool, backend: Backend) -> None:
        first = process(pool, **backend.config)
        assert first.status(pool.token()) == 200
        token, unseen = first.token(), pool.token()
        pool.clear_requests()
        with pool.offline():
            second = process(pool, **backend.config)
            assert second.status(unseen) == 200
            assert second.token() == token

    def test_other_metadata_or_scopes_get_another_token(self, pool: LocalUserPool, backend: Backend) -> None:
        first = process(pool, **backend.config)
        second = process(pool, COGNITO_M2M_CLIENT_METADATA={"tenant": "acme"}, **backend.config)
        tokens = {first.token(), second.token(), first.m2m.token("orders/read")}
        assert len(tokens) == 3

    def test_another_cache_key_shares_nothing(
        self, pool: LocalUserPool, backend: Backend, caplog: pytest.LogCaptureFixture
    ) -> None:
        process(pool, **backend.config).token()
        process(pool, COGNITO_M2M_CACHE_KEY="another key, long enough", **backend.config).token()
        assert pool.count("token") == 2
        assert warnings_of(caplog) == []

    @pytest.mark.parametrize("kind", ["redis", "memcached"])  # `add` of a folder is not atomic
    def test_four_processes_that_start_together_share_a_request(
        self, pool: LocalUserPool, kind: str, request: pytest.FixtureRequest
    ) -> None:
        backend: Backend = request.getfixturevalue(kind)
        processes, token = [process(pool, **backend.config) for _ in range(4)], pool.token()
        start = threading.Barrier(8)

        def receive(service: Process) -> int:
            start.wait(5)
            return service.status(token)

        def call(service: Process) -> str:
            start.wait(5)
            return service.token()

        with ThreadPoolExecutor(8) as threads:
            statuses, tokens = threads.map(receive, processes), threads.map(call, processes)
            assert list(statuses) == [200] * 4
            assert len(set(tokens)) == 1
        assert (pool.count("jwks"), pool.count("token")) == (1, 1)

    def test_lease_is_released_after_a_failure(self, pool: LocalUserPool, backend: Backend) -> None:
        service = process(pool, **backend.config)
        with pool.fail("token", status=400), pytest.raises(TokenUnavailableError):
            service.token()
        assert [value for value in backend.entries().values() if SEALED in value] == []


class TestForgedEntries:
    @pytest.mark.parametrize(
        "garbage",
        [b"garbage", b"", b"17", b'"text"', b"[" * 50_000, b"\xff\xfe"],
        ids=["not JSON", "empty", "a number", "a text", "nested too deeply", "not UTF-8"],
    )
    @pytest.mark.parametrize("kind", ["files", "redis"])
    def test_garbage_is_ignored_and_replaced(
        self,
        pool: LocalUserPool,
        kind: str,
        garbage: bytes,
        request: pytest.FixtureRequest,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        backend: Backend = request.getfixturevalue(kind)
        process(pool, **backend.config).status(pool.token())
        for key, value in backend.entries().items():
            if SEALED in value:
                backend.put(key, (value[:4] if kind == "files" else b"") + garbage)
        assert process(pool, **backend.config).status(pool.token()) == 200
        assert process(pool, **backend.config).status(pool.token()) == 200
        assert pool.count("jwks") == 2
        assert [record.name for record in warnings_of(caplog)] == [STORE_LOG]

    def test_entry_under_another_name_is_ignored(
        self, pool: LocalUserPool, redis: Redis, caplog: pytest.LogCaptureFixture
    ) -> None:
        # Both can be decrypted: a token must not be used as another client's, or as keys.
        service = process(pool, **redis.config)
        service.token()
        service.m2m.token("orders/read")
        (one, one_text), (other, other_text) = redis.entries().items()
        redis.put(one, other_text)
        redis.put(other, one_text)
        second = process(pool, **redis.config)
        fresh = {second.token(), second.m2m.token("orders/read")}
        assert pool.count("token") == 4
        assert len(fresh) == 2
        assert len(warnings_of(caplog)) == 2

    @pytest.mark.parametrize("kind", ["files", "redis"])
    def test_pickle_in_an_entry_is_not_executed(
        self, pool: LocalUserPool, kind: str, request: pytest.FixtureRequest, tmp_path_factory: Any
    ) -> None:
        backend: Backend = request.getfixturevalue(kind)
        process(pool, **backend.config).status(pool.token())
        trap = tmp_path_factory.mktemp("trap") / "was run"
        for key, value in backend.entries().items():
            if SEALED in value:
                head = (
                    value[:4] if kind == "files" else b"!"
                )  # the expiry in a file; cachelib's mark in Redis
                backend.put(key, head + pickle.dumps(_Trap(trap)))
        assert process(pool, **backend.config).status(pool.token()) == 200
        assert pool.count("jwks") == 2
        assert not trap.exists()


class _Trap:
    """Creates a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self._path,)


class TestChoiceOfCache:
    def test_default_cache_is_not_shared(self, pool: LocalUserPool) -> None:
        services = [process(pool) for _ in range(2)]
        assert [service.status(pool.token()) for service in services] == [200, 200]
        assert pool.count("jwks") == 2
        assert "cache" not in services[0].app.extensions  # no other process to share with

    def test_changed_entry_in_simple_cache_is_logged_and_replaced(
        self, pool: LocalUserPool, caplog: pytest.LogCaptureFixture
    ) -> None:
        service = process(pool, CACHE_TYPE="SimpleCache")
        service.token()
        (backend,) = service.app.extensions["cache"].values()
        (key,) = backend._cache
        backend.set(key, backend.get(key)[:-10] + "AAAAAAAA==")
        with service.app.app_context():
            service.m2m.for_app(service.app).forget(service.token())
        again = process(pool, cache := Cache())
        cache.init_app(Flask("other"), {"CACHE_TYPE": "SimpleCache"})
        again.app.extensions["cache"] = {cache: backend}
        assert again.token() != service.token()
        assert [record.name for record in warnings_of(caplog)] == [STORE_LOG]
        assert backend.get(key) is not None

    def test_null_cache_works_and_shares_nothing(self, pool: LocalUserPool) -> None:
        config = {"CACHE_TYPE": "NullCache", "CACHE_NO_NULL_WARNING": True}
        services = [process(pool, **config) for _ in range(2)]
        assert [service.status(pool.token()) for service in services] == [200, 200]
        assert services[0].token() != services[1].token()
        assert (pool.count("jwks"), pool.count("token")) == (2, 2)
        with pool.offline():
            assert services[0].status(pool.token()) == 200
            assert services[0].token()

    @pytest.mark.parametrize("order", ["before", "after"])
    def test_cache_may_be_initialised_before_or_after(
        self, pool: LocalUserPool, files: Files, order: str
    ) -> None:
        service = Process(pool)
        cache = Cache(config=files.config)
        for part in (cache, service.m2m) if order == "before" else (service.m2m, cache):
            part.init_app(service.app)
        service.status(pool.token())
        assert list(service.app.extensions["cache"]) == [cache]
        assert any(SEALED in value for value in files.entries().values())

    def test_passed_cache_takes_precedence(
        self, pool: LocalUserPool, files: Files, tmp_path_factory: Any
    ) -> None:
        given, other_files = Cache(config=files.config), Files(tmp_path_factory.mktemp("other"))
        service = Process(pool, given)
        for cache in (Cache(config=other_files.config), given):
            cache.init_app(service.app)
        service.init().token()
        assert any(SEALED in value for value in files.entries().values())
        assert not any(SEALED in value for value in other_files.entries().values())

    def test_uninitialised_cache_is_logged(
        self, pool: LocalUserPool, files: Files, caplog: pytest.LogCaptureFixture
    ) -> None:
        service = process(pool, Cache(config=files.config))
        assert service.status(pool.token()) == 200
        assert service.token() == service.token()
        assert [record.name for record in warnings_of(caplog)] == [STORE_LOG]
        assert files.entries() == {}

    def test_each_application_uses_its_own_without_a_context(
        self, pool: LocalUserPool, tmp_path_factory: Any
    ) -> None:
        # Without a context, Cache.get uses the application that was initialised last.
        m2m, cache = CognitoM2M(cache=(cache := Cache())), cache
        folders = [Files(tmp_path_factory.mktemp("cache")) for _ in range(2)]
        services = [Process(pool) for _ in folders]
        for service, folder in zip(services, folders, strict=True):
            service.m2m = m2m
            cache.init_app(service.app, folder.config)
            service.init()
        services[0].token()
        assert [any(SEALED in value for value in each.entries().values()) for each in folders] == [
            True,
            False,
        ]

    def test_created_cache_reads_json_and_logs_no_miss(
        self, pool: LocalUserPool, redis: Redis, caplog: pytest.LogCaptureFixture
    ) -> None:
        process(pool, **redis.config).token()
        (value,) = redis.entries().values()
        assert value.startswith(b'"' + SEALED)
        assert warnings_of(caplog) == []
        assert not any(map(is_of_pickle, caplog.records))

    def test_created_cache_adds_no_template_extension(self, pool: LocalUserPool) -> None:
        service = process(pool)
        service.token()
        assert not any("cache" in name.lower() for name in service.app.jinja_env.extensions)


class TestPickle:
    """Anyone who can write to a cache that is read with pickle can run code in every process."""

    @pytest.mark.parametrize("kind", ["files", "redis"])
    def test_pickling_cache_of_the_application_is_logged_once(
        self, pool: LocalUserPool, kind: str, request: pytest.FixtureRequest, caplog: pytest.LogCaptureFixture
    ) -> None:
        backend: Backend = request.getfixturevalue(kind)
        service = Process(pool)
        Cache(config=backend.config).init_app(service.app)
        service.init()
        assert self.warning_count(caplog) == 1
        service.token()
        assert self.warning_count(caplog) == 1

    def test_later_initialised_cache_is_logged_at_first_use(
        self, pool: LocalUserPool, files: Files, caplog: pytest.LogCaptureFixture
    ) -> None:
        service = process(pool)
        Cache(config=files.config).init_app(service.app)
        assert self.warning_count(caplog) == 0
        service.token()
        assert self.warning_count(caplog) == 1

    def test_cache_that_reads_json_is_not_logged(
        self, pool: LocalUserPool, files: Files, caplog: pytest.LogCaptureFixture
    ) -> None:
        serializers = pytest.importorskip("cachelib.serializers")
        if not hasattr(serializers, "JSONSerializer"):
            pytest.skip("cachelib has one since 0.15")
        service = Process(pool)
        config = {**files.config, "CACHE_SERIALIZER": serializers.JSONSerializer()}
        Cache(config=config).init_app(service.app)
        service.init().token()
        assert any(SEALED in value for value in files.entries().values())
        assert self.warning_count(caplog) == 0

    @pytest.mark.parametrize("config", [{}, {"CACHE_TYPE": "SimpleCache"}], ids=["default", "SimpleCache"])
    def test_cache_in_the_process_is_not_logged(
        self, pool: LocalUserPool, config: dict[str, Any], caplog: pytest.LogCaptureFixture
    ) -> None:
        service = Process(pool)
        if config:
            Cache(config=config).init_app(service.app)
        service.init().token()
        assert self.warning_count(caplog) == 0

    def test_memcached_is_logged_because_its_clients_use_pickle(
        self, pool: LocalUserPool, memcached: Memcached, caplog: pytest.LogCaptureFixture
    ) -> None:
        process(pool, **memcached.config).token()
        assert self.warning_count(caplog) == 1

    @staticmethod
    def warning_count(caplog: pytest.LogCaptureFixture) -> int:
        settle()
        return sum(map(is_of_pickle, caplog.records))


class TestIdleConnections:
    """A firewall forgets idle connections: then the next bytes get a reset, or no answer."""

    @pytest.mark.parametrize(
        ("resets", "options"),
        [
            pytest.param(True, {}, id="reset"),
            pytest.param(False, {"socket_timeout": 1.0}, id="silence, with a timeout of the client"),
        ],
    )
    def test_forgotten_connection_is_replaced(
        self,
        pool: LocalUserPool,
        redis_server: Service,
        caplog: pytest.LogCaptureFixture,
        resets: bool,
        options: dict[str, Any],
    ) -> None:
        with relay_to(redis_server.port) as relay:
            config = {
                "CACHE_TYPE": "RedisCache",
                "CACHE_REDIS_URL": f"redis://127.0.0.1:{relay.port}/0",
                "CACHE_OPTIONS": options,
                "COGNITO_M2M_STORE_TIMEOUT": 10.0,
            }
            one, other = process(pool, **config), process(pool, **config)
            assert one.token() == other.token()
            settle()
            relay.forget(resets)
            assert one.m2m.token("orders/read") == other.m2m.token("orders/read")
            assert pool.count("token") == 2
            assert not warnings_of(caplog)


class TestUnavailableCache:
    def test_cache_that_is_down_at_start_fails_no_request(
        self, pool: LocalUserPool, own_redis: Service, caplog: pytest.LogCaptureFixture
    ) -> None:
        own_redis.stop()
        service = process(pool, **Redis(own_redis).config)
        assert service.status(pool.token()) == 200
        assert service.token() == service.token()
        (record,) = warnings_of(caplog)
        assert vars(record)["event"] == "store-failed"
        assert "ConnectionError (Connection refused) in redis/" in record.getMessage()

    def test_log_names_a_client_that_is_not_installed(
        self, pool: LocalUserPool, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setitem(sys.modules, "redis", None)
        process(pool, CACHE_TYPE="RedisCache", CACHE_REDIS_URL="redis://:hunter2@127.0.0.1:1/0").token()
        (record,) = warnings_of(caplog)
        assert "RuntimeError (the module redis is not installed) in backends/redis" in record.getMessage()
        assert "hunter2" not in record.getMessage()

    @pytest.mark.parametrize("kind", [Redis, Memcached])
    def test_cache_that_goes_down_fails_no_request(
        self, pool: LocalUserPool, kind: type[Redis | Memcached], request: pytest.FixtureRequest
    ) -> None:
        server: Service = request.getfixturevalue(f"own_{kind.__name__.lower()}")
        service = process(pool, **kind(server).config)
        assert service.status(pool.token()) == 200
        token = service.token()
        server.stop()
        assert service.m2m.token("orders/read")
        with pool.offline():
            assert service.status(pool.token()) == 200
            assert service.token() == token

    def test_hung_cache_fails_no_request(
        self, pool: LocalUserPool, own_redis: Service, caplog: pytest.LogCaptureFixture
    ) -> None:
        service = process(pool, COGNITO_M2M_STORE_TIMEOUT=0.05, **Redis(own_redis).config)
        service.token()
        with own_redis.paused():
            assert service.status(pool.token()) == 200
            assert service.m2m.token("orders/read")
        assert [vars(record).get("event") for record in warnings_of(caplog)] == ["store-failed"]

    def test_folder_that_cannot_be_written_fails_no_request(
        self, pool: LocalUserPool, tmp_path: Path
    ) -> None:
        place = tmp_path / "a file"
        place.write_text("not a folder")
        service = process(pool, CACHE_TYPE="FileSystemCache", CACHE_DIR=str(place))
        assert service.status(pool.token()) == 200
        assert service.token()

    def test_backend_that_is_not_installed_fails_no_request(
        self, pool: LocalUserPool, caplog: pytest.LogCaptureFixture
    ) -> None:
        service = process(pool, CACHE_TYPE="no_such_package.NoSuchCache")
        assert service.status(pool.token()) == 200
        assert service.token()
        assert [vars(record).get("event") for record in warnings_of(caplog)] == ["store-failed"]


def warnings_of(caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    """Return all records at WARNING or above, except the warning that ``TestPickle`` tests."""
    settle()
    return [
        record for record in caplog.records if record.levelno >= logging.WARNING and not is_of_pickle(record)
    ]


def is_of_pickle(record: logging.LogRecord) -> bool:
    return vars(record).get("event") == "cache-unpickles"
