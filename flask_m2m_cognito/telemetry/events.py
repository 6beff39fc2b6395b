"""What happens to one application's keys and tokens, told to its log and to its signals' receivers."""

from __future__ import annotations

from typing import Any

from .. import signals
from ..inbound.validated_access_token import ValidatedAccessToken
from ..outbound.refused_calls import RefusedCall, RefusedCallLog
from ..remote.clock import SYSTEM, Clock
from ..remote.freshness import Observer, Refreshed, RefreshFailed
from ..web.rejection_log import Rejection, RejectionLog
from .state_log import refresh_log, store_log


class Events:
    """Tells of events. Each method is called outside locks.

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
        """A guard refused a request."""
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
        store_log(error)
        name = None if error is None else type(error).__name__
        signals.send(signals.store_state_changed, self._app, works=works, error=name)

    def of_keys(self, pool_id: str) -> Observer:
        """An observer of a pool's keys."""
        log = refresh_log(f"the keys of user pool {pool_id}", "keys", pool=pool_id)

        def observe(event: Refreshed[Any] | RefreshFailed) -> None:
            log(event)
            signal = signals.keys_refreshed if isinstance(event, Refreshed) else signals.keys_failed
            signals.send(signal, self._app, pool_id=pool_id, **_facts(event))

        return observe

    def of_token(self, client: str | None, client_id: str, scopes: str) -> Observer:
        """An observer of a client's token."""
        log = refresh_log(
            f"an access token for client {client_id}", "token", client_id=client_id, scopes=scopes
        )

        def observe(event: Refreshed[Any] | RefreshFailed) -> None:
            log(event)
            signal = signals.token_obtained if isinstance(event, Refreshed) else signals.token_failed
            signals.send(
                signal, self._app, client=client, client_id=client_id, scopes=scopes, **_facts(event)
            )

        return observe


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
