"""What the tests of this folder share: a service on moved clocks, and its log records."""

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

SECRET_KEY = "a key of the tests, of more than sixteen bytes"
SCOPE = "inventory/read"
HOUR, DAY = 3600.0, 86400.0
PAST_FRESH = 1.08 * HOUR
"""Seconds after which keys are no longer fresh: the hour is randomly made up to 7 % longer."""


class SharedCache(SimpleCache):
    """A cache that looks shared between processes. The library knows that a ``SimpleCache`` is not."""

    serializer = text_serializer()


def app_on(pool: LocalUserPool, backend: Any = None, **config: Any) -> tuple[Flask, CognitoM2M]:
    """Build a guarded application.

    Args:
        backend: the backend of its cache. By default the cache follows from ``config``.
        config: the library's settings without their prefix, and settings ``CACHE_…``.
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
    """A guarded application on moved clocks. Its HTTP requests are real."""

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
        """Return the status that a caller gets, and the seconds by the real clock."""
        started = time.perf_counter()
        answer = self.get(path, token)
        return answer.status_code, time.perf_counter() - started

    def advance(self, seconds: float) -> None:
        """Let time pass while no refresh is under way, which would otherwise seem to take very long.

        Other threads must request both keys and token meanwhile.
        """
        values: tuple[Refreshable[Any], ...] = (self.keys.key_source, self.tokens.refreshable)
        wait_for(lambda: all(_is_settled(value) for value in values), "refreshes finish")
        self.clocks.advance(seconds)


def _is_settled(value: Refreshable[Any]) -> bool:
    snapshot = value.snapshot()
    return snapshot["state"] == "fresh" or bool(snapshot["next_try_in"])


def moved_service(pool: LocalUserPool, clocks: Clocks, *, cache: Any = None, **config: Any) -> MovedService:
    """Build the service of :func:`app_on` on ``clocks``.

    Args:
        cache: the cachelib backend. By default a new one.
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
        """Return the ``event`` of each record, in order."""
        settle(within=1.0)
        return [str(vars(record).get("event")) for record in self.records if record.levelno >= level]

    def of(self, event: str) -> list[logging.LogRecord]:
        settle(within=1.0)
        return [record for record in self.records if vars(record).get("event") == event]
