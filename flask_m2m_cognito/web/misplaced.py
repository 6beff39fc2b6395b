"""Finds guards that never run, because they stand above their route: the route has the function below them.

::

    @m2m.require_scopes("orders/write")
    @app.post("/orders")                 # registers the function without the guard
    def order(): ...
"""

from __future__ import annotations

import logging
import weakref
from collections.abc import Iterator
from typing import Any, Literal

from flask import Flask

from ..exceptions import ConfigurationError
from .demand import PUBLIC, demands_of, has_guard_around
from .protection import protections_in

_logger = logging.getLogger("flask_m2m_cognito")

_apps: weakref.WeakSet[Flask] = weakref.WeakSet()


def note_app(app: Flask) -> None:
    """Remember an application, whose routes may have a guard around a view that another has without."""
    _apps.add(app)


def misplaced_guards(app: Flask) -> dict[str, Literal["guard", "public"]]:
    """Which endpoints have a guard, or a ``public``, that stands above the route and has no effect."""
    below = {id(view) for each in {app, *_apps} for view in _views_below_guards(each)}
    found: dict[str, Literal["guard", "public"]] = {}
    for endpoint, view in app.view_functions.items():
        layers = list(_layers(view))
        if any(has_guard_around(layer) and id(layer) not in below for layer in layers):
            found[endpoint] = "guard"
        elif not hasattr(view, PUBLIC) and any(getattr(layer, PUBLIC, False) is True for layer in layers):
            found[endpoint] = "public"
    return found


def guard_problems(app: Flask) -> list[str]:
    """What is wrong with the guards of ``app``, a sentence or two each."""
    problems = [
        f"The view {endpoint!r} is not guarded: its guard stands above the route, so it never runs. Put "
        "the route's decorator above the guard."
        if what == "guard"
        else f"The view {endpoint!r} is not public: its public stands above the route, so it has no effect. "
        "Put the route's decorator above it."
        for endpoint, what in misplaced_guards(app).items()
    ]
    for function in _hooks(app):
        if has_guard_around(function) and not demands_of(function):
            problems.append(
                f"The before_request function {function.__qualname__!r} is not guarded: its guard stands "
                "above before_request, so it never runs. Put before_request above the guard."
            )
    for protection in protections_in(app):
        for name in sorted(protection.unknown_public(app)):
            problems.append(
                f"protect(public=…) names the endpoint {name!r}, which does not exist. "
                "`flask routes` lists the endpoints."
            )
    return problems


def check_guards(app: Flask) -> None:
    """Log what is wrong with the guards of ``app``, or raise it where somebody develops or tests."""
    problems = guard_problems(app)
    for problem in problems:
        _logger.error("%s", problem, extra={"event": "guard-misplaced"})
    if problems and (app.debug or app.testing):
        raise ConfigurationError("\n".join(problems))


def _views_below_guards(app: Flask) -> Iterator[Any]:
    for view in list(app.view_functions.values()):
        is_below = False
        demands: tuple[Any, ...] = ()
        for layer in _layers(view):
            if is_below or len(demands_of(layer)) < len(demands):
                is_below = True
                yield layer
            demands = demands_of(layer)


def _layers(view: Any) -> Iterator[Any]:
    """``view`` and what its decorators have wrapped, the outermost first."""
    while view is not None:
        yield view
        view = getattr(view, "__wrapped__", None)


def _hooks(app: Flask) -> list[Any]:
    return [each for hooks in app.before_request_funcs.values() for each in hooks]
