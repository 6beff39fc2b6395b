"""``flask m2m revoke``, ``flask m2m unrevoke`` and ``flask m2m revocations``."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import datetime, timezone
from typing import Any

import click
from flask import Flask

from ..app.revocations import require
from ..app.revocations import revoke as revoke_tokens
from ..app.revocations import unrevoke as unrevoke_tokens
from ..exceptions import ConfigurationError, M2MCognitoError
from ..inbound.revocation_list import EVERY_TOKEN, Revocation
from ..inbound.revocation_source import REACH, RevocationSource
from .application import echo, parts_of, quiet
from .cache_check import files_finding
from .words import columns, quoted

_NOW = "now"


def revoke(
    app: Flask, *, as_json: bool, client_id: str, before: str | None, jti: tuple[str, ...], waits: bool
) -> int:
    """Revoke tokens of a client, and wait until every process rejects them."""
    source = _source_for_change(app)
    time_before = _parse_time("--before", before, source)
    changed = _run(lambda: revoke_tokens(source, client_id, time_before, jti or None))
    allowed = parts_of(app).settings.allowed_client_ids
    if isinstance(allowed, frozenset) and client_id not in allowed:
        click.echo(_UNKNOWN_CLIENT, err=True)
    return _confirm(source, client_id, changed, as_json, waits)


def unrevoke(app: Flask, *, as_json: bool, client_id: str, keep_before: str | None, waits: bool) -> int:
    """Accept the tokens of a client again, and wait until every process does."""
    source = _source_for_change(app)
    kept = _parse_time("--keep-before", keep_before, source)
    changed = _run(lambda: unrevoke_tokens(source, client_id, kept))
    return _confirm(source, client_id, changed, as_json, waits)


def show_revocations(app: Flask, *, as_json: bool) -> int:
    """Print what is revoked."""
    source = _source_of(app)
    rows = [_row_of(client_id, row) for client_id, row in sorted(_run(source.read).revoked.items())]
    lines = columns((row["client_id"], _tokens_in(row), f"changed {row['changed_at']}") for row in rows)
    echo({"revocations": rows, "seal": source.seal}, lines or ["Nothing is revoked."], as_json=as_json)
    return 0


def _source_of(app: Flask) -> RevocationSource:
    return require(parts_of(app)._revocations)


def _source_for_change(app: Flask) -> RevocationSource:
    """Return the source, unless the service could not read the files that this user writes."""
    source = _source_of(app)
    problem = files_finding(app)
    if problem is not None:
        raise click.ClickException(f"{problem.said} {problem.advice}")
    return source


_UNKNOWN_CLIENT = (
    "Warning: this id is not in COGNITO_M2M_ALLOWED_CLIENT_IDS of this application. Check that it is the id "
    "of the app client, and not its name."
)


def _confirm(
    source: RevocationSource, client_id: str, changed: Revocation, as_json: bool, waits: bool
) -> int:
    """Print a change. Wait until every process obeys, and check that the cache still has it.

    Returns:
        The exit status: 1 if a process may not have read it.
    """
    row = _row_of(client_id, changed)
    if not as_json:
        # At once, for an operator who stops the wait.
        click.echo(f"Revoked tokens of {client_id}: {_tokens_in(row)}.")
    problem = None
    if waits:
        click.echo(f"Waiting {REACH:.0f} s until every process obeys …", err=True)
        time.sleep(REACH)
        problem = _problem_with(source, client_id, changed)
    confirmed = problem is None if waits else None
    content = {**row, "confirmed": confirmed, "problem": problem, "seal": source.seal}
    seal = f"seal: {source.seal} (processes with the same fingerprint share the list)"
    echo(content, [problem or _OBEYED[waits], seal], as_json=as_json)
    return int(problem is not None)


_OBEYED = {
    True: "Every process that can reach the cache obeys now.",
    False: f"Every process that can reach the cache obeys within {REACH:.0f} s.",
}


def _problem_with(source: RevocationSource, client_id: str, changed: Revocation) -> str | None:
    """Return why a process may not have read the change, or ``None`` if the cache had it all the time."""
    try:
        with quiet():
            stored = source.read().clients.get(client_id)
    except M2MCognitoError as error:
        return f"A process may not have read this. {error} Run the command again when the cache is available."
    if stored is None:
        return "A process may not have read this: the cache has lost the list. Run the command again."
    if stored != changed:
        return "Another command has changed this client meanwhile. Run `flask m2m revocations`."
    return None


def _run(call: Callable[[], Any]) -> Any:
    try:
        with quiet():
            return call()
    except ConfigurationError:
        raise
    except M2MCognitoError as error:
        raise click.ClickException(str(error)) from None


def _parse_time(option: str, text: str | None, source: RevocationSource) -> datetime | float | None:
    """Return the time of an option: seconds since the epoch, ISO 8601 with an offset, or ``now``."""
    if text is None:
        return None
    if text == _NOW:
        return source.clock.wall()
    try:
        return float(text)
    except ValueError:
        pass
    try:
        # Python 3.10 does not parse the Z.
        return datetime.fromisoformat(text[:-1] + "+00:00" if text[-1:] in ("Z", "z") else text)
    except ValueError:
        raise click.BadParameter(
            f"{quoted(text)} is not a time. Use ISO 8601 with an offset (2026-11-30T18:00:00Z), seconds "
            "since the epoch, or 'now'.",
            param_hint=option,
        ) from None


def _row_of(client_id: str, row: Revocation) -> dict[str, Any]:
    is_partial = row.before not in (0.0, EVERY_TOKEN)
    return {
        "client_id": client_id,
        "every_token": row.before == EVERY_TOKEN,
        "before": _iso(row.before) if is_partial else None,
        "jti": sorted(row.token_ids),
        "changed_at": _iso(row.changed_at),
    }


def _iso(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, timezone.utc).isoformat(timespec="seconds").replace("+00:00", "Z")


def _tokens_in(row: dict[str, Any]) -> str:
    """Return which tokens are revoked, in a few words."""
    if row["every_token"]:
        return "all"
    words = [f"issued before {row['before']}"] if row["before"] else []
    words += [f"jti {quoted(token_id)}" for token_id in row["jti"]]
    return ", ".join(words) or "none"
