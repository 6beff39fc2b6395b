"""Encrypt and authenticate entries and leases in a shared cache, so that write access cannot plant any.

:class:`Seal` turns content into text and back. :class:`SealedStore` keeps this text in a cachelib backend, as
entries and leases. It is text so that a JSON serializer works: the default of the backends is pickle, which
runs code from what it reads.
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
"""Part of every name in the cache, so that versions with another format do not read these entries."""

MOST_AHEAD = 60.0
"""Seconds by which an entry may be dated in the future. The clocks of a fleet should not differ by more."""

_logger = logging.getLogger("flask_m2m_cognito.store")
_MAX_TEXT = 256 * 1024
_MOST_ROUNDS = 6
_LONGEST = 30 * 86400.0
"""Seconds for which the cache keeps an entry that does not expire. Memcached reads more as a date."""
_TEN_YEARS = 10 * 365 * 86400


class BrokenSeal(Exception):
    """The text was not sealed with this key, or was changed since."""


class Seal:
    """Encrypt and authenticate JSON content (Fernet) with a key derived by HKDF.

    >>> seal = Seal(b"a key of sixteen bytes or more")
    >>> seal.open(seal.close({"answer": 42}))
    {'answer': 42}

    Args:
        key: a secret of at least 16 bytes. A shorter one works but is not secure.
    """

    def __init__(self, key: bytes) -> None:
        self._key = key
        # Not cached_property: before Python 3.12 it has a lock, which may stay locked in a forked child.
        self._known_fingerprint: str | None = None
        self._known_cipher: Fernet | None = None

    @property
    def fingerprint(self) -> str:
        """Sixteen hexadecimal digits that identify the key without revealing it."""
        if self._known_fingerprint is None:
            self._known_fingerprint = self._derive(b"fingerprint", 8).hex()
        return self._known_fingerprint

    def close(self, content: dict[str, Any]) -> str:
        """Return ``content`` as sealed text."""
        sealed: bytes = self._cipher.encrypt(json.dumps(content, separators=(",", ":")).encode())
        return sealed.decode("ascii")

    def open(self, text: object) -> dict[str, Any]:
        """Return the content of sealed text.

        Raises:
            BrokenSeal: the text was not sealed with this key, or was changed since.
        """
        if isinstance(text, bytes):
            text = text.decode("ascii", "replace")
        if not isinstance(text, str) or not text.isascii() or len(text) > _MAX_TEXT:
            raise BrokenSeal("it is not encrypted text")
        from cryptography.fernet import InvalidToken

        try:
            # Fernet decodes base64 leniently, and would ignore text after the padding.
            if base64.urlsafe_b64encode(base64.urlsafe_b64decode(text)) != text.encode("ascii"):
                raise ValueError
            content = json.loads(self._cipher.decrypt(text.encode("ascii")))
        except (InvalidToken, ValueError, TypeError):
            raise BrokenSeal("it cannot be decrypted with this key") from None
        if not isinstance(content, dict):
            raise BrokenSeal("its content is malformed")
        return content

    @property
    def _cipher(self) -> Fernet:
        from cryptography.fernet import Fernet

        if self._known_cipher is None:
            self._known_cipher = Fernet(base64.urlsafe_b64encode(self._derive(b"seal", 32)))
        return self._known_cipher

    def _derive(self, purpose: bytes, length: int) -> bytes:
        from cryptography.hazmat.primitives.hashes import SHA256
        from cryptography.hazmat.primitives.kdf.hkdf import HKDF

        return HKDF(SHA256(), length, salt=None, info=b"flask-m2m-cognito " + purpose).derive(self._key)


@dataclass(frozen=True)
class Entry:
    """A value that one process fetched for the others. It holds facts, and none of the writer's settings.

    Attributes:
        payload: the value as plain JSON.
        fetched_at: when it was fetched, in seconds since the epoch, by the clock of the process that did.
        expires_at: when the value itself expires, by the same clock; ``None`` if it does not.
    """

    payload: Any = field(repr=False)
    fetched_at: float
    expires_at: float | None = None

    def not_after(self, now: float) -> Entry:
        """Return this entry. If it is dated after ``now``, move its date and expiry back to match."""
        ahead = max(0.0, self.fetched_at - now)
        expires_at = None if self.expires_at is None else self.expires_at - ahead
        return replace(self, fetched_at=self.fetched_at - ahead, expires_at=expires_at)


@dataclass(frozen=True)
class Lease:
    """The right to fetch for all processes. ``key`` is ``None`` if no store holds the lease."""

    key: str | None
    superseded: str | None = None


class SealedStore:
    """Keep named entries and leases in a backend that may be down, hanging or hostile. No method raises.

    Args:
        backend: the cachelib backend, with a time limit for each call.
        seal: turns content into text and back.
        clock: the clock by which entries and leases age.
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
        self._logged: frozenset[str] = frozenset()  # replaced whole
        self._seen_ahead: dict[
            str, tuple[float, float]
        ] = {}  # replaced whole: its date, when it was first seen
        self._seen_leases: dict[str, tuple[str, float]] = {}  # replaced whole

    def import_all(self) -> None:
        """Import what sealing and the backend's client need, on this thread.

        These imports then take no time from a deadline. They also may not run on another thread: a child that
        is forked during an import waits forever for the same import, even if another package makes it.
        """
        if not self.backend.is_configured():
            return
        with explain_subinterpreters():
            import cryptography.fernet
            import cryptography.hazmat.primitives.kdf.hkdf  # noqa: F401

        self.backend.import_client()

    # -- entries -----------------------------------------------------------------------------

    def load(self, name: str, kind: str) -> Entry | None:
        """Return the entry under ``name``, or ``None``, also if the store is down: see :meth:`read`."""
        try:
            return self.read(name, kind)
        except StoreDown:
            return None

    def read(self, name: str, kind: str, *, insists: bool = False) -> Entry | None:
        """Return the entry under ``name``, or ``None``.

        Return ``None`` also if the entry cannot be decrypted or is dated more than a minute in the future.
        For ``insists`` see :meth:`BoundedBackend.call`.

        Raises:
            StoreDown: the store is down.
        """
        key = self._key(kind, name)
        content = self._read_content(key, name, kind, insists)
        if content is None:
            return None
        entry = _parse_entry(content)
        if entry is None:
            self._log_once(key, "its content is malformed")
            return None
        now = self._clock.wall()
        ahead = entry.fetched_at - now
        fetched_at, seen_at = self._seen_ahead.get(key, (None, now))
        if fetched_at != entry.fetched_at:
            seen_at = now
        if ahead > MOST_AHEAD:
            self._seen_ahead = {**self._seen_ahead, key: (entry.fetched_at, seen_at)}
            self._log_once(key, f"it is dated {ahead:.0f} s in the future; check the clocks of all hosts")
            return None
        # From its date on, it is as old as this process has known it: a fast clock must not extend its life.
        return entry.not_after(seen_at) if fetched_at == entry.fetched_at else entry

    def save(self, name: str, kind: str, entry: Entry) -> None:
        """Store ``entry`` as :meth:`write` does, if that is possible."""
        with contextlib.suppress(StoreDown, ValueError):
            self.write(name, kind, entry)

    def write(self, name: str, kind: str, entry: Entry, *, is_permanent: bool = False) -> None:
        """Store ``entry`` under ``name`` until it expires. Each reader decides how long it is fresh.

        Args:
            is_permanent: store it until it is replaced. Otherwise an entry lasts for 30 days at most.

        Raises:
            StoreDown: the store is down.
            ValueError: the entry is longer than :meth:`read` accepts.
        """
        content = {
            "payload": entry.payload,
            "fetched_at": entry.fetched_at,
            "expires_at": entry.expires_at,
        }
        seconds = _LONGEST if entry.expires_at is None else entry.expires_at - entry.fetched_at
        key, text = self._key(kind, name), self._close(name, kind, content)
        if len(text) > _MAX_TEXT:
            raise ValueError(f"the entry has {len(text)} bytes, and at most {_MAX_TEXT} are allowed")

        def set_text(backend: Any) -> object:
            timeout = _permanent_timeout(backend) if is_permanent else _whole_seconds(seconds)
            return backend.set(key, text, timeout)

        self.backend.call(set_text)
        self._logged = self._logged - {key}

    # -- leases ------------------------------------------------------------------------------

    def take_lease(self, name: str, seconds: float) -> Lease | None:
        """Return the right to fetch ``name`` for ``seconds``, or ``None`` while another process has it.

        A lease has expired after its own deadline, even if the cache still keeps it. Redis sets key and
        expiry in two commands, and the ``add`` of another cache may ignore the age of an entry. The next
        lease has a name that is derived from the expired one, so that ``add`` succeeds for only one process.
        """
        holder = uuid.uuid4().hex
        base = key = self._key("lease", name)
        was_missing = False
        for _ in range(_MOST_ROUNDS):
            try:
                if self.backend.call(self._add_operation(key, name, holder, seconds)):
                    lease = Lease(key, None if key == base else base)
                    return lease if self._is_holder(key, name, holder) else None
            except StoreDown:
                return Lease(None)
            current = self._load_content(key, name, "lease")
            if current is None:
                # Either it was given back just now, which the next round shows. Or it is not one of ours, or
                # it has expired in a store whose add ignores that. Do not delete it yet: it may be a new one.
                if was_missing:
                    self._delete(key)
                was_missing = not was_missing
            elif current.get("holder") == holder:
                # The answer to the first try was lost, and the second try found this lease.
                return Lease(key, None if key == base else base)
            elif self._has_expired(key, current, seconds):
                key = f"{base}:{_short_digest(str(current.get('holder')))}"
            else:
                return None
        # A store that neither accepts a lease nor returns one does not store anything.
        return Lease(None)

    def give_back(self, lease: Lease) -> None:
        """Give the lease back, so that another process can take it."""
        # Delete the expired one first. Otherwise a process that has just seen it would add its successor.
        for key in (lease.superseded, lease.key):
            if key is not None:
                self._delete(key)

    def _is_holder(self, key: str, name: str, holder: str) -> bool:
        """Return whether this process still holds the new lease, because adding a file is not atomic."""
        current = self._load_content(key, name, "lease")
        return current is None or current.get("holder") == holder

    def _add_operation(self, key: str, name: str, holder: str, seconds: float) -> Callable[[Any], object]:
        lease = {"holder": holder, "until": self._clock.wall() + seconds}
        text = self._close(name, "lease", lease)
        # One second more, because files and Memcached count from the start of the current second. The lease
        # itself holds its exact end.
        return lambda backend: backend.add(key, text, _whole_seconds(seconds) + 1)

    def _has_expired(self, key: str, lease: dict[str, Any], seconds: float) -> bool:
        """Return whether a lease is past its own deadline, or was seen for longer than a lease lasts."""
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
            return self._read_content(key, name, kind)
        except StoreDown:
            return None

    def _read_content(self, key: str, name: str, kind: str, insists: bool = False) -> dict[str, Any] | None:
        text = self.backend.call(lambda backend: backend.get(key), insists=insists)
        if text is None:
            return None
        try:
            content = self.seal.open(text)
        except BrokenSeal as error:
            self._log_once(key, str(error))
            return None
        if content.get("name") != name or content.get("kind") != kind:
            self._log_once(key, "it was stored under another name")
            return None
        return content

    def _log_once(self, key: str, problem: str) -> None:
        """Log a problem once for each entry, until the entry is replaced."""
        if key not in self._logged:
            self._logged = self._logged | {key}
            extra = {"event": "cache-entry-ignored", "key": key}
            text = "The cache entry %s is ignored: %s. It will be replaced."
            report(lambda: _logger.warning(text, key, problem, extra=extra))


def _parse_entry(content: dict[str, Any]) -> Entry | None:
    fetched_at, expires_at = content.get("fetched_at"), content.get("expires_at")
    if "payload" not in content or not _is_moment(fetched_at):
        return None
    if expires_at is not None and not _is_moment(expires_at):
        return None
    return Entry(content["payload"], fetched_at, expires_at)


def _is_moment(value: object) -> TypeGuard[float]:
    # The comparison is also false for NaN.
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < 2**53


def _short_digest(text: str) -> str:
    """Return a short digest of a name: names contain URLs, and Memcached allows 250 bytes without spaces."""
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def _permanent_timeout(backend: Any) -> int:
    """Return the timeout of an entry that must stay in ``backend``: 0 for no expiry, or ten years.

    A Redis that evicts `volatile` entries keeps those without expiry. A full file cache removes these first.
    """
    return _TEN_YEARS if type(backend).__name__ == "FileSystemCache" else 0


def _whole_seconds(seconds: float) -> int:
    """Return ``seconds`` for a backend: whole, at least 1 because 0 means forever, and at most 30 days."""
    return max(1, int(min(seconds + 0.999, _LONGEST)))
