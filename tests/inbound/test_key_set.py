"""Which keys of a JWKS are used: RFC 7517, section 4."""

from __future__ import annotations

import json
import time
from base64 import urlsafe_b64encode
from collections.abc import Callable
from typing import Any

import pytest

from flask_m2m_cognito.inbound.key_set import (
    KeySet,
    NoUsableKeys,
    VerificationKey,
    parse_key_set,
)
from flask_m2m_cognito.inbound.key_source import KeyTimes, build_fetch
from flask_m2m_cognito.remote.clock import Clock, Deadline
from flask_m2m_cognito.remote.refreshable import Ask, Fetched
from flask_m2m_cognito.remote.transport import Transport, TransportError
from flask_m2m_cognito.testing import LocalUserPool
from tests.support.clocks import NOW


def base64url_int(number: int) -> str:
    octets = number.to_bytes((number.bit_length() + 7) // 8, "big")
    return urlsafe_b64encode(octets).rstrip(b"=").decode()


def jwk(kid: object = "good", bits: int = 2048, e: int = 65537, **members: Any) -> dict[str, Any]:
    """Return a valid public key without a private key. A member that is ``None`` is left out."""
    usual = {"kty": "RSA", "kid": kid, "n": base64url_int(2**bits - 1), "e": base64url_int(e)}
    return {name: value for name, value in {**usual, **members}.items() if value is not None}


def kids_of(*rows: object) -> tuple[str, ...]:
    return parse_key_set({"keys": list(rows)}).kids


NAMES_TWICE = {
    "kid with one value": '"kid":"bad","kid":"bad"',
    "kid with two values": '"kid":"good","kid":"bad"',
    "use": '"kid":"bad","use":"enc","use":"sig"',
    "an ignored member": '"kid":"bad","x5t":"a","x5t":"b"',
    "a name deeper in a member": '"kid":"bad","use":{"a":1,"a":2}',
}


class TestUsedKeys:
    @pytest.mark.parametrize(
        "row",
        [
            pytest.param(jwk(), id="kty, kid, n and e alone"),
            pytest.param(jwk(alg="RS256", use="sig"), id="as Cognito's are"),
            pytest.param(jwk(key_ops=["verify"]), id="key_ops with verify alone"),
            pytest.param(jwk(key_ops=["sign", "verify"]), id="key_ops with verify among others"),
            pytest.param(jwk(bits=3072), id="3072 bits"),
            pytest.param(jwk(bits=8192), id="8192 bits, the most"),
            pytest.param(jwk(e=3), id="exponent 3"),
            pytest.param(
                jwk(x5c=["garbage"], x5u="https://evil.example", x5t="x"),
                id="certificates, ignored",
            ),
            pytest.param(
                jwk(d="AQAB", p="AQAB", q="AQAB", dp=1, dq=[], qi=None), id="private parts, ignored"
            ),
            pytest.param(jwk(made_up={"a": 1}), id="an unknown member"),
            pytest.param({**jwk(), "use": None}, id="use is null"),
            pytest.param({**jwk(), "alg": None}, id="alg is null"),
            pytest.param({**jwk(), "key_ops": None}, id="key_ops is null"),
            pytest.param({**jwk(), "use": None, "alg": None, "x5c": None}, id="several are null"),
        ],
    )
    def test_key_that_can_verify_rs256_is_used(self, row: dict[str, Any]) -> None:
        assert kids_of(row) == ("good",)

    @pytest.mark.parametrize(
        "row",
        [
            pytest.param(jwk("bad", use="enc"), id="use enc"),
            pytest.param(jwk("bad", use=["sig"]), id="use as a list"),
            pytest.param(jwk("bad", use=""), id="use is empty"),
            pytest.param(jwk("bad", alg=False), id="alg is false"),
            pytest.param({**jwk("bad"), "kty": None}, id="kty is null"),
            pytest.param({**jwk("bad"), "kid": None}, id="kid is null"),
            pytest.param({**jwk("bad"), "n": None}, id="n is null"),
            pytest.param(jwk("bad", alg="RS512"), id="alg RS512"),
            pytest.param(jwk("bad", alg="PS256"), id="alg PS256"),
            pytest.param(jwk("bad", alg="RSA-OAEP"), id="alg for encryption"),
            pytest.param(jwk("bad", alg=["RS256"]), id="alg as a list"),
            pytest.param(jwk("bad", key_ops=["sign"]), id="key_ops without verify"),
            pytest.param(jwk("bad", key_ops=[]), id="key_ops that is empty"),
            pytest.param(jwk("bad", key_ops="verify"), id="key_ops as text"),
            pytest.param(jwk("bad", key_ops={"verify": True}), id="key_ops as an object"),
            pytest.param(jwk("bad", kty="EC", crv="P-256", x="AA", y="AA"), id="elliptic curve"),
            pytest.param(jwk("bad", kty="oct", k="AAAA"), id="a shared secret"),
            pytest.param(jwk("bad", kty="OKP", crv="Ed25519", x="AA"), id="Edwards curve"),
            pytest.param(jwk("bad", kty="rsa"), id="kty in lower case"),
            pytest.param(jwk("bad", kty=None), id="no kty"),
            pytest.param(jwk("bad", bits=2047), id="2047 bits"),
            pytest.param(jwk("bad", bits=1024), id="1024 bits"),
            pytest.param(jwk("bad", bits=8193), id="8193 bits"),
            pytest.param(jwk("bad", n=base64url_int(2**2048 - 1)[:-1] + "x"), id="n that is not canonical"),
            pytest.param(jwk("bad", n=base64url_int(2**2048 - 1) + "=="), id="n with padding"),
            pytest.param(jwk("bad", n="é"), id="n that is not ASCII"),
            pytest.param(jwk("bad", n=""), id="empty n"),
            pytest.param(jwk("bad", n=2**2048 - 1), id="n as a number"),
            pytest.param(jwk("bad", n=None), id="no n"),
            pytest.param(jwk("bad", e=1), id="exponent 1"),
            pytest.param(jwk("bad", e=2), id="exponent 2"),
            pytest.param(jwk("bad", e=65536), id="an even exponent"),
            pytest.param(jwk("bad", e=2**64 + 1), id="an exponent above 64 bits"),
            pytest.param({**jwk("bad"), "e": ""}, id="empty e"),
            pytest.param({**jwk("bad"), "e": 65537}, id="e as a number"),
            pytest.param({**jwk("bad"), "e": "AQAB="}, id="e with padding"),
            pytest.param(jwk(None), id="no kid"),
            pytest.param(jwk(""), id="empty kid"),
            pytest.param(jwk(7), id="kid that is a number"),
            pytest.param(jwk(["bad"]), id="kid that is a list"),
            pytest.param({}, id="empty object"),
            pytest.param("bad", id="text"),
            pytest.param(None, id="null"),
            pytest.param([jwk("bad")], id="a list in the list"),
        ],
    )
    def test_unusable_key_is_skipped(self, row: object) -> None:
        assert kids_of(row, jwk("good", bits=2049)) == ("good",)
        with pytest.raises(NoUsableKeys):
            kids_of(row)

    @pytest.mark.parametrize(
        "document",
        [
            pytest.param({"keys": []}, id="no key"),
            pytest.param({}, id="no keys member"),
            pytest.param({"keys": None}, id="keys is null"),
            pytest.param({"keys": "text"}, id="keys is text"),
            pytest.param({"keys": {"good": jwk()}}, id="keys by name"),
            pytest.param([jwk()], id="a bare list"),
            pytest.param(jwk(), id="a bare key"),
            pytest.param(None, id="null"),
        ],
    )
    def test_document_without_a_usable_key_is_an_error(self, document: object) -> None:
        with pytest.raises(NoUsableKeys):
            parse_key_set(document)

    @pytest.mark.parametrize("bad", NAMES_TWICE.values(), ids=NAMES_TWICE)
    @pytest.mark.parametrize("place", [0, 1])
    def test_key_with_a_duplicate_name_is_skipped(self, bad: str, place: int) -> None:
        row = {name: value for name, value in jwk().items() if name != "kid"}
        rows = [json.dumps(jwk()), json.dumps(row)[:-1] + f",{bad}}}"]
        document = f'{{"keys":[{rows[place]},{rows[1 - place]}]}}'
        assert parse_key_set(document.encode()).kids == ("good",)
        with pytest.raises(NoUsableKeys):
            parse_key_set(f'{{"keys":[{rows[1]}]}}'.encode())

    def test_first_of_two_keys_with_one_kid_is_used(self) -> None:
        keys = parse_key_set({"keys": [jwk("twin", bits=2048), jwk("twin", bits=3072)]})
        assert keys.kids == ("twin",)
        assert keys.get("twin").n == base64url_int(2**2048 - 1)  # type: ignore[union-attr]

    def test_unusable_key_does_not_take_its_kid(self) -> None:
        keys = parse_key_set({"keys": [jwk("twin", use="enc"), jwk("twin", bits=3072)]})
        assert keys.get("twin").n == base64url_int(2**3072 - 1)  # type: ignore[union-attr]

    def test_only_the_first_hundred_keys_are_parsed(self) -> None:
        keys = parse_key_set({"keys": [jwk(f"key {number}") for number in range(5000)]})
        assert len(keys) == 100

    def test_private_parts_are_not_kept(self) -> None:
        keys = parse_key_set({"keys": [jwk(d="AQAB", p="AQAB", q="AQAB")]})
        assert set(keys.to_document()["keys"][0]) == {"kty", "kid", "n", "e", "alg", "use"}


class TestKeyObjects:
    def test_unchanged_key_keeps_its_object(self) -> None:
        before = parse_key_set({"keys": [jwk("a"), jwk("b")]})
        after = parse_key_set({"keys": [jwk("b", alg="RS256"), jwk("c"), jwk("a")]}, before)
        assert (after.get("a"), after.get("b")) == (before.get("a"), before.get("b"))
        assert after.kids == ("b", "c", "a")

    @pytest.mark.parametrize(
        "changed", [pytest.param({"bits": 3072}, id="another n"), pytest.param({"e": 3}, id="another e")]
    )
    def test_changed_key_of_the_same_kid_is_a_new_object(self, changed: dict[str, int]) -> None:
        before = parse_key_set({"keys": [jwk("a")]})
        after = parse_key_set({"keys": [jwk("a", **changed)]}, before)
        assert after.get("a") is not before.get("a")

    def test_key_that_became_unusable_is_dropped(self) -> None:
        before = parse_key_set({"keys": [jwk("a"), jwk("b")]})
        assert parse_key_set({"keys": [jwk("a", use="enc"), jwk("b")]}, before).kids == ("b",)

    def test_set_survives_a_round_trip_through_the_store(self) -> None:
        keys = parse_key_set({"keys": [jwk("a"), jwk("b", bits=3072)]})
        back = parse_key_set(json.loads(json.dumps(keys.to_document())), keys)
        assert back == keys
        assert back.get("a") is keys.get("a")

    def test_repr_shows_kids_only(self) -> None:
        keys = parse_key_set({"keys": [jwk("a")]})
        assert repr(keys) == "KeySet(kids=['a'])"
        assert repr(keys.get("a")) == "VerificationKey(kid='a')"

    @pytest.mark.parametrize(
        "key",
        [
            pytest.param(jwk(), id="2048 bits"),
            pytest.param(jwk(bits=8192, e=2**63 + 1), id="the largest accepted key"),
            pytest.param(jwk(n=base64url_int(2**2048 - 2)), id="an even modulus"),
        ],
    )
    @pytest.mark.parametrize(
        "signature",
        [
            pytest.param(b"", id="empty"),
            pytest.param(b"\0" * 256, id="zero"),
            pytest.param(b"\xff" * 256, id="above the modulus"),
            pytest.param(b"x" * 5000, id="too long"),
        ],
    )
    def test_malformed_signature_is_invalid_but_not_an_error(
        self, key: dict[str, Any], signature: bytes
    ) -> None:
        found = parse_key_set({"keys": [key]}).get("good")
        assert isinstance(found, VerificationKey)
        assert not found.has_signed(b"e30.e30", signature)


Ask_ = Callable[..., Fetched[KeySet]]


@pytest.fixture
def fetch() -> Ask_:
    """Return a function that fetches once from URLs."""

    def fetch_from(*urls: str, held: Fetched[KeySet] | None = None) -> Fetched[KeySet]:
        times = KeyTimes(fresh_for=60, usable_for=600)
        clock = Clock(lambda: NOW, time.monotonic)
        fetch = build_fetch(Transport(), urls, times, lambda: 0.5, clock=clock)
        return fetch(Ask(Deadline(5.0), held))

    return fetch_from


class TestFetching:
    def test_lifetime_starts_before_the_request(self, pool: LocalUserPool, fetch: Ask_) -> None:
        fetched = fetch(pool.jwks_url)
        assert fetched.value.kids == pool.kids
        assert (fetched.fetched_at, fetched.fresh_until, fetched.usable_until) == (NOW, NOW + 60, NOW + 600)

    def test_fetch_keeps_the_objects_of_cached_keys(self, pool: LocalUserPool, fetch: Ask_) -> None:
        held = fetch(pool.jwks_url)
        again = fetch(pool.jwks_url, held=held)
        assert again.value.get(pool.kid) is held.value.get(pool.kid)

    @pytest.mark.parametrize(
        "fault",
        [
            pytest.param({"status": 500}, id="500"),
            pytest.param({"status": 404}, id="404"),
            pytest.param({"status": 302, "headers": {"Location": "/elsewhere"}}, id="a redirect"),
            pytest.param({"status": 204}, id="204"),
            pytest.param({"garbage": True}, id="a page of HTML"),
            pytest.param({"body": b""}, id="no body"),
            pytest.param({"body": b"null"}, id="null"),
            pytest.param({"body": b'{"keys": [], "keys": []}'}, id="a name twice"),
            pytest.param({"body": {"keys": []}}, id="no keys"),
            pytest.param({"body": {"keys": [jwk(use="enc")]}}, id="no usable key"),
        ],
    )
    def test_response_without_a_usable_key_is_a_failed_fetch(
        self, pool: LocalUserPool, fetch: Ask_, fault: dict[str, Any]
    ) -> None:
        pool.fail("jwks", **fault)
        with pytest.raises(NoUsableKeys):
            fetch(pool.jwks_url)

    @pytest.mark.parametrize(
        "fault",
        [
            pytest.param({"reset": True}, id="connection reset"),
            pytest.param({"cut_off": True}, id="cut off in the middle"),
            pytest.param({"size": 64 * 1024 + 1}, id="more than 64 KiB"),
        ],
    )
    def test_incomplete_response_is_a_failed_fetch(
        self, pool: LocalUserPool, fetch: Ask_, fault: dict[str, Any]
    ) -> None:
        pool.fail("jwks", **fault)
        with pytest.raises(TransportError):
            fetch(pool.jwks_url)

    @pytest.mark.parametrize("status", [201, 203, 302, 404, 500])
    def test_keys_with_another_status_than_200_are_ignored(
        self, pool: LocalUserPool, fetch: Ask_, status: int
    ) -> None:
        pool.fail("jwks", status=status, body=pool.jwks())
        with pytest.raises(NoUsableKeys):
            fetch(pool.jwks_url)

    def test_failure_names_the_first_url(self, pool: LocalUserPool, fetch: Ask_) -> None:
        pool.fail("jwks", status=429, headers={"Retry-After": "33"})
        with pytest.raises(NoUsableKeys, match=f"^{pool.jwks_url} returned HTTP status 429$") as raised:
            fetch(pool.jwks_url, f"{pool.url}/not-switched")
        assert raised.value.retry_after == 33

    def test_next_url_is_tried_if_one_has_no_usable_key(self, pool: LocalUserPool, fetch: Ask_) -> None:
        fetched = fetch(f"{pool.url}/gone", f"{pool.url}/gone-too", pool.jwks_url)
        assert fetched.value.kids == pool.kids
        assert [request.path for request in pool.requests] == [
            "/gone",
            "/gone-too",
            f"/{pool.pool_id}/.well-known/jwks.json",
        ]

    def test_no_url_is_tried_after_a_success(self, pool: LocalUserPool, fetch: Ask_) -> None:
        fetch(pool.jwks_url, f"{pool.url}/never")
        assert pool.count() == 1

    def test_request_has_no_body_and_no_credentials(self, pool: LocalUserPool, fetch: Ask_) -> None:
        fetch(pool.jwks_url)
        request = pool.requests[0]
        assert (request.method, request.query, request.body) == ("GET", "", b"")
        assert request.headers["Authorization"] is None
        assert request.headers["Cookie"] is None
