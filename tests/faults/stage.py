"""What the tests of this folder have in common: a service on moved clocks, load, and bounded waiting."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import logging
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar, cast

from cachelib import SimpleCache
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from flask_m2m_cognito import CognitoM2M, signals
from flask_m2m_cognito.app.app_m2m import AppM2M
from flask_m2m_cognito.inbound.key_set import KeySet
from flask_m2m_cognito.inbound.key_source import KeyTimes, TrustedPool, trusted_pool_from
from flask_m2m_cognito.inbound.user_pool import user_pool_from
from flask_m2m_cognito.inbound.validator import CognitoAccessTokenValidator
from flask_m2m_cognito.outbound.client_secret import Secret
from flask_m2m_cognito.outbound.token_endpoint import CognitoM2MClient
from flask_m2m_cognito.outbound.token_source import TokenPolicy, TokenSource
from flask_m2m_cognito.outbound.token_sources import TokenSources
from flask_m2m_cognito.remote.bounded_backend import BoundedBackend
from flask_m2m_cognito.remote.refreshable import Refreshable, Refreshing
from flask_m2m_cognito.remote.sealed_store import Seal, SealedStore
from flask_m2m_cognito.remote.threads import start_daemon
from flask_m2m_cognito.remote.transport import Answer, Transport
from flask_m2m_cognito.telemetry.clock_offset import ClockOffset
from flask_m2m_cognito.telemetry.events import Events
from flask_m2m_cognito.telemetry.instrumentation import observe_requests
from flask_m2m_cognito.telemetry.request_count import RequestCount
from flask_m2m_cognito.testing import LocalUserPool
from flask_m2m_cognito.web.guard import Guard
from flask_m2m_cognito.web.problems import Wording, problem_from
from tests.remote.moved import LONG, together
from tests.support.clocks import Clocks
from tests.support.headers import bearer
from tests.support.settling import refresh_threads as refresh_threads
from tests.support.settling import settle

SECRET_KEY = "a key of the tests' own, of more than sixteen bytes"
SCOPE = "inventory/read"
HOUR, DAY = 3600.0, 86400.0

R = TypeVar("R")

At = tuple[int, float]
"""An answer's status, and the seconds that it took."""


def wait_for(condition: Callable[[], object], what: str, within: float = LONG) -> None:
    """Look until ``condition`` holds. Fails when it has not after ``within`` seconds."""
    ends_at = time.monotonic() + within
    while not condition():
        assert time.monotonic() < ends_at, f"not within {within:g} s: {what}"
        time.sleep(0.005)


def seconds_of(run: Callable[[], object]) -> float:
    """How long ``run`` takes; whatever it raises is its end."""
    started = time.perf_counter()
    with contextlib.suppress(Exception):
        run()
    return time.perf_counter() - started


def crowd(count: int, run: Callable[[], R]) -> list[R]:
    """What ``run`` gave on each of ``count`` threads that began at one moment. None of them may raise."""
    outcomes = together(count, run)
    assert not [outcome for outcome in outcomes if isinstance(outcome, Exception)]
    return cast("list[R]", outcomes)


def app_on(pool: LocalUserPool, **config: Any) -> tuple[Flask, CognitoM2M]:
    """A guarded application on real clocks.

    Args:
        config: the library's settings without their prefix, and ``CACHE_…``.
    """
    app = Flask("inventory")
    ours = {name: value for name, value in config.items() if not name.startswith("CACHE_")}
    app.config.update(
        pool.config(**{"ALLOWED_CLIENT_IDS": "*", "SCOPES": [SCOPE], **ours}),
        SECRET_KEY=SECRET_KEY,
        **{name: value for name, value in config.items() if name.startswith("CACHE_")},
    )
    m2m = CognitoM2M(app)
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
    """A guarded application whose keys, token and store are on moved clocks; requests are real."""

    app: Flask
    m2m: CognitoM2M
    parts: AppM2M
    keys: TrustedPool
    tokens: TokenSource
    backend: BoundedBackend
    clocks: Clocks

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
        values: tuple[Refreshable[Any], ...] = (self.keys.keys, self.tokens.refreshable)
        wait_for(lambda: all(_is_settled(value) for value in values), "refreshes land")
        self.clocks.advance(seconds)


def _is_settled(value: Refreshable[Any]) -> bool:
    snapshot = value.snapshot()
    return snapshot["state"] == "fresh" or bool(snapshot["next_try_in"])


