"""Log records of a change of state: once when it begins, once when it has ended."""

from __future__ import annotations

import logging
from typing import Any

from ..remote.freshness import Observer, Refreshed, RefreshFailed
from ..remote.redaction import describe_error

_MOST_TROUBLES = 10

_logger = logging.getLogger("flask_m2m_cognito")


def refresh_log(what: str, event_prefix: str, **fields: str | None) -> Observer:
    """An observer that logs when ``what`` can't be fetched any more, and when it can again.

    Args:
        what: such as ``"the keys of the user pool"``.
        event_prefix: of the record's ``event`` field, such as ``"keys"``.
        fields: more fields of the record.
    """

    told: set[object] = set()

    def observe(event: Refreshed[Any] | RefreshFailed) -> None:
        if isinstance(event, Refreshed):
            told.clear()
            if event.recovered:
                extra = {"event": f"{event_prefix}-recovered", **fields}
                _logger.info("Recovered: %s could be fetched again.", what, extra=extra)
            return
        # Once for each kind of trouble: a wrong secret may come to light after an outage, and an outage
        # may outlast what still serves.
        serves = event.has_value or event.source == "pinned"
        trouble = (getattr(event.error, "error_code", None), event.source == "pinned", serves)
        if trouble not in told and len(told) < _MOST_TROUBLES:
            told.add(trouble)
            _logger.log(
                logging.WARNING if serves else logging.ERROR,
                "Can't fetch %s (%s): %s. Next try in %.0f s.",
                what,
                f"{type(event.error).__name__}: {event.error}",
                _remark(event),
                event.retry_in,
                extra={"event": f"{event_prefix}-failed", "retry_in": event.retry_in, **fields},
            )

    return observe


def store_log(error: Exception | None) -> None:
    """Log when the cache stops working, and when it works again."""
    if error is None:
        _logger.info("Recovered: the cache works again.", extra={"event": "store-recovered"})
    else:
        _logger.warning(
            "The cache does not work: %s. Each process keeps keys and tokens to itself until it does.",
            describe_error(error),
            extra={"event": "store-failed", "error": type(error).__name__},
        )


def _remark(event: RefreshFailed) -> str:
    if event.source == "pinned":
        return "the pinned keys serve, which do not age"
    return "what is held goes on serving" if event.has_value else "there is none in hand"
