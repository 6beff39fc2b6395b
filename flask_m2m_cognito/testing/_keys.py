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

from ..exceptions import ConfigurationError


@dataclass(frozen=True)
class SigningKey:
    """One RSA-2048 key with its id."""

    kid: str
    private_key: RSAPrivateKey = field(repr=False)

    def jwk(self) -> dict[str, str]:
        """The public half, with the members that Cognito gives."""
        numbers = self.private_key.public_key().public_numbers()
        return {
            "alg": "RS256",
            "e": _base64url_int(numbers.e),
            "kid": self.kid,
            "kty": "RSA",
            "n": _base64url_int(numbers.n),
            "use": "sig",
        }


class KeyRing:
    """All keys that a pool has had, which of them it publishes, and the one that it signs with.

    The pool's lock guards it. The first key is made when it is first needed (some 50 ms), so
    that a pool which is only asked for its settings costs nothing.
    """

    def __init__(self) -> None:
        self._keys: dict[str, SigningKey] = {}
        self._published: tuple[str, ...] = ()
        self._current: SigningKey | None = None

    @property
    def current(self) -> SigningKey:
        """The key that signs now, published or not."""
        return self._current or self.rotate(keep_old=True)

    @property
    def published(self) -> tuple[SigningKey, ...]:
        """What the JWKS shows, the oldest first."""
        _ = self.current
        return tuple(self._keys[kid] for kid in self._published)

    def of(self, kid: str) -> SigningKey:
        """The key with this id, even if it has been withdrawn."""
        _ = self.current
        if kid not in self._keys:
            raise ConfigurationError(f"This pool never had a key {kid!r}.")
        return self._keys[kid]

    def rotate(self, *, keep_old: bool) -> SigningKey:
        """A new key, which signs from now on."""
        self._current = new = _new_signing_key()
        self._keys[new.kid] = new
        self._published = (*self._published, new.kid) if keep_old else (new.kid,)
        return new

    def withdraw(self, kid: str) -> None:
        """Show this key no more."""
        withdrawn = self.of(kid).kid
        self._published = tuple(kept for kept in self._published if kept != withdrawn)


def signed(header: Mapping[str, Any] | bytes, payload: object, key: RSAPrivateKey) -> str:
    """A JWS in compact form, RS256 whatever its header says. Bytes are taken as they are."""
    content = _base64url(_json(header)) + "." + _base64url(_json(payload))
    return content + "." + _base64url(key.sign(content.encode(), PKCS1v15(), SHA256()))


def _new_signing_key() -> SigningKey:
    # Cognito's kid is standard base64, with + and / and =, so nothing that is a name in a URL.
    kid = b64encode(secrets.token_bytes(32)).decode()
    return SigningKey(kid, generate_private_key(public_exponent=65537, key_size=2048))


def _json(content: object) -> bytes:
    return content if isinstance(content, bytes) else json.dumps(content, separators=(",", ":")).encode()


def _base64url(content: bytes) -> str:
    return urlsafe_b64encode(content).rstrip(b"=").decode()


def _base64url_int(number: int) -> str:
    return _base64url(number.to_bytes((number.bit_length() + 7) // 8, "big"))
