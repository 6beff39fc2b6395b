"""Run the programs of the journeys as users do: as processes, with settings in the environment."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import requests

from tests.support.sockets import free_port

ROOT = Path(__file__).parents[2]
HOST = "127.0.0.1"
READY_WITHIN = 60.0
STOPS_WITHIN = 15.0


@dataclass(frozen=True)
class Program:
    """A running process that answers at ``url``."""

    url: str
    pid: int
    _log: Path

    @property
    def log(self) -> str:
        """The output so far."""
        return self._log.read_text(errors="replace")

    def get(self, path: str, token: str | None = None) -> requests.Response:
        return self.request("GET", path, token)

    def post(self, path: str, token: str | None = None) -> requests.Response:
        return self.request("POST", path, token)

    def request(self, method: str, path: str, token: str | None = None) -> requests.Response:
        """Send a request on a new connection, without a proxy."""
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        with requests.Session() as session:
            session.trust_env = False
            return session.request(
                method, self.url + path, headers={"Connection": "close", **headers}, timeout=30
            )


@contextmanager
def flask_run(app: str, settings: Mapping[str, object]) -> Generator[Program, None, None]:
    """Run ``flask --app … run`` on a free port."""
    port = free_port()
    with program(["flask", "--app", app, "run", "--port", str(port)], port, settings) as running:
        yield running


@contextmanager
def program(
    command: Sequence[str],
    port: int,
    settings: Mapping[str, object],
    environ: Mapping[str, str] | None = None,
) -> Generator[Program, None, None]:
    """Run ``python -m`` with the command, each setting as ``FLASK_…`` in its environment, and ``environ``.

    The ``with`` block starts when the program listens on the port.
    """
    with tempfile.TemporaryDirectory(prefix="journey-") as folder:
        log = Path(folder, "log")
        with log.open("wb") as output:
            process = subprocess.Popen(
                [sys.executable, "-m", *command],
                cwd=ROOT,
                env={**_environment(settings), **(environ or {}), "XDG_RUNTIME_DIR": folder},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        running = Program(f"http://{HOST}:{port}", process.pid, log)
        try:
            _wait_until_it_listens(process, port)
            yield running
        except BaseException:
            print(running.log)  # pytest shows it
            raise
        finally:
            _stop(process)


def run(command: Sequence[str], settings: Mapping[str, object]) -> tuple[int, str]:
    """Run ``python -m`` with the command, and return its exit status and its output."""
    done = subprocess.run(
        [sys.executable, "-m", *command],
        cwd=ROOT,
        env=_environment(settings),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=READY_WITHIN,
        check=False,
    )
    return done.returncode, done.stdout


def _wait_until_it_listens(process: subprocess.Popen[bytes], port: int) -> None:
    deadline = time.monotonic() + READY_WITHIN
    while time.monotonic() < deadline:
        try:
            socket.create_connection((HOST, port), timeout=1).close()
        except OSError:
            try:
                process.wait(0.02)
            except subprocess.TimeoutExpired:
                continue
            break
        else:
            return
    raise AssertionError(f"Nothing listens on port {port}; exit status {process.poll()}")


def _environment(settings: Mapping[str, object]) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("FLASK_", "OTEL_"))}
    given = {
        f"FLASK_{key}": value if isinstance(value, str) else json.dumps(value)
        for key, value in settings.items()
    }
    return {**kept, **given, "PYTHONUNBUFFERED": "1", "NO_PROXY": HOST}


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(STOPS_WITHIN)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
