"""A token taken apart, before anything in it may be believed."""

from __future__ import annotations

from typing import Any

from ..exceptions import Reason, TokenValidationError
from ..strict_json import decode_base64url, parse_object, values_in

_LONGEST_KID = 256
# More than tokens say (a person is in at most 100 groups), so that what a forger says is read at little cost.
_MOST_IN_HEADER = 32
_MOST_HEADERS = 64
_MOST_IN_PAYLOAD = 256
_BEGINNING = 2048
"""Characters of base64url, a multiple of four, of payloads longer than most."""


class UnverifiedToken:
    """The parts of a JWS in compact form (RFC 7515, section 7.1). Nothing here is verified.

    Attributes:
        kid: which key is said to have signed it.
        issuer: who is said to have issued it.
        claims: what it says.
        payload: the JSON text of the claims.
        header_part: the header as it was sent.
        signing_input: the bytes that were signed.
        signature: the signature.
    """

    __slots__ = ("claims", "header_part", "issuer", "kid", "payload", "signature", "signing_input")

    def __init__(
        self,
        kid: str,
        issuer: str,
        claims: dict[str, Any],
        payload: bytes,
        header_part: bytes,
        signing_input: bytes,
        signature: bytes,
    ) -> None:
        self.kid = kid
        self.issuer = issuer
        self.claims = claims
        self.payload = payload
        self.header_part = header_part
        self.signing_input = signing_input
        self.signature = signature

    def __repr__(self) -> str:
        return f"UnverifiedToken(kid={self.kid!r}, issuer={self.issuer!r})"


class VerifiedHeaders:
    """The ``kid`` of headers that were part of what a pool has signed: all tokens of a key have the same.

    They were taken apart strictly when they were new.
    """

    __slots__ = ("_kids",)

    def __init__(self) -> None:
        self._kids: dict[bytes, str] = {}

    def kid_of(self, header_part: bytes) -> str | None:
        """The ``kid`` in a header that was seen before."""
        return self._kids.get(header_part)

    def add(self, verified: UnverifiedToken) -> None:
        """Remember the header of a token whose signature has been verified."""
        if verified.header_part not in self._kids:
            if len(self._kids) >= _MOST_HEADERS:
                self._kids = {}
            self._kids[verified.header_part] = verified.kid


def take_apart(token: str, known: VerifiedHeaders | None = None) -> UnverifiedToken:
    """The parts of ``token``, if it has the shape of a Cognito access token.

    Args:
        known: headers that need not be read again.

    Raises:
        TokenValidationError: ``malformed`` or ``wrong_algorithm``: it can't become good, whatever
            keys there are.
    """
    kid: str | None = None
    header: dict[str, Any] = {}
    try:
        text = token.encode("ascii")
        header_part, payload_part, signature_part = text.split(b".", 3)
        kid = known.kid_of(header_part) if known is not None else None
        if kid is None:
            header = parse_object(decode_base64url(header_part), _MOST_IN_HEADER)
        payload = _decoded_payload(payload_part)
        claims: dict[str, Any] | None = parse_object(payload, _MOST_IN_PAYLOAD)
        signature = decode_base64url(signature_part)
    except (ValueError, AttributeError):
        claims = None
    if claims is None:
        # Not raised above: what was caught holds the token, and would be the error's context.
        raise _refused("The access token is not a JSON Web Token.")
    if kid is None:
        kid = _kid_in(header)
    issuer = claims.get("iss")
    if not isinstance(issuer, str):
        raise _refused("The access token has no issuer.", kid=kid)
    signing_input = text[: len(header_part) + 1 + len(payload_part)]
    return UnverifiedToken(kid, issuer, claims, payload, header_part, signing_input, signature)


def _decoded_payload(part: bytes) -> bytes:
    if len(part) <= _BEGINNING:
        return decode_base64url(part)
    beginning = decode_base64url(part[:_BEGINNING])
    # Then the rest, which takes as long again and more, need not be decoded.
    if values_in(beginning) > _MOST_IN_PAYLOAD:
        raise ValueError("says too much")
    return beginning + decode_base64url(part[_BEGINNING:])


def _kid_in(header: dict[str, Any]) -> str:
    kid = header.get("kid")
    shown = kid if isinstance(kid, str) and len(kid) <= _LONGEST_KID else None
    if header.get("alg") != "RS256":
        raise _refused("The access token is not signed with RS256.", "wrong_algorithm", shown)
    # Names of extensions that must be understood: we understand none (RFC 7515, section 4.1.11).
    if "crit" in header:
        raise _refused("The access token's header has critical extensions.", kid=shown)
    # Who understands it reads the payload as it is sent; no JWT may have it (RFC 7797, sections 6 and 7).
    if header.get("b64", True) is not True:
        raise _refused("The access token's payload is not in base64url.", kid=shown)
    if not shown:
        raise _refused("The access token's header names no key.")
    return shown


def _refused(message: str, reason: Reason = "malformed", kid: str | None = None) -> TokenValidationError:
    return TokenValidationError(message, reason=reason, kid=kid)