def moved_service(
    pool: LocalUserPool,
    clocks: Clocks,
    *,
    cache: Any = None,
    times: KeyTimes | None = None,
    policy: TokenPolicy | None = None,
    pinned: KeySet | None = None,
    secret: Secret | None = None,
    store_timeout: float = 0.25,
    start_thread: Callable[[Callable[[], None]], None] = start_daemon,
    in_background: bool = True,
) -> MovedService:
    """The service of :func:`app_on` with the same parts, put together on ``clocks``.

    Args:
        cache: the cachelib backend; by default one of its own.
        start_thread, in_background: of each ``Refreshable``.
    """
    app, m2m = app_on(pool)
    events, offset, client = Events(app), ClockOffset(clocks.clock), pool.client()
    count = RequestCount(client.client_id, clocks.clock)
    cache = SimpleCache() if cache is None else cache
    backend = BoundedBackend(
        lambda: cache, timeout=store_timeout, on_change=events.store_changed, clock=clocks.clock
    )
    store = SealedStore(backend, Seal(SECRET_KEY.encode()), clock=clocks.clock)
    refreshing = Refreshing(clocks.clock, lambda: 0.0, start_thread, in_background)

    def look_at(answer: Answer) -> None:
        offset.look_at(answer)
        count.look_at(answer)

    keys = trusted_pool_from(
        user_pool_from(pool.pool_id, issuer=pool.issuer, jwks_url=pool.jwks_url),
        times=times,
        pinned=pinned,
        transport=Transport(on_request=observe_requests(app, {}, offset.look_at)),
        store=store,
        refreshing=dataclasses.replace(refreshing, observer=events.of_keys(pool.pool_id)),
        spread=lambda: 0.5,
    )
    tokens = TokenSource(
        CognitoM2MClient(
            pool.token_url,
            client.client_id,
            secret or client.secret,
            on_request=observe_requests(app, {}, look_at),
        ),
        [SCOPE],
        policy=policy,
        unavailable=functools.partial(problem_from, wording=Wording("inventory")),
        store=store,
        refreshing=dataclasses.replace(refreshing, observer=events.of_token(None, client.client_id, SCOPE)),
    )
    validator = CognitoAccessTokenValidator(pools=[keys], clock=clocks.clock)
    parts: AppM2M = dataclasses.replace(
        app.extensions["cognito_m2m"],
        guard=Guard(
            validator,
            Wording("inventory"),
            on_accepted=events.token_accepted,
            listeners=signals.token_accepted.receivers,
            on_rejected=events.token_rejected,
        ),
        sources=TokenSources({None: (SCOPE,)}, lambda name, scopes, metadata: tokens),
        _validator=validator,
        _requests={None: count},
        _store=store,
        _clock=offset,
    )
    app.extensions["cognito_m2m"] = parts
    return MovedService(app, m2m, parts, keys, tokens, backend, clocks)


class Load:
    """Threads that call again and again, and what they got."""

    def __init__(self, call: Callable[[], At], threads: int) -> None:
        self._call = call
        self._ended = threading.Event()
        self._of_each: list[list[At]] = [[] for _ in range(threads)]
        self._threads = [threading.Thread(target=self._run, args=(mine,)) for mine in self._of_each]
        self.errors: list[Exception] = []

    def go_on_for(self, calls: int) -> None:
        """Come back after ``calls`` more calls, some of each thread, that all began from now on."""
        each = 1 + calls // len(self._threads)
        ends = [len(mine) + 1 + each for mine in self._of_each]

        def is_over() -> bool:
            return all(len(mine) >= end for mine, end in zip(self._of_each, ends, strict=True))

        wait_for(lambda: self.errors or is_over(), f"{calls} more calls")

    @property
    def outcomes(self) -> list[At]:
        return [outcome for mine in self._of_each for outcome in mine]

    @property
    def statuses(self) -> set[int]:
        return {status for status, _ in self.outcomes}

    @property
    def slowest(self) -> float:
        return max(seconds for _, seconds in self.outcomes)

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def end(self) -> None:
        """Have the threads finish their calls. None of these may have raised."""
        self._ended.set()
        for thread in self._threads:
            thread.join(LONG)
        assert not self.errors
        assert not any(thread.is_alive() for thread in self._threads)

    def _run(self, mine: list[At]) -> None:
        while not self._ended.is_set():
            try:
                mine.append(self._call())
            except Exception as error:
                self.errors.append(error)
                return


@contextmanager
def load(call: Callable[[], At], threads: int = 4) -> Iterator[Load]:
    """``threads`` callers for the time of the block."""
    running = Load(call, threads)
    running.start()
    try:
        yield running
    finally:
        running.end()


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

    def text(self) -> str:
        """All that any handler could print of them."""
        settle(within=1.0)
        return "\n".join(record.getMessage() + repr(vars(record)) for record in self.records)


@contextmanager
def redis_on(port: int) -> Iterator[subprocess.Popen[bytes]]:
    """A Redis on that port, as after a restart: nothing in it. Ended with the block."""
    program = shutil.which("redis-server")
    assert program is not None
    options = ["--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
    process = subprocess.Popen(
        [program, *options], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        wait_for(lambda: listens(port), "Redis listens")
        yield process
    finally:
        process.kill()
        process.wait(LONG)


def listens(port: int) -> bool:
    """Whether somebody takes connections on a loopback port."""
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1.0):
        return True
    return False
