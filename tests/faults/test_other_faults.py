"""No threads, frozen processes, several applications, secrets that rotate, peers that refuse."""

from __future__ import annotations

import io
import os
import random
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import requests
from flask import Flask
from flask_caching import Cache

from flask_m2m_cognito import CognitoM2M
from flask_m2m_cognito.exceptions import TokenUnavailableError
from flask_m2m_cognito.outbound.bearer_auth import bearer_auth
from flask_m2m_cognito.outbound.token_endpoint import CognitoM2MClient, DatedToken, TokenResponse
from flask_m2m_cognito.outbound.token_source import TokenSource
from flask_m2m_cognito.remote.bounded_backend import BoundedBackend
from flask_m2m_cognito.remote.refreshable import Refreshing
from flask_m2m_cognito.testing import LocalUserPool
from tests.remote.moved import LONG, at_once, no_thread
from tests.support.clocks import Clocks

from .stage import (
    HOUR,
    SECRET_KEY,
    add_views,
    app_on,
    crowd,
    get,
    load,
    moved_service,
    refresh_threads,
    wait_for,
)

ROOT = Path(__file__).parents[2]
MARGIN = 2.0
"""Seconds that a busy machine may add."""

# -- no threads, or none between requests -------------------------------------------------------


def test_where_no_thread_can_start_a_caller_refreshes(pool: LocalUserPool, clocks: Clocks) -> None:
    service = moved_service(pool, clocks, start_thread=no_thread)
    token = pool.token(expires_in=24 * HOUR)
    assert crowd(8, lambda: service.get("/relay", token).status_code) == [200] * 8
    assert (pool.count("jwks"), pool.count("token")) == (1, 1)
    clocks.advance(HOUR + 1)
    with load(lambda: service.status("/relay", token)) as callers:
        callers.go_on_for(40)
    assert callers.statuses == {200}
    assert (pool.count("jwks"), pool.count("token")) == (2, 2)


def test_where_no_thread_can_start_an_outage_is_survived_as_well(pool: LocalUserPool, clocks: Clocks) -> None:
    service = moved_service(pool, clocks, start_thread=no_thread)
    token = pool.token(expires_in=24 * HOUR)
    assert service.get("/items", token).status_code == 200
    pool.offline()
    clocks.advance(HOUR + 1)
    with load(lambda: service.status("/items", token)) as callers:
        callers.go_on_for(40)
    assert callers.statuses == {200}


def test_inline_refresh_is_done_when_its_request_is(real_pool: LocalUserPool) -> None:
    app, _ = app_on(real_pool, RENEW="inline", KEYS_FRESH_FOR=0.05, CACHE_TYPE="NullCache")
    token = real_pool.token()
    assert get(app.test_client(), "/relay", token).status_code == 200

    def renewed_by_the_request() -> bool:
        before = real_pool.count("jwks")
        assert get(app.test_client(), "/items", token).status_code == 200
        # A process that is frozen now has no request under way.
        return real_pool.count("jwks") > before

    for _ in range(3):
        wait_for(renewed_by_the_request, "keys are not fresh any more, and the next request renews them")


def test_inline_refresh_is_given_up_at_its_deadline(real_pool: LocalUserPool) -> None:
    never = threading.Event()
    secret = real_pool.client().secret

    def hangs() -> str:
        assert never.wait(LONG)
        return secret

    app, _ = app_on(real_pool, RENEW="inline", REFRESH_DEADLINE=0.5, CLIENT_SECRET=hangs)
    began = time.monotonic()
    assert get(app.test_client(), "/token").status_code == 503
    assert time.monotonic() - began < 0.5 + MARGIN
    never.set()


@pytest.mark.processes
def test_aborted_caller_of_an_inline_refresh_aborts_nobody_else() -> None:
    program = """
from gevent import monkey; monkey.patch_all()
import gevent
from flask_m2m_cognito.testing import LocalUserPool
from tests.faults.stage import app_on, get

with LocalUserPool() as pool:
    app, _ = app_on(pool, RENEW="inline")
    token = pool.token()
    pool.delay("jwks", 0.5)

    def ask(seconds):
        with gevent.Timeout(seconds, False):
            return get(app.test_client(), "/items", token).status_code

    leader = gevent.spawn(ask, 0.2)
    pool.wait_for("jwks")
    others = [gevent.spawn(ask, 20) for _ in range(10)]
    gevent.joinall([leader, *others])
    print(leader.value, *{other.value for other in others}, pool.count("jwks"))
"""
    ended = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, timeout=LONG, check=True, capture_output=True, text=True
    )
    assert ended.stdout.split() == ["None", "200", "1"]


def test_a_refresh_inline_that_fails_costs_its_request_nothing(pool: LocalUserPool, clocks: Clocks) -> None:
    service = moved_service(pool, clocks, in_background=False)
    token = pool.token(expires_in=24 * HOUR)
    assert service.get("/items", token).status_code == 200
    pool.fail("jwks", status=500)
    clocks.advance(HOUR + 1)
    assert [service.get("/items", token).status_code for _ in range(20)] == [200] * 20
    assert pool.count("jwks") == 2


