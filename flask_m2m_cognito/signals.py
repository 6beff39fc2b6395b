"""Signals (blinker) for an application's keys and tokens. The sender is the application.

``token_accepted`` and ``token_rejected`` are sent in the request. All others are sent by the thread of
the refresh, after the callers that waited for it were released, so a slow receiver delays no caller.
Exceptions in receivers are logged and swallowed.

=======================  ============================================================================
signal                   arguments
=======================  ============================================================================
``token_accepted``       ``token``: a :class:`ValidatedAccessToken`; ``check`` (``"memory"``, ``"signature"``)
``token_rejected``       ``reason``, ``status``, ``kid``, ``path``; and ``client_id``, ``token_scopes``,
                         ``required_scopes``, which are ``None`` unless the signature was verified
``keys_refreshed``       ``pool_id``, ``source`` (``"network"``, ``"store"``), ``seconds``, ``recovered``
``keys_failed``          ``pool_id``, ``error``, ``count`` in a row, ``retry_in``, ``seconds``, ``has_value``
``token_obtained``       ``client`` (name or ``None``), ``client_id``, ``scopes``, and those of keys_refreshed
``token_failed``         ``client``, ``client_id``, ``scopes``, and those of keys_failed
``store_state_changed``  ``works``, ``error`` (the exception's class name, or ``None``)
=======================  ============================================================================
"""

from __future__ import annotations

import logging
from typing import Any

from blinker import NamedSignal, Namespace

from .remote.redaction import hidden_traceback
from .web.request_globals import hide_request_token

_signals = Namespace()
_logger = logging.getLogger("flask_m2m_cognito")

token_accepted: NamedSignal = _signals.signal("token-accepted")
token_rejected: NamedSignal = _signals.signal("token-rejected")
keys_refreshed: NamedSignal = _signals.signal("keys-refreshed")
keys_failed: NamedSignal = _signals.signal("keys-failed")
token_obtained: NamedSignal = _signals.signal("token-obtained")
token_failed: NamedSignal = _signals.signal("token-failed")
store_state_changed: NamedSignal = _signals.signal("store-state-changed")


def send(signal: NamedSignal, sender: Any, **arguments: Any) -> None:
    """Call each receiver of ``signal``. Log an exception in one, and continue with the next."""
    if not signal.receivers:
        return
    for receiver in signal.receivers_for(sender):
        try:
            receiver(sender, **arguments)
        except Exception as error:
            hidden = hidden_traceback(error, hide_request_token)
            _logger.error(
                "A receiver of the signal %s raised an exception.%s",
                signal.name,
                "\n" + hidden if hidden else "",
                exc_info=None if hidden else error,
                extra={"event": "receiver-failed", "signal": signal.name},
            )
