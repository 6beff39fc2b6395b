"""Verified tokens, and the bounded memory of them."""

from __future__ import annotations

import functools
import json
import math
import os
import threading
from collections import OrderedDict
from collections.abc import Callable
from hashlib import blake2b
from typing import Any, TypeVar

from ..exceptions import TokenValidationError
from ..formats.scopes import parse_scopes
from ..remote.refreshable import Refreshable
from ..remote.threads import PerProcess
from .claims_policy import CHECKS, EXPIRED, NOT_YET_VALID, Check, first_defect, has_times
from .key_set import KeySet, VerificationKey
from .key_source import TrustedPool
from .revocation_list import RevocationList
from .unverified_token import UnverifiedToken, parse_claims

Rejection = TypeVar("Rejection", bound=TokenValidationError)

_MOST_CHANCES = 8
"""Second chances for each insertion. Without this limit, a million used entries held the lock for 0.5 s."""


class VerifiedToken:
    """A token with a verified signature. Its claims can be trusted, but are not checked yet.

    Attributes:
        trusted: the pool that issued it.
        key: the object that verified it. While it is in the key set, the signature stays valid.
        key_source: keeps the pool's keys fresh.
        key_set: the key set in which ``key`` was last seen.
        flat_claims: the claims, which must not be changed. ``None`` before the token comes again, and if the
            claims hold lists or objects.
        unrevoked_in: the list of revocations in which the token was looked up last, and not found.
        valid_from, valid_until: the times between which it is valid, including the leeway.
        defect: the first check that its claims fail at any time in any service, or ``None``.
    """

    __slots__ = (
        "_payload",
        "_unshared",
        "client_id",
        "defect",
        "flat_claims",
        "key",
        "key_set",
        "key_source",
        "scopes",
        "trusted",
        "unrevoked_in",
        "used",
        "valid_from",
        "valid_until",
    )

    def __init__(
        self,
        trusted: TrustedPool,
        key: VerificationKey,
        key_set: KeySet,
        unverified: UnverifiedToken,
        machines_only: bool,
        leeway: float,
    ) -> None:
        claims = unverified.claims
        scope = claims.get("scope")
        self.trusted: TrustedPool = trusted
        self.key: VerificationKey = key
        self.key_set: KeySet = key_set
        self.key_source: Refreshable[KeySet] = trusted.key_source
        self.used: bool = False
        self.flat_claims: dict[str, Any] | None = None
        self.unrevoked_in: RevocationList | None = None
        self._payload = unverified.payload
        self._unshared = claims
        self.client_id: str = claims.get("client_id", "")
        self.scopes: frozenset[str] = _parse_scopes_cached(scope) if type(scope) is str else frozenset()
        self.defect: Check | None = first_defect(claims, machines_only)
        self.valid_from: float = -math.inf
        self.valid_until: float = -math.inf
        if self.defect is None or has_times(claims):
            self.valid_until = claims["exp"] + leeway
            if "nbf" in claims:
                self.valid_from = claims["nbf"] - leeway

    def claims(self) -> dict[str, Any]:
        """Return the claims as a dict that belongs to the caller.

        The first caller gets the dict that was parsed at verification. Only a token that comes again is worth
        more memory than its text: its claims are then kept, and copied for each request. Claims with a list
        or an object (or a bracket in a string) are parsed again for each request, so no request can change
        another's claims.
        """
        if self.flat_claims is not None:
            return self.flat_claims.copy()
        try:
            unshared = self._unshared
            del self._unshared  # only one of several threads succeeds
        except AttributeError:
            return self._parse_again()
        return unshared

    def _parse_again(self) -> dict[str, Any]:
        try:
            parsed: dict[str, Any] = json.loads(self._payload)
        except (ValueError, RecursionError):
            # A number has more digits, or the nesting is deeper, than the json module accepts.
            parsed = parse_claims(self._payload, self.key.kid)
        if self._payload.rfind(b"{") <= 0 and b"[" not in self._payload:
            self.flat_claims = parsed
            return parsed.copy()
        return parsed

    def build_rejection_at(self, now: float) -> TokenValidationError:
        """Return the rejection by the first check that the token fails at ``now``. It must fail one."""
        failed = [] if self.defect is None else [self.defect]
        if now >= self.valid_until:
            failed.append(EXPIRED)
        if now < self.valid_from:
            failed.append(NOT_YET_VALID)
        return self.identify(min(failed, key=CHECKS.index).build_rejection())

    def identify(self, error: Rejection) -> Rejection:
        """Return ``error`` with this token's client, scopes, key and pool.

        Only a verified token identifies a client: the sender of any other token chooses its claims freely.
        """
        error.client_id = self.client_id if type(self.client_id) is str and self.client_id else None
        error.token_scopes = self.scopes
        error.kid, error.pool = self.key.kid, self.trusted.pool.pool_id
        return error


# Tokens of one client have the same scopes. Only scopes that a pool has signed are cached here.
_parse_scopes_cached = functools.lru_cache(maxsize=1024)(parse_scopes)


class VerifiedTokens:
    """Remembers the last ``size`` verified tokens; a ``size`` of 0 remembers none.

    It holds no tokens: it finds entries by a keyed digest, with a random key for each object. The digest is
    most of the cost of a guard. Inside a request BLAKE2b takes three quarters of the time of SHA-256, even on
    processors with SHA-256 instructions, where SHA-256 is faster in a loop. A hit needs no lock: it only
    marks the entry. A marked entry gets a second chance when room is needed.
    """

    def __init__(self, size: int = 4096) -> None:
        self._size = size
        #: Copies the keyed hash object, so the key is hashed once and not for each token.
        self.new_digest: Callable[[], Any] = blake2b(key=os.urandom(64), digest_size=16).copy
        self._entries: OrderedDict[bytes, VerifiedToken] = OrderedDict()
        self._lock = PerProcess(threading.Lock)  # for writing
        #: The entry under a digest, or ``None``.
        self.get: Callable[[bytes], VerifiedToken | None] = self._entries.get

    def digest(self, token: str) -> bytes:
        """Return the keyed digest of ``token``."""
        digest = self.new_digest()
        # A lone surrogate is never valid in a token, but it must not raise here.
        digest.update(token.encode("utf-8", "surrogatepass"))
        result: bytes = digest.digest()
        return result

    def put(self, digest: bytes, entry: VerifiedToken) -> None:
        """Remember ``entry``. If the memory is full, forget an older entry, preferably an unused one."""
        if self._size <= 0:
            return
        chances = _MOST_CHANCES
        with self._lock.get():
            while len(self._entries) >= self._size and digest not in self._entries:
                oldest, candidate = self._entries.popitem(last=False)
                if candidate.used and chances:
                    chances -= 1
                    candidate.used = False
                    self._entries[oldest] = candidate
            self._entries[digest] = entry

    def __len__(self) -> int:
        return len(self._entries)
