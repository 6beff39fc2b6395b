"""Ambiguous JSON and base64url are rejected: RFC 8725, section 3, and RFC 7515, section 2."""

from __future__ import annotations

import base64
import itertools
import re
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flask_m2m_cognito.formats.strict_json import (
    _DECODER,
    _decode_without_recursion,
    decode_base64url,
    parse_object,
)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        pytest.param(b"{}", {}, id="empty object"),
        pytest.param(b' {"a": [1, {"b": null}]} ', {"a": [1, {"b": None}]}, id="nested"),
        pytest.param('{"é": "ü"}'.encode(), {"é": "ü"}, id="UTF-8"),
        pytest.param(b'{"a": {"b": 1}, "b": 1}', {"a": {"b": 1}, "b": 1}, id="same name at two depths"),
        pytest.param(b'{"a": -' + b"1" * 4000 + b"}", {"a": -int("1" * 4000)}, id="number of 4000 digits"),
        pytest.param(b'{"a": "' + b"1" * 41 + b'", "b": 7}', {"a": "1" * 41, "b": 7}, id="text of 41 digits"),
    ],
)
def test_json_object_is_parsed(text: bytes, value: object) -> None:
    assert parse_object(text) == value


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"[]", id="array"),
        pytest.param(b'"text"', id="string"),
        pytest.param(b"null", id="null"),
        pytest.param(b"1", id="number"),
        pytest.param(b"{'a': 1}", id="single quotes"),
        pytest.param(b'{"a": 1,}', id="comma at the end"),
        pytest.param(b"{} {}", id="two objects"),
        pytest.param(b'{"a": 1, "a": 1}', id="a name twice"),
        pytest.param(b'{"a": 1, "\\u0061": 2}', id="a name twice, once escaped"),
        pytest.param(b'{"a": {"b": 1, "b": 2}}', id="a name twice, deeper"),
        pytest.param(b'{"a": [{"b": 1, "b": 2}]}', id="a name twice, in an array"),
        pytest.param(b'{"a": NaN}', id="NaN"),
        pytest.param(b'{"a": Infinity}', id="Infinity"),
        pytest.param(b'{"a": -Infinity}', id="minus Infinity"),
        pytest.param('{"a": 1}'.encode("utf-16"), id="UTF-16"),
        pytest.param(b'\xef\xbb\xbf{"a": 1}', id="byte order mark"),
        pytest.param(b'{"a": "\xff"}', id="not UTF-8"),
        pytest.param(b'{"a": "\x00"}', id="NUL in a string"),
        pytest.param(b'{"a": ' + b"1" * 5000 + b"}", id="more digits than Python reads"),
        pytest.param(b'{"a":' * 100_000 + b"1" + b"}" * 100_000, id="too deep in objects"),
        pytest.param(b'{"a":' + b"[" * 100_000, id="too deep in arrays, without an end"),
    ],
)
def test_ambiguous_or_invalid_json_is_rejected(text: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - the caller has its own message
        parse_object(text)


@pytest.mark.parametrize("depth", [100, 1000, 2000, 4000])
@pytest.mark.parametrize("is_open", [False, True], ids=["closed", "without an end"])
def test_nesting_of_any_depth_is_parsed(depth: int, is_open: bool) -> None:
    text = b'{"a":' * depth + b"1" + b"}" * (0 if is_open else depth)
    if is_open:
        with pytest.raises(ValueError):  # noqa: PT011
            parse_object(text)
    else:
        assert set(parse_object(text)) == {"a"}


json_texts = st.recursive(
    st.sampled_from(["1", "-0.5e3", '"a"', '"\\u00e9,]}"', "true", "null", "NaN", "01", '"\n"', ""]),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3).map(lambda values: f"[{' , '.join(values)}]"),
        st.lists(st.tuples(st.sampled_from(['"a"', '"b" ', "c", '"\\u0061"']), inner), max_size=3).map(
            lambda pairs: "{" + ",".join(f"{name}:\t{value}" for name, value in pairs) + "}"
        ),
        inner.map(lambda text: text[:-1]),
        inner.map(lambda text: f" {text}]"),
    ),
)


@given(json_texts)
@settings(max_examples=500)
def test_loop_agrees_with_the_standard_library(text: str) -> None:
    def read(decode: Callable[[str], object]) -> object:
        try:
            return [decode(text)]
        except ValueError:
            return None

    assert read(lambda text: _decode_without_recursion(text, _DECODER)) == read(_DECODER.decode)


@pytest.mark.parametrize(
    ("text", "content"),
    [
        pytest.param(b"", b"", id="empty"),
        pytest.param(b"AA", b"\0", id="one byte"),
        pytest.param(b"AAA", b"\0\0", id="two bytes"),
        pytest.param(b"AAAA", b"\0\0\0", id="three bytes"),
        pytest.param(b"-_-_", b"\xfb\xff\xbf", id="the two characters of the URL alphabet"),
    ],
)
def test_canonical_base64url_is_decoded(text: bytes, content: bytes) -> None:
    assert decode_base64url(text) == content


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(b"A", id="an impossible length"),
        pytest.param(b"AAAAA", id="a longer impossible length"),
        pytest.param(b"AA==", id="padding"),
        pytest.param(b"AA=", id="half of the padding"),
        pytest.param(b"+/+/", id="the other alphabet"),
        pytest.param(b"AB", id="unused bits that are set, after one byte"),
        pytest.param(b"AAB", id="unused bits that are set, after two bytes"),
        pytest.param(b"AA AA", id="a space"),
        pytest.param(b"AAAA\n", id="a line end"),
        pytest.param(b"AA\x00A", id="NUL"),
        pytest.param("\uff21\uff21\uff21\uff21".encode(), id="full-width letters"),
    ],
)
def test_non_canonical_base64url_is_rejected(text: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011
        decode_base64url(text)


def test_base64url_agrees_with_the_standard_library() -> None:
    """Compare every text of up to five of these characters; three of them are not base64url."""

    def expected(text: bytes) -> bytes | None:
        if not re.fullmatch(rb"[A-Za-z0-9_-]*", text) or len(text) % 4 == 1:
            return None
        value = base64.urlsafe_b64decode(text + b"=" * (-len(text) % 4))
        return value if base64.urlsafe_b64encode(value).rstrip(b"=") == text else None

    def read(text: bytes) -> bytes | None:
        try:
            return decode_base64url(text)
        except ValueError:
            return None

    texts = (bytes(each) for length in range(6) for each in itertools.product(b"Agw-_+=!", repeat=length))
    assert [text for text in texts if read(text) != expected(text)] == []
