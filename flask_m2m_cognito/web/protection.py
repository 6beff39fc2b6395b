"""Guards a whole application or blueprint, and names the exceptions."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

from flask import Blueprint, Flask, current_app, request
from werkzeug.routing import Rule

from ..exceptions import ConfigurationError
from ..formats.scopes import ScopeMatch
from .decorators import admit
from .requirement import PUBLIC, ByMethod, Requirement, requirement_from

View = TypeVar("View", bound=Callable[..., Any])

PROTECTIONS = "__cognito_m2m_protections__"
"""The attribute of an application or a blueprint for its protections, a list: all of them hold."""


@dataclass(frozen=True, eq=False)
class Protection:
    """What every request to an application or a blueprint requires.

    Attributes:
        requirement: what its token must be.
        public: endpoints that everybody reaches, besides the views that are marked ``public``.
        blueprint: whose they are, if they are not an application's.
    """

    requirement: Requirement
    public: frozenset[str]
    blueprint: Blueprint | None

    def before_request(self) -> None:
        """Let the current request in, or raise the answer that rejects it."""
        rule, endpoint = request.url_rule, request.endpoint
        # An unknown URL is guarded: without a valid token a caller does not learn which URLs there are.
        # An automatic OPTIONS is not: browsers send it without a token (CORS preflight).
        if (
            rule is None
            or endpoint is None
            or not (is_answered_by_flask(rule, request.method) or self.exempts(endpoint, current_app))
        ):
            admit(self.requirement)

    def unknown_public(self, app: Flask) -> frozenset[str]:
        """The names in ``public`` that no endpoint of ``app`` has."""
        endpoints = app.view_functions
        return self.public.difference(endpoints, *(self._local_names(each, app) for each in endpoints))

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
        local = (
            endpoint.removeprefix(f"{name}.")
            for name in _names_of_blueprints(endpoint)
            if app.blueprints.get(name) is self.blueprint
        )
        return [each for name in local for each in (name, f"{self.blueprint.name}.{name}")]


def protect(
    scaffold: Flask | Blueprint,
    *scopes: str,
    match: ScopeMatch = "all",
    clients: Iterable[str] | None = None,
    by_method: ByMethod | None = None,
    public: Iterable[str] = (),
) -> None:
    """Require a valid token for every view of an application or a blueprint: see ``CognitoM2M.protect``."""
    if not isinstance(scaffold, (Flask, Blueprint)):
        raise ConfigurationError(f"protect guards a Flask application or a Blueprint, not {scaffold!r}.")
    protection = Protection(
        requirement_from(scopes, match, clients, by_method),
        _public_endpoints(public),
        scaffold if isinstance(scaffold, Blueprint) else None,
    )
    scaffold.before_request(protection.before_request)
    if not hasattr(scaffold, PROTECTIONS):
        setattr(scaffold, PROTECTIONS, [])
    _protections_of(scaffold).append(protection)


def protections_over(app: Flask, endpoint: str) -> Iterator[tuple[str, Protection]]:
    """Those of the application, then those of the endpoint's blueprints, the outermost first.

    Each with the words for whose it is, such as ``"blueprint orders"``.
    """
    for protection in _protections_of(app):
        yield "application", protection
    for name in _names_of_blueprints(endpoint):
        for protection in _protections_of(app.blueprints.get(name)):
            yield f"blueprint {name}", protection


def protections_in(app: Flask) -> list[Protection]:
    """Those of an application and of its blueprints."""
    scaffolds = {id(each): each for each in (app, *app.blueprints.values())}
    return [protection for scaffold in scaffolds.values() for protection in _protections_of(scaffold)]


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


def is_answered_by_flask(rule: Rule, method: str) -> bool:
    """Whether Flask answers ``method`` without the view: an automatic OPTIONS."""
    return method == "OPTIONS" and bool(getattr(rule, "provide_automatic_options", False))


def _protections_of(scaffold: object) -> list[Protection]:
    protections: list[Protection] = getattr(scaffold, PROTECTIONS, [])
    return protections


def _names_of_blueprints(endpoint: str) -> list[str]:
    """The names under which an endpoint's blueprints are registered, the outermost first."""
    names = endpoint.split(".")
    return [".".join(names[:length]) for length in range(1, len(names))]


def _public_endpoints(public: Iterable[str]) -> frozenset[str]:
    if isinstance(public, (str, bytes)) or not isinstance(public, Iterable):
        raise ConfigurationError(f"public must be a list of endpoints, not {public!r}.")
    names = list(public)
    if not all(isinstance(each, str) and each for each in names):
        raise ConfigurationError(f"public must be a list of endpoints, not {names!r}.")
    return frozenset(names)
