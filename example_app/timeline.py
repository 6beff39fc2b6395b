"""The timeline of the page: requests, outages and what happened to keys and tokens, all as recorded."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterable
from typing import Any

from flask_m2m_cognito.testing import RecordedRequest

from .traffic import Hop

LONGEST = 120
"""Older entries are not shown, in seconds."""


class Events:
    """Keep what the switches did, and when."""

    def __init__(self) -> None:
        self._marks: deque[dict[str, Any]] = deque(maxlen=100)
        self._outages: deque[dict[str, Any]] = deque(maxlen=100)
        self._lock = threading.Lock()

    def add_mark(self, kind: str, label: str) -> None:
        with self._lock:
            self._marks.append({"at": time.time(), "kind": kind, "label": label})

    def set_online(self, online: bool) -> None:
        """Begin or end an outage. Do nothing if that is already so."""
        with self._lock:
            is_online = not self._outages or self._outages[-1]["end"] is not None
            if is_online and not online:
                self._outages.append({"start": time.time(), "end": None})
            elif online and not is_online:
                self._outages[-1]["end"] = time.time()

    def describe(self, hops: Iterable[Hop], requests: Iterable[RecordedRequest]) -> dict[str, Any]:
        """Return the entries of the last :data:`LONGEST` seconds, in seconds since the epoch."""
        now = time.time()
        since, epoch = now - LONGEST, now - time.perf_counter()
        fetches = [_fetch(request.at, request.form.get("client_id")) for request in requests]
        with self._lock:
            marks = [mark for mark in (*self._marks, *fetches) if mark["at"] >= since]
            outages = [dict(each) for each in self._outages if each["end"] is None or each["end"] >= since]
        calls = [
            {"at": epoch + hop.started, "service": hop.service, "status": hop.response.status_code}
            for hop in hops
            if epoch + hop.started >= since
        ]
        return {"now": now, "longest": LONGEST, "calls": calls, "marks": marks, "outages": outages}


def _fetch(at: float, client_id: str | None) -> dict[str, Any]:
    if client_id:
        return {"at": at, "kind": "token-request", "label": f"token request of {client_id}"}
    return {"at": at, "kind": "key-download", "label": "key download"}
