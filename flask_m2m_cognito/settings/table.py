"""Lists every setting: its key, type, default, reader and description.

``settings_from`` reads by this table, and the settings reference in the documentation is generated from it.
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
        key: its name without the prefix ``COGNITO_M2M_``.
        kind: its type, in words.
        default: its value when it is unset; ``None`` if that depends on something else.
        read: checks a raw value and returns the one that is used.
        doc: its description.
        default_text: the default in words, if ``default`` does not show it.
        of_client: an entry of ``CLIENTS`` may set it, too.
        inherited: a named client that does not set it uses the top level's value.
        secret: its value is never shown.
        is_url: its value contains URLs. ``read`` also takes the hosts in ``ALLOW_HTTP_HOSTS``.
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
        "The user pools whose tokens are trusted. If unset, the last part of ISSUER is the pool id.",
    ),
    Setting(
        "REGION", "str", None, values.read_region,
        "The Region of the pool, if its id does not contain it, or of a prefix DOMAIN if there is no pool.",
        default_text="from the pool id",
    ),
    Setting(
        "REPLICA_REGIONS", "str or list", (), values.list_of(values.read_region),
        "More Regions that serve the keys of the same pool (Cognito multi-Region).",
    ),
    Setting(
        "ISSUER", "URL or {pool id: URL}", None, values.by_pool(values.read_issuer),
        "Replaces the derived issuers, for an emulator. The iss claim must be exactly this text. "
        "For several pools: {pool_id: URL}.",
        default_text="derived", is_url=True,
    ),
    Setting(
        "JWKS_URL", "URL or {pool id: URL}", None, values.by_pool(values.read_url),
        "Replaces the address of the keys, which is derived from ISSUER. For several pools: {pool_id: URL}.",
        default_text="derived", is_url=True,
    ),
    Setting(
        "ALLOWED_CLIENT_IDS", "str, list or callable", None, objects.read_allowed_clients,
        "The app clients that may call, or a callable (client_id) -> bool. '*' explicitly allows any client.",
        default_text="any, with a warning", is_check=True,
    ),
    Setting(
        "MACHINE_TOKENS_ONLY", "bool", True, values.read_flag,
        "Reject user access tokens, which a pool with sign-in signs with the same keys.",
    ),
    Setting(
        "TOKEN_CHECK", "callable", None, objects.read_callable,
        "Called with the ValidatedAccessToken after all other checks. Only a true result accepts the token.",
    ),
    Setting(
        "JWKS", "dict, JSON or path", None, objects.read_pinned_keys,
        "Pinned keys, for a service without internet access, or as a fallback if the keys cannot be fetched. "
        "For several pools: {pool_id: keys}.",
    ),
    Setting(
        "HEADER_NAME", "str", "Authorization", values.read_header_name,
        "The header that has the token, if a proxy uses Authorization for itself.",
    ),
    Setting(
        "REQUIRED_SCOPES", "str or list", frozenset(), values.set_of(values.read_scopes),
        "Scopes that every token must have, besides those of the view. Whitespace separates scopes in text.",
        is_check=True,
    ),
    Setting(
        "SCOPE_MATCH", "'all' or 'any'", "all", values.one_of("all", "any"),
        "Whether a token must have all of REQUIRED_SCOPES or any of them.",
    ),
    Setting(
        "AUDIENCE", "str or list", frozenset(), values.set_of(values.read_names),
        "The aud claim of a token must contain one of these.",
        default_text="not checked", is_check=True,
    ),
    Setting(
        "LEEWAY", "seconds, 0 to 600", 10.0, values.number(600, at_least=0),
        "The clock skew that is tolerated when exp and nbf are checked.",
    ),
    Setting(
        "KEYS_FRESH_FOR", "seconds", 3600.0, values.number(_YEAR),
        "Keys are renewed in the background after this age, times a random factor from 0.93 to 1.07. "
        "At most KEYS_USABLE_FOR.",
    ),
    Setting(
        "KEYS_USABLE_FOR", "seconds", 86400.0, values.number(_YEAR),
        "Keys are no longer used after this age.",
    ),
    Setting(
        "UNKNOWN_KEY_COOLDOWN", "seconds", 10.0, values.number(_DAY),
        "Unknown keys trigger at most one JWKS download per pool in this time.",
    ),
    Setting(
        "REVOCATIONS", "bool", False, values.read_flag,
        "Reject the tokens that `flask m2m revoke` revokes. Requires a shared cache, and CACHE_KEY or "
        "SECRET_KEY.",
    ),
    Setting(
        "VERIFIED_TOKENS", "int, 0 to 10000000", 4096, values.whole_number(10_000_000),
        "The maximum number of verified tokens in memory, whose signatures are not checked again. "
        "0 turns this off.",
    ),
    Setting(
        "REALM", "str", None, values.read_realm,
        "The realm in the WWW-Authenticate header.", default_text="the name of the application",
    ),
    Setting(
        "PROBLEM_TYPE_BASE", "URI", None, values.read_type_base,
        "The beginning of the type in problem bodies (RFC 9457). The reason is appended.",
        default_text="about:blank for all",
    ),
    Setting(
        "RESOURCE", "URL", None, values.read_url,
        "The identifier of this service. If set, the metadata document of RFC 9728 is served.",
        is_url=True,
    ),
    Setting(
        "RESOURCE_METADATA", "dict", None, objects.read_json_object,
        "Additional members of the metadata document of RFC 9728.",
    ),
)  # fmt: skip

_CALLING = (
    Setting(
        "CLIENT_ID", "str", None, values.read_client_id,
        "The id of the app client with which this service requests tokens.",
        of_client=True, inherited=False,
    ),
    Setting(
        "CLIENT_SECRET", "str, list or callable", None, objects.read_secret,
        "Its secret. After invalid_client the next secret of a list is tried, or a callable is called again.",
        of_client=True, inherited=False, secret=True,
    ),
    Setting(
        "CLIENT_SECRET_FILE", "path", None, objects.read_secret_file,
        "A file that contains only the secret, instead of CLIENT_SECRET. Read again after invalid_client.",
        of_client=True, inherited=False,
    ),
    Setting(
        "DOMAIN", "str", None, values.read_domain,
        "The prefix of the pool's domain ('acme'), or a custom domain ('auth.example.com').",
        of_client=True,
    ),
    Setting(
        "TOKEN_URL", "URL or list", None, values.read_urls,
        "The token endpoints, tried in order. Use it instead of DOMAIN.",
        of_client=True, is_url=True,
    ),
    Setting(
        "CLIENT_TOKEN_API", "bool", False, values.read_flag,
        "Request tokens with GetClientToken of the user pools API, for a pool without a domain.",
        of_client=True,
    ),
    Setting(
        "CLIENT_AUTH", "'post' or 'basic'", "post", values.one_of("post", "basic"),
        "Where to send id and secret: in the body (client_secret_post) or in a header (client_secret_basic).",
        of_client=True,
    ),
    Setting(
        "SCOPES", "str or list", (), values.read_scopes,
        "The scopes to request when a call names none. Whitespace separates scopes in text.",
        default_text="none, and Cognito grants all scopes that are allowed for the client", of_client=True,
    ),
    Setting(
        "SCOPES_MISSING", "'warn' or 'raise'", "warn", values.one_of("warn", "raise"),
        "What to do if Cognito grants fewer scopes than requested: log a warning, or raise.",
        of_client=True,
    ),
    Setting(
        "CLIENT_METADATA", "dict of texts", None, objects.read_texts_by_name,
        "Sent to Cognito with each token request, as aws_client_metadata, for the pool's Lambda triggers.",
        of_client=True,
    ),
    Setting(
        "TOKEN_HEADERS", "dict of texts", None, objects.read_headers,
        "Additional headers for requests to the token endpoint, such as one that a WAF requires.",
        of_client=True, secret=True,
    ),
    Setting(
        "TOKEN_FRESH_FRACTION", "above 0, at most 1", 0.75, values.number(1, unit=""),
        "A token is renewed after this fraction of its lifetime, times a random factor from 0.93 to 1.07.",
        of_client=True,
    ),
    Setting(
        "TOKEN_MARGIN", "seconds", 30.0, values.number(_DAY, at_least=0),
        "A token is no longer used if less than this time is left. "
        "The margin is at most a tenth of the lifetime of the token.",
        of_client=True,
    ),
    Setting(
        "CLIENTS", "dict of dicts", None, objects.read_object,
        "Additional app clients: a dict of their settings for each name. If a client does not set a "
        "key, the top-level setting applies, except for the id and the secret.",
        secret=True,
    ),
)  # fmt: skip

_BOTH = (
    Setting(
        "ALLOW_HTTP_HOSTS", "str or list", (), values.read_http_hosts,
        "Hosts that may be reached over plain http besides loopback, for a service mesh or docker-compose. "
        "'*.svc.cluster.local' allows any name below svc.cluster.local.",
    ),
    Setting(
        "TIMEOUT", "seconds, or (connect, read)", (3.05, 5.0), values.timeout(_HOUR),
        "The timeouts of one HTTP request to Cognito.",
        of_client=True,
    ),
    Setting(
        "REFRESH_DEADLINE", "seconds", 10.0, values.number(_HOUR),
        "The time limit of one refresh of keys or of a token, for all threads that wait for it.",
        of_client=True,
    ),
    Setting(
        "STORE_TIMEOUT", "seconds", 0.25, values.number(_HOUR),
        "The timeout of one call to the shared cache.",
    ),
    Setting(
        "RENEW", "'background' or 'inline'", None, values.one_of("background", "inline"),
        "How keys and tokens are renewed. Use 'inline' if the process is frozen between requests.",
        default_text="'background', but 'inline' if AWS_LAMBDA_FUNCTION_NAME or K_SERVICE is set, or under "
        "uWSGI without threads",
    ),
    Setting(
        "CACHE_KEY", "str or bytes", None, objects.read_cache_key,
        "Encrypts what is put into the shared cache. Ignored if it is shorter than 16 bytes.",
        default_text="SECRET_KEY", secret=True,
    ),
)  # fmt: skip

SETTINGS: tuple[Setting, ...] = _RECEIVING + _CALLING + _BOTH

BY_KEY: dict[str, Setting] = {setting.key: setting for setting in SETTINGS}
CLIENT_KEYS: tuple[str, ...] = tuple(setting.key for setting in SETTINGS if setting.of_client)


def nearest_known(key: str, known: Collection[str], prefix: str = "") -> str:
    """Return the end of a sentence about an unknown key, with the most similar known key if any."""
    near = difflib.get_close_matches(key.upper().removeprefix(PREFIX), known, n=1)
    return f". Did you mean {prefix}{near[0]}?" if near else "."
