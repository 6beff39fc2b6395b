"""Reports events of one application's keys and tokens to its log, its signals and its instrumentation.

A failure is logged once when it begins, and once when it ends.
"""

from __future__ import annotations

import logging
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, Literal

from .. import signals
from ..inbound.revocation_source import NOT_READ
from ..inbound.validated_access_token import ValidatedAccessToken
from ..outbound.refused_calls import RefusedCall, RefusedCallLog
from ..remote.clock import SYSTEM, Clock
from ..remote.freshness import Refreshed, RefreshFailed, RefreshObserver
from ..remote.redaction import describe_error
from ..remote.reports import Note
from ..web.rejection_log import Rejection, RejectionLog
from .instrumentation import Of, around_refresh

_MOST_KINDS = 10

_logger = logging.getLogger("flask_m2m_cognito")


class Events:
    """Reports events. Its methods are called without any lock held.

    Args:
        app: the sender of the signals.
        clock: the clock for counting rejections.
    """

    def __init__(self, app: Any, clock: Clock = SYSTEM) -> None:
        self._app = app
        self._rejections = RejectionLog(app, clock)
        self._refused_calls = RefusedCallLog(clock)

    def token_accepted(self, token: ValidatedAccessToken, is_remembered: bool) -> None:
        """Report that a guard accepted a request."""
        check = "memory" if is_remembered else "signature"
        signals.send(signals.token_accepted, self._app, token=token, check=check)

    def token_rejected(self, rejection: Rejection) -> None:
        """Report that a guard rejected a request."""
        self._rejections.note(rejection)
        signals.send(
            signals.token_rejected,
            self._app,
            reason=rejection.reason,
            status=rejection.status,
            kid=rejection.kid,
            path=rejection.path,
            client_id=rejection.client_id,
            token_scopes=rejection.token_scopes,
            required_scopes=rejection.required_scopes,
        )

    def call_refused(self, call: RefusedCall) -> None:
        """Report that another service refused a call of this application."""
        self._refused_calls.note(call)

    def store_changed(self, works: bool, error: Exception | None) -> None:
        """Report that the cache became unavailable, or available again."""
        if error is None:
            _logger.info("Recovered: the cache is available again.", extra={"event": "store-recovered"})
        else:
            _logger.warning(
                "The cache is unavailable: %s. Meanwhile each process fetches its own keys and tokens.",
                describe_error(error),
                extra={"event": "store-failed", "error": type(error).__name__},
            )
        name = None if error is None else type(error).__name__
        signals.send(signals.store_state_changed, self._app, works=works, error=name)

    def of_keys(self, pool_id: str) -> RefreshObserver:
        """Return an observer of a pool's keys."""
        return _Observer(
            self._app,
            "keys",
            f"the keys of user pool {pool_id}",
            of={"pool_id": pool_id},
            log_fields={"pool": pool_id},
            signal_arguments={"pool_id": pool_id},
        )

    def of_token(self, client: str | None, client_id: str, scopes: str) -> RefreshObserver:
        """Return an observer of a client's token."""
        fields = {"client_id": client_id, "scopes": scopes}
        return _Observer(
            self._app,
            "token",
            f"an access token for client {client_id}",
            of={"client": client or "default", **fields},
            log_fields=fields,
            signal_arguments={"client": client, **fields},
        )

    def of_revocations(self) -> RefreshObserver:
        """Return an observer of the list of revocations."""
        return _Observer(
            self._app, "revocations", "the list of revocations", of={}, log_fields={}, signal_arguments={}
        )


_SIGNALS = {
    "keys": (signals.keys_refreshed, signals.keys_failed),
    "token": (signals.token_obtained, signals.token_failed),
}

_CONSEQUENCES = {
    "keys": ("no usable keys are cached, so requests get 503", "the cached keys stay in use"),
    "token": ("no usable token is cached, so calls fail", "the cached token stays in use"),
    "revocations": ("none was read yet, so revoked tokens are accepted", "the last list stays in force"),
}
"""What a failed refresh means: without a usable value, and with one."""


@dataclass(frozen=True)
class _Observer:
    """Reports the refreshes of one value to the instrumentation, the log and the signals."""

    app: Any  # the sender of the signals
    value: Literal["keys", "token", "revocations"]  # also the beginning of the log record's event
    description: str
    of: Of  # its pool or client, for the instrumentation
    log_fields: dict[str, str]
    signal_arguments: dict[str, str | None]
    logged: set[object] = field(default_factory=set)  # the kinds of failure since the last success

    def around(self, is_background: bool) -> AbstractContextManager[Note]:
        """Return the context manager of the instrumentation for a fetch."""
        return around_refresh(self.app, self.value, self.of, is_background)

    def ended(self, event: Refreshed[Any] | RefreshFailed) -> None:
        """Log the first failure and the recovery, and send a signal if the value has one."""
        if isinstance(event, Refreshed):
            self._log_success(event)
        else:
            self._log_failure(event)
        if self.value in _SIGNALS:
            signal = _SIGNALS[self.value][not isinstance(event, Refreshed)]
            signals.send(signal, self.app, **self.signal_arguments, **_facts(event))

    def _log_success(self, event: Refreshed[Any]) -> None:
        self.logged.clear()
        if event.recovered:
            extra = {"event": f"{self.value}-recovered", **self.log_fields}
            _logger.info("Recovered: fetched %s again.", self.description, extra=extra)

    def _log_failure(self, event: RefreshFailed) -> None:
        # Once for each kind of failure: a wrong secret may be found only after an outage, and an outage may
        # last longer than the cached value.
        is_usable = (event.has_value or event.source == "pinned") and event.source != NOT_READ
        kind = (getattr(event.error, "error_code", None), event.source == "pinned", is_usable)
        if kind in self.logged or len(self.logged) >= _MOST_KINDS:
            return
        self.logged.add(kind)
        consequence = _CONSEQUENCES[self.value][is_usable]
        if event.source == "pinned":
            consequence = "the pinned keys stay in use"
        _logger.log(
            logging.WARNING if is_usable else logging.ERROR,
            "Could not fetch %s: %s; %s. Next try in %.0f s.",
            self.description,
            f"{type(event.error).__name__}: {event.error}".rstrip("."),
            consequence,
            event.retry_in,
            extra={"event": f"{self.value}-failed", "retry_in": event.retry_in, **self.log_fields},
        )


def _facts(event: Refreshed[Any] | RefreshFailed) -> dict[str, Any]:
    if isinstance(event, Refreshed):
        return {
            "source": event.fetched.source,
            "seconds": event.seconds,
            "recovered": event.recovered,
        }
    return {
        "error": event.error,
        "count": event.count,
        "retry_in": event.retry_in,
        "has_value": event.has_value,
        "seconds": event.seconds,
    }
