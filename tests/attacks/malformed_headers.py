"""Ambiguous and malformed Authorization headers. The tokens in them are valid."""

from __future__ import annotations

from collections.abc import Callable

from tests.attacks.forging import valid_token
from tests.attacks.stage import Attack, Scene


def _header(name: str, source: str, text: str, reason: str = "bad_header") -> Attack:
    """Build a header of this text, in which TOKEN stands for a valid token."""

    def value(scene: Scene) -> str:
        return text.replace("TOKEN", valid_token(scene))

    return Attack(name, source, reason, value, 400 if reason == "bad_header" else 401)


def _built(name: str, source: str, value: Callable[[Scene], str]) -> Attack:
    return Attack(name, source, "bad_header", value, 400)


_TWO = "RFC 6750, 2 and RFC 9110, 5.2: one header; CWE-444"
_B64TOKEN = "RFC 6750, 2.1: b64token"

ATTACKS = [
    _header("two headers, joined by a comma", _TWO, "Bearer TOKEN,Bearer TOKEN"),
    _header("a valid one after another scheme", _TWO, "Basic YTpi, Bearer TOKEN"),
    _header("a valid one after an empty header", _TWO, ",Bearer TOKEN"),
    _header("a valid one after Digest's parameters", _TWO, 'Digest a="b", c="d", Bearer TOKEN'),
    _header("a valid one before an empty header", _TWO, "Bearer TOKEN,"),
    _header("two tokens after one scheme", _TWO, "Bearer TOKEN TOKEN"),
    _header("two with a newline", "RFC 9110, 5.5; CWE-93", "Bearer TOKEN\nBearer TOKEN"),
    _header("two with CR LF and a name", "RFC 9110, 5.5; CWE-113", "Bearer TOKEN\r\nAuthorization: Bearer x"),
    _header("folded after the scheme", "RFC 9112, 5.2: line folding", "Bearer\r\n TOKEN", "missing_token"),
    _header("the scheme alone", "RFC 6750, 2.1", "Bearer"),
    _header("the scheme and a space", "RFC 6750, 2.1", "Bearer "),
    _header("a tab instead of the space", "RFC 9110, 11.4: 1*SP", "Bearer\tTOKEN"),
    _header("a parameter", "RFC 9110, 11.4", "Bearer token=TOKEN"),
    _header("a trailing colon", _B64TOKEN, "Bearer TOKEN:"),
    _header("leading padding", _B64TOKEN, "Bearer =TOKEN"),
    _header("a byte that is not ASCII", _B64TOKEN, "Bearer TOKEN\xff"),
    _header("a character that no WSGI server passes", "PEP 3333", "Bearer TOKEN\u20ac"),
    _header("a lone surrogate", "PEP 3333", "Bearer TOKEN\udcff"),
    _header("markup", "CWE-79", "Bearer <script>alert(1)</script>"),
    _built("one byte more than 8 KiB", "CWE-400", lambda scene: "Bearer " + "a" * (8192 - 6)),
    _built("64 KiB", "CWE-400", lambda scene: "Bearer " + "a" * 65_536),
    _header("an empty header", "RFC 6750, 3.1: no error code", "", "missing_token"),
    _header("Basic", "RFC 6750, 3.1", "Basic YTpi", "missing_token"),
    _header("Digest with the word in it", "RFC 7616", 'Digest username="Bearer"', "missing_token"),
    _header("DPoP, whose proof is not checked", "RFC 9449, 7.1", "DPoP TOKEN", "missing_token"),
    _header("the token alone", "RFC 9110, 11.4", "TOKEN", "missing_token"),
    _header("no space after the scheme", "RFC 9110, 11.4", "BearerTOKEN", "missing_token"),
    _header("a colon after the scheme", "RFC 9110, 11.4", "Bearer: TOKEN", "missing_token"),
    _header("an equals sign after the scheme", "RFC 9110, 11.4", "Bearer=TOKEN", "missing_token"),
    _header("a scheme with a homoglyph", "UTS 39", "\u0412earer TOKEN", "missing_token"),
    _header("a no-break space after the scheme", "RFC 9110, 11.4", "Bearer\xa0TOKEN", "missing_token"),
    _header("8000 commas and then the word", "CWE-1333: slow patterns", "x" + "," * 8000 + "bearer"),
    _header("8000 commas and tabs", "CWE-1333", "x" + ",\t" * 4000, "missing_token"),
]  # fmt: skip
