"""An endpoint that never answers, drips or floods: a bounded wait, flat memory, and no thread left behind."""

from __future__ import annotations

import functools
import gzip
import socket
import threading
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import pytest

from flask_m2m_cognito.exceptions import KeysUnavailableError, TokenUnavailableError
from flask_m2m_cognito.inbound.key_source import KeyTimes, trusted_pool_from
from flask_m2m_cognito.inbound.user_pool import user_pool_from
from flask_m2m_cognito.outbound.token_endpoint import CognitoM2MClient
from flask_m2m_cognito.outbound.token_source import TokenPolicy, TokenSource
from flask_m2m_cognito.remote.transport import Transport
from flask_m2m_cognito.testing import LocalUserPool
from tests.remote.moved import together
from tests.support.clocks import Clocks

from .stage import HOUR, MovedService, load, moved_service, refresh_threads, seconds_of, wait_for

MIB = 1024 * 1024
FLOOD = 100 * MIB
DEADLINE = 1.0
"""``REFRESH_DEADLINE`` of these tests: the bound of a caller's wait."""

MARGIN = 2.0
"""For a machine with much else to do; a caller without a bound would wait until the test is stopped."""

Send = Callable[[socket.socket], None]


def says_nothing(connection: socket.socket) -> None:
    """Takes the request, and no more."""


def drips_its_head(connection: socket.socket) -> None:
    for byte in b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n":
        connection.sendall(bytes([byte]))
        if connection.gettimeout() is not None and _has_gone(connection, 0.2):
            return


def drips_its_body(connection: socket.socket) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n{")
    while not _has_gone(connection, 1.0):
        connection.sendall(b" ")


def floods(connection: socket.socket) -> None:
    connection.sendall(f"HTTP/1.1 200 OK\r\nContent-Length: {FLOOD}\r\n\r\n".encode())
    _send_all_of(connection, FLOOD)


def floods_without_a_length(connection: socket.socket) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n")
    _send_all_of(connection, FLOOD)


def floods_with_headers(connection: socket.socket) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\nX-Long: ")
    _send_all_of(connection, FLOOD)


@functools.cache
def bomb() -> bytes:
    return gzip.compress(b" " * FLOOD)


def floods_when_unpacked(connection: socket.socket) -> None:
    head = f"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: {len(bomb())}\r\n\r\n"
    connection.sendall(head.encode() + bomb())


HANGS = [says_nothing, drips_its_head, drips_its_body]
FLOODS = [floods, floods_without_a_length, floods_with_headers, floods_when_unpacked]


def _send_all_of(connection: socket.socket, size: int) -> None:
    portion = memoryview(bytes(64 * 1024))
    for _ in range(size // len(portion)):
        connection.sendall(portion)


def _has_gone(connection: socket.socket, seconds: float) -> bool:
    """Whether the other side has closed the connection; looks for so long."""
    connection.settimeout(seconds)
    try:
        return connection.recv(4096) == b""
    except TimeoutError:
        return False


@contextmanager
def endpoint(send: Send) -> Iterator[str]:
    """The URL of a server that answers each request with ``send``, and ends with the block."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        open_connections: list[socket.socket] = []

        def answer(connection: socket.socket) -> None:
            with suppress(OSError):
                connection.recv(65536)
                send(connection)

        def accept() -> None:
            while True:
                connection, _ = listener.accept()
                open_connections.append(connection)
                if listener_ends.is_set():
                    return
                threading.Thread(target=answer, args=(connection,), daemon=True).start()

        listener_ends = threading.Event()
        accepting = threading.Thread(target=accept)
        accepting.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}/"
        finally:
            listener_ends.set()
            socket.create_connection(listener.getsockname()).close()
            accepting.join()
            for connection in open_connections:
                with suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)
                connection.close()


def keys_at(url: str) -> Callable[[], object]:
    pool = user_pool_from("us-east-1_Slow", jwks_url=url)
    times = KeyTimes(refresh_deadline=DEADLINE)
    return trusted_pool_from(pool, transport=Transport((DEADLINE, 30.0)), times=times).keys.get


def token_at(url: str) -> Callable[[], object]:
    policy = TokenPolicy(timeout=(DEADLINE, 30.0), refresh_deadline=DEADLINE)
    return TokenSource(CognitoM2MClient(url, "client", "a secret"), ["a/b"], policy=policy).token


USES = [keys_at, token_at]


def waited_in_vain(get: Callable[[], object]) -> float:
    """The seconds until the caller was told that there is nothing."""

    def ask() -> None:
        with pytest.raises((KeysUnavailableError, TokenUnavailableError)):
            get()

    return seconds_of(ask)


@pytest.mark.slow
@pytest.mark.parametrize("use", USES)
@pytest.mark.parametrize("send", HANGS)
def test_no_caller_waits_longer_than_the_refresh_deadline(
    use: Callable[[str], Callable[[], object]], send: Send
) -> None:
    with endpoint(send) as url:
        get = use(url)
        waits = together(8, lambda: waited_in_vain(get))
        wait_for(lambda: not refresh_threads(), "its thread has ended", within=DEADLINE + MARGIN)
    assert max(waits) < DEADLINE + MARGIN  # type: ignore[type-var]


@pytest.mark.slow
@pytest.mark.parametrize("use", USES)
@pytest.mark.parametrize("send", FLOODS)
def test_an_answer_of_100_mb_costs_neither_time_nor_memory(
    use: Callable[[str], Callable[[], object]], send: Send
) -> None:
    bomb()  # not made while memory is counted
    with endpoint(send) as url:
        waited_in_vain(use(url))  # imports and caches come with the first
        tracemalloc.start()
        try:
            waits = [waited_in_vain(use(url)) for _ in range(3)]
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        wait_for(lambda: not refresh_threads(), "its thread has ended", within=DEADLINE + MARGIN)
    assert max(waits) < DEADLINE + MARGIN
    assert peak < 2 * MIB


def test_keys_and_tokens_that_are_known_go_on_serving_while_both_endpoints_hang(
    service: MovedService, pool: LocalUserPool, clocks: Clocks
) -> None:
    token = pool.token(expires_in=30 * HOUR)
    pool.fail(hang=True)
    clocks.advance(3300)
    service.get("/relay", token)
    pool.wait_for("token", 2)
    clocks.advance(200)
    with load(lambda: service.status("/relay", token)) as callers:
        callers.go_on_for(300)
    clocks.advance(500)
    with load(lambda: service.status("/items", token)) as callers_of_keys:
        pool.wait_for("jwks", 2)
        callers_of_keys.go_on_for(300)
    assert callers.statuses == callers_of_keys.statuses == {200}
    assert (pool.count("jwks"), pool.count("token")) == (2, 2)
    pool.recover()
    wait_for(lambda: not refresh_threads(), "the refresh threads have ended")


@pytest.mark.parametrize("fault", [{"hang": True}, {"drip": 1.0}], ids=["hang", "drip"])
def test_a_pool_that_comes_to_life_ends_the_wait(
    pool: LocalUserPool, clocks: Clocks, fault: dict[str, object]
) -> None:
    service = moved_service(pool, clocks)
    pool.fail("jwks", **fault)  # type: ignore[arg-type]
    token = pool.token()

    def revive() -> None:
        pool.wait_for("jwks")
        pool.recover()

    threading.Thread(target=revive).start()
    assert service.get("/items", token).status_code == 200
