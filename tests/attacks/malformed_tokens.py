"""Malformed and ambiguous encodings and JSON. Where a token has a signature, the signature is valid."""

from __future__ import annotations

import json
import zlib
from base64 import b64encode, urlsafe_b64encode
from collections.abc import Callable
from dataclasses import replace

from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.hashes import SHA256

from tests.attacks.forging import b64, by_rsa, jose_header, parts_of, valid_token, with_signature
from tests.attacks.stage import OUR_KID, Attack, Scene, attack

Change = Callable[[str], str]
Encode = Callable[[bytes], str]

_ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
_B64 = "RFC 7515, 2: base64url without padding"
_PARTS = ("header", "payload", "signature")


def _token(scene: Scene) -> str:
    return valid_token(scene)


def _malformed(name: str, source: str, token: Callable[[Scene], str], reason: str = "malformed") -> Attack:
    return attack(name, source, reason, token)


def _changed(name: str, source: str, change: Change, reason: str = "malformed") -> Attack:
    """Build a valid token, and change its text."""
    return _malformed(name, source, lambda scene: change(_token(scene)), reason)


def _in_part(position: int, change: Change) -> Change:
    def changed(token: str) -> str:
        parts = parts_of(token)
        parts[position] = change(parts[position])
        return ".".join(parts)

    return changed


