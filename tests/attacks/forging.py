"""Build tokens that no issuer would."""

from __future__ import annotations

import hashlib
import hmac
import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec, padding
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA1, SHA256, SHA384, SHA512, HashAlgorithm

from tests.attacks.stage import OUR_KID, Scene

SHA256_INFO = bytes.fromhex("3031300d060960864801650304020105000420")
"""The DER prefix before the digest: DigestInfo of SHA-256 (RFC 8017, section 9.2, note 1)."""

HASHES: dict[str, HashAlgorithm] = {"1": SHA1(), "256": SHA256(), "384": SHA384(), "512": SHA512()}


def b64(content: bytes) -> str:
    return urlsafe_b64encode(content).rstrip(b"=").decode()


def unb64(text: str) -> bytes:
    return urlsafe_b64decode(text + "=" * (-len(text) % 4))


def as_json(content: Any) -> bytes:
    return content if isinstance(content, bytes) else json.dumps(content, separators=(",", ":")).encode()


def unsigned(header: Any, payload: Any) -> str:
    """Return the signing input of a header and a payload. Bytes are used as they are."""
    return f"{b64(as_json(header))}.{b64(as_json(payload))}"


def parts_of(token: str) -> list[str]:
    return token.split(".")


def with_signature(signing_input: str, signature: bytes) -> str:
    return f"{signing_input}.{b64(signature)}"


def by_rsa(scene: Scene, header: Any, payload: Any = None, sha: str = "256", pss: bool = False) -> str:
    """Build a token that is signed with our key, which the pool publishes."""
    text = unsigned(header, scene.claims() if payload is None else payload)
    chosen = HASHES[sha]
    scheme: Any = padding.PSS(padding.MGF1(chosen), chosen.digest_size) if pss else padding.PKCS1v15()
    return with_signature(text, scene.mine.sign(text.encode(), scheme, chosen))


def by_hmac(secret: bytes, header: Any, payload: Any, sha: str = "sha256") -> str:
    text = unsigned(header, payload)
    return with_signature(text, hmac.new(secret, text.encode(), sha).digest())


def by_ec(scene: Scene, header: Any, payload: Any) -> str:
    text = unsigned(header, payload)
    r, s = decode_dss_signature(scene.ec.sign(text.encode(), ec.ECDSA(SHA256())))
    return with_signature(text, r.to_bytes(32, "big") + s.to_bytes(32, "big"))


def jose_header(scene: Scene, **members: Any) -> dict[str, Any]:
    """Return a header that names our key. A member that is ``...`` is left out."""
    header = {"kid": OUR_KID, "alg": "RS256", **members}
    return {name: value for name, value in header.items() if value is not ...}


def valid_token(scene: Scene, **claims: Any) -> str:
    """Build a token that a service accepts, except for these claims. See :meth:`Scene.claims`."""
    return by_rsa(scene, jose_header(scene), scene.claims(**claims))


def encoded_message(info: bytes, digest: bytes, length: int = 256, filler: bytes = b"\xff") -> bytes:
    """Return the padded message, EMSA-PKCS1-v1_5 (RFC 8017, section 9.2)."""
    content = info + digest
    return b"\x00\x01" + filler * (length - 3 - len(content)) + b"\x00" + content


def raw_rsa(key: RSAPrivateKey, message: bytes) -> bytes:
    """Do the RSA operation alone, without padding (RFC 8017, section 5.2.1)."""
    numbers = key.private_numbers()
    modulus = numbers.public_numbers.n
    return pow(int.from_bytes(message, "big") % modulus, numbers.d, modulus).to_bytes(256, "big")


def digest_of(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()
