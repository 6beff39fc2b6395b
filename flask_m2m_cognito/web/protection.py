"""Guards a whole application or blueprint, except for its public views."""

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
"""The attribute of an application or a blueprint that holds its protections, a list. All of them apply."""


@dataclass(frozen=True, eq=False)
class Protection:
    """What every request to an application or a blueprint requires.

    Attributes:
        requirement: what its token must meet.
        public: endpoints that need no token, besides the views that are marked ``public``.
        blueprint: the protected blueprint; ``None`` for an application.
    """

    requirement: Requirement
    public: frozenset[str]
    blueprint: Blueprint | None

    def before_request(self) -> None:
        """Check the current request, and raise the answer if it is rejected."""
        rule, endpoint = request.url_rule, request.endpoint
        # An unknown URL is guarded: without a valid token a caller does not learn which URLs exist.
        # An automatic OPTIONS is not guarded: browsers send it without a token (CORS preflight).
        if (
            rule is None
            or endpoint is None
            or not (is_answered_by_flask(rule, request.method) or self.exempts(endpoint, current_app))
        ):
            admit(self.requirement)

    def unknown_public(self, app: Flask) -> frozenset[str]:
        """Return the names in ``public`` that are not endpoints of ``app``."""
        endpoints = app.view_functions
        return self.public.difference(endpoints, *(self._local_names(each, app) for each in endpoints))

    def exempts(self, endpoint: str, app: Flask) -> bool:
        """Return whether this endpoint of ``app`` is public."""
        mark = getattr(app.view_functions.get(endpoint), PUBLIC, None)
        if mark is True or (isinstance(mark, Blueprint) and mark is not self.blueprint):
            return True
        if not self.public:
            return False
        return endpoint in self.public or not self.public.isdisjoint(self._local_names(endpoint, app))

    def _local_names(self, endpoint: str, app: Flask) -> list[str]:
        """Return an endpoint's names in the blueprint, with and without that of the blueprint itself."""
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
        raise ConfigurationError(f"protect guards a Flask application or a Blueprint, got {scaffold!r}.")
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
    """Yield the protections of the application, then of the endpoint's blueprints, the outermost first.

    Each comes with its place, such as ``"blueprint orders"``.
    """
    for protection in _protections_of(app):
        yield "application", protection
    for name in _names_of_blueprints(endpoint):
        for protection in _protections_of(app.blueprints.get(name)):
            yield f"blueprint {name}", protection


def protections_in(app: Flask) -> list[Protection]:
    """Return the protections of an application and of its blueprints."""
    scaffolds = {id(each): each for each in (app, *app.blueprints.values())}
    return [protection for scaffold in scaffolds.values() for protection in _protections_of(scaffold)]


def public(view: View) -> View:
    """Mark a view as public, so :func:`protect` does not guard it. Also for a class's ``decorators``.

    A token in the request is ignored. A ``require_scopes`` on the same view still applies.
    """
    if not callable(view):
        raise ConfigurationError(f"public marks a view function, got {view!r}.")
    if isinstance(view, type):
        raise ConfigurationError(
            f"public cannot decorate the class {view.__name__}. Set decorators = [public] in the class."
        )
    setattr(view, PUBLIC, True)
    return view


def is_answered_by_flask(rule: Rule, method: str) -> bool:
    """Return whether Flask answers ``method`` without the view, as it does an automatic OPTIONS."""
    return method == "OPTIONS" and bool(getattr(rule, "provide_automatic_options", False))


def _protections_of(scaffold: object) -> list[Protection]:
    protections: list[Protection] = getattr(scaffold, PROTECTIONS, [])
    return protections


def _names_of_blueprints(endpoint: str) -> list[str]:
    """Return the names under which an endpoint's blueprints are registered, the outermost first."""
    names = endpoint.split(".")
    return [".".join(names[:length]) for length in range(1, len(names))]


def _public_endpoints(public: Iterable[str]) -> frozenset[str]:
    if isinstance(public, (str, bytes)) or not isinstance(public, Iterable):
        raise ConfigurationError(f"public must be a list of endpoints, got {public!r}.")
    names = list(public)
    if not all(isinstance(each, str) and each for each in names):
        raise ConfigurationError(f"public must be a list of endpoints, got {names!r}.")
    return frozenset(names)
