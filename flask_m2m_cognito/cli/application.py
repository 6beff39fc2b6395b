"""Load the application that ``flask --app …`` names, and print results."""

from __future__ import annotations

import contextlib
import json
import logging
import warnings
from collections.abc import Iterable, Iterator

import click
from flask import Flask
from flask.cli import NoAppException, ScriptInfo

from ..app.app_m2m import AppM2M
from ..inbound.key_source import TrustedPool
from ..web.request_globals import EXTENSION

NOT_INITIALISED = "This application has no CognitoM2M: call m2m.init_app(app) where you create it."
NO_POOL = "This application trusts no user pool: set COGNITO_M2M_USER_POOL_ID."


def load_app(context: click.Context) -> Flask:
    """Load the application, without warnings about its settings: ``flask m2m check`` prints those.

    Raises:
        ConfigurationError: its settings are wrong.
        flask.cli.NoAppException: there is no application.
    """
    with quiet():
        return context.ensure_object(ScriptInfo).load_app()


def load_app_or_none(context: click.Context) -> Flask | None:
    """Load the application, or return ``None`` if no application is named or found.

    Raises:
        ConfigurationError: its settings are wrong.
    """
    try:
        return load_app(context)
    except NoAppException:
        if context.ensure_object(ScriptInfo).app_import_path:
            raise
        return None


def parts_or_none(app: Flask | None) -> AppM2M | None:
    """Return the application's parts, or ``None`` if it has no ``CognitoM2M``."""
    return None if app is None else app.extensions.get(EXTENSION)


def parts_of(app: Flask) -> AppM2M:
    """Return the application's parts, or end the command with an error message if it has none."""
    parts = parts_or_none(app)
    if parts is None:
        raise click.ClickException(NOT_INITIALISED)
    return parts


def pools_of(parts: AppM2M) -> tuple[TrustedPool, ...]:
    """Return the trusted pools, or end the command with an error message if there are none."""
    if parts.guard is None:
        raise click.ClickException(NO_POOL)
    return parts.validator.pools


def echo_json(content: object) -> None:
    """Print ``content`` as JSON."""
    click.echo(json.dumps(content, indent=2))


def echo(content: object, lines: Iterable[str], *, as_json: bool) -> None:
    """Print ``content`` as JSON, or ``lines`` as text."""
    if as_json:
        echo_json(content)
        return
    for line in lines:
        click.echo(line)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep this library's log records off standard error, unless the application configures logging."""
    logger = logging.getLogger("flask_m2m_cognito")
    handler = logging.NullHandler()
    logger.addHandler(handler)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="COGNITO_M2M_|CACHE_REDIS_URL")
            yield
    finally:
        logger.removeHandler(handler)
