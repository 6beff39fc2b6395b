"""What machines read to find their way: RFC 9728 resource metadata, and security in an OpenAPI document."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import unquote, urlsplit

from flask import Flask, Response, current_app, jsonify

from ..exceptions import ConfigurationError
from .demand import Demand
from .protection import public
from .route_demands import RouteDemand, demanded_scopes, route_demands

WELL_KNOWN = "/.well-known/oauth-protected-resource"

ANY_TOKEN = Demand()

SCHEME = "cognito_m2m"
"""The name of the security scheme in an OpenAPI document."""

_CONVERTER = re.compile(r"<(?:[^<>:]+:)?([^<>]+)>")


def metadata_path(resource: str) -> str:
    """Where a resource's metadata is served: its path comes after the well-known part.

    >>> metadata_path("https://api.example.com/"), metadata_path("https://api.example.com/stock/")
    ('/.well-known/oauth-protected-resource', '/.well-known/oauth-protected-resource/stock/')

    Source: RFC 9728, section 3.1. Only a slash that is all of the path goes away.
    """
    path = urlsplit(resource).path
    return WELL_KNOWN + ("" if path == "/" else path)


def metadata_url(resource: str) -> str:
    """The URL of a resource's metadata, for a challenge's ``resource_metadata`` (RFC 9728, section 5.1)."""
    parts = urlsplit(resource)
    query = f"?{parts.query}" if parts.query else ""
    return f"{parts.scheme}://{parts.netloc}{metadata_path(resource)}{query}"


def serve_metadata(
    app: Flask,
    resource: str,
    issuers: Iterable[str],
    more: Mapping[str, Any],
    of_every_token: Demand = ANY_TOKEN,
) -> None:
    """Have ``app`` serve its metadata document, to everybody.

    Args:
        resource: the application's own identifier.
        issuers: of the authorization servers whose tokens it accepts.
        more: further members, which replace those that are made.
        of_every_token: what the settings demand, on top of the views' own.
    """
    servers = list(issuers)

    @public
    def document() -> Response:
        response = jsonify(
            {
                "resource": resource,
                "authorization_servers": servers,
                "bearer_methods_supported": ["header"],
                "scopes_supported": sorted(demanded_scopes(current_app) | of_every_token.scopes),
                **more,
            }
        )
        response.headers["Cache-Control"] = "public, max-age=3600"
        return response

    # A server hands on the path without percent signs.
    path = unquote(metadata_path(resource))
    app.add_url_rule(path, endpoint="cognito_m2m_metadata", view_func=document)


def with_security(
    document: Mapping[str, Any], app: Flask, token_url: str | None, of_every_token: Demand = ANY_TOKEN
) -> dict[str, Any]:
    """A copy of an OpenAPI 3 document in which each guarded operation says which scopes it needs.

    Args:
        document: what apispec, flask-smorest, APIFlask or a person wrote.
        app: the application that it describes.
        token_url: of the token endpoint, if it is known: else the scheme is plain ``http`` ``bearer``.
        of_every_token: what the settings demand, on top of the operation's own.

    Raises:
        ConfigurationError: it is none.
    """
    _check_version(document)
    described: dict[str, Any] = _copy_of(document)
    needed: set[str] = set()
    for route in route_demands(app):
        operation = _operation(described, route)
        if operation is not None and route.demands:
            alternatives = _alternatives_of(route, of_every_token)
            operation["security"] = _requirements(route, alternatives if token_url else {frozenset()})
            needed = needed.union(*alternatives)
    components = _member(described, "components")
    _member(components, "securitySchemes")[SCHEME] = _scheme(token_url, needed)
    return described


def _check_version(document: object) -> None:
    if isinstance(document, Mapping) and "swagger" not in document:
        return
    given = type(document).__name__
    if isinstance(document, Mapping):
        given = f"Swagger {document['swagger']}, where security has another form"
    raise ConfigurationError(f"openapi() takes an OpenAPI 3 document as a dictionary, not {given}.")


def _member(of: dict[str, Any], name: str) -> dict[str, Any]:
    """A dictionary in a dictionary, made if it is not there: YAML reads one without members as ``None``."""
    if of.get(name) is None:
        of[name] = {}
    member: dict[str, Any] = of[name]
    return member


def _copy_of(value: Any) -> Any:
    """A copy of what JSON can hold. Unlike ``deepcopy`` it makes two of one object that stands at two places:
    operations that share their description have each their own security."""
    if isinstance(value, Mapping):
        return {key: _copy_of(each) for key, each in value.items()}
    return [_copy_of(each) for each in value] if isinstance(value, (list, tuple)) else value


def _operation(document: Mapping[str, Any], route: RouteDemand) -> dict[str, Any] | None:
    path = _CONVERTER.sub(r"{\1}", route.rule)
    found: Any = document
    for name in ("paths", path, route.method.lower()):
        found = found.get(name) if isinstance(found, dict) else None
    return found if isinstance(found, dict) else None


def _requirements(route: RouteDemand, alternatives: Iterable[frozenset[str]]) -> list[dict[str, list[str]]]:
    """Alternatives, any of which will do (OpenAPI 3.0.3, Security Requirement Object)."""
    needed: list[dict[str, list[str]]] = [
        {SCHEME: sorted(scopes)} for scopes in sorted(alternatives, key=sorted)
    ]
    is_optional = all(demand.is_optional for demand in route.demands)
    return [{}, *needed] if is_optional else needed


def _alternatives_of(route: RouteDemand, of_every_token: Demand) -> set[frozenset[str]]:
    """The smallest sets of scopes that meet all that is demanded at a route."""
    choices = [_alternatives(demand, route.method) for demand in (of_every_token, *route.demands)]
    unions = {frozenset().union(*combination) for combination in itertools.product(*choices)}
    return {scopes for scopes in unions if not any(smaller < scopes for smaller in unions)}


def _alternatives(demand: Demand, method: str) -> list[frozenset[str]]:
    scopes = demand.scopes_for(method) or frozenset()
    if demand.match == "any" and scopes:
        return [frozenset({scope}) for scope in scopes]
    return [scopes]


def _scheme(token_url: str | None, scopes: Iterable[str]) -> dict[str, Any]:
    if token_url is None:
        return {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"}
    return {
        "type": "oauth2",
        "flows": {
            "clientCredentials": {"tokenUrl": token_url, "scopes": {scope: scope for scope in sorted(scopes)}}
        },
    }
