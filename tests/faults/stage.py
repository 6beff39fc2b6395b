"""What the tests of this folder have in common: a service on moved clocks, and what it logs."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from typing import Any

from cachelib import SimpleCache
from flask import Flask
from flask.testing import FlaskClient
from flask_caching import Cache
from werkzeug.test import TestResponse

from flask_m2m_cognito import CognitoM2M
from flask_m2m_cognito.app.app_m2m import AppM2M
from flask_m2m_cognito.app.cache_backend import text_serializer
from flask_m2m_cognito.inbound.key_source import TrustedPool
from flask_m2m_cognito.outbound.token_source import TokenSource
from flask_m2m_cognito.remote.bounded_backend import BoundedBackend
from flask_m2m_cognito.remote.clock import set_clock_for_new_apps
from flask_m2m_cognito.remote.refreshable import Refreshable
from flask_m2m_cognito.testing import LocalUserPool
from tests.support.clocks import Clocks
from tests.support.headers import bearer
from tests.support.settling import settle
from tests.support.threads import At, wait_for

SECRET_KEY = "a key of the tests' own, of more than sixteen bytes"
SCOPE = "inventory/read"
HOUR, DAY = 3600.0, 86400.0
PAST_FRESH = 1.08 * HOUR
"""Seconds after which keys are no longer fresh: the hour is made up to 7 % longer, by chance."""


class SharedCache(SimpleCache):
    """One that other processes share, by its name. A ``SimpleCache`` is known to stay in its process."""

    serializer = text_serializer()


def app_on(pool: LocalUserPool, backend: Any = None, **config: Any) -> tuple[Flask, CognitoM2M]:
    """A guarded application.

    Args:
        backend: of its cache; else the cache follows from ``config``.
        config: the library's settings without their prefix, and ``CACHE_…``.
    """
    app, cache = Flask("inventory"), None
    ours = {name: value for name, value in config.items() if not name.startswith("CACHE_")}
    app.config.update(
        pool.config(**{"ALLOWED_CLIENT_IDS": "*", "SCOPES": [SCOPE], **ours}),
        SECRET_KEY=SECRET_KEY,
        **{name: value for name, value in config.items() if name.startswith("CACHE_")},
    )
    if backend is not None:
        cache = Cache(with_jinja2_ext=False)
        app.extensions["cache"] = {cache: backend}
    m2m = CognitoM2M(app, cache=cache)
    add_views(app, m2m)
    return app, m2m


def add_views(app: Flask, m2m: CognitoM2M) -> None:
    @app.get("/items")
    @m2m.require_scopes(SCOPE)
    def items() -> dict[str, object]:
        return {}

    @app.get("/relay")
    @m2m.require_scopes(SCOPE)
    def relay() -> dict[str, object]:
        return {"token": m2m.token()}

    @app.get("/token")
    def token() -> dict[str, object]:
        return {"token": m2m.token()}


def get(client: FlaskClient, path: str, token: str | None = None) -> TestResponse:
    headers = {} if token is None else bearer(token)
    return client.get(path, headers=headers)


@dataclass(frozen=True)
class MovedService:
    """A guarded application on moved clocks; requests are real."""

    app: Flask
    m2m: CognitoM2M
    clocks: Clocks

    @property
    def parts(self) -> AppM2M:
        return self.m2m.for_app(self.app)

    @property
    def keys(self) -> TrustedPool:
        return self.parts.validator.pools[0]

    @property
    def tokens(self) -> TokenSource:
        return self.parts.sources.get()

    @property
    def backend(self) -> BoundedBackend:
        return self.parts._store.backend

    def get(self, path: str, token: str | None = None) -> TestResponse:
        return get(self.app.test_client(), path, token)

    def status(self, path: str, token: str | None = None) -> At:
        """What a caller gets, and how long it takes by the real clock."""
        started = time.perf_counter()
        answer = self.get(path, token)
        return answer.status_code, time.perf_counter() - started

    def advance(self, seconds: float) -> None:
        """Let time pass when no refresh is under way, of which that would make a very long one.

        Somebody must be asking for both keys and token.
        """
        values: tuple[Refreshable[Any], ...] = (self.keys.key_source, self.tokens.refreshable)
        wait_for(lambda: all(_is_settled(value) for value in values), "refreshes land")
        self.clocks.advance(seconds)


def _is_settled(value: Refreshable[Any]) -> bool:
    snapshot = value.snapshot()
    return snapshot["state"] == "fresh" or bool(snapshot["next_try_in"])


def moved_service(pool: LocalUserPool, clocks: Clocks, *, cache: Any = None, **config: Any) -> MovedService:
    """The service of :func:`app_on` on ``clocks``.

    Args:
        cache: the cachelib backend; by default one of its own.
    """
    before = set_clock_for_new_apps(clocks.clock)
    try:
        app, m2m = app_on(pool, SharedCache() if cache is None else cache, **config)
    finally:
        set_clock_for_new_apps(before)
    return MovedService(app, m2m, clocks)


class Records(logging.Handler):
    """The log records of the library."""

    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)

    def events(self, level: int = logging.INFO) -> list[str]:
        """The ``event`` of each, in order."""
        settle(within=1.0)
        return [str(vars(record).get("event")) for record in self.records if record.levelno >= level]

    def of(self, event: str) -> list[logging.LogRecord]:
        settle(within=1.0)
        return [record for record in self.records if vars(record).get("event") == event]
