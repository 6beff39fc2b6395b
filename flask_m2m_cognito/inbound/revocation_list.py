"""The list of revoked clients and tokens, which processes share and merge."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from .validated_access_token import ValidatedAccessToken

K = TypeVar("K")

EVERY_TOKEN = math.inf
"""As :attr:`Revocation.before`: every token, whenever it is issued."""

_LONGEST_LIFE = 7 * 86400.0
"""Seconds after which the id of a revoked token is dropped. Cognito's access tokens last a day at most."""

_STEP = 0.001
"""Seconds by which a change is dated after the change that it replaces, whatever the clock says."""


@dataclass(frozen=True)
class Revocation:
    """The revoked tokens of one client. All times are seconds since the epoch.

    Each part has the time when an operator added it, so that two versions of a row are merged part by part.
    A change that was made while the cache had lost the earlier ones does not remove these.

    Attributes:
        befores: tokens that were issued (``iat``) before one of these times are revoked.
        token_ids: the ids (``jti``) of revoked tokens.
        unrevoked_at: when an operator accepted the client again, which removed everything older. It is kept,
            so that an older version does not come back.
    """

    befores: Mapping[float, float] = field(default_factory=dict)
    token_ids: Mapping[str, float] = field(default_factory=dict)
    unrevoked_at: float = 0.0

    @property
    def before(self) -> float:
        """The latest of :attr:`befores`: :data:`EVERY_TOKEN`, or 0 if there is none."""
        return max(self.befores, default=0.0)

    @property
    def changed_at(self) -> float:
        """When an operator changed it last."""
        return max(self.unrevoked_at, *self.befores.values(), *self.token_ids.values(), 0.0)

    @property
    def is_empty(self) -> bool:
        """Whether nothing is revoked any more."""
        return not self.befores and not self.token_ids

    def merge(self, other: Revocation) -> Revocation:
        """Return what is revoked in either, except for what was removed since."""
        unrevoked_at = max(self.unrevoked_at, other.unrevoked_at)
        oldest = max(unrevoked_at, max(self.changed_at, other.changed_at) - _LONGEST_LIFE)
        return Revocation(
            _without_implied(_latest(self.befores, other.befores, unrevoked_at)),
            _latest(self.token_ids, other.token_ids, oldest),
            unrevoked_at,
        )


_NO_ROW = Revocation()


def _latest(one: Mapping[K, float], other: Mapping[K, float], after: float) -> dict[K, float]:
    """Return the entries of both that are later than ``after``, each with its later time."""
    pairs = sorted([*one.items(), *other.items()], key=lambda pair: pair[1])
    return {key: at for key, at in pairs if at > after}


def _without_implied(befores: Mapping[float, float]) -> dict[float, float]:
    """Return the entries for which no other one revokes more and is later."""
    kept: dict[float, float] = {}
    for before, at in sorted(befores.items(), reverse=True):
        if at > max(kept.values(), default=0.0):
            kept[before] = at
    return kept


@dataclass(frozen=True, order=True)
class KeyRefresh:
    """A refresh of the keys of one pool by an operator, in seconds since the epoch.

    Attributes:
        changed_at: when it was announced. Of two, the later one counts.
        fetched_at: the time of the keys' entry in the cache, by the clock of the host that stored it.
    """

    changed_at: float
    fetched_at: float


@dataclass(frozen=True)
class RevocationList:
    """What is revoked, and the last refresh of the keys of each pool.

    Any two lists can be merged in any order. So a list that an attacker replays, or that a process with an
    older one stores, removes nothing.
    """

    clients: Mapping[str, Revocation] = field(default_factory=dict)
    key_refreshes: Mapping[str, KeyRefresh] = field(default_factory=dict)

    @property
    def revoked(self) -> dict[str, Revocation]:
        """The clients with revoked tokens."""
        return {client_id: row for client_id, row in self.clients.items() if not row.is_empty}

    def revokes(self, token: ValidatedAccessToken) -> bool:
        """Return whether ``token``, whose signature and times were checked, is revoked."""
        row = self.clients.get(token.client_id)
        if row is None:
            return False
        token_id = token.claims.get("jti")
        is_listed = isinstance(token_id, str) and token_id in row.token_ids
        return is_listed or bool(token.claims["iat"] < row.before)

    def merge(self, other: RevocationList) -> RevocationList:
        """Return both lists as one, or this same object if ``other`` adds nothing."""
        if other == self:
            return self  # as in most reads: merging 1000 clients takes 5 ms
        clients = {
            client_id: self._row(client_id).merge(other._row(client_id))
            for client_id in self.clients.keys() | other.clients.keys()
        }
        refreshes = [*self.key_refreshes.items(), *other.key_refreshes.items()]
        merged = RevocationList(clients, dict(sorted(refreshes, key=lambda row: row[1])))
        return self if merged == self else merged

    def with_revoked(
        self, client_id: str, now: float, before: float, token_ids: tuple[str, ...]
    ) -> RevocationList:
        """Return the list with more revoked tokens of a client. What was revoked before stays so."""
        row = self._row(client_id)
        at = max(now, row.changed_at + _STEP)
        added = Revocation({before: at} if before else {}, dict.fromkeys(token_ids, at))
        return self.merge(RevocationList({client_id: added}))

    def without(self, client_id: str, now: float, keep_before: float = 0.0) -> RevocationList:
        """Return the list in which a client's tokens are revoked only if issued before ``keep_before``."""
        at = max(now, self._row(client_id).changed_at + _STEP)
        kept = {keep_before: at + _STEP} if keep_before else {}
        return self.merge(RevocationList({client_id: Revocation(kept, unrevoked_at=at)}))

    def _row(self, client_id: str) -> Revocation:
        return self.clients.get(client_id, _NO_ROW)

    def with_keys_refreshed(self, fetched_at: Mapping[str, float], now: float) -> RevocationList:
        """Return the list with a refresh of the keys of these pools."""
        refreshes = dict(self.key_refreshes)
        for pool_id, each in fetched_at.items():
            before = refreshes.get(pool_id, KeyRefresh(0.0, 0.0))
            refreshes[pool_id] = KeyRefresh(max(now, before.changed_at + _STEP), each)
        return replace(self, key_refreshes=refreshes)

    def to_document(self) -> dict[str, Any]:
        """Return the list as plain JSON."""
        return {
            "clients": {
                client_id: {
                    "befores": [[None if to == EVERY_TOKEN else to, at] for to, at in row.befores.items()],
                    "token_ids": dict(row.token_ids),
                    "unrevoked_at": row.unrevoked_at,
                }
                for client_id, row in self.clients.items()
            },
            "key_refreshes": {
                pool_id: [each.changed_at, each.fetched_at] for pool_id, each in self.key_refreshes.items()
            },
        }


def parse_revocation_list(document: Any) -> RevocationList:
    """Return the list of a document.

    Raises:
        ValueError: the document is not such a list. A later version of this library may have written it.
    """
    try:
        clients = {client_id: _parse_row(row) for client_id, row in document["clients"].items()}
        refreshes = {
            pool_id: KeyRefresh(*map(float, row)) for pool_id, row in document["key_refreshes"].items()
        }
    except (AttributeError, KeyError, TypeError, ValueError):
        raise ValueError("the list of revocations in the cache is malformed") from None
    return RevocationList(clients, refreshes)


def _parse_row(row: Any) -> Revocation:
    befores = {EVERY_TOKEN if to is None else float(to): float(at) for to, at in row["befores"]}
    token_ids = {token_id: float(at) for token_id, at in row["token_ids"].items()}
    return Revocation(befores, token_ids, float(row["unrevoked_at"]))
