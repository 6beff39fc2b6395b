"""``flask m2m check``: check everything that inbound and outbound tokens depend on."""

from __future__ import annotations

from dataclasses import asdict

import click
from flask import Flask

from ..app.advice import (
    QUOTE_PASSWORD,
    RESOURCE_UNCHECKED,
    SET_AUDIENCE,
    cache_url_problem,
    plain_http_text,
)
from ..app.app_m2m import AppM2M
from ..exceptions import ConfigurationError
from ..inbound.key_source import TrustedPool
from ..settings.app_settings import Settings
from ..web.misplaced import guard_problems
from .application import NOT_INITIALISED, echo, load_app, parts_or_none, quiet
from .cache_check import cache_findings
from .client_check import client_findings, client_name
from .finding import Finding, failed, ok, warning
from .network import Network
from .pool_check import pool_findings
from .words import CLOCK_AGREES, clock_words, columns, listed

CLOCK_WRONG = 60.0
"""Seconds of clock difference that fail the check; a smaller difference is a warning."""

_SET_CLOCK = (
    "Synchronize this machine's clock with NTP (`timedatectl set-ntp true`, chrony, or the host of a "
    "container). A clock that is ahead rejects valid tokens as expired. A clock that is behind accepts "
    "expired tokens."
)
_NAME_CLIENTS = (
    "Set COGNITO_M2M_ALLOWED_CLIENT_IDS to the client ids that may call, or to '*' to allow any client "
    "explicitly. The Cognito console lists client ids under App clients."
)

_USE_HTTPS = (
    "Keep the list short. Use it only for development, or where the network itself encrypts, as a service "
    "mesh does. Use https everywhere else."
)


def check(context: click.Context, *, as_json: bool, strict: bool) -> int:
    """Print one line for each finding. Return the exit status: 1 if a check failed.

    Args:
        strict: return 1 also for warnings.
    """
    with quiet():
        findings = _findings(context)
    statuses = {each.status for each in findings}
    worst = next((status for status in ("failed", "warning") if status in statuses), "ok")
    rows = ((each.status, each.check, " ".join(f"{each.said} {each.advice}".split())) for each in findings)
    echo({"status": worst, "findings": list(map(asdict, findings))}, columns(rows), as_json=as_json)
    return int(worst == "failed" or (strict and worst == "warning"))


def _findings(context: click.Context) -> list[Finding]:
    try:
        app = load_app(context)
    except ConfigurationError as error:
        return [failed("settings", problem, "") for problem in error.problems]
    parts = parts_or_none(app)
    if parts is None:
        return [failed("settings", NOT_INITIALISED, "")]
    problem = cache_url_problem(app)
    findings = [failed("cache", problem, QUOTE_PASSWORD)] if problem else []
    findings += [failed("guards", problem, "") for problem in guard_problems(app)]
    return [*_findings_of(app, parts), *findings]


def _findings_of(app: Flask, parts: AppM2M) -> list[Finding]:
    settings = parts.settings
    network = Network(settings.timeout)
    findings = _settings_findings(settings)
    if parts.guard is not None:
        for trusted in parts.validator.pools:
            findings += _pool_findings(trusted, network, settings)
    for client in settings.clients.values():
        findings += client_findings(parts, client, network)
    return [*findings, *_clock_findings(network.offset), *cache_findings(app, parts)]


def _pool_findings(trusted: TrustedPool, network: Network, settings: Settings) -> list[Finding]:
    pool_id = trusted.pool.pool_id
    overrides = {"COGNITO_M2M_JWKS_URL": settings.jwks_url, "COGNITO_M2M_ISSUER": settings.issuer}
    setting = next((name for name, urls in overrides.items() if pool_id in urls), None)
    return pool_findings(trusted, network, is_pinned=pool_id in settings.jwks, address_setting=setting)


def _settings_findings(settings: Settings) -> list[Finding]:
    pools = (
        f"accepts tokens of {listed(settings.user_pool_ids)}"
        if settings.user_pool_ids
        else "accepts no tokens"
    )
    names = map(client_name, settings.clients.values())
    clients = f"requests tokens as {listed(names)}" if settings.clients else "requests none"
    findings = [ok("settings", f"This application {pools}, and {clients}.")]
    if settings.any_client_unwarned:
        text = "Every app client of the pool may call a view that requires no scope."
        findings.append(warning("settings", text, _NAME_CLIENTS))
    if settings.is_resource_unchecked:
        findings.append(warning("settings", RESOURCE_UNCHECKED, SET_AUDIENCE))
    if settings.allow_http_hosts:
        findings.append(warning("settings", plain_http_text(settings), _USE_HTTPS))
    return findings


def _clock_findings(offset: float | None) -> list[Finding]:
    if offset is None:
        return []
    text = f"According to the Date header of the answers, {clock_words(offset)}."
    if abs(offset) < CLOCK_AGREES:
        return [ok("clock", text)]
    return [(failed if abs(offset) >= CLOCK_WRONG else warning)("clock", text, _SET_CLOCK)]
