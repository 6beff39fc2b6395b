"""A service that we call answers maliciously: effects on our log, our memory and the call."""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import threading
import tracemalloc
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import quote

import httpx
import pytest
import requests
from flask import Flask

from flask_m2m_cognito import CognitoM2M
from flask_m2m_cognito.app.app_m2m import AppM2M
from flask_m2m_cognito.outbound.refused_calls import MOST_NOTED, RefusedCall, RefusedCallLog
from flask_m2m_cognito.testing import LocalUserPool
from tests.outbound.peers import Peer, Reply
from tests.support.clocks import Clocks
from tests.support.settling import settle

SECRET = "the secret of/the client"
PROBLEM = {"Content-Type": "application/problem+json"}


@pytest.fixture(scope="module")
def pool() -> Iterator[LocalUserPool]:
    with LocalUserPool() as pool:
        pool.set_secrets("local-client", SECRET)
        yield pool


@pytest.fixture
def caller(pool: LocalUserPool) -> AppM2M:
    pool.recover()
    app = Flask("caller")
    app.config.update(pool.config(ALLOWED_CLIENT_IDS="*", SCOPES="stock/read"))
    return CognitoM2M(app).for_app(app)


@pytest.fixture
def peer() -> Iterator[Peer]:
    with Peer() as peer:
        yield peer


def _with_requests(caller: AppM2M, url: str, **more: Any) -> requests.Response:
    with requests.Session() as session:
        session.trust_env = False
        return session.get(url, auth=caller.auth(), timeout=10, **more)


def _with_httpx(caller: AppM2M, url: str) -> httpx.Response:
    auth: Any = caller.auth()
    with httpx.Client(trust_env=False, verify=False, auth=auth, timeout=10) as client:
        return client.get(url)


def _with_async_httpx(caller: AppM2M, url: str) -> httpx.Response:
    auth: Any = caller.auth()

    async def get() -> httpx.Response:
        async with httpx.AsyncClient(trust_env=False, verify=False, auth=auth, timeout=10) as client:
            return await client.get(url)

    return asyncio.run(get())


WAYS: dict[str, Callable[[AppM2M, str], Any]] = {
    "requests": _with_requests,
    "httpx": _with_httpx,
    "async httpx": _with_async_httpx,
}


@pytest.fixture(params=WAYS)
def call(request: pytest.FixtureRequest) -> Callable[[AppM2M, str], Any]:
    return WAYS[request.param]


