"""The app clients with which this service calls: the default one and the named ones."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal

from ..formats.regions import prefix_domain_host, user_pools_api_urls
from ..outbound.token_source import TokenPolicy
from .objects import SecretFile, read_object
from .section import NOT_SHOWN, Level
from .table import BY_KEY, CLIENT_KEYS, nearest_known
from .values import Wrong, shown

SECRETS: Final = ("CLIENT_SECRET", "CLIENT_SECRET_FILE")
ENDPOINTS: Final = ("TOKEN_URL", "DOMAIN")
API: Final = "CLIENT_TOKEN_API"


@dataclass(frozen=True)
class ClientSettings:
    """One app client with which this service asks for tokens. ``name`` is ``None`` for the default client."""

    name: str | None
    client_id: str
    client_secret: tuple[str, ...] | Callable[[], str | Sequence[str]] | SecretFile = field(repr=False)
    token_urls: tuple[str, ...]
    client_auth: Literal["post", "basic"]
    scopes: tuple[str, ...]  # empty: asked without
    client_metadata: Mapping[str, str] | None
    policy: TokenPolicy
    token_headers: Mapping[str, str] | None = field(default=None, repr=False)
    client_token_api: bool = False  # token_urls are the user pools API's


@dataclass(frozen=True)
class Endpoint:
    """Where a client asks for tokens, and which of the two ways is spoken there."""

    urls: tuple[str, ...] = ()
    is_client_token_api: bool = False


def clients_of(top: Level, region: str | None) -> dict[str | None, ClientSettings]:
    """The default client, under ``None``, and the named ones. One that is not whole is reported."""
    named = _named_levels(top)
    shared = _own_endpoint(top, top, region)
    found: dict[str | None, ClientSettings] = {}
    if _has_default_client(top, alone=not named and "CLIENTS" not in top.wrong):
        _check_whole(top, shared)
        found[None] = _client_from(top, shared or Endpoint())
    for level in named:
        endpoint = _own_endpoint(level, top, region) or _inherited_endpoint(level, shared)
        _check_whole(level, endpoint)
        found[level.name] = _client_from(level, endpoint or Endpoint())
    return found


def _has_default_client(top: Level, *, alone: bool) -> bool:
    """Whether the top level has a client, be it half a one, and not only what named ones take from it."""
    if top.any_said("CLIENT_ID", *SECRETS):
        return True
    if not alone:
        return False
    if "SCOPES" in top.said and not top.any_said(*ENDPOINTS):
        top.report(
            "SCOPES",
            f"is what our own client asks for, and there is no client: set {top.label('CLIENT_ID')} too, "
            f"or {top.label('REQUIRED_SCOPES')} to demand scopes of callers",
        )
    return top.any_said(*ENDPOINTS) or bool(top[API])


def _named_levels(top: Level) -> list[Level]:
    levels = []
    for name, raw in (top["CLIENTS"] or {}).items():
        try:
            levels.append(_named_level(top, name, read_object(raw)))
        except Wrong as wrong:
            top.report_client(name, f"{NOT_SHOWN}: {wrong.advice}")
    return levels


def _named_level(top: Level, name: str, raw: Mapping[str, object]) -> Level:
    known: dict[str, object] = {}
    for key, value in raw.items():
        if key.upper() in known:
            top.report_client(name, f"has {key.upper()} twice, in capitals and otherwise: say it once")
        elif key.upper() in CLIENT_KEYS:
            known[key.upper()] = value
        elif key.upper() in BY_KEY:
            top.report_client(name, f"has {shown(key)}, which is for all: set {top.label(key.upper())}")
        else:
            nearest = nearest_known(key, CLIENT_KEYS)
            top.report_client(name, f"has {shown(key)}, which is not a setting{nearest}")
    return top.below(name, known)


def _own_endpoint(level: Level, top: Level, region: str | None) -> Endpoint | None:
    """The endpoint that this level names; ``None`` if it names none."""
    says_api = API in level.said and bool(level[API])
    if says_api and "DOMAIN" in level.said:
        level.report(
            "DOMAIN", f"is set, and {level.label(API)} too, which is for a pool without one: keep one"
        )
        return Endpoint(is_client_token_api=True)
    # A TOKEN_URL of its own is, under an API of the level above, that API's: an emulator's.
    if says_api or (level[API] and "TOKEN_URL" in level.said and "DOMAIN" not in level.said):
        return Endpoint(_api_urls(level, top, region), is_client_token_api=True)
    urls = _own_token_urls(level, top, region)
    return None if urls is None else Endpoint(urls)


def _inherited_endpoint(level: Level, shared: Endpoint | None) -> Endpoint | None:
    """The top level's, unless this level says no to its way."""
    if shared is not None and shared.is_client_token_api and not level[API]:
        return None
    return shared


