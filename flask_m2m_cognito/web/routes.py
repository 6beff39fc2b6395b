"""What each route of an application requires, as data: for unit tests, and for ``flask m2m routes``."""

from __future__ import annotations

from dataclasses import dataclass

from flask import Blueprint, Flask

from ..formats.scopes import ScopeMatch
from .misplaced import Misplaced, misplaced_guards
from .protection import protections_of
from .requirement import Demand
from .route_requirements import RouteDemand, route_demands


@dataclass(frozen=True)
class RouteNeed:
    """What one guard requires for the methods of a route.

    Attributes:
        where: whose guard it is: ``"application"``, ``"blueprint …"`` or ``"view"``.
        scopes: what the token must have; ``None`` if the method is rejected whatever the token.
        match: all of them, or any.
        clients: the client ids that may call; ``None`` is every one that the application lets in.
        is_optional: a request without a token gets past it.
        is_skippable: it stands below something that may answer without it, such as a cache or a decorator
            of the application's own.
    """

    where: str
    scopes: frozenset[str] | None
    match: ScopeMatch
    clients: frozenset[str] | None
    is_optional: bool
    is_skippable: bool = False


@dataclass(frozen=True)
class Route:
    """Methods of one URL rule that require the same.

    Attributes:
        rule: such as ``/items/<int:number>``.
        endpoint: such as ``shop.items``.
        methods: such as ``("GET",)``, sorted. HEAD is left out where it requires what GET does.
        needs: all of them hold; none is an open route.
        misplaced: what has no effect: a ``"guard"`` or a ``"public"`` above the route, or the
            ``"decorators"`` of a class that its framework does not apply.
    """

    rule: str
    endpoint: str
    methods: tuple[str, ...]
    needs: tuple[RouteNeed, ...]
    misplaced: Misplaced | None = None

    @property
    def is_open(self) -> bool:
        """Whether a request without a token may get through; also true of an unknown route."""
        return all(need.is_optional or need.is_skippable for need in self.needs)

    @property
    def is_unknown(self) -> bool:
        """Whether a cache, or a decorator of the application's own, may answer without the guards."""
        return self.is_open and not all(need.is_optional for need in self.needs)

    def __str__(self) -> str:
        return f"{','.join(self.methods)} {self.rule}"


def routes_of(app: Flask) -> list[Route]:
    """Every rule by its methods, in the order of the rules' texts; without what Flask answers by itself."""
    by_needs: dict[tuple[str, str, tuple[RouteNeed, ...]], list[str]] = {}
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
    """HEAD is GET without the body: it is worth a word only where it requires something else."""
    return [method for method in methods if method != "HEAD" or "GET" not in methods]


def _need(app: Flask, route: RouteDemand, demand: Demand, *, is_skippable: bool) -> RouteNeed:
    scopes = demand.scopes_for(route.method)
    return RouteNeed(
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
