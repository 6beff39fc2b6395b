"""``flask m2m …``: the commands for the operator of a service.

Flask imports this module for each of its own commands, so it imports little: what a command does stands in a
module beside this one, which is imported when the command runs.
"""

from __future__ import annotations

import sys
from typing import Any

import click

from ..exceptions import ConfigurationError

_json = click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")


class _Commands(click.Group):
    """Commands that say what is wrong with the settings in a sentence."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except ConfigurationError as error:
            raise click.ClickException(str(error)) from None


@click.group(cls=_Commands)
def m2m() -> None:
    """Machine-to-machine tokens of Amazon Cognito: check, show, and try them."""


@m2m.command("check")
@_json
@click.option("--strict", is_flag=True, help="Exit with 1 on warnings, too.")
@click.pass_context
def check_command(context: click.Context, as_json: bool, strict: bool) -> None:
    """Look at settings, network, keys, clients, clock and cache, and say what to do.

    Asks Cognito for a new token for each client, which Cognito bills. Exits with 1 if anything failed.
    """
    from . import check

    context.exit(check.check(context, as_json=as_json, strict=strict))


@m2m.command("routes")
@_json
@click.option("--fail-open", is_flag=True, help="Exit with 1 if a route is open, for CI.")
@click.option(
    "--except",
    "excepted",
    multiple=True,
    metavar="ENDPOINT",
    help="May be open, such as static or pages.*; may be given several times.",
)
@click.pass_context
def routes_command(context: click.Context, as_json: bool, fail_open: bool, excepted: tuple[str, ...]) -> None:
    """List every route with what it demands of a token, and which are open."""
    from . import application, routes

    app = application.load_app(context)
    context.exit(routes.show_routes(app, as_json=as_json, fail_open=fail_open, excepted=excepted))


@m2m.command("scopes")
@_json
@click.option(
    "--format", "form", type=click.Choice(["text", "json", "terraform"]), default="text", show_default=True
)
@click.option("--diff", metavar="FILE", help="Compare with an export of Cognito's resource servers (JSON).")
@click.pass_context
def scopes_command(context: click.Context, as_json: bool, form: str, diff: str | None) -> None:
    """Print the scopes that the code demands, as resource servers of Cognito.

    With --diff: + is demanded and not in FILE (then it exits with 1), - is in FILE alone.
    """
    from . import application, scopes

    if as_json and form == "terraform":
        raise click.UsageError(f"Give --json or --format {form}, not both.", context)
    app = application.load_app(context)
    context.exit(scopes.show_scopes(app, form="json" if as_json else form, diff=diff))


@m2m.command("explain")
@_json
@click.option("--endpoint", help="Hold it against this endpoint's guards, too.")
@click.pass_context
def explain_command(context: click.Context, as_json: bool, endpoint: str | None) -> None:
    """Read a token from standard input, and show each check with what it saw and wanted.

    Exits with 1 if the token is refused. Shows claims, and never the signature.
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
@click.option("--scopes", help="Separated by spaces; by default COGNITO_M2M_SCOPES.")
@click.option("--client", help="A name of COGNITO_M2M_CLIENTS; by default the default client.")
@click.option("--local", is_flag=True, help="Of the pool that `flask m2m local-pool` runs; needs --as.")
@click.option("--as", "client_id", metavar="CLIENT", help="With --local: the client id of the caller.")
@click.option(
    "--url",
    metavar="URL",
    help="With --local: scheme, host and port of the pool; by default those of the application's issuer, "
    "else http://127.0.0.1:9229.",
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
    """Print an access token for calling another service. Keep it to yourself.

    With --local and --as: a token of a client of the local pool, for calling this application. It needs
    no client in the application's settings, and no application.
    """
    if local:
        from . import local_token

        if client_id is None or client is not None:
            raise click.UsageError("With --local give --as CLIENT, and not --client.", context)
        context.exit(
            local_token.show_local_token(
                context, as_json=as_json, scopes=scopes, client_id=client_id, url=url
            )
        )
    if client_id is not None or url is not None:
        raise click.UsageError("--as and --url are for --local.", context)
    from . import application, remote_values

    app = application.load_app(context)
    context.exit(remote_values.show_token(app, as_json=as_json, scopes=scopes, client=client))


@m2m.command("refresh-keys")
@_json
@click.pass_context
def refresh_keys_command(context: click.Context, as_json: bool) -> None:
    """Download each pool's keys now, into the shared cache, and say which there are.

    Exits with 1 if a download failed, or if other processes can't read the keys in a shared cache.
    """
    from . import application, remote_values

    context.exit(remote_values.refresh_keys(application.load_app(context), as_json=as_json))


@m2m.command("refresh-tokens")
@_json
@click.option("--scopes", help="Separated by spaces; by default COGNITO_M2M_SCOPES.")
@click.option("--client", help="A name of COGNITO_M2M_CLIENTS; by default every client.")
@click.pass_context
def refresh_tokens_command(
    context: click.Context, as_json: bool, scopes: str | None, client: str | None
) -> None:
    """Request a new token for each client now, into the shared cache. Cognito bills each request.

    Exits with 1 if a request failed, or if other processes can't read the new token in a shared cache.
    Prints no token.
    """
    from . import application, remote_values

    app = application.load_app(context)
    context.exit(remote_values.refresh_tokens(app, as_json=as_json, scopes=scopes, client=client))


@m2m.command("local-pool")
@_json
@click.option("--port", type=click.IntRange(1, 65535), default=9229, show_default=True)
@click.option("--host", default="127.0.0.1", show_default=True, help="Listen on this address.")
@click.option(
    "--public-url",
    metavar="URL",
    help="Scheme, host and port under which applications reach the pool, such as http://pool:9229.",
)
@click.option(
    "--config", "path", metavar="FILE", help="Pool and clients in TOML or JSON; else the app's settings."
)
@click.pass_context
def local_pool_command(
    context: click.Context, as_json: bool, port: int, host: str, public_url: str | None, path: str | None
) -> None:
    """Run a Cognito user pool on this machine, for development without AWS.

    Its clients are those of the application's settings, with their secrets and scopes, and the callers
    that it allows; or those of FILE. Where neither names one there is local-client. Each client has the
    secret local-secret, too. Prints settings and commands, and each request to standard error. Anyone who
    can reach the port can get tokens: use it for development only.
    """
    from . import local_pool

    app = None if path is not None else local_pool.app_for_pool(context)
    address = local_pool.Address(host, port, public_url)
    context.exit(local_pool.serve(app, as_json=as_json, address=address, path=path))
