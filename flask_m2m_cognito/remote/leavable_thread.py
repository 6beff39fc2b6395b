"""A thread that can be left behind: it never keeps the process alive, and never prints what ended it."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

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
