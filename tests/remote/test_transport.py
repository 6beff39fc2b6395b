"""HTTP requests with a deadline, over real sockets on loopback."""

from __future__ import annotations

import datetime
import gzip
import itertools
import logging
import re
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager, suppress
from email.utils import formatdate
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import quote_plus, urlencode, urlsplit

import pytest
import requests
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from requests.utils import get_netrc_auth
from urllib3.connection import HTTPConnection
from urllib3.connectionpool import HTTPConnectionPool

from flask_m2m_cognito import __version__
from flask_m2m_cognito.remote import transport
from flask_m2m_cognito.remote.clock import Deadline
from flask_m2m_cognito.remote.reports import Note
from flask_m2m_cognito.remote.transport import (
    MAX_BODY,
    Answer,
    Body,
    Transport,
    TransportError,
    first_answer,
)
from flask_m2m_cognito.testing import LocalUserPool
from tests.remote.moved import LONG
from tests.support.clocks import Clocks
from tests.support.sockets import read_request

SOON = 0.3
"""Seconds of a deadline that should pass."""

MUCH_LATER = 15.0
"""Seconds within which a call with such a deadline has finished, even on a busy machine."""

SECRET = "a secret/with=what&forms+encode"


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.fixture(scope="module")
def pools() -> Iterator[tuple[LocalUserPool, LocalUserPool]]:
    with LocalUserPool() as one, LocalUserPool() as other:
        for each in (one, other):
            each.jwks()  # creates its key, which takes longer than SOON on a busy machine
        yield one, other


@pytest.fixture
def pool(pools: tuple[LocalUserPool, LocalUserPool]) -> LocalUserPool:
    """A pool that works."""
    return _recovered(pools[0])


@pytest.fixture
def other_pool(pools: tuple[LocalUserPool, LocalUserPool]) -> LocalUserPool:
    return _recovered(pools[1])


def _recovered(pool: LocalUserPool) -> LocalUserPool:
    pool.online()
    pool.recover()
    pool.clear_requests()
    return pool


def is_ok(answer: Answer) -> bool:
    return answer.status == 200


def get(*urls: str, seconds: float = LONG, timeout: tuple[float, float] = (LONG, LONG)) -> Answer:
    return Transport(timeout).get(urls, Deadline(seconds), is_ok)


def get_any(url: str) -> Answer:
    return Transport((LONG, LONG)).get([url], Deadline(LONG), lambda answer: True)


def post(*urls: str, seconds: float = LONG) -> Answer:
    headers = {"Authorization": f"Basic {SECRET}", "Content-Type": "application/x-www-form-urlencoded"}
    body = Body(urlencode({"client_secret": SECRET}).encode(), headers)
    return Transport((LONG, LONG)).post(urls, body, Deadline(seconds), is_ok)


@contextmanager
def finishes_in_time() -> Iterator[None]:
    began = time.monotonic()
    yield
    assert time.monotonic() - began < MUCH_LATER


def assert_times_out(url: str, seconds: float = SOON, timeout: tuple[float, float] = (LONG, LONG)) -> None:
    """Check that a request to ``url`` times out and is not retried."""
    with finishes_in_time(), pytest.raises(TransportError) as caught:
        get(url, seconds=seconds, timeout=timeout)
    assert caught.value.is_timeout
    assert not caught.value.may_retry


Script = Callable[[socket.socket, threading.Event], object]


@contextmanager
def raw_server(script: Script, tls: ssl.SSLContext | None = None, reads_first: bool = True) -> Iterator[str]:
    """Yield the URL of a server that runs ``script`` for each connection. The event is set at its end."""
    over = threading.Event()

    def serve(connection: socket.socket) -> None:
        connection.settimeout(LONG)
        with closing(connection), suppress(OSError):
            if tls is None:
                read_and_run(connection)
            else:
                with tls.wrap_socket(connection, server_side=True) as secured:
                    read_and_run(secured)

    def read_and_run(connection: socket.socket) -> None:
        if reads_first:
            read_request(connection)
        script(connection, over)

    def accept() -> None:
        with suppress(OSError):
            while True:
                connection, _ = listening.accept()
                threads.append(threading.Thread(target=serve, args=(connection,), daemon=True))
                threads[-1].start()

    with closing(socket.create_server(("127.0.0.1", 0))) as listening:
        threads = [threading.Thread(target=accept, daemon=True)]
        threads[0].start()
        try:
            port = listening.getsockname()[1]
            yield f"http://127.0.0.1:{port}/" if tls is None else f"https://localhost:{port}/"
        finally:
            over.set()
            with suppress(OSError):
                listening.shutdown(socket.SHUT_RDWR)
            for thread in threads:
                thread.join(LONG)


def sends(text: bytes) -> Script:
    return lambda connection, over: connection.sendall(text)


def sends_slowly(first: bytes, drop: bytes) -> Script:
    """Send ``first``, then ``drop`` repeatedly, each long before a read times out."""

    def script(connection: socket.socket, over: threading.Event) -> None:
        connection.sendall(first)
        while not over.wait(0.02):
            connection.sendall(drop)

    return script


HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"

