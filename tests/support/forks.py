"""Forked children, for tests of what a fork leaves behind and of what processes share."""

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
    """What ``run`` returns in a forked child: plain data. Fails if it raises, or does not end."""
    return in_children(1, run)[0]


def in_children(count: int, run: Callable[[], Any]) -> list[Any]:
    """What ``run`` returns in each of ``count`` forked children that begin at one moment."""
    waiting, go = os.pipe()
    children = [_fork(run, waiting, go) for _ in range(count)]
    os.close(waiting)
    os.close(go)  # ends the read that all of them wait in
    values = []
    for pid, answer in children:
        with os.fdopen(answer, "rb") as pipe:
            text = pipe.read().decode()
        os.waitpid(pid, 0)
        assert text.startswith("{"), text or "the child hangs"
        values.append(json.loads(text)["value"])
    return values


def _fork(run: Callable[[], Any], waiting: int, go: int) -> tuple[int, int]:
    """A child's process id, and where to read what it returns. One that hangs is ended by an alarm."""
    reading, writing = os.pipe()
    with warnings.catch_warnings():
        # Python 3.12 warns of a fork beside threads, which is what these tests are about.
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
    os._exit(0)  # not pytest's way out
