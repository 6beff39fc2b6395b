"""Tools for the tests of services that use this library: a local user pool, a clock to move, a pytest plugin.

Nothing that a service runs imports this package; of the commands only
``local-pool`` and ``token --local`` do.
"""

from __future__ import annotations

from ._clients import LocalClient
from ._local_user_pool import LocalUserPool
from ._moved_clock import MovedClock
from ._recorded import RecordedRequest
from ._tokens import M2MHeaders

__all__ = ["LocalClient", "LocalUserPool", "M2MHeaders", "MovedClock", "RecordedRequest"]
