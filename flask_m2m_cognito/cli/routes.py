"""``flask m2m routes``: every rule, its methods, and what each requires of a token, in words."""

from __future__ import annotations

from dataclasses import replace
from fnmatch import fnmatchcase
from typing import Any

import click
from flask import Flask

from ..web.guard import EXTENSION
from ..web.routes import Route, RouteNeed, routes_of
from .application import echo_json
from .words import columns, listed

ANY_TOKEN = "any valid token"

_MISPLACED = {
    "guard": "its guard stands above the route",
    "public": "its public stands above the route",
    "decorators": "the decorators of its class are not applied",
}


def show_routes(app: Flask, *, as_json: bool, fail_open: bool, excepted: tuple[str, ...]) -> int:
    """Print them. The exit status: 1 with ``fail_open`` if one is open whose endpoint is not excepted."""
    routes = routes_of(app)
    left_open = [route for route in routes if route.is_open and not _is_named(route.endpoint, excepted)]
    if as_json:
        echo_json({"routes": [_row(route) for route in routes], "of_every_token": _of_every_token(app)})
    else:
        _print(routes, _of_every_token(app))
    if not (fail_open and left_open):
        return 0
    click.echo("Open, and not excepted: " + listed({route.endpoint for route in left_open}), err=True)
    return 1


def _row(route: Route) -> dict[str, Any]:
    return {
        "rule": route.rule,
        "endpoint": route.endpoint,
        "methods": list(route.methods),
        "open": route.is_open,
        "unknown": route.is_unknown,
        "needs": [
            {
                "where": need.where,
                "refused": need.scopes is None,
                "scopes": sorted(need.scopes or ()),
                "match": need.match,
                "clients": None if need.clients is None else sorted(need.clients),
                "optional": need.is_optional,
                "skippable": need.is_skippable,
            }
            for need in route.needs
        ],
        "misplaced": route.misplaced,
    }


def _is_named(endpoint: str, names: tuple[str, ...]) -> bool:
    return any(fnmatchcase(endpoint, name) for name in names)


def _of_every_token(app: Flask) -> str | None:
    """What the settings want of every token, whatever the view."""
    parts = app.extensions.get(EXTENSION)
    if parts is None or not parts.settings.required_scopes:
        return None
    return listed(parts.settings.required_scopes, "and" if parts.settings.scope_match == "all" else "or")


def _print(routes: list[Route], of_every_token: str | None) -> None:
    for line in columns((",".join(each.methods), each.rule, each.endpoint, _wants(each)) for each in routes):
        click.echo(line)
    if of_every_token:
        click.echo(f"Every token must have {of_every_token}, too (COGNITO_M2M_REQUIRED_SCOPES).")


def _wants(route: Route) -> str:
    if route.misplaced:
        return f"{_wants(replace(route, misplaced=None))}; {_MISPLACED[route.misplaced]}"
    if not route.needs:
        return "OPEN"
    wants = "; ".join(f"{need_in_words(need)} ({need.where})" for need in route.needs)
    if route.is_unknown:
        return f"UNKNOWN: {wants}"
    return f"OPEN: {wants}" if route.is_open else wants


def need_in_words(need: RouteNeed) -> str:
    """What a guard requires, as a person reads it."""
    if need.scopes is None:
        return "refused (403)"
    parts = [listed(need.scopes, "and" if need.match == "all" else "or")] if need.scopes else [ANY_TOKEN]
    if need.clients is not None:
        parts.append(f"from {listed(need.clients, 'or')}")
    if need.is_optional:
        parts.append("or none")
    wants = " ".join(parts)
    return f"{wants}, but what stands above it may answer first" if need.is_skippable else wants
