"""Threads that can be abandoned, values of each process, and errors of other code around the library's.

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
    """Run everything on the caller's thread, as if no thread could be started. For tests."""
    global _may_start_threads
    before, _may_start_threads = _may_start_threads, False
    try:
        yield
    finally:
        _may_start_threads = before


def start_daemon(run: Callable[[], None]) -> None:
    """Call ``run`` on a thread that does not keep the process alive.

    If an exception ends the thread, such as a ``SystemExit`` in a callable of the application, only its type
    is logged. Its text and its frames may hold a secret.

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
                "An unexpected %s stopped a background thread.",
                type(error).__name__,
                extra={"event": "thread-ended", "error": type(error).__name__},
            )

    threading.Thread(target=run_quietly, name="cognito-m2m-refresh", daemon=True).start()


T = TypeVar("T")


class PerProcess(Generic[T]):
    """A value that each process builds at its first use.

    A lock that another thread holds during a fork stays locked in the child, where that thread does not
    exist. Fork hooks do not help, because they do not run under uWSGI.
    """

    __slots__ = ("_build", "_values")

    def __init__(self, build: Callable[[], T]) -> None:
        self._build = build
        self._values: dict[int, T] = {}

    def get(self) -> T:
        """Return the value of this process."""
        pid = os.getpid()
        try:
            return self._values[pid]
        except KeyError:
            return self._values.setdefault(pid, self._build())  # setdefault is atomic


class ForeignError(Exception):
    """Code around ``requests``, such as a tracer, raised. The text is that of its error."""


def is_foreign(error: Exception) -> bool:
    """Return whether a fetch failed because of a :class:`ForeignError`."""
    return isinstance(getattr(error, "cause", None) or error.__cause__, ForeignError)


_REMEDY = (
    "cryptography works in only one interpreter of a process. Under mod_wsgi, set "
    "WSGIApplicationGroup %{GLOBAL}, and give each application its own process group."
)


@contextmanager
def explain_subinterpreters() -> Iterator[None]:
    """Add the remedy to the error if cryptography is imported in a sub-interpreter.

    PyO3's own message names neither a server nor a setting, and would be all that the log of the 500 shows.

    Raises:
        ImportError: the import failed. PyO3's error gets the remedy.
    """
    try:
        yield
    except ImportError as error:
        if "PyO3" not in str(error):
            raise
        raise ImportError(f"{error}. {_REMEDY}") from error
