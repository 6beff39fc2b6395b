"""Tools for testing services that use this library: a local user pool, a movable clock, a pytest plugin.

A running service never imports this package. Of the commands only ``local-pool`` and ``token --local`` do.
"""

from __future__ import annotations

from ._clients import LocalClient
from ._local_user_pool import LocalUserPool
from ._moved_clock import MovedClock
from ._recorded import RecordedRequest
from ._tokens import M2MHeaders

__all__ = ["LocalClient", "LocalUserPool", "M2MHeaders", "MovedClock", "RecordedRequest"]
