"""``flask m2m explain``: each check of a token in order, with what it saw and what it wanted.

The verdict is the validator's own; here it is only put into words.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
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
from .explain_steps import Step, list_steps, read_token
from .network import Network, got
from .routes import need_in_words
from .words import columns, listed


@dataclass(frozen=True)
class Verdict:
    """What the validator made of a token: the good token, or why it is none."""

    token: ValidatedAccessToken | None
    error: TokenValidationError | KeysUnavailableError | None


def explain(app: Flask, text: str, *, as_json: bool, endpoint: str | None) -> int:
    """Print each check. The exit status: 1 if the token is refused, or by every method of the endpoint.

    Args:
        text: the token, with or without what stands before it in a header.
        endpoint: hold it against the guards of this endpoint as well.
    """
    parts = parts_of(app)
    pools_of(parts)
    routes = _find_routes(app, endpoint)
    jwt = bare_token(text)
    with quiet(), app.app_context():
        verdict = _get_verdict(parts, jwt)
        offset = _get_clock_offset(parts)
    steps = _apply_verdict(list_steps(read_token(jwt), parts.validator, time.time(), offset), verdict.error)
    guards = [] if verdict.token is None else [_route_step(route, verdict.token) for route in routes]
    _print([*steps, *guards], verdict, offset, as_json=as_json)
    is_taken = not guards or any(step.status == "ok" for step in guards)
    return int(verdict.error is not None or not is_taken)


def bare_token(text: str) -> str:
    """The token in what people paste.

    >>> bare_token("Authorization: Bearer abc\\n"), bare_token('"abc"')
    ('abc', 'abc')
    """
    words = text.strip().strip("'\"").split()
    # A token has no space in it: what stands before the last word names the header and the scheme.
    return words[-1].strip("'\"") if words else ""


def _find_routes(app: Flask, endpoint: str | None) -> list[Route]:
    if endpoint is None:
        return []
    routes = [route for route in routes_of(app) if route.endpoint == endpoint]
    if not routes:
        raise click.ClickException(f"There is no endpoint {endpoint!r}: `flask m2m routes` lists them.")
    return routes


def _get_verdict(parts: AppM2M, jwt: str) -> Verdict:
    try:
        return Verdict(parts.validator.validate(jwt), None)
    except (TokenValidationError, KeysUnavailableError) as error:
        return Verdict(None, error)


def _get_clock_offset(parts: AppM2M) -> float | None:
    """By the answer that brought the keys; if they came from the cache, one is asked for."""
    offset: float | None = parts.health()["clock_offset"]
    if offset is not None:
        return offset
    network = Network(parts.settings.timeout)
    got(network, parts.validator.jwks_url)
    return network.offset


def _apply_verdict(
    steps: list[Step], error: TokenValidationError | KeysUnavailableError | None
) -> list[Step]:
    """``steps`` with the status of each by the verdict."""
    if error is None:
        return [replace(step, status="ok") for step in steps]
    check = UNKNOWN_KEY if isinstance(error, KeysUnavailableError) else failed_check(error)
    # A token that can't be read is one step, whichever check it failed first.
    place = [step.check for step in steps].index(check.step.name) if len(steps) > 1 else 0
    before = [replace(step, status="ok") for step in steps[:place]]
    return [*before, replace(steps[place], status="failed"), *steps[place + 1 :]]


def _route_step(route: Route, token: ValidatedAccessToken) -> Step:
    is_met = all(
        need.scopes is not None
        and has_scopes(token.scopes, need.scopes, need.match)
        and (need.clients is None or token.client_id in need.clients)
        for need in route.needs
    )
    wanted = "; ".join(f"{need_in_words(need)} ({need.where})" for need in route.needs) or "nothing"
    saw = f"client {token.client_id} with {' '.join(sorted(token.scopes)) or 'no scope'}"
    return Step(str(route), saw, wanted, "ok" if is_met else "failed")


def _print(steps: list[Step], verdict: Verdict, offset: float | None, *, as_json: bool) -> None:
    if as_json:
        content: dict[str, Any] = {
            "good": verdict.error is None,
            "reason": None if verdict.error is None else verdict.error.reason,
            "verdict": _summary(steps, verdict),
            "clock_offset": offset,
            "steps": [step.as_dict() for step in steps],
        }
        echo_json(content)
        return
    for line in columns((step.status, step.check, f"saw {step.saw}; wanted {step.wanted}") for step in steps):
        click.echo(line)
    click.echo(_summary(steps, verdict))


def _summary(steps: list[Step], verdict: Verdict) -> str:
    failed = [step for step in steps if step.status == "failed"]
    if verdict.error is not None:
        return f"Refused ({verdict.error.reason}): {verdict.error} Saw: {failed[0].saw}."
    return f"Good, but not for {listed(step.check for step in failed)}." if failed else "Good."
