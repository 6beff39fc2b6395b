"""A token taken apart, before anything in it may be believed."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from ..exceptions import Reason, TokenValidationError
from ..strict_json import decode_base64url, parse_object

_LONGEST_KID = 256
# More than tokens say (a person is in at most 100 groups), and read in less time than a signature.
_MOST_IN_HEADER = 32
_MOST_IN_PAYLOAD = 384


@dataclass(frozen=True)
class UnverifiedToken:
    """The parts of a JWS in compact form (RFC 7515, section 7.1). Nothing here is verified.

    Attributes:
        kid: which key is said to have signed it.
        issuer: who is said to have issued it.
        claims: what it says.
        payload: the JSON text of the claims.
        signing_input: the bytes that were signed.
        signature: the signature.
    """

    kid: str
    issuer: str
    claims: dict[str, Any] = field(repr=False)
    payload: bytes = field(repr=False)
    signing_input: bytes = field(repr=False)
    signature: bytes = field(repr=False)


def take_apart(token: str) -> UnverifiedToken:
    """The parts of ``token``, if it has the shape of a Cognito access token.

    Raises:
        TokenValidationError: ``malformed`` or ``wrong_algorithm``: it can't become good, whatever
            keys there are.
    """
    try:
        text = token.encode("ascii")
        header_part, payload_part, signature_part = text.split(b".", 3)
        header = parse_object(decode_base64url(header_part), _MOST_IN_HEADER)
        payload = decode_base64url(payload_part)
        claims: dict[str, Any] | None = parse_object(payload, _MOST_IN_PAYLOAD)
        signature = decode_base64url(signature_part)
    except (ValueError, AttributeError):
        claims = None
    if claims is None:
        # Not raised above: what was caught holds the token, and would be the error's context.
        raise _refused("The access token is not a JSON Web Token.")
    kid = _kid_in(header)
    issuer = claims.get("iss")
    if not isinstance(issuer, str):
        raise _refused("The access token has no issuer.", kid=kid)
    return UnverifiedToken(
        kid, issuer, claims, payload, text[: len(header_part) + 1 + len(payload_part)], signature
    )


def _kid_in(header: dict[str, Any]) -> str:
    kid = header.get("kid")
    shown = kid if isinstance(kid, str) and len(kid) <= _LONGEST_KID else None
    if header.get("alg") != "RS256":
        raise _refused("The access token is not signed with RS256.", "wrong_algorithm", shown)
    # Names of extensions that must be understood: we understand none (RFC 7515, section 4.1.11).
    if "crit" in header:
        raise _refused("The access token's header has critical extensions.", kid=shown)
    if not shown:
        raise _refused("The access token's header names no key.")
    return shown


def _refused(message: str, reason: Reason = "malformed", kid: str | None = None) -> TokenValidationError:
    return TokenValidationError(message, reason=reason, kid=kid)
