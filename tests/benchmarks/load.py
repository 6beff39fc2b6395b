"""Send load to a server from another process, with threads and plain sockets."""

from __future__ import annotations

import multiprocessing
import socket
import threading
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass

CONNECTIONS = 8


@dataclass(frozen=True)
class Load:
    """How many requests were answered with 200, and in how many seconds."""

    served: int
    seconds: float

    @property
    def a_second(self) -> float:
        return self.served / self.seconds


class LoadProcess:
    """Sends requests to a port of this machine. A context manager: the process ends with the block."""

    name = f"{CONNECTIONS} threads with sockets in a separate process"

    def __enter__(self) -> LoadProcess:
        self._pool = ProcessPoolExecutor(1, multiprocessing.get_context("spawn"))
        return self

    def __exit__(self, *error: object) -> None:
        self._pool.shutdown()

    def run(self, port: int, path: str, token: str, seconds: float) -> Load:
        """Request ``path`` with ``token`` for ``seconds``.

        Raises:
            RuntimeError: an answer was not 200.
        """
        return self._pool.submit(_threads, port, path, token, seconds).result()


def _threads(port: int, path: str, token: str, seconds: float) -> Load:
    headers = f"Host: localhost\r\nAuthorization: Bearer {token}\r\nConnection: close"
    request = f"GET {path} HTTP/1.1\r\n{headers}\r\n\r\n".encode()
    answers: list[bytes] = []
    begun = time.perf_counter()

    def run() -> None:
        while time.perf_counter() < begun + seconds:
            answers.append(_answer(port, request))

    threads = [threading.Thread(target=run) for _ in range(CONNECTIONS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    took = time.perf_counter() - begun
    if set(answers) != {b"HTTP/1.1 200"}:
        raise RuntimeError(f"{path} answered {set(answers)}")
    return Load(len(answers), took)


def _answer(port: int, request: bytes) -> bytes:
    """Read the whole answer, and return its first twelve bytes."""
    with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
        connection.sendall(request)
        answer = b""
        while more := connection.recv(65536):
            answer += more
    return answer[:12]
