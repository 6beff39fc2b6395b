"""What a request sends, in objects that show nothing: error trackers walk what they find in stack frames."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode


class Form:
    """Form fields to send. Not a mapping, and mute: error trackers walk dictionaries in stack frames."""

    __slots__ = ("_fields",)

    def __init__(self, fields: Mapping[str, str]) -> None:
        self._fields = dict(fields)

    def headers(self) -> Mapping[str, str]:
        return {"Content-Type": "application/x-www-form-urlencoded"}

    def encoded(self) -> bytes:
        return urlencode(self._fields).encode("ascii")


class Json:
    """A JSON object to send, as mute as :class:`Form`, with the headers that say what it is."""

    __slots__ = ("_content", "_headers")

    def __init__(self, content: Mapping[str, Any], headers: Mapping[str, str]) -> None:
        self._content = dict(content)
        self._headers = headers

    def headers(self) -> Mapping[str, str]:
        return self._headers

    def encoded(self) -> bytes:
        return json.dumps(self._content, separators=(",", ":")).encode("ascii")


class BasicCredentials:
    """A client id and secret for the Basic scheme, as mute as :class:`Form`."""

    __slots__ = ("_header",)

    def __init__(self, header: str) -> None:
        self._header = header

    def header(self) -> str:
        return self._header
