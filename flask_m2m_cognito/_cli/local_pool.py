"""``flask m2m local-pool``: a user pool on this machine, for development without AWS."""

from __future__ import annotations

import json
import signal
import sys
import threading
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, cast

import click
from flask import Flask

from ..regions import region_of
from ..scopes import requested_scopes
from ..settings import ClientSettings
from ..testing import LocalClient, LocalUserPool
from ..testing.clients import DEFAULT_SCOPES
from ..urls import http_hosts_for, is_loopback_host
from ..web.guard import EXTENSION
from .application import echo_json
from .words import listed

POOL_ID = "us-east-1_LocalPool"
DEFAULT_CLIENT = LocalClient("local-client", secrets=("local-secret",), any_scope=True)
"""Where neither an application nor a file names one."""

_KEYS = ("pool_id", "token_lifetime", "clients")
_CLIENT_KEYS = ("secret", "secrets", "scopes")


class Address(NamedTuple):
    """Where the pool listens, and the URL under which it is reached if that is another."""

    host: str
    port: int
    public_url: str | None


def serve(app: Flask | None, *, as_json: bool, address: Address, path: str | None) -> int:
    """Be a user pool until interrupted."""
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
            "tokens. Use it for development only, on a network of your own.",
            err=True,
        )
    stopped = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stopped.set())
    with pool:
        _announce(pool, _token_url(app, pool), as_json)
        while not stopped.wait(1.0):
            # Windows wakes nobody who waits for ever.
            pass
    return 0


def _from_app(app: Flask | None, address: Address) -> LocalUserPool:
    parts = None if app is None else app.extensions.get(EXTENSION)
    if parts is None:
        return LocalUserPool(POOL_ID, clients=[DEFAULT_CLIENT], **address._asdict())
    pool_id = next((each for each in parts.settings.user_pool_ids if region_of(each)), POOL_ID)
    return LocalUserPool(pool_id, clients=_clients_of(parts.settings.clients.values()), **address._asdict())


def _clients_of(clients: Iterable[ClientSettings]) -> list[LocalClient]:
    """Each client id once, with all the secrets and scopes that its names have."""
    found: dict[str, LocalClient] = {}
    for client in clients:
        known = found.get(client.client_id)
        secrets = dict.fromkeys((*(known.secrets if known else ()), *_secrets_of(client)))
        scopes = dict.fromkeys((*(known.scopes if known else ()), *client.scopes))
        # One that asks without scopes is to get some.
        any_scope = not client.scopes or (known is not None and known.any_scope)
        found[client.client_id] = LocalClient(
            client.client_id, tuple(secrets), tuple(scopes) or DEFAULT_SCOPES, any_scope
        )
    return list(found.values()) or [DEFAULT_CLIENT]


def _secrets_of(client: ClientSettings) -> tuple[str, ...]:
    """Its secrets. Why they can't be read is not quoted: who knows what stands in there."""
    secret, problem = client.client_secret, "it is no text"
    try:
        given = secret() if callable(secret) else secret
        secrets = (given,) if isinstance(given, str) else tuple(given)
        if secrets and all(isinstance(each, str) and each for each in secrets):
            return secrets
    except Exception as error:
        problem = type(error).__name__
    raise click.ClickException(
        f"The secret of client {client.client_id!r} can't be read from the application's settings "
        f"({problem}). Give the pool's clients in a file, with --config."
    )


def _token_url(app: Flask | None, pool: LocalUserPool) -> str:
    """Where the application's client asks: at the token endpoint, or at the user pools API."""
    parts = None if app is None else app.extensions.get(EXTENSION)
    clients = () if parts is None else tuple(parts.settings.clients.values())
    return pool.api_url if clients and clients[0].client_token_api else pool.token_url


