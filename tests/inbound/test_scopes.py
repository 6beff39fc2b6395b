"""Parse and compare scopes: RFC 6749, section 3.3."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from flask_m2m_cognito import ConfigurationError
from flask_m2m_cognito.formats.scopes import (
    check_match,
    has_scopes,
    is_scope,
    join_scopes,
    parse_scopes,
    requested_scopes,
)


@pytest.mark.parametrize(
    ("text", "scopes"),
    [
        pytest.param("", set(), id="none"),
        pytest.param(" ", set(), id="a space"),
        pytest.param("a/read", {"a/read"}, id="one"),
        pytest.param("a/read b/write", {"a/read", "b/write"}, id="two"),
        pytest.param(" a/read  b/write ", {"a/read", "b/write"}, id="spaces around and between"),
        pytest.param("a/read a/read", {"a/read"}, id="the same twice"),
        pytest.param("a/read\tb/write", {"a/read\tb/write"}, id="a tab separates nothing"),
        pytest.param("a/read\nb/write", {"a/read\nb/write"}, id="a line end separates nothing"),
        pytest.param("a/read\u00a0b/write", {"a/read\u00a0b/write"}, id="a no-break space separates nothing"),
        pytest.param(
            "a/read\u3000b/write", {"a/read\u3000b/write"}, id="an ideographic space separates nothing"
        ),
    ],
)
def test_only_a_space_separates_the_scopes_of_a_token(text: str, scopes: set[str]) -> None:
    assert parse_scopes(text) == scopes


@pytest.mark.parametrize(
    ("requested", "scopes"),
    [
        pytest.param("a/read b/write", ("a/read", "b/write"), id="text"),
        pytest.param(" a/read\n\tb/write ", ("a/read", "b/write"), id="any whitespace in a developer's text"),
        pytest.param(["a/read", " b/write "], ("a/read", "b/write"), id="list with spaces around"),
        pytest.param(("a/read", "", " "), ("a/read",), id="empty ones do not count"),
        pytest.param("b a b", ("b", "a"), id="order is kept, each once"),
        pytest.param("", (), id="no text"),
        pytest.param([], (), id="empty list"),
    ],
)
def test_requested_scopes_keep_order_without_duplicates(
    requested: str | Iterable[str], scopes: tuple[str, ...]
) -> None:
    assert requested_scopes(requested) == scopes


def test_equal_sets_have_equal_text() -> None:
    assert join_scopes({"b", "a", "c"}) == join_scopes(("c", "a", "b")) == "a b c"


@pytest.mark.parametrize("text", ["a", "orders/read", "https://api.example.com/orders.read", "!", "~", "#[]"])
def test_printable_ascii_is_a_scope(text: str) -> None:
    assert is_scope(text)


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("", id="empty"),
        pytest.param("a b", id="space"),
        pytest.param("a,b", id="comma"),
        pytest.param("a\n", id="line end"),
        pytest.param('a"b', id="quote"),
        pytest.param("a\\b", id="backslash"),
        pytest.param("a\x7f", id="delete"),
        pytest.param("é", id="not ASCII"),
        pytest.param(None, id="None"),
        pytest.param(b"a", id="bytes"),
        pytest.param(["a"], id="list"),
    ],
)
def test_text_that_rfc_6749_forbids_is_not_a_scope(text: object) -> None:
    assert not is_scope(text)


@pytest.mark.parametrize(
    ("held", "required", "has_all", "has_any"),
    [
        pytest.param("", "", True, True, id="nothing required of nothing"),
        pytest.param("a b", "", True, True, id="nothing required"),
        pytest.param("a b", "a b", True, True, id="both held"),
        pytest.param("a b c", "a b", True, True, id="more held"),
        pytest.param("a", "a b", False, True, id="one of two held"),
        pytest.param("c", "a b", False, False, id="another held"),
        pytest.param("", "a", False, False, id="none held"),
        pytest.param("A", "a", False, False, id="case counts"),
        pytest.param("a/read", "a", False, False, id="the beginning is not the scope"),
        pytest.param("a", "a/read", False, False, id="the scope is not its beginning"),
    ],
)
def test_has_scopes_matches_all_or_any(held: str, required: str, has_all: bool, has_any: bool) -> None:
    sets = parse_scopes(held), parse_scopes(required)
    assert (has_scopes(*sets), has_scopes(*sets, "any")) == (has_all, has_any)


@pytest.mark.parametrize("match", ["ALL", "none", "", None, 1, ["all"]])
def test_invalid_match_is_an_error_that_names_the_argument(match: object) -> None:
    with pytest.raises(ConfigurationError, match=r"^scope_match ") as raised:
        check_match(match, "scope_match")
    assert isinstance(raised.value, ValueError)
