"""``flask m2m scopes``: the scopes that the code demands, as Cognito's resource servers.

A custom scope of Cognito is ``<identifier of a resource server>/<name>``. Source: Amazon Cognito
Developer Guide, "Scopes, M2M, and resource servers"; API reference, ``CreateResourceServer``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

import click
from flask import Flask

from ..web.guard import EXTENSION
from ..web.routes import routes_of
from .application import echo_json
from .scopes_diff import print_difference
from .words import columns, listed

MOST_SCOPES = 100
"""Of one resource server, by Cognito's quotas."""

_LONGEST = 256
_NOT_IN_A_NAME = re.compile(r"[^\w\s+=,.@-]", re.ASCII)


@dataclass(frozen=True)
class ResourceServer:
    """One resource server: the part of scopes before the last slash, and what stands behind it."""

    identifier: str
    names: tuple[str, ...]

    @property
    def name(self) -> str:
        """A friendly name, which may have fewer characters than an identifier."""
        return _NOT_IN_A_NAME.sub("-", self.identifier)[:_LONGEST]

    def description(self, name: str) -> str:
        """Cognito wants one for each scope. It does not change when a route does."""
        return f"{name} of {self.identifier}"[:_LONGEST]

    @property
    def rows(self) -> list[dict[str, str]]:
        """Its scopes as Cognito's API has them."""
        return [{"ScopeName": name, "ScopeDescription": self.description(name)} for name in self.names]


@dataclass(frozen=True)
class Demanded:
    """What the code demands.

    Attributes:
        by_scope: who demands each scope.
        servers: the resource servers.
        others: scopes that are of no resource server.
    """

    by_scope: dict[str, list[str]]
    servers: tuple[ResourceServer, ...]
    others: tuple[str, ...]


def show_scopes(app: Flask, *, as_json: bool, form: str, diff: str | None) -> int:
    """Print them. The exit status: 1 with ``diff`` if the code demands one that is not there."""
    demanded = demanded_by(app)
    if diff is not None:
        return print_difference(demanded.by_scope.keys() - set(demanded.others), diff, as_json=as_json)
    if as_json:
        echo_json(_as_dict(demanded))
        return 0
    if form != "text":
        _check_exportable(demanded)
    click.echo(_text(demanded) if form == "text" else _terraform(demanded, _first_pool_id(app)))
    return 0


def demanded_by(app: Flask) -> Demanded:
    """The scopes of the routes' guards and of the settings."""
    by_scope: dict[str, list[str]] = {}
    for route in routes_of(app):
        for scope in {scope for need in route.needs for scope in need.scopes or ()}:
            by_scope.setdefault(scope, []).append(str(route))
    parts = app.extensions.get(EXTENSION)
    for scope in () if parts is None else parts.settings.required_scopes:
        by_scope.setdefault(scope, []).append("COGNITO_M2M_REQUIRED_SCOPES")
    servers = resource_servers(by_scope)
    named = {f"{server.identifier}/{name}" for server in servers for name in server.names}
    return Demanded(dict(sorted(by_scope.items())), servers, tuple(sorted(by_scope.keys() - named)))


def resource_servers(scopes: Iterable[str]) -> tuple[ResourceServer, ...]:
    """The resource servers of these scopes.

    >>> resource_servers(["stock/read", "https://api.example.com/v1/use", "openid"])
    (ResourceServer(identifier='https://api.example.com/v1', names=('use',)), \
ResourceServer(identifier='stock', names=('read',)))
    """
    names: dict[str, set[str]] = {}
    for scope in scopes:
        identifier, _, name = scope.rpartition("/")
        if identifier and name:
            names.setdefault(identifier, set()).add(name)
    return tuple(ResourceServer(each, tuple(sorted(names[each]))) for each in sorted(names))


def _check_exportable(demanded: Demanded) -> None:
    for scope in demanded.others:
        click.echo(
            f"{scope} is left out: no custom scope of a resource server, which has the form identifier/name.",
            err=True,
        )
    if not demanded.servers:
        raise click.ClickException("This application's code demands no scope of the form identifier/name.")
    for server in demanded.servers:
        if len(server.names) > MOST_SCOPES:
            raise click.ClickException(
                f"{server.identifier} has {len(server.names)} scopes, and Cognito allows {MOST_SCOPES}."
            )


def _first_pool_id(app: Flask) -> str:
    parts = app.extensions.get(EXTENSION)
    return "" if parts is None or not parts.settings.user_pool_ids else parts.settings.user_pool_ids[0]


def _as_dict(demanded: Demanded) -> dict[str, object]:
    return {
        "resource_servers": [
            {"Identifier": server.identifier, "Name": server.name, "Scopes": server.rows}
            for server in demanded.servers
        ],
        "others": list(demanded.others),
        "demanded_by": demanded.by_scope,
    }


def _text(demanded: Demanded) -> str:
    rows = [(scope, listed(who)) for scope, who in demanded.by_scope.items()]
    return "\n".join(columns(rows)) or "The code demands no scope."


def _terraform(demanded: Demanded, pool_id: str) -> str:
    default = f"\n  default     = {_hcl(pool_id)}" if pool_id else ""
    blocks = [
        'variable "user_pool_id" {\n  type        = string\n  description = "Id of the user pool"'
        + default
        + "\n}"
    ]
    for label, server in _labels(demanded.servers).items():
        blocks.append(
            f'resource "aws_cognito_resource_server" "{label}" {{\n'
            f"  identifier   = {_hcl(server.identifier)}\n"
            f"  name         = {_hcl(server.name)}\n"
            "  user_pool_id = var.user_pool_id\n" + "".join(map(_terraform_scope, server.rows)) + "}"
        )
    return "\n\n".join(blocks)


def _terraform_scope(row: dict[str, str]) -> str:
    return (
        "\n  scope {\n"
        f"    scope_name        = {_hcl(row['ScopeName'])}\n"
        f"    scope_description = {_hcl(row['ScopeDescription'])}\n"
        "  }\n"
    )


def _hcl(text: str) -> str:
    """A quoted template without templates. A scope is printable ASCII without quote and backslash."""
    return '"' + text.replace("${", "$${").replace("%{", "%%{") + '"'


def _labels(servers: Iterable[ResourceServer]) -> dict[str, ResourceServer]:
    """Each under a label of its own, although two identifiers may make the same."""
    labelled: dict[str, ResourceServer] = {}
    for server in servers:
        label, count = _snake(server.identifier), 1
        while label in labelled:
            count += 1
            label = f"{_snake(server.identifier)}{count}"
        labelled[label] = server
    return labelled


def _snake(identifier: str) -> str:
    label = "_".join(re.findall(r"[a-z0-9]+", identifier.lower()))
    return label if label[:1].isalpha() else f"server_{label}"
