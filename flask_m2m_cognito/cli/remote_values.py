"""``flask m2m token``, ``flask m2m refresh-tokens`` and ``flask m2m refresh-keys``."""

from __future__ import annotations

import contextlib
from typing import Any

import click
from flask import Flask

from ..app.app_m2m import AppM2M
from ..exceptions import KeysUnavailableError, M2MCognitoError, TokenUnavailableError
from ..formats.scopes import join_scopes
from ..inbound.key_source import TrustedPool
from ..inbound.revocation_source import REACH
from ..outbound.token_source import TokenSource
from ..remote.refreshable import Refreshable
from ..remote.sealed_store import Entry
from .application import echo, parts_of, pools_of, quiet
from .cache_check import unshared_because
from .client_check import advice_for
from .words import duration, listed, quoted


def show_token(app: Flask, *, as_json: bool, scopes: str | None, client: str | None) -> int:
    """Print an access token: a fresh one from the shared cache if there is one, else a new one."""
    parts = parts_of(app)
    source = parts.sources.get(scopes, client)
    try:
        with quiet():
            token = source.token()
    except TokenUnavailableError as error:
        advice = _advice(parts, client, source, scopes, error)
        raise click.ClickException(f"{str(error).rstrip('.')}. {advice}") from None
    row = {
        "access_token": token,
        "token_type": "Bearer",
        "client_id": source.client.client_id,
        "scopes": join_scopes(source.scopes),
        "usable_for": source.refreshable.snapshot()["seconds_left"],
    }
    echo(row, [token], as_json=as_json)
    return 0


def refresh_tokens(app: Flask, *, as_json: bool, scopes: str | None, client: str | None) -> int:
    """Request a new token for each client, and put it into the shared cache.

    Returns:
        The exit status: 1 if a request failed, or if other processes cannot read a token.
    """
    parts = parts_of(app)
    names = [client] if client is not None else list(parts.settings.clients) or [None]
    with quiet():
        rows = [_refresh_token(parts, name, scopes) for name in names]
    lines = [f"{row['client']}: {_token_sentence(row)}" for row in rows]
    echo({"tokens": rows, "seal": parts._store.seal.fingerprint}, lines, as_json=as_json)
    return int(any(row["error"] or row["not_shared"] for row in rows))


def _refresh_token(parts: AppM2M, name: str | None, scopes: str | None) -> dict[str, Any]:
    source = parts.sources.get(scopes, name)
    error = advice = not_shared = None
    try:
        source.refreshed_token()
    except TokenUnavailableError as unavailable:
        error, advice = str(unavailable), _advice(parts, name, source, scopes, unavailable)
    else:
        not_shared = _sharing_problem(source.entry_in(parts._store), source.refreshable, parts)
    return {
        "client": name or "default",
        "client_id": source.client.client_id,
        "scopes": join_scopes(source.scopes),
        "usable_for": None if error else source.refreshable.snapshot()["seconds_left"],
        "error": error,
        "advice": advice,
        "not_shared": not_shared,
    }


def _advice(
    parts: AppM2M, name: str | None, source: TokenSource, scopes: str | None, error: TokenUnavailableError
) -> str:
    return advice_for(error, parts.settings.clients[name], None if scopes is None else source.scopes)


def _token_sentence(row: dict[str, Any]) -> str:
    if row["error"]:
        return f"failed: {row['error'].rstrip('.')}. {row['advice']}"
    return f"usable for {duration(row['usable_for'])}.{_not_shared_sentence(row)}"


def refresh_keys(app: Flask, *, as_json: bool) -> int:
    """Download each pool's keys now, and put them into the shared cache.

    Returns:
        The exit status: 1 if a download failed, or if other processes cannot read the keys.
    """
    parts = parts_of(app)
    with quiet():
        rows = {trusted.pool.pool_id: _refresh_keys_of(trusted, parts) for trusted in pools_of(parts)}
    shared = [pool_id for pool_id, row in rows.items() if not row["error"] and not row["not_shared"]]
    problem = _announce(parts, shared)
    seal = parts._store.seal.fingerprint
    lines = [f"{pool_id}: {_keys_sentence(row)}" for pool_id, row in rows.items()]
    lines.append(f"seal: {seal} (processes with the same fingerprint share the cache)")
    if parts._revocations is not None and shared:
        lines.append(problem or f"Running processes use these keys within {REACH:.0f} s.")
    echo({"pools": rows, "seal": seal, "not_announced": problem}, lines, as_json=as_json)
    return int(bool(problem) or any(row["error"] or row["not_shared"] for row in rows.values()))


def _announce(parts: AppM2M, pool_ids: list[str]) -> str | None:
    """Make running processes renew the keys, if revocations are on. Return what went wrong, if anything."""
    if parts._revocations is None or not pool_ids:
        return None
    entries = {
        trusted.pool.pool_id: trusted.entry_in(parts._store)
        for trusted in pools_of(parts)
        if trusted.pool.pool_id in pool_ids
    }
    try:
        with quiet():
            parts._revocations.announce_keys(
                {pool_id: entry.fetched_at for pool_id, entry in entries.items() if entry is not None}
            )
    except M2MCognitoError as error:
        return f"Running processes keep their keys until these are no longer fresh. {error}"
    return None


def _sharing_problem(entry: Entry | None, value: Refreshable[Any], parts: AppM2M) -> str | None:
    """Return why other processes do not find this process's value in ``entry``, or ``None`` if they do."""
    problem, fetched = unshared_because(parts), value.state.fetched
    if problem is None and (entry is None or fetched is None or entry.fetched_at < fetched.fetched_at):
        return f"the cache ({parts._store.backend.kind}) does not store the entry"
    return problem


def _refresh_keys_of(trusted: TrustedPool, parts: AppM2M) -> dict[str, Any]:
    """Return a row of the output. ``not_shared`` is the reason why other processes lack these keys."""
    keys = trusted.key_source
    held = keys.state.fetched
    try:
        key_set = keys.get()
        if keys.state.fetched is held or keys.snapshot()["source"] != "network":
            # Keys from memory, the cache or the settings may not be the current keys of the pool.
            keys.end_backoff()
            with contextlib.suppress(KeysUnavailableError):  # the state has the failure
                key_set = keys.refresh()
    except KeysUnavailableError as error:
        problem = str(error.__cause__ or error)
        return {"kids": [], "source": None, "age": None, "error": problem, "not_shared": None}
    failure, snapshot = keys.state.failure, keys.snapshot()
    return {
        "kids": sorted(key_set.kids),
        "source": snapshot["source"],
        "age": snapshot["age"],
        "error": str(failure.error) if failure else None,
        "not_shared": None if failure else _sharing_problem(trusted.entry_in(parts._store), keys, parts),
    }


def _keys_sentence(row: dict[str, Any]) -> str:
    if row["error"]:
        kept = f" The known keys stay in use: {listed(map(quoted, row['kids']))}." if row["kids"] else ""
        return f"failed: {row['error']}.{kept} Run `flask m2m check` to find the cause."
    count = f"{len(row['kids'])} {'key' if len(row['kids']) == 1 else 'keys'}"
    return f"{count}: {listed(map(quoted, row['kids']))}.{_not_shared_sentence(row)}"


def _not_shared_sentence(row: dict[str, Any]) -> str:
    problem = row["not_shared"]
    return f" Not shared: {problem}. Run `flask m2m check` for advice." if problem else ""
