"""One auth flow and its drivers: most tests run with requests, httpx and httpx2, sync and async."""

from __future__ import annotations

import asyncio
import io
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
import requests
from requests.adapters import BaseAdapter

from flask_m2m_cognito.exceptions import ConfigurationError, TokenUnavailableError
from flask_m2m_cognito.outbound.bearer_auth import BearerAuth, bearer_auth
from flask_m2m_cognito.outbound.token_endpoint import CognitoM2MClient
from flask_m2m_cognito.outbound.token_source import TokenSource
from flask_m2m_cognito.testing import LocalUserPool
from tests.outbound.clocks import refreshing
from tests.outbound.peers import REFUSED, Peer, Received, Reply, redirect, refusal, set_proxy
from tests.support.clocks import Clocks


@dataclass(frozen=True)
class Answer:
    """The response that a caller received, and those before it."""

    status: int
    body: bytes
    statuses_before: list[int]
    bytes_before: int


class Driver:
    """A way to send a request with an auth."""

    def auth(self, tokens: Any, retry_401: bool = True, **more: Any) -> BearerAuth:
        return bearer_auth(tokens, retry_401, **more)

    def send(self, auth: BearerAuth, url: str, method: str = "GET", body: Any = None) -> Answer:
        raise NotImplementedError

    def one_shot_body(self, *parts: bytes) -> Any:
        """Return a body that can be read only once."""
        return iter(parts)


class Requests(Driver):
    def send(self, auth: BearerAuth, url: str, method: str = "GET", body: Any = None) -> Answer:
        with requests.Session() as session:
            session.trust_env = False
            response = session.request(method, url, data=body, auth=auth, timeout=5)
        return _answer_of(response)


class RequestsWithoutHttpx(Requests):
    """requests in a process that has never imported httpx."""

    def auth(self, tokens: Any, retry_401: bool = True, **more: Any) -> BearerAuth:
        return BearerAuth(tokens, retry_401, **more)


PLAIN: dict[str, Any] = {"trust_env": False, "follow_redirects": True, "timeout": 5, "verify": False}
"""Otherwise each client of httpx loads the certificates of all authorities, which takes 20 ms."""


class Httpx(Driver):
    def __init__(self, library: str) -> None:
        self.library = library

    def send(self, auth: BearerAuth, url: str, method: str = "GET", body: Any = None) -> Answer:
        with imported(self.library).Client(**PLAIN) as client:
            return _answer_of(client.request(method, url, content=body, auth=auth))


class AsyncHttpx(Httpx):
    def send(self, auth: BearerAuth, url: str, method: str = "GET", body: Any = None) -> Answer:
        async def send_it() -> Answer:
            async with imported(self.library).AsyncClient(**PLAIN) as client:
                return _answer_of(await client.request(method, url, content=body, auth=auth))

        return asyncio.run(send_it())

    def one_shot_body(self, *parts: bytes) -> Any:
        async def stream() -> AsyncIterator[bytes]:
            for part in parts:
                yield part

        return stream()


def imported(library: str) -> Any:
    """Return httpx or httpx2. The package of MCP clients installs httpx2, up to Python 3.13."""
    return pytest.importorskip(library)


def _answer_of(response: Any) -> Answer:
    before = response.history
    return Answer(
        response.status_code,
        response.content,
        [each.status_code for each in before],
        sum(len(each.content) for each in before),
    )


DRIVERS = {
    "requests": Requests(),
    "requests without httpx": RequestsWithoutHttpx(),
    "httpx": Httpx("httpx"),
    "async httpx": AsyncHttpx("httpx"),
    "httpx2": Httpx("httpx2"),
    "async httpx2": AsyncHttpx("httpx2"),
}


@pytest.fixture(params=DRIVERS.values(), ids=DRIVERS.keys())
def driver(request: pytest.FixtureRequest) -> Driver:
    found: Driver = request.param
    if isinstance(found, Httpx):
        imported(found.library)
    return found


