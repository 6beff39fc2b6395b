"""Finds guards that never run.

Such a guard is above the route decorator, which registers the function below it::

    @m2m.require_scopes("orders/write")
    @app.post("/orders")                 # registers the function without the guard
    def order(): ...

Or it is in the ``decorators`` of a class, and the framework ignores that attribute, as Flask-Admin and
flask-openapi3 do.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import weakref
from collections.abc import Iterable, Iterator
from typing import Any, Literal

from flask import Flask

from ..exceptions import ConfigurationError
from .protection import protections_in
from .requirement import PUBLIC, has_guard_around, layers_of, requirements_of

_logger = logging.getLogger("flask_m2m_cognito")

Misplaced = Literal["guard", "public", "decorators"]

_apps: weakref.WeakSet[Flask] = weakref.WeakSet()


def note_app(app: Flask) -> None:
    """Remember an application: its routes may guard a view that another application uses without a guard."""
    _apps.add(app)


def misplaced_guards(app: Flask) -> dict[str, Misplaced]:
    """Return the endpoints with a guard or a ``public`` that has no effect, and which it is.

    ``"guard"`` and ``"public"`` are above the route; ``"decorators"`` is a guard in the ``decorators`` of a
    class that the framework ignores.
    """
    below = {id(view) for each in {app, *_apps} for view in _views_below_guards(each)}
    found: dict[str, Misplaced] = {}
    for endpoint, view in app.view_functions.items():
        layers = list(layers_of(view))
        if any(has_guard_around(layer) and id(layer) not in below for layer in layers):
            found[endpoint] = "guard"
        elif _ignores_decorators(layers):
            found[endpoint] = "decorators"
        elif not hasattr(view, PUBLIC) and any(getattr(layer, PUBLIC, False) is True for layer in layers):
            found[endpoint] = "public"
    return found


_PROBLEMS: dict[Misplaced, str] = {
    "guard": "guarded: its guard is above the route decorator, so it never runs. Move the guard below the "
    "route decorator.",
    "public": "public: its public is above the route decorator, so it has no effect. Move public below the "
    "route decorator.",
    "decorators": "guarded: the guard in the decorators of its class never runs, because the framework "
    "ignores them. Decorate the methods of the class, or use protect.",
}


def guard_problems(app: Flask) -> list[str]:
    """Return a message for each misplaced guard of ``app`` and each unknown public endpoint."""
    problems = [
        f"The view {endpoint!r} is not {_PROBLEMS[what]}" for endpoint, what in misplaced_guards(app).items()
    ]
    for function in itertools.chain.from_iterable(app.before_request_funcs.values()):
        if has_guard_around(function) and not requirements_of(function):
            problems.append(
                f"The before_request function {function.__qualname__!r} is not guarded: its guard is above "
                "before_request, so it never runs. Move the guard below before_request."
            )
    for protection in protections_in(app):
        for name in sorted(protection.unknown_public(app)):
            problems.append(
                f"protect(public=…) names the endpoint {name!r}, which does not exist. "
                "Run `flask routes` to list the endpoints."
            )
    return problems


def check_guards(app: Flask) -> None:
    """Log what is wrong with the guards of ``app``, and raise it in debug mode and in tests."""
    problems = guard_problems(app)
    for problem in problems:
        _logger.error("%s", problem, extra={"event": "guard-misplaced"})
    if problems and (app.debug or app.testing):
        raise ConfigurationError("\n".join(problems))


def _views_below_guards(app: Flask) -> Iterator[Any]:
    for view in list(app.view_functions.values()):
        is_below = False
        above: tuple[Any, ...] = ()
        for layer in layers_of(view):
            if is_below or len(requirements_of(layer)) < len(above):
                is_below = True
                yield layer
            above = requirements_of(layer)


def _ignores_decorators(layers: list[Any]) -> bool:
    """Return whether a class of the view has a guard in its ``decorators`` that does not wrap the view."""
    around = {id(each) for layer in layers for each in requirements_of(layer)}
    return any(
        id(each) not in around
        for view_class in _classes_of(layers)
        for decorator in _decorators_of(view_class)
        for each in requirements_of(decorator)
    )


def _classes_of(layers: list[Any]) -> Iterator[Any]:
    """Yield the classes of which the view is a method."""
    for layer in layers:
        yield getattr(layer, "view_class", None)
        yield type(getattr(layer, "__self__", None))
        # flask-openapi3 registers a function that creates an object of the class and calls its method.
        for cell in getattr(layer, "__closure__", None) or ():
            with contextlib.suppress(ValueError):  # a variable that is not set yet
                held = cell.cell_contents
                if isinstance(held, type) and any(_has_method(held, each) for each in layers):
                    yield held


def _has_method(view_class: type, function: Any) -> bool:
    return any(each is function for base in view_class.__mro__ for each in vars(base).values())


def _decorators_of(view_class: Any) -> Iterable[Any]:
    decorators = getattr(view_class, "decorators", ())
    return decorators if isinstance(decorators, (list, tuple)) else ()
