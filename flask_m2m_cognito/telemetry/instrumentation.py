"""What observes an application's refreshes and remote calls while they are under way: nothing, by default.

The signals report what has happened. A span must be there before, so that what is called finds it, and must
end whatever happens: so it is a context manager around the work.
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
"""Where an application has its instrumentation, in ``app.extensions``; before ``init_app`` or after it."""

Of = Mapping[str, str]
"""Whose it is: ``pool_id``; or ``client``, ``client_id`` and, of a refresh, ``scopes``."""

_logger = logging.getLogger("flask_m2m_cognito")


class Instrumentation(Protocol):
    """Observes work. What it raises is logged, and changes nothing."""

    def request(self, method: str, url: str, of: Of) -> AbstractContextManager[Note]:
        """Return what is entered around one HTTP request, on its thread. It is given the outcome."""

    def refresh(self, value: str, of: Of, is_background: bool) -> AbstractContextManager[Note]:
        """Return what is entered around a refresh of the ``"keys"`` or the ``"token"``, on its thread.

        Called on the thread of the caller who starts it. ``is_background``: that caller does not wait.
        """


def observe_requests(app: Any, of: Of, look_at: Callable[[Answer], object]) -> OnRequest:
    """Return what ``app``'s HTTP requests happen in. ``look_at`` is given each answer."""

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
    """Return what a refresh of ``app``'s ``value`` happens in."""
    instrumentation = app.extensions.get(EXTENSION)
    if instrumentation is None:
        return nullcontext(_ignore)
    return _Guarded(lambda: instrumentation.refresh(value, of, is_background), _ignore)


def _ignore(outcome: object) -> None:
    pass


class _Guarded:
    """A context manager that never raises, around one that may. ``note`` is given the outcome as well."""

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
    report(functools.partial(log, "The instrumentation of remote calls raised."))
