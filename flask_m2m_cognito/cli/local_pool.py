"""``flask m2m local-pool``: run a local user pool, for development without AWS."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import click
from flask import Flask

from ..exceptions import ConfigurationError
from ..formats.regions import region_of
from ..formats.scopes import requested_scopes
from ..formats.urls import is_loopback_host
from ..testing import LocalClient, LocalUserPool, RecordedRequest
from ..testing._answers import Answer
from ..testing._clients import DEFAULT_CLIENT_ID, DEFAULT_SCOPES
from .application import echo, load_app_or_none, parts_or_none
from .local_clients import build_caller, clients_of, with_local_secret
from .local_lines import (
    DEFAULT_URL,
    Commands,
    PoolSettings,
    commands_for,
    export_lines,
    request_line,
    settings_for,
)
from .words import listed

POOL_ID = "us-east-1_LocalPool"

_KEYS = ("pool_id", "token_lifetime", "clients")
_CLIENT_KEYS = ("secret", "secrets", "scopes")
_USER_POOL = {"FLASK_COGNITO_M2M_USER_POOL_ID": POOL_ID}
_PRINTED = (_USER_POOL, {**_USER_POOL, "FLASK_COGNITO_M2M_TOKEN_URL": f"{DEFAULT_URL}/oauth2/token"})
"""Settings that the command prints, for an application that lacks them."""


class Address(NamedTuple):
    """Where the pool listens, and the URL at which applications reach it, if that is another."""

    host: str
    port: int
    public_url: str | None


class _LoggingPool(LocalUserPool):
    """A pool that writes a line for each request to standard error."""

    def _note(self, request: RecordedRequest, answer: Answer) -> None:
        # If standard error is closed, the lines are lost, and the pool keeps running.
        with contextlib.suppress(OSError, ValueError):
            click.echo(request_line(request, answer, self.clients), err=True)


def app_for_pool(context: click.Context) -> Flask | None:
    """Load the application, or print a note and return ``None`` if its settings are invalid.

    If loading fails, it is tried again with the settings that this command prints.

    Raises:
        flask.cli.NoAppException: the application could not be loaded for another reason.
    """
    try:
        return load_app_or_none(context)
    except ConfigurationError as error:
        problem = str(error)
    for printed in _PRINTED:
        # An application may raise anything when it is loaded twice.
        with _environment_with(printed), contextlib.suppress(Exception):
            return load_app_or_none(context)
    click.echo(
        f"NOTE: The application's settings are invalid, so the pool has only {DEFAULT_CLIENT_ID}. Correct "
        "them, add the settings that the pool prints, and restart the pool to get the application's clients. "
        f"{problem}",
        err=True,
    )
    return None


@contextlib.contextmanager
def _environment_with(variables: Mapping[str, str]) -> Iterator[None]:
    added = [name for name in variables if name not in os.environ]
    os.environ.update({name: variables[name] for name in added})
    try:
        yield
    finally:
        for name in added:
            del os.environ[name]


def serve(app: Flask | None, *, as_json: bool, address: Address, path: str | None) -> int:
    """Run a user pool until it is interrupted, and return the exit status."""
    pool = _from_file(path, address) if path is not None else _from_app(app, address)
    try:
        pool.start()
    except OSError as error:
        raise click.ClickException(
            f"Cannot listen on {address.host} port {address.port}: {error.strerror}. "
            "Choose another port with --port, or another address with --host."
        ) from None
    if not is_loopback_host(address.host):
        click.echo(
            f"WARNING: the pool listens on {address.host}: anyone who can reach port {address.port} can get "
            "tokens. Use it for development only, on a private network.",
            err=True,
        )
    stopped = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stopped.set())
    with pool:
        _announce(pool, app, as_json)
        while not stopped.wait(1.0):
            # On Windows a signal does not end a wait without a timeout.
            pass
    return 0


def _from_app(app: Flask | None, address: Address) -> LocalUserPool:
    parts = parts_or_none(app)
    if app is None or parts is None:
        return _LoggingPool(POOL_ID, clients=[build_caller()], **address._asdict())
    pool_id = next((each for each in parts.settings.user_pool_ids if region_of(each)), POOL_ID)
    return _LoggingPool(pool_id, clients=clients_of(app, parts.settings), **address._asdict())


def _from_file(path: str, address: Address) -> LocalUserPool:
    content = _read(path)
    _check_known(path, content, _KEYS)
    clients, lifetime = content.get("clients") or {}, content.get("token_lifetime", 3600)
    if not isinstance(clients, Mapping):
        raise click.ClickException(f"{path}: clients must be a table with client ids as keys.")
    named = [with_local_secret(_parse_client(path, str(name), row)) for name, row in clients.items()]
    if not isinstance(lifetime, int) or isinstance(lifetime, bool) or lifetime <= 0:
        raise click.ClickException(f"{path}: token_lifetime must be a positive whole number of seconds.")
    return _LoggingPool(
        str(content.get("pool_id", POOL_ID)),
        clients=named or [build_caller()],
        token_lifetime=lifetime,
        **address._asdict(),
    )


def _parse_client(path: str, client_id: str, row: object) -> LocalClient:
    where = f"{path}: clients.{client_id}"
    if not isinstance(row, Mapping):
        raise click.ClickException(f"{where} must be a table with secret and scopes.")
    _check_known(where, row, _CLIENT_KEYS)
    if "secret" in row and "secrets" in row:
        raise click.ClickException(f"{where} must have either secret or secrets, not both.")
    secrets = row.get("secrets") or [row.get("secret")]
    if not isinstance(secrets, list) or not all(isinstance(each, str) and each for each in secrets):
        raise click.ClickException(f"{where} needs a secret: text that is not empty.")
    scopes = row.get("scopes")
    texts = scopes if isinstance(scopes, list) else ["" if scopes is None else scopes]
    if not all(isinstance(each, str) for each in texts):
        raise click.ClickException(f"{where}.scopes must be text or a list of text.")
    requested = DEFAULT_SCOPES if scopes is None else requested_scopes(scopes)
    return LocalClient(client_id, tuple(secrets), requested, any_scope=scopes is None)


def _check_known(where: str, content: Mapping[str, Any], known: tuple[str, ...]) -> None:
    unknown = sorted(map(str, content.keys() - set(known)))
    if unknown:
        raise click.ClickException(f"{where}: unknown key {unknown[0]}. The keys are {listed(known)}.")


def _read(path: str) -> Mapping[str, Any]:
    """Return the content of the file. Errors do not quote it, because it contains secrets."""
    kind = "JSON" if path.lower().endswith(".json") else "TOML"
    try:
        text = Path(path).read_text("utf-8-sig")
        content = json.loads(text) if kind == "JSON" else _parse_toml(text)
    except (OSError, ValueError, RecursionError) as error:
        raise click.ClickException(f"Could not read {path} as {kind} ({type(error).__name__}).") from None
    if not isinstance(content, Mapping):
        raise click.ClickException(f"{path} must contain an object with {listed(_KEYS)}.")
    return content


def _parse_toml(text: str) -> Any:
    if sys.version_info >= (3, 11):
        import tomllib

        return tomllib.loads(text)
    raise click.ClickException(
        "Reading TOML requires Python 3.11 or newer: use a .json file with the same content."
    )


def _announce(pool: LocalUserPool, app: Flask | None, as_json: bool) -> None:
    """Print the pool's URL, settings and commands. The only secret is the one that all clients have."""
    parts = parts_or_none(app)
    own = None if parts is None else parts.settings
    settings = settings_for(pool, own)
    commands = {each.client_id: commands_for(each, pool, app, own) for each in pool.clients}
    content = {
        "url": pool.url,
        "settings": settings.receive,
        "client_settings": settings.call,
        "clients": list(commands),
        "commands": {client_id: each._asdict() for client_id, each in commands.items()},
    }
    lines = _lines(pool, settings, commands, has_clients=bool(own and own.clients))
    echo(content, lines, as_json=as_json)


def _lines(
    pool: LocalUserPool, settings: PoolSettings, commands: Mapping[str, Commands], *, has_clients: bool
) -> Iterator[str]:
    """Yield lines of a shell script: everything except commands is a comment."""
    yield f"# User pool {pool.pool_id} at {pool.url}. Press Ctrl-C to stop it."
    yield f"# Clients: {listed(commands)}"
    yield "# Settings of the application:"
    yield from export_lines(settings.receive)
    if has_clients:
        yield from export_lines(settings.call)
        yield "# Unset COGNITO_M2M_DOMAIN if it is set: TOKEN_URL replaces it."
    else:
        yield "# More settings, if it calls other services:"
        yield from (f"# {line}" for line in export_lines(settings.call))
    for client_id, each in commands.items():
        yield ""
        yield f"# {client_id}: get a token" + ("; call the application" if each.call else "")
        yield from (line for line in each if line)
