"""Asks for keys and tokens before the first request does."""

from __future__ import annotations

import importlib
import threading
from collections.abc import Callable, Iterable

from ..exceptions import KeysUnavailableError, TokenUnavailableError
from ..remote.clock import Deadline
from ..remote.threads import start_daemon

Ask = Callable[[], object]

_LATE_IMPORTS = (
    "jwt.algorithms",
    "flask_m2m_cognito.remote.bounded_adapter",
)


def ask_all(
    asks: Iterable[Ask],
    timeout: float,
    start_thread: Callable[[Callable[[], None]], None] = start_daemon,
) -> list[Exception]:
    """Run ``asks`` at once and wait for at most ``timeout`` seconds. What went wrong, in no order.

    An ask that is not done by then goes on; it counts as a :class:`TimeoutError`.
    """
    _import_what_is_late()
    failures: list[Exception] = []
    deadline = Deadline(timeout)
    done = [_started(ask, failures, start_thread) for ask in asks]
    late = sum(not each.wait(deadline.left()) for each in done)
    return [*failures, *(TimeoutError(f"not done within {timeout:g} s") for _ in range(late))]


def _import_what_is_late() -> None:
    # On this thread: a child that is forked while another one imports waits for that import for ever.
    for name in _LATE_IMPORTS:
        importlib.import_module(name)


def _started(
    ask: Ask, failures: list[Exception], start_thread: Callable[[Callable[[], None]], None]
) -> threading.Event:
    done = threading.Event()

    def run() -> None:
        try:
            ask()
        except (KeysUnavailableError, TokenUnavailableError) as error:
            failures.append(error)
        finally:
            done.set()

    try:
        start_thread(run)
    except (RuntimeError, OSError):
        run()
    return done
