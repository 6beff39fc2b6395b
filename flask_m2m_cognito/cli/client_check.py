"""Whether each client gets a token, and one with the scopes that it asks for.

It asks Cognito anew, past what is remembered and shared, since that is the question. Cognito bills it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..app.app_m2m import AppM2M
from ..exceptions import CognitoTokenRequestError
from ..formats.scopes import parse_scopes
from ..formats.strict_json import decode_base64url, parse_object
from ..outbound.token_endpoint import TokenResponse
from ..remote.clock import Deadline
from ..settings.app_settings import PREFIX, ClientSettings
from .finding import Finding, demoted, failed, ok, warning
from .network import Network, Place
from .words import duration, listed

MOST_SCOPES = 10
"""How many scopes are asked for one by one, to find the one that is not allowed."""

_ERRORS: dict[str, tuple[str, str]] = {
    "invalid_client": (
        "Cognito does not know {client}, or not with this secret",
        "In the Cognito console open App clients, choose this one, and copy the client id into "
        "{CLIENT_ID} and the client secret into {CLIENT_SECRET}, whole and without quotes or spaces. "
        "{TOKEN_URL} (or DOMAIN) must belong to the same user pool.",
    ),
    "unauthorized_client": (
        "Cognito gives {client} no tokens for itself",
        "In the Cognito console open App clients, this one, Login pages, Edit, and choose the OAuth grant "
        "type 'Client credentials' with at least one custom scope. Only an app client with a secret can "
        "have it.",
    ),
    "TooManyRequestsException": (
        "Cognito gets more token requests than your account may make",
        "Wait a minute. If it stays so, something asks for tokens over and over: look at the service's "
        "log, and at the quotas of Amazon Cognito in the AWS console.",
    ),
}
_ERRORS["unsupported_grant_type"] = _ERRORS["unauthorized_client"]

_SCOPE_NOT_ALLOWED = (
    "In the Cognito console open App clients, this one, Login pages, Edit, and tick these under Custom "
    "scopes. If they are not in the list, they do not exist yet: add them under Branding, Domain, "
    "Resource servers (`flask m2m scopes` on the service that is called prints them). Or leave them out "
    "of {SCOPES}."
)
_WRONG_DOMAIN = (
    "Is {TOKEN_URL} (or DOMAIN) your pool's? In the Cognito console it stands under Branding, Domain; the "
    "address ends with /oauth2/token. For a pool without a domain make one there, or set {CLIENT_TOKEN_API}."
)
_WRONG_API = (
    "Is {TOKEN_URL} the user pools API of your pool's Region? Unless it is set it is "
    "https://cognito-idp.<region>.amazonaws.com/. For a pool with a domain leave out {CLIENT_TOKEN_API}, and "
    "set DOMAIN."
)
_SECRET_NOT_READ = "Look at what gives {CLIENT_SECRET}: this machine's rights to it, and its name."


def client_findings(parts: AppM2M, client: ClientSettings, network: Network) -> list[Finding]:
    """What was found of one client: the way to its token endpoints, its token, the token's scopes."""
    return [*_way_findings(client, network), *_token_findings(parts, client, network)]


def advice_for(error: CognitoTokenRequestError, client: ClientSettings, asked: Sequence[str] | None) -> str:
    """Return what to do after a token request failed.

    Args:
        asked: the scopes of the command line. ``flask m2m check`` asks for the client's own ones only, and
            so passes where one of these is not allowed. ``None``: there were none.
    """
    if not asked or not _is_of_scopes(error):
        return "`flask m2m check` says what to do."
    which = listed(asked) if len(asked) == 1 else f"one or more of {listed(asked)}"
    advice = _SCOPE_NOT_ALLOWED.format(SCOPES="--scopes")
    return f"{_subject(client)} may not have {which}. {advice}"


def client_name(client: ClientSettings) -> str:
    """The client in a sentence, by the application's name for it and by its id, which Cognito knows."""
    name = "the default client" if client.name is None else f"client {client.name!r}"
    return f"{name} ({client.client_id})"


def _subject(client: ClientSettings) -> str:
    name = client_name(client)
    return name[0].upper() + name[1:]


def _way_findings(client: ClientSettings, network: Network) -> list[Finding]:
    findings = [line for url in client.token_urls for line in network.look_at(url)]
    # One that answers is enough: they are asked in order.
    return demoted(findings) if any(map(network.reached, client.token_urls)) else findings


