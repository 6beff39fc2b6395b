"""Parse a pool's key set (JWKS) into keys by ``kid``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ..formats.strict_json import decode_base64url, parse_object

MIN_BITS = 2048
MAX_BITS = 8192
"""Larger keys would let an attacker make each verification too expensive."""

_MOST_KEYS = 100


@dataclass(frozen=True, slots=True, eq=False)
class VerificationKey:
    """One public RSA key of a pool, for RS256 only.

    Attributes:
        kid: the key id.
        n, e: the modulus and the exponent, in base64url.
        has_signed: takes a signing input and a signature, and returns whether the signature is this
            key's RSASSA-PKCS1-v1_5 with SHA-256 (RFC 7518, section 3.3).
    """

    kid: str
    n: str = field(repr=False)
    e: str = field(repr=False)
    has_signed: Callable[[bytes, bytes], bool] = field(repr=False)


class KeySet:
    """The usable keys of a pool, by ``kid``."""

    __slots__ = ("_by_kid", "get")

    def __init__(self, keys: Mapping[str, VerificationKey]) -> None:
        self._by_kid = dict(keys)
        #: The key with this ``kid``, or ``None``.
        self.get: Callable[[str], VerificationKey | None] = self._by_kid.get

    @property
    def kids(self) -> tuple[str, ...]:
        """The ids of the keys."""
        return tuple(self._by_kid)

    def to_document(self) -> dict[str, Any]:
        """Return these keys as a JWKS (RFC 7517, section 5)."""
        return {
            "keys": [
                {"kty": "RSA", "kid": key.kid, "n": key.n, "e": key.e, "alg": "RS256", "use": "sig"}
                for key in self._by_kid.values()
            ]
        }

    def __len__(self) -> int:
        return len(self._by_kid)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, KeySet) and self.to_document() == other.to_document()

    __hash__: None  # type: ignore[assignment]  # __eq__ without __hash__ makes it None

    def __repr__(self) -> str:
        return f"KeySet(kids={list(self._by_kid)})"


class NoUsableKeys(Exception):
    """A response, or a document, has no key that can verify a token.

    Attributes:
        retry_after: seconds of the response's ``Retry-After``, if it had one.
        is_final: whether the source reported that there are no keys, as Cognito does for a deleted pool: a
            key set without a usable key, or one of the statuses 400, 404 and 410.
    """

    def __init__(self, message: str, retry_after: float | None = None, is_final: bool = False) -> None:
        super().__init__(message)
        self.retry_after = retry_after
        self.is_final = is_final


def parse_key_set(document: object, known: KeySet | None = None) -> KeySet:
    """Return the usable keys of a JWKS. Skip the others.

    A usable key is an RSA key of 2048 to 8192 bits with a ``kid``, unless ``use``, ``alg`` or ``key_ops``
    exclude it from verifying RS256. There, null counts as absent. If two keys have the same ``kid``, the
    first counts. A key with a duplicate name is not usable (this can be seen only if the document is bytes).

    Args:
        document: the JSON (RFC 7517, section 5), parsed or as bytes.
        known: an older set. Keys that did not change keep their objects, so tokens that were verified
            with them stay verified.

    Raises:
        NoUsableKeys: there is no usable key.
        ValueError: the bytes are not a JSON object.
    """
    if isinstance(document, bytes):
        document = parse_object(document, keeps_rest=True)
    rows = document.get("keys") if isinstance(document, Mapping) else None
    if not isinstance(rows, (list, tuple)):
        raise NoUsableKeys('the key set is not a JSON object with a list "keys"')
    keys: dict[str, VerificationKey] = {}
    for row in rows[:_MOST_KEYS]:
        key = _parse_key(row, known)
        if key is not None:
            keys.setdefault(key.kid, key)
    if not keys:
        raise NoUsableKeys("the key set has no usable RS256 key", is_final=True)
    return KeySet(keys)


def _parse_key(row: object, known: KeySet | None) -> VerificationKey | None:
    if not isinstance(row, Mapping) or row.get("kty") != "RSA":
        return None
    operations = row.get("key_ops")
    if (
        row.get("use") not in (None, "sig")
        or row.get("alg") not in (None, "RS256")
        or not (operations is None or (isinstance(operations, (list, tuple)) and "verify" in operations))
    ):
        return None
    kid, n, e = row.get("kid"), row.get("n"), row.get("e")
    if not (isinstance(kid, str) and kid and isinstance(n, str) and isinstance(e, str)):
        return None
    same = known.get(kid) if known is not None else None
    return same if same is not None and (same.n, same.e) == (n, e) else _build_key(kid, n, e)


def _build_key(kid: str, n: str, e: str) -> VerificationKey | None:
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
    from cryptography.hazmat.primitives.hashes import SHA256
    from jwt.algorithms import RSAAlgorithm

    try:
        modulus = int.from_bytes(decode_base64url(n.encode("ascii")), "big")
        exponent = int.from_bytes(decode_base64url(e.encode("ascii")), "big")
        if not MIN_BITS <= modulus.bit_length() <= MAX_BITS or not 3 <= exponent < 2**64:
            return None
        # Pass only the public part on, so private parts in a set are ignored.
        public_key: Any = RSAAlgorithm.from_jwk({"kty": "RSA", "n": n, "e": e})
    except ValueError:
        return None
    # Built once: PyJWT builds these again for each signature, which takes a twentieth of its time.
    verify, padding, digest = public_key.verify, PKCS1v15(), SHA256()

    def has_signed(signing_input: bytes, signature: bytes) -> bool:
        try:
            verify(signature, signing_input, padding, digest)
        except InvalidSignature:
            return False
        return True

    return VerificationKey(kid, n, e, has_signed)
