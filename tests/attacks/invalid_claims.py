"""Claims, times and issuers that no valid token has. Each token is signed with a key of the pool."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

from tests.attacks.forging import by_rsa, jose_header, valid_token
from tests.attacks.stage import Attack, Scene, attack

Issuer = Callable[[str], Any]

_LEEWAY = 10


def _claim(name: str, source: str, reason: str, **changed: Any) -> Attack:
    return attack(
        name,
        source,
        reason,
        lambda scene: valid_token(scene, **changed),
        needs_no_key=False,
    )


def _written(name: str, source: str, reason: str, claim: str, text: str) -> Attack:
    """Build a token with a claim whose JSON text is this."""

    def token(scene: Scene) -> str:
        others = json.dumps(scene.claims(**{claim: ...}))
        return by_rsa(scene, jose_header(scene), f'{others[:-1]},"{claim}":{text}}}'.encode())

    return attack(name, source, reason, token, needs_no_key=False)


def _from_now(name: str, source: str, reason: str, **seconds: float) -> Attack:
    """Build a token with times that are this many seconds from now."""
    return attack(
        name,
        source,
        reason,
        lambda scene: valid_token(scene, **{claim: time.time() + moved for claim, moved in seconds.items()}),
        needs_no_key=False,
    )


_NOT_TEXT: tuple[tuple[str, Any], ...] = (
    ("null", None),
    ("a number", 7),
    ("true", True),
    ("a list", ["shop"]),
    ("an object", {"shop": "shop"}),
)
_NOT_A_TIME: tuple[tuple[str, str], ...] = (
    ("null", "null"),
    ("text", '"9999999999"'),
    ("empty text", '""'),
    ("true", "true"),
    ("a list", "[9999999999]"),
    ("an object", '{"seconds":9999999999}'),
    ("beyond 2**53", "9007199254740993"),
    ("beyond any double", "1e400"),
)
_COGNITO = "Cognito Developer Guide, verifying a token"

TYPES = [
    *(
        _claim(f"token_use {name}", f"{_COGNITO}; RFC 8725, 3.11 and 3.12; aws-jwt-verify", "wrong_token_use",
               token_use=value)
        for name, value in (
            *_NOT_TEXT, ("absent", ...), ("empty", ""), ("id", "id"), 
            ("in upper case", "ACCESS"), ("a list of access", ["access"]),
            ("with a homoglyph", "\u0430ccess"), 
        )
    ),
    *(
        _claim(f"client_id {name}", f"{_COGNITO}; aws-jwt-verify: wrong types", "missing_client_id",
               client_id=value)
        for name, value in (*_NOT_TEXT, ("absent", ...), ("empty", ""), )
    ),
    *(
        _claim(f"sub {name}", "RFC 7519, 4.1.2: a string", "malformed", sub=value)
        for name, value in _NOT_TEXT
    ),
    *(
        _claim(f"sub {name}", "RFC 9068, 5; Cognito: a machine token has sub = client_id", "user_token",
               sub=value)
        for name, value in (
            ("absent", ...), ("empty", ""), ("of a user", "5b1c39de-8c2a-4e3f-a0a5"),
            ("of another client", "reports"), ("in upper case", "SHOP"), 
            ("with a homoglyph", "sh\u043ep"),
        )
    ),
    *(
        _claim(f"username {name}", "Cognito: a user access token", "user_token", username=value)
        for name, value in (("of a user", "ada"), ("empty", ""), ("null", None), ("the client's", "shop"))
    ),
    *(
        _claim(f"scope {name}", "RFC 8725, 2.9; RFC 9068, 2.2.3; aws-jwt-verify: scope is not a string",
               "malformed", scope=value)
        for name, value in (
            ("a number", 7), ("true", True), ("a list of the required ones", ["orders/read"]),
            ("an object", {"orders/read": True}),
        )
    ),
    *(
        attack(f"iss {name}", "RFC 8725, 3.8; CVE-2025-30144 (fast-jwt); aws-jwt-verify", reason,
                lambda scene, change=change: valid_token(scene, iss=change(scene.pool.issuer)),
                needs_no_key=True)
        for name, reason, change in (
            ("absent", "malformed", lambda issuer: ...),
            ("null", "malformed", lambda issuer: None),
            ("a number", "malformed", lambda issuer: 7),
            ("true", "malformed", lambda issuer: True),
            ("a list of the correct one", "malformed", lambda issuer: [issuer]),
            ("a list of the forger's and the correct one", "malformed",
             lambda issuer: ["https://attacker.example", issuer]),
            ("an object", "malformed", lambda issuer: {issuer: issuer}),
        )
    ),
]  # fmt: skip

TIMES = [
    *(
        _written(f"{claim} {name}", "RFC 7519, 4.1.4 and 2: NumericDate; aws-jwt-verify", "malformed", claim,
                 text)
        for claim in ("exp", "iat", "nbf")
        for name, text in _NOT_A_TIME
    ),
    _claim("exp absent", "RFC 8725, 3.10; RFC 9068, 2.2", "malformed", exp=...),
    _claim("iat absent", "RFC 9068, 2.2", "malformed", iat=...),
    _claim("exp 0", "RFC 7519, 4.1.4", "expired", exp=0),
    _written("exp that rounds to zero", "RFC 7519, 4.1.4", "expired", "exp", "1e-400"),
    _from_now("expired an hour ago", "RFC 7519, 4.1.4; aws-jwt-verify: expired jwt", "expired", exp=-3600),
    _from_now("expired just beyond the leeway", "aws-jwt-verify: just too little graceSeconds", "expired",
           exp=-_LEEWAY - 0.01),
    _from_now("valid in an hour", "RFC 7519, 4.1.5; aws-jwt-verify: not before", "not_yet_valid", nbf=3600),
    _from_now("valid just beyond the leeway", "RFC 7519, 4.1.5", "not_yet_valid", nbf=_LEEWAY + 1),
    _from_now("valid only after it has expired", "RFC 7519, 4.1.5", "not_yet_valid", exp=3600, nbf=7200),
]  # fmt: skip


def _issuer(name: str, source: str, change: Issuer) -> Attack:
    return attack(
        f"issuer {name}",
        source,
        "wrong_issuer",
        lambda scene: valid_token(scene, iss=change(scene.pool.issuer)),
        needs_no_key=True,
    )


_EXACT = "RFC 8725, 3.8; RFC 9207, 2.4: compared as text"

ISSUERS = [
    _issuer("with a trailing slash", _EXACT, lambda issuer: issuer + "/"),
    _issuer("without its last character", "CVE-2024-53861 (PyJWT): a part of it", lambda issuer: issuer[:-1]),
    _issuer("that is a part of the correct one", "CVE-2024-53861 (PyJWT)", lambda issuer: issuer[2:9]),
    _issuer("that is empty", "CVE-2024-53861 (PyJWT)", lambda issuer: ""),
    _issuer("in upper case", _EXACT, str.upper),
    _issuer("with another scheme", _EXACT, lambda issuer: issuer.replace("http", "https", 1)),
    _issuer("of another pool", _EXACT, lambda issuer: issuer.replace("LocalPool", "Elsewhere")),
    _issuer("with another port", _EXACT, lambda issuer: issuer.replace(":", ":1", 2)),
    _issuer("with another name of the host", _EXACT, lambda issuer: issuer.replace("127.0.0.1", "localhost")),
    _issuer("with a user before the host", _EXACT, lambda issuer: issuer.replace("//", "//a@")),
    _issuer("followed by another host", _EXACT, lambda issuer: issuer + "@attacker.example"),
    _issuer("with dots in the path", _EXACT, lambda issuer: issuer.replace("/us-", "/./us-")),
    _issuer("with a percent escape", _EXACT, lambda issuer: issuer.replace("_", "%5F")),
    _issuer("with a leading space", _EXACT, lambda issuer: " " + issuer),
    _issuer("with a trailing newline", _EXACT, lambda issuer: issuer + "\n"),
    _issuer("followed by NUL and more", _EXACT, lambda issuer: issuer + "\0.attacker.example"),
    _issuer("with a homoglyph", "RFC 8725, 2.4; UTS 39", lambda issuer: issuer.replace("o", "\u043e", 1)),
    _issuer("with full-width letters", "UTS 46", lambda issuer: issuer.replace("L", "\uff2c", 1)),
    _issuer("with a lone surrogate", "RFC 8259, 8.2", lambda issuer: issuer + "\ud800"),
    _issuer("two, separated by a comma", _EXACT, lambda issuer: issuer + "," + issuer),
    _issuer("of the forger", _EXACT, lambda issuer: "https://attacker.example"),
    _issuer("of 4000 characters", "CWE-400", lambda issuer: issuer + "x" * 4000),
    attack("issuer of the forger's pool, which publishes its keys", "RFC 8725, 3.8 and 3.10",
            "wrong_issuer", lambda scene: scene.elsewhere.token(client_id="shop"), needs_no_key=True),
    attack("issuer of the forger's pool, signed with our key", "RFC 8725, 3.8", "wrong_issuer",
            lambda scene: valid_token(scene, iss=scene.elsewhere.issuer),
            needs_no_key=True),
    attack("the correct issuer, signed by the forger's pool", "RFC 8725, 3.8", "unknown_key",
            lambda scene: scene.elsewhere.token(client_id="shop", iss=scene.pool.issuer),
            needs_no_key=False),
]  # fmt: skip

ATTACKS = [*TYPES, *TIMES, *ISSUERS]

# -- issuers of Cognito, for a service whose issuers are derived from its pool --------------------

POOL_ID = "us-west-2_AbCdEfGhI"
_RIGHT = f"https://cognito-idp.us-west-2.amazonaws.com/{POOL_ID}"

COGNITO_ISSUERS = [
    (name, issuer)
    for name, issuer in (
        ("another region", _RIGHT.replace("us-west-2", "us-east-1")),
        ("another pool", _RIGHT[:-1] + "J"),
        ("China", _RIGHT.replace(".com/", ".com.cn/")),
        ("FIPS", _RIGHT.replace("cognito-idp.", "cognito-idp-fips.")),
        ("the host of identity pools", _RIGHT.replace("cognito-idp.", "cognito-identity.")),
        ("http", _RIGHT.replace("https", "http")),
        ("a port", _RIGHT.replace(".com/", ".com:443/")),
        ("a trailing slash", _RIGHT + "/"),
        ("a host that begins with the correct one", _RIGHT.replace(".com/", ".com.attacker.example/")),
        ("a host that ends with the correct one", _RIGHT.replace("//cognito", "//attacker-cognito")),
        ("the correct one as a user", _RIGHT.replace("/us-west", "@attacker.example/us-west")),
        ("a homoglyph", _RIGHT.replace("amazonaws", "amaz\u043enaws")),
        ("the URL of the keys", _RIGHT + "/.well-known/jwks.json"),
    )
]
COGNITO_OWN_ISSUERS = (_RIGHT, _RIGHT.replace("//cognito", "//issuer-cognito"))
