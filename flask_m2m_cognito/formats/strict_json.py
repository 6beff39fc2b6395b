"""Parse JSON and base64url strictly, as RFC 8725 asks: reject every ambiguous text."""

from __future__ import annotations

import binascii
import json
import re
from collections.abc import Callable
from typing import Any, Final, NoReturn

MOST_VALUES = 4096
"""The most commas and brackets in a text: values cost more to parse than characters."""

_BASE64URL = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
_LEFT_OUT = b"!"
_TO_BASE64 = bytes(
    b"+/"[b"-_".index(byte)] if byte in b"-_" else byte if byte in _BASE64URL else _LEFT_OUT[0]
    for byte in range(256)
)
_LAST_CHARACTERS = {1: frozenset(b""), 2: frozenset(b"AQgw"), 3: frozenset(b"AEIMQUYcgkosw048")}
_PADDING = {0: b"", 2: b"==", 3: b"="}
_WHITESPACE = " \t\n\r"
_SPACE = re.compile(rf"[{_WHITESPACE}]*")
_DIGITS_AT_ONCE = 600
_MANY_DIGITS = re.compile(r"[0-9]{640}")
"""``int`` may reject this many digits (see ``sys.set_int_max_str_digits``), but never fewer."""

DUPLICATE_NAME: Final = object()
"""Replaces an object with a duplicate name where the rest of the text is still useful."""


def parse_object(
    text: bytes, most_values: int | None = MOST_VALUES, *, keeps_rest: bool = False
) -> dict[str, Any]:
    """Parse ``text``, in UTF-8, into a JSON object.

    Args:
        text: the JSON.
        most_values: the most commas and brackets that ``text`` may have. ``None`` limits neither these nor
            the digits of a number; use it only for a text whose length is limited.
        keeps_rest: replace an inner object that has a duplicate name by :data:`DUPLICATE_NAME`.

    Raises:
        ValueError: ``text`` is not a JSON object, or has a duplicate name (at any depth, without
            ``keeps_rest``), ``NaN`` or ``Infinity``, more than ``most_values`` commas and brackets, or a
            number that Python does not parse.
    """
    # Each comma or bracket takes a byte, so a short text need not be counted.
    if most_values is not None and len(text) > most_values and values_in(text) > most_values:
        raise ValueError("has too many values")
    content = text.decode("utf-8").strip(_WHITESPACE)
    decoder = _LENIENT_DECODER if keeps_rest else _DECODER
    value: Any = None
    end = -1
    try:
        # raw_decode skips the search for surrounding whitespace, which takes a fifth of the time.
        value, end = decoder.raw_decode(content)
    except RecursionError:
        pass
    except ValueError:
        if most_values is not None or _MANY_DIGITS.search(content) is None:
            raise
        decoder = _LONG_NUMBER_DECODER
    if end == -1:
        # Not in the except block: there the error would have a context that holds the text.
        value = _decode_slowly(content, decoder)
    elif end != len(content):
        raise ValueError("is not JSON")
    if not isinstance(value, dict):
        raise ValueError("is not an object")
    return value


def values_in(text: bytes) -> int:
    """Return the number of commas and opening brackets in ``text``."""
    return text.count(b",") + text.count(b"[") + text.count(b"{")


def _decode_slowly(text: str, decoder: json.JSONDecoder) -> Any:
    try:
        return decoder.decode(text)
    except RecursionError:
        pass
    return _decode_without_recursion(text, decoder)


def _decode_without_recursion(text: str, decoder: json.JSONDecoder) -> Any:
    """Decode as ``decoder.decode``, but without recursion.

    With recursion, the accepted depth would depend on the caller's stack and on the version of Python.
    """
    build_object: Callable[[list[tuple[str, Any]]], Any] = decoder.object_pairs_hook
    # Of each list or object that is still open: its values, and its names if it is an object.
    unfinished: list[tuple[list[Any], list[str] | None]] = []
    position = _skip_space(text, 0)
    while True:
        if text.startswith(("[", "{"), position):
            names: list[str] | None = [] if text[position] == "{" else None
            position = _skip_space(text, position + 1)
            if not text.startswith("]" if names is None else "}", position):
                unfinished.append(([], names))
                position = _read_name(text, position, names, decoder)
                continue
            value: Any = [] if names is None else build_object([])
            position += 1
        else:
            value, position = decoder.raw_decode(text, position)
        while unfinished:
            values, names = unfinished[-1]
            values.append(value)
            position = _skip_space(text, position)
            if text.startswith(",", position):
                position = _read_name(text, _skip_space(text, position + 1), names, decoder)
                break
            if not text.startswith("]" if names is None else "}", position):
                raise ValueError("is not JSON")
            position += 1
            value = values if names is None else build_object(list(zip(names, values, strict=True)))
            unfinished.pop()
        else:
            if _skip_space(text, position) != len(text):
                raise ValueError("is not JSON")
            return value


def _read_name(text: str, position: int, names: list[str] | None, decoder: json.JSONDecoder) -> int:
    """Read a member's name into ``names``, if this is an object, and return where its value begins."""
    if names is None:
        return position
    if not text.startswith('"', position):
        raise ValueError("is not JSON")
    name, position = decoder.raw_decode(text, position)
    names.append(name)
    position = _skip_space(text, position)
    if not text.startswith(":", position):
        raise ValueError("is not JSON")
    return _skip_space(text, position + 1)


def _skip_space(text: str, position: int) -> int:
    space = _SPACE.match(text, position)
    return position if space is None else space.end()


def decode_base64url(text: bytes) -> bytes:
    """Return the bytes of unpadded base64url in its one canonical form (RFC 7515, section 2).

    Raises:
        ValueError: the text has padding, another alphabet, an impossible length, or unused bits that are set.
    """
    last = len(text) % 4
    # The last character has two or four unused bits, which must be 0.
    if last and text[-1] not in _LAST_CHARACTERS[last]:
        raise ValueError("is not canonical base64url")
    decoded = binascii.a2b_base64(text.translate(_TO_BASE64) + _PADDING[last])
    # The decoder skips characters of other alphabets, so the result is too short.
    if len(decoded) != len(text) * 3 // 4:
        raise ValueError("is not base64url")
    return decoded


def _build_object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        raise ValueError("has a duplicate name")
    return value


def _build_unambiguous_object(pairs: list[tuple[str, Any]]) -> object:
    value = dict(pairs)
    return value if len(value) == len(pairs) else DUPLICATE_NAME


def _parse_long_number(text: str) -> int:
    digits, number = text.lstrip("-"), 0
    for start in range(0, len(digits), _DIGITS_AT_ONCE):
        part = digits[start : start + _DIGITS_AT_ONCE]
        number = number * 10 ** len(part) + int(part)
    return -number if text.startswith("-") else number


def _reject_constant(name: str) -> NoReturn:
    raise ValueError(f"has {name}")


_DECODER = json.JSONDecoder(object_pairs_hook=_build_object, parse_constant=_reject_constant)
_LONG_NUMBER_DECODER = json.JSONDecoder(
    object_pairs_hook=_build_object, parse_constant=_reject_constant, parse_int=_parse_long_number
)
_LENIENT_DECODER = json.JSONDecoder(
    object_pairs_hook=_build_unambiguous_object, parse_constant=_reject_constant
)