@pytest.mark.parametrize("variable", ["AWS_LAMBDA_FUNCTION_NAME", "K_SERVICE"])
def test_where_processes_are_frozen_a_refresh_is_inline_by_default(
    real_pool: LocalUserPool, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    monkeypatch.setenv(variable, "inventory")
    app, m2m = app_on(real_pool)
    assert m2m.for_app(app).settings.renew == "inline"


# -- several applications ------------------------------------------------------------------------


def test_each_application_refreshes_over_its_own_cache_without_a_context(tmp_path: Path) -> None:
    cache, m2m = Cache(with_jinja2_ext=False), None
    m2m = CognitoM2M(cache=cache)
    with LocalUserPool("us-east-1_First") as first, LocalUserPool("us-east-1_Second") as second:
        apps = {}
        for pool in (first, second):
            folder = tmp_path / pool.pool_id
            app = Flask(pool.pool_id)
            app.config.update(
                pool.config(ALLOWED_CLIENT_IDS="*", SCOPES=["inventory/read"], KEYS_FRESH_FOR=0.05),
                SECRET_KEY=SECRET_KEY,
            )
            cache.init_app(app, {"CACHE_TYPE": "FileSystemCache", "CACHE_DIR": str(folder)})
            m2m.init_app(app)
            add_views(app, m2m)
            apps[pool] = app

        def entries(pool: LocalUserPool) -> int:
            # FileSystemCache keeps its count in a file as well.
            return len([name for name in os.listdir(tmp_path / pool.pool_id) if "." not in name])

        for pool, app in apps.items():
            assert get(app.test_client(), "/relay", pool.token()).status_code == 200
        held = {pool: entries(pool) for pool in apps}
        assert min(held.values()) >= 2
        # The first one's background refresh, although the second was initialised last.
        for each in (tmp_path / first.pool_id).iterdir():
            each.unlink()
        asked = first.count("jwks"), second.count("jwks")

        def refreshed() -> bool:
            assert get(apps[first].test_client(), "/items", first.token()).status_code == 200
            return first.count("jwks") > asked[0] and entries(first) >= 1 and not refresh_threads()

        wait_for(refreshed, "the first application's keys are in its own cache again")
        assert second.count("jwks") == asked[1]
        assert entries(second) == held[second]
        # Its own token is not good for the other.
        assert get(apps[first].test_client(), "/items", second.token()).status_code == 401


# -- secrets that rotate ---------------------------------------------------------------------------


class Vault:
    """Where a secret is asked for; counts, and can hold who asks."""

    def __init__(self, *secrets: str) -> None:
        self._secrets = iter(secrets)
        self._last = ""
        self.asked = 0

    def __call__(self) -> str:
        self.asked += 1
        self._last = next(self._secrets, self._last)
        return self._last


def sources_of(client: CognitoM2MClient, count: int) -> list[TokenSource]:
    """As many scopes, all of one client: their requests are not one flight."""
    return [TokenSource(client, [f"inventory/{number}"]) for number in range(count)]


def outcomes_of(sources: list[TokenSource]) -> list[str]:
    left = iter(sources)

    def ask() -> str:
        try:
            return next(left).token()
        except TokenUnavailableError as error:
            return str(error.error_code)

    return crowd(len(sources), ask)


def test_after_a_rotation_the_secret_is_asked_for_again_once_by_one_thread(real_pool: LocalUserPool) -> None:
    old = real_pool.client().secret
    vault = Vault(old, "the new secret")
    client = CognitoM2MClient(real_pool.token_url, real_pool.client().client_id, vault)
    assert "invalid_client" not in outcomes_of(sources_of(client, 8))
    assert vault.asked == 1
    real_pool.set_secrets(real_pool.client().client_id, "the new secret")
    assert "invalid_client" not in outcomes_of(sources_of(client, 8))
    assert vault.asked == 2


def test_a_vault_that_still_has_the_old_secret_is_not_asked_by_each_caller(
    real_pool: LocalUserPool,
) -> None:
    vault = Vault(real_pool.client().secret)
    client = CognitoM2MClient(real_pool.token_url, real_pool.client().client_id, vault)
    client.fetch_token("inventory/read")
    real_pool.set_secrets(real_pool.client().client_id, "the new secret")
    # All of them are refused before the first of them asks.
    real_pool.delay("token", 0.3)
    assert outcomes_of(sources_of(client, 8)) == ["invalid_client"] * 8
    assert vault.asked == 2


def test_both_of_two_secrets_are_tried_and_the_good_one_is_remembered(real_pool: LocalUserPool) -> None:
    client_id, good = real_pool.client().client_id, real_pool.client().secret
    client = CognitoM2MClient(real_pool.token_url, client_id, ["an old secret", good])
    for source in sources_of(client, 3):
        assert source.token()
    assert real_pool.count("token") == 1 + 3


# -- peers that refuse -------------------------------------------------------------------------------


@contextmanager
def refusing_peer() -> Iterator[tuple[str, list[str]]]:
    """A service that answers 401 ``invalid_token`` to everything; its URL, and the tokens that it got."""
    tokens: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            length = int(self.headers.get("Content-Length", 0))
            self.rfile.read(length)
            if self.headers.get("Transfer-Encoding") == "chunked":
                while int(self.rfile.readline(), 16):
                    self.rfile.readline()
                self.rfile.readline()
            tokens.append(self.headers["Authorization"])
            self.send_response(401)
            self.send_header("WWW-Authenticate", 'Bearer realm="peer", error="invalid_token"')
            self.send_header("Content-Length", "0")
            self.end_headers()

        do_GET = do_POST

        def log_message(self, format: str, *args: Any) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/", tokens
    finally:
        server.shutdown()
        thread.join(LONG)
        server.server_close()


def test_a_peer_that_answers_401_to_everything_buys_at_most_two_tokens_a_minute(
    pool: LocalUserPool, clocks: Clocks
) -> None:
    service = moved_service(pool, clocks)
    auth = bearer_auth(service.tokens)
    with refusing_peer() as (url, _):
        for _ in range(60):
            assert requests.get(url, auth=auth, timeout=LONG).status_code == 401
            clocks.advance(1)
    # The first, and one in each cooldown of 30 s once it is ten seconds old.
    assert pool.count("token") == 3


def test_many_callers_of_such_a_peer_buy_one_token_together(pool: LocalUserPool, clocks: Clocks) -> None:
    service = moved_service(pool, clocks)
    auth = bearer_auth(service.tokens)
    service.get("/token")
    clocks.advance(10)
    with refusing_peer() as (url, tokens):
        crowd(16, lambda: requests.get(url, auth=auth, timeout=LONG).status_code)
    assert pool.count("token") == 2
    assert len(set(tokens)) == 2


BODIES: dict[str, Callable[[], Any]] = {
    "a generator": lambda: (part for part in [b"a", b"b"]),
    "a pipe": lambda: Unseekable(b"some bytes"),
}


class Unseekable(io.BytesIO):
    def seek(self, *_: Any) -> int:
        raise OSError("not here")

    def tell(self) -> int:
        raise OSError("not here")


@pytest.mark.parametrize("make", BODIES.values(), ids=BODIES)
def test_a_body_that_cant_be_sent_again_is_not_but_its_token_is_forgotten(
    pool: LocalUserPool, clocks: Clocks, make: Callable[[], Any]
) -> None:
    service = moved_service(pool, clocks)
    auth = bearer_auth(service.tokens)
    refused = service.tokens.token()
    clocks.advance(10)
    with refusing_peer() as (url, tokens):
        assert requests.post(url, data=make(), auth=auth, timeout=LONG).status_code == 401
    assert tokens == [f"Bearer {refused}"]
    assert pool.count("token") == 1, "not bought for a caller who has had its answer"
    assert service.tokens.token() != refused
    assert pool.count("token") == 2


# -- a fleet that shares nothing ---------------------------------------------------------------------


class FreeClient(CognitoM2MClient):
    """Gives tokens of an hour without a network, and keeps when."""

    def __init__(self, clocks: Clocks, bought_at: list[float]) -> None:
        super().__init__("https://auth.example.com/oauth2/token", "client", "secret")
        self._clocks = clocks
        self._bought_at = bought_at

    def request_dated_token(
        self, scopes: Any, timeout: Any, deadline: Any, metadata: Any = None
    ) -> DatedToken:
        self._bought_at.append(self._clocks.wall())
        return DatedToken(TokenResponse("opaque", 3600, "Bearer", {}), self._clocks.wall())


def busiest_second(jitter: Callable[[], float]) -> int:
    """Of the renewals of 400 processes that started within two seconds."""
    clocks, bought_at = Clocks(), []
    sources = [
        TokenSource(
            FreeClient(clocks, bought_at),
            ["a/b"],
            refreshing=Refreshing(clocks.clock, jitter, at_once),
        )
        for _ in range(400)
    ]
    for source in sources:
        source.token()
        clocks.advance(2 / 400)
    bought_at.clear()
    clocks.advance(2400)
    while len(bought_at) < 400:
        clocks.advance(0.25)
        for source in sources:
            source.token()
    return max(Counter(int(moment) for moment in bought_at).values())


@pytest.mark.slow
def test_four_hundred_processes_without_a_shared_store_do_not_renew_together() -> None:
    # The design's figures are 213 without jitter and 5 with it; Cognito allows 150 a second.
    assert busiest_second(lambda: 0.5) > 150
    busiest = [busiest_second(random.Random(seed).random) for seed in range(3)]
    assert max(busiest) <= 8


def test_a_backend_that_can_not_be_built_is_as_none(pool: LocalUserPool, clocks: Clocks) -> None:
    def build() -> Any:
        raise ImportError("no module named redis")

    backend = BoundedBackend(build, clock=clocks.clock)
    for _ in range(3):
        with pytest.raises(Exception, match=r"ImportError|left alone"):
            backend.call(lambda cache: cache.get("a"))
    assert not backend.works
