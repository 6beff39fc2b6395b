"""Decode a token without verifying it: nothing in the result can be trusted."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ..formats.strict_json import decode_base64url, parse_object, values_in
from .claims_policy import CRITICAL_EXTENSION, NO_ISSUER, NO_KID, NOT_A_JWT, PLAIN_PAYLOAD, WRONG_ALGORITHM

_LONGEST_KID = 256
_MOST_IN_HEADER = 256
"""The most values in a header. Cognito's headers have two; an ``x5c``, which is ignored, has one for each
certificate.

Parsing 256 values takes 40 us; validating a whole token takes 50 us.
"""
_LONGEST_PLAIN_HEADER = 2048
"""Longer encoded headers, in bytes, must not have a long number: parsing 4000 digits takes 120 us."""
_TOO_MANY_DIGITS = b"0" * 641
_TO_ZEROS = bytes(b"0"[0] if chr(byte).isdigit() and byte < 128 else b" "[0] for byte in range(256))
_MOST_BEFORE_KEYS = 64
_LONGEST_BEFORE_KEYS = 2048
"""The most values and bytes of a payload that is parsed before its signature is verified.

Parsing 8 KiB of the most expensive JSON takes eight times as long as validating a whole token. Only a payload
that a pool has signed is worth that.
"""


@dataclass(slots=True, eq=False)
class UnverifiedToken:
    """The parts of a JWS in compact form (RFC 7515, section 7.1). Nothing here is verified.

    Attributes:
        kid: the id of the key that signed it, according to the header.
        payload: the JSON text of the claims.
        header_part: the encoded header.
        signing_input: the bytes that were signed.
        signature: the signature.
        issuers: the issuer, according to the claims. Before the claims are parsed: every trusted issuer that
            the payload names somewhere.
        claims: the claims; empty until they are parsed.
    """

    kid: str
    payload: bytes = field(repr=False)
    header_part: bytes = field(repr=False)
    signing_input: bytes = field(repr=False)
    signature: bytes = field(repr=False)
    issuers: tuple[str, ...]
    claims: dict[str, Any] = field(repr=False)


def decode_unverified(
    token: str, known_headers: Mapping[bytes, str] | None = None, trusted: Iterable[str] | None = None
) -> UnverifiedToken:
    """Decode ``token`` without verifying it.

    Args:
        known_headers: the ``kid`` for each encoded header that was parsed before.
        trusted: the trusted issuers. If they are given, the claims of a long token are not parsed.

    Raises:
        TokenValidationError: ``malformed`` or ``wrong_algorithm``: no key could make this token valid.
    """
    kid: str | None = None
    header: dict[str, Any] = {}
    payload = b""
    try:
        text = token.encode("ascii")
        header_part, payload_part, signature_part = text.split(b".", 3)
        kid = known_headers.get(header_part) if known_headers is not None else None
        if kid is None:
            content = decode_base64url(header_part)
            if len(header_part) > _LONGEST_PLAIN_HEADER and _TOO_MANY_DIGITS in content.translate(_TO_ZEROS):
                raise ValueError
            header = parse_object(content, _MOST_IN_HEADER)
        payload = decode_base64url(payload_part)
        signature = decode_base64url(signature_part)
    except (ValueError, AttributeError):
        payload = b""
    if not payload:
        # Not raised in the except block: the caught exception holds the token and would become the context.
        raise NOT_A_JWT.build_rejection()
    if kid is None:
        kid = _parse_kid(header)
    signing_input = text[: len(header_part) + 1 + len(payload_part)]
    is_long = len(payload) > _LONGEST_BEFORE_KEYS or values_in(payload) > _MOST_BEFORE_KEYS
    if is_long and trusted is not None:
        claims: dict[str, Any] = {}
        issuers = _find_trusted_issuers(payload, tuple(trusted))
    else:
        claims = parse_claims(payload, kid)
        issuers = (claims["iss"],)
    return UnverifiedToken(kid, payload, header_part, signing_input, signature, issuers, claims)


def parse_claims(payload: bytes, kid: str) -> dict[str, Any]:
    """Parse a token's payload into its claims, and check that they name an issuer.

    Raises:
        TokenValidationError: ``malformed``.
    """
    claims: dict[str, Any] | None
    try:
        claims = parse_object(payload, most_values=None)
    except ValueError:
        claims = None
    if claims is None:
        # Not raised in the except block: the caught exception holds the payload.
        raise NOT_A_JWT.build_rejection()
    if not isinstance(claims.get("iss"), str):
        raise NO_ISSUER.build_rejection(kid)
    return claims


def _find_trusted_issuers(payload: bytes, issuers: tuple[str, ...]) -> tuple[str, ...]:
    """Return the trusted issuers that ``payload`` names at any depth; a valid token's is one of them."""
    found = _build_pattern(issuers).finditer(payload)
    named = (issuers[match.lastindex - 1] for match in found if match.lastindex is not None)
    return tuple(dict.fromkeys(named))


@functools.lru_cache(maxsize=8)
def _build_pattern(issuers: tuple[str, ...]) -> re.Pattern[bytes]:
    values = "|".join(f"({_build_json_pattern(issuer)})" for issuer in issuers)
    return re.compile(rf'"{_build_json_pattern("iss")}"[ \t\n\r]*:[ \t\n\r]*"(?:{values})"'.encode())


def _build_json_pattern(text: str) -> str:
    """Return a pattern that matches ``text`` in each of its JSON spellings."""
    return "".join(rf"(?:\\?{re.escape(char)}|\\u(?i:{ord(char):04x}))" for char in text)


def _parse_kid(header: dict[str, Any]) -> str:
    kid = header.get("kid")
    valid_kid = kid if isinstance(kid, str) and len(kid) <= _LONGEST_KID else None
    if header.get("alg") != "RS256":
        raise WRONG_ALGORITHM.build_rejection(valid_kid)
    # crit lists extensions that a reader must support. We support none (RFC 7515, section 4.1.11).
    if "crit" in header:
        raise CRITICAL_EXTENSION.build_rejection(valid_kid)
    # A reader that supports b64 would not decode the payload. No JWT may use it (RFC 7797, sections 6 and 7).
    if header.get("b64", True) is not True:
        raise PLAIN_PAYLOAD.build_rejection(valid_kid)
    if not valid_kid:
        raise NO_KID.build_rejection()
    return valid_kid
