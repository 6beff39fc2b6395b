"""What each route of an application demands, read off its views, blueprints and the application itself."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from types import FunctionType
from typing import Any

from flask import Blueprint, Flask, Request
from flask.views import MethodView
from werkzeug.routing import Rule

from .protection import Protection, protections_of
from .requirement import Demand, demands_of

_WITH_METHOD_DECORATORS = ("flask_restful", "flask_restx")
"""Packages whose classes run what stands in their ``method_decorators``."""

_DISPATCHING = ("flask.views", *_WITH_METHOD_DECORATORS)
"""Where a ``dispatch_request`` is known to call the method that answers."""


_CALLING = (
    "flask_m2m_cognito.",
    "apiflask.",
    "flask_admin.",
    "flask_cors.",
    "flask_limiter.",
    "flask_openapi3.",
    "flask_smorest.",
    "webargs.",
    *_DISPATCHING,
)
"""Whose decorators call what they wrap, or reject the request. Of any other it cannot be told."""


@dataclass(frozen=True)
class RouteDemand:
    """One method of one URL rule.

    Attributes:
        rule: such as ``/items/<int:item>``.
        endpoint: such as ``shop.items``.
        method: such as ``GET``.
        demands: all of them hold; none is an open route.
        is_automatic: an OPTIONS answer that Flask gives without the view.
        skippable: the last of the demands, below something that may answer without them: a cache or another
            decorator of which that cannot be told, a class's own ``dispatch_request`` or ``as_view``.
    """

    rule: str
    endpoint: str
    method: str
    demands: tuple[Demand, ...]
    is_automatic: bool = False
    skippable: tuple[Demand, ...] = ()

    @property
    def is_open(self) -> bool:
        """Whether a request without a token reaches the view."""
        certain = self.demands[: len(self.demands) - len(self.skippable)]
        return all(demand.is_optional for demand in certain)

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


def named_scopes_of(app: Flask) -> Callable[[Request], frozenset[str]]:
    """Return a function that finds every scope that the guards of a request's route name.

    Routes do not change once requests are served, so each is looked at once.
    """

    found: dict[tuple[int, str], frozenset[str]] = {}  # a rule can't be hashed, and stays in its map

    def named_scopes(request: Request) -> frozenset[str]:
        rule = request.url_rule
        # An application may override the method with any text, which must not fill the memory.
        if rule is None or rule.map is not app.url_map or request.method not in (rule.methods or ()):
            return frozenset()
        key = id(rule), request.method
        if key not in found:
            routes = (each for each in _routes_of(app, rule) if each.method == request.method)
            found[key] = frozenset().union(*(each.scopes for each in routes))
        return found[key]

    return named_scopes


def _routes_of(app: Flask, rule: Rule) -> Iterator[RouteDemand]:
    view = app.view_functions.get(rule.endpoint)
    protections = list(_protections(app, rule.endpoint))
    for method in sorted(rule.methods or ()):
        is_automatic = method == "OPTIONS" and bool(getattr(rule, "provide_automatic_options", False))
        if is_automatic:
            yield RouteDemand(rule.rule, rule.endpoint, method, (), is_automatic)
            continue
        outer = (each.demand for each in protections if not each.exempts(rule.endpoint, app))
        certain, skippable = _demands_of(view, method)
        demands = (*outer, *certain, *skippable)
        yield RouteDemand(rule.rule, rule.endpoint, method, demands, skippable=skippable)


def _protections(app: Flask, endpoint: str) -> Iterator[Protection]:
    """Those of the application, then those of the endpoint's blueprints, the outermost first."""
    yield from protections_of(app)
    parts = endpoint.split(".")[:-1]
    for length in range(1, len(parts) + 1):
        blueprint = app.blueprints.get(".".join(parts[:length]))
        if isinstance(blueprint, Blueprint):
            yield from protections_of(blueprint)


def _demands_of(view: Any, method: str) -> tuple[tuple[Demand, ...], tuple[Demand, ...]]:
    """What a view demands for certain, and what stands below something that may answer first.

    Below a view function is what its class calls: ``dispatch_request``, decorators of methods, the method.
    """
    view_class = getattr(view, "view_class", None)
    dispatch = getattr(view_class, "dispatch_request", None)
    parts = [view, dispatch, *_method_decorators(view_class, method), _handler(view_class, method)]
    demands: list[Demand] = []
    certain: int | None = None
    for part in parts:
        demands += demands_of(part)
        if certain is None:
            below = _below_what_may_answer(part)
            if below is not None:
                certain = len(demands) - len(demands_of(below))
            elif (part is dispatch and not _dispatches(dispatch)) or (
                part is view and view_class is not None and not _is_of(_DISPATCHING, inspect.unwrap(view))
            ):
                certain = len(demands)
    return tuple(demands[:certain]), () if certain is None else tuple(demands[certain:])


def _below_what_may_answer(view: Any) -> Any:
    """What stands below the first of a view's decorators that may answer without calling it, or ``None``."""
    while view is not None:
        below = getattr(view, "__wrapped__", None)
        if below is not None and not _is_of(_CALLING, view):
            return below
        view = below
    return None


def _is_of(packages: tuple[str, ...], function: Any) -> bool:
    """Whether one of these packages defines a function; ``functools.wraps`` changes its ``__module__``."""
    function = getattr(function, "__func__", function)
    return isinstance(function, FunctionType) and function.__globals__["__name__"].startswith(packages)


def _dispatches(dispatch: Any) -> bool:
    return dispatch is None or dispatch.__module__.startswith(_DISPATCHING)


def _handler(view_class: Any, method: str) -> Callable[..., Any] | None:
    if not (isinstance(view_class, type) and issubclass(view_class, MethodView)):
        return None
    handler = getattr(view_class, method.lower(), None)
    return getattr(view_class, "get", None) if handler is None and method == "HEAD" else handler


def _method_decorators(view_class: Any, method: str) -> tuple[Any, ...]:
    """Those of Flask-RESTful and Flask-RESTX: a list, or a list for each method. Flask itself has none."""
    bases = getattr(view_class, "__mro__", ())
    if not any(base.__module__.startswith(_WITH_METHOD_DECORATORS) for base in bases):
        return ()
    decorators = getattr(view_class, "method_decorators", ())
    if isinstance(decorators, Mapping):
        decorators = decorators.get(method.lower(), ())
    return tuple(decorators)
