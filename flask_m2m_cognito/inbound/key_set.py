"""A pool's keys by ``kid``, parsed once."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ..formats.strict_json import decode_base64url, parse_object

MIN_BITS = 2048
MAX_BITS = 8192
"""Beyond this a signature costs more than an attacker should be able to make us pay."""

_MOST_KEYS = 100


@dataclass(frozen=True, slots=True, eq=False)
class VerificationKey:
    """One public RSA key of a pool, for RS256 only.

    Attributes:
        kid: its id.
        n, e: its modulus and exponent, in base64url.
        has_signed: whether for a signing input the signature is this key's RSASSA-PKCS1-v1_5 with
            SHA-256 (RFC 7518, section 3.3).
    """

    kid: str
    n: str = field(repr=False)
    e: str = field(repr=False)
    has_signed: Callable[[bytes, bytes], bool] = field(repr=False)


class KeySet:
    """The keys of a pool that can be used, by ``kid``."""

    __slots__ = ("_by_kid", "get")

    def __init__(self, keys: Mapping[str, VerificationKey]) -> None:
        self._by_kid = dict(keys)
        #: The key with this ``kid``, or ``None``.
        self.get: Callable[[str], VerificationKey | None] = self._by_kid.get

    @property
    def kids(self) -> tuple[str, ...]:
        """The ids of its keys."""
        return tuple(self._by_kid)

    def to_document(self) -> dict[str, Any]:
        """Return a JWKS with just these keys (RFC 7517, section 5)."""
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
    """An answer, or a document, in which there is no key that could verify a token.

    Attributes:
        retry_after: seconds of the answer's ``Retry-After``, if it had one.
        is_final: the source answered that there are no keys, as Cognito does for a deleted pool: a key set
            without a usable key, or one of the statuses 400, 404 and 410.
    """

    def __init__(self, message: str, retry_after: float | None = None, is_final: bool = False) -> None:
        super().__init__(message)
        self.retry_after = retry_after
        self.is_final = is_final


def parse_key_set(document: object, known: KeySet | None = None) -> KeySet:
    """Return the keys of a JWKS that can be used. One that can't does not spoil the set.

    Used are RSA keys of 2048 to 8192 bits with a ``kid``, unless ``use``, ``alg`` or ``key_ops`` say
    that they are not for verifying RS256. There, null counts as absent. Of two with the same ``kid``
    the first counts. In bytes, a key that has a name twice is not used.

    Args:
        document: the JSON (RFC 7517, section 5), parsed or as bytes.
        known: a set whose key objects are taken over where they are the same keys, so that what
            was verified with them stays so.

    Raises:
        NoUsableKeys: there is no such key.
        ValueError: the bytes are not a JSON object.
    """
    if isinstance(document, bytes):
        document = parse_object(document, keeps_rest=True)
    rows = document.get("keys") if isinstance(document, Mapping) else None
    if not isinstance(rows, (list, tuple)):
        raise NoUsableKeys('a key set is an object with a list "keys"')
    keys: dict[str, VerificationKey] = {}
    for row in rows[:_MOST_KEYS]:
        key = _parse_key(row, known)
        if key is not None:
            keys.setdefault(key.kid, key)
    if not keys:
        raise NoUsableKeys("the key set has no key that can verify RS256", is_final=True)
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
        # Only the public part is handed on: a set that holds private parts must not matter.
        public_key: Any = RSAAlgorithm.from_jwk({"kty": "RSA", "n": n, "e": e})
    except ValueError:
        return None
    # PyJWT's own check builds these again for each signature, at a twentieth of its time.
    verify, padding, digest = public_key.verify, PKCS1v15(), SHA256()

    def has_signed(signing_input: bytes, signature: bytes) -> bool:
        try:
            verify(signature, signing_input, padding, digest)
        except InvalidSignature:
            return False
        return True

    return VerificationKey(kid, n, e, has_signed)
