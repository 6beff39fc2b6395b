"""Forked children, for tests of what a fork leaves behind and of what processes share."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from typing import TypeVar

import pytest

Subject = TypeVar("Subject", bound=Callable[..., object])


def needs_fork(subject: Subject) -> Subject:
    """Skip where there is no ``os.fork``, and let Python 3.12 and later say nothing of forks with threads."""
    quiet = pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
    marked: Subject = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")(quiet(subject))
    return marked


def in_a_child(run: Callable[[], str]) -> str:
    """What ``run`` gives in a forked child, or its error."""
    return in_children(1, run)[0]


def in_children(count: int, run: Callable[[], str]) -> list[str]:
    """What ``run`` gives, or its error, in each of ``count`` forked children that begin at one moment."""
    waiting, go = os.pipe()
    children = [_forked(run, waiting, go) for _ in range(count)]
    os.close(waiting)
    os.close(go)  # ends the read that all of them wait in
    said = []
    for pid, answer in children:
        with os.fdopen(answer, "rb") as pipe:
            said.append(pipe.read().decode())
        os.waitpid(pid, 0)
    return said


def _forked(run: Callable[[], str], waiting: int, go: int) -> tuple[int, int]:
    """A child's process id, and where to read what it says. One that hangs is ended by an alarm."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid:
        os.close(writing)
        return pid, reading
    signal.alarm(20)
    os.close(go)
    try:
        os.read(waiting, 1)
        said = run()
    except BaseException as error:
        said = repr(error)
    os.write(writing, said.encode())
    os._exit(0)
