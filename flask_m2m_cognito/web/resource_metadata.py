"""What machines read to find their way: RFC 9728 resource metadata, and security in an OpenAPI document."""

from __future__ import annotations

import functools
import itertools
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote, urlsplit

from flask import Flask, Response, current_app, jsonify

from ..exceptions import ConfigurationError
from .protection import public
from .requirement import Demand
from .route_requirements import RouteDemand, demanded_scopes, route_demands

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
    """Have ``app`` serve its metadata document, to everybody: at the resource's path and at the root.

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
        # Clients in browsers read it from other origins.
        response.headers["Access-Control-Allow-Origin"] = "*"
        return response

    # A server hands on the path without percent signs. Clients that have no challenge try the root, too.
    for path in dict.fromkeys((unquote(metadata_path(resource)), WELL_KNOWN)):
        app.add_url_rule(path, endpoint="cognito_m2m_metadata", view_func=document)


def with_security(
    document: Mapping[str, Any],
    app: Flask,
    token_url: str | None,
    issuer: str | None = None,
    of_every_token: Demand = ANY_TOKEN,
) -> dict[str, Any]:
    """Return a copy of an OpenAPI document in which each guarded operation has its scopes and errors.

    Args:
        document: what apispec, flask-smorest, APIFlask, Flask-RESTX or a person wrote.
        app: the application that it describes.
        token_url: the token endpoint, if it is known: the scheme is then ``oauth2``.
        issuer: of a trusted pool: without a token endpoint the scheme is its ``openIdConnect``.
        of_every_token: what the settings require, on top of the operation's own.

    Raises:
        ConfigurationError: it is not an OpenAPI document, or it has operations of which it cannot be told
            whether they are guarded.
    """
    dialect = _dialect_of(document)
    described: dict[str, Any] = _copy_of(document)
    routes = _Routes(app)
    needed: set[str] = set()
    unknown: list[str] = []
    for path, method, operation, prefixes in _operations(described):
        found = routes.find(method, path, prefixes)
        if found is None and "security" not in operation:
            unknown.append(f"{method} {path}")
        if found is None or not found.demands:
            continue
        alternatives = _alternatives_of(found, of_every_token)
        has_scopes = dialect is not _SWAGGER or token_url is not None
        operation["security"] = _requirements(found, alternatives if has_scopes else {frozenset()})
        needed = needed.union(*alternatives)
        responses = _member(operation, "responses")
        for status in _RESPONSES:
            if not {str(status), status} & responses.keys():
                responses[str(status)] = {"$ref": f"#/{dialect.responses}/{SCHEME}_{status}"}
    if unknown:
        raise ConfigurationError(
            f"The OpenAPI document has operations that match no route of {app.name!r}: {', '.join(unknown)}. "
            "Correct the path, set 'servers' to where the paths begin, or give it a 'security' of its own."
        )
    dialect.complete(described, _scheme(dialect, token_url, issuer, needed))
    return described


_RESPONSES = {
    401: ("The access token is missing or invalid.", "WWW-Authenticate", "string"),
    403: ("The access token is valid, but not sufficient.", "WWW-Authenticate", "string"),
    503: ("The access token cannot be checked at the moment.", "Retry-After", "integer"),
}
"""What a guard may answer: the description, and a header with its type."""

_PROBLEM = {
    "type": "object",
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "reason": {"type": "string"},
    },
    "required": ["type", "title", "status", "detail", "reason"],
}
"""A body of the guards' (RFC 9457)."""


@dataclass(frozen=True)
class _Dialect:
    """Where a version of OpenAPI keeps what operations refer to: ``/`` parts the names of members."""

    schemes: str
    responses: str
    schemas: str

    def complete(self, document: dict[str, Any], scheme: dict[str, Any]) -> None:
        """Add the scheme, the responses and their schema."""
        schema = {"$ref": f"#/{self.schemas}/{SCHEME}_problem"}
        self._at(document, self.schemes)[SCHEME] = scheme
        self._at(document, self.schemas)[f"{SCHEME}_problem"] = _copy_of(_PROBLEM)
        for status, (description, header, kind) in _RESPONSES.items():
            response: dict[str, Any] = {"description": description}
            if self is _SWAGGER:
                response |= {"headers": {header: {"type": kind}}, "schema": schema}
            else:
                response |= {
                    "headers": {header: {"schema": {"type": kind}}},
                    "content": {"application/problem+json": {"schema": schema}},
                }
            self._at(document, self.responses)[f"{SCHEME}_{status}"] = response

    def _at(self, document: dict[str, Any], place: str) -> dict[str, Any]:
        return functools.reduce(_member, place.split("/"), document)


