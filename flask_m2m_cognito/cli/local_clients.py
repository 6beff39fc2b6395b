"""The clients of a local pool for an application: the application's own, and its callers."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import click
from flask import Flask

from ..settings.app_settings import ClientSettings, Settings
from ..testing import LocalClient
from ..testing._clients import DEFAULT_CLIENT_ID, DEFAULT_SCOPES
from ..web.routes import routes_of, scopes_of_routes

LOCAL_SECRET = "local-secret"
"""A secret that each client also has, so no printed line needs a secret of the application."""


def build_caller(client_id: str = DEFAULT_CLIENT_ID, scopes: Iterable[str] = ()) -> LocalClient:
    """Return a client that requests ``scopes`` by default, and may have any scope."""
    return LocalClient(client_id, (LOCAL_SECRET,), tuple(sorted(scopes)) or DEFAULT_SCOPES, any_scope=True)


def with_local_secret(client: LocalClient) -> LocalClient:
    """Return ``client`` with :data:`LOCAL_SECRET` added after its own secrets."""
    return replace(client, secrets=tuple(dict.fromkeys((*client.secrets, LOCAL_SECRET))))


def clients_of(app: Flask, settings: Settings) -> list[LocalClient]:
    """Return the clients of the application itself, and those that may call it."""
    found = _own_clients(settings.clients.values())
    if settings.user_pool_ids:
        scopes = scopes_of_routes(app) | settings.required_scopes
        for client_id in _caller_ids(app, settings):
            found.setdefault(client_id, build_caller(client_id, scopes))
    return [with_local_secret(each) for each in found.values()] or [build_caller()]


def _caller_ids(app: Flask, settings: Settings) -> list[str]:
    allowed = settings.allowed_client_ids
    if isinstance(allowed, frozenset):
        return sorted(allowed)
    needs = [need for route in routes_of(app) for need in route.needs]
    named = frozenset[str]().union(*(need.clients for need in needs if need.clients is not None))
    # A callable may reject a client that no guard names.
    return sorted(named) if callable(allowed) else [DEFAULT_CLIENT_ID, *sorted(named)]


def _own_clients(clients: Iterable[ClientSettings]) -> dict[str, LocalClient]:
    """Return each client id once, with the secrets and scopes of all entries that have it."""
    found: dict[str, LocalClient] = {}
    for client in clients:
        known = found.get(client.client_id)
        secrets = dict.fromkeys((*(known.secrets if known else ()), *_secrets_of(client)))
        scopes = dict.fromkeys((*(known.scopes if known else ()), *client.scopes))
        # A client without configured scopes gets the default ones.
        any_scope = not client.scopes or (known is not None and known.any_scope)
        found[client.client_id] = LocalClient(
            client.client_id, tuple(secrets), tuple(scopes) or DEFAULT_SCOPES, any_scope
        )
    return found


def _secrets_of(client: ClientSettings) -> tuple[str, ...]:
    """Return the client's secrets. An error does not quote its cause, which may contain a secret."""
    secret, problem = client.client_secret, "it is not text"
    try:
        given = secret() if callable(secret) else secret
        secrets = (given,) if isinstance(given, str) else tuple(given)
        if secrets and all(isinstance(each, str) and each for each in secrets):
            return secrets
    except Exception as error:
        problem = type(error).__name__
    raise click.ClickException(
        f"Could not read the secret of client {client.client_id!r} from the application's settings "
        f"({problem}). Define the clients of the pool in a file, and pass it with --config."
    )
