"""What ``init_app`` warns about, and ``flask m2m check`` repeats."""

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
    """Yield what the operator should know of ``settings`` that work, in sentences."""
    if settings.any_client_unwarned:
        yield _ANY_CLIENT
    if cache_url_problem(app):
        yield f"{cache_url_problem(app)} {QUOTE_PASSWORD}"
    if settings.is_resource_unchecked:
        yield f"{RESOURCE_UNCHECKED} {SET_AUDIENCE}"
    if settings.allow_http_hosts:
        yield plain_http_text(settings)
    if runs_without_threads() and app.config.get("COGNITO_M2M_RENEW") != "inline":
        yield _no_threads_text(settings)
    if settings.cache_key is None and is_in_process(app, cache) is False:
        yield no_key_text(settings)


_ANY_CLIENT = (
    "COGNITO_M2M_ALLOWED_CLIENT_IDS is not set, nor COGNITO_M2M_REQUIRED_SCOPES or COGNITO_M2M_AUDIENCE: "
    "each client of the user pool passes a guard without scopes. List the clients that may call, "
    "or say '*' if all of them may."
)
RESOURCE_UNCHECKED = (
    "COGNITO_M2M_RESOURCE is set and COGNITO_M2M_AUDIENCE is not: tokens that are bound to another resource "
    "(their aud) are accepted."
)
SET_AUDIENCE = "Set COGNITO_M2M_AUDIENCE to this service's resource."


def plain_http_text(settings: Settings) -> str:
    """What plain http to the allowed hosts means; ``flask m2m check`` says the same."""
    hosts = ", ".join(settings.allow_http_hosts)
    return (
        f"COGNITO_M2M_ALLOW_HTTP_HOSTS allows plain http to {hosts}: anyone on the network path can read the "
        "tokens and secrets that are sent there. If COGNITO_M2M_ISSUER or COGNITO_M2M_JWKS_URL is such a "
        "URL, they choose the signing keys, and so can forge tokens."
    )


def cache_url_problem(app: Flask) -> str | None:
    """What is wrong with the ``CACHE_REDIS_URL`` of an application, or ``None``. Quotes nothing of it."""
    url = app.config.get("CACHE_REDIS_URL")
    is_used = "redis" in str(app.config.get("CACHE_TYPE")).lower()
    if not is_used or not isinstance(url, str) or is_redis_url(url):
        return None
    return "CACHE_REDIS_URL cannot be parsed (not shown), so the cache is unavailable."


QUOTE_PASSWORD = (
    "The password in it must be percent-encoded, as urllib.parse.quote(password, safe='') returns it."
)


def no_key_text(settings: Settings) -> str:
    problem = "is shorter than 16 bytes" if settings.cache_key_too_short else "is not set"
    return (
        f"COGNITO_M2M_CACHE_KEY (or SECRET_KEY) {problem}, so that what is put into the cache is sealed with "
        "a random key: only workers forked from this process share it. Set the same COGNITO_M2M_CACHE_KEY, "
        "of 16 bytes or more, for every process."
    )


def _no_threads_text(settings: Settings) -> str:
    consequence = "requests wait for the renewal of keys and tokens (COGNITO_M2M_RENEW is 'inline')"
    if settings.renew == "background":
        consequence = "COGNITO_M2M_RENEW = 'background' does not work: renewals stand still and time out"
    return f"uWSGI runs without threads, so {consequence}. Set enable-threads in uWSGI's configuration."