def _token_findings(parts: AppM2M, client: ClientSettings, network: Network) -> list[Finding]:
    if not any(map(network.reached, client.token_urls)):
        hosts = listed({Place.of(url).host for url in client.token_urls})
        return [
            failed("token", f"No token for {client_name(client)}: {hosts} can't be reached.", "See above.")
        ]
    try:
        response = _asked(parts, client, client.scopes)
    except CognitoTokenRequestError as error:
        return [_failed_token(parts, client, error)]
    finally:
        offset = parts.health()["clock_offset"]
        network.offset = network.offset if offset is None else offset
    return _granted(client, response)


def _asked(parts: AppM2M, client: ClientSettings, scopes: tuple[str, ...]) -> TokenResponse:
    return parts.client(client.name).request_token(
        scopes, client.policy.timeout, Deadline(client.policy.refresh_deadline)
    )


def _granted(client: ClientSettings, response: TokenResponse) -> list[Finding]:
    granted = _scopes_in(response)
    life = f"; it lives {duration(response.expires_in)}" if response.expires_in else ""
    token = ok("token", f"A token for {client_name(client)}{life}.")
    if granted is None:
        return [token]
    missing = set(client.scopes) - granted
    if not missing:
        return [token, ok("scopes", f"{_subject(client)} is granted {listed(granted)}.")]
    make = failed if client.policy.scopes_missing == "raise" else warning
    said = f"{_subject(client)} asks for {listed(missing)}, and Cognito grants a token without."
    return [token, make("scopes", said, _SCOPE_NOT_ALLOWED.format_map(_labels(client)))]


def _failed_token(parts: AppM2M, client: ClientSettings, error: CognitoTokenRequestError) -> Finding:
    labels = _labels(client)
    if _is_of_scopes(error):
        refused = _refused_scopes(parts, client)
        said = f"{_subject(client)} may not have {listed(refused, 'or')} ({error.error_code})."
        return failed("scopes", said, _SCOPE_NOT_ALLOWED.format_map(labels))
    if error.error_code in _ERRORS:
        said, advice = _ERRORS[error.error_code]
        return failed(
            "token",
            f"{said.format(client=client_name(client))} ({error.error_code}).",
            advice.format_map(labels),
        )
    if str(error).startswith("The client secret"):
        return failed(
            "token", f"No token for {client_name(client)}: {error}", _SECRET_NOT_READ.format_map(labels)
        )
    urls = listed(client.token_urls)
    said = f"No token for {client_name(client)} from {urls}: {error}"
    advice = _WRONG_API if client.client_token_api else _WRONG_DOMAIN
    return failed("token", f"{said.rstrip('.')}.", advice.format_map(labels))


def _is_of_scopes(error: CognitoTokenRequestError) -> bool:
    """GetClientToken has no error of its own for them: it says in words which parameter is invalid."""
    in_words = (error.error_description or "").lower()
    return error.error_code == "invalid_scope" or (
        error.error_code == "invalid_request" and "scope" in in_words
    )


def _refused_scopes(parts: AppM2M, client: ClientSettings) -> list[str]:
    """Cognito does not say which one it was."""
    if not 1 < len(client.scopes) <= MOST_SCOPES:
        return list(client.scopes)
    refused = [scope for scope in client.scopes if not _is_granted(parts, client, scope)]
    return refused or list(client.scopes)


def _is_granted(parts: AppM2M, client: ClientSettings, scope: str) -> bool:
    try:
        _asked(parts, client, (scope,))
    except CognitoTokenRequestError as error:
        return not _is_of_scopes(error)
    return True


def _scopes_in(response: TokenResponse) -> frozenset[str] | None:
    """What our own new token says that it may do; ``None``, if it does not say."""
    try:
        claims: Mapping[str, Any] = parse_object(
            decode_base64url(response.access_token.split(".")[1].encode("ascii"))
        )
    except (ValueError, IndexError):
        claims = {}
    scope = claims.get("scope", response.raw.get("scope"))
    return parse_scopes(scope) if isinstance(scope, str) else None


_NAMED = ("CLIENT_ID", "CLIENT_SECRET", "CLIENT_TOKEN_API", "SCOPES", "TOKEN_URL")


def _labels(client: ClientSettings) -> dict[str, str]:
    """The names of its settings."""
    where = PREFIX if client.name is None else f'{PREFIX}CLIENTS["{client.name}"].'
    return {key: where + key for key in _NAMED}
