"""gunicorn over :mod:`served_app`, and the CPU time that its workers take."""

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
    """Four sync workers, cold. Requests may be sent at once."""
    config = {VARIABLE.removeprefix("FLASK_"): asdict(plan)}
    options = ["-k", "sync", "-w", str(WORKERS)]
    return fleet.gunicorn(config, options, "tests.benchmarks.served_app:create_app()")


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