class Tokens:
    """An old token and a newer one, without a pool."""

    def __init__(self) -> None:
        self.forgotten: list[str] = []

    def token(self) -> str:
        return "old"

    async def token_async(self) -> str:
        return "old"

    def renew(self, token: str) -> str:
        return "new"

    def forget(self, token: str) -> None:
        self.forgotten.append(token)

    def note_refusal(self, token: str, refusal: object) -> None:
        """Log nothing."""


@pytest.fixture
def source(pool: LocalUserPool, clocks: Clocks) -> TokenSource:
    client = CognitoM2MClient(pool.token_url, "local-client", pool.client().secret)
    return TokenSource(client, ["a/read"], refreshing=refreshing(clocks))


@pytest.fixture
def old_token(source: TokenSource, clocks: Clocks) -> str:
    """A cached token that is old enough to be replaced."""
    token = source.token()
    clocks.advance(11)
    return token


@dataclass(frozen=True)
class Caller:
    """Sends requests with the tokens of one source, in one way."""

    driver: Driver
    source: TokenSource

    def auth(self, **more: Any) -> BearerAuth:
        return self.driver.auth(self.source, **more)

    def send(self, url: str, method: str = "GET", body: Any = None) -> Answer:
        return self.driver.send(self.auth(), url, method, body)


@pytest.fixture
def caller(driver: Driver, source: TokenSource) -> Caller:
    return Caller(driver, source)


class TestEachRequest:
    def test_carries_the_token(self, caller: Caller, peer: Peer) -> None:
        answer = caller.send(peer.url())
        assert (answer.status, answer.statuses_before) == (200, [])
        assert [request.authorization for request in peer.received] == [f"Bearer {caller.source.token()}"]

    def test_carries_a_token_that_is_fresh_when_sent(
        self, caller: Caller, clocks: Clocks, peer: Peer
    ) -> None:
        auth = caller.auth()
        for _ in range(2):
            caller.driver.send(auth, peer.url())
            clocks.advance(3600)
        first, second = peer.tokens
        assert first != second

    def test_sends_its_body(self, caller: Caller, peer: Peer) -> None:
        caller.send(peer.url(), "POST", b"an order")
        assert [(request.method, request.body) for request in peer.received] == [("POST", b"an order")]

    def test_is_not_sent_without_a_token(self, caller: Caller, pool: LocalUserPool, peer: Peer) -> None:
        with pool.fail("token", status=500), pytest.raises(TokenUnavailableError):
            caller.send(peer.url())
        assert peer.received == []

    @pytest.mark.parametrize(
        "url",
        [
            pytest.param("http://stock.example.com/", id="http"),
            pytest.param("http://127.0.0.1.example.com/", id="a name that looks like loopback"),
            pytest.param("http://192.168.0.1/", id="a private address"),
            pytest.param("http://0.0.0.0/", id="any address"),
            pytest.param("https://127.0.0.1@stock.example.com/", id="a user in the URL"),
        ],
    )
    def test_is_not_sent_over_http_except_to_loopback(
        self, caller: Caller, pool: LocalUserPool, url: str
    ) -> None:
        with pytest.raises(ConfigurationError):
            caller.send(url)
        assert pool.count() == 0

    @pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
    def test_may_use_http_to_loopback(self, caller: Caller, peer: Peer, host: str) -> None:
        assert caller.send(peer.url(host=host)).status == 200
        assert peer.tokens == [caller.source.token()]

    def test_may_use_http_to_an_allowed_host(
        self, caller: Caller, peer: Peer, names_of_loopback: None
    ) -> None:
        auth = caller.auth(http_hosts=lambda: ["*.mesh.test"])
        assert caller.driver.send(auth, peer.url(host="a.stock.mesh.test")).status == 200
        assert peer.tokens == [caller.source.token()]
        with pytest.raises(ConfigurationError, match="ALLOW_HTTP_HOSTS"):
            caller.driver.send(auth, peer.url(host="mesh.test"))


