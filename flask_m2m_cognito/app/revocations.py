"""Check the arguments of ``m2m.revoke`` and ``m2m.unrevoke``, and of the commands of these names."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from datetime import datetime
from typing import Any

from ..exceptions import ConfigurationError
from ..inbound.revocation_list import EVERY_TOKEN, Revocation
from ..inbound.revocation_source import RevocationSource
from ..remote.sealed_store import MOST_AHEAD

_LONGEST_ID = 256


def require(source: RevocationSource | None) -> RevocationSource:
    """Return ``source``.

    Raises:
        ConfigurationError: ``COGNITO_M2M_REVOCATIONS`` is off.
    """
    if source is None:
        raise ConfigurationError(
            "COGNITO_M2M_REVOCATIONS is off. Set it to True, with a shared cache, in every process of the "
            "service."
        )
    return source


def revoke(
    source: RevocationSource | None,
    client_id: str,
    before: datetime | float | None,
    jti: str | Collection[str] | None,
) -> Revocation:
    """Revoke tokens of a client: see :meth:`CognitoM2M.revoke`."""
    source = require(source)
    is_one = isinstance(jti, str) or not isinstance(jti, Iterable)
    token_ids: tuple[Any, ...] = () if jti is None else (jti,) if is_one else tuple(jti)
    if jti is not None and not token_ids:
        raise ConfigurationError("jti is empty. Leave it out to revoke every token of the client.")
    for name, each in (("client_id", client_id), *(("jti", each) for each in token_ids)):
        _check_id(name, each)
    if before is not None:
        return source.revoke(client_id, _seconds("before", before, source.clock.wall()), token_ids)
    return source.revoke(client_id, 0.0 if token_ids else EVERY_TOKEN, token_ids)


def unrevoke(
    source: RevocationSource | None, client_id: str, keep_before: datetime | float | None
) -> Revocation:
    """Accept tokens of a client again: see :meth:`CognitoM2M.unrevoke`."""
    source = require(source)
    if keep_before is None:
        return source.unrevoke(client_id)
    return source.unrevoke(client_id, _seconds("keep_before", keep_before, source.clock.wall()))


def _check_id(name: str, value: object) -> None:
    is_text = isinstance(value, str) and value.isprintable() and value == value.strip()
    if not is_text or not 0 < len(str(value)) <= _LONGEST_ID:
        raise ConfigurationError(
            f"{name} must be 1 to {_LONGEST_ID} printable characters, without spaces around them, got "
            f"{value!r:.60}."
        )


def _seconds(name: str, moment: datetime | float, now: float) -> float:
    if isinstance(moment, datetime):
        if moment.tzinfo is None:
            raise ConfigurationError(f"{name} must have a UTC offset, got {moment.isoformat()}.")
        seconds, shown = moment.timestamp(), moment.isoformat()
    elif isinstance(moment, (int, float)) and not isinstance(moment, bool):
        seconds, shown = moment, f"{moment!r:.30}"
    else:
        raise ConfigurationError(f"{name} must be a datetime or seconds since the epoch, got {moment!r:.60}.")
    if not 0 < seconds <= now + MOST_AHEAD:
        advice = " Leave it out to revoke also the tokens that are issued later." if name == "before" else ""
        raise ConfigurationError(
            f"{name} must be a time in the past, got {shown}. A number is in seconds since the epoch.{advice}"
        )
    return float(seconds)
