"""Entries and leases in a cache that a fleet shares, sealed, so that who can write to it can plant nothing.

:class:`Seal` turns content into text and back; :class:`SealedStore` keeps entries and leases of
it in a cachelib backend. Text, so that a JSON serializer works: the backends' default is
pickle, which runs what it reads.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import logging
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, TypeGuard

from .bounded_backend import BoundedBackend, StoreDown
from .clock import SYSTEM, Clock
from .reports import report
from .threads import explain_subinterpreters

if TYPE_CHECKING:
    from cryptography.fernet import Fernet

FORMAT = "v2"
"""Part of every name in the cache: another version of the library does not meet these entries."""

MOST_AHEAD = 60.0
"""Seconds by which an entry may seem to come from the future: clocks of one fleet differ by that at most."""

_logger = logging.getLogger("flask_m2m_cognito.store")
_MAX_TEXT = 256 * 1024
_MOST_ROUNDS = 6
_LONGEST = 30 * 86400.0
"""Seconds for which the cache keeps an entry that does not expire: Memcached reads more as a moment."""


class BrokenSeal(Exception):
    """Text that was not sealed with this key, or was changed since."""


class Seal:
    """Authenticated encryption of JSON content (Fernet), with a key derived by HKDF.

    >>> seal = Seal(b"a key of sixteen bytes or more")
    >>> seal.open(seal.close({"answer": 42}))
    {'answer': 42}

    Args:
        key: a secret of any length, at least 16 bytes to be worth something.
    """

    def __init__(self, key: bytes) -> None:
        self._key = key
        # Not cached_property: before Python 3.12 it has a lock, which a forked child may find held.
        self._known_fingerprint: str | None = None
        self._known_cipher: Fernet | None = None

    @property
    def fingerprint(self) -> str:
        """Sixteen hex digits that tell keys apart and give none away."""
        if self._known_fingerprint is None:
            self._known_fingerprint = self._derived(b"fingerprint", 8).hex()
        return self._known_fingerprint

    def close(self, content: dict[str, Any]) -> str:
        """``content`` as sealed text."""
        sealed: bytes = self._cipher.encrypt(json.dumps(content, separators=(",", ":")).encode())
        return sealed.decode("ascii")

    def open(self, text: object) -> dict[str, Any]:
        """The content of sealed text.

        Raises:
            BrokenSeal: it is anything else.
        """
        if isinstance(text, bytes):
            text = text.decode("ascii", "replace")
        if not isinstance(text, str) or not text.isascii() or len(text) > _MAX_TEXT:
            raise BrokenSeal("not sealed text")
        from cryptography.fernet import InvalidToken

        try:
            # Fernet decodes base64 leniently: what stands behind the padding would not count.
            if base64.urlsafe_b64encode(base64.urlsafe_b64decode(text)) != text.encode("ascii"):
                raise ValueError
            content = json.loads(self._cipher.decrypt(text.encode("ascii")))
        except (InvalidToken, ValueError, TypeError):
            raise BrokenSeal("does not open with this key") from None
        if not isinstance(content, dict):
            raise BrokenSeal("holds no object")
        return content

    @property
    def _cipher(self) -> Fernet:
        from cryptography.fernet import Fernet

        if self._known_cipher is None:
            self._known_cipher = Fernet(base64.urlsafe_b64encode(self._derived(b"seal", 32)))
        return self._known_cipher

    def _derived(self, purpose: bytes, length: int) -> bytes:
        from cryptography.hazmat.primitives.hashes import SHA256
        from cryptography.hazmat.primitives.kdf.hkdf import HKDF

        return HKDF(SHA256(), length, salt=None, info=b"flask-m2m-cognito " + purpose).derive(self._key)


@dataclass(frozen=True)
class Entry:
    """What one process fetched, for the others. Holds facts, and nothing of the writer's settings.

    Attributes:
        payload: plain JSON.
        fetched_at: when, in seconds since the epoch, by the clock of the process that fetched it.
        expires_at: when the value itself expires, by the same clock; ``None``: it does not.
    """

    payload: Any = field(repr=False)
    fetched_at: float
    expires_at: float | None = None

    def not_after(self, now: float) -> Entry:
        """This entry, dated ``now`` if it is from a clock ahead, and expiring as much earlier."""
        ahead = max(0.0, self.fetched_at - now)
        expires_at = None if self.expires_at is None else self.expires_at - ahead
        return replace(self, fetched_at=self.fetched_at - ahead, expires_at=expires_at)


@dataclass(frozen=True)
class Lease:
    """The right to fetch for everybody. ``key`` is ``None`` where there is no store to say so."""

    key: str | None
    superseded: str | None = None


class SealedStore:
    """Named entries and leases over a backend that may be down, hung or hostile. No call of it raises.

    Args:
        backend: the cachelib backend, at a bounded cost.
        seal: how content becomes text.
        clock: by which entries and leases age.
    """

    def __init__(
        self,
        backend: BoundedBackend,
        seal: Seal,
        *,
        clock: Clock = SYSTEM,
    ) -> None:
        self.backend = backend
        self.seal = seal
        self._clock = clock
        self._complained: frozenset[str] = frozenset()  # replaced whole
        self._seen_ahead: dict[
            str, tuple[float, float]
        ] = {}  # replaced whole: its date, when it was first seen
        self._seen_leases: dict[str, tuple[str, float]] = {}  # replaced whole

    def import_all(self) -> None:
        """Import what sealing and the backend's client need, on this thread.

        So it takes no time from a deadline. And a child that is forked while another thread imports waits
        for that import forever, which here is also one of PyJWT and others that a client imports.
        """
        if not self.backend.is_configured():
            return
        with explain_subinterpreters():
            import cryptography.fernet
            import cryptography.hazmat.primitives.kdf.hkdf  # noqa: F401

        self.backend.import_client()

    # -- entries -----------------------------------------------------------------------------

    def load(self, name: str, kind: str) -> Entry | None:
        """The entry under ``name``; ``None`` without a usable one.

        That is also one that does not open or is dated more than a minute ahead, and while the store is down.
        """
        key = self._key(kind, name)
        content = self._load_content(key, name, kind)
        if content is None:
            return None
        entry = _entry_in(content)
        if entry is None:
            self._complain(key, "lacks what an entry has")
            return None
        now = self._clock.wall()
        ahead = entry.fetched_at - now
        fetched_at, seen_at = self._seen_ahead.get(key, (None, now))
        if fetched_at != entry.fetched_at:
            seen_at = now
        if ahead > MOST_AHEAD:
            self._seen_ahead = {**self._seen_ahead, key: (entry.fetched_at, seen_at)}
            self._complain(key, f"is dated {ahead:.0f} s in the future: a clock is wrong")
            return None
        # Once its date has come, it is as old as we know it to be: a clock ahead must not prolong its life.
        return entry.not_after(seen_at) if fetched_at == entry.fetched_at else entry

    def save(self, name: str, kind: str, entry: Entry) -> None:
        """Put ``entry`` under ``name`` until it expires: how long it counts is each reader's decision."""
        content = {
            "payload": entry.payload,
            "fetched_at": entry.fetched_at,
            "expires_at": entry.expires_at,
        }
        seconds = _LONGEST if entry.expires_at is None else entry.expires_at - entry.fetched_at
        self._save_content(self._key(kind, name), name, kind, content, seconds)

    # -- leases ------------------------------------------------------------------------------

    def take_lease(self, name: str, seconds: float) -> Lease | None:
        """The right to fetch ``name`` for ``seconds``, or ``None`` while another process has it.

        A lease past its own deadline is dead, whatever the cache says of its age: Redis sets key
        and expiry in two commands, and another cache's ``add`` may never look at an age. Its
        successor is a lease of its own, named after the dead one, so that ``add`` lets in just one.
        """
        holder = uuid.uuid4().hex
        base = key = self._key("lease", name)
        was_missing = False
        for _ in range(_MOST_ROUNDS):
            try:
                if self.backend.call(self._adding(key, name, holder, seconds)):
                    lease = Lease(key, None if key == base else base)
                    return lease if self._is_holder(key, name, holder) else None
            except StoreDown:
                return Lease(None)
            current = self._load_content(key, name, "lease")
            if current is None:
                # Given back since: the next round tells. Else not one of ours, or past its age in a
                # store whose add does not look. Not deleted at once: it may be another's by now.
                if was_missing:
                    self._delete(key)
                was_missing = not was_missing
            elif current.get("holder") == holder:
                # The answer to a first try was lost, and the second found this.
                return Lease(key, None if key == base else base)
            elif self._is_dead(key, current, seconds):
                key = f"{base}:{_short_digest(str(current.get('holder')))}"
            else:
                return None
        # A store that neither takes a lease nor shows one keeps nothing.
        return Lease(None)

    def give_back(self, lease: Lease) -> None:
        """Let another process have the lease."""
        # The dead one first: in the other order, who has just seen it would take the successor's name anew.
        for key in (lease.superseded, lease.key):
            if key is not None:
                self._delete(key)

    def _is_holder(self, key: str, name: str, holder: str) -> bool:
        """Return whether the lease that was just taken is still ours: adding a file is not atomic."""
        current = self._load_content(key, name, "lease")
        return current is None or current.get("holder") == holder

    def _adding(self, key: str, name: str, holder: str, seconds: float) -> Callable[[Any], object]:
        lease = {"holder": holder, "until": self._clock.wall() + seconds}
        text = self._close(name, "lease", lease)
        # One more, as files and Memcached count from the whole second before: the lease itself says its end.
        return lambda backend: backend.add(key, text, _whole(seconds) + 1)

    def _is_dead(self, key: str, lease: dict[str, Any], seconds: float) -> bool:
        """Return whether it is past its own deadline, or ours: we have seen it for longer than one lasts."""
        holder, until = str(lease.get("holder")), lease.get("until")
        now = self._clock.monotonic()
        seen_holder, since = self._seen_leases.get(key, ("", now))
        if seen_holder != holder:
            since = now
            self._seen_leases = {**self._seen_leases, key: (holder, now)}
        is_over = not isinstance(until, (int, float)) or self._clock.wall() >= until
        return is_over or now - since >= seconds

    def _delete(self, key: str) -> None:
        with contextlib.suppress(StoreDown):
            self.backend.call(lambda backend: backend.delete(key))

    # -- sealed content under a key ----------------------------------------------------------

    def _key(self, kind: str, name: str) -> str:
        return f"cognito-m2m:{FORMAT}:{self.seal.fingerprint}:{kind}:{_short_digest(name)}"

    def _close(self, name: str, kind: str, content: dict[str, Any]) -> str:
        return self.seal.close({**content, "name": name, "kind": kind})

    def _load_content(self, key: str, name: str, kind: str) -> dict[str, Any] | None:
        try:
            text = self.backend.call(lambda backend: backend.get(key))
        except StoreDown:
            return None
        if text is None:
            return None
        try:
            content = self.seal.open(text)
        except BrokenSeal as error:
            self._complain(key, str(error))
            return None
        if content.get("name") != name or content.get("kind") != kind:
            self._complain(key, "is the entry of another name")
            return None
        return content

    def _save_content(self, key: str, name: str, kind: str, content: dict[str, Any], seconds: float) -> None:
        text = self._close(name, kind, content)
        with contextlib.suppress(StoreDown):
            self.backend.call(lambda backend: backend.set(key, text, _whole(seconds)))
            self._complained = self._complained - {key}

    def _complain(self, key: str, problem: str) -> None:
        """Once for each entry, until it is replaced."""
        if key not in self._complained:
            self._complained = self._complained | {key}
            extra = {"event": "cache-entry-ignored", "key": key}
            text = "A cached entry %s %s: it is ignored and will be replaced."
            report(lambda: _logger.warning(text, key, problem, extra=extra))


def _entry_in(content: dict[str, Any]) -> Entry | None:
    fetched_at, expires_at = content.get("fetched_at"), content.get("expires_at")
    if "payload" not in content or not _is_moment(fetched_at):
        return None
    if expires_at is not None and not _is_moment(expires_at):
        return None
    return Entry(content["payload"], fetched_at, expires_at)


def _is_moment(value: object) -> TypeGuard[float]:
    # So compared that NaN is none either.
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < 2**53


def _short_digest(text: str) -> str:
    """Memcached's names are short and without spaces; ours hold URLs."""
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def _whole(seconds: float) -> int:
    """Backends count whole seconds, take 0 for ever, and more than they can count for an error."""
    return max(1, int(min(seconds + 0.999, _LONGEST)))
