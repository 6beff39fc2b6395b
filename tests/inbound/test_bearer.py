"""The token in an Authorization header: RFC 6750, section 2.1."""

from __future__ import annotations

import pytest

from flask_m2m_cognito import TokenValidationError
from flask_m2m_cognito.inbound.bearer import MAX_HEADER, bearer_token


@pytest.mark.parametrize(
    ("value", "token"),
    [
        pytest.param("Bearer abc.def.ghi", "abc.def.ghi", id="as the RFC writes it"),
        pytest.param("bearer abc.def.ghi", "abc.def.ghi", id="scheme in lower case"),
        pytest.param("BEARER abc.def.ghi", "abc.def.ghi", id="scheme in upper case"),
        pytest.param("Bearer   abc.def.ghi", "abc.def.ghi", id="more than one space"),
        pytest.param("Bearer abc.def.ghi ", "abc.def.ghi", id="a space at the end"),
        pytest.param("Bearer abc.def.ghi\t", "abc.def.ghi", id="a tab at the end"),
        pytest.param(" \t bearer  abc.def.ghi\t \t", "abc.def.ghi", id="spaces and tabs on both sides"),
        pytest.param("Bearer AZaz09-._~+/==", "AZaz09-._~+/==", id="every character of b64token"),
        pytest.param("Bearer x", "x", id="not a JSON Web Token, which is not checked here"),
        pytest.param("Bearer bearer", "bearer", id="a token with the name of the scheme"),
    ],
)
def test_bearer_header_returns_its_token(value: str, token: str) -> None:
    assert bearer_token([value]) == token


@pytest.mark.parametrize(
    "values",
    [
        pytest.param([], id="no header"),
        pytest.param([""], id="an empty header"),
        pytest.param([" \t"], id="whitespace alone"),
        pytest.param(["\tBasic dXNlcjpwYXNz\t"], id="Basic between tabs"),
        pytest.param(["Basic dXNlcjpwYXNz"], id="Basic"),
        pytest.param(['Digest username="bearer"'], id="Digest with the word in it"),
        pytest.param(["BearerToken abc"], id="a scheme with the same beginning"),
        pytest.param(["Bearerabc"], id="no space after the scheme"),
        pytest.param(["abc.def.ghi"], id="a token without a scheme"),
    ],
)
def test_other_headers_return_no_token_and_no_error(values: list[str]) -> None:
    assert bearer_token(values) is None


@pytest.mark.parametrize(
    "values",
    [
        pytest.param(["Bearer abc", "Bearer abc"], id="the same header twice"),
        pytest.param(["Basic abc", "Bearer abc"], id="two schemes in two headers"),
        pytest.param(["", "Bearer abc"], id="an empty header before it"),
        pytest.param(["Bearer abc, Bearer def"], id="two joined by a comma"),
        pytest.param(["Bearer abc,Bearer abc"], id="two joined by a comma without a space"),
        pytest.param(["Basic dXNlcjpwYXNz, Bearer abc"], id="hidden behind Basic"),
        pytest.param(["Basic dXNlcjpwYXNz,bearer abc"], id="hidden behind Basic, in lower case"),
        pytest.param([", Bearer abc"], id="hidden behind a comma"),
        pytest.param(["Bearer"], id="the scheme alone"),
        pytest.param(["bearer "], id="the scheme and a space"),
        pytest.param(["Bearer,"], id="the scheme and a comma"),
        pytest.param(["Bearer\tabc"], id="a tab for the space"),
        pytest.param(["Bearer \tabc"], id="a tab after the space"),
        pytest.param(["\tBearer\t"], id="the scheme alone between tabs"),
        pytest.param(["Bearer abc\v"], id="a vertical tab at the end"),
        pytest.param(["Bearer abc\n"], id="a line end at the end"),
        pytest.param(["Bearer abc def"], id="two words"),
        pytest.param(["Bearer =="], id="padding alone"),
        pytest.param(["Bearer a=b"], id="padding in the middle"),
        pytest.param(['Bearer "abc"'], id="quotes"),
        pytest.param(['Bearer token="abc"'], id="a parameter"),
        pytest.param(["Bearer abc\r\nX: y"], id="a line end"),
        pytest.param(["Bearer abc\0"], id="NUL"),
        pytest.param(["Bearer abç"], id="a letter that is not ASCII"),
        pytest.param(["Bearer a\u0660c"], id="a digit that is not ASCII"),
    ],
)
def test_ambiguous_or_malformed_header_is_rejected(values: list[str]) -> None:
    with pytest.raises(TokenValidationError) as raised:
        bearer_token(values)
    assert raised.value.reason == "bad_header"


@pytest.mark.parametrize(
    "value", ["abc.def.ghi", "\tabc.def.ghi ", "Bearer abc.def.ghi", "bearer  abc.def.ghi"]
)
@pytest.mark.parametrize("header", ["X-Forwarded-Access-Token", "proxy-authorization"])
def test_another_header_may_hold_a_bare_token(value: str, header: str) -> None:
    assert bearer_token([value], header) == "abc.def.ghi"


@pytest.mark.parametrize("value", ["", " ", "Basic dXNlcjpwYXNz", 'Digest username="bearer", realm="x"'])
def test_another_header_without_a_token_is_not_an_error(value: str) -> None:
    assert bearer_token([value], "X-Token") is None


@pytest.mark.parametrize(
    "value",
    [
        "abc,def",
        "abc, def",
        "abc ,def",
        "abc\t, Basic x",
        "abc, Bearer def",
        "Bearer abc, def",
        "abc\tdef",
        "abç",
        "Bearer",
    ],
)
def test_malformed_other_header_is_an_error(value: str) -> None:
    with pytest.raises(TokenValidationError) as raised:
        bearer_token([value], "X-Token")
    assert raised.value.reason == "bad_header"


@pytest.mark.parametrize("header", ["Authorization", "authorization"])
def test_bare_token_in_authorization_is_ignored(header: str) -> None:
    assert bearer_token(["abc.def.ghi"], header) is None


def test_header_longer_than_8192_bytes_is_rejected() -> None:
    token = "a" * (MAX_HEADER - len("Bearer "))
    assert bearer_token([f"Bearer {token}"]) == token
    with pytest.raises(TokenValidationError) as raised:
        bearer_token([f"Bearer {token}a"])
    assert raised.value.reason == "bad_header"


def test_error_text_does_not_quote_the_header() -> None:
    with pytest.raises(TokenValidationError) as raised:
        bearer_token(["Bearer s3cret s3cret"])
    assert "s3cret" not in str(raised.value)
