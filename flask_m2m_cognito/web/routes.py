"""What each route of an application requires, by its view, its blueprints and the application.

Used by unit tests, ``flask m2m routes``, metadata, OpenAPI, and the ``scope`` of a 401.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from types import FunctionType
from typing import Any

from flask import Flask, Request
from flask.views import MethodView

from ..formats.scopes import ScopeMatch
from .misplaced import Misplaced, misplaced_guards
from .protection import is_answered_by_flask, protections_over
from .requirement import Requirement, layers_of, requirements_of

_WITH_METHOD_DECORATORS = ("flask_restful", "flask_restx")
"""Packages whose classes apply their ``method_decorators``."""

_DISPATCHING = ("flask.views", *_WITH_METHOD_DECORATORS)
"""Packages whose ``dispatch_request`` is known to call the method for the request."""

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
"""Packages whose decorators call what they wrap, or reject the request. Others may answer instead."""


@dataclass(frozen=True)
class RouteNeed:
    """What one guard requires for the methods of a route.

    Attributes:
        where: where the guard is: ``"application"``, ``"blueprint …"`` or ``"view"``.
        scopes: the scopes that the token must have; ``None`` if the method is rejected with any token.
        match: ``"all"`` if the token needs all of them, ``"any"`` if one is enough.
        clients: the client ids that may call; ``None`` allows every client that the settings allow.
        is_optional: whether a request without a token passes this guard.
        is_skippable: whether something above the guard may answer without it: a cache or another unknown
            decorator, or a class's own ``dispatch_request`` or ``as_view``.
    """

    where: str
    scopes: frozenset[str] | None
    match: ScopeMatch
    clients: frozenset[str] | None
    is_optional: bool
    is_skippable: bool = False


@dataclass(frozen=True)
class Route:
    """The methods of one URL rule that have the same requirements.

    Attributes:
        rule: the URL rule, such as ``/items/<int:number>``.
        endpoint: the endpoint, such as ``shop.items``.
        methods: the HTTP methods, sorted, such as ``("GET",)``. HEAD is omitted if it requires what GET does.
        needs: what each guard requires. All of them apply; an open route has none.
        misplaced: what has no effect: a ``"guard"`` or a ``"public"`` above the route, or a guard in the
            ``"decorators"`` of a class whose framework ignores them.
    """

    rule: str
    endpoint: str
    methods: tuple[str, ...]
    needs: tuple[RouteNeed, ...]
    misplaced: Misplaced | None = None

    @property
    def is_open(self) -> bool:
        """Whether a request without a token may reach the view. Also true for an unknown route."""
        return all(need.is_optional or need.is_skippable for need in self.needs)

    @property
    def is_unknown(self) -> bool:
        """Whether a cache or a decorator of the application may answer without the guards."""
        return self.is_open and not all(need.is_optional for need in self.needs)

    def __str__(self) -> str:
        return f"{','.join(self.methods)} {self.rule}"


def routes_of(app: Flask) -> list[Route]:
    """Return the routes of each rule, sorted by rule, without methods that Flask answers itself."""
    methods: dict[tuple[str, str, tuple[RouteNeed, ...]], list[str]] = {}
    for each in routes_by_method(app):
        methods.setdefault((each.rule, each.endpoint, each.needs), []).extend(each.methods)
    misplaced = misplaced_guards(app)
    routes = [
        Route(rule, endpoint, _without_equal_head(of_rule), needs, misplaced.get(endpoint))
        for (rule, endpoint, needs), of_rule in methods.items()
    ]
    return sorted(routes, key=lambda route: (route.rule, route.endpoint, route.methods))


def routes_by_method(app: Flask, *, with_automatic: bool = False) -> Iterator[Route]:
    """Yield a route for each method of each rule, in the order of the URL map.

    Args:
        with_automatic: include OPTIONS where Flask answers it without the view.
    """
    for rule in app.url_map.iter_rules():
        for method in sorted(rule.methods or ()):
            if not is_answered_by_flask(rule, method):
                yield Route(rule.rule, rule.endpoint, (method,), _needs(app, rule.endpoint, method))
            elif with_automatic:
                yield Route(rule.rule, rule.endpoint, (method,), ())


def scopes_in(needs: Iterable[RouteNeed]) -> frozenset[str]:
    """Return every scope that one of ``needs`` names."""
    return frozenset(scope for need in needs for scope in need.scopes or ())


def scopes_of_routes(app: Flask) -> frozenset[str]:
    """Return every scope that a route of ``app`` requires."""
    return scopes_in(need for route in routes_by_method(app) for need in route.needs)


def named_scopes_of(app: Flask) -> Callable[[Request], frozenset[str]]:
    """Return a function that finds every scope that the guards of a request's route name.

    Routes do not change after the first request, so each is read once.
    """

    found: dict[tuple[int, str], frozenset[str]] = {}  # a rule is not hashable, and stays in its map

    def named_scopes(request: Request) -> frozenset[str]:
        rule, method = request.url_rule, request.method
        # An application may let callers override the method with any text, which must not fill the memory.
        if rule is None or rule.map is not app.url_map or method not in (rule.methods or ()):
            return frozenset()
        key = id(rule), method
        if key not in found:
            found[key] = scopes_in(_needs(app, rule.endpoint, method))
        return found[key]

    return named_scopes


def _without_equal_head(methods: list[str]) -> tuple[str, ...]:
    """Return the methods without HEAD if they have GET. HEAD is GET without the body."""
    return tuple(method for method in methods if method != "HEAD" or "GET" not in methods)


def _needs(app: Flask, endpoint: str, method: str) -> tuple[RouteNeed, ...]:
    def need(where: str, requirement: Requirement, is_skippable: bool) -> RouteNeed:
        return RouteNeed(
            where,
            requirement.scopes_for(method),
            requirement.match,
            requirement.clients,
            requirement.is_optional,
            is_skippable,
        )

    requirements, certain = _requirements_at(app.view_functions.get(endpoint), method)
    return (
        *(
            need(where, each.requirement, False)
            for where, each in protections_over(app, endpoint)
            if not each.exempts(endpoint, app)
        ),
        *(need("view", each, number >= certain) for number, each in enumerate(requirements)),
    )


def _requirements_at(view: Any, method: str) -> tuple[list[Requirement], int]:
    """Return the requirements of a view, and how many of them certainly apply.

    A requirement certainly applies if nothing above it may answer first. Below the view function of a class
    come its ``dispatch_request``, the decorators of its methods, and the method.
    """
    view_class = getattr(view, "view_class", None)
    dispatch = getattr(view_class, "dispatch_request", None)
    parts = [view, dispatch, *_method_decorators(view_class, method), _handler(view_class, method)]
    requirements: list[Requirement] = []
    certain: int | None = None
    for part in parts:
        requirements += requirements_of(part)
        if certain is None:
            below = _below_what_may_answer(part)
            if below is not None:
                certain = len(requirements) - len(requirements_of(below))
            elif (part is dispatch and not _dispatches(dispatch)) or (
                part is view and view_class is not None and not _is_of(_DISPATCHING, inspect.unwrap(view))
            ):
                certain = len(requirements)
    return requirements, len(requirements) if certain is None else certain


def _below_what_may_answer(view: Any) -> Any:
    """Return what is below the first decorator that may answer without calling the view, or ``None``."""
    for layer in layers_of(view):
        below = getattr(layer, "__wrapped__", None)
        if below is not None and not _is_of(_CALLING, layer):
            return below
    return None


def _is_of(packages: tuple[str, ...], function: Any) -> bool:
    """Return whether one of these packages defines a function. ``functools.wraps`` changes ``__module__``."""
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
    """Return the ``method_decorators`` of a Flask-RESTful or Flask-RESTX class for one method."""
    bases = getattr(view_class, "__mro__", ())
    if not any(base.__module__.startswith(_WITH_METHOD_DECORATORS) for base in bases):
        return ()
    decorators = getattr(view_class, "method_decorators", ())
    if isinstance(decorators, Mapping):
        decorators = decorators.get(method.lower(), ())
    return tuple(decorators)