LOOPBACK = ["http://127.9.9.9:1/", "http://LocalHost:1/", "http://[::1]:1/", "https://localhost:1/"]


class TestProxyOfTheEnvironment:
    @pytest.mark.parametrize("name", ["HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"])
    def test_proxied_request_to_loopback_is_an_error(
        self, caller: Caller, pool: LocalUserPool, peer: Peer, monkeypatch: pytest.MonkeyPatch, name: str
    ) -> None:
        set_proxy(monkeypatch, name, "http://svc:hunter2@127.0.0.1:1")
        with pytest.raises(ConfigurationError, match="NO_PROXY") as caught:
            caller.send(peer.url())
        assert "hunter2" not in str(caught.value)
        assert (peer.received, pool.count()) == ([], 0)

    @pytest.mark.parametrize("url", LOOPBACK)
    def test_every_spelling_of_loopback_is_recognized(
        self, caller: Caller, monkeypatch: pytest.MonkeyPatch, url: str
    ) -> None:
        set_proxy(monkeypatch, "ALL_PROXY", "socks5://127.0.0.1:1")
        with pytest.raises(ConfigurationError, match="NO_PROXY"):
            caller.send(url)

    @pytest.mark.parametrize("no_proxy", ["localhost, 127.0.0.1", "*"])
    def test_host_in_no_proxy_gets_its_token(
        self, caller: Caller, peer: Peer, monkeypatch: pytest.MonkeyPatch, no_proxy: str
    ) -> None:
        set_proxy(monkeypatch, "HTTP_PROXY", "http://127.0.0.1:1", no_proxy)
        assert caller.send(peer.url()).status == 200
        assert peer.tokens == [caller.source.token()]

    def test_proxy_for_another_scheme_does_not_matter(
        self, caller: Caller, peer: Peer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        set_proxy(monkeypatch, "HTTPS_PROXY", "http://127.0.0.1:1")
        assert caller.send(peer.url()).status == 200


class TestRefusedToken:
    @pytest.mark.parametrize(
        "headers",
        [
            {"WWW-Authenticate": 'Basic realm="x", Bearer error="invalid_token", error_description="old"'},
            {"x-amzn-ErrorType": "UnauthorizedException"},
        ],
        ids=["challenge", "API Gateway"],
    )
    def test_request_is_sent_again_with_a_newer_token(
        self, caller: Caller, peer: Peer, old_token: str, headers: dict[str, str]
    ) -> None:
        peer.answer = lambda request: Reply(401, headers) if request.token == old_token else Reply()
        answer = caller.send(peer.url())
        assert (answer.status, answer.body, answer.statuses_before) == (200, b"well", [401])
        assert peer.tokens == [old_token, caller.source.token()]
        assert caller.source.token() != old_token
        assert len({request.connection for request in peer.received}) == 1

    def test_bytes_body_is_sent_again_in_full(self, caller: Caller, peer: Peer, old_token: str) -> None:
        peer.refuses(old_token)
        assert caller.send(peer.url(), "POST", b"an order").status == 200
        assert [request.body for request in peer.received] == [b"an order"] * 2

    def test_second_refusal_is_returned_and_forgets_the_token(self, driver: Driver, peer: Peer) -> None:
        tokens = Tokens()
        peer.answer = lambda request: refusal()
        assert driver.send(driver.auth(tokens), peer.url()).status == 401
        assert (peer.tokens, tokens.forgotten) == (["old", "new"], ["new"])

    @pytest.mark.parametrize(
        "reply",
        [Reply(401), refusal('Bearer error="insufficient_scope"'), Reply(403, refusal().headers), Reply(500)],
        ids=["401 without a challenge", "401 insufficient_scope", "403 invalid_token", "500"],
    )
    def test_other_responses_are_returned_unchanged(
        self, caller: Caller, pool: LocalUserPool, peer: Peer, old_token: str, reply: Reply
    ) -> None:
        peer.answer = lambda request: reply
        assert caller.send(peer.url()).status == reply.status
        assert peer.tokens == [old_token]
        assert caller.source.token() == old_token
        assert pool.count("token") == 1

    def test_young_token_is_not_replaced(self, caller: Caller, clocks: Clocks, peer: Peer) -> None:
        token = caller.source.token()
        clocks.advance(9)
        peer.refuses(token)
        assert caller.send(peer.url()).status == 401
        assert peer.tokens == [token]
        assert caller.source.token() == token

    def test_refusal_is_returned_if_no_newer_token_is_available(
        self, caller: Caller, pool: LocalUserPool, peer: Peer, old_token: str
    ) -> None:
        peer.refuses(old_token)
        with pool.fail("token", status=500):
            answer = caller.send(peer.url())
        assert answer.status == 401
        assert peer.tokens == [old_token]

    def test_one_shot_body_is_not_resent_and_token_is_forgotten(
        self, caller: Caller, peer: Peer, old_token: str
    ) -> None:
        peer.refuses(old_token)
        auth = caller.auth()
        assert (
            caller.driver.send(auth, peer.url(), "POST", caller.driver.one_shot_body(b"an ", b"order")).status
            == 401
        )
        assert [request.body for request in peer.received] == [b"an order"]
        assert (
            caller.driver.send(auth, peer.url(), "POST", caller.driver.one_shot_body(b"an ", b"order")).status
            == 200
        )

    def test_endless_refusal_is_abandoned_after_64_kib(
        self, caller: Caller, peer: Peer, old_token: str
    ) -> None:
        endless = Reply(401, refusal().headers, b"x" * 4096, is_endless=True)
        peer.answer = lambda request: endless if request.token == old_token else Reply()
        answer = caller.send(peer.url())
        assert (answer.status, answer.body, answer.statuses_before) == (200, b"well", [401])
        assert 0 < answer.bytes_before <= 64 * 1024
        assert len({request.connection for request in peer.received}) == 2

    def test_truncated_refusal_is_still_a_refusal(self, caller: Caller, peer: Peer, old_token: str) -> None:
        cut_off = Reply(401, {**refusal().headers, "Content-Length": "9", "Connection": "close"}, b"half")
        peer.answer = lambda request: cut_off if request.token == old_token else Reply()
        assert caller.send(peer.url()).status == 200

    def test_body_of_a_short_refusal_stays_readable(self, caller: Caller, peer: Peer, old_token: str) -> None:
        peer.refuses(old_token)
        assert caller.send(peer.url()).bytes_before == len(b"well")

    def test_refused_token_is_forgotten_without_retry_401(
        self, caller: Caller, peer: Peer, old_token: str
    ) -> None:
        peer.refuses(old_token)
        auth = caller.auth(retry_401=False)
        assert caller.driver.send(auth, peer.url()).status == 401
        assert caller.driver.send(auth, peer.url()).status == 200
        assert peer.tokens == [old_token, caller.source.token()]


class TestRedirects:
    @pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
    def test_to_the_same_origin_keeps_the_token(self, caller: Caller, peer: Peer, status: int) -> None:
        peer.answers({"/": redirect("/there", status), "/there": Reply()})
        assert caller.send(peer.url()).status == 200
        assert peer.tokens == [caller.source.token()] * 2

    @pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
    def test_to_another_port_drops_the_token(
        self, caller: Caller, peer: Peer, stranger: Peer, status: int
    ) -> None:
        peer.answers({"/": redirect(stranger.url(), status)})
        assert caller.send(peer.url()).status == 200
        assert stranger.tokens == [None]

    def test_to_another_name_of_the_host_drops_the_token(self, caller: Caller, peer: Peer) -> None:
        peer.answers({"/": redirect(peer.url("/there", host="localhost")), "/there": Reply()})
        assert caller.send(peer.url()).status == 200
        assert peer.tokens == [caller.source.token(), None]

    def test_refusal_by_another_origin_is_returned(
        self, caller: Caller, pool: LocalUserPool, peer: Peer, stranger: Peer, old_token: str
    ) -> None:
        peer.answers({"/": redirect(stranger.url())})
        stranger.answer = lambda request: refusal()
        assert caller.send(peer.url()).status == 401
        assert stranger.tokens == [None]
        assert (caller.source.token(), pool.count("token")) == (old_token, 1)

    def test_back_from_another_origin_has_no_token(
        self, caller: Caller, peer: Peer, stranger: Peer, old_token: str
    ) -> None:
        # Otherwise a stranger could add a token to a request that it forged.
        peer.answer = lambda request: redirect(stranger.url()) if request.path == "/" else refusal()
        stranger.answers({"/": redirect(peer.url("/delete-all"))})
        assert caller.send(peer.url()).status == 401
        assert [(request.path, request.token) for request in peer.received] == [
            ("/", old_token),
            ("/delete-all", None),
        ]

    def test_refusal_after_redirect_is_retried_there(
        self, caller: Caller, peer: Peer, old_token: str
    ) -> None:
        # The POST succeeded: sending it again could create a second order.
        peer.answers({"/orders": redirect("/orders/1", 303), "/orders/1": Reply()}, refused=old_token)
        assert caller.send(peer.url("/orders"), "POST", b"an order").status == 200
        assert [(request.method, request.path, request.token) for request in peer.received] == [
            ("POST", "/orders", old_token),
            ("GET", "/orders/1", old_token),
            ("GET", "/orders/1", caller.source.token()),
        ]

    def test_after_a_second_try_has_the_newer_token(self, caller: Caller, peer: Peer, old_token: str) -> None:
        def answer(request: Received) -> Reply:
            if request.token == old_token:
                return refusal()
            return redirect("/there") if request.path == "/" else Reply()

        peer.answer = answer
        assert caller.send(peer.url()).status == 200
        assert peer.tokens == [old_token, caller.source.token(), caller.source.token()]

    def test_after_a_second_try_to_another_port_drops_the_token(
        self, caller: Caller, peer: Peer, stranger: Peer, old_token: str
    ) -> None:
        peer.answer = lambda request: refusal() if request.token == old_token else redirect(stranger.url())
        assert caller.send(peer.url()).status == 200
        assert stranger.tokens == [None]

    def test_ambiguous_url_never_leaks_the_token(self, caller: Caller, peer: Peer, stranger: Peer) -> None:
        # Parsers disagree about this URL. Wherever the request goes, the stranger gets no token.
        peer.answer = lambda request: (
            redirect(f"http://127.0.0.1:{stranger.port}\\@127.0.0.1:{peer.port}/x")
            if request.path == "/"
            else Reply()
        )
        with suppress(httpx.HTTPError, httpx.InvalidURL, requests.RequestException):
            caller.send(peer.url())
        assert set(stranger.tokens) <= {None}


class _OnStandardPorts(BaseAdapter):
    """Acts as http://localhost on port 80, which redirects to https, and records its requests."""

    def __init__(self, refused: str = "") -> None:
        super().__init__()
        self._refused = f"Bearer {refused}"
        self.received: list[tuple[str | None, str | None]] = []

    def send(self, request: requests.PreparedRequest, *args: Any, **kwargs: Any) -> requests.Response:
        self.received.append((request.url, request.headers.get("Authorization")))
        response = requests.Response()
        response.request, response.url, response.raw = request, request.url or "", io.BytesIO()
        response.connection = self  # type: ignore[attr-defined]
        response.status_code = 307 if (request.url or "").startswith("http:") else 200
        response.headers["Location"] = "https://localhost/"
        if request.headers.get("Authorization") == self._refused:
            response.status_code = 401
            response.headers["WWW-Authenticate"] = REFUSED
        return response

    def close(self) -> None:
        """Nothing is open."""


class TestRequestsAlone:
    @pytest.mark.parametrize("tries", [1, 2], ids=["first try", "second try"])
    def test_redirect_to_https_of_the_same_host_drops_the_token(
        self, source: TokenSource, old_token: str, tries: int
    ) -> None:
        # requests itself would keep it.
        host = _OnStandardPorts(refused=old_token if tries == 2 else "")
        with requests.Session() as session:
            session.trust_env = False
            session.mount("http://", host)
            session.mount("https://", host)
            session.get("http://localhost/", auth=BearerAuth(source))
        assert host.received[-2:] == [
            ("http://localhost/", f"Bearer {source.token()}"),
            ("https://localhost/", None),
        ]
        assert len(host.received) == tries + 1

    @pytest.mark.parametrize("way", ["itself", "a copy", "without redirects"])
    def test_prepared_request_gets_a_newer_token_each_time(
        self, source: TokenSource, pool: LocalUserPool, clocks: Clocks, peer: Peer, way: str
    ) -> None:
        peer.answer = lambda request: Reply() if request.token == source.token() else refusal()
        with requests.Session() as session:
            prepared = session.prepare_request(
                requests.Request("POST", peer.url(), data=b"an order", auth=bearer_auth(source))
            )
            for number in range(4):
                sent = prepared.copy() if way == "a copy" else prepared
                answer = session.send(sent, timeout=5, allow_redirects=way != "without redirects")
                assert (answer.status_code, len(answer.history)) == (200, int(number > 0))
                assert peer.received[-1].body == b"an order"
                clocks.advance(3600)
        assert pool.count("token") == 4
        assert len(peer.received) == 7

    def test_prepared_request_keeps_its_token_after_a_redirect(
        self, source: TokenSource, peer: Peer, stranger: Peer
    ) -> None:
        peer.answers({"/": redirect(stranger.url())})
        with requests.Session() as session:
            prepared = session.prepare_request(requests.Request("GET", peer.url(), auth=bearer_auth(source)))
            for _ in range(2):
                assert session.send(prepared, timeout=5).status_code == 200
        assert peer.tokens == [source.token()] * 2
        assert stranger.tokens == [None] * 2

    def test_prepared_request_of_many_threads_gets_a_newer_token(
        self, source: TokenSource, pool: LocalUserPool, peer: Peer, old_token: str
    ) -> None:
        peer.refuses(old_token)
        with requests.Session() as session:
            prepared = session.prepare_request(requests.Request("GET", peer.url(), auth=bearer_auth(source)))
            with ThreadPoolExecutor(8) as threads:
                answers = list(threads.map(lambda _: session.send(prepared, timeout=5), range(16)))
        assert {answer.status_code for answer in answers} == {200}
        assert pool.count("token") == 2

    def test_history_holds_the_refused_request(self, source: TokenSource, peer: Peer, old_token: str) -> None:
        peer.refuses(old_token)
        answer = requests.get(peer.url(), auth=bearer_auth(source), timeout=5)
        sent = [each.request.headers["Authorization"] for each in (*answer.history, answer)]
        assert sent == [f"Bearer {old_token}", f"Bearer {source.token()}"]

    @pytest.mark.parametrize("start", [0, 3], ids=["its start", "its first position"])
    def test_file_is_rewound_to(self, source: TokenSource, peer: Peer, old_token: str, start: int) -> None:
        file = io.BytesIO(b"xx-an order")
        file.seek(start)
        peer.refuses(old_token)
        assert Requests().send(bearer_auth(source), peer.url(), "POST", file).status == 200
        assert [request.body for request in peer.received] == [b"xx-an order"[start:]] * 2

    @pytest.mark.parametrize("lacking", ["seek", "working seek"])
    def test_file_that_cannot_be_rewound_is_not_sent_again(
        self, source: TokenSource, peer: Peer, old_token: str, lacking: str
    ) -> None:
        class Pipe:
            def __init__(self) -> None:
                self._parts = [b"an order"]

            def __iter__(self) -> Iterator[bytes]:
                yield from iter(self._parts)

            def read(self, size: int = -1) -> bytes:
                return self._parts.pop() if self._parts else b""

            def tell(self) -> int:
                return 0

        class OddPipe(Pipe):
            def seek(self, position: int, whence: int = 0) -> int:
                if not self._parts:
                    raise OSError("is a pipe")
                return position

        pipe = Pipe() if lacking == "seek" else OddPipe()
        peer.refuses(old_token)
        assert Requests().send(bearer_auth(source), peer.url(), "POST", pipe).status == 401
        assert len(peer.received) == 1
        assert source.token() != old_token

    @pytest.mark.parametrize("is_endless", [False, True], ids=["short", "endless"])
    def test_streamed_response_gets_a_second_try(
        self, source: TokenSource, peer: Peer, old_token: str, is_endless: bool
    ) -> None:
        refused = Reply(401, refusal().headers, b"x" * 4096, is_endless)
        peer.answer = lambda request: refused if request.token == old_token else Reply()
        with requests.get(peer.url(), auth=bearer_auth(source), stream=True, timeout=5) as response:
            assert (response.status_code, response.raw.read()) == (200, b"well")

    @pytest.mark.parametrize(
        "location",
        [
            "http://h:99999/",
            "http://h:x/",
            "http://[bad/",
            "http://[::1]x/",
            "//h:-1/",
            "http://é:x/",
            "http://:80",
        ],
    )
    @pytest.mark.parametrize("tries", [1, 2])
    def test_malformed_location_is_left_to_requests(
        self, source: TokenSource, peer: Peer, old_token: str, location: str, tries: int
    ) -> None:
        there = redirect(location.encode().decode("latin-1"))
        peer.answer = lambda request: refusal() if tries == 2 and request.token == old_token else there
        for follows in (False, True):
            with_auth = self._outcome(peer.url(), bearer_auth(source), follows)
            assert with_auth == self._outcome(peer.url(), None, follows)

    @staticmethod
    def _outcome(url: str, auth: Any, follows: bool) -> object:
        try:
            return requests.get(url, auth=auth, allow_redirects=follows, timeout=5).status_code
        except Exception as error:
            return type(error)


class TestHttpxAlone:
    def test_auth_older_than_httpx_adds_the_token(self, http: Any, source: TokenSource, peer: Peer) -> None:
        with http.Client(trust_env=False, verify=False, auth=BearerAuth(source)) as client:
            assert client.get(peer.url()).status_code == 200
        assert peer.tokens == [source.token()]

    @pytest.mark.parametrize("url", ["http://stock.example.com/", "http://localhost:1/"])
    def test_auth_older_than_httpx_checks_the_destination(
        self, http: Any, source: TokenSource, monkeypatch: pytest.MonkeyPatch, url: str
    ) -> None:
        set_proxy(monkeypatch, "HTTP_PROXY", "http://127.0.0.1:1")
        with http.Client(verify=False, auth=BearerAuth(source)) as client, pytest.raises(ConfigurationError):
            client.get(url)

    def test_address_range_in_no_proxy_is_not_enough(
        self, source: TokenSource, peer: Peer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        # requests treats it as a range; httpx would send the request to the proxy.
        set_proxy(monkeypatch, "HTTP_PROXY", "http://127.0.0.1:1", "127.0.0.0/8")
        with pytest.raises(ConfigurationError):
            Httpx("httpx").send(bearer_auth(source), peer.url())
        assert Requests().send(bearer_auth(source), peer.url()).status == 200

    @pytest.mark.parametrize("location", ["http://h:99999/", "http://[bad/", "http://é:x/", "//h:-1/"])
    def test_malformed_location_is_left_to_httpx(
        self, http: Any, source: TokenSource, peer: Peer, location: str
    ) -> None:
        peer.answer = lambda request: redirect(location.encode().decode("latin-1"))
        raised = []
        for auth in (bearer_auth(source), None):
            with http.Client(trust_env=False, verify=False, follow_redirects=True) as client:
                with pytest.raises(Exception) as caught:  # noqa: PT011
                    client.get(peer.url(), auth=auth)
                raised.append(caught.type)
        assert raised[0] is raised[1]

    def test_upgrade_to_https_of_the_same_host_keeps_the_token(self, http: Any, source: TokenSource) -> None:
        # httpx has no public hook before a redirect. docs/guide/calling-services.md documents this.
        received: list[tuple[str, bool]] = []

        def answer(request: Any) -> Any:
            received.append((request.url.scheme, "Authorization" in request.headers))
            is_plain = request.url.scheme == "http"
            location = {"Location": "https://localhost/"} if is_plain else {}
            return http.Response(307 if is_plain else 200, headers=location)

        with http.Client(transport=http.MockTransport(answer), follow_redirects=True) as client:
            client.get("http://localhost/", auth=bearer_auth(source))
        assert received == [("http", True), ("https", True)]

    def test_duration_of_each_try_is_available(
        self, http: Any, source: TokenSource, peer: Peer, old_token: str
    ) -> None:
        problem = {"Content-Type": "application/problem+json"}
        peer.answer = lambda request: refusal() if request.token == old_token else Reply(403, problem)
        with http.Client(trust_env=False, verify=False) as client:
            answer = client.get(peer.url(), auth=bearer_auth(source))
        assert [each.status_code for each in (*answer.history, answer)] == [401, 403]
        assert all(each.elapsed.total_seconds() > 0 for each in (*answer.history, answer))

    def test_event_hooks_see_both_tries(
        self, http: Any, source: TokenSource, peer: Peer, old_token: str
    ) -> None:
        seen: list[int] = []
        peer.refuses(old_token)
        hooks = {"response": [lambda response: seen.append(response.status_code)]}
        with http.Client(trust_env=False, verify=False, event_hooks=hooks) as client:
            client.get(peer.url(), auth=bearer_auth(source))
        assert seen == [401, 200]


class TestAuthObject:
    def test_repr_hides_the_token(self, source: TokenSource) -> None:
        auth = bearer_auth(source)
        assert source.token() not in repr(auth)

    def test_auths_with_the_same_tokens_are_equal(self, source: TokenSource) -> None:
        assert bearer_auth(source) == BearerAuth(source)
        assert hash(bearer_auth(source)) == hash(BearerAuth(source))
        assert bearer_auth(source) != BearerAuth(Tokens())

    def test_is_an_auth_of_each_library_that_is_imported(
        self, source: TokenSource, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        httpx2 = imported("httpx2")
        with monkeypatch.context() as before:
            before.delitem(sys.modules, "httpx2")
            assert isinstance(bearer_auth(source), httpx.Auth)
        assert isinstance(bearer_auth(source), httpx.Auth)
        assert isinstance(bearer_auth(source), httpx2.Auth)

    def test_is_an_auth_of_httpx2_named_httpx(
        self, source: TokenSource, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        # as after httpx2.alias_httpx()
        monkeypatch.setitem(sys.modules, "httpx", httpx2 := imported("httpx2"))
        assert isinstance(bearer_auth(source), httpx2.Auth)

    def test_imports_neither_httpx_nor_httpx2(self) -> None:
        code = (
            "import sys; from flask_m2m_cognito.outbound.bearer_auth import bearer_auth; bearer_auth(None); "
            "print([name for name in ('httpx', 'httpx2') if name in sys.modules])"
        )
        assert subprocess.check_output([sys.executable, "-c", code], text=True) == "[]\n"
