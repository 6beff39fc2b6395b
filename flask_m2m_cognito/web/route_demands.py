"""What each route of an application demands, read off its views, blueprints and the application itself."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from flask import Blueprint, Flask
from flask.views import MethodView
from werkzeug.routing import Rule

from .demand import Demand, demands_of
from .protection import Protection, protections_of

_WITH_METHOD_DECORATORS = ("flask_restful", "flask_restx")
"""Packages whose classes run what stands in their ``method_decorators``."""


@dataclass(frozen=True)
class RouteDemand:
    """One method of one URL rule.

    Attributes:
        rule: such as ``/items/<int:item>``.
        endpoint: such as ``shop.items``.
        method: such as ``GET``.
        demands: all of them hold; none is an open route.
        is_automatic: an OPTIONS answer that Flask gives without the view.
        behind_cache: those of the demands that stand below Flask-Caching's ``cached`` or ``memoize``, which
            gives what it has kept to everybody.
    """

    rule: str
    endpoint: str
    method: str
    demands: tuple[Demand, ...]
    is_automatic: bool = False
    behind_cache: tuple[Demand, ...] = ()

    @property
    def is_open(self) -> bool:
        """Whether a request without a token reaches the view."""
        return all(demand.is_optional for demand in self.demands)

    @property
    def scopes(self) -> frozenset[str]:
        """Every scope that is asked for here."""
        return frozenset(scope for demand in self.demands for scope in demand.scopes_for(self.method) or ())


def route_demands(app: Flask) -> list[RouteDemand]:
    """Every method of every rule of ``app``, in the order of its URL map."""
    return [route for rule in app.url_map.iter_rules() for route in _routes_of(app, rule)]


def demanded_scopes(app: Flask) -> frozenset[str]:
    """Every scope that any view of ``app`` asks for, whatever the method."""
    scopes: set[str] = set()
    for route in route_demands(app):
        for demand in route.demands:
            scopes |= demand.scopes
            for each in (demand.by_method or {}).values():
                scopes |= each
    return frozenset(scopes)


def _routes_of(app: Flask, rule: Rule) -> Iterator[RouteDemand]:
    view = app.view_functions.get(rule.endpoint)
    protections = list(_protections(app, rule.endpoint))
    for method in sorted(rule.methods or ()):
        is_automatic = method == "OPTIONS" and bool(getattr(rule, "provide_automatic_options", False))
        if is_automatic:
            yield RouteDemand(rule.rule, rule.endpoint, method, (), is_automatic)
            continue
        outer = (each.demand for each in protections if not each.exempts(rule.endpoint, app))
        parts = _parts_of(view, method)
        yield RouteDemand(
            rule.rule,
            rule.endpoint,
            method,
            (*outer, *_demands_of(parts)),
            behind_cache=tuple(_demands_behind_a_cache(parts)),
        )


def _protections(app: Flask, endpoint: str) -> Iterator[Protection]:
    """Those of the application, then those of the endpoint's blueprints, the outermost first."""
    yield from protections_of(app)
    parts = endpoint.split(".")[:-1]
    for length in range(1, len(parts) + 1):
        blueprint = app.blueprints.get(".".join(parts[:length]))
        if isinstance(blueprint, Blueprint):
            yield from protections_of(blueprint)


def _parts_of(view: Callable[..., Any] | None, method: str) -> list[Callable[..., Any]]:
    """A view function, then what its class puts before the method that answers, and that."""
    parts = [view]
    view_class = getattr(view, "view_class", None)
    if isinstance(view_class, type):
        parts += [*_method_decorators(view_class, method), getattr(view_class, "dispatch_request", None)]
        if issubclass(view_class, MethodView):
            parts.append(_handler(view_class, method))
    return [part for part in parts if part is not None]


def _demands_of(parts: Iterable[Callable[..., Any]]) -> Iterator[Demand]:
    return (demand for part in parts for demand in demands_of(part))


def _demands_behind_a_cache(parts: list[Callable[..., Any]]) -> Iterator[Demand]:
    """Those of what Flask-Caching's decorators call, and of all that comes after."""
    for position, part in enumerate(parts):
        cached = getattr(part, "uncached", None)
        if cached is not None:
            yield from _demands_of([cached, *parts[position + 1 :]])
            return


def _handler(view_class: Any, method: str) -> Callable[..., Any] | None:
    handler = getattr(view_class, method.lower(), None)
    return getattr(view_class, "get", None) if handler is None and method == "HEAD" else handler


def _method_decorators(view_class: Any, method: str) -> tuple[Any, ...]:
    """Those of Flask-RESTful and Flask-RESTX: a list, or a list for each method. Flask itself has none."""
    if not any(base.__module__.startswith(_WITH_METHOD_DECORATORS) for base in view_class.__mro__):
        return ()
    decorators = getattr(view_class, "method_decorators", ())
    if isinstance(decorators, Mapping):
        decorators = decorators.get(method.lower(), ())
    return tuple(decorators)