def refused(caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    settle()
    return [each for each in caplog.records if vars(each).get("event") == "call-refused"]


def scope_refusal(scope: str, **headers: str) -> Reply:
    """Build a 403 that requires this scope."""
    challenge = f'Bearer error="insufficient_scope", scope="{scope}"'
    return Reply(403, {"WWW-Authenticate": challenge, **headers})


@pytest.mark.parametrize(
    "scope",
    [
        "a\tWARNING:root:forged",
        "a \x1b[2J\x1b[31mforged",
        "a \x85forged \xadforged",
        "a %0d%0aforged",
        'a \\"forged\\"',
    ],
    ids=["a tab", "an escape sequence", "newlines of Latin-1", "percent", "quotes"],
)
def test_peer_cannot_inject_log_lines(
    scope: str,
    call: Callable[[AppM2M, str], Any],
    caller: AppM2M,
    peer: Peer,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """CWE-117."""
    peer.answer = lambda request: scope_refusal(scope)
    assert call(caller, peer.url()).status_code == 403
    (record,) = refused(caplog)
    text = record.getMessage() + "".join(vars(record)["missing_scopes"])
    assert text.isascii()
    assert text.isprintable()


def test_long_challenge_is_logged_briefly(
    caller: AppM2M, peer: Peer, caplog: pytest.LogCaptureFixture
) -> None:
    peer.answer = lambda request: scope_refusal(" ".join(f"scope/{number}" for number in range(5000)))
    _with_requests(caller, peer.url())
    (record,) = refused(caplog)
    assert len(record.getMessage()) < 800


@pytest.mark.parametrize(
    "spelling",
    [
        lambda token: token,
        lambda token: f"stock/{token}",
        lambda token: token.replace(".", " "),
        lambda token: quote(f"Bearer {token}", safe=""),
        lambda token: base64.b64encode(token.encode()).decode(),
        lambda token: SECRET.replace(" ", "+").replace("/", "%2F"),
    ],
    ids=["token", "token in a scope", "parts of the token", "percent", "base64", "secret"],
)
@pytest.mark.parametrize("token", ["JWT", "opaque"])
def test_echoed_token_is_not_logged(
    spelling: Callable[[str], str],
    token: str,
    call: Callable[[AppM2M, str], Any],
    caller: AppM2M,
    pool: LocalUserPool,
    peer: Peer,
    caplog: pytest.LogCaptureFixture,
) -> None:
    if token == "opaque":
        pool.answer("token", {"access_token": "an-opaque-token-of-some-length", "expires_in": 3600})

    def answer(request: Any) -> Reply:
        echo = spelling(str(request.token))
        body = json.dumps({"reason": echo, "detail": echo}).encode()
        return Reply(403, {**scope_refusal(f"{echo} b/write").headers, **PROBLEM}, body)

    peer.answer = answer
    assert call(caller, peer.url()).status_code == 403
    (record,) = refused(caplog)
    sent = str(peer.tokens[0])
    shown = record.getMessage() + repr(vars(record))
    assert "b/write" in vars(record)["missing_scopes"]
    hidden = {sent, spelling(sent), *(part for part in sent.split(".")), SECRET}
    assert [each for each in hidden if each in shown] == []


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b'{"reason": "expired", "detail": "' + b"x" * 4096 + b'"}', id="4 KiB"),
        pytest.param(b"[" * 4000, id="deep list"),
        pytest.param(b'{"reason": ' + b"9" * 4000 + b"}", id="a number"),
        pytest.param(b'{"reason": ["expired"]}', id="a list"),
        pytest.param(b'{"reason": null}', id="null"),
        pytest.param(b'"expired"', id="text"),
        pytest.param(b"\xff\xfe\x00", id="bytes"),
        pytest.param(b"", id="none"),
    ],
)
def test_reason_is_read_from_small_problem_bodies_only(
    body: bytes,
    call: Callable[[AppM2M, str], Any],
    caller: AppM2M,
    peer: Peer,
    caplog: pytest.LogCaptureFixture,
) -> None:
    peer.answer = lambda request: Reply(403, {"WWW-Authenticate": "Bearer", **PROBLEM}, body)
    assert call(caller, peer.url()).content == body
    (record,) = refused(caplog)
    assert vars(record)["reason"] == "unknown"


def test_many_peers_use_little_memory_and_few_records(caplog: pytest.LogCaptureFixture) -> None:
    log = RefusedCallLog(Clocks().clock, start_thread=lambda run: run())
    tracemalloc.start()
    try:
        for number in range(5_000):
            log.note(RefusedCall("billing", f"https://{number}.example.com", 401, "expired"))
            if number == MOST_NOTED:
                caplog.clear()
                before = tracemalloc.get_traced_memory()[0]
        grown = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert not caplog.records
    assert grown < 100_000


def test_broken_log_handler_does_not_affect_the_call(
    call: Callable[[AppM2M, str], Any], caller: AppM2M, peer: Peer
) -> None:
    entered, released = threading.Event(), threading.Event()

    class Hanging(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if vars(record).get("event") == "call-refused":
                entered.set()
                released.wait(30)
                raise LookupError("a bug of a handler")

    peer.answer = lambda request: scope_refusal("a/b")
    handler, logger = Hanging(), logging.getLogger("flask_m2m_cognito")
    logger.addHandler(handler)
    try:
        assert call(caller, peer.url()).status_code == 403
        assert entered.wait(30)
    finally:
        released.set()
        settle()
        logger.removeHandler(handler)