SLOW_ANSWERS = {
    "in the status line": sends_slowly(b"HTTP/1.1 200 ", b"K"),
    "between the headers": sends_slowly(HEAD, b"X-Filler: y\r\n"),
    "inside a header": sends_slowly(HEAD + b"X-Long: ", b"y"),
    "in a body of known length": sends_slowly(HEAD + b"Content-Length: 60000\r\n\r\n", b" "),
    "in a body that the connection ends": sends_slowly(HEAD + b"Connection: close\r\n\r\n", b" "),
    "in a chunked body": sends_slowly(HEAD + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\n \r\n"),
    "in the length of a chunk": sends_slowly(HEAD + b"Transfer-Encoding: chunked\r\n\r\n", b"0"),
    "in interim answers": sends_slowly(b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
}


class TestDeadline:
    def test_hanging_server_times_out_at_the_deadline(self, pool: LocalUserPool) -> None:
        with pool.fail("jwks", hang=True):
            assert_times_out(pool.jwks_url)
        pool.wait_for("jwks")
        assert pool.count("jwks") == 1

    @pytest.mark.parametrize("script", SLOW_ANSWERS.values(), ids=SLOW_ANSWERS.keys())
    def test_slow_server_times_out_at_the_deadline(self, script: Script) -> None:
        with raw_server(script) as url:
            assert_times_out(url)

    def test_read_timeout_applies_to_each_read(self, pool: LocalUserPool) -> None:
        with pool.fail("jwks", hang=True):
            assert_times_out(pool.jwks_url, LONG, (LONG, SOON))

    def test_connect_timeout_applies_if_the_server_does_not_accept(self) -> None:
        with unresponsive_address() as port:
            assert_times_out(f"http://127.0.0.1:{port}/", LONG, (SOON, LONG))

    def test_many_dead_addresses_share_one_deadline(self, monkeypatch: pytest.MonkeyPatch) -> None:
        with unresponsive_address() as port:
            resolve_to(monkeypatch, [f"127.0.0.{n}" for n in range(1, 101)])
            assert_times_out(f"http://pool.example:{port}/")

    def test_second_address_is_tried_if_the_first_is_dead(
        self, pool: LocalUserPool, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        resolve_to(monkeypatch, ["127.0.0.2", "127.0.0.1"])  # no server listens on the first
        assert get(pool.jwks_url.replace("127.0.0.1", "pool.example")).status == 200

    @pytest.mark.parametrize("dead", [1, 7])
    def test_dead_addresses_leave_time_for_a_later_one(
        self, pool: LocalUserPool, monkeypatch: pytest.MonkeyPatch, dead: int
    ) -> None:
        addresses = [f"127.0.2.{n}" for n in range(1, dead + 1)]
        name = f"pool-behind-{dead}.example"
        resolve_to(monkeypatch, [*addresses, "127.0.0.1"], name)
        with ExitStack() as stack, finishes_in_time():
            for address in addresses:
                stack.enter_context(unresponsive_address(address, port_of(pool)))
            assert get(pool.jwks_url.replace("127.0.0.1", name), seconds=2).status == 200

    @pytest.mark.parametrize("url", ["http://pool.example:{}/", "http://elsewhere.invalid/"])
    def test_address_that_answered_comes_first_next_time(
        self, pool: LocalUserPool, monkeypatch: pytest.MonkeyPatch, url: str
    ) -> None:
        # The second URL is reached through a proxy of several addresses.
        monkeypatch.setenv("HTTP_PROXY", f"http://proxy.example:{port_of(pool)}")
        monkeypatch.setenv("NO_PROXY", "pool.example")
        for name in ("pool.example", "proxy.example"):
            resolve_to(monkeypatch, ["127.0.0.3", "127.0.0.1"], name)
        url = url.format(port_of(pool))
        assert get_any(url).status  # no server listens on the first
        with socket.create_server(("127.0.0.3", port_of(pool))) as woken:
            woken.setblocking(False)
            assert get_any(url).status
            with pytest.raises(BlockingIOError):
                woken.accept()

    def test_address_that_hangs_comes_last_next_time(
        self, pool: LocalUserPool, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        resolve_to(monkeypatch, ["127.0.0.4", "127.0.0.1"], "half.example")
        url = pool.jwks_url.replace("127.0.0.1", "half.example")
        with socket.create_server(("127.0.0.4", port_of(pool))):
            with pytest.raises(TransportError):
                get(url, seconds=SOON)
            assert get(url).status == 200

    def test_no_request_is_sent_if_the_deadline_has_passed(self, pool: LocalUserPool) -> None:
        with pytest.raises(TransportError) as caught:
            get(pool.jwks_url, seconds=0)
        assert caught.value.is_timeout
        assert pool.count() == 0

    def test_slow_answer_before_the_deadline_is_accepted(self, pool: LocalUserPool) -> None:
        with pool.delay("jwks", 0.05):
            assert get(pool.jwks_url).status == 200

    def test_deadline_uses_its_own_clock(self) -> None:
        clocks = Clocks()
        deadline = Deadline(10, clocks.clock)
        clocks.advance(9)
        assert (deadline.left(), deadline.passed) == (1, False)
        clocks.advance(1)
        assert (deadline.left(), deadline.passed) == (0, True)
        clocks.advance(1)
        assert (deadline.left(), deadline.passed) == (0, True)


def port_of(pool: LocalUserPool) -> int:
    port = urlsplit(pool.jwks_url).port
    assert port
    return port


@contextmanager
def unresponsive_address(address: str = "0.0.0.0", port: int = 0) -> Iterator[int]:
    """Yield a port with a full queue of connections, by default on every loopback address."""
    with socket.socket() as listening:
        listening.bind((address, port))
        listening.listen(0)
        address = address.replace("0.0.0.0", "127.0.0.1")
        port = listening.getsockname()[1]
        waiting = [socket.socket() for _ in range(4)]
        try:
            for each in waiting:
                each.setblocking(False)
                each.connect_ex((address, port))
            if waiting[-1].connect_ex((address, port)) == 0:
                pytest.skip("this system lets more connections wait")
            yield port
        finally:
            for each in waiting:
                each.close()


def resolve_to(monkeypatch: pytest.MonkeyPatch, addresses: list[str], name: str = "pool.example") -> None:
    """Make ``name`` resolve to these addresses. Others resolve as usual."""
    real = socket.getaddrinfo

    def resolved(host: Any, *more: Any, **named: Any) -> Any:
        if host not in (name, name.encode()):
            return real(host, *more, **named)
        return list(itertools.chain.from_iterable(real(address, *more, **named) for address in addresses))

    monkeypatch.setattr(socket, "getaddrinfo", resolved)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate of ``localhost``, and of no address, with its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.timezone.utc)
    signed = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    path = tmp_path_factory.mktemp("tls") / "localhost.pem"
    pem = serialization.Encoding.PEM
    unencrypted = serialization.NoEncryption()
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, unencrypted)
    path.write_bytes(private + signed.public_bytes(pem))
    return path


@pytest.fixture
def tls(certificate: Path, monkeypatch: pytest.MonkeyPatch) -> ssl.SSLContext:
    """The context of a server whose certificate requests trusts in this test."""
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    return context


HANDSHAKES: dict[str, Script] = {
    "hangs": lambda connection, over: over.wait(LONG),
    "sends slowly": sends_slowly(b"\x16\x03\x03\x40\x00\x02\x00\x3f\xfc", b"\x00"),  # a long hello
}


class TestTls:
    def test_certificate_is_checked_against_the_host_name(self, tls: ssl.SSLContext) -> None:
        well = sends(HEAD + b"Content-Length: 2\r\n\r\n{}")
        with raw_server(well, tls) as url:
            assert get(url).body == b"{}"
            with pytest.raises(TransportError) as caught:
                get(url.replace("localhost", "127.0.0.1"))
        assert "SSLCertVerificationError" in str(caught.value)

    def test_slow_server_times_out_at_the_deadline(self, tls: ssl.SSLContext) -> None:
        with raw_server(SLOW_ANSWERS["in a body of known length"], tls) as url:
            assert_times_out(url)

    @pytest.mark.parametrize("script", HANDSHAKES.values(), ids=HANDSHAKES.keys())
    def test_endless_handshake_times_out_at_the_deadline(self, tls: ssl.SSLContext, script: Script) -> None:
        with raw_server(script) as url:
            assert_times_out(url.replace("http:", "https:"))

    def test_next_address_is_tried_if_the_handshake_hangs(
        self, tls: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        resolve_to(monkeypatch, ["127.0.0.5", "127.0.0.1"], "localhost")
        with (
            raw_server(sends(HEAD + b"Content-Length: 2\r\n\r\n{}"), tls) as url,
            socket.create_server(("127.0.0.5", urlsplit(url).port or 0)),
        ):
            assert get(url, seconds=3).body == b"{}"


@contextmanager
def proxy_over_tls(context: ssl.SSLContext, tunnels: list[bytes]) -> Iterator[str]:
    """Yield the URL of a proxy over TLS that stores the first line of each request for a tunnel."""

    def tunnel(connection: socket.socket, over: threading.Event) -> None:
        head = connection.recv(65536)
        tunnels.append(head.split(b"\r\n")[0])
        host, _, port = head.split(b" ")[1].decode().rpartition(":")
        with socket.create_connection((host, int(port))) as onward:
            connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
            copy_both_ways(connection, onward)

    with raw_server(tunnel, context, reads_first=False) as url:
        yield url


@contextmanager
def socks_proxy(tunnels: list[tuple[bytes, int]]) -> Iterator[str]:
    """Yield the URL of a SOCKS5 proxy without authentication that connects to loopback (RFC 1928)."""

    def tunnel(connection: socket.socket, over: threading.Event) -> None:
        connection.recv(2 + 1)
        connection.sendall(b"\x05\x00")
        *_, length = connection.recv(5)  # the host is sent as a name
        tunnels.append((connection.recv(length), int.from_bytes(connection.recv(2), "big")))
        with socket.create_connection(("127.0.0.1", tunnels[-1][1])) as onward:
            connection.sendall(b"\x05\x00\x00\x01\x7f\x00\x00\x01\x00\x00")
            copy_both_ways(connection, onward)

    with raw_server(tunnel, reads_first=False) as url:
        yield url.replace("http:", "socks5h:")


def copy_both_ways(one: socket.socket, other: socket.socket) -> None:
    copying = threading.Thread(target=copy, args=(other, one), daemon=True)
    copying.start()
    copy(one, other)
    copying.join(LONG)


def copy(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while content := source.recv(65536):
            target.sendall(content)
    for each in (source, target):
        with suppress(OSError):
            each.shutdown(socket.SHUT_RDWR)


class TestConnectionClasses:
    """Any connection that requests chooses is used unchanged, and ends at the deadline."""

    def test_proxy_over_tls_is_used(self, tls: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch) -> None:
        tunnels: list[bytes] = []
        well = sends(HEAD + b"Content-Length: 2\r\n\r\n{}")
        with raw_server(well, tls) as url, proxy_over_tls(tls, tunnels) as proxy:
            monkeypatch.setenv("HTTPS_PROXY", proxy)
            monkeypatch.setattr(transport, "is_loopback_host", lambda host: False)
            assert get(url).body == b"{}"
        assert [line.split(b" ")[0] for line in tunnels] == [b"CONNECT"]

    def test_slow_answer_through_a_tls_proxy_times_out(
        self, tls: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with raw_server(SLOW_ANSWERS["between the headers"], tls) as url, proxy_over_tls(tls, []) as proxy:
            monkeypatch.setenv("HTTPS_PROXY", proxy)
            monkeypatch.setattr(transport, "is_loopback_host", lambda host: False)
            assert_times_out(url, 5 * SOON)

    @pytest.mark.parametrize("name", ["HTTP_PROXY", "all_proxy"])
    def test_socks_proxy_is_used_and_resolves_the_host(
        self, monkeypatch: pytest.MonkeyPatch, name: str
    ) -> None:
        tunnels: list[tuple[bytes, int]] = []
        with (
            raw_server(sends(HEAD + b"Content-Length: 2\r\n\r\n{}")) as url,
            socks_proxy(tunnels) as proxy,
        ):
            monkeypatch.setenv(name, proxy)
            assert get(url.replace("127.0.0.1", "pool.invalid")).body == b"{}"
        assert [host for host, _ in tunnels] == [b"pool.invalid"]

    def test_slow_answer_through_a_socks_proxy_times_out(self, monkeypatch: pytest.MonkeyPatch) -> None:
        with raw_server(SLOW_ANSWERS["inside a header"]) as url, socks_proxy([]) as proxy:
            monkeypatch.setenv("HTTP_PROXY", proxy)
            assert_times_out(url.replace("127.0.0.1", "pool.invalid"))

    def test_connection_class_of_another_package_is_used(
        self, pool: LocalUserPool, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        connected: list[str] = []

        class Recording(HTTPConnection):
            def connect(self) -> None:
                connected.append(self.host)
                super().connect()

        monkeypatch.setattr(HTTPConnectionPool, "ConnectionCls", Recording)
        assert get(pool.jwks_url).status == 200
        assert connected == ["127.0.0.1"]

    def test_no_request_is_sent_after_a_slow_dns_lookup(
        self, pool: LocalUserPool, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        real = socket.getaddrinfo

        def late(*args: Any, **kwargs: Any) -> Any:
            while not deadline.passed:
                threading.Event().wait(deadline.left())
            return real(*args, **kwargs)

        monkeypatch.setattr(socket, "getaddrinfo", late)
        deadline = Deadline(SOON)
        with pytest.raises(TransportError) as caught:
            Transport((LONG, LONG)).post([pool.token_url], Body(b"", {}), deadline, is_ok)
        assert caught.value.is_timeout
        assert pool.count() == 0


class TestSize:
    def test_body_of_64_kib_is_read(self, pool: LocalUserPool) -> None:
        with pool.fail("jwks", size=MAX_BODY):
            assert len(get(pool.jwks_url).body) == MAX_BODY == 65536

    @pytest.mark.parametrize(
        "headers", [{}, {"Content-Length": None}], ids=["announced", "of unknown length"]
    )
    def test_larger_body_is_an_error(self, pool: LocalUserPool, headers: Mapping[str, Any]) -> None:
        with pool.fail("jwks", size=MAX_BODY + 1, headers=headers), pytest.raises(TransportError) as caught:
            get(pool.jwks_url)
        assert not caught.value.is_timeout
        assert not caught.value.may_retry
        assert pool.count("jwks") == 1

    def test_body_that_is_larger_decompressed_is_an_error(self) -> None:
        body = gzip.compress(bytes(MAX_BODY + 1))
        packed = HEAD + b"Content-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(body) + body
        with raw_server(sends(packed)) as url, pytest.raises(TransportError):
            get(url)

    def test_endless_body_is_not_read(self) -> None:
        sent = 0

        def script(connection: socket.socket, over: threading.Event) -> None:
            nonlocal sent
            connection.sendall(HEAD + b"\r\n")
            while not over.is_set():
                sent += connection.send(bytes(65536))

        with raw_server(script) as url, finishes_in_time(), pytest.raises(TransportError):
            get(url)
        assert sent < 64 * 1024 * 1024  # as much as the buffers of two sockets hold, and not 100 MB


class TestOneRetry:
    @pytest.mark.parametrize("status", [502, 503, 504])
    @pytest.mark.parametrize("lasts", [False, True])
    def test_gateway_error_is_retried_once(self, pool: LocalUserPool, status: int, lasts: bool) -> None:
        with pool.fail("jwks", status=status, times=2 if lasts else 1):
            assert get(pool.jwks_url).status == (status if lasts else 200)
        assert pool.count("jwks") == 2

    def test_gateway_error_with_retry_after_is_not_retried(self, pool: LocalUserPool) -> None:
        with pool.fail("jwks", status=503, headers={"Retry-After": "30"}):
            answer = get(pool.jwks_url)
        assert answer.retry_after(0) == 30
        assert pool.count("jwks") == 1

    @pytest.mark.parametrize("status", [201, 400, 401, 403, 404, 429, 500, 501])
    def test_other_status_is_not_retried(self, pool: LocalUserPool, status: int) -> None:
        with pool.fail("jwks", status=status):
            assert get(pool.jwks_url).status == status
        assert pool.count("jwks") == 1

    @pytest.mark.parametrize("fault", ["reset", "cut_off"])
    def test_broken_connection_is_retried_once(self, pool: LocalUserPool, fault: str) -> None:
        pool.fail("token", times=1, **{fault: True})  # type: ignore[arg-type]
        assert post(pool.token_url).status == 400
        assert pool.count("token") == 2

    @pytest.mark.parametrize("fault", ["reset", "cut_off"])
    def test_connection_that_breaks_twice_is_an_error(self, pool: LocalUserPool, fault: str) -> None:
        with pool.fail("jwks", **{fault: True}), pytest.raises(TransportError) as caught:  # type: ignore[arg-type]
            get(pool.jwks_url)
        assert not caught.value.is_timeout
        assert pool.count("jwks") == 2

    def test_refused_connection_is_retried_once(self) -> None:
        urls = []

        def send(url: str, share: Deadline) -> TransportError:
            urls.append(url)
            return TransportError("refused", may_retry=True)

        with pytest.raises(TransportError):
            first_answer(["one"], Deadline(LONG), is_ok, send)
        assert len(urls) == 2

    def test_refused_connection_is_marked_for_a_retry(self, pool: LocalUserPool) -> None:
        with pool.offline(), pytest.raises(TransportError) as caught:
            get(pool.jwks_url)
        assert caught.value.may_retry
        assert "ConnectionRefusedError" in str(caught.value)

    def test_no_retry_starts_after_the_deadline(self) -> None:
        clocks, urls = Clocks(), []

        def send(url: str, share: Deadline) -> TransportError:
            urls.append(url)
            clocks.advance(10)
            return TransportError("refused", may_retry=True)

        with pytest.raises(TransportError):
            first_answer(["one"], Deadline(10, clocks.clock), is_ok, send)
        assert len(urls) == 1

    def test_first_answer_counts_if_the_retry_fails(self) -> None:
        outcomes: Iterator[Answer | TransportError] = iter(
            [Answer("one", 503, {}, b""), TransportError("refused")]
        )
        assert first_answer(["one"], Deadline(LONG), is_ok, lambda *_: next(outcomes)).status == 503

    def test_retry_has_the_time_left(self) -> None:
        clocks, shares = Clocks(), []

        def send(url: str, share: Deadline) -> TransportError:
            shares.append(share.left())
            clocks.advance(4)
            return TransportError("refused", may_retry=True)

        with pytest.raises(TransportError):
            first_answer(["one"], Deadline(10, clocks.clock), is_ok, send)
        assert shares == [10, 6]


class TestSeveralAddresses:
    def test_each_address_has_an_equal_share_of_the_time(self) -> None:
        clocks, shares = Clocks(), []

        def send(url: str, share: Deadline) -> TransportError:
            shares.append(seconds := share.left())
            clocks.advance(seconds / 2 if url == "one" else seconds)
            return TransportError("silent", is_timeout=True)

        with pytest.raises(TransportError):
            first_answer(["one", "two", "three"], Deadline(9, clocks.clock), is_ok, send)
        assert shares == [3, 3.75, 3.75]

    def test_hanging_address_leaves_time_for_the_next(
        self, pool: LocalUserPool, other_pool: LocalUserPool
    ) -> None:
        with pool.fail("jwks", hang=True), finishes_in_time():
            answer = get(pool.jwks_url, other_pool.jwks_url, seconds=10 * SOON)
        assert answer.url == other_pool.jwks_url

    def test_no_address_is_tried_after_the_first_answer(
        self, pool: LocalUserPool, other_pool: LocalUserPool
    ) -> None:
        assert get(pool.jwks_url, other_pool.jwks_url).url == pool.jwks_url
        assert other_pool.count() == 0

    @pytest.mark.parametrize(
        "fault", [{"reset": True}, {"status": 500}, {"status": 503}, {"size": MAX_BODY + 1}], ids=str
    )
    def test_next_address_is_tried_before_a_retry(
        self, pool: LocalUserPool, other_pool: LocalUserPool, fault: dict[str, Any]
    ) -> None:
        with pool.fail("jwks", **fault):
            assert get(pool.jwks_url, other_pool.jwks_url).url == other_pool.jwks_url
        assert pool.count("jwks") == 1

    @pytest.mark.parametrize("fault", [{"reset": True}, {"status": 502}], ids=str)
    @pytest.mark.parametrize("later", [{"status": 403}, {"status": 503}, {"reset": True}], ids=str)
    def test_first_address_is_retried_if_all_fail(
        self, pool: LocalUserPool, other_pool: LocalUserPool, fault: dict[str, Any], later: dict[str, Any]
    ) -> None:
        pool.fail("jwks", times=1, **fault)
        with other_pool.fail("jwks", **later):
            assert get(pool.jwks_url, other_pool.jwks_url).url == pool.jwks_url
        assert (pool.count("jwks"), other_pool.count("jwks")) == (2, 1)

    @pytest.mark.parametrize("status", [404, 429, 503])
    def test_first_answer_counts_if_all_fail(
        self, pool: LocalUserPool, other_pool: LocalUserPool, status: int
    ) -> None:
        pool.fail("jwks", status=status, headers={"Retry-After": "21"})
        with other_pool.fail("jwks", status=403):
            answer = get(pool.jwks_url, other_pool.jwks_url)
        assert (answer.status, answer.retry_after(0)) == (status, 21)
        assert pool.count("jwks") == 1

    def test_later_rejection_does_not_hide_a_timeout(
        self, pool: LocalUserPool, other_pool: LocalUserPool
    ) -> None:
        pool.fail("jwks", hang=True)
        with other_pool.fail("jwks", status=403), pytest.raises(TransportError) as caught:
            get(pool.jwks_url, other_pool.jwks_url, timeout=(SOON, SOON))
        assert caught.value.is_timeout

    def test_later_outage_counts_more_than_no_answer(
        self, pool: LocalUserPool, other_pool: LocalUserPool
    ) -> None:
        with pool.offline(), other_pool.fail("jwks", status=503, headers={"Retry-After": "9"}):
            assert get(pool.jwks_url, other_pool.jwks_url).retry_after(0) == 9

    def test_answer_counts_more_than_a_later_failure(
        self, pool: LocalUserPool, other_pool: LocalUserPool
    ) -> None:
        with pool.fail("jwks", status=500, headers={"Retry-After": "7"}), other_pool.offline():
            assert get(pool.jwks_url, other_pool.jwks_url).retry_after(0) == 7


class TestRequests:
    def test_request_for_keys_names_the_library(self, pool: LocalUserPool) -> None:
        get(pool.jwks_url)
        assert pool.requests[-1].headers["User-Agent"] == f"flask-m2m-cognito/{__version__}"

    @pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
    def test_no_redirect_is_followed(
        self, pool: LocalUserPool, other_pool: LocalUserPool, status: int
    ) -> None:
        with pool.fail("token", status=status, headers={"Location": other_pool.token_url}):
            assert post(pool.token_url).status == status
        assert (pool.count(), other_pool.count()) == (1, 0)

    def test_netrc_adds_no_authorization(
        self, pool: LocalUserPool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        netrc = tmp_path / "netrc"
        netrc.write_text("machine 127.0.0.1 login somebody password something\n")
        netrc.chmod(0o600)
        monkeypatch.setenv("NETRC", str(netrc))
        assert get_netrc_auth(pool.jwks_url) == ("somebody", "something")  # what requests would add
        get(pool.jwks_url)
        assert "Authorization" not in pool.requests[0].headers

    def test_user_in_the_url_adds_no_authorization(self, pool: LocalUserPool) -> None:
        get(pool.jwks_url.replace("://", "://somebody:something@"))
        assert "Authorization" not in pool.requests[0].headers

    def test_body_and_headers_arrive_as_given(self, pool: LocalUserPool) -> None:
        post(pool.token_url)
        request = pool.requests[0]
        assert request.method == "POST"
        assert request.headers["Authorization"] == f"Basic {SECRET}"
        assert request.headers["Content-Type"] == "application/x-www-form-urlencoded"
        assert request.form == {"client_secret": SECRET}

    @pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
    @pytest.mark.parametrize("name", ["HTTP_PROXY", "all_proxy"])
    @pytest.mark.parametrize("kind", ["get", "post"])
    def test_request_for_loopback_bypasses_the_proxy(
        self, pool: LocalUserPool, monkeypatch: pytest.MonkeyPatch, kind: str, name: str, host: str
    ) -> None:
        monkeypatch.setenv(name, "http://127.0.0.1:1")  # no server listens there
        transport, deadline = Transport((LONG, LONG)), Deadline(LONG)
        urls = [(pool.jwks_url if kind == "get" else pool.token_url).replace("127.0.0.1", host)]
        if kind == "get":
            answer = transport.get(urls, deadline, is_ok)
        else:
            answer = transport.post(urls, Body(b"", {}), deadline, is_ok)
        assert answer.headers["Date"]
        assert pool.count() == 1

    def test_request_for_another_host_goes_through_the_proxy(self, monkeypatch: pytest.MonkeyPatch) -> None:
        with raw_server(sends(HEAD + b"Content-Length: 2\r\n\r\n{}")) as proxy:
            monkeypatch.setenv("HTTP_PROXY", proxy)
            assert get("http://pool.example/keys").body == b"{}"

    def test_no_connection_stays_open(self, pool: LocalUserPool) -> None:
        # A socket that is not closed causes a warning, which is an error in these tests.
        for _ in range(3):
            get(pool.jwks_url)
        assert pool.count("jwks") == 3


FAULTS: dict[str, Callable[[LocalUserPool], AbstractContextManager[object, None]]] = {
    "hangs": lambda pool: pool.fail(hang=True),
    "sends slowly": lambda pool: pool.fail(drip=1),
    "resets": lambda pool: pool.fail(reset=True),
    "is cut off": lambda pool: pool.fail(cut_off=True),
    "is too large": lambda pool: pool.fail(size=MAX_BODY + 1),
    "refuses connections": lambda pool: pool.offline(),
    "is not valid gzip": lambda pool: pool.fail(headers={"Content-Encoding": "gzip"}),
}


class Calls:
    """An ``on_request`` that stores its arguments and outcomes."""

    def __init__(self) -> None:
        self.begun: list[tuple[str, str]] = []
        self.ended: list[Any] = []

    @contextmanager
    def __call__(self, method: str, url: str) -> Iterator[Note]:
        self.begun.append((method, url))
        try:
            yield self.ended.append
        except BaseException as error:
            self.ended.append(error)
            raise


class TestOnRequest:
    def test_on_request_receives_the_answer_of_each_address(
        self, pool: LocalUserPool, other_pool: LocalUserPool
    ) -> None:
        calls, urls = Calls(), [pool.jwks_url, other_pool.jwks_url]
        pool.fail("jwks", status=500)
        answer = Transport(on_request=calls).get(urls, Deadline(LONG), is_ok)
        assert calls.begun == [("GET", url) for url in urls]
        assert [each.status for each in calls.ended] == [500, 200]
        assert calls.ended[1] is answer

    def test_on_request_receives_the_error_of_each_try(self, pool: LocalUserPool) -> None:
        calls = Calls()
        pool.fail("token", reset=True)
        with pytest.raises(TransportError) as caught:
            Transport(on_request=calls).post([pool.token_url], Body(b"", {}), Deadline(LONG), is_ok)
        assert calls.begun == [("POST", pool.token_url)] * 2
        assert calls.ended[1] is caught.value

    def test_on_request_receives_a_keyboard_interrupt(
        self, pool: LocalUserPool, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def interrupted(*_: Any, **__: Any) -> Any:
            raise KeyboardInterrupt

        calls = Calls()
        monkeypatch.setattr(socket, "getaddrinfo", interrupted)
        with pytest.raises(KeyboardInterrupt):
            Transport(on_request=calls).get([pool.jwks_url], Deadline(LONG), is_ok)
        assert [type(each) for each in calls.ended] == [KeyboardInterrupt]


class TestSecrets:
    @pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS.keys())
    def test_no_error_holds_a_secret_a_frame_or_a_request(
        self, pool: LocalUserPool, fault: Callable[[LocalUserPool], AbstractContextManager[object, None]]
    ) -> None:
        with fault(pool), pytest.raises(TransportError) as caught:
            post(pool.token_url, seconds=SOON)
        text = " ".join(_texts_of(caught.value))
        assert "Transport" in text  # the search finds something
        for secret in (SECRET, quote_plus(SECRET)):
            assert secret not in text
        error = caught.value
        assert error.__cause__ is error.__context__ is None
        if error.cause is not None:
            assert isinstance(error.cause, requests.RequestException)
            assert error.cause.__traceback__ is error.cause.__cause__ is error.cause.__context__ is None
            assert error.cause.request is error.cause.response is None

    @pytest.mark.parametrize(
        "proxy",
        [
            "http://svc:hunter2/pa#ss@proxy.invalid:3128",
            "http://svc:Hunter2@pa@proxy.invalid:3128",
            "http://svc:hunter2[@proxy.invalid:3128",
            "http://svc:hunter2@proxy.invalid:31281111",
            "http://svc:a#b@proxy.invalid:x",
            "http://svc:hünter2€@proxy.invalid",
            "svc:hunter2@proxy.invalid:x",
            "socksx://svc:hunter2@proxy.invalid:1080",
            "http://svc:%68unter2@127.0.0.1:1",
            "http://hunter2@127.0.0.1:1",
        ],
    )
    def test_no_error_holds_the_password_of_a_proxy(
        self, monkeypatch: pytest.MonkeyPatch, proxy: str
    ) -> None:
        monkeypatch.setenv("HTTP_PROXY", proxy)
        with pytest.raises(TransportError) as caught:
            get("http://pool.example/keys", seconds=5)
        for text in (str(caught.value), str(caught.value.cause), repr(caught.value.cause)):
            assert "unter2" not in text.lower()
            assert "svc:a" not in text

    def test_password_quoted_by_a_proxy_is_hidden(self, monkeypatch: pytest.MonkeyPatch) -> None:
        pair = "c3ZjOmh1bnRlcjI="  # svc:hunter2
        with raw_server(sends(f"hunter2 {pair} \r\n\r\n".encode())) as url:
            monkeypatch.setenv("HTTP_PROXY", url.replace("://", "://svc:hunter2@"))
            with pytest.raises(TransportError) as caught:
                get("http://pool.example/keys")
        assert "[hidden] [hidden]" in str(caught.value)
        assert "hunter2" not in f"{caught.value} {caught.value.cause}"

    @pytest.mark.parametrize(
        "headers",
        [
            f"X-One: 1\r\n{SECRET}\r\nX-Two: 2\r\n",
            f" {SECRET}\r\nX-One: 1\r\n",
            f"Content-Type: multipart/mixed\r\n{SECRET}\r\n",
        ],
        ids=["a line without a colon", "a continued line first", "multipart"],
    )
    def test_malformed_headers_are_not_logged(self, caplog: pytest.LogCaptureFixture, headers: str) -> None:
        caplog.set_level(logging.DEBUG)
        with raw_server(sends(f"HTTP/1.1 200 OK\r\n{headers}\r\n{{}}".encode())) as url:
            post(url)
        shown = "".join(f"{record.getMessage()} {record.exc_info!r}" for record in caplog.records)
        assert "urllib3" in {record.name.partition(".")[0] for record in caplog.records}
        assert SECRET not in shown

    def test_error_names_the_address_without_user_and_query(self, pool: LocalUserPool) -> None:
        url = pool.jwks_url.replace("://", "://somebody:something@") + "?key=something"
        with pool.offline(), pytest.raises(TransportError) as caught:
            get(url)
        assert str(caught.value).startswith(f"{pool.jwks_url}: ")
        assert not re.search("somebody|something", str(caught.value))

    def test_repr_of_an_answer_hides_body_and_headers(self) -> None:
        answer = Answer("https://pool.example/", 200, {"X-Token": "t0ken"}, b"t0ken")
        assert "t0ken" not in repr(answer)

    def test_error_trackers_see_no_body(self) -> None:
        body = Body(SECRET.encode(), {"Authorization": SECRET})
        assert SECRET not in repr(body)
        assert not hasattr(body, "__dict__")
        assert not isinstance(body, Mapping)


def _texts_of(error: BaseException | None) -> Iterator[str]:
    """Yield what an error tracker sends: texts, attributes, causes, and the locals of all other frames."""
    if error is None:
        return
    yield str(error)
    yield repr(error)
    yield repr(vars(error))
    for frame in _frames(error.__traceback__):
        for name, value in frame.items():
            yield f"{name} = {value!r}"
            yield repr(getattr(value, "__dict__", None))
    for other in (error.__cause__, error.__context__, getattr(error, "cause", None)):
        yield from _texts_of(other)


def _frames(traceback: TracebackType | None) -> Iterator[dict[str, Any]]:
    while traceback is not None:
        if traceback.tb_frame.f_code.co_filename != __file__:
            yield traceback.tb_frame.f_locals
        traceback = traceback.tb_next


NOW = 1_750_000_000.0


class TestAnswer:
    @pytest.mark.parametrize(
        ("text", "seconds"),
        [
            pytest.param("120", 120, id="seconds"),
            pytest.param(" 5 ", 5, id="seconds with whitespace"),
            pytest.param("0", 0, id="zero"),
            pytest.param("9" * 40, 999_999_999, id="a very large number"),
            pytest.param(formatdate(NOW + 90, usegmt=True), 90, id="a date"),
            pytest.param(formatdate(NOW - 90, usegmt=True), 0, id="a date in the past"),
            pytest.param("-5", None, id="a negative number"),
            pytest.param("1.5", None, id="a fraction"),
            pytest.param("٣", None, id="digits of another script"),
            pytest.param("soon", None, id="a word"),
            pytest.param("", None, id="empty text"),
            pytest.param(None, None, id="no header"),
            pytest.param("Mon, 99 Foo 2025 00:00:00 GMT", None, id="an invalid date"),
        ],
    )
    def test_retry_after_is_seconds_or_a_date(self, text: str | None, seconds: float | None) -> None:
        headers = {} if text is None else {"Retry-After": text}
        assert Answer("", 503, headers, b"").retry_after(NOW) == seconds

    @pytest.mark.parametrize("ahead", [-3600.0, 0.0, 7.0])
    def test_clock_offset_comes_from_the_date_header(self, ahead: float) -> None:
        answer = Answer("", 200, {"Date": formatdate(NOW + ahead, usegmt=True)}, b"")
        assert answer.clock_offset(NOW) == ahead

    @pytest.mark.parametrize("headers", [{}, {"Date": "yesterday"}], ids=["no header", "an invalid date"])
    def test_answer_without_a_valid_date_has_no_offset(self, headers: dict[str, str]) -> None:
        assert Answer("", 200, headers, b"").clock_offset(NOW) is None

    def test_text_of_a_body_replaces_invalid_utf_8(self) -> None:
        assert Answer("", 200, {}, b"caf\xe9").text == "caf�"