def _api_urls(level: Level, top: Level, region: str | None) -> tuple[str, ...]:
    """The addresses of the user pools API: those of a TOKEN_URL, else the region's."""
    if "TOKEN_URL" in level.said:
        return level["TOKEN_URL"] or ()
    if region:
        return user_pools_api_urls(region)
    if not top.any_wrong("REGION", "USER_POOL_ID", "ISSUER"):
        level.report(API, f"is of some region: set {top.label('REGION')}")
    return ()


def _own_token_urls(level: Level, top: Level, region: str | None) -> tuple[str, ...] | None:
    """The token endpoints that this level names, by URL or by domain; ``None`` if it names none."""
    if not level.any_said(*ENDPOINTS):
        return None
    if level.said.issuperset(ENDPOINTS):
        level.report("DOMAIN", f"is set, and {level.label('TOKEN_URL')} too: keep one")
    if "TOKEN_URL" in level.said or level.any_wrong("DOMAIN"):
        urls: tuple[str, ...] | None = level["TOKEN_URL"]
        return urls or ()
    domain: str = level["DOMAIN"]
    if "." in domain:
        return (f"https://{domain}/oauth2/token",)
    if region:
        return (f"https://{prefix_domain_host(domain, region)}/oauth2/token",)
    if not top.any_wrong("REGION", "USER_POOL_ID", "ISSUER"):
        level.report("DOMAIN", f"is {shown(domain)}, a prefix in some region: set {top.label('REGION')}")
    return ()


def _check_whole(level: Level, endpoint: Endpoint | None) -> None:
    """Report what a client lacks. An endpoint that is wrong is not lacking: it was reported."""
    half = next((key for key in ("CLIENT_ID", *SECRETS, *ENDPOINTS, API) if key in level.said), None)
    why = f"though {level.label(half)} is" if half else "and a client needs it"
    if "CLIENT_ID" not in level.said:
        level.report("CLIENT_ID", f"is not set, {why}")
    if not level.any_said(*SECRETS):
        level.report("CLIENT_SECRET", f"is not set, {why}: set it, or {level.label('CLIENT_SECRET_FILE')}")
    if level.said.issuperset(SECRETS):
        level.report("CLIENT_SECRET_FILE", f"is set, and {level.label('CLIENT_SECRET')} too: keep one")
    if endpoint is None:
        level.report("TOKEN_URL", f"is not set, {why}: set it, or {level.label('DOMAIN')}")


def _client_from(level: Level, endpoint: Endpoint) -> ClientSettings:
    return ClientSettings(
        name=level.name,
        client_id=level["CLIENT_ID"],
        client_secret=level["CLIENT_SECRET_FILE"] or level["CLIENT_SECRET"],
        token_urls=endpoint.urls,
        client_auth=level["CLIENT_AUTH"],
        scopes=level["SCOPES"],
        client_metadata=level["CLIENT_METADATA"] or None,
        token_headers=level["TOKEN_HEADERS"] or None,
        policy=TokenPolicy(
            fresh_fraction=level["TOKEN_FRESH_FRACTION"],
            margin=level["TOKEN_MARGIN"],
            timeout=level["TIMEOUT"],
            refresh_deadline=level["REFRESH_DEADLINE"],
            scopes_missing=level["SCOPES_MISSING"],
        ),
        client_token_api=endpoint.is_client_token_api,
    )
