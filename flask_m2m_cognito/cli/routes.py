"""``flask m2m routes``: each route, its methods, and the token that it requires."""

from __future__ import annotations

from dataclasses import replace
from fnmatch import fnmatchcase
from typing import Any

import click
from flask import Flask

from ..web.routes import Route, RouteNeed, routes_of
from .application import echo, parts_or_none
from .words import columns, listed

_MISPLACED = {
    "guard": "its guard is above the route decorator",
    "public": "its public is above the route decorator",
    "decorators": "the decorators of its class are not applied",
}


def show_routes(app: Flask, *, as_json: bool, fail_open: bool, excepted: tuple[str, ...]) -> int:
    """Print the routes.

    Returns:
        The exit status: 1 with ``fail_open`` if a route is open and its endpoint is not in ``excepted``.
    """
    routes, of_every_token = routes_of(app), _of_every_token(app)
    lines = columns((",".join(each.methods), each.rule, each.endpoint, _requires(each)) for each in routes)
    if of_every_token:
        lines.append(f"Every token must also have {of_every_token} (COGNITO_M2M_REQUIRED_SCOPES).")
    echo({"routes": list(map(_row, routes)), "of_every_token": of_every_token}, lines, as_json=as_json)
    open_endpoints = {each.endpoint for each in routes if each.is_open}
    left_open = {each for each in open_endpoints if not any(fnmatchcase(each, name) for name in excepted)}
    if not (fail_open and left_open):
        return 0
    click.echo("Open, but not named with --except: " + listed(left_open), err=True)
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


def _of_every_token(app: Flask) -> str | None:
    """Return the scopes that the settings require of every token, for every view."""
    parts = parts_or_none(app)
    if parts is None or not parts.settings.required_scopes:
        return None
    return listed(parts.settings.required_scopes, "and" if parts.settings.scope_match == "all" else "or")


def _requires(route: Route) -> str:
    if route.misplaced:
        return f"{_requires(replace(route, misplaced=None))}; {_MISPLACED[route.misplaced]}"
    if not route.needs:
        return "OPEN"
    needs = "; ".join(f"{need_in_words(need)} ({need.where})" for need in route.needs)
    if route.is_unknown:
        return f"UNKNOWN: {needs}"
    return f"OPEN: {needs}" if route.is_open else needs


def need_in_words(need: RouteNeed) -> str:
    """Return what a guard requires, in words."""
    if need.scopes is None:
        return "rejected (403)"
    joined = listed(need.scopes, "and" if need.match == "all" else "or")
    parts = [joined if need.scopes else "any valid token"]
    if need.clients is not None:
        parts.append(f"from {listed(need.clients, 'or')}")
    if need.is_optional:
        parts.append("or no token")
    wants = " ".join(parts)
    return f"{wants}, but code above the guard may answer first" if need.is_skippable else wants
