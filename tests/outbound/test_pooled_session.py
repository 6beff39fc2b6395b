"""Sessions share the connections of a process, and nothing else."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import pytest
import requests
from requests.adapters import HTTPAdapter

from flask_m2m_cognito.exceptions import ConfigurationError
from flask_m2m_cognito.outbound import pooled_session as pooled_session_module
from flask_m2m_cognito.outbound.bearer_auth import BearerAuth
from flask_m2m_cognito.outbound.pooled_session import pooled_session
from tests.outbound.peers import Peer, Reply, redirect, set_proxy
from tests.support.clocks import Clocks
from tests.support.forks import in_a_child, needs_fork
from tests.support.sockets import read_request


class Tokens:
    """A source that always returns the same token."""

    def token(self) -> str:
        return "a-token"

    def renew(self, refused: str) -> str:
        return refused

    def forget(self, refused: str) -> None:
        """Do nothing."""


def session(**options: Any) -> requests.Session:
    return pooled_session(BearerAuth(Tokens()), **options)


def test_request_carries_the_token(peer: Peer) -> None:
    with session() as made:
        assert made.get(peer.url(), timeout=5).status_code == 200
    assert peer.tokens == ["a-token"]


def test_closing_one_session_does_not_affect_others(peer: Peer) -> None:
    one, other = session(), session()
    one.get(peer.url(), timeout=5)
    one.close()
    assert other.get(peer.url(), timeout=5).status_code == 200
    assert one.get(peer.url(), timeout=5).status_code == 200
    assert len({request.connection for request in peer.received}) == 1


def test_sessions_do_not_share_cookies_and_headers(peer: Peer) -> None:
    peer.answer = lambda request: Reply(headers={"Set-Cookie": "name=value"})
    one, other = session(), session()
    one.headers["X-Mine"] = "yes"
    one.get(peer.url(), timeout=5)
    assert dict(one.cookies) == {"name": "value"}
    assert dict(other.cookies) == {}
    assert "X-Mine" not in other.headers


def test_sessions_share_one_adapter(peer: Peer) -> None:
    adapters = {id(made.get_adapter("https://example.com/")) for made in (session(), session())}
    assert len(adapters) == 1


def without_a_token(request: requests.PreparedRequest) -> requests.PreparedRequest:
    return request


@pytest.fixture
def proxy(stranger: Peer) -> Peer:
    return stranger


@pytest.mark.parametrize("set_by", ["HTTP_PROXY", "all_proxy", "session.proxies", "the call"])
def test_request_to_loopback_bypasses_the_proxy(
    peer: Peer, proxy: Peer, monkeypatch: pytest.MonkeyPatch, set_by: str
) -> None:
    made = session()
    proxies = {"http": proxy.url(""), "all://127.0.0.1": proxy.url("")}
    if set_by.lower().endswith("_proxy"):
        set_proxy(monkeypatch, set_by, proxy.url(""))
    elif set_by == "session.proxies":
        made.proxies = proxies
    assert made.get(peer.url(), timeout=5, proxies=proxies if set_by == "the call" else None).ok
    assert (peer.tokens, proxy.received) == (["a-token"], [])


def test_request_to_another_host_uses_the_proxy(proxy: Peer, monkeypatch: pytest.MonkeyPatch) -> None:
    set_proxy(monkeypatch, "HTTP_PROXY", proxy.url(""))
    session().get("http://stock.example.com/a", auth=without_a_token, timeout=5)
    assert [request.path for request in proxy.received] == ["http://stock.example.com/a"]


def test_redirect_to_loopback_bypasses_the_proxy(
    peer: Peer, proxy: Peer, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_proxy(monkeypatch, "HTTP_PROXY", proxy.url("").replace("://", "://svc:hunter2@"))
    proxy.answer = lambda request: redirect(peer.url())
    reply = session().get("http://stock.example.com/", auth=without_a_token, timeout=5)
    assert (reply.status_code, len(proxy.received), len(peer.received)) == (200, 1, 1)
    assert "Proxy-Authorization" not in reply.request.headers


def test_own_adapter_with_a_proxy_for_loopback_is_an_error(
    peer: Peer, proxy: Peer, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_proxy(monkeypatch, "HTTP_PROXY", proxy.url(""))
    made = session()
    made.mount("http://127.", HTTPAdapter())
    with pytest.raises(ConfigurationError, match="NO_PROXY"):
        made.get(peer.url(), timeout=5)
    assert proxy.received == []


@needs_fork
@pytest.mark.parametrize("way", ["direct", "by a proxy"])
def test_forked_child_opens_its_own_connections(peer: Peer, way: str) -> None:
    # Over a shared socket each process would read the other's responses.
    made = session()
    made.trust_env = False
    url, auth = peer.url(), None
    if way == "by a proxy":
        made.proxies = {"http": peer.url("")}
        url, auth = "http://stock.example.com/", without_a_token
    made.get(url, auth=auth, timeout=5)
    assert in_a_child(lambda: str(made.get(url, auth=auth, timeout=5).status_code)) == "200"
    made.get(url, auth=auth, timeout=5)
    mine, childs, mine_again = (request.connection for request in peer.received)
    assert childs != mine
    assert mine_again == mine


class TestTimeout:
    def test_timeout_of_the_session_is_the_default(self, peer: Peer) -> None:
        may_answer = threading.Event()
        peer.answer = lambda request: Reply() if may_answer.wait(20) else Reply(500)
        made = session(timeout=(5, 0.05))
        for send in (
            lambda: made.get(peer.url()),
            lambda: made.send(made.prepare_request(requests.Request("POST", peer.url()))),
        ):
            with pytest.raises(requests.ReadTimeout):
                send()
        may_answer.set()

    def test_timeout_of_a_request_overrides_the_sessions(self, peer: Peer) -> None:
        made = session(timeout=60)
        may_answer = threading.Event()
        peer.answer = lambda request: Reply() if may_answer.wait(20) else Reply(500)
        with pytest.raises(requests.ReadTimeout):
            made.get(peer.url(), timeout=0.05)
        may_answer.set()

    @pytest.mark.parametrize(
        "timeout", [0, -1, "5", True, (1,), (1,) * 3, (1, None), (0, 1), float("nan"), 1e9]
    )
    def test_invalid_timeout_is_an_error(self, timeout: Any) -> None:
        with pytest.raises(ConfigurationError, match="timeout"):
            session(timeout=timeout)


class TestRetries:
    @pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS", "PUT", "DELETE"])
    @pytest.mark.parametrize("status", [429, 502, 503, 504])
    def test_idempotent_request_is_sent_again(self, peer: Peer, method: str, status: int) -> None:
        peer.answer = lambda request: Reply(status if len(peer.received) == 1 else 200, body=b"")
        assert session(retries=1).request(method, peer.url(), timeout=5).status_code == 200
        assert peer.tokens == ["a-token"] * 2

    @pytest.mark.parametrize("method", ["POST", "PATCH"])
    def test_other_request_is_sent_once(self, peer: Peer, method: str) -> None:
        peer.answer = lambda request: Reply(503)
        assert session(retries=3).request(method, peer.url(), timeout=5).status_code == 503
        assert len(peer.received) == 1

    @pytest.mark.parametrize("status", [400, 404, 500])
    def test_other_response_is_returned(self, peer: Peer, status: int) -> None:
        peer.answer = lambda request: Reply(status)
        assert session(retries=3).get(peer.url(), timeout=5).status_code == status
        assert len(peer.received) == 1

    def test_last_response_is_returned_when_all_fail(self, peer: Peer) -> None:
        peer.answer = lambda request: Reply(503, body=b"busy")
        assert session(retries=1).get(peer.url(), timeout=5).content == b"busy"
        assert len(peer.received) == 2

    def test_nothing_is_retried_by_default(self, peer: Peer) -> None:
        peer.answer = lambda request: Reply(503)
        assert session().get(peer.url(), timeout=5).status_code == 503
        assert len(peer.received) == 1

    @pytest.mark.parametrize(
        ("options", "longest"), [({"timeout": 7}, 7), ({"timeout": (2, 4)}, 4), ({}, 10)]
    )
    def test_retry_after_is_bounded_by_the_timeout(
        self, peer: Peer, monkeypatch: pytest.MonkeyPatch, options: Any, longest: float
    ) -> None:
        slept: list[float] = []
        monkeypatch.setattr("urllib3.util.retry.time.sleep", slept.append)
        peer.answer = lambda request: Reply(503, {"Retry-After": "3600"}, b"")
        session(retries=2, **options).get(peer.url())
        assert slept == [longest, longest]

    @pytest.mark.parametrize("retry_after", ["zz", "inf", "-5"])
    def test_malformed_retry_after_is_ignored(self, peer: Peer, retry_after: str) -> None:
        peer.answer = lambda request: Reply(503, {"Retry-After": retry_after}, b"")
        assert session(retries=1).get(peer.url(), timeout=5).status_code == 503
        assert len(peer.received) == 2

    def test_sessions_with_retries_share_connections(self, peer: Peer) -> None:
        for retries in (0, 1, 2):
            session(retries=retries).get(peer.url(), timeout=5)
        assert len({request.connection for request in peer.received}) == 1

    @pytest.mark.parametrize("retries", [-1, 1.5, "2", True, 11])
    def test_invalid_retries_are_an_error(self, retries: Any) -> None:
        with pytest.raises(ConfigurationError, match="retries"):
            session(retries=retries)


class Forgetful:
    """A server behind a NAT that drops idle connections: bytes on a dropped one cause a reset."""

    def __init__(self) -> None:
        self.forgets = False
        self.always = False
        self.connections = 0
        self.requests: list[bytes] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}/"
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listener.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                self.connections += 1
                threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        is_new = True
        with connection, suppress(OSError):
            while head := read_request(connection):
                self.requests.append(head.partition(b" ")[0])
                if self.always or (self.forgets and not is_new):
                    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    return
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
                is_new = False


class TestIdleConnections:
    @pytest.fixture
    def clocks(self, monkeypatch: pytest.MonkeyPatch) -> Clocks:
        clocks = Clocks()
        monkeypatch.setattr(pooled_session_module, "SYSTEM", clocks)
        return clocks

    @pytest.fixture
    def nat(self) -> Iterator[Forgetful]:
        server = Forgetful()
        yield server
        server.close()

    @pytest.mark.parametrize(("idle", "connections"), [(49, 1), (50.1, 2), (3600, 2)])
    @pytest.mark.parametrize("retries", [0, 2])
    def test_connection_idle_for_50_s_is_not_used_again(
        self, peer: Peer, clocks: Clocks, idle: float, connections: int, retries: int
    ) -> None:
        for _ in range(2):
            session(retries=retries).post(peer.url(), timeout=5)
            clocks.advance(idle)
        assert len({request.connection for request in peer.received}) == connections

    def test_connection_in_steady_use_stays_open(self, peer: Peer, clocks: Clocks) -> None:
        for _ in range(10):
            session().get(peer.url(), timeout=5)
            clocks.advance(30)
        assert len({request.connection for request in peer.received}) == 1

    def test_idle_connection_to_a_proxy_is_not_used_again(
        self, proxy: Peer, clocks: Clocks, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        set_proxy(monkeypatch, "HTTP_PROXY", proxy.url(""))
        for _ in range(2):
            session().get("http://stock.example.com/a", auth=without_a_token, timeout=5)
            clocks.advance(60)
        assert len({request.connection for request in proxy.received}) == 2

    @pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE", "OPTIONS"])
    def test_idempotent_request_is_sent_again_after_a_reset(self, nat: Forgetful, method: str) -> None:
        session().get(nat.url, timeout=5)
        nat.forgets = True
        assert session().request(method, nat.url, timeout=5).status_code == 200
        assert nat.requests == [b"GET", method.encode(), method.encode()]

    def test_second_try_uses_a_new_connection(self, nat: Forgetful) -> None:
        with ThreadPoolExecutor(4) as threads:
            start = threading.Barrier(4)

            def call(_: int) -> int:
                with session().get(nat.url, timeout=5, stream=True) as answer:
                    start.wait(5)  # so that each opens its own connection
                    return len(answer.content)

            list(threads.map(call, range(4)))
        assert nat.connections == 4
        nat.forgets = True
        assert session().get(nat.url, timeout=5).status_code == 200
        assert nat.connections == 5

    @pytest.mark.parametrize("method", ["POST", "PATCH"])
    def test_other_request_is_not_sent_again(self, nat: Forgetful, method: str) -> None:
        session().get(nat.url, timeout=5)
        nat.forgets = True
        with pytest.raises(requests.ConnectionError):
            session().request(method, nat.url, timeout=5)
        assert nat.requests == [b"GET", method.encode()]

    def test_one_shot_body_is_not_sent_again(self, nat: Forgetful) -> None:
        session().get(nat.url, timeout=5)
        nat.forgets = True
        with pytest.raises(requests.ConnectionError):
            session().put(nat.url, data=iter([b"a"]), timeout=5)

    def test_second_reset_is_raised(self, nat: Forgetful) -> None:
        nat.always = True
        with pytest.raises(requests.ConnectionError):
            session().get(nat.url, timeout=5)
        assert len(nat.requests) == 2
