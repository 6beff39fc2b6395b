"""An adapter of ``requests`` that sends requests for this machine directly, past any proxy.

Imported when the first request is made, since ``requests`` takes longer to import than Flask.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

import requests
from requests.adapters import HTTPAdapter

from ..formats.urls import is_loopback_host


class LoopbackAdapter(HTTPAdapter):
    """An ``HTTPAdapter`` that never uses a proxy for a loopback URL, whoever configured the proxy.

    Plain http is allowed to loopback because it stays on this machine: a proxy would read the client
    secret and the tokens, and could answer with signing keys of its own. Redirects come here as well.
    """

    def send(
        self,
        request: requests.PreparedRequest,
        stream: bool = False,
        timeout: Any = None,
        verify: Any = True,
        cert: Any = None,
        proxies: Mapping[str, str] | None = None,
    ) -> requests.Response:
        if is_loopback_host(urlsplit(request.url or "").hostname or ""):
            proxies = None
            # requests adds the proxy's password to a redirected request.
            request.headers.pop("Proxy-Authorization", None)
        return super().send(request, stream, timeout, verify, cert, proxies)  # type: ignore[arg-type]
