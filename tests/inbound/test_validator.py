"""Which tokens are rejected, and for which reason; and which are accepted."""

from __future__ import annotations

import hashlib
import hmac
import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from flask_m2m_cognito import TokenValidationError
from flask_m2m_cognito.inbound.validated_access_token import ValidatedAccessToken
from flask_m2m_cognito.testing import LocalUserPool
from tests.inbound.trusted import reason_of, validator_of
from tests.support.clocks import NOW

Make = Callable[[LocalUserPool], "str"]

FORGERS_KEY = generate_private_key(public_exponent=65537, key_size=2048)


def b64(content: bytes) -> str:
    return urlsafe_b64encode(content).rstrip(b"=").decode()


def with_part(position: int, change: Callable[[str], str]) -> Make:
    """Return a valid token with one of its three parts changed."""

    def make(pool: LocalUserPool) -> str:
        parts = pool.token().split(".")
        parts[position] = change(parts[position])
        return ".".join(parts)

    return make


def with_header(**headers: Any) -> Make:
    """Return a valid token with these header members in addition; ``None`` leaves one out."""
    return lambda pool: pool.token(headers=headers)


def with_raw_header(text: str) -> Make:
    return lambda pool: pool.sign(
        {"iss": pool.issuer}, headers=text.replace("KID", json.dumps(pool.kid)).encode()
    )


def with_claims(**claims: Any) -> Make:
    """Return a valid token with these claims in addition; ``None`` leaves one out."""
    return lambda pool: pool.token(**claims)


def with_raw(name: str, text: str) -> Make:
    """Return a valid token in which this claim has exactly this text, JSON or not."""

    def make(pool: LocalUserPool) -> str:
        usual = {
            "iss": pool.issuer,
            "sub": "local-client",
            "client_id": "local-client",
            "token_use": "access",
            "iat": NOW,
            "exp": NOW + 60,
        }
        written = {key: json.dumps(value) for key, value in usual.items()} | {name: text}
        return pool.sign(
            ("{" + ",".join(f'"{key}":{value}' for key, value in written.items()) + "}").encode()
        )

    return make


def with_raw_issuer(text: str, escaped: Callable[[str], str] = str) -> Make:
    """Return a valid token with this text of iss; OURS stands for the pool's issuer."""
    return lambda pool: with_raw("iss", text.replace("OURS", f'"{escaped(pool.issuer)}"'))(pool)


def with_payload(pool: LocalUserPool) -> bytes:
    """Return the JSON of a valid token's claims."""
    payload = with_raw("y", "1")(pool).split(".")[1]
    return urlsafe_b64decode(payload + "=" * (-len(payload) % 4))


