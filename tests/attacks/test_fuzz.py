"""Random headers and tokens: no error, no request to the pool, and no view runs."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.attacks.forging import b64, by_rsa, jose_header, unsigned, valid_token, with_signature
from tests.attacks.oracle import assert_rejected_or_valid
from tests.attacks.stage import Scene, Service, bearer

_QUIET = {
    "deadline": None,
    "suppress_health_check": [HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
}
FEW = settings(max_examples=100, **_QUIET)  # type: ignore[arg-type]
MANY = settings(max_examples=3000, **_QUIET)  # type: ignore[arg-type]

LATIN = st.text(st.characters(max_codepoint=255), max_size=200)
PIECES = st.sampled_from([
    "Bearer", "bearer", " ", "  ", "\t", ",", "Basic", ".", "..", "=", "\0", "\r\n", "e30", "eyJ", '"',
    "a" * 90,
])  # fmt: skip
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)
HEADER_NAMES = st.sampled_from(
    ["alg", "kid", "typ", "cty", "crit", "b64", "zip", "enc", "jku", "x5u", "jwk", "x5c", "x5t", "iss", "exp"]
)
CLAIM_NAMES = st.sampled_from([
    "iss", "sub", "aud", "exp", "iat", "nbf", "jti", "token_use", "client_id", "scope", "username", "version",
])  # fmt: skip
HEADERS = st.dictionaries(HEADER_NAMES | st.text(max_size=5), VALUES, max_size=3)
CLAIMS = st.dictionaries(CLAIM_NAMES | st.text(max_size=5), VALUES | st.just(...), max_size=3)
EDITS = st.lists(st.tuples(st.integers(0, 2000), st.characters(max_codepoint=255)), max_size=3)


def _edited(text: str, edits: list[tuple[int, str]]) -> str:
    for position, character in edits:
        index = position % (len(text) + 1)
        text = text[:index] + character + text[index + 1 :]
    return text


_HEADER = st.one_of(
    LATIN,
    LATIN.map(lambda text: f"Bearer {text}"),
    st.lists(PIECES, max_size=12).map("".join),
    st.lists(st.binary(max_size=60).map(b64), max_size=5).map(lambda parts: bearer(".".join(parts))),
    st.sampled_from(["Bearer ..", "Bearer " + "\xff" * 10]),
)
_PAYLOAD = st.one_of(
    st.binary(max_size=200),
    VALUES.map(lambda value: json.dumps(value).encode()),
    st.dictionaries(CLAIM_NAMES, VALUES).map(lambda claims: json.dumps(claims).encode()),
)
_ODD = st.sampled_from([({}, {}), ({"b64": False}, {}), ({"kid": "\ud800"}, {"scope": "\udfff"})])

KINDS: dict[str, tuple[st.SearchStrategy[Any], Callable[[Scene, Any], str]]] = {
    "raw text": (_HEADER, lambda scene, header: header),
    "a random payload with a valid signature": (
        _PAYLOAD,
        lambda scene, payload: bearer(by_rsa(scene, jose_header(scene), payload)),
    ),
    "random header and claims with a valid signature": (
        st.tuples(HEADERS, CLAIMS) | _ODD,
        lambda scene, drawn: bearer(by_rsa(scene, jose_header(scene, **drawn[0]), scene.claims(**drawn[1]))),
    ),
    "a valid token with characters changed": (
        EDITS,
        lambda scene, edits: _edited(bearer(valid_token(scene)), edits),
    ),
    "a random signature": (
        st.tuples(CLAIMS, st.binary(max_size=300)),
        lambda scene, drawn: bearer(
            with_signature(unsigned(jose_header(scene), scene.claims(**drawn[0])), drawn[1])
        ),
    ),
}


@pytest.mark.parametrize("amount", [FEW, pytest.param(MANY, marks=pytest.mark.slow)], ids=["few", "many"])
@pytest.mark.parametrize(("strategy", "header_of"), KINDS.values(), ids=KINDS)
def test_random_input_causes_no_error_and_no_request(
    strategy: st.SearchStrategy[Any],
    header_of: Callable[[Scene, Any], str],
    amount: settings,
    scene: Scene,
    warm: Service,
) -> None:
    @amount
    @given(strategy)
    def check(drawn: Any) -> None:
        header = header_of(scene, drawn)
        assert_rejected_or_valid(warm.send(header), header, scene)

    check()
