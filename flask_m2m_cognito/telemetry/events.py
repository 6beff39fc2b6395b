"""Reports what happens to one application's keys and tokens: to its log, its signals and its instrumentation.

The log has a change of state once when it begins, and once when it ends.
"""

from __future__ import annotations

import logging
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, Literal

from .. import signals
from ..inbound.validated_access_token import ValidatedAccessToken
from ..outbound.refused_calls import RefusedCall, RefusedCallLog
from ..remote.clock import SYSTEM, Clock
from ..remote.freshness import Refreshed, RefreshFailed, RefreshObserver
from ..remote.redaction import describe_error
from ..remote.reports import Note
from ..web.rejection_log import Rejection, RejectionLog
from .instrumentation import Of, around_refresh

_MOST_TROUBLES = 10

_logger = logging.getLogger("flask_m2m_cognito")


class Events:
    """Reports events. Each method is called outside locks.

    Args:
        app: the signals' sender.
        clock: by which rejections are counted.
    """

    def __init__(self, app: Any, clock: Clock = SYSTEM) -> None:
        self._app = app
        self._rejections = RejectionLog(app, clock)
        self._refused_calls = RefusedCallLog(clock)

    def token_accepted(self, token: ValidatedAccessToken, is_remembered: bool) -> None:
        """A guard let a request in."""
        check = "memory" if is_remembered else "signature"
        signals.send(signals.token_accepted, self._app, token=token, check=check)

    def token_rejected(self, rejection: Rejection) -> None:
        """A guard rejected a request."""
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
        """A peer refused a call of this application's."""
        self._refused_calls.note(call)

    def store_changed(self, works: bool, error: Exception | None) -> None:
        """The cache went down, or is back."""
        if error is None:
            _logger.info("Recovered: the cache works again.", extra={"event": "store-recovered"})
        else:
            _logger.warning(
                "The cache does not work: %s. Each process keeps keys and tokens to itself until it does.",
                describe_error(error),
                extra={"event": "store-failed", "error": type(error).__name__},
            )
        name = None if error is None else type(error).__name__
        signals.send(signals.store_state_changed, self._app, works=works, error=name)

    def of_keys(self, pool_id: str) -> RefreshObserver:
        """An observer of a pool's keys."""
        return _Observer(
            self._app,
            "keys",
            f"the keys of user pool {pool_id}",
            of={"pool_id": pool_id},
            log_fields={"pool": pool_id},
            signal_arguments={"pool_id": pool_id},
        )

    def of_token(self, client: str | None, client_id: str, scopes: str) -> RefreshObserver:
        """An observer of a client's token."""
        fields = {"client_id": client_id, "scopes": scopes}
        return _Observer(
            self._app,
            "token",
            f"an access token for client {client_id}",
            of={"client": client or "default", **fields},
            log_fields=fields,
            signal_arguments={"client": client, **fields},
        )


_SIGNALS = {
    "keys": (signals.keys_refreshed, signals.keys_failed),
    "token": (signals.token_obtained, signals.token_failed),
}


@dataclass(frozen=True)
class _Observer:
    """Observes the refreshes of one value, for the instrumentation, the log and the signals."""

    app: Any  # the signals' sender
    value: Literal["keys", "token"]  # also how the log record's event begins
    description: str
    of: Of  # whose it is, for the instrumentation
    log_fields: dict[str, str]
    signal_arguments: dict[str, str | None]
    logged: set[object] = field(default_factory=set)  # the kinds of trouble since the last success

    def around(self, is_background: bool) -> AbstractContextManager[Note]:
        """Return what the instrumentation has around a fetch."""
        return around_refresh(self.app, self.value, self.of, is_background)

    def ended(self, event: Refreshed[Any] | RefreshFailed) -> None:
        """Log a change of state, and send a signal."""
        refreshed, failed = _SIGNALS[self.value]
        if isinstance(event, Refreshed):
            self._log_success(event)
        else:
            self._log_failure(event)
        signal = refreshed if isinstance(event, Refreshed) else failed
        signals.send(signal, self.app, **self.signal_arguments, **_facts(event))

    def _log_success(self, event: Refreshed[Any]) -> None:
        self.logged.clear()
        if event.recovered:
            extra = {"event": f"{self.value}-recovered", **self.log_fields}
            _logger.info("Recovered: %s could be fetched again.", self.description, extra=extra)

    def _log_failure(self, event: RefreshFailed) -> None:
        # Once for each kind of trouble: a wrong secret may come to light after an outage, and an outage
        # may outlast what still serves.
        serves = event.has_value or event.source == "pinned"
        trouble = (getattr(event.error, "error_code", None), event.source == "pinned", serves)
        if trouble in self.logged or len(self.logged) >= _MOST_TROUBLES:
            return
        self.logged.add(trouble)
        _logger.log(
            logging.WARNING if serves else logging.ERROR,
            "Can't fetch %s (%s): %s. Next try in %.0f s.",
            self.description,
            f"{type(event.error).__name__}: {event.error}",
            _remark(event),
            event.retry_in,
            extra={"event": f"{self.value}-failed", "retry_in": event.retry_in, **self.log_fields},
        )


def _remark(event: RefreshFailed) -> str:
    if event.source == "pinned":
        return "the pinned keys serve, which do not age"
    return "what is held goes on serving" if event.has_value else "there is none in hand"


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
