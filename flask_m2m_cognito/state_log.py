"""Log records of a change of state: once when it begins, once when it has ended."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from .remote.freshness import Observer, Refreshed, RefreshFailed

_logger = logging.getLogger("flask_m2m_cognito")


def refresh_log(what: str, still: Callable[[], str] = lambda: "") -> Observer:
    """An observer that logs when ``what`` can't be fetched any more, and when it can again.

    Args:
        what: such as ``"the keys of the user pool"``.
        still: a remark about what serves meanwhile.
    """

    def observe(event: Refreshed[Any] | RefreshFailed) -> None:
        if isinstance(event, Refreshed):
            if event.recovered:
                _logger.info("Recovered: %s could be fetched again.", what)
        elif event.count == 1:
            serving = still() or (
                "what is held goes on serving" if event.has_value else "there is none in hand"
            )
            _logger.warning(
                "Can't fetch %s (%s): %s. Next try in %.0f s.",
                what,
                f"{type(event.error).__name__}: {event.error}",
                serving,
                event.retry_in,
            )

    return observe


def store_log(works: bool, error: Exception | None) -> None:
    """Log when the cache stops working, and when it works again."""
    if works:
        _logger.info("Recovered: the cache works again.")
    else:
        _logger.warning(
            "The cache does not work (%s): each process keeps keys and tokens to itself until it does.",
            type(error).__name__,
        )