def _inserted(text: str) -> Change:
    return lambda token: token[: len(token) // 2] + text + token[len(token) // 2 :]


def _signed_text(scene: Scene, header: str, payload: str) -> str:
    """Sign two encoded parts exactly as they are."""
    text = f"{header}.{payload}"
    return with_signature(text, scene.mine.sign(text.encode(), PKCS1v15(), SHA256()))


def _encoded(position: int, encode: Encode) -> Callable[[Scene], str]:
    """Build a token of which one part is encoded differently, and sign it like that."""

    def token(scene: Scene) -> str:
        contents = [json.dumps(jose_header(scene)).encode(), json.dumps(scene.claims()).encode()]
        if position == 2:
            return _token(scene)[:-342] + encode(scene.mine.sign(b"", PKCS1v15(), SHA256()))
        # Two bytes in the last group, so that it has unused bits.
        content = contents[position] + b" " * ((2 - len(contents[position])) % 3)
        parts = [b64(each) for each in contents]
        parts[position] = encode(content)
        return _signed_text(scene, parts[0], parts[1])

    return token


def _with_unused_bits(content: bytes) -> str:
    """Return another text for the same bytes, for readers that ignore unused bits."""
    part = b64(content)
    assert len(part) % 4 in (2, 3)
    return part[:-1] + _ALPHABET[_ALPHABET.index(part[-1]) + 1]


def _with_impossible_length(content: bytes) -> str:
    part = b64(content)
    return part[: len(part) // 4 * 4 - 3]


def _in_hexadecimal(content: bytes) -> str:
    """Return hexadecimal text of a length that base64url cannot have, so it cannot be valid by chance."""
    text = content.hex()
    return text.ljust(len(text) // 4 * 4 + 5, "0")


def _in_every_part(
    name: str, source: str, encode: Encode, reasons: tuple[str, str, str] = ("malformed",) * 3
) -> list[Attack]:
    return [
        _malformed(f"{name} in the {part}", source, _encoded(position, encode), reasons[position])
        for position, part in enumerate(_PARTS)
    ]


_NO_TOKEN = ("bad_header",) * 3

ENCODINGS = [
    *_in_every_part(
        "padding", _B64 + "; Wycheproof invalidBase64Padding",
        lambda content: urlsafe_b64encode(content + b"\0" * (1 - len(content) % 3)).decode(),
        ("bad_header", "bad_header", "malformed"),
    ),
    *_in_every_part(
        "unused bits set", "RFC 7515, 2; RFC 4648, 3.5; Wycheproof ModifiedUnusedBits", _with_unused_bits
    ),
    *_in_every_part("an impossible length", "RFC 4648, 4", _with_impossible_length),
    *_in_every_part(
        "a standard base64 character", "RFC 7515, 2; RFC 4648, 5", lambda content: "+/" + b64(content)[2:]
    ),
    *_in_every_part("a tilde", "RFC 4648, 3.3", lambda content: "~" + b64(content)[1:]),
    *_in_every_part("a space", "Wycheproof spacesInHeader", lambda content: "A A" + b64(content), _NO_TOKEN),
    *_in_every_part("a newline", "RFC 4648, 3.1", lambda content: "A\n" + b64(content), _NO_TOKEN),
    *_in_every_part("a percent escape", "RFC 6750, 2.1", lambda content: "%41" + b64(content), _NO_TOKEN),
    *_in_every_part("hexadecimal", "RFC 7515, 2", _in_hexadecimal),
    *_in_every_part("nothing", "Wycheproof rejectsMissingHeader, rejectsMissingPayload",
                    lambda content: "", ("malformed", "malformed", "bad_signature"))[:2],
    _changed("a space before the token and one inside", "RFC 6750, 2.1", _inserted(" "), "bad_header"),
    _changed("CR LF inside", "RFC 9110, 5.5: header injection", _inserted("\r\n"), "bad_header"),
    _changed("NUL inside", "RFC 9110, 5.5", _inserted("\0"), "bad_header"),
    _changed("a trailing newline", "RFC 7515, 7.1", lambda token: token + "\n", "bad_header"),
    _changed("a character that is not ASCII", "RFC 7515, 7.1", _inserted("\xe9"), "bad_header"),
    _changed("escaped dots", "RFC 7515, 7.1", lambda token: token.replace(".", "%2E"), "bad_header"),
    _changed("the scheme twice", "RFC 6750, 2.1", lambda token: "Bearer " + token, "bad_header"),
    _changed("encoded again in base64", "RFC 7515, 7.1", lambda token: b64(token.encode())),
]  # fmt: skip


def _json_serialisation(scene: Scene, flattened: bool) -> str:
    protected, payload, signature = parts_of(_token(scene))
    signed = {"protected": protected, "signature": signature}
    members = signed if flattened else {"signatures": [signed]}
    return json.dumps({"payload": payload, **members}, separators=(",", ":"))


def _nested(scene: Scene, header: dict[str, str]) -> str:
    """Build a token whose payload is a valid token."""
    return by_rsa(scene, jose_header(scene, **header), _token(scene).encode())


_FORM = "RFC 7515, 7.1: three parts; Wycheproof; aws-jwt-verify: less or more than 3 parts"

FORMS = [
    _changed("no signature and no dot before it", _FORM, lambda token: token.rpartition(".")[0]),
    _changed("the header and two dots", _FORM, lambda token: token.partition(".")[0] + ".."),
    _changed("no header", "Wycheproof rejectsMissingHeaderAndSeparator", lambda t: t.partition(".")[2]),
    _changed("no payload", "RFC 7515, appendix F: detached content", _in_part(1, lambda part: "")),
    _changed("one dot too many", "Wycheproof rejectsExtraEmptyComponent", lambda token: token + "."),
    _changed("a fourth part", "Wycheproof rejectsExtraComponent", lambda token: token + ".AAAA"),
    _changed("five parts", "RFC 7516, 3.1: an encrypted token", lambda token: token + ".AAAA.AAAA"),
    _malformed("only dots", _FORM, lambda scene: ".."),
    _malformed("three letters", _FORM, lambda scene: "a.a.a"),
    _malformed("a word", "aws-jwt-verify: not a JWT", lambda scene: "null"),
    _malformed(
        "JSON, flattened", "RFC 8725, 2.10; RFC 7515, 7.2.2; Wycheproof JsonSerialization",
        lambda scene: _json_serialisation(scene, True), "bad_header",
    ),
    _malformed(
        "JSON, general", "RFC 7515, 7.2.1; CVE-2025-61920 (Authlib)",
        lambda scene: _json_serialisation(scene, False), "bad_header",
    ),
    _malformed("JSON in base64url", "RFC 7515, 7.2.2",
            lambda scene: b64(_json_serialisation(scene, True).encode())),
    _malformed("a token in a token", "RFC 7519, 5.2 and 7.2", lambda scene: _nested(scene, {"cty": "JWT"})),
    _malformed("a token in a token, without cty", "RFC 7519, 5.2", lambda scene: _nested(scene, {})),
    _malformed("the header of an encrypted token", "RFC 7516, 4; CVE-2024-33664 (python-jose)",
            lambda scene: by_rsa(scene, {"alg": "RSA-OAEP", "enc": "A128GCM", "zip": "DEF"}),
            "wrong_algorithm"),
    _malformed("an unsigned token of another kind", "PASETO", lambda scene: "v2.public.AAAA"),
    _malformed("an opaque token", "RFC 6750, 2.1", lambda scene: "mF_9.B5f-4.1JqM"),
]  # fmt: skip

# -- JSON ----------------------------------------------------------------------------------------


def _payload(name: str, source: str, text: Callable[[str], str | bytes]) -> Attack:
    """Build a token with changed JSON of its claims."""

    def token(scene: Scene) -> str:
        changed = text(json.dumps(scene.claims(), separators=(",", ":")))
        return by_rsa(
            scene, jose_header(scene), changed if isinstance(changed, bytes) else changed.encode("utf-8")
        )

    return _malformed(f"claims {name}", source, token)


def _header(name: str, source: str, text: str | bytes, reason: str = "malformed") -> Attack:
    """Build a token with a header of this text, in which KID stands for a known kid."""

    def token(scene: Scene) -> str:
        content = text if isinstance(text, bytes) else text.encode("utf-8")
        return by_rsa(scene, content.replace(b"KID", json.dumps(OUR_KID).encode()))

    return _malformed(f"header {name}", source, token, reason)


def _with(more: str) -> Callable[[str], str]:
    """Append something after the last claim."""
    return lambda text: text[:-1] + "," + more + "}"


_TWICE = "RFC 7519, 4 and RFC 7515, 4: names are unique; RFC 8725, 2.6"
_NUMBERS = "RFC 8259, 6: JSON has no such numbers"
_DEEP = "RFC 8259, 9: limits on depth; CWE-674"
_UTF8 = "RFC 7519, 7.1; RFC 8725, 3.7: UTF-8"

JSON = [
    *(
        _payload(f"with {name} twice", _TWICE, _with(f'"{name}":{value}'))
        for name, value in (
            ("iss", '"https://attacker.example"'),
            ("exp", "9999999999"),
            ("token_use", '"access"'),
            ("client_id", '"admin"'),
            ("scope", '"admin/all"'),
            ("jti", "1"),
            ("", '1,"":2'),
        )
    ),
    _payload("with a name twice, once escaped", _TWICE, _with('"\\u0069ss":"https://attacker.example"')),
    _payload("with a name twice, other value first", _TWICE, lambda text: '{"client_id":"admin",' + text[1:]),
    _payload("with a name twice, deeper", _TWICE, _with('"x":{"a":1,"a":2}')),
    *(
        _payload(f"with {name}", _NUMBERS, _with(f'"x":{value}'))
        for name, value in (
            ("NaN", "NaN"), ("Infinity", "Infinity"), ("minus Infinity", "-Infinity"),
            
            
        )
    ),
    # The library does not parse long claims before it has verified the signature.
    replace(_payload("that nest 5000 lists", _DEEP, _with('"x":' + "[" * 5000)), needs_no_key=False),
    _payload("as a list", "RFC 7519, 7.2: an object; aws-jwt-verify", lambda text: f"[{text}]"),
    _payload("as null", "RFC 7519, 7.2", lambda text: "null"),
    _payload("that are cut off", "RFC 8259, 2", lambda text: text[:-1]),
    _payload("with trailing text", "RFC 8259, 2", lambda text: text + "{}"),
    _payload("with a byte order mark", "RFC 8259, 8.1", lambda text: "\ufeff" + text),
    _payload("in UTF-16", _UTF8, lambda text: text.encode("utf-16")),
    _payload("with overlong UTF-8", "RFC 3629, 10",
             lambda text: text.encode()[:-1] + b',"x":"\xc0\xaf"}'),
    _payload("with a surrogate in UTF-8", "RFC 3629, 3",
             lambda text: text.encode()[:-1] + b',"x":"\xed\xa0\x80"}'),
    _payload("compressed", "RFC 7516, 4.1.3: zip is for encrypted tokens",
             lambda text: zlib.compress(text.encode())),
    _payload("pickled", "CWE-502", lambda text: b"\x80\x04cos\nsystem\n(S'true'\ntR."),
    _header("with alg twice, none last", _TWICE, '{"alg":"RS256","alg":"none","kid":KID}'),
    _header("with alg twice, once escaped", _TWICE, '{"\\u0061lg":"none","alg":"RS256","kid":KID}'),
    _header("with kid twice", _TWICE, '{"alg":"RS256","kid":"other","kid":KID}'),
    _header("with a name twice, deeper", _TWICE, '{"alg":"RS256","kid":KID,"jwk":{"e":"","e":""}}'),
    _header("as a list", "RFC 7515, 4; aws-jwt-verify: header not an object", '["RS256",KID]'),
    _header("as null", "RFC 7515, 4", "null"),
    _header("that is empty", "RFC 7515, 4.1.1", "{}", "wrong_algorithm"),
    _header("that is cut off", "RFC 8259, 2", '{"alg":"RS256","kid":KID'),
    _header("with trailing text", "RFC 8259, 2", '{"alg":"RS256","kid":KID}x'),
    _header("in UTF-16", _UTF8, '{"alg":"RS256","kid":"x"}'.encode("utf-16-le")),
    _header("with a byte order mark", "RFC 8259, 8.1", '\ufeff{"alg":"RS256","kid":KID}'),
    _header("with NaN", _NUMBERS, '{"alg":"RS256","kid":KID,"x":NaN}'),
    _header("that nests 2000 lists", _DEEP, '{"alg":"RS256","kid":KID,"x":' + "[" * 2000),
    _header("with a number of 5000 digits", "CVE-2020-10735 (Python)",
            '{"alg":"RS256","kid":KID,"x":' + "1" * 5000 + "}"),
    _header("with a certificate chain of 100", "RFC 7515, 4.1.6; CWE-400",
            json.dumps({"alg": "RS256", "x5c": [b64encode(b"x" * 9).decode()] * 100})),
]  # fmt: skip

ATTACKS = [*ENCODINGS, *FORMS, *JSON]
