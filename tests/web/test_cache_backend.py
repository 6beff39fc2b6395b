"""The cache over which an application shares its keys and tokens."""

from __future__ import annotations

import io
import logging
import pickle
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask_caching import Cache

from flask_m2m_cognito.app.cache_backend import (
    backend_finder,
    is_in_process,
    text_serializer,
    unpickles,
)


def app_with(**config: Any) -> Flask:
    app = Flask("shop")
    app.config.update(config)
    return app


def file_system(folder: Path) -> dict[str, Any]:
    return {"CACHE_TYPE": "FileSystemCache", "CACHE_DIR": str(folder)}


class TestFinding:
    def test_given_cache_takes_precedence(self, tmp_path: Path) -> None:
        app = app_with(CACHE_TYPE="SimpleCache")
        Cache(app)
        given = Cache(app, config=file_system(tmp_path))
        assert backend_finder(app, given)() is app.extensions["cache"][given]

    def test_given_cache_may_be_initialised_later(self) -> None:
        app, given = app_with(), Cache(config={"CACHE_TYPE": "SimpleCache"})
        find = backend_finder(app, given)
        given.init_app(app)
        assert find() is app.extensions["cache"][given]

    def test_given_but_never_initialised_cache_shares_nothing(self, caplog: pytest.LogCaptureFixture) -> None:
        app = app_with()
        with caplog.at_level(logging.WARNING, "flask_m2m_cognito.store"):
            assert backend_finder(app, Cache(config={"CACHE_TYPE": "SimpleCache"}))() is None
        assert len(caplog.records) == 1

    def test_cache_of_the_application_may_be_created_later(self) -> None:
        app = app_with(CACHE_TYPE="SimpleCache")
        find = backend_finder(app, None)
        cache = Cache(app)
        assert find() is app.extensions["cache"][cache]

    def test_cache_from_the_settings_does_not_unpickle(self, tmp_path: Path) -> None:
        backend = backend_finder(app_with(**file_system(tmp_path)), None)()
        assert type(backend).__name__ == "FileSystemCache"
        assert_not_unpickled(backend.serializer)
        assert not unpickles(backend)

    def test_without_any_cache_there_is_no_backend(self) -> None:
        app = app_with()
        assert backend_finder(app, None)() is None
        assert "cache" not in app.extensions

    def test_two_applications_have_separate_backends(self) -> None:
        cache = Cache(config={"CACHE_TYPE": "SimpleCache"})
        apps = app_with(), app_with()
        for app in apps:
            cache.init_app(app)
        first, second = (backend_finder(app, cache)() for app in apps)
        assert first is not second

    def test_found_backend_is_reported(self) -> None:
        found: list[Any] = []
        backend = backend_finder(app_with(CACHE_TYPE="SimpleCache"), None, found.append)()
        assert found == [backend]


class TestSharing:
    @pytest.mark.parametrize(
        ("config", "answer"),
        [
            pytest.param({}, None, id="unset: a cache may follow later"),
            pytest.param({"CACHE_TYPE": "SimpleCache"}, True, id="SimpleCache"),
            pytest.param({"CACHE_TYPE": "NullCache"}, True, id="NullCache"),
            pytest.param({"CACHE_TYPE": "flask_caching.backends.SimpleCache"}, True, id="full name"),
            pytest.param({"CACHE_TYPE": "RedisCache"}, False, id="RedisCache"),
            pytest.param({"CACHE_TYPE": "FileSystemCache"}, False, id="FileSystemCache"),
        ],
    )
    def test_settings_show_whether_a_cache_is_in_process(
        self, config: dict[str, str], answer: bool | None
    ) -> None:
        assert is_in_process(app_with(**config), None) is answer

    def test_existing_cache_shows_whether_it_is_in_process(self, tmp_path: Path) -> None:
        app = app_with()
        shared = Cache(app, config=file_system(tmp_path))
        own = Cache(app, config={"CACHE_TYPE": "SimpleCache"})
        assert (is_in_process(app, shared), is_in_process(app, own)) == (False, True)

    def test_uninitialised_given_cache_is_unknown(self) -> None:
        app = app_with(CACHE_TYPE="SimpleCache")
        assert is_in_process(app, Cache(config={"CACHE_TYPE": "RedisCache"})) is None

    def test_shared_cache_of_the_application_unpickles(self, tmp_path: Path) -> None:
        app = app_with()
        cache = Cache(app, config=file_system(tmp_path))
        assert unpickles(app.extensions["cache"][cache])

    def test_in_process_cache_does_not_unpickle(self) -> None:
        app = app_with()
        cache = Cache(app, config={"CACHE_TYPE": "SimpleCache"})
        assert not unpickles(app.extensions["cache"][cache])


class TestTextSerializer:
    def test_text_survives_a_round_trip(self) -> None:
        serializer = text_serializer()
        assert serializer.loads(serializer.dumps("gAAAAA")) == "gAAAAA"

    def test_miss_is_none_without_a_warning(self, caplog: pytest.LogCaptureFixture) -> None:
        assert text_serializer().loads(None) is None
        assert caplog.records == []

    def test_pickle_is_not_executed(self) -> None:
        assert_not_unpickled(text_serializer())

    @pytest.mark.parametrize(
        "content", [b"", b"\xff", b"{", b"[" * 100_000], ids=["empty", "bytes", "cut", "deep"]
    )
    def test_invalid_json_is_not_an_error(self, content: bytes) -> None:
        assert text_serializer().loads(content) != {}


class Trap:
    """Unpickling it runs code that raises."""

    def __reduce__(self) -> tuple[Any, ...]:
        return int, ("the code was run",)


def assert_not_unpickled(serializer: Any) -> None:
    pickled = pickle.dumps(Trap())
    with pytest.raises(ValueError, match="the code was run"):
        pickle.loads(pickled)
    serializer.loads(pickled)
    serializer.load(io.BytesIO(pickled))
