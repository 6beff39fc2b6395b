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

from ..web.routes import routes_of, scopes_in
from .application import echo, echo_json, parts_or_none
from .words import columns, listed

MOST_SCOPES = 100
"""The most scopes of one resource server, by Cognito's quotas."""

_LONGEST = 256
_NOT_IN_A_NAME = re.compile(r"[^\w\s+=,.@-]", re.ASCII)

_READABLE = (
    "use the JSON output of `aws cognito-idp list-resource-servers --max-results 50`, "
    "`describe-resource-server`, `terraform show -json` or `flask m2m scopes --json`, or a CloudFormation "
    "template in JSON"
)


@dataclass(frozen=True)
class ResourceServer:
    """One resource server: the part of its scopes before the last slash, and the names after it."""

    identifier: str
    names: tuple[str, ...]

    @property
    def name(self) -> str:
        """A display name, in which Cognito allows fewer characters than in an identifier."""
        return _NOT_IN_A_NAME.sub("-", self.identifier)[:_LONGEST]

    @property
    def rows(self) -> list[dict[str, str]]:
        """Its scopes in the form of Cognito's API, which requires a description."""
        return [
            {"ScopeName": name, "ScopeDescription": f"{name} of {self.identifier}"[:_LONGEST]}
            for name in self.names
        ]


@dataclass(frozen=True)
class Required:
    """The scopes that the code requires.

    Attributes:
        by_scope: the routes that require each scope.
        servers: the resource servers.
        others: scopes that belong to no resource server.
    """

    by_scope: dict[str, list[str]]
    servers: tuple[ResourceServer, ...]
    others: tuple[str, ...]


def show_scopes(app: Flask, *, form: str, diff: str | None) -> int:
    """Print the required scopes as ``"text"``, ``"json"`` or ``"terraform"``.

    Args:
        diff: the path of an export. The difference to it is printed instead.

    Returns:
        The exit status: 1 with ``diff`` if the export lacks a scope that the code requires.
    """
    required = collect_required(app)
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
        click.echo("\n".join(lines) or "The code requires no scope.")
    return 0


def collect_required(app: Flask) -> Required:
    """Return the scopes that the guards of the routes and the settings require."""
    by_scope: dict[str, list[str]] = {}
    for route in routes_of(app):
        for scope in scopes_in(route.needs):
            by_scope.setdefault(scope, []).append(str(route))
    parts = parts_or_none(app)
    for scope in () if parts is None else parts.settings.required_scopes:
        by_scope.setdefault(scope, []).append("COGNITO_M2M_REQUIRED_SCOPES")
    servers = build_resource_servers(by_scope)
    named = {f"{server.identifier}/{name}" for server in servers for name in server.names}
    return Required(dict(sorted(by_scope.items())), servers, tuple(sorted(by_scope.keys() - named)))


def build_resource_servers(scopes: Iterable[str]) -> tuple[ResourceServer, ...]:
    """Return the resource servers of these scopes.

    >>> build_resource_servers(["stock/read", "https://api.example.com/v1/use", "openid"])
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
            f"{scope} is skipped: it is not a custom scope of the form identifier/name.",
            err=True,
        )
    if not required.servers:
        raise click.ClickException(
            "The code of this application requires no scope of the form identifier/name."
        )
    for server in required.servers:
        if len(server.names) > MOST_SCOPES:
            raise click.ClickException(
                f"The resource server {server.identifier} has {len(server.names)} scopes, but Cognito allows "
                f"at most {MOST_SCOPES}."
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
    """Quote text for HCL. A scope is printable ASCII without quotes and backslashes."""
    return '"' + text.replace("${", "$${").replace("%{", "%%{") + '"'


def _labels(servers: Iterable[ResourceServer]) -> dict[str, ResourceServer]:
    """Return each resource server under a unique label, even if two identifiers give the same one."""
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

    Scopes that only the file has are no failure: other services may require them.
    """
    exported = read_exported_scopes(path)
    missing, unused = sorted(required - exported), sorted(exported - required)
    lines = [*(f"+ {scope}" for scope in missing), *(f"- {scope}" for scope in unused)]
    echo({"missing": missing, "unused": unused}, lines or ["No differences."], as_json=as_json)
    return int(bool(missing))


def read_exported_scopes(path: str) -> set[str]:
    """Return the custom scopes of the resource servers in a file. End the command if it has none."""
    try:
        content = json.loads(Path(path).read_text("utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        raise click.ClickException(f"Could not read {path} ({type(error).__name__}): {_READABLE}.") from None
    found = list(_resource_servers(content))
    top = content if isinstance(content, dict) else {}
    # An export of a pool, or of code, without resource servers has an empty list.
    if not found and [] not in (top.get("ResourceServers"), top.get("resource_servers")):
        raise click.ClickException(f"{path} contains no resource server: {_READABLE}.")
    return {f"{identifier}/{name}" for identifier, names in found for name in names}


def _resource_servers(content: Any) -> Iterator[tuple[str, list[str]]]:
    """Yield identifiers and names at any depth: AWS, CloudFormation and Terraform nest them differently."""
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