def filled(opening: str, unit: str, closing: str, size: int = 5000) -> str:
    """Return JSON of about ``size`` bytes, so the token with its signature still fits into a header."""
    return opening + ",".join([unit] * (size // (len(unit) + 1))) + closing


def with_issuer(change: Callable[[str], Any]) -> Make:
    return lambda pool: pool.token(iss=change(pool.issuer))


def hmac_with_the_public_key(pool: LocalUserPool) -> str:
    """Return a token of algorithm confusion: an HMAC with the public key, under alg RS256."""
    signing_input, _, _ = pool.token().rpartition(".")
    pem = FORGERS_KEY.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return f"{signing_input}.{b64(hmac.new(pem, signing_input.encode(), hashlib.sha256).digest())}"


def with_other_claims_under_its_signature(pool: LocalUserPool) -> str:
    header, _, signature = pool.token().split(".")
    _, payload, _ = pool.token(scopes="admin/all").split(".")
    return f"{header}.{payload}.{signature}"


NEEDS_NO_KEY = [
    pytest.param(lambda pool: "", "malformed", id="no text"),
    pytest.param(lambda pool: "nonsense", "malformed", id="one part"),
    pytest.param(lambda pool: "..", "malformed", id="three empty parts"),
    pytest.param(lambda pool: pool.token().rpartition(".")[0], "malformed", id="two parts"),
    pytest.param(lambda pool: pool.token() + ".", "malformed", id="four parts"),
    pytest.param(lambda pool: "a.b.c.d.e", "malformed", id="five parts, as an encrypted token has"),
    pytest.param(lambda pool: pool.token() + " ", "malformed", id="a space at the end"),
    pytest.param(lambda pool: " " + pool.token(), "malformed", id="a space at the beginning"),
    pytest.param(lambda pool: pool.token() + "\n", "malformed", id="a line end at the end"),
    pytest.param(lambda pool: pool.token() + "\0", "malformed", id="NUL at the end"),
    pytest.param(lambda pool: pool.token() + "é", "malformed", id="a letter that is not ASCII"),
    pytest.param(lambda pool: pool.token() + "\ud800", "malformed", id="a lone surrogate"),
    pytest.param(lambda pool: "Bearer " + pool.token(), "malformed", id="the scheme before it"),
    pytest.param(with_part(0, lambda part: part + "=="), "malformed", id="padding of the header"),
    pytest.param(with_part(1, lambda part: part + "="), "malformed", id="padding of the payload"),
    pytest.param(with_part(2, lambda part: part + "=="), "malformed", id="padding of the signature"),
    pytest.param(
        with_part(2, lambda part: part[:-1] + "B"), "malformed", id="signature that is not canonical"
    ),
    pytest.param(
        with_part(2, lambda part: "+/" + part[2:]), "malformed", id="signature in the other alphabet"
    ),
    pytest.param(with_part(0, lambda part: b64(b"[]")), "malformed", id="header that is a list"),
    pytest.param(with_part(0, lambda part: b64(b'"RS256"')), "malformed", id="header that is text"),
    pytest.param(with_part(0, lambda part: b64(b"nonsense")), "malformed", id="header that is no JSON"),
    pytest.param(with_part(1, lambda part: b64(b"null")), "malformed", id="payload that is null"),
    pytest.param(with_part(1, lambda part: b64(b"\xff\xff")), "malformed", id="payload that is no text"),
    pytest.param(with_part(1, lambda part: part + "AAAA"), "malformed", id="payload with more behind it"),
    pytest.param(
        with_raw_header('{"alg":"none","alg":"RS256","kid":KID}'), "malformed", id="header with alg twice"
    ),
    pytest.param(
        with_raw_header('{"alg":"RS256","kid":"other","kid":KID}'), "malformed", id="header with kid twice"
    ),
    pytest.param(with_raw("x", '1,"iss":"other"'), "malformed", id="claims with iss twice"),
    pytest.param(with_raw("x", '{"a":1,"a":2}'), "malformed", id="claims with a name twice, deeper"),
    pytest.param(with_raw("exp", "NaN"), "malformed", id="exp NaN"),
    pytest.param(with_raw("exp", "Infinity"), "malformed", id="exp Infinity"),
    pytest.param(with_raw("iss", filled("[", "1", "]")), "wrong_issuer", id="iss that is a long list"),
    pytest.param(
        with_raw("iss", '"https://issuer.example.com","x":' + filled("[", "1", "]")),
        "wrong_issuer",
        id="another iss in long claims",
    ),
    pytest.param(with_header(kid=None), "malformed", id="no kid"),
    pytest.param(with_header(kid=""), "malformed", id="empty kid"),
    pytest.param(with_header(kid=7), "malformed", id="kid that is a number"),
    pytest.param(with_header(kid=["a"]), "malformed", id="kid that is a list"),
    pytest.param(with_header(kid="k" * 257), "malformed", id="kid of more than 256 characters"),
    pytest.param(with_header(crit=["exp"]), "malformed", id="crit"),
    pytest.param(with_header(crit=[]), "malformed", id="empty crit"),
    pytest.param(with_header(crit=["b64"], b64=False), "malformed", id="crit with b64"),
    pytest.param(with_issuer(lambda issuer: None), "malformed", id="no iss"),
    pytest.param(with_issuer(lambda issuer: 7), "malformed", id="iss that is a number"),
    pytest.param(
        with_issuer(lambda issuer: [issuer]), "malformed", id="iss that is a list with the right one"
    ),
    pytest.param(with_header(alg=None), "wrong_algorithm", id="no alg"),
    pytest.param(with_header(alg="none"), "wrong_algorithm", id="alg none"),
    pytest.param(with_header(alg="HS256"), "wrong_algorithm", id="alg HS256"),
    pytest.param(with_header(alg="RS384"), "wrong_algorithm", id="alg RS384"),
    pytest.param(with_header(alg="PS256"), "wrong_algorithm", id="alg PS256"),
    pytest.param(with_header(alg="ES256"), "wrong_algorithm", id="alg ES256"),
    pytest.param(with_header(alg="rs256"), "wrong_algorithm", id="alg in lower case"),
    pytest.param(with_header(alg=["RS256"]), "wrong_algorithm", id="alg that is a list"),
    pytest.param(with_header(alg="none", kid=None, crit=[]), "wrong_algorithm", id="alg before kid and crit"),
    pytest.param(with_issuer(lambda issuer: ""), "wrong_issuer", id="empty iss"),
    pytest.param(with_issuer(lambda issuer: issuer + "/"), "wrong_issuer", id="iss with a slash behind it"),
    pytest.param(with_issuer(lambda issuer: issuer[:-1]), "wrong_issuer", id="iss that is too short"),
    pytest.param(with_issuer(lambda issuer: issuer + "x"), "wrong_issuer", id="iss that is too long"),
    pytest.param(with_issuer(lambda issuer: issuer + " "), "wrong_issuer", id="iss with a space"),
    pytest.param(with_issuer(lambda issuer: issuer.upper()), "wrong_issuer", id="iss in upper case"),
    pytest.param(
        with_issuer(lambda issuer: issuer.replace("http:", "https:")),
        "wrong_issuer",
        id="iss of another scheme",
    ),
    pytest.param(
        with_issuer(lambda issuer: issuer + "\ud800"), "wrong_issuer", id="iss with a lone surrogate"
    ),
    pytest.param(
        with_issuer(lambda issuer: issuer.replace("o", "\u043e")), "wrong_issuer", id="iss with a Cyrillic o"
    ),
]

SIGNED_BY_ANOTHER = [
    pytest.param(with_header(kid="never-heard-of"), "unknown_key", id="a kid that the pool does not have"),
    pytest.param(with_header(kid="\ud800"), "unknown_key", id="a kid that is a lone surrogate"),
    pytest.param(
        with_header(kid="x", jwk={"kty": "RSA"}, jku="http://127.0.0.1:9/", x5u="http://127.0.0.1:9/"),
        "unknown_key",
        id="a key or its URL in the header",
    ),
    pytest.param(lambda pool: pool.token(key=FORGERS_KEY), "bad_signature", id="another key under its kid"),
    pytest.param(with_other_claims_under_its_signature, "bad_signature", id="other claims"),
    pytest.param(hmac_with_the_public_key, "bad_signature", id="HMAC under alg RS256"),
    pytest.param(with_part(2, lambda part: ""), "bad_signature", id="no signature"),
    pytest.param(with_part(2, lambda part: part[:-2]), "bad_signature", id="a signature that is too short"),
    pytest.param(
        with_part(2, lambda part: "AAAA" + part), "bad_signature", id="a signature that is too long"
    ),
    pytest.param(with_part(2, lambda part: "A" * len(part)), "bad_signature", id="a signature of zeros"),
]

BAD_CLAIMS = [
    pytest.param(lambda pool: pool.id_token(), "wrong_token_use", id="an ID token of a user"),
    pytest.param(with_claims(token_use=None), "wrong_token_use", id="no token_use"),
    pytest.param(with_claims(token_use="Access"), "wrong_token_use", id="token_use in another case"),
    pytest.param(with_claims(token_use=["access"]), "wrong_token_use", id="token_use that is a list"),
    pytest.param(with_claims(token_use=True), "wrong_token_use", id="token_use that is true"),
    *(
        pytest.param(with_raw(name, text), "malformed", id=f"{name} {description}")
        for name in ("exp", "iat", "nbf")
        for description, text in {
            "that is null": "null",
            "that is text": f'"{NOW + 60}"',
            "that is true": "true",
            "that is a list": f"[{NOW + 60}]",
            "too large for a float": "1e400",
            "of 400 digits": "9" * 400,
            "of 2**53": str(2**53),
            "of -2**53": str(-(2**53)),
        }.items()
    ),
    pytest.param(with_raw("exp", "9" * 5000), "malformed", id="exp of 5000 digits"),
    *(
        pytest.param(with_raw("x", text), "malformed", id=f"long claims with {description}")
        for description, text in {
            "a name twice": filled("[", '{"a":1}', "]") + ',"exp":9999999999',
            "a name twice, deeper": filled("[", '{"a":1}', ',{"a":1,"a":1}]'),
            "NaN": filled("[", "1", ",NaN]"),
            "an infinity": filled("[", "1.5", ",-Infinity]"),
            "two values side by side": filled("[", "1", " 1]"),
            "a list without an end": filled("[", "1", ""),
            "lists without an end": "[" * 5000,
        }.items()
    ),
    pytest.param(
        with_raw_issuer('{"iss":OURS},"x":' + filled("[", "1", "]")),
        "malformed",
        id="an iss in iss, in long claims",
    ),
    pytest.param(
        with_raw_issuer('"https://evil.example","x":{"iss":OURS},"y":' + filled("[", "1", "]")),
        "wrong_issuer",
        id="our issuer only deeper, in long claims",
    ),
    pytest.param(with_claims(exp=None), "malformed", id="no exp"),
    pytest.param(with_claims(iat=None), "malformed", id="no iat"),
    pytest.param(with_claims(exp=NOW), "expired", id="exp is now"),
    pytest.param(with_claims(exp=-1), "expired", id="exp before the epoch"),
    pytest.param(with_raw("exp", "1e3"), "expired", id="exp as a float, long ago"),
    pytest.param(with_claims(nbf=NOW + 1), "not_yet_valid", id="nbf in the future"),
    pytest.param(with_raw("nbf", "9e15"), "not_yet_valid", id="nbf as a float, far in the future"),
    pytest.param(lambda pool: pool.token(without="client_id"), "missing_client_id", id="no client_id"),
    pytest.param(with_raw("client_id", '""'), "missing_client_id", id="empty client_id"),
    pytest.param(with_raw("client_id", "7"), "missing_client_id", id="client_id that is a number"),
    pytest.param(
        with_raw("client_id", '["local-client"]'), "missing_client_id", id="client_id that is a list"
    ),
    *(
        pytest.param(with_raw("sub", text), "malformed", id=f"sub that is {description}")
        for description, text in {
            "a number": "7",
            "null": "null",
            "true": "true",
            "a list": '["local-client"]',
            "an object": '{"local-client":1}',
        }.items()
    ),
    pytest.param(lambda pool: pool.user_token(), "user_token", id="a user access token"),
    pytest.param(with_claims(username="ada"), "user_token", id="a username"),
    pytest.param(with_claims(username=""), "user_token", id="an empty username"),
    pytest.param(with_raw("username", "null"), "user_token", id="a username that is null"),
    pytest.param(with_claims(sub="somebody"), "user_token", id="a sub that is not the client"),
    pytest.param(with_claims(sub=None), "user_token", id="no sub"),
    pytest.param(with_claims(scope=["inventory/read"]), "malformed", id="scope that is a list"),
    pytest.param(with_claims(scope=7), "malformed", id="scope that is a number"),
    pytest.param(with_claims(scope={"inventory/read": 1}), "malformed", id="scope that is an object"),
]


ANYTHING: dict[str, Make] = {
    "many numbers": with_raw("x", filled("[", "1", "]")),
    "many floats": with_raw("x", filled("[", "3e-310", "]")),
    "many texts": with_raw("x", filled("[", '""', "]")),
    "many empty lists": with_raw("x", filled("[", "[]", "]")),
    "many objects": with_raw("x", filled("[", '{"a":{}}', "]")),
    "many names": with_raw("x", json.dumps({f"{number:x}": 0 for number in range(500)})),
    "commas and brackets in a text": with_raw("x", json.dumps(",[{" * 1600)),
    "only opening brackets in a text": with_raw("x", json.dumps("[{" * 2000)),
    "escapes": with_raw("x", '"' + "\\u0041" * 800 + '"'),
    "a lone surrogate": with_raw("x", '"\\ud800"'),
    "quotes and backslashes": with_raw("x", json.dumps('"\\' * 1200)),
    "41 digits": with_raw("x", "-" + "1" * 41),
    "4300 digits": with_raw("x", "9" * 4300),
    "5000 digits": with_raw("x", "1" + "0" * 4999),
    "5000 digits below 0": with_raw("x", "-" + "7" * 5000),
    "a fraction of 5000 digits": with_raw("x", "0." + "7" * 5000),
    "spaces": with_raw("x", " " * 5000 + "1" + "\n\t\r"),
    "another token in a text": with_raw(
        "x", json.dumps(json.dumps({"iss": "https://evil.example", "x": [1] * 1000}))
    ),
    "issuers of others": with_raw("x", filled("[", '{"iss":"https://evil.example"}', "]")),
    "the issuer with escapes": with_raw_issuer(
        'OURS,"x":' + filled("[", "1", "]"), lambda issuer: issuer.replace("/", "\\/")
    ),
    "the issuer with other escapes": with_raw_issuer(
        'OURS,"x":' + filled("[", "1", "]"),
        lambda issuer: "".join(f"\\u{ord(char):04X}" for char in issuer),
    ),
    "iss with escapes and spaces": lambda pool: pool.sign(
        with_payload(pool).replace(b'"iss":', b'"x":[%s],"\\u0069s\\u0073" \n: ' % (b"1," * 999 + b"1"))
    ),
}
"""Claims that are well-formed, in tokens that fit into a header of 8 KiB."""


class TestRejections:
    @pytest.mark.parametrize(("make", "reason"), NEEDS_NO_KEY)
    def test_token_that_no_key_makes_valid_causes_no_download(
        self, pool: LocalUserPool, make: Make, reason: str
    ) -> None:
        pool.fail("jwks", status=500)
        assert reason_of(validator_of(pool), make(pool)) == reason
        assert pool.count("jwks") == 0

    @pytest.mark.parametrize(
        "token",
        [
            pytest.param(None, id="None"),
            pytest.param(7, id="a number"),
            pytest.param(["a.b.c"], id="a list"),
            pytest.param(b"\xff.\xff.\xff", id="bytes that are no text"),
        ],
    )
    def test_token_that_is_not_text_is_malformed(self, pool: LocalUserPool, token: object) -> None:
        assert reason_of(validator_of(pool), token) == "malformed"

    @pytest.mark.parametrize(("make", "reason"), SIGNED_BY_ANOTHER)
    def test_rejection_names_the_kid_and_the_pool(self, pool: LocalUserPool, make: Make, reason: str) -> None:
        token = make(pool)
        with pytest.raises(TokenValidationError) as raised:
            validator_of(pool).validate(token)
        assert raised.value.reason == reason
        header = token.partition(".")[0]
        assert raised.value.kid == json.loads(urlsafe_b64decode(header + "=" * (-len(header) % 4)))["kid"]
        assert raised.value.pool == pool.pool_id

    def test_rejection_of_an_untrusted_issuer_names_no_pool(self, pool: LocalUserPool) -> None:
        token = pool.token(iss="https://issuer.example.com")
        with pytest.raises(TokenValidationError) as raised:
            validator_of(pool).validate(token)
        assert (raised.value.kid, raised.value.pool) == (pool.kid, None)

    @pytest.mark.parametrize(("make", "reason"), [*NEEDS_NO_KEY, *SIGNED_BY_ANOTHER, *BAD_CLAIMS])
    def test_rejection_of_an_invalid_token_holds_no_token(
        self, pool: LocalUserPool, make: Make, reason: str
    ) -> None:
        validator = validator_of(pool, machine_tokens_only=True)
        token = make(pool)
        assert reason_of(validator, token) == reason
        with pytest.raises(TokenValidationError) as raised:
            validator.validate(token)
        error = raised.value
        assert error.reason == reason
        assert error.__cause__ is None
        assert error.__context__ is None
        for part in token.split("."):
            assert len(part) < 9 or part not in repr(error)
        assert pool.pool_id not in str(error)
        # An error tracker sends the local variables of each frame. This test's own frame does not count.
        frame = error.__traceback__
        inner = []
        while frame is not None:
            inner.append(frame.tb_frame)
            frame = frame.tb_next
        assert not any(value is token for each in inner[1:] for value in each.f_locals.values())


class TestAccepted:
    @pytest.mark.parametrize("make", [pytest.param(make, id=name) for name, make in ANYTHING.items()])
    def test_token_is_accepted_whatever_its_claims_contain(self, pool: LocalUserPool, make: Make) -> None:
        validator, token = validator_of(pool), make(pool)
        assert len(token) < 8186
        seen = [validator.validate(token).claims for _ in range(3)]
        assert seen[0] == seen[1] == seen[2]
        assert seen[0]["x"] not in (None, "")

    def test_long_token_may_mention_another_trusted_issuer(
        self, pool: LocalUserPool, own_pool: LocalUserPool
    ) -> None:
        other = filled("[", json.dumps({"iss": own_pool.issuer}), "]")
        for order in ([pool, own_pool], [own_pool, pool]):
            token = with_raw("act", other)(pool)
            assert validator_of(*order).validate(token).iss == pool.issuer

    @pytest.mark.parametrize("depth", [200, 700, 980, 1200, 2400])
    @pytest.mark.parametrize("frames", [0, 300, 500, 800])
    def test_deep_claims_are_accepted_at_any_stack_depth(
        self, pool: LocalUserPool, depth: int, frames: int
    ) -> None:
        validator, token = validator_of(pool), with_raw("x", "[" * depth + "]" * depth)(pool)
        validator.validate(pool.token())  # a download of the keys needs more of the stack

        def validate(frames: int) -> ValidatedAccessToken:
            return validate(frames - 1) if frames else validator.validate(token)

        for _ in range(3):
            assert len(validate(frames).claims["x"]) == 1

    @pytest.mark.parametrize(
        "make",
        [
            pytest.param(with_claims(), id="as Cognito issues it"),
            pytest.param(with_claims(exp=NOW + 0.5), id="exp as a float"),
            pytest.param(with_claims(nbf=NOW), id="nbf is now"),
            pytest.param(with_claims(iat=NOW + 3600), id="iat in the future, which is not checked"),
            pytest.param(with_claims(iat=0), id="iat long ago"),
            pytest.param(with_claims(scope=None), id="no scope"),
            pytest.param(with_raw("scope", "null"), id="scope that is null"),
            pytest.param(with_claims(aud=7), id="aud of a wrong type, which is not checked"),
            pytest.param(with_claims(nested={"a": [1]}), id="claims that are nested"),
            pytest.param(with_header(typ="at+jwt", x5t="x"), id="ignored header members"),
            pytest.param(
                with_header(jku="http://127.0.0.1:9/", x5u="x", jwk={}, x5c=[]), id="a key in the header"
            ),
            pytest.param(with_header(x5c=["M" * 9] * 40), id="forty certificates in the header"),
            pytest.param(with_header(x5c=["M" * 1500] * 3), id="long certificates in the header"),
        ],
    )
    def test_valid_token_is_accepted_each_time(self, pool: LocalUserPool, make: Make) -> None:
        validator = validator_of(pool, machine_tokens_only=True)
        token = make(pool)
        first, second = validator.validate(token), validator.validate(token)
        assert first == second
        assert first.client_id == "local-client"
        assert pool.count() == 1

    def test_claims_are_returned_as_signed(self, pool: LocalUserPool) -> None:
        validated = validator_of(pool).validate(pool.token("b/write a/read", jti="7", custom={"x": [1, "é"]}))
        assert validated.scopes == {"a/read", "b/write"}
        assert validated.claims == {
            "sub": "local-client",
            "token_use": "access",
            "scope": "b/write a/read",
            "iss": pool.issuer,
            "version": 2,
            "client_id": "local-client",
            "auth_time": NOW,
            "exp": NOW + 3600,
            "iat": NOW,
            "jti": "7",
            "custom": {"x": [1, "é"]},
        }

    @pytest.mark.parametrize("sub", [7, True, ["ada"], {"ada": 1}, 1.5])
    def test_sub_of_a_user_access_token_must_be_a_string(self, pool: LocalUserPool, sub: object) -> None:
        assert reason_of(validator_of(pool), pool.token(username="ada", sub=sub)) == "malformed"

    def test_user_access_token_may_lack_a_sub(self, pool: LocalUserPool) -> None:
        assert validator_of(pool).validate(pool.token(username="ada", without="sub")).sub is None

    def test_user_token_is_accepted_unless_machine_tokens_only(self, pool: LocalUserPool) -> None:
        validated = validator_of(pool).validate(pool.user_token(username="ada"))
        assert validated.claims["username"] == "ada"
