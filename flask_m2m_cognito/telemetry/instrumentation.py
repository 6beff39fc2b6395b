"""Lets instrumentation observe an application's refreshes and HTTP requests while they run. Off by default.

Signals report what has happened. A span must start before the work, so the called code finds it, and must end
in any case. So instrumentation returns a context manager for the work.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from types import TracebackType
from typing import Any, Protocol

from ..remote.reports import Note, report
from ..remote.transport import Answer, OnRequest

EXTENSION = "cognito_m2m_instrumentation"
"""The key of an application's instrumentation in ``app.extensions``, set before or after ``init_app``."""

Of = Mapping[str, str]
"""The owner of the work: ``pool_id``, or ``client`` and ``client_id``, and for a refresh ``scopes``."""

_logger = logging.getLogger("flask_m2m_cognito")


class Instrumentation(Protocol):
    """Observes work. Its exceptions are logged and swallowed."""

    def request(self, method: str, url: str, of: Of) -> AbstractContextManager[Note]:
        """Return a context manager for one HTTP request, entered on its thread."""

    def refresh(self, value: str, of: Of, is_background: bool) -> AbstractContextManager[Note]:
        """Return a context manager for a refresh of ``"keys"`` or a ``"token"``, entered on its thread.

        Called on the thread that starts the refresh. If ``is_background``, that thread does not wait for it.
        """


def observe_requests(app: Any, of: Of, look_at: Callable[[Answer], object]) -> OnRequest:
    """Return a function that returns a context manager for each request. ``look_at`` gets each answer."""

    def note(outcome: object) -> None:
        if isinstance(outcome, Answer):
            look_at(outcome)

    def observe(method: str, url: str) -> AbstractContextManager[Note]:
        instrumentation = app.extensions.get(EXTENSION)
        if instrumentation is None:
            return nullcontext(note)
        return _Guarded(lambda: instrumentation.request(method, url, of), note)

    return observe


def around_refresh(app: Any, value: str, of: Of, is_background: bool) -> AbstractContextManager[Note]:
    """Return a context manager for a refresh of ``value``."""
    instrumentation = app.extensions.get(EXTENSION)
    if instrumentation is None:
        return nullcontext(_ignore)
    return _Guarded(lambda: instrumentation.refresh(value, of, is_background), _ignore)


def _ignore(outcome: object) -> None:
    pass


class _Guarded:
    """A context manager that never raises, around one that may. ``note`` receives the outcome, too."""

    def __init__(self, make: Callable[[], AbstractContextManager[Note]], note: Note) -> None:
        self._inner = _try(make)
        self._note = note
        self._inner_note: Note | None = None

    def __enter__(self) -> Note:
        if self._inner is not None:
            self._inner_note = _try(self._inner.__enter__)
        return self._note_outcome

    def _note_outcome(self, outcome: object) -> None:
        self._note(outcome)
        if self._inner_note is not None:
            _try(self._inner_note, outcome)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._inner_note is not None:
            try:
                self._inner.__exit__(kind, error, traceback)
            except BaseException as raised:
                if raised is not error:
                    _log(raised)


def _try(call: Callable[..., Any], *arguments: Any) -> Any:
    try:
        return call(*arguments)
    except Exception as error:
        _log(error)
        return None


def _log(error: BaseException) -> None:
    log = functools.partial(_logger.error, exc_info=error, extra={"event": "watcher-failed"})
    report(functools.partial(log, "Instrumentation raised an exception, which is ignored."))
