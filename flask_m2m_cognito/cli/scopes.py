"""``flask m2m scopes``: the scopes that the code requires, as Cognito's resource servers.

A custom scope of Cognito is ``<identifier of a resource server>/<name>``. Source: Amazon Cognito
Developer Guide, "Scopes, M2M, and resource servers"; API reference, ``CreateResourceServer``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
from flask import Flask

from ..web.routes import routes_of
from .application import echo, echo_json, parts_or_none
from .words import columns, listed

MOST_SCOPES = 100
"""Of one resource server, by Cognito's quotas."""

_LONGEST = 256
_NOT_IN_A_NAME = re.compile(r"[^\w\s+=,.@-]", re.ASCII)

_READABLE = (
    "give JSON: of `aws cognito-idp list-resource-servers --max-results 50` or "
    "`describe-resource-server`, of `terraform show -json`, a CloudFormation template in JSON, or what "
    "`flask m2m scopes --json` printed"
)


@dataclass(frozen=True)
class ResourceServer:
    """One resource server: the part of scopes before the last slash, and what stands behind it."""

    identifier: str
    names: tuple[str, ...]

    @property
    def name(self) -> str:
        """A friendly name, which may have fewer characters than an identifier."""
        return _NOT_IN_A_NAME.sub("-", self.identifier)[:_LONGEST]

    @property
    def rows(self) -> list[dict[str, str]]:
        """Its scopes as Cognito's API has them. A description is required; it does not name routes."""
        return [
            {"ScopeName": name, "ScopeDescription": f"{name} of {self.identifier}"[:_LONGEST]}
            for name in self.names
        ]


@dataclass(frozen=True)
class Required:
    """What the code requires.

    Attributes:
        by_scope: which routes require each scope.
        servers: the resource servers.
        others: scopes that are of no resource server.
    """

    by_scope: dict[str, list[str]]
    servers: tuple[ResourceServer, ...]
    others: tuple[str, ...]


def show_scopes(app: Flask, *, form: str, diff: str | None) -> int:
    """Print them as ``"text"``, ``"json"`` or ``"terraform"``.

    Args:
        diff: the path of an export to compare them with instead.

    Returns:
        The exit status: 1 with ``diff`` if the code requires a scope that is not there.
    """
    required = required_by(app)
    if diff is not None:
        return _show_difference(required.by_scope.keys() - set(required.others), diff, as_json=form == "json")
    if form == "json":
        servers = [
            {"Identifier": server.identifier, "Name": server.name, "Scopes": server.rows}
            for server in required.servers
        ]
        others = list(required.others)
        echo_json({"resource_servers": servers, "others": others, "demanded_by": required.by_scope})
    elif form == "terraform":
        _check_exportable(required)
        click.echo(_terraform(required, _first_pool_id(app)))
    else:
        lines = columns((scope, listed(routes)) for scope, routes in required.by_scope.items())
        click.echo("\n".join(lines) or "The code demands no scope.")
    return 0


def required_by(app: Flask) -> Required:
    """Return the scopes of the routes' guards and of the settings."""
    by_scope: dict[str, list[str]] = {}
    for route in routes_of(app):
        for scope in {scope for need in route.needs for scope in need.scopes or ()}:
            by_scope.setdefault(scope, []).append(str(route))
    parts = parts_or_none(app)
    for scope in () if parts is None else parts.settings.required_scopes:
        by_scope.setdefault(scope, []).append("COGNITO_M2M_REQUIRED_SCOPES")
    servers = resource_servers(by_scope)
    named = {f"{server.identifier}/{name}" for server in servers for name in server.names}
    return Required(dict(sorted(by_scope.items())), servers, tuple(sorted(by_scope.keys() - named)))


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


def _check_exportable(required: Required) -> None:
    for scope in required.others:
        click.echo(
            f"{scope} is left out: no custom scope of a resource server, which has the form identifier/name.",
            err=True,
        )
    if not required.servers:
        raise click.ClickException("This application's code demands no scope of the form identifier/name.")
    for server in required.servers:
        if len(server.names) > MOST_SCOPES:
            raise click.ClickException(
                f"{server.identifier} has {len(server.names)} scopes, and Cognito allows {MOST_SCOPES}."
            )


def _first_pool_id(app: Flask) -> str:
    parts = parts_or_none(app)
    return "" if parts is None or not parts.settings.user_pool_ids else parts.settings.user_pool_ids[0]


def _terraform(required: Required, pool_id: str) -> str:
    default = f"  default     = {_hcl(pool_id)}\n" if pool_id else ""
    variable = '  type        = string\n  description = "Id of the user pool"\n'
    blocks = [f'variable "user_pool_id" {{\n{variable}{default}}}']
    for label, server in _labels(required.servers).items():
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


def _show_difference(required: set[str], path: str, *, as_json: bool) -> int:
    """Print what is missing in the file (``+``) and what only it has (``-``). Return 1 if any is missing.

    What only the file has is no failure: other services may require it.
    """
    exported = exported_scopes(path)
    missing, unused = sorted(required - exported), sorted(exported - required)
    lines = [*(f"+ {scope}" for scope in missing), *(f"- {scope}" for scope in unused)]
    echo({"missing": missing, "unused": unused}, lines or ["The same scopes."], as_json=as_json)
    return int(bool(missing))


def exported_scopes(path: str) -> set[str]:
    """Return the custom scopes of every resource server in a file. End the command if there is none."""
    try:
        content = json.loads(Path(path).read_text("utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        raise click.ClickException(f"{path} can't be read ({type(error).__name__}): {_READABLE}.") from None
    found = list(_resource_servers(content))
    top = content if isinstance(content, dict) else {}
    # A pool, or code, without resource servers has an empty list of them.
    if not found and [] not in (top.get("ResourceServers"), top.get("resource_servers")):
        raise click.ClickException(f"{path} has no resource server in it: {_READABLE}.")
    return {f"{identifier}/{name}" for identifier, names in found for name in names}


def _resource_servers(content: Any) -> Iterator[tuple[str, list[str]]]:
    """Find identifiers and names anywhere: AWS, CloudFormation and Terraform nest them differently."""
    if isinstance(content, list):
        for each in content:
            yield from _resource_servers(each)
    elif isinstance(content, dict):
        identifier = content.get("Identifier", content.get("identifier"))
        rows = content.get("Scopes", content.get("scope"))
        if isinstance(identifier, str) and isinstance(rows, list):
            named = [row.get("ScopeName", row.get("scope_name")) for row in rows if isinstance(row, dict)]
            yield identifier, [name for name in named if isinstance(name, str)]
            return
        for each in content.values():
            yield from _resource_servers(each)
