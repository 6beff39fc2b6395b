"""The signing keys of a local pool, and the signing itself (RFC 7515, RFC 7517)."""

from __future__ import annotations

import json
import secrets
from base64 import b64encode, urlsafe_b64encode
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, generate_private_key
from cryptography.hazmat.primitives.hashes import SHA256
from jwt.algorithms import RSAAlgorithm


@dataclass(frozen=True)
class SigningKey:
    """An RSA key of 2048 bits, with its id."""

    kid: str
    private_key: RSAPrivateKey = field(repr=False)

    def jwk(self) -> dict[str, str]:
        """Return the public key as a JWK, with the members of Cognito's."""
        public = RSAAlgorithm.to_jwk(self.private_key.public_key(), as_dict=True)
        members = {name: str(public[name]) for name in ("e", "kty", "n")}
        return {**members, "alg": "RS256", "kid": self.kid, "use": "sig"}


def sign_jws(header: Mapping[str, Any] | bytes, payload: object, key: RSAPrivateKey) -> str:
    """Return a JWS in compact form, signed with RS256 whatever its header names. Bytes are used unchanged.

    PyJWT is not used, because it rejects invalid headers and payloads.
    """
    content = _base64url(_json(header)) + "." + _base64url(_json(payload))
    return content + "." + _base64url(key.sign(content.encode(), PKCS1v15(), SHA256()))


def generate_signing_key() -> SigningKey:
    # This takes some 50 ms. Cognito's kid is standard base64, with +, / and =, which a URL would escape.
    kid = b64encode(secrets.token_bytes(32)).decode()
    return SigningKey(kid, generate_private_key(public_exponent=65537, key_size=2048))


def _json(content: object) -> bytes:
    return content if isinstance(content, bytes) else json.dumps(content, separators=(",", ":")).encode()


def _base64url(content: bytes) -> str:
    return urlsafe_b64encode(content).rstrip(b"=").decode()
