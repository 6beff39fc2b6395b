"""``flask m2m explain``: show each check of a token in order, with what it found and what it requires.

The verdict is the validator's own. This module only puts it into words.
"""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import click
from flask import Flask

from ..app.app_m2m import AppM2M
from ..exceptions import KeysUnavailableError, TokenValidationError
from ..formats.scopes import has_scopes
from ..inbound.claims_policy import UNKNOWN_KEY, failed_check
from ..inbound.validated_access_token import ValidatedAccessToken
from ..web.routes import Route, routes_of
from .application import echo_json, parts_of, pools_of, quiet
from .explain_steps import Step, decode_token, list_steps
from .network import Network, try_get
from .routes import need_in_words
from .words import columns, listed

Rejection = TokenValidationError | KeysUnavailableError


def explain(app: Flask, text: str, *, as_json: bool, endpoint: str | None) -> int:
    """Print each check, and return the exit status.

    The status is 1 if the validator rejects the token, or if the guards of every method of the endpoint do.

    Args:
        text: the token, with or without the name and the scheme of a header before it.
        endpoint: check the token against the guards of this endpoint as well.
    """
    parts = parts_of(app)
    pools_of(parts)
    routes = _find_routes(app, endpoint)
    jwt = bare_token(text)
    with quiet(), app.app_context():
        verdict = _get_verdict(parts, jwt)
        offset = _get_clock_offset(parts)
    steps = list_steps(decode_token(jwt), parts.validator, time.time(), offset)
    if not isinstance(verdict, ValidatedAccessToken):
        _print(_mark_steps(steps, verdict), verdict, offset, as_json=as_json)
        return 1
    guards = [_build_route_step(route, verdict) for route in routes]
    _print([*(replace(step, status="ok") for step in steps), *guards], None, offset, as_json=as_json)
    return int(bool(guards) and all(step.status == "failed" for step in guards))


def bare_token(text: str) -> str:
    """Return the token in a pasted text.

    >>> bare_token("Authorization: Bearer abc\\n"), bare_token('"abc"')
    ('abc', 'abc')
    """
    words = text.strip().strip("'\"").split()
    # A token has no space in it: the words before the last one are the header's name and the scheme.
    return words[-1].strip("'\"") if words else ""


def _find_routes(app: Flask, endpoint: str | None) -> list[Route]:
    if endpoint is None:
        return []
    routes = [route for route in routes_of(app) if route.endpoint == endpoint]
    if not routes:
        raise click.ClickException(
            f"There is no endpoint {endpoint!r}. `flask m2m routes` lists the endpoints."
        )
    return routes


def _get_verdict(parts: AppM2M, jwt: str) -> ValidatedAccessToken | Rejection:
    try:
        return parts.validator.validate(jwt)
    except (TokenValidationError, KeysUnavailableError) as error:
        return error


def _get_clock_offset(parts: AppM2M) -> float | None:
    """Return the clock offset by the keys' download. If they came from the cache, send a request for it."""
    offset: float | None = parts.health()["clock_offset"]
    if offset is not None:
        return offset
    network = Network(parts.settings.timeout)
    try_get(network, parts.validator.jwks_url)
    return network.offset


def _mark_steps(steps: list[Step], error: Rejection) -> list[Step]:
    """Return ``steps`` with their status according to the validator's error."""
    check = UNKNOWN_KEY if isinstance(error, KeysUnavailableError) else failed_check(error)
    # A token that cannot be parsed is one step, whichever check it failed first.
    place = [step.check for step in steps].index(check.step.name) if len(steps) > 1 else 0
    before = [replace(step, status="ok") for step in steps[:place]]
    return [*before, replace(steps[place], status="failed"), *steps[place + 1 :]]


def _build_route_step(route: Route, token: ValidatedAccessToken) -> Step:
    is_met = all(
        need.scopes is not None
        and has_scopes(token.scopes, need.scopes, need.match)
        and (need.clients is None or token.client_id in need.clients)
        for need in route.needs
    )
    wanted = "; ".join(f"{need_in_words(need)} ({need.where})" for need in route.needs) or "nothing"
    saw = f"client {token.client_id} with {' '.join(sorted(token.scopes)) or 'no scope'}"
    return Step(str(route), saw, wanted, "ok" if is_met else "failed")


def _print(steps: list[Step], error: Rejection | None, offset: float | None, *, as_json: bool) -> None:
    failed = [step for step in steps if step.status == "failed"]
    if error is not None:
        verdict = "Not validated" if isinstance(error, KeysUnavailableError) else "Rejected"
        summary = f"{verdict} ({error.reason}): {error} Found: {failed[0].saw}."
    else:
        summary = f"Valid, but rejected by {listed(step.check for step in failed)}." if failed else "Valid."
    if as_json:
        content: dict[str, Any] = {
            "good": error is None,
            "reason": None if error is None else error.reason,
            "verdict": summary,
            "clock_offset": offset,
            "steps": [step.as_dict() for step in steps],
        }
        echo_json(content)
        return
    for line in columns(
        (step.status, step.check, f"found: {step.saw}; required: {step.wanted}") for step in steps
    ):
        click.echo(line)
    click.echo(summary)
