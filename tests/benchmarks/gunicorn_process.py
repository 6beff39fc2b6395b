"""gunicorn over :mod:`served_app`, and the CPU time that its workers take."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.benchmarks.served_app import Plan
from tests.processes.fleet import Fleet

ROOT = Path(__file__).parents[2]
WORKERS = 4
STARTS_WITHIN = 30.0


@contextmanager
def gunicorn(plan: Plan) -> Iterator[Fleet]:
    """Four sync workers, cold. Requests may be sent at once."""
    with (
        tempfile.TemporaryDirectory(prefix="benchmark-") as folder,
        socket.create_server(("127.0.0.1", 0), backlog=1024) as listener,
    ):
        log = Path(folder, "log")
        with log.open("wb") as output:
            process = subprocess.Popen(
                _command(listener.fileno(), folder),
                cwd=ROOT,
                env={**os.environ, **plan.to_environment(), "PYTHONUNBUFFERED": "1"},
                pass_fds=[listener.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        try:
            yield Fleet(listener.getsockname()[1], process.pid, log)
        finally:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def workers_of(fleet: Fleet) -> list[int]:
    """The ids of its workers, once all are there.

    Raises:
        TimeoutError: they did not come.
    """
    until = time.monotonic() + STARTS_WITHIN
    children = Path(f"/proc/{fleet.pid}/task/{fleet.pid}/children")
    while time.monotonic() < until:
        pids = [int(pid) for pid in children.read_text().split()]
        if len(pids) == WORKERS:
            return pids
        time.sleep(0.05)
    raise TimeoutError(f"the workers did not start:\n{fleet.log}")


def cpu_seconds(pids: list[int]) -> float:
    """What these processes have spent so far."""
    # Linux makes the id of another process's CPU clock so: clock_getcpuclockid(3). /proc counts in 10 ms.
    return sum(time.clock_gettime((~pid << 3) | 2) for pid in pids)


def _command(descriptor: int, folder: str) -> list[str]:
    import gunicorn as package

    quiet = ["--no-control-socket"] if int(package.__version__.split(".")[0]) >= 25 else []
    return [
        *(sys.executable, "-m", "gunicorn", "--bind", f"fd://{descriptor}", "-k", "sync"),
        *("-w", str(WORKERS), "--worker-tmp-dir", folder, *quiet),
        "tests.benchmarks.served_app:create_app()",
    ]
