"""The caller's log record when a service that uses this library refuses its call."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from importlib import import_module
from typing import Any

import pytest
import requests
from flask import Flask, request
from werkzeug.serving import WSGIRequestHandler, make_server

from flask_m2m_cognito import CognitoM2M
from flask_m2m_cognito.exceptions import REASONS
from flask_m2m_cognito.testing import LocalUserPool, MovedClock
from tests.faults.caches import WatchedCache
from tests.outbound.peers import Peer, Reply
from tests.support.settling import settle

HELD = "stock/read"


class _Quiet(WSGIRequestHandler):
    protocol_version = "HTTP/1.1"

    def log(self, *_: object) -> None: ...


@contextmanager
def serve(app: Any) -> Iterator[str]:
    """Run an application on an HTTP server on loopback, and yield its URL."""
    server = make_server("127.0.0.1", 0, app, threaded=True, request_handler=_Quiet)
    accepting = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    accepting.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        accepting.join(10)


@pytest.fixture(scope="module")
def pools() -> Iterator[tuple[LocalUserPool, LocalUserPool]]:
    with LocalUserPool() as one, LocalUserPool(pool_id="us-east-1_Another01") as other:
        yield one, other


@pytest.fixture
def pool(pools: tuple[LocalUserPool, LocalUserPool]) -> LocalUserPool:
    for each in pools:
        each.recover()
        each.clear_requests()
    return pools[0]


@dataclass(frozen=True)
class Caller:
    """A service that calls another one. ``GET /call?url=…&way=…`` calls it, and returns its status."""

    url: str
    client_id: str

    def call(self, url: str, way: str = "session", times: int = 1) -> list[int]:
        with requests.Session() as session:
            session.trust_env = False
            answers = [
                session.get(f"{self.url}/call", params={"url": url, "way": way}, timeout=30)
                for _ in range(times)
            ]
        settle()
        return [int(answer.text) for answer in answers]


PLAIN: dict[str, Any] = {"trust_env": False, "verify": False}


def _httpx(m2m: CognitoM2M, url: str, library: str, stream: bool = False) -> int:
    with import_module(library).Client(**PLAIN, auth=m2m.auth()) as client:
        answer = client.send(client.build_request("GET", url), stream=stream)
        answer.close()
        return int(answer.status_code)


def _async_httpx(m2m: CognitoM2M, url: str, library: str, stream: bool = False) -> int:
    async def call() -> int:
        async with import_module(library).AsyncClient(**PLAIN, auth=m2m.auth()) as client:
            answer = await client.send(client.build_request("GET", url), stream=stream)
            await answer.aclose()
            return int(answer.status_code)

    return asyncio.run(call())


def _requests(m2m: CognitoM2M, url: str, stream: bool = False) -> int:
    with requests.Session() as session:
        session.trust_env = False
        with session.get(url, auth=m2m.auth(), timeout=10, stream=stream) as answer:
            return answer.status_code


def _session(m2m: CognitoM2M, url: str) -> int:
    with m2m.session() as session:
        return session.get(url, timeout=10).status_code


STREAMS: dict[str, Callable[..., int]] = {
    "requests": _requests,
    "httpx": partial(_httpx, library="httpx"),
    "async httpx": partial(_async_httpx, library="httpx"),
    "httpx2": partial(_httpx, library="httpx2"),
    "async httpx2": partial(_async_httpx, library="httpx2"),
}
WAYS = {"session": _session, **STREAMS}


@pytest.fixture(params=WAYS)
def way(request: pytest.FixtureRequest) -> str:
    """The name of each way, or of the test's own ways."""
    if "httpx2" in request.param:
        pytest.importorskip("httpx2")
    return str(request.param)


@pytest.fixture
def clock() -> Iterator[MovedClock]:
    with MovedClock() as clock:
        yield clock


@pytest.fixture
def caller(pool: LocalUserPool, clock: MovedClock) -> Iterator[Caller]:
    app = Flask("caller")
    app.config.update(pool.config(ALLOWED_CLIENT_IDS="*", SCOPES=HELD))
    m2m = CognitoM2M(app)

    @app.get("/call")
    def call() -> str:
        way = request.args["way"].removeprefix("stream ")
        stream = {"stream": True} if way != request.args["way"] else {}
        return str(WAYS[way](m2m, request.args["url"], **stream))

    with serve(app) as url:
        yield Caller(url, pool.client().client_id)


