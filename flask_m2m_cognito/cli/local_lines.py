"""The output of ``flask m2m local-pool``: settings, commands, and a line for each request."""

from __future__ import annotations

import json
import os
import re
import shlex
from collections.abc import Collection
from typing import NamedTuple

from flask import Flask

from ..formats.scopes import has_scopes, join_scopes
from ..formats.urls import http_hosts_for
from ..settings.app_settings import Settings
from ..testing import LocalClient, LocalUserPool
from ..testing._answers import Answer
from ..testing._recorded import RecordedRequest, parse_client
from ..web.routes import Route, routes_by_method
from .local_clients import LOCAL_SECRET
from .words import quoted

DEFAULT_URL = "http://127.0.0.1:9229"
"""The URL of the pool with the default options."""

_PLAIN = re.compile(r"[\w./~:+-]{1,200}", re.ASCII)

_LONG = 8
"""The shortest secret that is searched for inside other text: a shorter one may be part of a word."""


class Commands(NamedTuple):
    """Commands for a client: one gets a token, one calls the application, if that accepts the client."""

    token: str
    call: str | None


class PoolSettings(NamedTuple):
    """Settings of an application that uses a pool. Their only secret is that of all clients.

    Attributes:
        receive: settings for the tokens of its callers.
        call: settings for its own tokens. Without a client they are incomplete.
    """

    receive: dict[str, str]
    call: dict[str, str]


def settings_for(pool: LocalUserPool, settings: Settings | None) -> PoolSettings:
    """Return the settings that an application needs for ``pool``, besides its own ``settings``."""
    receive = {"COGNITO_M2M_USER_POOL_ID": pool.pool_id, "COGNITO_M2M_ISSUER": pool.issuer}
    if http_hosts_for(pool.url):
        receive["COGNITO_M2M_ALLOW_HTTP_HOSTS"] = ",".join(http_hosts_for(pool.url))
    own = () if settings is None else tuple(settings.clients.values())
    uses_api = bool(own) and own[0].client_token_api
    call = {"COGNITO_M2M_TOKEN_URL": pool.api_url if uses_api else pool.token_url}
    if not own:
        call["COGNITO_M2M_CLIENT_ID"] = pool.client().client_id
        call["COGNITO_M2M_CLIENT_SECRET"] = LOCAL_SECRET
    return PoolSettings(receive, call)


def export_lines(settings: dict[str, str]) -> list[str]:
    """Return ``settings`` as ``export`` lines for a shell."""
    return [f"export FLASK_{key}={shlex.quote(value)}" for key, value in settings.items()]


def commands_for(
    client: LocalClient, pool: LocalUserPool, app: Flask | None, settings: Settings | None
) -> Commands:
    """Return the commands for one client of ``pool``."""
    form = {"grant_type": "client_credentials", "client_id": client.client_id, "client_secret": LOCAL_SECRET}
    fields = [f"-d {shlex.quote(f'{name}={value}')}" for name, value in form.items()]
    scope = shlex.quote(f"scope={join_scopes(client.scopes)}")
    token = f"curl {shlex.quote(pool.token_url)} {' '.join(fields)} --data-urlencode {scope}"
    target = "/" if app is None or settings is None else _target(client, app, settings)
    if target is None:
        return Commands(token, None)
    url = "" if pool.url == DEFAULT_URL else f" --url {shlex.quote(pool.url)}"
    local_token = f"flask m2m token --local --as {shlex.quote(client.client_id)}{url}"
    port = os.environ.get("FLASK_RUN_PORT", "5000")
    header = "Authorization" if settings is None else settings.header_name
    call = f'curl -H "{header}: Bearer $({local_token})" http://127.0.0.1:{port}{target}'
    return Commands(token, call)


def _target(client: LocalClient, app: Flask, settings: Settings) -> str | None:
    """Return a guarded path of ``app`` that accepts ``client``, or ``None``."""
    allowed = settings.allowed_client_ids
    is_allowed = not isinstance(allowed, frozenset) or client.client_id in allowed
    has_required = has_scopes(client.scopes, settings.required_scopes, settings.scope_match)
    # The tokens of the pool have no ``aud``.
    if not settings.user_pool_ids or settings.audience or not is_allowed or not has_required:
        return None
    routes = [each for each in routes_by_method(app) if "<" not in each.rule and _accepts(each, client)]
    routes.sort(key=lambda each: each.methods != ("GET",))
    if not routes:
        return None
    (used,) = routes[0].methods
    method = "" if used == "GET" else f" -X {used}"
    return shlex.quote(routes[0].rule) + method


def _accepts(route: Route, client: LocalClient) -> bool:
    for need in route.needs:
        is_named = need.clients is None or client.client_id in need.clients
        if need.scopes is None or not is_named or not has_scopes(client.scopes, need.scopes, need.match):
            return False
    return not route.is_open and route.methods != ("HEAD",)


def request_line(request: RecordedRequest, answer: Answer, clients: Collection[LocalClient]) -> str:
    """Return a log line for a request and its answer, without a secret or a token.

    It has method, path and status; for a token request also the OAuth error, the client id and the scopes.
    """
    parts = [request.method, request.path, str(answer.status)]
    if request.endpoint == "token":
        client_id, scopes = parse_client(request)
        if answer.status == 200 and not scopes:
            scopes = next((each.scopes for each in clients if each.client_id == client_id), ())
        parts += [_error_in(answer), client_id, *scopes]
    hidden = {secret for each in clients for secret in each.secrets}
    return " ".join(_redact(part, hidden) for part in parts if part)


def _error_in(answer: Answer) -> str:
    try:
        content = json.loads(answer.body)
    except ValueError:
        return ""
    error = content.get("error", content.get("__type", "")) if isinstance(content, dict) else ""
    return str(error)


def _redact(part: str, hidden: Collection[str]) -> str:
    """Return text of a request on one line, without secrets and terminal control characters."""
    if any(secret == part or (len(secret) >= _LONG and secret in part) for secret in hidden):
        return "(a secret)"
    return part if _PLAIN.fullmatch(part) else quoted(part)
