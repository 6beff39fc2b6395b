"""Who is told of an application's refreshes and remote calls while they are under way: nobody, by default.

The signals tell of what has happened. A span must be there before, so that what is called finds it, and
must end whatever happens. So a watcher's methods are told of a beginning, and give what is told of the end.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from ..remote.freshness import Around, Ask, Fetch, Fetched, T
from ..remote.reports import report
from ..remote.transport import Answer, OnCall

EXTENSION = "cognito_m2m_watcher"
"""Where an application has its watcher, in ``app.extensions``; before ``init_app`` or after it."""

Of = Mapping[str, str]
"""Whose it is: ``pool_id``; or ``client``, ``client_id`` and, of a refresh, ``scopes``."""

_logger = logging.getLogger("flask_m2m_cognito")


class Watcher(Protocol):
    """Is told of beginnings. One that raises is logged, and harms nobody."""

    def call(self, method: str, url: str, of: Of) -> Callable[[Answer | BaseException], object]:
        """One HTTP request begins, on this thread. What it gives is told the end, on the same one."""

    def refresh(
        self, value: str, of: Of, is_background: bool
    ) -> Callable[[], Callable[[Fetched[Any] | BaseException], object]]:
        """The ``"keys"`` or the ``"token"`` are to be refreshed for a caller, whose thread this is.

        What it gives is called when the refresh begins, on the thread that fetches, and what that
        gives is told the end, there. ``is_background``: the caller does not wait for it.
        """


def on_call_of(app: Any, of: Of) -> OnCall:
    """Tells ``app``'s watcher of HTTP requests."""

    def on_call(method: str, url: str) -> Callable[[Answer | BaseException], object]:
        watcher = _watcher_of(app)
        return _nobody if watcher is None else _told(watcher.call, method, url, of)

    return on_call


def around_refresh_of(app: Any, value: str, of: Of) -> Around:
    """Tells ``app``'s watcher of refreshes."""

    def around(fetch: Fetch[T], is_background: bool) -> Fetch[T]:
        watcher = _watcher_of(app)
        if watcher is None:
            return fetch
        return _watched(fetch, _told(watcher.refresh, value, of, is_background))

    return around


def _watcher_of(app: Any) -> Watcher | None:
    watcher: Watcher | None = app.extensions.get(EXTENSION)
    return watcher


def _watched(fetch: Fetch[T], begin: Callable[[], Callable[[object], object]]) -> Fetch[T]:
    def watched(ask: Ask[T]) -> Fetched[T]:
        end = begin()
        try:
            fetched = fetch(ask)
        except BaseException as error:
            end(error)
            raise
        end(fetched)
        return fetched

    return watched


def _told(tell: Callable[..., Any], *arguments: Any) -> Callable[..., Any]:
    """What ``tell`` gives for what comes next, which may raise as little as this may."""
    try:
        following = tell(*arguments)
    except Exception as error:
        log = functools.partial(_logger.error, exc_info=error, extra={"event": "watcher-failed"})
        report(functools.partial(log, "What watches remote calls raised."))
        return _nobody
    return functools.partial(_told, following)


def _nobody(*_: object) -> Callable[..., Any]:
    return _nobody
