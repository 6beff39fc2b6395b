"""The list of revoked clients and tokens, which processes share and merge."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .validated_access_token import ValidatedAccessToken

EVERY_TOKEN = math.inf
"""As :attr:`Revocation.before`: every token, whenever it is issued."""

_LONGEST_LIFE = 7 * 86400.0
"""Seconds after which the id of a revoked token is dropped. Cognito's access tokens last a day at most."""

_STEP = 0.001
"""Seconds by which a change is dated after the change that it replaces, whatever the clock says."""


@dataclass(frozen=True)
class Revocation:
    """The revoked tokens of one client. All times are seconds since the epoch.

    Attributes:
        changed_at: when an operator changed it. Of two versions, the later one counts.
        before: tokens that were issued (``iat``) before then are revoked; :data:`EVERY_TOKEN` or 0 (none).
        token_ids: revoked tokens by their id (``jti``), with the time when each was revoked.
    """

    changed_at: float
    before: float = 0.0
    token_ids: Mapping[str, float] = field(default_factory=dict)

    @property
    def version(self) -> tuple[float, float, list[str]]:
        """A value that is greater the later the change. All processes order two versions alike."""
        return self.changed_at, self.before, sorted(self.token_ids)

    @property
    def is_empty(self) -> bool:
        """Whether nothing is revoked any more. It is kept, so that an older version does not come back."""
        return not self.before and not self.token_ids


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
        rows = [*self.clients.items(), *other.clients.items()]
        clients = dict(sorted(rows, key=lambda row: row[1].version))
        refreshes = [*self.key_refreshes.items(), *other.key_refreshes.items()]
        merged = RevocationList(clients, dict(sorted(refreshes, key=lambda row: row[1])))
        return self if merged == self else merged

    def with_revoked(
        self, client_id: str, now: float, before: float, token_ids: tuple[str, ...]
    ) -> RevocationList:
        """Return the list with more revoked tokens of a client. What was revoked before stays so."""
        row = self.clients.get(client_id, Revocation(0.0))
        recent = {each: at for each, at in row.token_ids.items() if at > now - _LONGEST_LIFE}
        return self._with(
            client_id,
            replace(
                row, before=max(row.before, before), token_ids={**recent, **dict.fromkeys(token_ids, now)}
            ),
            now,
        )

    def without(self, client_id: str, now: float) -> RevocationList:
        """Return the list with no revoked token of a client."""
        return self._with(client_id, Revocation(self.clients[client_id].changed_at), now)

    def _with(self, client_id: str, row: Revocation, now: float) -> RevocationList:
        changed = replace(row, changed_at=max(now, row.changed_at + _STEP))
        return replace(self, clients={**self.clients, client_id: changed})

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
                    "changed_at": row.changed_at,
                    "before": None if row.before == EVERY_TOKEN else row.before,
                    "token_ids": dict(row.token_ids),
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
    before = EVERY_TOKEN if row["before"] is None else float(row["before"])
    token_ids = {token_id: float(at) for token_id, at in row["token_ids"].items()}
    return Revocation(float(row["changed_at"]), before, token_ids)
