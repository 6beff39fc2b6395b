"""Reads the settings once, from ``app.config``, into a frozen :class:`Settings`.

Values are set in Python or come as text from the environment (``FLASK_COGNITO_M2M_LEEWAY=10``, read by
Flask's ``from_prefixed_env``). In text, commas and whitespace separate ids, Regions and URLs; only whitespace
separates scopes. Dicts and lists may be JSON. A number where text is expected is read as text, but JSON loses
how ``1e5`` was written: put quotes around it.

``None`` and blank text count as unset. In ``ALLOWED_CLIENT_IDS``, ``REQUIRED_SCOPES`` and ``AUDIENCE`` an
empty value of any kind would remove a check, so it is an error there.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from types import MappingProxyType
from typing import Any, Literal
from urllib.parse import urlsplit

from ..exceptions import ConfigurationError
from ..formats.regions import region_of
from ..formats.scopes import ScopeMatch
from ..inbound.key_source import KeyTimes
from .client_settings import API, ENDPOINTS, SECRETS, ClientSettings, clients_of
from .objects import ANY_CLIENT, SecretFile, read_cache_key
from .section import Section
from .table import BY_KEY, PREFIX, SETTINGS, Setting, nearest_known
from .values import Invalid, is_unset, one_or_all, read_pool_id, redacted

__all__ = ["PREFIX", "SETTINGS", "ClientSettings", "SecretFile", "Setting", "Settings", "settings_from"]

_FROZEN_BETWEEN_REQUESTS = ("AWS_LAMBDA_FUNCTION_NAME", "K_SERVICE")
_SHORTEST_CACHE_KEY = 16
_URLS = "set it to {pool_id: URL}"
_KEY_SETS = "set it to {pool_id: keys}, because a pool's keys must never verify another pool's tokens"


@dataclass(frozen=True)
class Settings:
    """All checked settings of one application. :data:`SETTINGS` describes each."""

    user_pool_ids: tuple[str, ...]
    region: str | None  # of the first pool
    replica_regions: tuple[str, ...]
    issuer: Mapping[str, str]  # overrides, by pool id
    jwks_url: Mapping[str, str]
    allowed_client_ids: frozenset[str] | Callable[[str], bool] | None  # None: any client
    allows_any_client: bool
    machine_tokens_only: bool
    token_check: Callable[[Any], object] | None
    jwks: Mapping[str, Mapping[str, Any]] = field(repr=False)  # pinned keys, by pool id
    header_name: str
    required_scopes: frozenset[str]
    scope_match: ScopeMatch
    audience: frozenset[str]  # empty: not checked
    leeway: float
    clients: Mapping[str | None, ClientSettings]  # None: the default client
    allow_http_hosts: tuple[str, ...]
    timeout: tuple[float, float]
    store_timeout: float
    renew: Literal["background", "inline"]
    key_times: KeyTimes
    revocations: bool
    verified_tokens: int
    cache_key: bytes | None = field(repr=False)
    cache_key_too_short: bool
    realm: str
    problem_type_base: str | None
    resource: str | None
    resource_metadata: Mapping[str, Any]

    @property
    def any_client_unwarned(self) -> bool:
        """Whether any client of the pool may call a view without scopes, and no setting allows that."""
        restricted = self.allowed_client_ids is not None or self.required_scopes or self.audience
        return bool(self.user_pool_ids) and not self.allows_any_client and not restricted

    @property
    def is_resource_unchecked(self) -> bool:
        """Whether this service names its resource, but accepts tokens for another resource.

        Cognito binds only user tokens to a resource (Amazon Cognito Developer Guide, "Resource binding").
        """
        accepts_users = bool(self.user_pool_ids) and not self.machine_tokens_only
        return accepts_users and self.resource is not None and not self.audience


def settings_from(
    config: Mapping[str, Any],
    *,
    app_name: str,
    has_shared_cache: bool = False,
    environ: Mapping[str, str] = os.environ,
) -> Settings:
    """Return the settings of one application, from its ``config``.

    Args:
        config: ``app.config``. Its keys that begin with ``COGNITO_M2M_`` are read, and ``SECRET_KEY``.
        app_name: the default of ``REALM``.
        has_shared_cache: whether the application has a cache that leaves the process, which ``REVOCATIONS``
            requires.
        environ: shows whether the process is frozen between requests, which decides the default of
            ``RENEW``. So does uWSGI.

    Raises:
        ConfigurationError: at least one setting is invalid. It lists all problems, and contains no secret.
    """
    problems = _unknown_keys(config)
    top = Section({key: config[PREFIX + key] for key in BY_KEY if PREFIX + key in config}, problems)
    pool_ids = _pool_ids(top)
    region = _region(top, pool_ids)
    issuers, jwks_urls = _by_pool(top, "ISSUER", pool_ids), _by_pool(top, "JWKS_URL", pool_ids)
    _check_issuers_differ(top, issuers)
    pinned = _by_pool(top, "JWKS", pool_ids, "key set", "keys", _KEY_SETS)
    clients = clients_of(top, region)
    _check_something_is_set(top)
    _check_between_keys(top)
    cache_key = _cache_key(top, config)
    if top["REVOCATIONS"]:
        _check_revocations_are_shared(top, cache_key, has_shared_cache)
    if problems:
        raise ConfigurationError(*problems)
    allowed = top["ALLOWED_CLIENT_IDS"]
    # A field that is named like a key has its value, unless that is derived here.
    as_read = {each.name: top[each.name.upper()] for each in fields(Settings) if each.name.upper() in BY_KEY}
    derived: dict[str, Any] = {
        "user_pool_ids": pool_ids,
        "region": region,
        "issuer": issuers,
        "jwks_url": jwks_urls,
        "allowed_client_ids": None if allowed == ANY_CLIENT else allowed,
        "allows_any_client": allowed == ANY_CLIENT,
        "jwks": pinned,
        "clients": MappingProxyType(clients),
        "renew": top["RENEW"] or _renew_in(environ),
        "key_times": KeyTimes(
            fresh_for=top["KEYS_FRESH_FOR"],
            usable_for=top["KEYS_USABLE_FOR"],
            unknown_key_cooldown=top["UNKNOWN_KEY_COOLDOWN"],
            refresh_deadline=top["REFRESH_DEADLINE"],
        ),
        "cache_key": cache_key if cache_key and len(cache_key) >= _SHORTEST_CACHE_KEY else None,
        "cache_key_too_short": 0 < len(cache_key or b"") < _SHORTEST_CACHE_KEY,
        "realm": top["REALM"] or _realm_of(app_name),
        "resource_metadata": top["RESOURCE_METADATA"] or {},
    }
    return Settings(**{**as_read, **derived})


def _unknown_keys(config: Mapping[str, Any]) -> list[str]:
    """Return the problems of unknown keys, without values: one may be a secret under a misspelt name."""
    keys = [key for key in config if isinstance(key, str) and key.upper().startswith(PREFIX)]
    unknown = [key for key in keys if not key.startswith(PREFIX) or key.removeprefix(PREFIX) not in BY_KEY]
    return [f"Unknown setting {key}{nearest_known(key, BY_KEY, PREFIX)}" for key in unknown]


def _pool_ids(top: Section) -> tuple[str, ...]:
    """Return the pools that are set, else those of the issuers: their pool ids or the ends of their paths."""
    pool_ids: tuple[str, ...] = top["USER_POOL_ID"]
    if pool_ids or top.any_wrong("USER_POOL_ID", "ISSUER"):
        return pool_ids
    if top["ISSUER"]:
        return _pool_id_in_issuer(top) if None in top["ISSUER"] else tuple(top["ISSUER"])
    for key in ("JWKS_URL", "JWKS"):
        if key in top.set_keys:
            top.report(key, f"is set, but no user pool is: set {top.label('USER_POOL_ID')} too")
    return ()


def _pool_id_in_issuer(top: Section) -> tuple[str, ...]:
    last = urlsplit(top["ISSUER"][None]).path.rstrip("/").rpartition("/")[2]
    try:
        return (read_pool_id(last),)
    except Invalid:
        url = redacted(top["ISSUER"][None])
        top.report("ISSUER", f"is {url}, without a pool id at its end: set {top.label('USER_POOL_ID')} too")
    return ()


def _region(top: Section, pool_ids: tuple[str, ...]) -> str | None:
    """Return the first pool's Region. Report one that contradicts a pool, and a pool without a Region."""
    region: str | None = top["REGION"]
    for pool_id in pool_ids:
        own = region_of(pool_id)
        if region and own and region != own:
            top.report(
                "REGION",
                f"is {redacted(region)}, but the user pool {redacted(pool_id)} is in {own!r}: "
                "remove the setting",
            )
        has_issuer = top.any_wrong("ISSUER") or not {None, pool_id}.isdisjoint(top["ISSUER"] or ())
        if not region and not own and not has_issuer and "REGION" not in top.set_keys:
            top.report(
                "USER_POOL_ID",
                f"is {redacted(pool_id)}, without a Region: set the complete id ('us-west-2_AbCdEfGhI'), "
                f"or {top.label('REGION')}, or for an emulator {top.label('ISSUER')}",
            )
    return region or next(map(region_of, pool_ids), None)


