"""Hold back log records and signals of a refresh until no caller waits for it any longer.

Log handlers, signal receivers and span processors belong to the application. They may be slow, or may request
the very value that is being refreshed, so none of them runs inside a refresh.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

Report = Callable[[], object]

Note = Callable[[Any], object]
"""Receives an outcome. Does not raise."""

_logger = logging.getLogger("flask_m2m_cognito")


@contextmanager
def unobserved(*_: object) -> Iterator[Note]:
    """Observe nothing: neither a request nor a refresh."""
    yield lambda outcome: None


class _Held(threading.local):
    reports: list[Report] | None = None


_held = _Held()


def report(send: Report) -> None:
    """Call ``send`` at once, or after the refresh that is in progress on this thread."""
    if _held.reports is None:
        send()
    else:
        _held.reports.append(send)


@contextmanager
def hold_reports() -> Iterator[list[Report]]:
    """Hold back the reports of this thread. Send them afterwards with :func:`send_reports`."""
    outer, _held.reports = _held.reports, []
    try:
        yield _held.reports
    finally:
        _held.reports = outer


def send_reports(reports: list[Report]) -> None:
    """Call each report, even after one has raised an exception."""
    for send in reports:
        try:
            send()
        except Exception:
            _logger.exception(
                "An observer of refreshes raised an exception.", extra={"event": "watcher-failed"}
            )
