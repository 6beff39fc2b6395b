"""Every setting once: its key, its type in words, its default, the reader that checks it, and what it is for.

``settings_from`` reads by this table, and the settings reference is made from it.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any, Final

from . import objects, values

PREFIX: Final = "COGNITO_M2M_"


@dataclass(frozen=True)
class Setting:
    """One row of :data:`SETTINGS`.

    Attributes:
        key: without the prefix ``COGNITO_M2M_``.
        kind: its type, in words.
        default: what holds when nothing is said; ``None`` where that depends on something else.
        read: checks a raw value and gives the one that is used.
        doc: what it is for.
        default_text: the default in words, where ``default`` does not say it.
        of_client: may also stand in an entry of ``CLIENTS``.
        inherited: a named client that does not say it takes the top level's.
        secret: its value is never shown.
        is_url: holds URLs: ``read`` takes the hosts of ``ALLOW_HTTP_HOSTS`` too.
        is_check: an empty value is an error, because it would remove a check. Elsewhere ``None`` and
            blank text count as unset.
    """

    key: str
    kind: str
    default: Any
    read: Callable[..., Any]
    doc: str
    default_text: str = ""
    of_client: bool = False
    inherited: bool = True
    secret: bool = False
    is_url: bool = False
    is_check: bool = False


_HOUR, _DAY, _YEAR = 3600, 86_400, 31_536_000

_RECEIVING = (
    Setting(
        "USER_POOL_ID", "str or list", (), values.list_of(values.read_pool_id),
        "Tokens of any of these user pools are trusted. With ISSUER alone it is the last part of its path.",
    ),
    Setting(
        "REGION", "str", None, values.read_region,
        "The pool's region, where its id does not say it; that of a prefix DOMAIN where there is no pool.",
        default_text="from the pool id",
    ),
    Setting(
        "REPLICA_REGIONS", "str or list", (), values.list_of(values.read_region),
        "Cognito multi-Region: more regions whose JWKS serve the same pool.",
    ),
    Setting(
        "ISSUER", "URL or {pool id: URL}", None, values.by_pool(values.read_issuer),
        "Replaces the derived issuers, for an emulator; compared as text. Of several pools: {pool_id: URL}.",
        default_text="derived", is_url=True,
    ),
    Setting(
        "JWKS_URL", "URL or {pool id: URL}", None, values.by_pool(values.read_url),
        "Replaces the derived address of the keys, which follows ISSUER. Of several pools: {pool_id: URL}.",
        default_text="derived", is_url=True,
    ),
    Setting(
        "ALLOWED_CLIENT_IDS", "str, list or callable", None, objects.read_allowed_clients,
        "The app clients that may call, or a callable (client_id) -> bool. '*' says aloud that any may.",
        default_text="any, with a warning", is_check=True,
    ),
    Setting(
        "MACHINE_TOKENS_ONLY", "bool", True, values.read_flag,
        "Refuses the access tokens of people, which a pool with sign-in issues with the same keys.",
    ),
    Setting(
        "TOKEN_CHECK", "callable", None, objects.read_callable,
        "Called with the ValidatedAccessToken after every other check; only a true answer accepts the token.",
    ),
    Setting(
        "JWKS", "dict, JSON or path", None, objects.read_pinned_keys,
        "Pinned keys, for a service without a way out, or as the last resort when the URL can't be had. "
        "With several pools, {pool_id: keys}.",
    ),
    Setting(
        "HEADER_NAME", "str", "Authorization", values.read_header_name,
        "The header that carries the token, for a proxy that owns Authorization.",
    ),
    Setting(
        "REQUIRED_SCOPES", "str or list", frozenset(), values.set_of(values.read_scopes),
        "Demanded of every token, on top of the view's own. White space separates scopes in a text.",
        is_check=True,
    ),
    Setting(
        "SCOPE_MATCH", "'all' or 'any'", "all", values.one_of("all", "any"),
        "Whether a token needs all of REQUIRED_SCOPES or any of them.",
    ),
    Setting(
        "AUDIENCE", "str or list", frozenset(), values.set_of(values.read_names),
        "A token's aud must hold one of these.",
        default_text="not checked", is_check=True,
    ),
    Setting(
        "LEEWAY", "seconds, 0 to 600", 10.0, values.number(600, at_least=0),
        "Clock skew that is tolerated on exp and nbf.",
    ),
    Setting(
        "KEYS_FRESH_FOR", "seconds", 3600.0, values.number(_YEAR),
        "After this age, times 0.93 to 1.07, keys are renewed in the background. Not above KEYS_USABLE_FOR.",
    ),
    Setting(
        "KEYS_USABLE_FOR", "seconds", 86400.0, values.number(_YEAR),
        "After this age keys are not used any more.",
    ),
    Setting(
        "UNKNOWN_KEY_COOLDOWN", "seconds", 10.0, values.number(_DAY),
        "At most one JWKS download per pool in this time for keys that are not known.",
    ),
    Setting(
        "VERIFIED_TOKENS", "int, 0 to 10000000", 4096, values.whole_number(10_000_000),
        "How many checked tokens are remembered; 0 turns it off.",
    ),
    Setting(
        "REALM", "str", None, values.read_realm,
        "The realm of a challenge (WWW-Authenticate).", default_text="the app's name",
    ),
    Setting(
        "PROBLEM_TYPE_BASE", "URI", None, values.read_type_base,
        "What a problem's type begins with; the reason follows.", default_text="about:blank for all",
    ),
    Setting(
        "RESOURCE", "URL", None, values.read_url,
        "This service's own identifier: turns the RFC 9728 document on.",
        is_url=True,
    ),
    Setting(
        "RESOURCE_METADATA", "dict", None, objects.read_json_object,
        "More members for the RFC 9728 document.",
    ),
)  # fmt: skip

_CALLING = (
    Setting(
        "CLIENT_ID", "str", None, values.read_client_id,
        "The app client with which this service asks for tokens.",
        of_client=True, inherited=False,
    ),
    Setting(
        "CLIENT_SECRET", "str, list or callable", None, objects.read_secret,
        "Its secret. Of a list the next is tried on invalid_client; a callable is asked again.",
        of_client=True, inherited=False, secret=True,
    ),
    Setting(
        "CLIENT_SECRET_FILE", "path", None, objects.read_secret_file,
        "A file with the secret, read again after invalid_client. Instead of CLIENT_SECRET.",
        of_client=True, inherited=False,
    ),
    Setting(
        "DOMAIN", "str", None, values.read_domain,
        "The pool's prefix domain ('acme'), or a custom domain ('auth.example.com').",
        of_client=True,
    ),
    Setting(
        "TOKEN_URL", "URL or list", None, values.read_urls,
        "The token endpoints, tried in order. Instead of DOMAIN.",
        of_client=True, is_url=True,
    ),
    Setting(
        "CLIENT_TOKEN_API", "bool", False, values.read_flag,
        "For a pool without a domain: tokens from GetClientToken of the user pools API. Instead of DOMAIN.",
        of_client=True,
    ),
    Setting(
        "CLIENT_AUTH", "'post' or 'basic'", "post", values.one_of("post", "basic"),
        "Where id and secret stand: in the body (client_secret_post) or in a header (client_secret_basic).",
        of_client=True,
    ),
    Setting(
        "SCOPES", "str or list", (), values.read_scopes,
        "What is asked for when a call names no scopes. White space separates scopes in a text.",
        default_text="asked without, and Cognito grants all that the client may have", of_client=True,
    ),
    Setting(
        "SCOPES_MISSING", "'warn' or 'raise'", "warn", values.one_of("warn", "raise"),
        "What to do when Cognito grants fewer scopes than were asked for.",
        of_client=True,
    ),
    Setting(
        "CLIENT_METADATA", "dict of texts", None, objects.read_texts_by_name,
        "Sent as aws_client_metadata.",
        of_client=True,
    ),
    Setting(
        "TOKEN_HEADERS", "dict of texts", None, objects.read_headers,
        "More headers for requests to the token endpoint, such as the one that a WAF before it requires.",
        of_client=True, secret=True,
    ),
    Setting(
        "TOKEN_FRESH_FRACTION", "above 0, at most 1", 0.75, values.number(1),
        "A token is renewed after this part of its life.",
        of_client=True,
    ),
    Setting(
        "TOKEN_MARGIN", "seconds", 30.0, values.number(_DAY, at_least=0),
        "A token is not handed out with less than this left; at most a tenth of its life.",
        of_client=True,
    ),
    Setting(
        "CLIENTS", "dict of dicts", None, objects.read_object,
        "More clients by name, each a dict of a client's keys. What it does not say the top level says.",
        secret=True,
    ),
)  # fmt: skip

_BOTH = (
    Setting(
        "ALLOW_HTTP_HOSTS", "str or list", (), values.read_http_hosts,
        "Hosts that may be reached over plain http besides loopback, for a service mesh or docker-compose. "
        "'*.svc.cluster.local' is any name below svc.cluster.local.",
    ),
    Setting(
        "TIMEOUT", "seconds, or (connect, read)", (3.05, 5.0), values.timeout(_HOUR),
        "Connect and read of one request.",
        of_client=True,
    ),
    Setting(
        "REFRESH_DEADLINE", "seconds", 10.0, values.number(_HOUR),
        "All that one refresh may take, for its leader and for who waits.",
        of_client=True,
    ),
    Setting(
        "STORE_TIMEOUT", "seconds", 0.25, values.number(_HOUR),
        "One call of the shared store.",
    ),
    Setting(
        "RENEW", "'background' or 'inline'", None, values.one_of("background", "inline"),
        "'inline' where a process is frozen between requests.",
        default_text="'background', and 'inline' when AWS_LAMBDA_FUNCTION_NAME or K_SERVICE is set, or under "
        "uWSGI without threads",
    ),
    Setting(
        "CACHE_KEY", "str or bytes", None, objects.read_cache_key,
        "Seals what is shared. At least 16 bytes, else it counts as none.",
        default_text="SECRET_KEY", secret=True,
    ),
)  # fmt: skip

SETTINGS: tuple[Setting, ...] = _RECEIVING + _CALLING + _BOTH

BY_KEY: dict[str, Setting] = {setting.key: setting for setting in SETTINGS}
CLIENT_KEYS: tuple[str, ...] = tuple(setting.key for setting in SETTINGS if setting.of_client)


def nearest_known(key: str, known: Collection[str], prefix: str = "") -> str:
    """The end of a sentence about an unknown key, or nothing where no known one is like it."""
    near = difflib.get_close_matches(key.upper().removeprefix(PREFIX), known, n=1)
    return f": the nearest that is one is {prefix}{near[0]}" if near else ""
