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
from ..exceptions import ConfigurationError, M2MCognitoError
from ..inbound.revocation_list import EVERY_TOKEN, Revocation
from ..inbound.revocation_source import REACH, RevocationSource
from .application import echo, parts_of, quiet
from .words import listed, quoted

_NOW = "now"


def revoke(
    app: Flask, *, as_json: bool, client_id: str, before: str | None, jti: tuple[str, ...], waits: bool
) -> int:
    """Revoke tokens of a client, and wait until every process rejects them."""
    source = _source_of(app)
    time_before = None if before is None else _parse_time(before, source.clock.wall())
    return _change(
        source, client_id, lambda: revoke_tokens(source, client_id, time_before, jti or None), as_json, waits
    )


def unrevoke(app: Flask, *, as_json: bool, client_id: str, waits: bool) -> int:
    """Accept the tokens of a client again, and wait until every process does."""
    source = _source_of(app)
    return _change(source, client_id, lambda: source.unrevoke(client_id), as_json, waits)


def show_revocations(app: Flask, *, as_json: bool) -> int:
    """Print what is revoked."""
    source = _source_of(app)
    rows = [_row_of(client_id, row) for client_id, row in sorted(_run(source.read).revoked.items())]
    lines = [f"{row['client_id']}: {_describe(row)}, since {row['changed_at']}." for row in rows]
    echo({"revocations": rows}, lines or ["Nothing is revoked."], as_json=as_json)
    return 0


def _source_of(app: Flask) -> RevocationSource:
    parts = parts_of(app)
    return require(parts._revocations)


def _change(
    source: RevocationSource, client_id: str, change: Callable[[], Revocation], as_json: bool, waits: bool
) -> int:
    changed = _run(change)
    row = _row_of(client_id, changed)
    is_known: bool | None = None
    if waits:
        click.echo(f"Waiting {REACH:.0f} s until every process has read the list …", err=True)
        time.sleep(REACH)
        is_known = _run(source.read).clients.get(client_id) == changed
    lines = [f"{client_id}: {_describe(row)}.", _REACHED[is_known]]
    echo({**row, "confirmed": is_known}, lines, as_json=as_json)
    return int(is_known is False)


_REACHED = {
    None: f"Processes obey within {REACH:.0f} s.",
    True: "Every process that can reach the cache obeys now.",
    False: "Another change has replaced this one. Run `flask m2m revocations`.",
}


def _run(call: Callable[[], Any]) -> Any:
    try:
        with quiet():
            return call()
    except ConfigurationError:
        raise
    except M2MCognitoError as error:
        raise click.ClickException(str(error)) from None


def _parse_time(text: str, now: float) -> datetime | float:
    """Return the time of ``--before``: seconds since the epoch, ISO 8601 with an offset, or ``now``."""
    if text == _NOW:
        return now
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
            param_hint="--before",
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


def _describe(row: dict[str, Any]) -> str:
    if row["every_token"]:
        return "every token is revoked"
    revoked = []
    if row["before"]:
        revoked.append(f"tokens issued before {row['before']}")
    if row["jti"]:
        revoked.append(f"tokens with the jti {listed(map(quoted, row['jti']))}")
    return f"revoked: {', and '.join(revoked)}" if revoked else "no token is revoked"
