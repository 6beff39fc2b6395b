"""JSON and base64url as RFC 8725 wants them read: one meaning for each text, or none."""

from __future__ import annotations

import binascii
import json
from typing import Any, NoReturn

MOST_VALUES = 4096
"""Commas and brackets in a text that is still read: what it says costs the reader more than its length."""

_MANY_VALUES = 32
_BETWEEN_VALUES = b",[{"
_BASE64URL = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
_LEFT_OUT = b"!"
_TO_BASE64 = bytes(
    b"+/"[b"-_".index(byte)] if byte in b"-_" else byte if byte in _BASE64URL else _LEFT_OUT[0]
    for byte in range(256)
)
_LAST_CHARACTERS = {1: frozenset(b""), 2: frozenset(b"AQgw"), 3: frozenset(b"AEIMQUYcgkosw048")}
_PADDING = {0: b"", 2: b"==", 3: b"="}
_MOST_DIGITS = 40
_TOO_LONG = b"0" * (_MOST_DIGITS + 1)
_DIGITS_AS_0 = bytes(ord("0") if byte in b"0123456789" else ord(" ") for byte in range(256))


def parse_object(text: bytes, most_values: int = MOST_VALUES) -> dict[str, Any]:
    """The JSON object in ``text``, UTF-8.

    Raises:
        ValueError: it is not one, has a name twice (at any depth), ``NaN`` or ``Infinity``, a number
            of more than 40 digits, more than ``most_values`` commas and brackets, or nests too deep.
    """
    values = text.count(b",") + text.count(b"[") + text.count(b"{")
    if values > most_values:
        raise ValueError("says too much")
    try:
        value = _value_in(text.decode("utf-8"), _decoder_for(text, values))
    except RecursionError:
        raise ValueError("nests too deep") from None
    if not isinstance(value, dict):
        raise ValueError("is not an object")
    return value


def values_in(text: bytes) -> int:
    """Commas and brackets in ``text``, in the same time however many there are."""
    return len(text) - len(text.translate(None, _BETWEEN_VALUES))


def _decoder_for(text: bytes, values: int) -> json.JSONDecoder:
    # It calls us for each number: where there are many, a look at the whole text costs less.
    if values > _MANY_VALUES and _TOO_LONG not in text.translate(_DIGITS_AS_0):
        return _QUICK_DECODER
    return _CAREFUL_DECODER


def _value_in(text: str, decoder: json.JSONDecoder) -> Any:
    # Without the decoder's search for white space around, which is a fifth of its time.
    if text[:1] == "{" and text[-1:] == "}":
        value, end = decoder.raw_decode(text)
        if end == len(text):
            return value
    return decoder.decode(text)


def decode_base64url(text: bytes) -> bytes:
    """The bytes of unpadded base64url in its one canonical form (RFC 7515, section 2).

    Raises:
        ValueError: padding, another alphabet, a length that can't be, or bits that say nothing.
    """
    last = len(text) % 4
    # The last character has two or four bits too many, which must be 0.
    if last and text[-1] not in _LAST_CHARACTERS[last]:
        raise ValueError("is not canonical base64url")
    decoded = binascii.a2b_base64(text.translate(_TO_BASE64) + _PADDING[last])
    # What is of another alphabet was left out, so that less came out.
    if len(decoded) != len(text) * 3 // 4:
        raise ValueError("is not base64url")
    return decoded


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        raise ValueError("has a name twice")
    return value


def _whole_number(digits: str) -> int:
    # Reading many takes time that grows with their square.
    if len(digits.lstrip("-")) > _MOST_DIGITS:
        raise ValueError("has a number that is too long")
    return int(digits)


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"has {name}")


_QUICK_DECODER = json.JSONDecoder(object_pairs_hook=_object, parse_constant=_no_constant)
_CAREFUL_DECODER = json.JSONDecoder(
    object_pairs_hook=_object, parse_constant=_no_constant, parse_int=_whole_number
)
