"""The warnings of ``init_app``, which ``flask m2m check`` repeats."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from ..formats.urls import is_redis_url
from ..settings.app_settings import Settings, runs_without_threads
from .cache_backend import is_in_process

if TYPE_CHECKING:
    from flask import Flask
    from flask_caching import Cache


def advice_on(app: Flask, cache: Cache | None, settings: Settings) -> Iterator[str]:
    """Yield a warning for each setting that works but is probably a mistake."""
    if settings.any_client_unwarned:
        yield _ANY_CLIENT
    if problem := cache_url_problem(app):
        yield f"{problem} {QUOTE_PASSWORD}"
    if settings.is_resource_unchecked:
        yield f"{RESOURCE_UNCHECKED} {SET_AUDIENCE}"
    if settings.allow_http_hosts:
        yield plain_http_text(settings)
    if runs_without_threads() and app.config.get("COGNITO_M2M_RENEW") != "inline":
        yield _no_threads_text(settings)
    if settings.cache_key is None and is_in_process(app, cache) is False:
        yield no_key_text(settings)


_ANY_CLIENT = (
    "COGNITO_M2M_ALLOWED_CLIENT_IDS is not set, and neither is COGNITO_M2M_REQUIRED_SCOPES or "
    "COGNITO_M2M_AUDIENCE: any client of the user pool may call the views that require no scope. List the "
    "clients that may call, or use '*' to allow any client explicitly."
)
RESOURCE_UNCHECKED = (
    "COGNITO_M2M_RESOURCE is set and COGNITO_M2M_AUDIENCE is not: tokens that are issued to users for "
    "another resource (claim aud) are accepted."
)
SET_AUDIENCE = (
    "If only users call, set COGNITO_M2M_AUDIENCE to the resource of this service. It rejects all machine "
    "tokens, which Cognito binds to no resource."
)


def plain_http_text(settings: Settings) -> str:
    """Return the warning about plain http to the allowed hosts. ``flask m2m check`` repeats it."""
    hosts = ", ".join(settings.allow_http_hosts)
    return (
        f"COGNITO_M2M_ALLOW_HTTP_HOSTS allows plain http to {hosts}: anyone on the network path can read the "
        "tokens and secrets that are sent there. If COGNITO_M2M_ISSUER or COGNITO_M2M_JWKS_URL is such a "
        "URL, an attacker there can replace the signing keys and forge tokens."
    )


def cache_url_problem(app: Flask) -> str | None:
    """Return the problem with the ``CACHE_REDIS_URL`` of an application, or ``None``. Never quotes it."""
    url = app.config.get("CACHE_REDIS_URL")
    is_used = "redis" in str(app.config.get("CACHE_TYPE")).lower()
    if not is_used or not isinstance(url, str) or is_redis_url(url):
        return None
    return "CACHE_REDIS_URL cannot be parsed (the value is not shown), so the cache is unavailable."


QUOTE_PASSWORD = (
    "The password in it must be percent-encoded, as urllib.parse.quote(password, safe='') returns it."
)


def no_key_text(settings: Settings) -> str:
    problem = "is shorter than 16 bytes" if settings.cache_key_too_short else "is not set"
    return (
        f"COGNITO_M2M_CACHE_KEY (or SECRET_KEY) {problem}, so cache entries are encrypted with a random key: "
        "only workers forked from this process can read them. Set the same COGNITO_M2M_CACHE_KEY, of at "
        "least 16 bytes, in every process."
    )


def _no_threads_text(settings: Settings) -> str:
    consequence = "requests wait for the renewal of keys and tokens (COGNITO_M2M_RENEW is 'inline')"
    if settings.renew == "background":
        consequence = "COGNITO_M2M_RENEW = 'background' does not work: renewals make no progress and time out"
    return f"uWSGI runs without threads, so {consequence}. Set enable-threads in the configuration of uWSGI."
