"""Guards a whole application or blueprint, and names the exceptions."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from flask import Blueprint, Flask, current_app, request

from ..exceptions import ConfigurationError
from ..formats.scopes import ScopeMatch
from .guard import admit
from .requirement import PUBLIC, ByMethod, Demand, demand_from

View = TypeVar("View", bound=Callable[..., Any])

PROTECTIONS = "__cognito_m2m_protections__"
"""Where an application or a blueprint carries its protections, a list: all of them hold."""


class Protection:
    """What is demanded of every request to an application or a blueprint.

    Attributes:
        demand: what its token must be.
        public: endpoints that everybody reaches, beside the views that are marked ``public``.
        blueprint: whose they are, if they are not an application's.
    """

    def __init__(self, demand: Demand, public: frozenset[str], blueprint: Blueprint | None = None) -> None:
        self.demand = demand
        self.public = public
        self.blueprint = blueprint

    def before_request(self) -> None:
        """Let the current request in, or raise the answer that refuses it."""
        if not self._is_exempt():
            admit(self.demand)

    def unknown_public(self, app: Flask) -> set[str]:
        """The names in ``public`` that no endpoint of ``app`` has."""
        endpoints = app.view_functions
        local = {name for each in endpoints for name in self._local_names(each, app)}
        return {name for name in self.public if name not in endpoints and name not in local}

    def exempts(self, endpoint: str, app: Flask) -> bool:
        """Whether everybody reaches this endpoint of ``app``."""
        mark = getattr(app.view_functions.get(endpoint), PUBLIC, None)
        if mark is True or (isinstance(mark, Blueprint) and mark is not self.blueprint):
            return True
        if not self.public:
            return False
        return endpoint in self.public or not self.public.isdisjoint(self._local_names(endpoint, app))

    def _local_names(self, endpoint: str, app: Flask) -> list[str]:
        """An endpoint's names in the blueprint, which may be nested or renamed: with and without its own."""
        if self.blueprint is None:
            return []
        names = endpoint.split(".")
        local = (
            ".".join(names[length:])
            for length in range(1, len(names))
            if app.blueprints.get(".".join(names[:length])) is self.blueprint
        )
        return [each for name in local for each in (name, f"{self.blueprint.name}.{name}")]

    def _is_exempt(self) -> bool:
        rule, endpoint = request.url_rule, request.endpoint
        if rule is None or endpoint is None:
            # An unknown URL: whoever has no good token does not learn which there are.
            return False
        if request.method == "OPTIONS" and getattr(rule, "provide_automatic_options", False):
            # Flask answers it without the view; browsers ask without a token (CORS preflight).
            return True
        return self.exempts(endpoint, current_app)


def protect(
    scaffold: Flask | Blueprint,
    *scopes: str,
    match: ScopeMatch = "all",
    clients: Iterable[str] | None = None,
    by_method: ByMethod | None = None,
    public: Iterable[str] = (),
) -> None:
    """Demand a good token for every view of an application or a blueprint, nested blueprints included.

    A view's own ``require_scopes`` holds as well. Under an application's protection an unknown URL is
    401 without a good token. Automatic OPTIONS answers pass.

    Args:
        scaffold: an application, or a blueprint that is not registered yet.
        scopes, match, clients, by_method: as ``require_scopes``.
        public: endpoints that everybody reaches, such as ``"static"``; those of a blueprint may be
            named without its name.

    Raises:
        ConfigurationError: an argument can't be right.
    """
    if not isinstance(scaffold, (Flask, Blueprint)):
        raise ConfigurationError(f"protect guards a Flask application or a Blueprint, not {scaffold!r}.")
    protection = Protection(
        demand_from(scopes, match, clients, by_method),
        _public_endpoints(public),
        scaffold if isinstance(scaffold, Blueprint) else None,
    )
    scaffold.before_request(protection.before_request)
    if not hasattr(scaffold, PROTECTIONS):
        setattr(scaffold, PROTECTIONS, [])
    protections_of(scaffold).append(protection)


def protections_of(scaffold: Flask | Blueprint) -> list[Protection]:
    """What is demanded of every request to ``scaffold``."""
    protections: list[Protection] = getattr(scaffold, PROTECTIONS, [])
    return protections


def protections_in(app: Flask) -> list[Protection]:
    """Those of an application and of its blueprints."""
    blueprints = {id(each): each for each in app.blueprints.values() if isinstance(each, Blueprint)}
    return [
        *protections_of(app),
        *(each for blueprint in blueprints.values() for each in protections_of(blueprint)),
    ]


def public(view: View) -> View:
    """A decorator for a view, or for a class's ``decorators``, that :func:`protect` lets everybody reach.

    Its token is not looked at. A ``require_scopes`` on the same view holds all the same.
    """
    if not callable(view):
        raise ConfigurationError(f"public marks a view function, not {view!r}.")
    if isinstance(view, type):
        raise ConfigurationError(
            f"public marks functions: for the class {view.__name__} use its decorators = [public]."
        )
    setattr(view, PUBLIC, True)
    return view


def _public_endpoints(public: Iterable[str]) -> frozenset[str]:
    if isinstance(public, (str, bytes)) or not isinstance(public, Iterable):
        raise ConfigurationError(f"public must be a list of endpoints, not {public!r}.")
    names = list(public)
    if not all(isinstance(each, str) and each for each in names):
        raise ConfigurationError(f"public must be a list of endpoints, not {names!r}.")
    return frozenset(names)
