"""The token object that a view gets."""

from __future__ import annotations

import dataclasses
import json
import time

import pytest

from flask_m2m_cognito import ConfigurationError, ValidatedAccessToken

CLAIMS = {"sub": "billing", "iss": "https://issuer.example.com", "exp": 1_800_000_000, "iat": 1_799_996_400}


def token(scopes: str = "a/read b/write", **claims: object) -> ValidatedAccessToken:
    return ValidatedAccessToken("billing", frozenset(scopes.split()), {**CLAIMS, **claims})


def test_standard_claims_are_attributes() -> None:
    validated = token(aud=["orders"])
    assert (validated.sub, validated.iss, validated.aud, validated.exp, validated.iat) == (
        "billing",
        "https://issuer.example.com",
        ["orders"],
        1_800_000_000,
        1_799_996_400,
    )


def test_missing_claim_is_none() -> None:
    assert ValidatedAccessToken("billing", frozenset(), {}).aud is None


def test_token_is_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        token().client_id = "other"  # type: ignore[misc]


def test_claims_can_be_serialized_as_json() -> None:
    assert type(token().claims) is dict
    assert json.loads(json.dumps(token().claims)) == CLAIMS


def test_expires_in_counts_down_to_0() -> None:
    assert 0 < token(exp=time.time() + 60).expires_in <= 60
    assert token(exp=time.time() - 60).expires_in == 0
    assert ValidatedAccessToken("billing", frozenset(), {}).expires_in == 0


@pytest.mark.parametrize(
    ("scopes", "has_all", "has_any"),
    [
        pytest.param([], True, True, id="none"),
        pytest.param(["a/read"], True, True, id="one granted scope"),
        pytest.param(["a/read", "b/write"], True, True, id="all granted scopes"),
        pytest.param(["a/read", "c"], False, True, id="one of two"),
        pytest.param(["c"], False, False, id="another"),
        pytest.param(["a/read b/write"], False, False, id="two scopes in one string, which count as one"),
    ],
)
def test_has_scopes(scopes: list[str], has_all: bool, has_any: bool) -> None:
    validated = token()
    results = validated.has_scopes(*scopes), validated.has_scopes(*scopes, match="any")
    assert results == (has_all, has_any)


def test_has_scope_takes_one_scope() -> None:
    assert (token().has_scope("a/read"), token().has_scope("a")) == (True, False)


def test_invalid_match_is_an_error_even_without_scopes() -> None:
    with pytest.raises(ConfigurationError):
        token().has_scopes(match="some")  # type: ignore[arg-type]
