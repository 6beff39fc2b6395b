"""The app clients with which this service requests tokens: the default one and the named ones."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal

from ..formats.regions import prefix_domain_host, user_pools_api_urls
from ..outbound.token_source import TokenPolicy
from .objects import SecretFile, read_object
from .section import Section
from .table import BY_KEY, CLIENT_KEYS, nearest_known
from .values import Invalid, redacted

SECRETS: Final = ("CLIENT_SECRET", "CLIENT_SECRET_FILE")
ENDPOINTS: Final = ("TOKEN_URL", "DOMAIN")
API: Final = "CLIENT_TOKEN_API"


@dataclass(frozen=True)
class ClientSettings:
    """One app client with which this service requests tokens. ``name`` is ``None`` for the default client."""

    name: str | None
    client_id: str
    client_secret: tuple[str, ...] | Callable[[], str | Sequence[str]] | SecretFile = field(repr=False)
    token_urls: tuple[str, ...]
    client_auth: Literal["post", "basic"]
    scopes: tuple[str, ...]  # empty: requests name no scopes
    client_metadata: Mapping[str, str] | None
    policy: TokenPolicy
    token_headers: Mapping[str, str] | None = field(default=None, repr=False)
    client_token_api: bool = False  # then token_urls are those of the user pools API


@dataclass(frozen=True)
class Endpoint:
    """Where a client requests tokens, and with which of the two APIs."""

    urls: tuple[str, ...] = ()
    is_client_token_api: bool = False


def clients_of(top: Section, region: str | None) -> dict[str | None, ClientSettings]:
    """Return the default client, under ``None``, and the named ones. Report incomplete ones."""
    named = _named_sections(top)
    shared = _own_endpoint(top, top, region)
    found: dict[str | None, ClientSettings] = {}
    if _has_default_client(top, alone=not named and "CLIENTS" not in top.wrong):
        _check_complete(top, shared)
        found[None] = _client_from(top, shared or Endpoint())
    for section in named:
        endpoint = _own_endpoint(section, top, region) or _inherited_endpoint(section, shared)
        _check_complete(section, endpoint)
        found[section.name] = _client_from(section, endpoint or Endpoint())
    return found


def _has_default_client(top: Section, *, alone: bool) -> bool:
    """Return whether the top level sets a client of its own, even an incomplete one."""
    if top.any_set("CLIENT_ID", *SECRETS):
        return True
    if not alone:
        return False
    if "SCOPES" in top.set_keys and not top.any_set(*ENDPOINTS):
        top.report(
            "SCOPES",
            f"is set without a client: set {top.label('CLIENT_ID')} too; to require scopes of callers, "
            f"set {top.label('REQUIRED_SCOPES')}",
        )
    return top.any_set(*ENDPOINTS) or bool(top[API])


def _named_sections(top: Section) -> list[Section]:
    sections = []
    for name, raw in (top["CLIENTS"] or {}).items():
        try:
            sections.append(_named_section(top, name, read_object(raw)))
        except Invalid as wrong:
            top.report_client(name, wrong.sentence(hidden=True) + ".")
    return sections


def _named_section(top: Section, name: str, raw: Mapping[str, object]) -> Section:
    known: dict[str, object] = {}
    for key, value in raw.items():
        if key.upper() in known:
            top.report_client(name, f"has {key.upper()} twice, in different case: keep one.")
        elif key.upper() in CLIENT_KEYS:
            known[key.upper()] = value
        elif key.upper() in BY_KEY:
            label = top.label(key.upper())
            top.report_client(name, f"has {redacted(key)}, a setting of the whole application: set {label}.")
        else:
            nearest = nearest_known(key, CLIENT_KEYS)
            top.report_client(name, f"has the unknown setting {redacted(key)}{nearest}")
    return top.below(name, known)


def _own_endpoint(section: Section, top: Section, region: str | None) -> Endpoint | None:
    """Return the endpoint that this section sets, or ``None``."""
    sets_api = API in section.set_keys and bool(section[API])
    if sets_api and "DOMAIN" in section.set_keys:
        section.report(
            "DOMAIN", f"is set together with {section.label(API)}, which needs no domain: keep one"
        )
        return Endpoint(is_client_token_api=True)
    # If the top level sets the API, a TOKEN_URL of this section is that API's address, at an emulator.
    if sets_api or (section[API] and "TOKEN_URL" in section.set_keys and "DOMAIN" not in section.set_keys):
        return Endpoint(_api_urls(section, top, region), is_client_token_api=True)
    urls = _own_token_urls(section, top, region)
    return None if urls is None else Endpoint(urls)


def _inherited_endpoint(section: Section, shared: Endpoint | None) -> Endpoint | None:
    """Return the top level's endpoint, unless this section turns its API off."""
    if shared is not None and shared.is_client_token_api and not section[API]:
        return None
    return shared


