"""Which cache an application shares its keys and tokens over."""

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
    def test_the_cache_that_was_given_comes_first(self, tmp_path: Path) -> None:
        app = app_with(CACHE_TYPE="SimpleCache")
        Cache(app)
        given = Cache(app, config=file_system(tmp_path))
        assert backend_finder(app, given)() is app.extensions["cache"][given]

    def test_one_that_was_given_may_be_initialised_later(self) -> None:
        app, given = app_with(), Cache(config={"CACHE_TYPE": "SimpleCache"})
        find = backend_finder(app, given)
        given.init_app(app)
        assert find() is app.extensions["cache"][given]

    def test_given_but_never_initialised_cache_shares_nothing(self, caplog: pytest.LogCaptureFixture) -> None:
        app = app_with()
        with caplog.at_level(logging.WARNING, "flask_m2m_cognito.store"):
            assert backend_finder(app, Cache(config={"CACHE_TYPE": "SimpleCache"}))() is None
        assert len(caplog.records) == 1

    def test_else_the_applications_own_though_made_later(self) -> None:
        app = app_with(CACHE_TYPE="SimpleCache")
        find = backend_finder(app, None)
        cache = Cache(app)
        assert find() is app.extensions["cache"][cache]

    def test_else_made_from_the_settings_and_reads_no_pickle(self, tmp_path: Path) -> None:
        backend = backend_finder(app_with(**file_system(tmp_path)), None)()
        assert type(backend).__name__ == "FileSystemCache"
        assert_not_run(backend.serializer)
        assert not unpickles(backend)

    def test_else_none(self) -> None:
        app = app_with()
        assert backend_finder(app, None)() is None
        assert "cache" not in app.extensions

    def test_two_applications_have_each_their_own(self) -> None:
        cache = Cache(config={"CACHE_TYPE": "SimpleCache"})
        apps = app_with(), app_with()
        for app in apps:
            cache.init_app(app)
        first, second = (backend_finder(app, cache)() for app in apps)
        assert first is not second

    def test_what_is_found_is_told(self) -> None:
        found: list[Any] = []
        backend = backend_finder(app_with(CACHE_TYPE="SimpleCache"), None, found.append)()
        assert found == [backend]


class TestSharing:
    @pytest.mark.parametrize(
        ("config", "answer"),
        [
            pytest.param({}, None, id="nothing said: it may come later"),
            pytest.param({"CACHE_TYPE": "SimpleCache"}, True, id="SimpleCache"),
            pytest.param({"CACHE_TYPE": "NullCache"}, True, id="NullCache"),
            pytest.param({"CACHE_TYPE": "flask_caching.backends.SimpleCache"}, True, id="by its whole name"),
            pytest.param({"CACHE_TYPE": "RedisCache"}, False, id="RedisCache"),
            pytest.param({"CACHE_TYPE": "FileSystemCache"}, False, id="FileSystemCache"),
        ],
    )
    def test_settings_tell_whether_a_cache_is_in_process(
        self, config: dict[str, str], answer: bool | None
    ) -> None:
        assert is_in_process(app_with(**config), None) is answer

    def test_cache_that_exists_shows_whether_it_is_in_process(self, tmp_path: Path) -> None:
        app = app_with()
        shared = Cache(app, config=file_system(tmp_path))
        own = Cache(app, config={"CACHE_TYPE": "SimpleCache"})
        assert (is_in_process(app, shared), is_in_process(app, own)) == (False, True)

    def test_given_cache_that_is_not_there_yet_is_unknown(self) -> None:
        app = app_with(CACHE_TYPE="SimpleCache")
        assert is_in_process(app, Cache(config={"CACHE_TYPE": "RedisCache"})) is None

    def test_a_shared_cache_that_the_application_made_reads_pickle(self, tmp_path: Path) -> None:
        app = app_with()
        cache = Cache(app, config=file_system(tmp_path))
        assert unpickles(app.extensions["cache"][cache])

    def test_one_of_this_process_is_no_danger(self) -> None:
        app = app_with()
        cache = Cache(app, config={"CACHE_TYPE": "SimpleCache"})
        assert not unpickles(app.extensions["cache"][cache])


class TestTextSerializer:
    def test_text_comes_back(self) -> None:
        serializer = text_serializer()
        assert serializer.loads(serializer.dumps("gAAAAA")) == "gAAAAA"

    def test_a_miss_is_none_without_a_warning(self, caplog: pytest.LogCaptureFixture) -> None:
        assert text_serializer().loads(None) is None
        assert caplog.records == []

    def test_a_pickle_is_not_run(self) -> None:
        assert_not_run(text_serializer())

    @pytest.mark.parametrize(
        "content", [b"", b"\xff", b"{", b"[" * 100_000], ids=["empty", "bytes", "cut", "deep"]
    )
    def test_what_is_no_json_is_no_error(self, content: bytes) -> None:
        assert text_serializer().loads(content) != {}


class Trap:
    """Reading its pickle runs code, which raises."""

    def __reduce__(self) -> tuple[Any, ...]:
        return int, ("the code was run",)


def assert_not_run(serializer: Any) -> None:
    pickled = pickle.dumps(Trap())
    with pytest.raises(ValueError, match="the code was run"):
        pickle.loads(pickled)
    serializer.loads(pickled)
    serializer.load(io.BytesIO(pickled))
