"""Headers and tokens that nobody thought of: never an error, never the network, never a view."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tests.attacks.forging import b64, by_rsa, good_header, unsigned, valid_token, with_signature
from tests.attacks.oracle import assert_held
from tests.attacks.stage import Scene, Service, bearer

_QUIET = {
    "deadline": None,
    "suppress_health_check": [HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
}
FEW = settings(max_examples=100, **_QUIET)  # type: ignore[arg-type]
MANY = settings(max_examples=3000, **_QUIET)  # type: ignore[arg-type]

LATIN = st.text(st.characters(max_codepoint=255), max_size=200)
PIECES = st.sampled_from(
    [
        "Bearer",
        "bearer",
        " ",
        "  ",
        "\t",
        ",",
        "Basic",
        ".",
        "..",
        "=",
        "\0",
        "\r\n",
        "e30",
        "eyJ",
        '"',
        "a" * 90,
    ]
)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)
HEADER_NAMES = st.sampled_from(
    ["alg", "kid", "typ", "cty", "crit", "b64", "zip", "enc", "jku", "x5u", "jwk", "x5c", "x5t", "iss", "exp"]
)
CLAIM_NAMES = st.sampled_from(
    [
        "iss",
        "sub",
        "aud",
        "exp",
        "iat",
        "nbf",
        "jti",
        "token_use",
        "client_id",
        "scope",
        "username",
        "version",
    ]
)
HEADERS = st.dictionaries(HEADER_NAMES | st.text(max_size=5), VALUES, max_size=3)
CLAIMS = st.dictionaries(CLAIM_NAMES | st.text(max_size=5), VALUES | st.just(...), max_size=3)
EDITS = st.lists(st.tuples(st.integers(0, 2000), st.characters(max_codepoint=255)), max_size=3)


def _edited(text: str, edits: list[tuple[int, str]]) -> str:
    for position, character in edits:
        index = position % (len(text) + 1)
        text = text[:index] + character + text[index + 1 :]
    return text


def _hold(header: str, scene: Scene, service: Service) -> None:
    assert_held(service.ask(header), header, scene)


def _signed(scene: Scene, members: dict[str, Any], changed: dict[str, Any]) -> str:
    return bearer(by_rsa(scene, good_header(scene, **members), scene.claims(**changed)))


_HEADER = st.one_of(
    LATIN,
    LATIN.map(lambda text: f"Bearer {text}"),
    st.lists(PIECES, max_size=12).map("".join),
    st.lists(st.binary(max_size=60).map(b64), max_size=5).map(lambda parts: bearer(".".join(parts))),
)
_PAYLOAD = st.one_of(
    st.binary(max_size=200),
    VALUES.map(lambda value: json.dumps(value).encode()),
    st.dictionaries(CLAIM_NAMES, VALUES).map(lambda claims: json.dumps(claims).encode()),
)


@pytest.mark.parametrize("amount", [FEW, pytest.param(MANY, marks=pytest.mark.slow)], ids=["few", "many"])
class TestAnyHeader:
    """Hypothesis gives the cases; ``amount`` says how many."""

    def test_raw_text(self, amount: settings, scene: Scene, steady: Service) -> None:
        @amount
        @given(_HEADER)
        @example("Bearer ..")
        @example("Bearer " + "\xff" * 10)
        def holds(header: str) -> None:
            _hold(header, scene, steady)

        holds()

    def test_a_payload_of_anything_under_a_good_signature(
        self, amount: settings, scene: Scene, steady: Service
    ) -> None:
        @amount
        @given(_PAYLOAD)
        def holds(payload: bytes) -> None:
            _hold(bearer(by_rsa(scene, good_header(scene), payload)), scene, steady)

        holds()

    def test_header_and_claims_of_anything_under_a_good_signature(
        self, amount: settings, scene: Scene, steady: Service
    ) -> None:
        @amount
        @given(HEADERS, CLAIMS)
        @example({}, {})
        @example({"b64": False}, {})
        @example({"kid": "\ud800"}, {"scope": "\udfff"})
        def holds(members: dict[str, Any], changed: dict[str, Any]) -> None:
            _hold(_signed(scene, members, changed), scene, steady)

        holds()

    def test_a_good_token_with_characters_changed(
        self, amount: settings, scene: Scene, steady: Service
    ) -> None:
        @amount
        @given(EDITS)
        def holds(edits: list[tuple[int, str]]) -> None:
            _hold(_edited(bearer(valid_token(scene)), edits), scene, steady)

        holds()

    def test_any_signature(self, amount: settings, scene: Scene, steady: Service) -> None:
        @amount
        @given(CLAIMS, st.binary(max_size=300))
        def holds(changed: dict[str, Any], signature: bytes) -> None:
            text = unsigned(good_header(scene), scene.claims(**changed))
            _hold(bearer(with_signature(text, signature)), scene, steady)

        holds()
