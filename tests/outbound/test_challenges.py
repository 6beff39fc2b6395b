"""What is read from a ``WWW-Authenticate`` header, well-formed or not."""

from __future__ import annotations

from typing import Any

import pytest

from flask_m2m_cognito.outbound.bearer_auth import is_invalid_token
from flask_m2m_cognito.outbound.challenges import parse_challenges


@pytest.mark.parametrize(
    ("header", "found"),
    [
        pytest.param("", [], id="nothing"),
        pytest.param("Bearer", [("bearer", {}, None)], id="a scheme alone"),
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
            id="spaces for commas",
        ),
        pytest.param('Bearer error="e', [("bearer", {"error": "e"}, None)], id="no end of a quoted string"),
        pytest.param("Bearer error=e, error=f", [("bearer", {"error": "e"}, None)], id="a name twice"),
        pytest.param('"x Bearer error=e", a', [("a", {}, None)], id="a quoted string that stands alone"),
        pytest.param("error=e, @ Bearer", [("bearer", {}, None)], id="a parameter without a scheme"),
    ],
)
def test_challenges_are_read(header: str, found: list[Any]) -> None:
    assert [tuple(challenge) for challenge in parse_challenges(header)] == found


@pytest.mark.parametrize(
    "challenge",
    [
        'Bearer realm="error=invalid_token"',
        'Bearer realm="x", error_description="error=invalid_token, error=\\"invalid_token\\""',
        'Bearer, DPoP error="invalid_token"',
        'Basic realm="Bearer error=invalid_token"',
        'Bearer error="insufficient_scope", scope="error=invalid_token"',
        'Bearer x-error="invalid_token"',
        'Bearer error="invalid_token_type"',
    ],
)
def test_invalid_token_elsewhere_is_not_the_error(challenge: str) -> None:
    assert not is_invalid_token(401, {"WWW-Authenticate": challenge})
