"""Adds the scopes and the answers of an application's guards to an OpenAPI document."""

from __future__ import annotations

import functools
import itertools
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import urlsplit

from flask import Flask

from ..exceptions import ConfigurationError
from ..formats.scopes import ScopeMatch
from .requirement import ANY_TOKEN, Requirement
from .routes import Route, routes_by_method

SCHEME = "cognito_m2m"
"""The name of the security scheme in a document."""

_CONVERTER = re.compile(r"<(?:[^<>:]+:)?([^<>]+)>")


def with_security(
    document: Mapping[str, Any],
    app: Flask,
    token_url: str | None,
    issuer: str | None = None,
    of_every_token: Requirement = ANY_TOKEN,
) -> dict[str, Any]:
    """Return a copy of an OpenAPI document in which each guarded operation has its scopes and errors.

    Args:
        document: the document, by apispec, flask-smorest, APIFlask or Flask-RESTX, or written by hand.
        app: the application that it describes.
        token_url: the token endpoint, if it is known. The scheme is then ``oauth2``.
        issuer: the issuer of a trusted pool. Without a token endpoint the scheme is its ``openIdConnect``.
        of_every_token: what the settings require of every token, besides the guards.

    Raises:
        ConfigurationError: it is not an OpenAPI document, or has operations that match no route.
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
        if found is None or not found.needs:
            continue
        alternatives = _alternatives_of(found, of_every_token)
        has_scopes = dialect is not _SWAGGER or token_url is not None
        operation["security"] = _security(found, alternatives if has_scopes else {frozenset()})
        needed = needed.union(*alternatives)
        responses = _member(operation, "responses")
        for status in _RESPONSES:
            if not {str(status), status} & responses.keys():
                responses[str(status)] = {"$ref": f"#/{dialect.responses}/{SCHEME}_{status}"}
    if unknown:
        raise ConfigurationError(
            f"The OpenAPI document has operations that match no route of {app.name!r}: {', '.join(unknown)}. "
            "Correct the paths, set 'servers' to their URL prefix, or add a 'security' to the operations."
        )
    dialect.complete(described, _scheme(dialect, token_url, issuer, needed))
    return described


_RESPONSES = {
    401: ("The access token is missing or invalid.", "WWW-Authenticate", "string"),
    403: ("The access token is valid, but does not allow this request.", "WWW-Authenticate", "string"),
    503: ("The access token cannot be verified at the moment.", "Retry-After", "integer"),
}
"""For each status of a guard: the description, and a header with its type."""

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
"""The schema of a guard's body (RFC 9457)."""


@dataclass(frozen=True)
class _Dialect:
    """The places of schemes, responses and schemas in a version of OpenAPI, as paths with ``/``."""

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
    raise ConfigurationError(f"openapi() needs an OpenAPI 3 or Swagger 2.0 document as a dict, got {given}.")


_METHODS = ("get", "put", "post", "delete", "options", "head", "patch", "trace")


def _operations(document: Mapping[str, Any]) -> Iterator[tuple[str, str, dict[str, Any], list[str]]]:
    """Yield each operation's path, method and description, and the URL prefixes that its path may have."""
    for path, item in (document.get("paths") or {}).items():
        for name in _METHODS:
            operation = item.get(name) if isinstance(item, dict) else None
            if isinstance(operation, dict):
                yield path, name.upper(), operation, _prefixes(operation, item, document)


def _prefixes(*sections: Mapping[str, Any]) -> list[str]:
    """Return the URL prefixes, by the most specific ``servers`` (OpenAPI 3.0.3, Operation Object)."""
    servers: list[Any] = next((each["servers"] for each in sections if each.get("servers")), [])
    urls = [
        _with_variables(server["url"], server.get("variables") or {})
        for server in servers
        if isinstance(server, Mapping) and "url" in server
    ]
    paths = [urlsplit(url).path for url in urls] + [sections[-1].get("basePath") or ""]
    return [path.rstrip("/") for path in paths]


def _with_variables(url: str, variables: Mapping[str, Any]) -> str:
    for name, variable in variables.items():
        url = url.replace(f"{{{name}}}", str(variable.get("default", "")))
    return url


class _Routes:
    """The routes of an application, by the paths that a document may use for them."""

    def __init__(self, app: Flask) -> None:
        self._routes: dict[tuple[str, str], list[Route]] = {}
        for route in routes_by_method(app, with_automatic=True):
            # A document may use other parameter names, or omit a trailing slash, to which Flask redirects.
            for key in _names_of(_CONVERTER.sub(r"{\1}", route.rule)):
                self._routes.setdefault((route.methods[0], key), []).append(route)

    def find(self, method: str, path: str, prefixes: Iterable[str]) -> Route | None:
        """Return the route of an operation: below a prefix, or else where the application is mounted."""
        for each in dict.fromkeys([*(f"{prefix}{path}" for prefix in prefixes), path]):
            for key in _names_of(each):
                found = self._routes.get((method, key))
                if found:
                    return self._only(found, f"{method} {path}")
        return None

    def _only(self, routes: list[Route], operation: str) -> Route:
        required = {tuple(replace(need, where="") for need in route.needs) for route in routes}
        if len(required) > 1:
            rules = ", ".join(route.rule for route in routes)
            raise ConfigurationError(
                f"In the OpenAPI document, {operation} matches several routes with different requirements: "
                f"{rules}. Use the parameter names of the route."
            )
        return routes[0]


def _names_of(path: str) -> Iterable[str]:
    """Return a path as it is, without the names of its parameters, and also without a trailing slash."""
    unnamed = re.sub(r"\{[^{}]*\}", "{}", path)
    return dict.fromkeys((path, unnamed, unnamed.rstrip("/")))


def _member(of: dict[str, Any], name: str) -> dict[str, Any]:
    """Return a member that is a dict, created if it is missing. YAML reads an empty one as ``None``."""
    if of.get(name) is None:
        of[name] = {}
    member: dict[str, Any] = of[name]
    return member


def _copy_of(value: Any) -> Any:
    """Return a copy of JSON data. Unlike ``deepcopy``, it copies a shared object once for each place.

    Operations that share their description then each have their own security.
    """
    if isinstance(value, Mapping):
        return {key: _copy_of(each) for key, each in value.items()}
    return [_copy_of(each) for each in value] if isinstance(value, (list, tuple)) else value


def _security(route: Route, alternatives: Iterable[frozenset[str]]) -> list[dict[str, list[str]]]:
    """Return the alternatives, one of which is enough (OpenAPI 3.0.3, Security Requirement Object)."""
    needed = [{SCHEME: sorted(scopes)} for scopes in sorted(alternatives, key=sorted)]
    is_optional = all(need.is_optional for need in route.needs)
    return [{}, *needed] if is_optional else needed


def _alternatives_of(route: Route, of_every_token: Requirement) -> set[frozenset[str]]:
    """Return the smallest sets of scopes that meet every requirement of a route."""
    choices = [_alternatives(of_every_token.scopes, of_every_token.match)]
    choices += [_alternatives(need.scopes or frozenset(), need.match) for need in route.needs]
    unions = {frozenset().union(*combination) for combination in itertools.product(*choices)}
    return {scopes for scopes in unions if not any(smaller < scopes for smaller in unions)}


def _alternatives(scopes: frozenset[str], match: ScopeMatch) -> list[frozenset[str]]:
    return [frozenset({scope}) for scope in scopes] if match == "any" and scopes else [scopes]


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
