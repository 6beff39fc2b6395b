"""Answers of a local pool, in the form of Cognito's answers."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from http.client import responses
from typing import Any

Body = Mapping[str, Any] | str | bytes
Headers = Mapping[str, "str | None"]

JSON_TYPE = "application/json;charset=UTF-8"
NO_STORE = {"Cache-Control": "no-cache, no-store, max-age=0, must-revalidate", "Pragma": "no-cache"}
KEEP_A_DAY = {"Cache-Control": "public, max-age=86400"}


@dataclass(frozen=True)
class Answer:
    """One HTTP answer. A header that is ``None`` is not sent."""

    status: int
    body: bytes
    headers: Headers


def json_answer(content: Mapping[str, Any], status: int = 200, headers: Headers | None = None) -> Answer:
    """Return an answer with ``content`` as JSON."""
    return Answer(status, encode(content), {"Content-Type": JSON_TYPE, **(headers or {})})


def service_error(status: int) -> Answer:
    """Return an answer as a gateway or another service sends it: a message, without an OAuth error."""
    if status < 400:
        return Answer(status, b"", {})
    return json_answer({"message": responses.get(status, "Unknown")}, status)


def encode(body: Body) -> bytes:
    """Return ``body`` as bytes. A mapping is encoded as JSON."""
    if isinstance(body, bytes):
        return body
    text = body if isinstance(body, str) else json.dumps(body, separators=(",", ":"))
    return text.encode()


def merge_headers(*layers: Headers) -> Headers:
    """Merge the headers of all layers. Names ignore case, and later layers win."""
    merged = {name.lower(): (name, value) for layer in layers for name, value in layer.items()}
    return dict(merged.values())
