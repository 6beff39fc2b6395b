"""What is done at an application's first request, when its routes and its other extensions are complete."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

from flask import Flask, request_started

EXTENSION = "cognito_m2m_first_request"
"""Where an application keeps it, in ``app.extensions``: signals hold their receivers weakly."""


class FirstRequest:
    """Calls each step once, before the first request is handled; later requests pay nothing.

    A step that raises ends that request, and is called again at the next one.
    """

    def __init__(self, app: Flask, steps: Sequence[Callable[[Flask], None]]) -> None:
        self._steps = list(steps)
        self._lock = threading.Lock()
        app.extensions[EXTENSION] = self
        request_started.connect(self._on_request, sender=app)

    def _on_request(self, app: Flask, **_: object) -> None:
        with self._lock:
            while self._steps:
                self._steps[0](app)
                del self._steps[0]
            request_started.disconnect(self._on_request, sender=app)