def _api_urls(section: Section, top: Section, region: str | None) -> tuple[str, ...]:
    """Return the addresses of the user pools API: those in TOKEN_URL, else the Region's."""
    if "TOKEN_URL" in section.set_keys:
        return section["TOKEN_URL"] or ()
    if region:
        return user_pools_api_urls(region)
    if not top.any_wrong("REGION", "USER_POOL_ID", "ISSUER"):
        section.report(API, f"needs a Region: set {top.label('REGION')}")
    return ()


def _own_token_urls(section: Section, top: Section, region: str | None) -> tuple[str, ...] | None:
    """Return the token endpoints that this section sets, by URL or by domain, or ``None``."""
    if not section.any_set(*ENDPOINTS):
        return None
    if section.set_keys.issuperset(ENDPOINTS):
        section.report("DOMAIN", f"is set together with {section.label('TOKEN_URL')}: keep one")
    if "TOKEN_URL" in section.set_keys or section.any_wrong("DOMAIN"):
        urls: tuple[str, ...] | None = section["TOKEN_URL"]
        return urls or ()
    domain: str = section["DOMAIN"]
    if "." in domain:
        return (f"https://{domain}/oauth2/token",)
    if region:
        return (f"https://{prefix_domain_host(domain, region)}/oauth2/token",)
    if not top.any_wrong("REGION", "USER_POOL_ID", "ISSUER"):
        section.report(
            "DOMAIN", f"is {redacted(domain)}, a prefix that needs a Region: set {top.label('REGION')}"
        )
    return ()


def _check_complete(section: Section, endpoint: Endpoint | None) -> None:
    """Report what a client lacks. An invalid endpoint has been reported already."""
    half = next((key for key in ("CLIENT_ID", *SECRETS, *ENDPOINTS, API) if key in section.set_keys), None)
    why = f"{section.label(half)} needs it" if half else "a client needs it"
    if "CLIENT_ID" not in section.set_keys:
        section.report("CLIENT_ID", f"is not set, but {why}")
    if not section.any_set(*SECRETS):
        section.report(
            "CLIENT_SECRET", f"is not set, but {why}: set it, or {section.label('CLIENT_SECRET_FILE')}"
        )
    if section.set_keys.issuperset(SECRETS):
        section.report(
            "CLIENT_SECRET_FILE", f"is set together with {section.label('CLIENT_SECRET')}: keep one"
        )
    if endpoint is None:
        section.report("TOKEN_URL", f"is not set, but {why}: set it, or {section.label('DOMAIN')}")


def _client_from(section: Section, endpoint: Endpoint) -> ClientSettings:
    return ClientSettings(
        name=section.name,
        client_id=section["CLIENT_ID"],
        client_secret=section["CLIENT_SECRET_FILE"] or section["CLIENT_SECRET"],
        token_urls=endpoint.urls,
        client_auth=section["CLIENT_AUTH"],
        scopes=section["SCOPES"],
        client_metadata=section["CLIENT_METADATA"] or None,
        token_headers=section["TOKEN_HEADERS"] or None,
        policy=TokenPolicy(
            fresh_fraction=section["TOKEN_FRESH_FRACTION"],
            margin=section["TOKEN_MARGIN"],
            timeout=section["TIMEOUT"],
            refresh_deadline=section["REFRESH_DEADLINE"],
            scopes_missing=section["SCOPES_MISSING"],
        ),
        client_token_api=endpoint.is_client_token_api,
    )
