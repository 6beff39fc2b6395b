"""The health of an application's keys, tokens and cache: plain data from memory, for probes and operators."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Literal, TypedDict

from ..formats.scopes import join_scopes
from ..inbound.key_source import TrustedPool
from ..inbound.revocation_source import RevocationSource
from ..outbound.token_source import TokenSource
from ..remote.bounded_backend import BoundedBackend
from ..remote.freshness import Snapshot
from .clock_offset import ClockOffset
from .request_count import RequestCount


class PoolHealth(Snapshot):
    """The health of the keys of one user pool.

    Attributes:
        had_keys: whether this process has had keys of the pool since it started.
        keys: the number of keys now.
    """

    had_keys: bool
    keys: int


class TokenHealth(Snapshot):
    """The health of one token for this application's own calls.

    Attributes:
        client: the name of the client in ``COGNITO_M2M_CLIENTS``, or ``"default"``.
        client_id: the id of the client.
        scopes: the requested scopes, separated by spaces.
    """

    client: str
    client_id: str
    scopes: str


class RevocationsHealth(Snapshot):
    """The health of the list of revocations.

    Attributes:
        clients: the number of clients with revoked tokens.
    """

    clients: int


class TokenRequests(TypedDict):
    """The number of tokens that this process requested: since it started, and in the last hour."""

    total: int
    last_hour: int


class StoreHealth(TypedDict):
    """The shared cache: whether it works, and its class, such as ``"RedisCache"``, after its first use."""

    works: bool
    kind: str | None


class Health(TypedDict):
    """The data that :meth:`CognitoM2M.health` returns.

    Attributes:
        status: ``"ok"``, ``"degraded"`` (a refresh or the cache fails), ``"starting"`` (nothing has been
            fetched yet) or ``"unavailable"`` (keys or all tokens are gone).
        ready: every pool has had keys, or has answered that it has none while another pool has keys.
        pools: the keys, by pool id.
        tokens: the tokens for the application's own calls.
        token_requests: the counts by client name; ``"default"`` is the default client.
        store: the shared cache.
        revocations: the list of revocations; ``None`` if ``COGNITO_M2M_REVOCATIONS`` is off.
        clock_offset: seconds by which the servers' clocks are ahead of this machine's, if known.
    """

    status: Literal["ok", "degraded", "starting", "unavailable"]
    ready: bool
    pools: dict[str, PoolHealth]
    tokens: list[TokenHealth]
    token_requests: dict[str, TokenRequests]
    store: StoreHealth
    revocations: RevocationsHealth | None
    clock_offset: float | None


def health_of(
    pools: Iterable[TrustedPool],
    sources: Iterable[tuple[str | None, TokenSource]],
    requests: Mapping[str | None, RequestCount],
    store: BoundedBackend,
    clock: ClockOffset,
    revocations: RevocationSource | None,
) -> Health:
    """Return the health of keys, tokens and cache, from memory.

    ``ready`` stays true in an outage, which is ``"degraded"``: cached keys and tokens are still used.
    """
    pools = list(pools)
    pool_rows = {trusted.pool.pool_id: _pool_row(trusted) for trusted in pools}
    token_rows = [_token_row(name, source) for name, source in sources]
    # One deleted pool of several must not keep new instances out of rotation. Having no keys at all must.
    empty = {each.pool.pool_id for each in pools if each.has_no_keys.is_set()}
    serving = {pool_id for pool_id, row in pool_rows.items() if row["had_keys"]}
    ready = (bool(serving) or not pools) and serving | empty == set(pool_rows)
    rows: list[Snapshot] = [*pool_rows.values(), *token_rows]
    if revocations is not None:
        rows.append(revocations.refreshable.snapshot())
    expected = [row for pool_id, row in pool_rows.items() if not ready or pool_id in serving]
    # One rare token that fails, for a scope that the client may not have, does not affect the others.
    has_no_token = bool(token_rows) and all(_is_down(row) for row in token_rows)
    is_unavailable = has_no_token or any(map(_is_down, expected))
    return {
        "status": "unavailable" if is_unavailable else _status(rows, store.works, ready),
        "ready": ready,
        "pools": pool_rows,
        "tokens": token_rows,
        "token_requests": {
            name or "default": {"total": count.total, "last_hour": count.last_hour}
            for name, count in requests.items()
        },
        "store": {"works": store.works, "kind": store.kind},
        "revocations": None if revocations is None else _revocations_row(revocations),
        "clock_offset": clock.seconds,
    }


def _is_down(row: Snapshot) -> bool:
    return row["state"] == "gone" and bool(row["failures"])


def _pool_row(trusted: TrustedPool) -> PoolHealth:
    state = trusted.key_source.state
    return {
        **trusted.key_source.snapshot(),
        "had_keys": state.fetched is not None,
        "keys": 0 if state.value is None else len(state.value),
    }


def _revocations_row(source: RevocationSource) -> RevocationsHealth:
    state = source.refreshable.state
    return {**source.refreshable.snapshot(), "clients": len(state.value.revoked) if state.value else 0}


def _token_row(name: str | None, source: TokenSource) -> TokenHealth:
    return {
        "client": name or "default",
        "client_id": source.client.client_id,
        "scopes": join_scopes(source.scopes),
        **source.refreshable.snapshot(),
    }


def _status(rows: list[Snapshot], store_works: bool, ready: bool) -> Literal["ok", "degraded", "starting"]:
    if not store_works or any(row["failures"] for row in rows):
        return "degraded"
    return "ok" if ready else "starting"
