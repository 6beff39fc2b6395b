"""Real servers for tests: each on a free loopback port, ready at the start of a block, stopped at its end."""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO

from tests.support.sockets import free_port

HOST = "127.0.0.1"
READY_WITHIN = 10.0
ENDS_WITHIN = 5.0


class ServiceMissing(Exception):
    """The server's program or its Python client is not installed."""


class ServiceFailed(Exception):
    """The server stopped, or did not answer in time. The text has its output."""


@dataclass(frozen=True)
class Service:
    """A running server, whose data a test may delete."""

    name: str
    port: int
    _process: subprocess.Popen[bytes]
    _empty: bytes

    @property
    def address(self) -> str:
        """Host and port, as in ``CACHE_MEMCACHED_SERVERS``."""
        return f"{HOST}:{self.port}"

    @property
    def url(self) -> str:
        """The URL, as in ``CACHE_REDIS_URL``."""
        return f"{self.name}://{self.address}/0"

    @property
    def pid(self) -> int:
        return self._process.pid

    def empty(self) -> None:
        """Delete all entries."""
        answer = _ask(self.port, self._empty)
        if b"OK" not in answer:
            raise ServiceFailed(f"{self.name} answered {answer!r} to the command that deletes all entries")

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Make the server hang inside the block: it accepts connections and does not answer."""
        os.kill(self.pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(self.pid, signal.SIGCONT)

    def stop(self) -> None:
        """Stop the server, and wait until it has stopped. A second call does nothing."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGCONT)  # a stopped process does not see SIGTERM
            self._process.terminate()
            try:
                self._process.wait(ENDS_WITHIN)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()


@contextmanager
def running_redis(port: int | None = None) -> Iterator[Service]:
    """Run a Redis that writes nothing to disk.

    Args:
        port: the port of a stopped one, to simulate a restart. By default a free port.
    """
    with tempfile.TemporaryDirectory(prefix="redis-") as folder:

        def command(program: str, port: int) -> Sequence[str]:
            options = {
                "--port": str(port),
                "--bind": HOST,
                "--dir": folder,
                "--save": "",
                "--appendonly": "no",
                "--daemonize": "no",
            }
            return [program, *(part for option in options.items() for part in option)]

        alive, empty = b"PING\r\n", b"FLUSHALL\r\n"
        with _running("redis", "redis-server", command, alive=alive, empty=empty, port=port) as service:
            yield service


@contextmanager
def running_memcached() -> Iterator[Service]:
    """Run a Memcached on TCP, if a Python client is installed that cachelib can use."""
    if not any(importlib.util.find_spec(client) for client in ("pylibmc", "memcache", "libmc")):
        raise ServiceMissing("no Memcached client that cachelib supports is installed")

    def command(program: str, port: int) -> Sequence[str]:
        # It does not run as root without this option.
        as_root = ["-u", "root"] if os.geteuid() == 0 else []
        return [program, "-l", HOST, "-p", str(port), "-U", "0", "-m", "64", *as_root]

    with _running("memcached", "memcached", command, alive=b"version\r\n", empty=b"flush_all\r\n") as service:
        yield service


@contextmanager
def _running(
    name: str,
    program: str,
    command: Callable[[str, int], Sequence[str]],
    *,
    alive: bytes,
    empty: bytes,
    port: int | None = None,
) -> Iterator[Service]:
    path = shutil.which(program)
    if path is None:
        raise ServiceMissing(f"{program} is not installed")
    with tempfile.TemporaryFile() as output:
        service = _started(name, lambda chosen: command(path, chosen), alive, empty, output, port)
        try:
            yield service
        finally:
            service.stop()


def _started(
    name: str,
    command: Callable[[int], Sequence[str]],
    alive: bytes,
    empty: bytes,
    output: IO[bytes],
    wanted: int | None,
) -> Service:
    # Another program may take the port between our check and the server's start. Then try another port.
    for _ in range(5):
        port = wanted or free_port()
        process = subprocess.Popen(
            command(port), stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT
        )
        service = Service(name, port, process, empty)
        try:
            if _is_ready_in_time(service, alive):
                return service
        except BaseException:
            service.stop()
            raise
        service.stop()
    output.seek(0)
    printed = output.read().decode(errors="replace")
    raise ServiceFailed(f"{name} did not become ready within {READY_WITHIN:g} s. It printed:\n{printed}")


def _is_ready_in_time(service: Service, alive: bytes) -> bool:
    deadline = time.monotonic() + READY_WITHIN
    while time.monotonic() < deadline:
        try:
            if _ask(service.port, alive):
                return service._process.poll() is None
        except OSError:
            pass
        try:
            service._process.wait(0.02)
        except subprocess.TimeoutExpired:
            continue
        return False
    return False


def _ask(port: int, line: bytes) -> bytes:
    with socket.create_connection((HOST, port), timeout=1.0) as connection:
        connection.sendall(line)
        return connection.recv(1024)
