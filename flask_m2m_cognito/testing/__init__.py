"""Tools for the tests of services that use this library: a Cognito user pool on a loopback port.

Nothing of the library itself imports this package.
"""

from __future__ import annotations

from .clients import LocalClient
from .local_user_pool import LocalUserPool
from .recorded import RecordedRequest

__all__ = ["LocalClient", "LocalUserPool", "RecordedRequest"]