_SWAGGER = _Dialect("securityDefinitions", "responses", "definitions")
_OPENAPI_3 = _Dialect("components/securitySchemes", "components/responses", "components/schemas")


def _dialect_of(document: object) -> _Dialect:
    if not isinstance(document, Mapping):
        given = type(document).__name__
    elif "swagger" not in document:
        return _OPENAPI_3
    elif document["swagger"] == "2.0":
        return _SWAGGER
    else:
        given = f"Swagger {document['swagger']}"
    raise ConfigurationError(
        f"openapi() takes an OpenAPI 3 or Swagger 2.0 document as a dictionary, not {given}."
    )


_METHODS = ("get", "put", "post", "delete", "options", "head", "patch", "trace")


def _operations(document: Mapping[str, Any]) -> Iterator[tuple[str, str, dict[str, Any], list[str]]]:
    """Each operation's path, method and description, and the prefixes that its path may have in a URL."""
    for path, item in (document.get("paths") or {}).items():
        for name in _METHODS:
            operation = item.get(name) if isinstance(item, dict) else None
            if isinstance(operation, dict):
                yield path, name.upper(), operation, _prefixes(operation, item, document)


def _prefixes(*levels: Mapping[str, Any]) -> list[str]:
    """Where the paths begin: the most specific ``servers`` count (OpenAPI 3.0.3, Operation Object)."""
    servers: list[Any] = next((each["servers"] for each in levels if each.get("servers")), [])
    urls = [
        _with_variables(server["url"], server.get("variables") or {})
        for server in servers
        if isinstance(server, Mapping) and "url" in server
    ]
    paths = [urlsplit(url).path for url in urls] + [levels[-1].get("basePath") or ""]
    return [path.rstrip("/") for path in paths]


def _with_variables(url: str, variables: Mapping[str, Any]) -> str:
    for name, variable in variables.items():
        url = url.replace(f"{{{name}}}", str(variable.get("default", "")))
    return url


class _Routes:
    """The routes of an application, by what a document calls them."""

    def __init__(self, app: Flask) -> None:
        self._routes: dict[tuple[str, str], list[RouteDemand]] = {}
        for route in route_demands(app):
            path = _CONVERTER.sub(r"{\1}", route.rule)
            # A document may name a parameter otherwise, or leave out a last slash, to which Flask redirects.
            for key in dict.fromkeys((path, _without_names(path), _without_names(path).rstrip("/"))):
                self._routes.setdefault((route.method, key), []).append(route)

    def find(self, method: str, path: str, prefixes: Iterable[str]) -> RouteDemand | None:
        """The route of an operation: below a prefix, else where an application is mounted at the prefix."""
        for each in dict.fromkeys([*(f"{prefix}{path}" for prefix in prefixes), path]):
            for key in (each, _without_names(each), _without_names(each).rstrip("/")):
                found = self._routes.get((method, key))
                if found:
                    return self._only(found, f"{method} {path}")
        return None

    def _only(self, routes: list[RouteDemand], operation: str) -> RouteDemand:
        if any(route.demands != routes[0].demands for route in routes):
            rules = ", ".join(route.rule for route in routes)
            raise ConfigurationError(
                f"The OpenAPI document's operation {operation} may be any of several routes that require "
                f"different scopes: {rules}. Name its parameters as the route does."
            )
        return routes[0]


def _without_names(path: str) -> str:
    return re.sub(r"\{[^{}]*\}", "{}", path)


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


def _scheme(
    dialect: _Dialect, token_url: str | None, issuer: str | None, needed: Iterable[str]
) -> dict[str, Any]:
    scopes = {scope: scope for scope in sorted(needed)}
    if dialect is _SWAGGER:
        if token_url is not None:
            return {"type": "oauth2", "flow": "application", "tokenUrl": token_url, "scopes": scopes}
        return {"type": "apiKey", "in": "header", "name": "Authorization"}
    if token_url is not None:
        flow = {"tokenUrl": token_url, "scopes": scopes}
        return {"type": "oauth2", "flows": {"clientCredentials": flow}}
    if issuer is not None:
        return {"type": "openIdConnect", "openIdConnectUrl": f"{issuer}/.well-known/openid-configuration"}
    return {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"}