def _by_pool(
    top: Section,
    key: str,
    pool_ids: tuple[str, ...],
    one: str = "URL",
    some: str = "a URL",
    advice: str = _URLS,
) -> dict[str, Any]:
    """Return the values of ``key`` by pool id. It is set to one value, or to a dict of them."""
    values: Mapping[str | None, Any] = top[key] or {}
    pools = top.label("USER_POOL_ID")
    if None in values:
        if len(pool_ids) > 1:
            top.report(key, f"is one {one}, but {pools} names {len(pool_ids)} pools: {advice}")
        return dict.fromkeys(pool_ids, values[None])
    unknown = [pool_id for pool_id in values if pool_id not in pool_ids]
    if unknown and not top.any_wrong("USER_POOL_ID") and (pool_ids or not top.any_wrong("ISSUER")):
        top.report(key, f"has {some} for {redacted(one_or_all(unknown))}, which is not in {pools}")
    return {pool_id: values[pool_id] for pool_id in pool_ids if pool_id in values}


def _check_issuers_differ(top: Section, issuers: Mapping[str, str]) -> None:
    """Report an issuer of several pools: the issuer chooses the keys, so each pool needs its own."""
    if len(issuers) > len(set(issuers.values())) and not top.any_wrong("ISSUER"):
        top.report("ISSUER", "has the same URL for several pools: each pool needs its own issuer")


