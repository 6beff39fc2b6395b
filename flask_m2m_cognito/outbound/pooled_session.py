"""Light ``requests`` sessions: all sessions of a process share one pool of connections.

Imported when the first session is made, since ``requests`` takes longer to import than Flask.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import requests
from requests.adapters import BaseAdapter

from ..remote.loopback_adapter import LoopbackAdapter
from .bearer_auth import BearerAuth

POOL_SIZE = 32
"""Connections kept for each host, and hosts that connections are kept for."""


def pooled_session(auth: BearerAuth) -> requests.Session:
    """A session that sends ``auth``'s token with each request. Closing it leaves the shared connections."""
    session = requests.Session()
    adapters = session.adapters  # not the session, which would be a reference cycle
    session.auth = auth.with_route(lambda url: _is_sent_directly(url, adapters))
    session.mount("https://", _shared_adapter)
    session.mount("http://", _shared_adapter)
    return session


def _is_sent_directly(url: str, adapters: Mapping[str, BaseAdapter]) -> bool:
    """Whether the adapter for ``url`` is ours; the application may have mounted another one."""
    prefix = next((each for each in adapters if url.lower().startswith(each.lower())), "")
    return isinstance(adapters.get(prefix), LoopbackAdapter)


class _SharedAdapter(LoopbackAdapter):
    """An adapter that outlives its sessions; after a fork it begins with connections of its own."""

    def __init__(self) -> None:
        self._pid = os.getpid()
        super().__init__(pool_connections=POOL_SIZE, pool_maxsize=POOL_SIZE)

    def send(self, *args: Any, **kwargs: Any) -> requests.Response:
        if self._pid != os.getpid():
            # A socket shared with the parent would mix up both processes' answers. The pid comes last: a
            # thread that sees it must find the new pools. Threads that come at once make some more.
            self.proxy_manager = {}
            self.init_poolmanager(POOL_SIZE, POOL_SIZE)
            self._pid = os.getpid()
        return super().send(*args, **kwargs)

    def close(self) -> None:
        """Keep the connections: other sessions use them."""


_shared_adapter = _SharedAdapter()
