"""Run :mod:`served_app` in gunicorn, and read the CPU time of its workers."""

from __future__ import annotations

import time
from contextlib import AbstractContextManager
from dataclasses import asdict
from pathlib import Path

from tests.benchmarks.served_app import VARIABLE, Plan
from tests.processes import fleet
from tests.processes.fleet import Fleet

WORKERS = 4
STARTS_WITHIN = 30.0


def gunicorn(plan: Plan) -> AbstractContextManager[Fleet]:
    """Start four sync workers, cold. Requests may be sent at once."""
    config = {VARIABLE.removeprefix("FLASK_"): asdict(plan)}
    options = ["-k", "sync", "-w", str(WORKERS)]
    return fleet.gunicorn(config, options, "tests.benchmarks.served_app:create_app()")


def workers_of(fleet: Fleet) -> list[int]:
    """Wait until all workers run, and return their process ids.

    Raises:
        TimeoutError: they did not start in time.
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
    """Return the CPU seconds of these processes so far."""
    # Linux builds the id of another process's CPU clock like this, see clock_getcpuclockid(3). The figures
    # in /proc have a resolution of only 10 ms.
    return sum(time.clock_gettime((~pid << 3) | 2) for pid in pids)
