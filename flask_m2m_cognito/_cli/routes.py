"""``flask m2m routes``: every rule, its methods, and what each demands of a token.

What they demand is in ``web.route_demands``; here it is put into words.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from typing import Any

import click
from flask import Blueprint, Flask

from ..scopes import ScopeMatch
from ..web.demand import Demand
from ..web.guard import EXTENSION
from ..web.misplaced import misplaced_guards
from ..web.protection import protections_of
from ..web.route_demands import RouteDemand, route_demands
from .application import echo_json
from .words import columns, listed

ANY_TOKEN = "any valid token"


@dataclass(frozen=True)
class Need:
    """What one guard wants for one method.

    Attributes:
        where: whose guard it is: ``application``, ``blueprint …`` or ``view``.
        scopes: ``None`` if it refuses the method whatever the token.
        is_skippable: it stands below something that may answer without it, such as a cache.
    """

    where: str
    scopes: frozenset[str] | None
    match: ScopeMatch
    clients: frozenset[str] | None
    is_optional: bool
    is_skippable: bool = False

    @property
    def is_open(self) -> bool:
        """Whether a request without a token gets past it."""
        return self.is_optional or self.is_skippable

    def __str__(self) -> str:
        if self.scopes is None:
            return "refused (403)"
        parts = [listed(self.scopes, "and" if self.match == "all" else "or")] if self.scopes else [ANY_TOKEN]
        if self.clients is not None:
            parts.append(f"from {listed(self.clients, 'or')}")
        if self.is_optional:
            parts.append("or none")
        wants = " ".join(parts)
        return f"{wants}, but what stands above it may answer first" if self.is_skippable else wants

    def as_dict(self) -> dict[str, Any]:
        return {
            "where": self.where,
            "refused": self.scopes is None,
            "scopes": sorted(self.scopes or ()),
            "match": self.match,
            "clients": None if self.clients is None else sorted(self.clients),
            "optional": self.is_optional,
            "skippable": self.is_skippable,
        }


@dataclass(frozen=True)
class Route:
    """Methods of one rule that want the same. ``misplaced`` is what stands above the route in vain."""

    rule: str
    endpoint: str
    methods: tuple[str, ...]
    needs: tuple[Need, ...]
    misplaced: str | None = None

    @property
    def is_open(self) -> bool:
        """Whether a request without a token gets through."""
        return all(need.is_open for need in self.needs)

    def __str__(self) -> str:
        return f"{','.join(self.methods)} {self.rule}"

    def as_dict(self) -> dict[str, Any]:
        return {
            "rule": self.rule,
            "endpoint": self.endpoint,
            "methods": list(self.methods),
            "open": self.is_open,
            "needs": [need.as_dict() for need in self.needs],
            "misplaced": self.misplaced,
        }


def show_routes(app: Flask, *, as_json: bool, fail_open: bool, excepted: tuple[str, ...]) -> int:
    """Print them. The exit status: 1 with ``fail_open`` if one is open whose endpoint is not excepted."""
    routes = routes_of(app)
    left_open = [route for route in routes if route.is_open and not _is_named(route.endpoint, excepted)]
    if as_json:
        echo_json({"routes": [route.as_dict() for route in routes], "of_every_token": _of_every_token(app)})
    else:
        _print(routes, _of_every_token(app))
    if not (fail_open and left_open):
        return 0
    click.echo("Open, and not excepted: " + listed({route.endpoint for route in left_open}), err=True)
    return 1


def routes_of(app: Flask) -> list[Route]:
    """Every rule by its methods, in the order of the rules' texts; without what Flask answers by itself."""
    by_needs: dict[tuple[str, str, tuple[Need, ...]], list[str]] = {}
    for each in route_demands(app):
        if not each.is_automatic:
            certain = len(each.demands) - len(each.skippable)
            needs = tuple(
                _need(app, each, demand, is_skippable=number >= certain)
                for number, demand in enumerate(each.demands)
            )
            by_needs.setdefault((each.rule, each.endpoint, needs), []).append(each.method)
    misplaced = misplaced_guards(app)
    routes = [
        Route(rule, endpoint, tuple(_shown(methods)), needs, misplaced.get(endpoint))
        for (rule, endpoint, needs), methods in by_needs.items()
    ]
    return sorted(routes, key=lambda route: (route.rule, route.endpoint, route.methods))


def _shown(methods: list[str]) -> list[str]:
    """HEAD is GET without the body: it is worth a word only where it wants something else."""
    return [method for method in methods if method != "HEAD" or "GET" not in methods]


def _need(app: Flask, route: RouteDemand, demand: Demand, *, is_skippable: bool) -> Need:
    scopes = demand.scopes_for(route.method)
    return Need(
        _where(app, route.endpoint, demand),
        scopes,
        demand.match,
        demand.clients,
        demand.is_optional,
        is_skippable=is_skippable,
    )


def _where(app: Flask, endpoint: str, demand: Demand) -> str:
    """Whose guard it is: a protection's demand is the very object that every route under it has."""
    if any(demand is each.demand for each in protections_of(app)):
        return "application"
    for name in _blueprints_of(endpoint):
        blueprint = app.blueprints.get(name)
        if isinstance(blueprint, Blueprint) and any(
            demand is each.demand for each in protections_of(blueprint)
        ):
            return f"blueprint {name}"
    return "view"


def _blueprints_of(endpoint: str) -> list[str]:
    names = endpoint.split(".")[:-1]
    return [".".join(names[: length + 1]) for length in range(len(names))]


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
        return f"{_wants(replace(route, misplaced=None))}; its {route.misplaced} stands above the route"
    if not route.needs:
        return "OPEN"
    wants = "; ".join(f"{need} ({need.where})" for need in route.needs)
    return f"OPEN: {wants}" if route.is_open else wants
