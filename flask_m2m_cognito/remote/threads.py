"""Threads that can be left, values of each process, and what other code does to either.

A server may fork at any time, kill threads, or run several interpreters in one process.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Generic, TypeVar

_logger = logging.getLogger("flask_m2m_cognito")

_may_start_threads = True


@contextmanager
def no_threads() -> Iterator[None]:
    """Have everything run on the thread that asks for it, as where no thread can be started. For tests."""
    global _may_start_threads
    before, _may_start_threads = _may_start_threads, False
    try:
        yield
    finally:
        _may_start_threads = before


def start_daemon(run: Callable[[], None]) -> None:
    """Run ``run`` on a thread that does not keep the process alive.

    Whatever ends it, such as a ``SystemExit`` in a callable of the application, ends it without a
    traceback: its text and its frames may hold a secret.

    Raises:
        RuntimeError: no thread can be started, at shutdown, at a limit, or in :func:`no_threads`.
    """
    if not _may_start_threads:
        raise RuntimeError("threads are turned off")

    def run_quietly() -> None:
        try:
            run()
        except BaseException as error:
            _logger.error(
                "A background thread was ended by %s.",
                type(error).__name__,
                extra={"event": "thread-ended", "error": type(error).__name__},
            )

    threading.Thread(target=run_quietly, name="cognito-m2m-refresh", daemon=True).start()


T = TypeVar("T")


class PerProcess(Generic[T]):
    """A value of each process, made at its first use there.

    A lock that another thread holds at a fork stays held in the child, where that thread does not exist.
    Hooks at a fork would not do: they do not run under uWSGI.
    """

    __slots__ = ("_made", "_make")

    def __init__(self, make: Callable[[], T]) -> None:
        self._make = make
        self._made: dict[int, T] = {}

    def get(self) -> T:
        """Return the value of this process."""
        pid = os.getpid()
        try:
            return self._made[pid]
        except KeyError:
            return self._made.setdefault(pid, self._make())  # setdefault is atomic


class ForeignError(Exception):
    """Code around ``requests`` raised. The text is that of its error."""


def is_foreign(error: Exception) -> bool:
    """Return whether a fetch failed because of a :class:`ForeignError`."""
    return isinstance(getattr(error, "cause", None) or error.__cause__, ForeignError)


_REMEDY = (
    "cryptography works in one interpreter of a process only. Under mod_wsgi, set "
    "WSGIApplicationGroup %{GLOBAL}, and give each application a process group of its own."
)


@contextmanager
def explain_subinterpreters() -> Iterator[None]:
    """Add the remedy to the error of an import of cryptography in a sub-interpreter.

    Without it, the log of the 500 has PyO3's words alone, which name no server and no setting.

    Raises:
        ImportError: as raised within; if it is PyO3's, with the remedy.
    """
    try:
        yield
    except ImportError as error:
        if "PyO3" not in str(error):
            raise
        raise ImportError(f"{error}. {_REMEDY}") from error
