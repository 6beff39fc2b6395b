"""JSON and base64url as RFC 8725 wants them read: one meaning for each text, or none."""

from __future__ import annotations

import base64
import json
import re
from typing import Any, NoReturn

MOST_VALUES = 4096
"""Commas and brackets in a text that is still read: what it says costs the reader more than its length."""

_BASE64URL = re.compile(rb"[A-Za-z0-9_-]*")
_MOST_DIGITS = 40


def parse_object(text: bytes, most_values: int = MOST_VALUES) -> dict[str, Any]:
    """The JSON object in ``text``, UTF-8.

    Raises:
        ValueError: it is not one, has a name twice (at any depth), ``NaN`` or ``Infinity``, a number
            of more than 40 digits, more than ``most_values`` commas and brackets, or nests too deep.
    """
    if text.count(b",") + text.count(b"[") + text.count(b"{") > most_values:
        raise ValueError("says too much")
    try:
        value = json.loads(
            text.decode("utf-8"),
            object_pairs_hook=_object,
            parse_constant=_no_constant,
            parse_int=_whole_number,
        )
    except RecursionError:
        raise ValueError("nests too deep") from None
    if not isinstance(value, dict):
        raise ValueError("is not an object")
    return value


def decode_base64url(text: bytes) -> bytes:
    """The bytes of unpadded base64url in its one canonical form (RFC 7515, section 2).

    Raises:
        ValueError: padding, another alphabet, a length that can't be, or bits that say nothing.
    """
    if _BASE64URL.fullmatch(text) is None or len(text) % 4 == 1:
        raise ValueError("is not base64url")
    content = base64.urlsafe_b64decode(text + b"=" * (-len(text) % 4))
    if len(text) % 4 and base64.urlsafe_b64encode(content).rstrip(b"=") != text:
        raise ValueError("is not canonical base64url")
    return content


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        raise ValueError("has a name twice")
    return value


def _whole_number(digits: str) -> int:
    # Reading them takes time that grows with their square.
    if len(digits) > _MOST_DIGITS:
        raise ValueError("has a number that is too long")
    return int(digits)


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"has {name}")
