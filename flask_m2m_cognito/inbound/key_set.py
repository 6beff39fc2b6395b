"""A pool's keys by ``kid``, parsed once, and fetching them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeGuard

from ..formats.strict_json import decode_base64url, parse_object
from ..remote.clock import SYSTEM, Clock
from ..remote.freshness import Ask, Fetch, Fetched
from ..remote.threads import explain_subinterpreters
from ..remote.transport import Answer, Transport

MIN_BITS = 2048
MAX_BITS = 8192
"""Beyond this a signature costs more than an attacker should be able to make us pay."""

_MOST_KEYS = 100


class VerificationKey:
    """One public RSA key of a pool, for RS256 only.

    Attributes:
        kid: its id.
        n, e: its modulus and exponent, in base64url.
        has_signed: whether for a signing input the signature is this key's RSASSA-PKCS1-v1_5 with
            SHA-256 (RFC 7518, section 3.3).
    """

    __slots__ = ("e", "has_signed", "kid", "n")

    def __init__(self, kid: str, n: str, e: str, has_signed: Callable[[bytes, bytes], bool]) -> None:
        self.kid: str = kid
        self.n: str = n
        self.e: str = e
        self.has_signed: Callable[[bytes, bytes], bool] = has_signed

    def __repr__(self) -> str:
        return f"VerificationKey(kid={self.kid!r})"


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
        """A JWKS with just these keys (RFC 7517, section 5)."""
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
    """The keys of a JWKS that can be used. One that can't does not spoil the set.

    Used are RSA keys of 2048 to 8192 bits with a ``kid``, unless ``use``, ``alg`` or ``key_ops`` say
    that they are not for verifying RS256. There, null counts as absent. Of two with the same ``kid``
    the first counts.

    Args:
        document: the parsed JSON (RFC 7517, section 5).
        known: a set whose key objects are taken over where they are the same keys, so that what
            was verified with them stays so.

    Raises:
        NoUsableKeys: there is no such key.
    """
    rows = document.get("keys") if isinstance(document, Mapping) else None
    if not _is_list(rows):
        raise NoUsableKeys('a key set is an object with a list "keys"')
    keys: dict[str, VerificationKey] = {}
    for row in rows[:_MOST_KEYS]:
        key = _usable_key(row, known)
        if key is not None:
            keys.setdefault(key.kid, key)
    if not keys:
        raise NoUsableKeys("the key set has no key that can verify RS256", is_final=True)
    return KeySet(keys)


def read_key_set(text: bytes, known: KeySet | None = None) -> KeySet:
    """The keys of a JWKS as JSON text. A key with a name twice is not used.

    Args:
        known: as for :func:`parse_key_set`.

    Raises:
        NoUsableKeys: there is no usable key.
        ValueError: it is not a JSON object.
    """
    return parse_key_set(parse_object(text, keeps_rest=True), known)


def key_set_fetch(
    transport: Transport,
    urls: Sequence[str],
    fetched_from: Callable[[KeySet, float], Fetched[KeySet]],
    *,
    clock: Clock = SYSTEM,
) -> Fetch[KeySet]:
    """A fetch of the first usable key set that ``urls`` give.

    Args:
        fetched_from: says how long a set serves that was asked for at a moment.
    """

    def fetch(ask: Ask[KeySet]) -> Fetched[KeySet]:
        known = ask.held.value if ask.held else None
        found: list[KeySet] = []
        problems: dict[str, NoUsableKeys] = {}

        def is_final(answer: Answer) -> bool:
            try:
                found.append(_key_set_in(answer, known))
            except NoUsableKeys as error:
                problems[answer.url] = error
            return bool(found)

        asked_at = clock.wall()
        last = transport.get(urls, ask.deadline, is_final)
        if not found:
            problem = problems[last.url]
            problem.retry_after = last.retry_after(clock.wall())
            raise problem
        return fetched_from(found[0], asked_at)

    return fetch


def _key_set_in(answer: Answer, known: KeySet | None) -> KeySet:
    if answer.status != 200:
        is_final = answer.status in (400, 404, 410)
        raise NoUsableKeys(f"{answer.url} answered {answer.status}", is_final=is_final)
    try:
        return read_key_set(answer.body, known)
    except ValueError:
        raise NoUsableKeys(f"{answer.url} did not answer with a JSON object") from None
    except NoUsableKeys as error:
        raise NoUsableKeys(f"{answer.url}: {error}", is_final=error.is_final) from None


def _usable_key(row: object, known: KeySet | None) -> VerificationKey | None:
    if not isinstance(row, Mapping) or not _is_for_rs256(row):
        return None
    kid, n, e = row.get("kid"), row.get("n"), row.get("e")
    if not (isinstance(kid, str) and kid and isinstance(n, str) and isinstance(e, str)):
        return None
    same = known.get(kid) if known is not None else None
    if same is not None and (same.n, same.e) == (n, e):
        return same
    return _key_from(kid, n, e)


def _is_for_rs256(row: Mapping[str, Any]) -> bool:
    operations = row.get("key_ops")
    return (
        row.get("kty") == "RSA"
        and row.get("use") in (None, "sig")
        and row.get("alg") in (None, "RS256")
        and (operations is None or (_is_list(operations) and "verify" in operations))
    )


def _is_list(value: object) -> TypeGuard[Sequence[Any]]:
    return isinstance(value, Sequence) and not isinstance(value, (str, bytes))


def _key_from(kid: str, n: str, e: str) -> VerificationKey | None:
    with explain_subinterpreters():  # pinned keys are parsed when the application starts
        from jwt.algorithms import RSAAlgorithm

    try:
        modulus = int.from_bytes(decode_base64url(n.encode("ascii")), "big")
        exponent = int.from_bytes(decode_base64url(e.encode("ascii")), "big")
        if not MIN_BITS <= modulus.bit_length() <= MAX_BITS or not 3 <= exponent < 2**64:
            return None
        # Only the public part is handed on: a set that holds private parts must not matter.
        public_key = RSAAlgorithm.from_jwk({"kty": "RSA", "n": n, "e": e})
    except ValueError:
        return None
    return VerificationKey(kid, n, e, _rs256_check(public_key))


def _rs256_check(public_key: Any) -> Callable[[bytes, bytes], bool]:
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
    from cryptography.hazmat.primitives.hashes import SHA256

    # PyJWT's own check makes these anew for each signature, at a twentieth of its time.
    verify, padding, digest = public_key.verify, PKCS1v15(), SHA256()

    def has_signed(signing_input: bytes, signature: bytes) -> bool:
        try:
            verify(signature, signing_input, padding, digest)
        except InvalidSignature:
            return False
        return True

    return has_signed