def _check_between_keys(top: Section) -> None:
    if top["KEYS_FRESH_FOR"] > top["KEYS_USABLE_FOR"]:
        top.report(
            "KEYS_FRESH_FOR",
            f"must be at most {top.label('KEYS_USABLE_FOR')} ({top['KEYS_USABLE_FOR']:.10g} seconds), "
            f"got {top['KEYS_FRESH_FOR']:.10g}",
        )
    metadata, resource = top["RESOURCE_METADATA"], top["RESOURCE"]
    if metadata is not None and "RESOURCE" not in top.set_keys:
        top.report("RESOURCE_METADATA", f"has no effect without {top.label('RESOURCE')}: set both")
    elif metadata and metadata.get("resource", resource) != resource:
        top.report("RESOURCE_METADATA", f"has a 'resource' other than {top.label('RESOURCE')}: remove it")


def _check_revocations_are_shared(top: Section, cache_key: bytes | None, has_shared_cache: bool) -> None:
    if not has_shared_cache:
        top.report(
            "REVOCATIONS",
            "requires a cache that all processes share: set CACHE_TYPE to 'RedisCache', 'MemcachedCache' or "
            "'FileSystemCache'. If you create the Cache yourself, call cache.init_app(app) before "
            "m2m.init_app(app), or pass it as CognitoM2M(cache=…)",
        )
    if len(cache_key or b"") < _SHORTEST_CACHE_KEY:
        top.report(
            "REVOCATIONS",
            f"requires {top.label('CACHE_KEY')} or SECRET_KEY, of at least {_SHORTEST_CACHE_KEY} bytes: "
            "otherwise no other process can read what one has revoked",
        )


def _check_something_is_set(top: Section) -> None:
    if top["USER_POOL_ID"] or top["CLIENTS"] or top.any_wrong("USER_POOL_ID", "CLIENTS"):
        return
    if top.any_set("ISSUER", "JWKS_URL", "JWKS", "CLIENT_ID", *SECRETS, *ENDPOINTS) or top[API]:
        return
    label = top.label
    top.report(
        "USER_POOL_ID",
        f"is not set, and no client is: to accept tokens, set {label('USER_POOL_ID')}; to request tokens, "
        f"set {label('CLIENT_ID')}, {label('CLIENT_SECRET')} and {label('DOMAIN')} or {label('TOKEN_URL')}",
    )


def _cache_key(top: Section, config: Mapping[str, Any]) -> bytes | None:
    """Return the configured key, even if it is too short. A ``SECRET_KEY`` that is not text is ignored."""
    own: bytes | None = top["CACHE_KEY"]
    secret_key = config.get("SECRET_KEY")
    if own or is_unset(secret_key):
        return own
    try:
        return read_cache_key(secret_key)
    except Invalid:
        return None


def runs_without_threads() -> bool:
    """Return whether this is uWSGI without threads, where nothing runs between requests.

    uWSGI then holds the GIL while it waits for a request: a thread runs only while a request runs or waits.
    That is the default before uWSGI 2.0.27. ``has_threads`` takes ``enable-threads``, ``threads`` and the
    version into account. uWSGI imports its module before the application.
    """
    return not getattr(sys.modules.get("uwsgi"), "has_threads", True)


def _renew_in(environ: Mapping[str, str]) -> Literal["background", "inline"]:
    is_frozen = any(environ.get(name) for name in _FROZEN_BETWEEN_REQUESTS) or runs_without_threads()
    return "inline" if is_frozen else "background"


def _realm_of(app_name: str) -> str:
    """Return the application's name with ``?`` for characters that a header cannot have."""
    return "".join(char if " " <= char <= "~" else "?" for char in app_name)
