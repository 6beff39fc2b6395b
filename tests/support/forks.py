"""Forked children, for tests of state after a fork and of sharing between processes."""

from __future__ import annotations

import json
import os
import signal
import warnings
from collections.abc import Callable
from typing import Any, TypeVar

import pytest

Subject = TypeVar("Subject", bound=Callable[..., object])


def needs_fork(subject: Subject) -> Subject:
    """Skip where there is no ``os.fork``."""
    marked: Subject = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")(subject)
    return marked


def in_a_child(run: Callable[[], Any]) -> Any:
    """Return what ``run`` returns in a forked child, as plain data. Fail if it raises or does not end."""
    return in_children(1, run)[0]


def in_children(count: int, run: Callable[[], Any]) -> list[Any]:
    """Return what ``run`` returns in each of ``count`` forked children that start together."""
    waiting, go = os.pipe()
    children = [_fork(run, waiting, go) for _ in range(count)]
    os.close(waiting)
    os.close(go)  # ends the read in which all of them wait
    values = []
    for pid, answer in children:
        with os.fdopen(answer, "rb") as pipe:
            text = pipe.read().decode()
        os.waitpid(pid, 0)
        assert text.startswith("{"), text or "the child hangs"
        values.append(json.loads(text)["value"])
    return values


def _fork(run: Callable[[], Any], waiting: int, go: int) -> tuple[int, int]:
    """Fork. Return the child's process id and a pipe with its result. An alarm ends a child that hangs."""
    reading, writing = os.pipe()
    with warnings.catch_warnings():
        # Python 3.12 warns about forks in processes with threads, which these tests do on purpose.
        warnings.simplefilter("ignore", DeprecationWarning)
        pid = os.fork()
    if pid:
        os.close(writing)
        return pid, reading
    signal.alarm(20)
    os.close(go)
    try:
        os.read(waiting, 1)
        text = json.dumps({"value": run()})
    except BaseException as error:
        text = repr(error)
    os.write(writing, text.encode())
    os._exit(0)  # without pytest's shutdown
