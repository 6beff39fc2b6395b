"""``flask m2m scopes --diff``: what the code demands against what a file says that there is."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import click

from .application import echo_json

_READABLE = (
    "give JSON: of `aws cognito-idp list-resource-servers --max-results 50` or "
    "`describe-resource-server`, of `terraform show -json`, a CloudFormation template in JSON, or what "
    "`flask m2m scopes --json` printed"
)


def print_difference(demanded: Collection[str], path: str, *, as_json: bool) -> int:
    """Print what is missing in the file (``+``) and what only it has (``-``). 1 if anything is missing.

    What only the file has is no failure: other services may demand it.
    """
    there = exported_scopes(path)
    missing, unused = sorted(set(demanded) - there), sorted(there - set(demanded))
    if as_json:
        echo_json({"missing": missing, "unused": unused})
    else:
        for line in [*(f"+ {scope}" for scope in missing), *(f"- {scope}" for scope in unused)]:
            click.echo(line)
        if not missing and not unused:
            click.echo("The same scopes.")
    return int(bool(missing))


def exported_scopes(path: str) -> set[str]:
    """The custom scopes of every resource server in a file. Ends the command if there is none in it."""
    try:
        content = json.loads(Path(path).read_text("utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        raise click.ClickException(f"{path} can't be read ({type(error).__name__}): {_READABLE}.") from None
    found = list(_resource_servers(content))
    if not found and not _says_none(content):
        raise click.ClickException(f"{path} has no resource server in it: {_READABLE}.")
    return {f"{identifier}/{name}" for identifier, names in found for name in names}


def _resource_servers(content: Any) -> Iterator[tuple[str, list[str]]]:
    """Identifiers and names, wherever they stand: AWS, CloudFormation and Terraform nest them differently."""
    if isinstance(content, list):
        for each in content:
            yield from _resource_servers(each)
    elif isinstance(content, dict):
        identifier = content.get("Identifier", content.get("identifier"))
        rows = content.get("Scopes", content.get("scope"))
        if isinstance(identifier, str) and isinstance(rows, list):
            yield identifier, list(_names(rows))
            return
        for each in content.values():
            yield from _resource_servers(each)


def _names(rows: list[Any]) -> Iterator[str]:
    for row in rows:
        name = row.get("ScopeName", row.get("scope_name")) if isinstance(row, dict) else None
        if isinstance(name, str):
            yield name


def _says_none(content: Any) -> bool:
    """A pool, or code, without resource servers."""
    return isinstance(content, dict) and (
        [] in (content.get("ResourceServers"), content.get("resource_servers"))
    )
