"""Algorithms, header parameters and signatures that must not make a token valid."""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Callable
from typing import Any

from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from tests.attacks.forging import (
    SHA256_INFO,
    as_json,
    b64,
    by_ec,
    by_hmac,
    by_rsa,
    digest_of,
    encoded_message,
    jose_header,
    parts_of,
    raw_rsa,
    unb64,
    unsigned,
    valid_token,
    with_signature,
)
from tests.attacks.stage import OUR_KID, Attack, Scene, attack, jwk_of, new_rsa_key

FORGERS_KEY = new_rsa_key()


# -- the algorithm -------------------------------------------------------------------------------


def _alg(name: str, source: str, alg: Any) -> Attack:
    """Build a correctly signed token that names another algorithm."""
    return attack(
        f"alg {name}",
        source,
        "wrong_algorithm",
        lambda scene: by_rsa(scene, jose_header(scene, alg=alg)),
    )


def _without_signature(alg: Any) -> Callable[[Scene], str]:
    return lambda scene: unsigned(jose_header(scene, alg=alg), scene.claims()) + "."


def _public_key(encoding: Encoding, form: PublicFormat) -> Callable[[Scene], bytes]:
    return lambda scene: scene.mine.public_key().public_bytes(encoding, form)


def _confused(name: str, source: str, secret: Callable[[Scene], bytes], alg: str = "HS256") -> Attack:
    """Build a token signed by HMAC with public data: algorithm confusion."""
    reason = "bad_signature" if alg == "RS256" else "wrong_algorithm"
    return attack(
        f"HMAC with {name}",
        source,
        reason,
        lambda scene: by_hmac(secret(scene), jose_header(scene, alg=alg), scene.claims()),
        needs_no_key=alg != "RS256",
    )


