"""An attacker answers the JWKS requests: only usable keys are accepted, and no redirect is followed."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest

from tests.attacks.forging import b64, valid_token
from tests.attacks.stage import OUR_KID, Scene, Service, bearer, jwk_of, new_rsa_key

OTHER_KID = "a usable key"
SHORT = new_rsa_key(1024)
LOW_EXPONENT = new_rsa_key(exponent=3)
OTHER = new_rsa_key()

Row = Callable[[Scene], Any]


@pytest.fixture(scope="module")
def hostile_scene() -> Iterator[Scene]:
    scene = Scene()
    yield scene
    scene.stop()


@pytest.fixture
def hostile(hostile_scene: Scene) -> Iterator[Scene]:
    """A scene whose pool a test can make answer anything."""
    yield hostile_scene
    hostile_scene.pool.recover()


@dataclass(frozen=True)
class BadKey:
    """A JWK that must not verify anything."""

    name: str
    source: str
    row: Row

    def __str__(self) -> str:
        return self.name


def _rsa(name: str, source: str, **members: Any) -> BadKey:
    """Build our key, whose private half signs the token, with a defect."""
    return BadKey(name, source, lambda scene: jwk_of(scene.mine, OUR_KID, **members))


def _number(value: int) -> str:
    return b64(value.to_bytes((value.bit_length() + 7) // 8 or 1, "big"))


_TYPES = "RFC 7517, 4; aws-jwt-verify: JWK validation"

BAD_KEYS = [
    BadKey("oct", "RFC 8725, 2.1: a secret for HMAC",
           lambda scene: {"kty": "oct", "kid": OUR_KID, "k": b64(b"secret"), "alg": "HS256", "use": "sig"}),
    BadKey("oct with a modulus", "RFC 8725, 3.1",
           lambda scene: {**jwk_of(scene.mine, OUR_KID), "kty": "oct", "k": b64(b"secret")}),
    _rsa("use enc", "RFC 7517, 4.2; Wycheproof rejectWrongUse", use="enc"),
    *(_rsa(f"alg {alg}", "RFC 8725, 3.1; RFC 7517, 4.4; aws-jwt-verify", alg=alg)
      for alg in ("RS384", "HS256", "none")),
    _rsa("key_ops encrypt", "RFC 7517, 4.3; Wycheproof rejectWrongKeyOps", key_ops=["encrypt"]),
    BadKey("RSA of 1024 bits", "RFC 7518, 3.3: 2048 bits or more; CVE-2022-23539 (jsonwebtoken)",
           lambda scene: jwk_of(SHORT, OUR_KID)),
    _rsa("a modulus of 8193 bits", "CWE-400: the cost of verifying", n=_number((1 << 8192) + 1)),
    _rsa("exponent 1", "RFC 8017, 3.1: every message is its own signature", e="AQ"),
    _rsa("exponent of 65 bits", "CWE-400; CVE-2006-2940 (OpenSSL)", e=_number((1 << 64) + 1)),
    BadKey("a key set in a key set", _TYPES, lambda scene: {"keys": [jwk_of(scene.mine, OUR_KID)]}),
    BadKey("a certificate instead of a key", "RFC 7517, 4.7",
           lambda scene: {"kty": "RSA", "kid": OUR_KID, "x5c": ["MIIB"], "x5u": scene.elsewhere.url}),
]  # fmt: skip


def _signed_by_ours(scene: Scene) -> str:
    return bearer(valid_token(scene))


@pytest.mark.parametrize("key", BAD_KEYS, ids=str)
def test_unusable_key_is_skipped_and_verifies_nothing(key: BadKey, hostile: Scene) -> None:
    hostile.pool.answer("jwks", {"keys": [key.row(hostile), jwk_of(OTHER, OTHER_KID)]})
    service = Service(hostile)
    valid = hostile.pool.sign(hostile.claims(), headers={"kid": OTHER_KID}, key=OTHER)

    assert service.send(bearer(valid)).ran
    reply = service.send(_signed_by_ours(hostile))

    assert (reply.status, reply.reason, reply.ran) == (401, "unknown_key", False)
    assert hostile.elsewhere.count() == 0


def test_exponent_of_3_verifies_no_forgery(hostile: Scene) -> None:
    """CVE-2006-4339: with e = 3, a cube root passes if the end of the padding is not checked."""
    hostile.pool.answer("jwks", {"keys": [jwk_of(LOW_EXPONENT, OUR_KID)]})
    service = Service(hostile)
    text = valid_token(hostile).rpartition(".")[0]
    target = int.from_bytes((b"\x00\x01" + b"\xff" * 8 + b"\x00").ljust(256, b"\x00"), "big")
    low, high = 0, 1 << 700
    while low < high:
        middle = (low + high) // 2
        low, high = (middle + 1, high) if middle**3 < target else (low, middle)

    assert service.send(bearer(f"{text}.{b64(low.to_bytes(256, 'big'))}")).reason == "bad_signature"
    real = hostile.pool.sign(hostile.claims(), headers={"kid": OUR_KID}, key=LOW_EXPONENT)
    assert service.send(bearer(real)).ran


@dataclass(frozen=True)
class BadAnswer:
    """An answer that is not a valid key set."""

    name: str
    source: str
    body: Callable[[Scene], Any] = lambda scene: b""
    status: int = 200
    headers: Callable[[Scene], Mapping[str, str | None]] = field(default=lambda scene: {})
    fault: Mapping[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        return self.name


def _keys(scene: Scene) -> dict[str, Any]:
    return {"keys": [jwk_of(scene.mine, OUR_KID)]}


def _text(scene: Scene) -> str:
    return json.dumps(_keys(scene))


def _redirect(name: str, status: int, location: Callable[[Scene], str]) -> BadAnswer:
    return BadAnswer(f"{status} {name}", "RFC 9110, 15.4; CWE-601: no redirect is followed", _keys, status,
                     lambda scene: {"Location": location(scene)})  # fmt: skip


_SHAPE = "RFC 7517, 5; aws-jwt-verify: no keys, keys not an array, not a valid jwks"

BAD_ANSWERS = [
    *(_redirect("to another host", status, lambda scene: scene.elsewhere.jwks_url)
      for status in (301, 302, 303, 307, 308)),
    _redirect("to http", 302, lambda scene: scene.elsewhere.jwks_url.replace("127.0.0.1", "localhost")),
    _redirect("to itself", 302, lambda scene: scene.pool.jwks_url),
    _redirect("to a file", 302, lambda scene: "file:///etc/passwd"),
    _redirect("to the cloud metadata service", 302, lambda scene: "http://169.254.169.254/latest/meta-data"),
    BadAnswer("200 with a Location", "RFC 9110, 10.2.2", lambda scene: b"", 200,
              lambda scene: {"Location": scene.elsewhere.jwks_url}),
    *(BadAnswer(f"{status} with usable keys", "aws-jwt-verify: fetch error flow", _keys, status)
      for status in (201, 203, 206, 400, 401, 403, 404, 429, 500)),
    BadAnswer("an empty body", _SHAPE),
    BadAnswer("HTML", "a proxy's page", lambda scene: b"<!doctype html><h1>Sign in</h1>", 200,
              lambda scene: {"Content-Type": "text/html"}),
    BadAnswer("keys null", _SHAPE, lambda scene: {"keys": None}),
    BadAnswer("keys an empty list", _SHAPE, lambda scene: {"keys": []}),
    BadAnswer("PEM by kid, as in Firebase", _SHAPE, lambda scene: {OUR_KID: "-----BEGIN CERTIFICATE"}),
    BadAnswer("keys twice", "RFC 7517, 4; RFC 8259, 4",
              lambda scene: _text(scene)[:-1] + ', "keys": []}'),
    BadAnswer("a key with kid twice", "RFC 7517, 4",
              lambda scene: _text(scene).replace('"kid"', '"kid": "x", "kid"')),
    BadAnswer("NaN", "RFC 8259, 6", lambda scene: _text(scene)[:-1] + ', "x": NaN}'),
    BadAnswer("a number of 5000 digits", "CVE-2020-10735 (Python)",
              lambda scene: _text(scene)[:-1] + ', "x": ' + "9" * 5000 + "}"),
    BadAnswer("nested too deep", "CWE-674", lambda scene: _text(scene)[:-1] + ', "x": ' + "[" * 20_000),
    BadAnswer("a byte order mark", "RFC 8259, 8.1", lambda scene: "\ufeff" + _text(scene)),
    BadAnswer("cut off", "RFC 8259, 2", lambda scene: _text(scene)[:-2]),
    BadAnswer("trailing text", "RFC 8259, 2", lambda scene: _text(scene) + _text(scene)),
    BadAnswer("pickled", "CWE-502", lambda scene: b"\x80\x04\x95."),
    BadAnswer("64 KiB and one byte", "CWE-400", _keys, fault={"size": 65_537}),
    BadAnswer("thousands of keys", "CWE-400", lambda scene: {
        "keys": [jwk_of(scene.mine, f"{number}") for number in range(3000)]}),
    BadAnswer("100 unusable keys before a usable one", "CWE-400",
              lambda scene: {"keys": [{"kty": "oct"}] * 100 + _keys(scene)["keys"]}),
    BadAnswer("labelled as gzip", "RFC 9110, 8.4.1", _text, 200, lambda scene: {"Content-Encoding": "gzip"}),
    BadAnswer("labelled as gzip 20 times", "CVE-2025-66418 (urllib3)", _text, 200,
              lambda scene: {"Content-Encoding": ", ".join(["gzip"] * 20)}),
    BadAnswer("a megabyte in gzip", "CWE-409; CVE-2025-66471 (urllib3)",
              lambda scene: gzip.compress(_text(scene).encode().ljust(1 << 20)), 200,
              lambda scene: {"Content-Encoding": "gzip"}),
    BadAnswer("a header of 100 KB", "CWE-400", _keys, 200, lambda scene: {"X-Long": "x" * 100_000}),
    BadAnswer("300 headers", "CWE-400", _keys, 200,
              lambda scene: {f"X-{number}": "x" for number in range(300)}),
    BadAnswer("half of its length", "RFC 9112, 8", _keys, fault={"cut_off": True}),
]  # fmt: skip


@pytest.mark.parametrize("answer", BAD_ANSWERS, ids=str)
def test_invalid_jwks_is_rejected_and_cached_keys_still_work(answer: BadAnswer, hostile: Scene) -> None:
    hostile.pool.answer("jwks", _keys(hostile))
    warm, cold = Service(hostile, KEYS_FRESH_FOR=0.001, RENEW="inline"), Service(hostile)
    assert warm.send(_signed_by_ours(hostile)).ran
    hostile.pool.fail(
        "jwks",
        body=answer.body(hostile),
        status=answer.status,
        headers=answer.headers(hostile),
        **answer.fault,
    )

    reply = cold.send(_signed_by_ours(hostile))
    assert (reply.status, reply.reason, reply.ran) == (503, "keys_unavailable", False)
    assert reply.requests <= 2
    reply = warm.send(_signed_by_ours(hostile))
    assert reply.ran
    assert 1 <= reply.requests <= 2
    assert warm.m2m.for_app(warm.app).health()["status"] == "degraded"
    assert hostile.elsewhere.count() == 0


def test_retry_after_of_years_is_capped(hostile: Scene) -> None:
    """RFC 9110, section 10.2.3: an attacker must not be able to switch a service off."""
    hostile.pool.fail("jwks", status=503, headers={"Retry-After": "99999999999999999999"})
    service = Service(hostile)

    reply = service.send(_signed_by_ours(hostile))

    assert reply.status == 503
    assert int(reply.headers["Retry-After"]) <= 60


@pytest.mark.parametrize("date", ["nonsense", "Thu, 01 Jan 1970 00:00:00 GMT", "Fri, 31 Dec 99999 99:99:99"])
def test_malformed_date_header_is_ignored(date: str, hostile: Scene) -> None:
    hostile.pool.fail("jwks", body=_keys(hostile), headers={"Date": date})
    service = Service(hostile)

    assert service.send(_signed_by_ours(hostile)).ran
    service.m2m.for_app(service.app).health()
