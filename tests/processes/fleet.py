"""A fleet of real worker processes, with many callers at once."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
STOPS_WITHIN = 15.0
SERVICE = "tests.processes.service_app:create_app()"


@dataclass(frozen=True)
class Reply:
    """The response of a worker."""

    status: int
    headers: Mapping[str, str]
    text: str

    @property
    def json(self) -> Any:
        return json.loads(self.text)


@dataclass(frozen=True)
class Fleet:
    """Worker processes behind one port."""

    port: int
    pid: int
    _log: Path

    def get(self, path: str, token: str | None = None, timeout: float = 60.0) -> Reply:
        """Send one request on a new connection."""
        connection = HTTPConnection("127.0.0.1", self.port, timeout=timeout)
        try:
            headers = {"Authorization": f"Bearer {token}"} if token else {}
            connection.request("GET", path, headers={"Connection": "close", **headers})
            response = connection.getresponse()
            return Reply(response.status, dict(response.getheaders()), response.read().decode())
        finally:
            connection.close()

    def get_at_once(self, path: str, token: str, times: int) -> list[Reply]:
        """Send ``times`` requests from as many threads."""
        with ThreadPoolExecutor(times) as pool:
            return list(pool.map(lambda _: self.get(path, token), range(times)))

    @contextmanager
    def asking(self, path: str) -> Iterator[str]:
        """Yield the first line of a response. The rest arrives later, until the end of the block at most."""
        connection = HTTPConnection("127.0.0.1", self.port, timeout=60.0)
        try:
            connection.request("GET", path, headers={"Connection": "close"})
            yield connection.getresponse().readline().decode().strip()
        finally:
            connection.close()

    @property
    def log(self) -> str:
        """The output of the workers."""
        return self._log.read_text(errors="replace")


@contextmanager
def gunicorn(config: Mapping[str, object], options: Sequence[str], service: str = SERVICE) -> Iterator[Fleet]:
    """Run gunicorn with ``service_app`` and these ``COGNITO_M2M_…`` and ``CACHE_…`` settings.

    Requests may be sent at once, because the socket listens before the first worker has started.
    """
    with tempfile.TemporaryDirectory(prefix="fleet-") as folder, _listening() as listener:
        command = [
            *(sys.executable, "-m", "gunicorn", "--bind", f"fd://{listener.fileno()}", *options),
            *("--worker-tmp-dir", folder),
            # A worker that is booting ignores the signal to stop.
            *("--graceful-timeout", "3"),
            *(["--no-control-socket"] if _has_control_socket() else []),
            service,
        ]
        with _serving(config, command, listener, Path(folder, "log")) as fleet:
            yield fleet


def run_command(config: Mapping[str, object], *arguments: str) -> str:
    """Run ``flask m2m`` with these settings, as an operator does. Return its output."""
    ended = subprocess.run(
        [sys.executable, "-m", "flask", "--app", SERVICE, "m2m", *arguments],
        cwd=ROOT,
        env=_environment(config),
        capture_output=True,
        text=True,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout


@contextmanager
def uwsgi(config: Mapping[str, object], options: Sequence[str] = ()) -> Iterator[Fleet]:
    """Run one worker of uWSGI, like :func:`gunicorn`."""
    with tempfile.TemporaryDirectory(prefix="fleet-") as folder, _listening() as listener:
        command = [
            *(sys.executable, "-c", "import pyuwsgi; pyuwsgi.run()"),
            *("--http-socket", f"fd://{listener.fileno()}", "--module", SERVICE, "--pythonpath", str(ROOT)),
            *("--need-app", "--die-on-term", "--disable-logging", *options),
        ]
        with _serving(config, command, listener, Path(folder, "log")) as fleet:
            yield fleet


@contextmanager
def _serving(
    config: Mapping[str, object], command: Sequence[str], listener: socket.socket, log: Path
) -> Iterator[Fleet]:
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            cwd=ROOT,
            env=_environment(config),
            pass_fds=[listener.fileno()],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        yield Fleet(listener.getsockname()[1], process.pid, log)
    except BaseException:
        print(log.read_text(errors="replace"))  # pytest shows it
        raise
    finally:
        _end(process)


@contextmanager
def waitress(config: Mapping[str, object], processes: int) -> Iterator[Fleet]:
    """Run processes of waitress on one socket, like :func:`gunicorn`."""
    with tempfile.TemporaryDirectory(prefix="fleet-") as folder, _listening() as listener:
        log = Path(folder, "log")
        started: list[subprocess.Popen[bytes]] = []
        try:
            with log.open("wb") as output:
                for _ in range(processes):
                    started.append(
                        subprocess.Popen(
                            [sys.executable, "-c", _WAITRESS, str(listener.fileno())],
                            cwd=ROOT,
                            env=_environment(config),
                            pass_fds=[listener.fileno()],
                            stdin=subprocess.DEVNULL,
                            stdout=output,
                            stderr=subprocess.STDOUT,
                        )
                    )
            yield Fleet(listener.getsockname()[1], started[0].pid, log)
        except BaseException:
            print(log.read_text(errors="replace"))
            raise
        finally:
            for process in started:
                _end(process)


_WAITRESS = """
import socket, sys, waitress
from tests.processes.service_app import create_app

listener = socket.socket(fileno=int(sys.argv[1]))
waitress.serve(create_app(), sockets=[listener], threads=8)
"""


@contextmanager
def _listening() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0), backlog=1024) as listener:
        yield listener


def _has_control_socket() -> bool:
    import gunicorn as package

    return int(package.__version__.split(".")[0]) >= 25


def _environment(config: Mapping[str, object]) -> dict[str, str]:
    settings = {f"FLASK_{key}": json.dumps(value) for key, value in config.items()}
    return {**os.environ, **settings, "PYTHONUNBUFFERED": "1"}


def _end(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(STOPS_WITHIN)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