_PEM = _public_key(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
_PKCS1 = _public_key(Encoding.PEM, PublicFormat.PKCS1)
_SSH = _public_key(Encoding.OpenSSH, PublicFormat.OpenSSH)

ALGORITHMS = [
    *(
        attack(f"no signature and alg {alg!r}", source, "wrong_algorithm", _without_signature(alg))
        for alg, source in (
            ("none", "RFC 8725, 2.1 and 3.2; CVE-2015-9235; Wycheproof AlgIsNone"),
            ("None", "RFC 8725, 2.1; CVE-2026-28802 (Authlib)"),
            ("NONE", "RFC 8725, 2.1; CVE-2022-23540 (jsonwebtoken)"),
            ("", "RFC 8725, 3.1"),
            (None, "RFC 7515, 4.1.1"),
            (..., "RFC 7515, 4.1.1: alg must be present"),
        )
    ),
    attack(
        "alg none over a valid signature",
        "RFC 8725, 2.1",
        "wrong_algorithm",
        lambda scene: by_rsa(scene, jose_header(scene, alg="none")),
    ),
    *(
        _alg(alg, source, alg)
        for alg, source in (
            ("HS256", "RFC 8725, 2.1 and 3.1; CVE-2022-29217 (PyJWT)"),
            ("RS384", "RFC 8725, 3.1: one algorithm for each key; CVE-2026-48523 (PyJWT)"),
            ("PS256", "RFC 8725, 3.1; Wycheproof WrongPrimitive UsingPS256"),
            ("ES256", "RFC 8725, 3.1; CVE-2024-33663 (python-jose)"),
            ("EdDSA", "RFC 8725, 3.1"),
            ("RSA-OAEP", "RFC 7518, 4.1: an algorithm for encryption"),
            ("PBES2-HS256+A128KW", "CVE-2022-36083 (jose), CVE-2023-31582 (jose4j)"),
            ("rs256", "RFC 7515, 4.1.1: case matters"),
            ("RS256 ", "RFC 8725, 3.1"),
            ("RS256\x00", "RFC 8725, 3.1"),
            ("RS\uff12\uff15\uff16", "RFC 8725, 3.1: full-width digits"),
        )
    ),
    *(
        _alg(name, "RFC 7515, 4.1.1: alg is text; aws-jwt-verify: alg that is not a string", alg)
        for name, alg in (("a list", ["RS256"]), ("a number", 256))
    ),
    attack(
        "alg in upper case",
        "RFC 7515, 4: names are case-sensitive",
        "wrong_algorithm",
        lambda scene: by_rsa(scene, {"kid": OUR_KID, "ALG": "RS256"}),
    ),
    _confused("the public key in PEM", "RFC 8725, 2.1; CVE-2016-10555; Wycheproof", _PEM),
    _confused("the public key in PEM of PKCS 1", "CVE-2017-11424 (PyJWT)", _PKCS1),
    _confused(
        "the public key in OpenSSH format", "CVE-2022-29217 (PyJWT), CVE-2024-33663 (python-jose)", _SSH
    ),
    _confused(
        "the JWK",
        "CVE-2024-33663 (python-jose)",
        lambda scene: json.dumps(jwk_of(scene.mine, OUR_KID)).encode(),
    ),
    _confused("an empty secret", "RFC 8725, 3.5; PyJWT 2.13.0: an empty key", lambda scene: b""),
    _confused("the public key in PEM under RS256", "RFC 8725, 3.1", _PEM, alg="RS256"),
    attack(
        "ES256 with a signature of zeros",
        "CVE-2022-21449; Wycheproof rIsZero_sIsZero",
        "wrong_algorithm",
        lambda scene: with_signature(unsigned(jose_header(scene, alg="ES256"), scene.claims()), bytes(64)),
    ),
    attack(
        "an ECDSA signature under RS256",
        "RFC 8725, 3.1",
        "bad_signature",
        lambda scene: by_ec(scene, jose_header(scene), scene.claims()),
        needs_no_key=False,
    ),
    *(
        attack(
            f"a signature of {name} under RS256",
            "RFC 8725, 3.1; Wycheproof WrongPrimitive",
            "bad_signature",
            lambda scene, sha=sha, pss=pss: by_rsa(scene, jose_header(scene), sha=sha, pss=pss),
            needs_no_key=False,
        )
        for name, sha, pss in (("RS384", "384", False), ("PS256", "256", True))
    ),
]

# -- header parameters ---------------------------------------------------------------------------


def _by_forger(scene: Scene, **members: Any) -> str:
    """Build a token that is signed with the attacker's key."""
    return scene.pool.sign(scene.claims(), headers=jose_header(scene, **members), key=FORGERS_KEY)


def _parameter(name: str, source: str, member: Callable[[Scene], dict[str, Any]]) -> Attack:
    """Build a token whose header has the forger's key, or its URL, and a known kid."""
    return attack(
        name, source, "bad_signature", lambda scene: _by_forger(scene, **member(scene)), needs_no_key=False
    )


def _kid(name: str, kid: str, source: str = "RFC 8725, 3.10") -> Attack:
    """Build a token with a kid that a library might look up. The service does not know it."""
    return attack(
        f"kid {name}", source, "unknown_key", lambda scene: _by_forger(scene, kid=kid), needs_no_key=False
    )


def _no_kid(name: str, kid: Any) -> Attack:
    return attack(
        f"kid {name}",
        "RFC 7515, 4.1.4: kid is text; aws-jwt-verify: kid is not a string",
        "malformed",
        lambda scene: by_rsa(scene, jose_header(scene, kid=kid)),
    )


def _crit(name: str, crit: Any, **members: Any) -> Attack:
    """Build a correctly signed token. Only its critical extensions make it invalid."""
    return attack(
        f"crit {name}",
        "RFC 7515, 4.1.11; CVE-2025-59420 (Authlib); CVE-2026-32597 (PyJWT)",
        "malformed",
        lambda scene: by_rsa(scene, jose_header(scene, crit=crit, **members)),
    )


def _unencoded(scene: Scene) -> str:
    """Build a token signed over the unencoded payload, as in RFC 7797, but without ``crit``."""
    header = b64(json.dumps(jose_header(scene, b64=False)).encode())
    payload = json.dumps(scene.claims())
    signature = valid_token(scene).rpartition(".")[2]
    return f"{header}.{b64(payload.encode())}.{signature}"


PARAMETERS = [
    _parameter(
        "jwk with the forger's key",
        "RFC 8725, 3.10; CVE-2018-0114 (node-jose); CVE-2026-27962 (Authlib); "
        "Wycheproof AttackerProvidedEmbeddedJwk",
        lambda scene: {"jwk": jwk_of(FORGERS_KEY, OUR_KID)},
    ),
    _parameter(
        "jku of the forger's server",
        "RFC 8725, 3.10; RFC 7515, 4.1.2",
        lambda scene: {"jku": scene.elsewhere.jwks_url},
    ),
    _parameter(
        "jku of the cloud metadata service",
        "RFC 8725, 3.10: server-side request forgery",
        lambda scene: {"jku": "http://169.254.169.254/latest/meta-data/"},
    ),
    _parameter(
        "x5u of the forger's server", "RFC 7515, 4.1.5", lambda scene: {"x5u": scene.elsewhere.url + "/x.pem"}
    ),
    _parameter(
        "x5c with the forger's key",
        "RFC 7515, 4.1.6",
        lambda scene: {
            "x5c": [
                b64encode(
                    FORGERS_KEY.public_key().public_bytes(
                        Encoding.DER, PublicFormat.SubjectPublicKeyInfo
                    )
                ).decode()
            ]
        },
    ),
    _parameter("iss in the header", "RFC 7519, 5.3", lambda scene: {"iss": scene.elsewhere.issuer}),
    _parameter("typ of another kind", "RFC 8725, 3.11", lambda scene: {"typ": "secevent+jwt"}),
    _parameter(
        "the forger's key and nothing else", "RFC 8725, 3.3; Wycheproof ModifiedSignature", lambda scene: {}
    ),
    attack(
        "the forger's key under the other key's kid",
        "RFC 8725, 3.3",
        "bad_signature",
        lambda scene: scene.pool.sign(scene.claims(), headers={"kid": scene.first_kid}, key=FORGERS_KEY),
        needs_no_key=False,
    ),
    attack(
        "a key of the pool under the kid of another of its keys",
        "RFC 7515, 4.1.4",
        "bad_signature",
        lambda scene: scene.pool.sign(scene.claims(), headers={"kid": scene.first_kid}),
        needs_no_key=False,
    ),
    attack(
        "b64 false without crit, over another signature",
        "RFC 7797, 6; CVE-2026-48525 (PyJWT)",
        "malformed",
        _unencoded,
    ),
    *(
        attack(
            f"b64 {name} without crit",
            "RFC 7797, 6 and 7: no JWT has it",
            "malformed",
            lambda scene, value=value: by_rsa(scene, jose_header(scene, b64=value)),
        )
        for name, value in (("false", False), ("a list", []))
    ),
    _kid("of another pool", "another pool's", "RFC 8725, 2.8: cross-JWT confusion"),
    _kid("that is a path with NUL", "/dev/null\x00.pem"),
    _kid("that is SQL", "x' UNION SELECT 'secret' -- "),
    _kid("with newlines, to forge log lines", "x\r\nSet-Cookie: a=b\r\n\r\nRejected: nothing"),
    _kid("that begins with a known one", OUR_KID + "x", "RFC 7515, 4.1.4: compared as text"),
    _kid("with a homoglyph", OUR_KID.replace("e", "\u0435"), "RFC 8725, 2.4; UTS 39"),
    _kid("that is a lone surrogate", "\ud800", "RFC 8259, 8.2"),
    _no_kid("absent", ...),
    _no_kid("empty", ""),
    _no_kid("a number", 7),
    _no_kid("a list of the known one", [OUR_KID]),
    _no_kid("of 257 characters", "k" * 257),
    _crit("that names an extension", ["http://example.invalid/UNDEFINED"]),
    _crit("as in RFC 7515, appendix E", ["http://example.invalid/UNDEFINED"], **{
        "http://example.invalid/UNDEFINED": True
    }),
    _crit("that names b64", ["b64"], b64=False),
    _crit("that is empty", []),
    _crit("that is null", None),
    _crit("that is text", "exp"),
    _crit("that is an object", {"exp": 1}),
]  # fmt: skip

# -- the signature -------------------------------------------------------------------------------


def _signature(name: str, source: str, change: Callable[[Scene, str], bytes]) -> Attack:
    """Build a token with this signature for a valid header and valid claims."""

    def token(scene: Scene) -> str:
        text = unsigned(jose_header(scene), scene.claims())
        return with_signature(text, change(scene, text))

    return attack(name, source, "bad_signature", token, needs_no_key=False)


def _padded(name: str, source: str, message: Callable[[bytes], bytes]) -> Attack:
    """Build a token that is signed with our key over incorrect padding (RFC 8017, section 8.2.2)."""
    return _signature(
        f"padding: {name}", source, lambda scene, text: raw_rsa(scene.mine, message(digest_of(text)))
    )


def _der(info: str) -> Callable[[bytes], bytes]:
    return lambda digest: encoded_message(bytes.fromhex(info), digest)


def _real(scene: Scene, text: str) -> bytes:
    return raw_rsa(scene.mine, encoded_message(SHA256_INFO, digest_of(text)))


def _modulus(scene: Scene) -> int:
    return scene.mine.public_key().public_numbers().n


def _number(signature: bytes) -> int:
    return int.from_bytes(signature, "big")


_WYCHEPROOF = "Wycheproof json_web_signature, ModifiedPadding; RFC 8017, 8.2.2"

SIGNATURES = [
    _padded("length in long form", _WYCHEPROOF, _der("308131300d060960864801650304020105000420")),
    _padded("length too large by one", _WYCHEPROOF, _der("3032300d060960864801650304020105000420")),
    _padded("no NULL in the algorithm", _WYCHEPROOF, _der("302f300b06096086480165030402010420")),
    _padded("no DigestInfo", "RFC 8017, 9.2", lambda digest: encoded_message(b"", digest)),
    _padded("DigestInfo of SHA-1", "RFC 8725, 3.2", _der("3021300906052b0e03021a05000414")),
    _padded(
        "garbage after the digest", "CVE-2006-4339 (Bleichenbacher)",
        lambda digest: (b"\x00\x01" + b"\xff" * 8 + b"\x00" + SHA256_INFO + digest).ljust(256, b"\x07"),
    ),
    _padded(
        "a filler that is not FF", _WYCHEPROOF,
        lambda digest: encoded_message(SHA256_INFO, digest, filler=b"\xfe"),
    ),
    _signature("a signature of 0", "Wycheproof SignatureIs0", lambda scene, text: bytes(256)),
    _signature("a signature of 1", "Wycheproof SignatureIs1", lambda scene, text: bytes(255) + b"\x01"),
    _signature(
        "a signature that is not reduced", "Wycheproof SignatureIsnotReduced",
        lambda scene, text: (_number(_real(scene, text)) + _modulus(scene)).to_bytes(257, "big"),
    ),
    _signature(
        "zeros before the signature", "Wycheproof prependingZerosToSignature",
        lambda scene, text: b"\0" + _real(scene, text),
    ),
    _signature(
        "a signature that is cut off", "Wycheproof truncatedSignature",
        lambda scene, text: _real(scene, text)[:-1],
    ),
    _signature("an empty signature", "Wycheproof rejectsMissingSignature", lambda scene, text: b""),
    _signature(
        "a signature with one bit changed", "Wycheproof rejectsModifiedSignature",
        lambda scene, text: (_number(_real(scene, text)) ^ 1).to_bytes(256, "big"),
    ),
    _signature(
        "a signature over the claims alone", "RFC 7515, 5.1",
        lambda scene, text: _real(scene, text.rpartition(".")[2]),
    ),
    _signature(
        "a signature over the unencoded claims", "RFC 7797, 3",
        lambda scene, text: _real(scene, text.partition(".")[0] + "." + json.dumps(scene.claims())),
    ),
    _signature(
        "the signature of another token", "RFC 8725, 3.3",
        lambda scene, text: unb64(parts_of(scene.pool.token())[2]),
    ),
]  # fmt: skip


def _swapped(name: str, source: str, change: Callable[[Scene, list[str]], list[str]]) -> Attack:
    """Build a valid token, and replace one part by that of another or by an equivalent text."""
    return attack(
        name,
        source,
        "bad_signature",
        lambda scene: ".".join(change(scene, parts_of(valid_token(scene)))),
        needs_no_key=False,
    )


SWAPS = [
    _swapped("the claims of another token", "RFC 8725, 3.3; Wycheproof rejectsModifiedPayload",
             lambda scene, parts: [parts[0], b64(as_json(scene.claims(scope="admin/all"))), parts[2]]),
    _swapped("the header with whitespace that was not signed", "Wycheproof rejectsModifiedHeader",
             lambda scene, parts: [b64(json.dumps(jose_header(scene), indent=1).encode()), *parts[1:]]),
    _swapped("the same claims, escaped differently", "RFC 7515, 5.2",
             lambda scene, parts: [
                 parts[0], b64(as_json(scene.claims()).replace(b"shop", b"\\u0073hop")), parts[2]]),
]  # fmt: skip

ATTACKS = [*ALGORITHMS, *PARAMETERS, *SIGNATURES, *SWAPS]
