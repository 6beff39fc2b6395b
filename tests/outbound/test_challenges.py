"""Parsing of ``WWW-Authenticate`` headers, well-formed or not, and recognizing a rejected token."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from requests.structures import CaseInsensitiveDict

from flask_m2m_cognito.outbound.auth_flow import is_invalid_token
from flask_m2m_cognito.outbound.challenges import parse_challenges


@pytest.mark.parametrize(
    ("header", "found"),
    [
        pytest.param("", [], id="nothing"),
        pytest.param("Bearer", [("bearer", {}, None)], id="only a scheme"),
        pytest.param("NEGOTIATE YWI=", [("negotiate", {}, "YWI=")], id="token68"),
        pytest.param(
            'Bearer Realm="a", ERROR=invalid_token',
            [("bearer", {"realm": "a", "error": "invalid_token"}, None)],
            id="names in any case",
        ),
        pytest.param(
            r'Bearer realm="say \"hi\", error=invalid_token\\", scope="a b"',
            [("bearer", {"realm": 'say "hi", error=invalid_token\\', "scope": "a b"}, None)],
            id="a quoted string with escapes, a comma and a parameter in it",
        ),
        pytest.param(
            'Negotiate, Basic realm="x" , ,Bearer error = "e"',
            [("negotiate", {}, None), ("basic", {"realm": "x"}, None), ("bearer", {"error": "e"}, None)],
            id="several in one header, and empty elements",
        ),
        pytest.param(
            'Bearer scope="" error="e" error_description="d"',
            [("bearer", {"scope": "", "error": "e", "error_description": "d"}, None)],
            id="spaces instead of commas",
        ),
        pytest.param('Bearer error="e', [("bearer", {"error": "e"}, None)], id="an unclosed quoted string"),
        pytest.param("Bearer error=e, error=f", [("bearer", {"error": "e"}, None)], id="a repeated name"),
        pytest.param('"x Bearer error=e", a', [("a", {}, None)], id="a quoted string by itself"),
        pytest.param("error=e, @ Bearer", [("bearer", {}, None)], id="a parameter without a scheme"),
    ],
)
def test_challenges_are_parsed(header: str, found: list[Any]) -> None:
    assert [tuple(challenge) for challenge in parse_challenges(header)] == found


BEARER = 'Bearer realm="peer", error="invalid_token"'
WWW, REMAPPED, TYPE = "WWW-Authenticate", "x-amzn-Remapped-WWW-Authenticate", "x-amzn-ErrorType"


@pytest.mark.parametrize(
    ("status", "name", "text", "expected"),
    [
        pytest.param(401, WWW, BEARER, True, id="usual"),
        pytest.param(401, WWW, "bearer error=invalid_token", True, id="lower case without quotes"),
        pytest.param(401, WWW, 'Bearer error = "invalid_token"', True, id="with spaces"),
        pytest.param(401, WWW, 'Basic realm="x", Bearer error="invalid_token"', True, id="second of two"),
        pytest.param(401, WWW, 'Bearer scope="a/b" error="invalid_token" error_description="old"', True,
                     id="JWT authorizer, without commas"),
        pytest.param(401, REMAPPED, BEARER, True, id="renamed by API Gateway"),
        pytest.param(401, TYPE, "UnauthorizedException", True, id="Cognito authorizer"),
        pytest.param(401, TYPE, "UnauthorizedException:http://internal.amazon.com/", True,
                     id="Cognito authorizer with an address"),
        pytest.param(401, "Server", "peer", False, id="no challenge"),
        pytest.param(401, WWW, 'Bearer realm="x"', False, id="no error"),
        pytest.param(401, WWW, 'Basic realm="x"', False, id="another scheme"),
        pytest.param(401, REMAPPED, 'Basic realm="x"', False, id="another scheme, renamed"),
        pytest.param(401, WWW, 'Bearer error="invalid_request"', False, id="invalid_request"),
        pytest.param(401, WWW, 'Bearer error="insufficient_scope"', False, id="insufficient_scope"),
        pytest.param(401, WWW, 'Bearer error="invalid_token_type"', False, id="a longer word"),
        pytest.param(401, TYPE, "AccessDeniedException", False, id="an IAM front"),
        pytest.param(401, TYPE, "NotUnauthorizedException", False, id="a longer name"),
        *(pytest.param(status, name, text, False, id=f"{status} {name}")
          for status in (400, 403) for name, text in ((WWW, BEARER), (REMAPPED, BEARER),
                                                      (TYPE, "UnauthorizedException"))),
        *(pytest.param(401, WWW, text, False, id=text) for text in (
            'Bearer realm="error=invalid_token"',
            'Bearer realm="x", error_description="error=invalid_token, error=\\"invalid_token\\""',
            'Bearer, DPoP error="invalid_token"',
            'Basic realm="Bearer error=invalid_token"',
            'Bearer error="insufficient_scope", scope="error=invalid_token"',
            'Bearer x-error="invalid_token"')),
    ],
)  # fmt: skip
@pytest.mark.parametrize("headers_class", [CaseInsensitiveDict, httpx.Headers], ids=["requests", "httpx"])
def test_invalid_token_is_recognized(
    headers_class: Any, status: int, name: str, text: str, expected: bool
) -> None:
    for spelled in (name, name.lower()):
        assert is_invalid_token(status, headers_class({spelled: text})) is expected


def test_invalid_token_is_found_beside_another_header() -> None:
    headers = CaseInsensitiveDict({REMAPPED: BEARER, WWW: 'Basic realm="x"'})
    assert is_invalid_token(401, headers)
