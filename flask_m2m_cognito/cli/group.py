"""``flask m2m …``: the commands for the operator of a service.

Flask imports this module for each of its own commands, so it imports little. The code of a command is in a
module beside this one, which is imported when the command runs.
"""

from __future__ import annotations

import sys
from typing import Any

import click

from ..exceptions import ConfigurationError

_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


class _Commands(click.Group):
    """Commands that report wrong settings as an error message, without a traceback."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except ConfigurationError as error:
            raise click.ClickException(str(error)) from None


@click.group(cls=_Commands)
def m2m() -> None:
    """Check, inspect and fetch machine-to-machine tokens of Amazon Cognito."""


@m2m.command("check")
@_json
@click.option("--strict", is_flag=True, help="Exit with 1 also if there are only warnings.")
@click.pass_context
def check_command(context: click.Context, as_json: bool, strict: bool) -> None:
    """Check settings, network, keys, clients, clock and cache.

    Prints each problem and how to fix it. Requests a new token for each client, which Cognito bills. Exits
    with 1 if a check fails.
    """
    from . import check

    context.exit(check.check(context, as_json=as_json, strict=strict))


@m2m.command("routes")
@_json
@click.option("--fail-open", is_flag=True, help="Exit with 1 if a route is open or unknown, for CI.")
@click.option(
    "--except",
    "excepted",
    multiple=True,
    metavar="ENDPOINT",
    help="With --fail-open: an endpoint that may be open, such as static or pages.*. Repeat it for several.",
)
@click.pass_context
def routes_command(context: click.Context, as_json: bool, fail_open: bool, excepted: tuple[str, ...]) -> None:
    """List each route with the token that it requires."""
    from . import application, routes

    app = application.load_app(context)
    context.exit(routes.show_routes(app, as_json=as_json, fail_open=fail_open, excepted=excepted))


@m2m.command("scopes")
@_json
@click.option(
    "--format",
    "form",
    type=click.Choice(["text", "json", "terraform"]),
    default="text",
    show_default=True,
    help="Output format.",
)
@click.option("--diff", metavar="FILE", help="Compare with a JSON export of Cognito's resource servers.")
@click.pass_context
def scopes_command(context: click.Context, as_json: bool, form: str, diff: str | None) -> None:
    """Print the scopes that the code requires.

    The formats json and terraform print Cognito resource servers. With --diff, + marks a scope that the code
    requires and FILE lacks, and - marks a scope that only FILE has. Exits with 1 if FILE lacks a scope.
    """
    from . import application, scopes

    if as_json and form == "terraform":
        raise click.UsageError(f"Use either --json or --format {form}, not both.", context)
    app = application.load_app(context)
    context.exit(scopes.show_scopes(app, form="json" if as_json else form, diff=diff))


@m2m.command("explain")
@_json
@click.option("--endpoint", help="Also check the token against the guards of this endpoint.")
@click.pass_context
def explain_command(context: click.Context, as_json: bool, endpoint: str | None) -> None:
    """Show the result of each check of a token.

    Reads the token from standard input. Shows its claims, but never its signature. Exits with 1 if the token
    is rejected.
    """
    from . import application, explain

    app = application.load_app(context)
    if sys.stdin.isatty():
        text = click.prompt("Token", hide_input=True, err=True)
    else:
        text = sys.stdin.buffer.read().decode("ascii", "replace")
    context.exit(explain.explain(app, text, as_json=as_json, endpoint=endpoint))


@m2m.command("token")
@_json
@click.option("--scopes", help="Scopes to request, separated by spaces. Default: COGNITO_M2M_SCOPES.")
@click.option("--client", help="A name in COGNITO_M2M_CLIENTS. Default: the default client.")
@click.option(
    "--local",
    is_flag=True,
    help="Request the token from the pool that `flask m2m local-pool` runs. Requires --as.",
)
@click.option("--as", "client_id", metavar="CLIENT", help="With --local: the client id of the caller.")
@click.option(
    "--url",
    metavar="URL",
    help="With --local: scheme, host and port of the pool. Default: those of the application's issuer if "
    "that is a plain http URL, else http://127.0.0.1:9229.",
)
@click.pass_context
def token_command(
    context: click.Context,
    as_json: bool,
    scopes: str | None,
    client: str | None,
    local: bool,
    client_id: str | None,
    url: str | None,
) -> None:
    """Print an access token for calling another service. Treat it as a secret.

    With --local and --as, print a token for a client of the local pool, to call this application. This
    requires no client in the application's settings, and no application.
    """
    if local:
        from . import local_token

        if client_id is None or client is not None:
            raise click.UsageError("--local requires --as CLIENT, and cannot be used with --client.", context)
        context.exit(
            local_token.show_local_token(
                context, as_json=as_json, scopes=scopes, client_id=client_id, url=url
            )
        )
    if client_id is not None or url is not None:
        raise click.UsageError("--as and --url require --local.", context)
    from . import application, remote_values

    app = application.load_app(context)
    context.exit(remote_values.show_token(app, as_json=as_json, scopes=scopes, client=client))


@m2m.command("refresh-keys")
@_json
@click.pass_context
def refresh_keys_command(context: click.Context, as_json: bool) -> None:
    """Download the keys of each pool into the shared cache.

    Prints the ids of the keys. With COGNITO_M2M_REVOCATIONS, running processes use them within 11 s. Exits
    with 1 if a download fails, or if other processes cannot read the keys from a shared cache.
    """
    from . import application, remote_values

    context.exit(remote_values.refresh_keys(application.load_app(context), as_json=as_json))


@m2m.command("refresh-tokens")
@_json
@click.option("--scopes", help="Scopes to request, separated by spaces. Default: COGNITO_M2M_SCOPES.")
@click.option("--client", help="A name in COGNITO_M2M_CLIENTS. Default: every client.")
@click.pass_context
def refresh_tokens_command(
    context: click.Context, as_json: bool, scopes: str | None, client: str | None
) -> None:
    """Request a new token for each client.

    Puts the tokens into the shared cache, and prints none. Cognito bills each request. Exits with 1 if a
    request fails, or if other processes cannot read the new token from a shared cache.
    """
    from . import application, remote_values

    app = application.load_app(context)
    context.exit(remote_values.refresh_tokens(app, as_json=as_json, scopes=scopes, client=client))


_no_wait = click.option("--no-wait", is_flag=True, help="Do not wait until every process obeys (11 s).")


@m2m.command("revoke")
@_json
@click.argument("client_id")
@click.option(
    "--before",
    metavar="TIME",
    help="Revoke only the tokens issued before TIME: ISO 8601 with an offset, such as "
    "2026-11-30T18:00:00Z, seconds since the epoch, or now.",
)
@click.option("--jti", multiple=True, help="Revoke only the token with this id. Repeat it for several.")
@_no_wait
@click.pass_context
def revoke_command(
    context: click.Context,
    as_json: bool,
    client_id: str,
    before: str | None,
    jti: tuple[str, ...],
    no_wait: bool,
) -> None:
    """Reject the tokens of the client CLIENT_ID in every process.

    Without --before and --jti, rejects every token, also those that Cognito issues later, until `flask m2m
    unrevoke`. Adds to what is revoked already. Requires COGNITO_M2M_REVOCATIONS. Exits with 1 if a process
    may not have read the change, such as when the cache is unavailable.
    """
    from . import application, revocations

    app = application.load_app(context)
    context.exit(
        revocations.revoke(
            app, as_json=as_json, client_id=client_id, before=before, jti=jti, waits=not no_wait
        )
    )


@m2m.command("unrevoke")
@_json
@click.argument("client_id")
@click.option(
    "--keep-before",
    metavar="TIME",
    help="Keep the tokens issued before TIME revoked. TIME is as in `flask m2m revoke`.",
)
@_no_wait
@click.pass_context
def unrevoke_command(
    context: click.Context, as_json: bool, client_id: str, keep_before: str | None, no_wait: bool
) -> None:
    """Accept the tokens of the client CLIENT_ID again, in every process.

    Exits with 1 if no token of the client is revoked, or if a process may not have read the change.
    """
    from . import application, revocations

    app = application.load_app(context)
    context.exit(
        revocations.unrevoke(
            app, as_json=as_json, client_id=client_id, keep_before=keep_before, waits=not no_wait
        )
    )


@m2m.command("revocations")
@_json
@click.pass_context
def revocations_command(context: click.Context, as_json: bool) -> None:
    """List the clients with revoked tokens."""
    from . import application, revocations

    context.exit(revocations.show_revocations(application.load_app(context), as_json=as_json))


@m2m.command("local-pool")
@_json
@click.option(
    "--port", type=click.IntRange(1, 65535), default=9229, show_default=True, help="The port to listen on."
)
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen on.")
@click.option(
    "--public-url",
    metavar="URL",
    help="Scheme, host and port at which applications reach the pool, such as http://pool:9229.",
)
@click.option(
    "--config",
    "path",
    metavar="FILE",
    help="A TOML or JSON file with the pool and its clients. Default: the application's settings.",
)
@click.pass_context
def local_pool_command(
    context: click.Context, as_json: bool, port: int, host: str, public_url: str | None, path: str | None
) -> None:
    """Run a local Cognito user pool for development.

    The pool has the clients of the application's settings, with their secrets and scopes, and the callers
    that these settings allow. With --config it has the clients of FILE instead. If there are none, it has
    local-client. Each client also has the secret local-secret.

    Prints settings and curl commands, and logs each request to standard error. Anyone who can reach the port
    can get tokens: use it for development only.
    """
    from . import local_pool

    app = None if path is not None else local_pool.app_for_pool(context)
    address = local_pool.Address(host, port, public_url)
    context.exit(local_pool.serve(app, as_json=as_json, address=address, path=path))