def _from_file(path: str, address: Address) -> LocalUserPool:
    content = _read(path)
    _check_known(path, content, _KEYS)
    clients = content.get("clients") or {}
    if not isinstance(clients, Mapping):
        raise click.ClickException(f"{path}: clients is a table of clients by their ids.")
    return LocalUserPool(
        str(content.get("pool_id", POOL_ID)),
        clients=[_client(path, str(name), row) for name, row in clients.items()] or [DEFAULT_CLIENT],
        token_lifetime=_lifetime(path, content.get("token_lifetime", 3600)),
        **address._asdict(),
    )


def _client(path: str, client_id: str, row: object) -> LocalClient:
    if not isinstance(row, Mapping):
        raise click.ClickException(f"{path}: clients.{client_id} is a table with secret and scopes.")
    _check_known(f"{path}: clients.{client_id}", row, _CLIENT_KEYS)
    if "secret" in row and "secrets" in row:
        raise click.ClickException(f"{path}: clients.{client_id} has secret or secrets, not both.")
    secrets = row.get("secrets") or [row.get("secret")]
    if not isinstance(secrets, list) or not all(isinstance(each, str) and each for each in secrets):
        raise click.ClickException(f"{path}: clients.{client_id} needs a secret, a text that is not empty.")
    scopes = row.get("scopes")
    if not (
        scopes is None
        or isinstance(scopes, str)
        or (isinstance(scopes, list) and all(isinstance(each, str) for each in scopes))
    ):
        raise click.ClickException(f"{path}: clients.{client_id}.scopes is a list of texts.")
    wanted = DEFAULT_SCOPES if scopes is None else requested_scopes(scopes)
    return LocalClient(client_id, tuple(secrets), wanted, any_scope=scopes is None)


def _lifetime(path: str, value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value <= 0:
        raise click.ClickException(f"{path}: token_lifetime is a whole number of seconds.")
    return value


def _check_known(where: str, content: Mapping[str, Any], known: tuple[str, ...]) -> None:
    unknown = sorted(map(str, content.keys() - set(known)))
    if unknown:
        raise click.ClickException(f"{where}: {unknown[0]} is not known; there are {listed(known)}.")


def _read(path: str) -> Mapping[str, Any]:
    """The file's content. What is wrong in it is not quoted: it holds secrets."""
    try:
        text = Path(path).read_text("utf-8-sig")
        content = json.loads(text) if path.lower().endswith(".json") else _parse_toml(text)
    except (OSError, ValueError, RecursionError) as error:
        kind = "JSON" if path.lower().endswith(".json") else "TOML"
        raise click.ClickException(f"{path} can't be read as {kind} ({type(error).__name__}).") from None
    if not isinstance(content, Mapping):
        raise click.ClickException(f"{path}: give an object with {listed(_KEYS)}.")
    return content


def _parse_toml(text: str) -> Any:
    if sys.version_info >= (3, 11):
        import tomllib

        return tomllib.loads(text)
    raise click.ClickException("TOML is read by Python 3.11 and later: give the same as a .json file.")


def _announce(pool: LocalUserPool, token_url: str, as_json: bool) -> None:
    """Where it is, and what an application must be told. No secret: the settings and the file have those."""
    settings = {
        "COGNITO_M2M_USER_POOL_ID": pool.pool_id,
        "COGNITO_M2M_ISSUER": pool.issuer,
        "COGNITO_M2M_TOKEN_URL": token_url,
    }
    if http_hosts_for(pool.url):
        settings["COGNITO_M2M_ALLOW_HTTP_HOSTS"] = ",".join(http_hosts_for(pool.url))
    clients = [client.client_id for client in pool.clients]
    if as_json:
        echo_json({"url": pool.url, "settings": settings, "clients": clients})
    else:
        click.echo(
            f"User pool {pool.pool_id} at {pool.url}, with {listed(clients)}. Ctrl-C ends it. Its settings:"
        )
        for key, value in settings.items():
            click.echo(f"  FLASK_{key}={value}")
        click.echo("A DOMAIN in your settings must give way to this TOKEN_URL.")
    # Whoever reads this from a pipe waits for it.
    cast(Any, sys.stdout).flush()
