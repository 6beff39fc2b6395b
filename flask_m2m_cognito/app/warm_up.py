"""Fetches keys and tokens before the first request."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any

from ..exceptions import KeysUnavailableError, TokenUnavailableError
from ..remote.clock import Deadline
from ..remote.refreshable import Refreshable
from ..remote.threads import start_daemon


def ask_all(values: Sequence[Refreshable[Any]], timeout: float) -> list[Exception]:
    """Get all ``values`` at once, and wait for at most ``timeout`` seconds. Return the failures, in no order.

    A value that is late is still fetched, and counts as a :class:`TimeoutError`.
    """
    for value in values:
        # On this thread: a child that is forked during another thread's import waits for that import forever.
        value.prepare()
    failures: list[Exception] = []
    deadline = Deadline(timeout)
    done = [_start(value.get, failures) for value in values]
    late = sum(not each.wait(deadline.left()) for each in done)
    return [*failures, *(TimeoutError(f"not finished within {timeout:g} s") for _ in range(late))]


def _start(get: Callable[[], object], failures: list[Exception]) -> threading.Event:
    done = threading.Event()

    def run() -> None:
        try:
            get()
        except (KeysUnavailableError, TokenUnavailableError) as error:
            failures.append(error)
        finally:
            done.set()

    try:
        start_daemon(run)
    except (RuntimeError, OSError):
        run()
    return done
