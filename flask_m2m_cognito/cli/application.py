"""The application that ``flask --app …`` names, and its parts."""

from __future__ import annotations

import contextlib
import json
import logging
import warnings
from collections.abc import Iterator
from typing import Any, cast

import click
from flask import Flask
from flask.cli import NoAppException, ScriptInfo

from ..app.app_m2m import AppM2M
from ..inbound.key_source import TrustedPool
from ..web.guard import EXTENSION

NOT_INITIALISED = "This application has no CognitoM2M: call m2m.init_app(app) where you make it."
NO_POOL = "This application trusts no user pool: set COGNITO_M2M_USER_POOL_ID."


def loaded_app(context: click.Context) -> Flask:
    """The application, without what it says about its settings: that is for ``flask m2m check``.

    Raises:
        ConfigurationError: its settings are wrong.
        flask.cli.NoAppException: there is none.
    """
    with quiet():
        return context.ensure_object(ScriptInfo).load_app()


def app_or_none(context: click.Context) -> Flask | None:
    """The application, or ``None`` if none is named and none is found.

    Raises:
        ConfigurationError: its settings are wrong.
    """
    try:
        return loaded_app(context)
    except NoAppException:
        if context.ensure_object(ScriptInfo).app_import_path:
            raise
        return None


def parts_of(app: Flask) -> AppM2M:
    """Its parts. Ends the command with a sentence if it has none."""
    parts = app.extensions.get(EXTENSION)
    if parts is None:
        raise click.ClickException(NOT_INITIALISED)
    return cast("AppM2M", parts)


def pools_of(parts: AppM2M) -> tuple[TrustedPool, ...]:
    """The pools that it trusts. Ends the command with a sentence if there are none."""
    if parts.guard is None:
        raise click.ClickException(NO_POOL)
    return parts.validator.pools


def echo_json(content: object) -> None:
    """``content`` on standard output, for programs."""
    click.echo(json.dumps(content, indent=2, default=_plain))


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Nothing of this library is written to standard error, unless the application has set up its own log."""
    logger = logging.getLogger("flask_m2m_cognito")
    handler = logging.NullHandler()
    logger.addHandler(handler)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="COGNITO_M2M_|CACHE_REDIS_URL")
            yield
    finally:
        logger.removeHandler(handler)


def _plain(value: Any) -> Any:
    if isinstance(value, (set, frozenset)):
        return sorted(value)
    return str(value)