@contextmanager
def peer_service(
    pool: LocalUserPool, wrap: Callable[[Any], Any] | None = None, **settings: Any
) -> Iterator[str]:
    """Run a service that is guarded by this library, and yield its URL."""
    app = Flask("peer")
    app.config.update(pool.config(**{"ALLOWED_CLIENT_IDS": "*", **settings}))
    if "REVOCATIONS" in settings:
        app.extensions["cache"] = {"cache": WatchedCache()}
    m2m = CognitoM2M(app)
    if "REVOCATIONS" in settings:
        m2m.revoke(pool.client().client_id)
    app.add_url_rule("/read", "read", m2m.require_scopes(HELD)(lambda: "read"))
    app.add_url_rule("/write", "write", m2m.require_scopes(HELD, "stock/write", "a/b")(lambda: "written"))
    app.add_url_rule("/post", "post", m2m.require_scopes(by_method={"POST": HELD})(lambda: "posted"))
    app.add_url_rule("/onward", "onward", m2m.require_scopes(HELD)(lambda: m2m.token("other/scope")))
    with serve(app if wrap is None else wrap(app)) as url:
        yield url


def refused_call_records(caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    return [each for each in caplog.records if vars(each).get("event") == "call-refused"]


def _header(change: Callable[[dict[str, Any]], object]) -> Callable[[Any], Any]:
    def wrap(app: Any) -> Any:
        def changed(environ: dict[str, Any], start_response: Any) -> Any:
            change(environ)
            return app(environ, start_response)

        return changed

    return wrap


@dataclass(frozen=True)
class Case:
    """A setup in which a peer refuses a call for one reason."""

    status: int
    path: str = "/read"
    token: Callable[[LocalUserPool], str] | None = None
    peer: dict[str, Any] = field(default_factory=dict)
    prepare: Callable[[LocalUserPool, MovedClock], object] = lambda pool, clock: None
    is_of_another_pool: bool = False


CASES = {
    "missing_token": Case(401, peer={"wrap": _header(lambda environ: environ.pop("HTTP_AUTHORIZATION"))}),
    "bad_header": Case(
        400, peer={"wrap": _header(lambda environ: environ.update(HTTP_AUTHORIZATION="Bearer a, Bearer b"))}
    ),
    "malformed": Case(401, token=lambda pool: "no-jwt"),
    "wrong_algorithm": Case(401, token=lambda pool: pool.token(HELD, headers={"alg": "RS512"})),
    "wrong_issuer": Case(401, is_of_another_pool=True),
    "unknown_key": Case(401, token=lambda pool: pool.token(HELD, headers={"kid": "another"})),
    "bad_signature": Case(401, token=lambda pool: pool.token(HELD)[:-8] + "AAAAAAAA"),
    "wrong_token_use": Case(401, token=lambda pool: pool.token(HELD, token_use="id")),
    "expired": Case(401, prepare=lambda pool, clock: clock.set_wall(7200)),
    "not_yet_valid": Case(401, token=lambda pool: pool.token(HELD, nbf=4_000_000_000)),
    "missing_client_id": Case(401, token=lambda pool: pool.token(HELD, without=["client_id"])),
    "user_token": Case(401, token=lambda pool: pool.user_token(HELD)),
    "revoked": Case(401, peer={"REVOCATIONS": True, "CACHE_KEY": "k" * 16}),
    "wrong_audience": Case(401, peer={"AUDIENCE": "another"}),
    "client_not_allowed": Case(403, peer={"ALLOWED_CLIENT_IDS": ["another"]}),
    "rejected_by_check": Case(403, peer={"TOKEN_CHECK": lambda token: False}),
    "insufficient_scope": Case(403, "/write"),
    "method_not_allowed": Case(403, "/post"),
    "keys_unavailable": Case(503, prepare=lambda pool, clock: pool.fail("jwks", status=500)),
    "token_unavailable": Case(503, "/onward", peer={"CLIENT_ID": "gone", "CLIENT_SECRET": "any"}),
}


def test_each_reason_of_an_answer_has_a_case() -> None:
    assert {*CASES, "invalid"} == set(REASONS)  # "invalid" is the default of errors that applications raise


@pytest.mark.parametrize("reason", CASES)
def test_log_names_client_and_reason(
    reason: str,
    pool: LocalUserPool,
    pools: tuple[LocalUserPool, LocalUserPool],
    caller: Caller,
    clock: MovedClock,
    caplog: pytest.LogCaptureFixture,
) -> None:
    case = CASES[reason]
    if case.token is not None:
        pool.answer("token", {"access_token": case.token(pool), "expires_in": 3600})
    with peer_service(pools[1] if case.is_of_another_pool else pool, **case.peer) as peer:
        caller.call(peer)  # requests the token
        case.prepare(pool, clock)
        assert caller.call(peer + case.path) == [case.status]
    (record,) = refused_call_records(caplog)
    fields = vars(record)
    assert (record.levelname, record.name) == ("WARNING", "flask_m2m_cognito")
    assert (fields["peer"], fields["client_id"]) == (peer, caller.client_id)
    assert (fields["status"], fields["reason"]) == (case.status, reason)
    missing = ["a/b", "stock/write"] if reason == "insufficient_scope" else []
    assert fields["missing_scopes"] == missing
    text = record.getMessage()
    assert text.startswith(f"{peer} refused a call from client {caller.client_id}: {case.status} {reason}.")
    assert text.endswith(" Missing scopes: a/b stock/write.") is bool(missing)


def test_every_way_to_call_is_logged(
    way: str, pool: LocalUserPool, caller: Caller, caplog: pytest.LogCaptureFixture
) -> None:
    with peer_service(pool, ALLOWED_CLIENT_IDS=["another"]) as peer:
        assert caller.call(f"{peer}/read", way) == [403]
        assert caller.call(f"{peer}/read", way, times=3) == [403] * 3
    (record,) = refused_call_records(caplog)
    assert vars(record)["reason"] == "client_not_allowed"


@pytest.mark.parametrize("way", STREAMS, indirect=True)
def test_stream_is_not_read_for_the_log(
    way: str, pool: LocalUserPool, caller: Caller, caplog: pytest.LogCaptureFixture
) -> None:
    with peer_service(pool, ALLOWED_CLIENT_IDS=["another"]) as peer:
        assert caller.call(f"{peer}/read", f"stream {way}") == [403]
        assert caller.call(f"{peer}/write", f"stream {way}") == [403]
    assert [vars(each)["reason"] for each in refused_call_records(caplog)] == ["unknown"]


@pytest.mark.parametrize(("hook", "reason"), [("read", "client_not_allowed"), ("close", "unknown")])
def test_response_that_a_hook_read_or_closed_is_logged(
    http: Any, hook: str, reason: str, pool: LocalUserPool, caplog: pytest.LogCaptureFixture
) -> None:
    app = Flask("caller")
    app.config.update(pool.config(ALLOWED_CLIENT_IDS="*", SCOPES=HELD))
    hooks = {"response": [lambda answer: getattr(answer, hook)()]}
    with (
        peer_service(pool, ALLOWED_CLIENT_IDS=["another"]) as peer,
        http.Client(**PLAIN, auth=CognitoM2M(app).auth(), event_hooks=hooks) as client,
        client.stream("GET", f"{peer}/read") as answer,
    ):
        assert answer.status_code == 403
    settle()
    (record,) = refused_call_records(caplog)
    assert vars(record)["reason"] == reason


def test_one_record_a_minute_for_each_peer_and_reason(
    pool: LocalUserPool, caller: Caller, clock: MovedClock, caplog: pytest.LogCaptureFixture
) -> None:
    with peer_service(pool) as one, peer_service(pool) as other:
        for url in (f"{one}/write", f"{one}/post", f"{other}/write"):
            caller.call(url, times=3)
        assert len(refused_call_records(caplog)) == 3
        clock.move(60)
        caller.call(f"{one}/write", times=2)
    assert [vars(each)["peer"] for each in refused_call_records(caplog)] == [one, one, other, one]


def test_call_that_succeeds_with_a_newer_token_is_not_logged(
    way: str, pool: LocalUserPool, caller: Caller, clock: MovedClock, caplog: pytest.LogCaptureFixture
) -> None:
    with Peer() as peer:
        caller.call(peer.url(), way)
        clock.move(60)
        peer.refuses(str(peer.tokens[0]))
        assert caller.call(peer.url(), way) == [200]
    assert not refused_call_records(caplog)


@pytest.mark.parametrize(
    "reply",
    [
        Reply(400, {"Content-Type": "application/json"}, b'{"reason": "expired"}'),
        Reply(403, {"Content-Type": "application/problem+json"}, b'{"reason": "too late"}'),
        Reply(503, {"Content-Type": "application/problem+json"}, b"{}"),
        Reply(401, {"WWW-Authenticate": 'Basic realm="peer"'}),
        Reply(404, {"WWW-Authenticate": "Bearer"}),
    ],
    ids=["another type", "another reason", "no reason", "another scheme", "another status"],
)
def test_other_refusals_are_not_logged(
    reply: Reply, way: str, caller: Caller, caplog: pytest.LogCaptureFixture
) -> None:
    with Peer() as peer:
        peer.answer = lambda received: reply
        assert caller.call(peer.url(), way) == [reply.status]
    assert not refused_call_records(caplog)


def test_refusal_by_another_origin_is_not_logged(
    way: str, caller: Caller, caplog: pytest.LogCaptureFixture
) -> None:
    with Peer() as one, Peer() as other:
        one.answers({"/": Reply(307, {"Location": other.url()}, b"")})
        other.answer = lambda received: Reply(403, {"WWW-Authenticate": 'Bearer error="insufficient_scope"'})
        caller.call(one.url(), way)
    assert not refused_call_records(caplog)
