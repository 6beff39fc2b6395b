"""``flask m2m token --local``: fetch a token from a local pool, for calling an application."""

from __future__ import annotations

from urllib.parse import urlsplit

import click

from ..exceptions import CognitoTokenRequestError, ConfigurationError
from ..formats.scopes import join_scopes, requested_scopes
from ..formats.urls import http_hosts_for, is_origin
from ..outbound.token_endpoint import CognitoM2MClient
from ..remote.clock import Deadline
from .application import echo, load_app_or_none, parts_or_none
from .local_clients import LOCAL_SECRET
from .local_lines import DEFAULT_URL
from .words import listed

_TIMEOUT = (2.0, 5.0)


def show_local_token(
    context: click.Context, *, as_json: bool, scopes: str | None, client_id: str, url: str | None
) -> int:
    """Print an access token for a client of the local pool.

    Args:
        scopes: the scopes to request; by default those of the client in the pool.
        url: scheme, host and port of the pool; by default those of the application's issuer.
    """
    base = (url or _url_of_app(context) or DEFAULT_URL).removesuffix("/")
    if not is_origin(base):
        raise click.UsageError(
            f"--url must be scheme, host and port, such as http://pool:9229, got {url!r}.", context
        )
    client = CognitoM2MClient(
        f"{base}/oauth2/token", client_id, LOCAL_SECRET, allow_http_hosts=http_hosts_for(base)
    )
    requested = requested_scopes(scopes or ())
    try:
        response = client.request_token(requested, _TIMEOUT, Deadline(sum(_TIMEOUT)))
    except CognitoTokenRequestError as error:
        raise click.ClickException(_problem(error, base, client_id, requested)) from None
    row = {
        "access_token": response.access_token,
        "token_type": response.token_type,
        "client_id": client_id,
        "scopes": join_scopes(requested),
        "usable_for": response.expires_in,
    }
    echo(row, [response.access_token], as_json=as_json)
    return 0


def _url_of_app(context: click.Context) -> str | None:
    """Return scheme, host and port of the application's issuer, if that is a plain http URL."""
    try:
        parts = parts_or_none(load_app_or_none(context))
    except ConfigurationError:
        return None
    issuer = urlsplit((parts.issuer if parts is not None else None) or "")
    return f"{issuer.scheme}://{issuer.netloc}" if issuer.scheme == "http" else None


def _problem(error: CognitoTokenRequestError, base: str, client_id: str, scopes: tuple[str, ...]) -> str:
    if error.error_code == "invalid_client":
        return (
            f"The pool at {base} has no client {client_id!r} with the secret {LOCAL_SECRET}: "
            "`flask m2m local-pool` prints its clients when it starts."
        )
    if error.error_code == "invalid_scope":
        return (
            f"Client {client_id!r} of the pool at {base} may not have {listed(scopes, 'or')}: request other "
            "--scopes, or allow these for the client where the pool is configured."
        )
    if error.status_code is None:
        return f"No local pool answers at {base}: start `flask m2m local-pool`, or set --url. ({error})"
    return f"{base} is not a local pool: {error}"
