"""Check that each client gets a token with the scopes that it requests.

The check ignores cached tokens and requests a new one, to test the token endpoint. Cognito bills it.
"""

from __future__ import annotations

from collections.abc import Sequence

import jwt

from ..app.app_m2m import AppM2M
from ..exceptions import CognitoTokenRequestError
from ..formats.scopes import parse_scopes
from ..outbound.token_answer import TokenResponse
from ..remote.clock import Deadline
from ..settings.app_settings import PREFIX, ClientSettings
from .finding import Finding, demote, failed, ok, warning
from .network import Network, Place
from .words import duration, listed

MOST_SCOPES = 10
"""How many scopes are requested one by one, to find those that are not allowed."""

_ERRORS: dict[str, tuple[str, str]] = {
    "invalid_client": (
        "Cognito rejected the client id or the secret of {client}",
        "In the Cognito console, open App clients and this client. Copy the client id into {CLIENT_ID} and "
        "the client secret into {CLIENT_SECRET}, complete and without quotes or spaces. "
        "{TOKEN_URL} (or DOMAIN) must belong to the same user pool.",
    ),
    "unauthorized_client": (
        "Cognito does not allow {client} to use the client-credentials grant",
        "In the Cognito console, open App clients, this client, Login pages, Edit. Select the OAuth "
        "grant type 'Client credentials' and at least one custom scope. Only an app client with a secret can "
        "have it.",
    ),
    "TooManyRequestsException": (
        "Your AWS account sends more token requests than its quota allows",
        "Wait a minute. If the error persists, something requests tokens again and again: look at the log of "
        "the service, and at the quotas of Amazon Cognito in the AWS console.",
    ),
}
_ERRORS["unsupported_grant_type"] = _ERRORS["unauthorized_client"]

_SCOPE_NOT_ALLOWED = (
    "In the Cognito console, open App clients, this client, Login pages, Edit, and select these scopes under "
    "Custom scopes. If the list lacks them, create them first under Branding, Domain, Resource servers "
    "(`flask m2m scopes` in the called service prints them). Or remove them from {SCOPES}."
)
_WRONG_DOMAIN = (
    "Check that {TOKEN_URL} (or DOMAIN) belongs to your pool. The Cognito console shows the domain under "
    "Branding, Domain; a token URL ends with /oauth2/token. If the pool has no domain, create one there, or "
    "set {CLIENT_TOKEN_API}."
)
_WRONG_API = (
    "Check that {TOKEN_URL} is the user pools API of your pool's Region. Its default is "
    "https://cognito-idp.<region>.amazonaws.com/. If the pool has a domain, unset {CLIENT_TOKEN_API}, and "
    "set DOMAIN."
)
_SECRET_NOT_READ = "Check the source of {CLIENT_SECRET}: its name, and this machine's permission to read it."


def client_findings(parts: AppM2M, client: ClientSettings, network: Network) -> list[Finding]:
    """Check one client: its token endpoints, its token, and the scopes of the token."""
    return [*_way_findings(client, network), *_token_findings(parts, client, network)]


def advice_for(error: CognitoTokenRequestError, client: ClientSettings, scopes: Sequence[str] | None) -> str:
    """Return what to do after a token request failed.

    Args:
        scopes: the scopes of the command line, or ``None``. ``flask m2m check`` requests only the client's
            configured scopes, so it finds nothing wrong if one of these is not allowed.
    """
    if not scopes or not _is_about_scopes(error):
        return "Run `flask m2m check` to find the cause."
    which = listed(scopes) if len(scopes) == 1 else f"one or more of {listed(scopes)}"
    advice = _SCOPE_NOT_ALLOWED.format(SCOPES="--scopes")
    return f"{_subject(client)} may not have {which}. {advice}"


def client_name(client: ClientSettings) -> str:
    """Return the client's name in the settings and its client id, for a sentence."""
    name = "the default client" if client.name is None else f"client {client.name!r}"
    return f"{name} ({client.client_id})"


def _subject(client: ClientSettings) -> str:
    name = client_name(client)
    return name[0].upper() + name[1:]


def _way_findings(client: ClientSettings, network: Network) -> list[Finding]:
    findings = [line for url in client.token_urls for line in network.look_at(url)]
    # One endpoint that answers is enough: they are tried in order.
    return demote(findings) if any(map(network.reached, client.token_urls)) else findings


def _token_findings(parts: AppM2M, client: ClientSettings, network: Network) -> list[Finding]:
    if not any(map(network.reached, client.token_urls)):
        hosts = listed({Place.of(url).host for url in client.token_urls})
        text = f"No token for {client_name(client)}: {hosts} cannot be reached."
        return [failed("token", text, "See the failed check above.")]
    try:
        response = _request_token(parts, client, client.scopes)
    except CognitoTokenRequestError as error:
        return [_failed_token(parts, client, error)]
    finally:
        offset = parts.health()["clock_offset"]
        network.offset = network.offset if offset is None else offset
    return _granted_findings(client, response)


def _request_token(parts: AppM2M, client: ClientSettings, scopes: tuple[str, ...]) -> TokenResponse:
    return parts.client(client.name).request_token(
        scopes, client.policy.timeout, Deadline(client.policy.refresh_deadline)
    )


def _granted_findings(client: ClientSettings, response: TokenResponse) -> list[Finding]:
    granted = _scopes_in(response)
    life = f", valid for {duration(response.expires_in)}" if response.expires_in else ""
    token = ok("token", f"Cognito issued a token for {client_name(client)}{life}.")
    if granted is None:
        return [token]
    missing = set(client.scopes) - granted
    if not missing:
        return [token, ok("scopes", f"{_subject(client)} was granted {listed(granted)}.")]
    make = failed if client.policy.scopes_missing == "raise" else warning
    text = f"{_subject(client)} requested {listed(missing)}, which Cognito did not grant."
    return [token, make("scopes", text, _SCOPE_NOT_ALLOWED.format_map(_labels(client)))]


def _failed_token(parts: AppM2M, client: ClientSettings, error: CognitoTokenRequestError) -> Finding:
    check, name, code = "token", client_name(client), error.error_code
    if _is_about_scopes(error):
        check, advice = "scopes", _SCOPE_NOT_ALLOWED
        text = f"{_subject(client)} may not have {listed(_rejected_scopes(parts, client), 'or')} ({code})."
    elif code in _ERRORS:
        text, advice = _ERRORS[code]
        text = f"{text.format(client=name)} ({code})."
    elif str(error).startswith("The client secret"):
        text, advice = f"No token for {name}: {error}", _SECRET_NOT_READ
    else:
        text = f"No token for {name} from {listed(client.token_urls)}: {error}".rstrip(".") + "."
        advice = _WRONG_API if client.client_token_api else _WRONG_DOMAIN
    return failed(check, text, advice.format_map(_labels(client)))


def _is_about_scopes(error: CognitoTokenRequestError) -> bool:
    # GetClientToken has no error code for scopes: only its description names the invalid parameter.
    description = error.error_description if error.error_code == "invalid_request" else None
    return error.error_code == "invalid_scope" or "scope" in (description or "").lower()


def _rejected_scopes(parts: AppM2M, client: ClientSettings) -> list[str]:
    """Return the scopes that are not allowed. Cognito does not name them, so each is requested alone."""
    if not 1 < len(client.scopes) <= MOST_SCOPES:
        return list(client.scopes)
    rejected = [scope for scope in client.scopes if not _is_granted(parts, client, scope)]
    return rejected or list(client.scopes)


def _is_granted(parts: AppM2M, client: ClientSettings, scope: str) -> bool:
    try:
        _request_token(parts, client, (scope,))
    except CognitoTokenRequestError as error:
        return not _is_about_scopes(error)
    return True


def _scopes_in(response: TokenResponse) -> frozenset[str] | None:
    """Return the scopes of the new token, or ``None`` if it does not name them."""
    try:
        claims = jwt.decode(response.access_token, options={"verify_signature": False})
    except (jwt.InvalidTokenError, RecursionError):
        claims = {}
    scope = claims.get("scope", response.raw.get("scope"))
    return parse_scopes(scope) if isinstance(scope, str) else None


def _labels(client: ClientSettings) -> dict[str, str]:
    """Return the full names of the client's settings, for messages."""
    where = PREFIX if client.name is None else f'{PREFIX}CLIENTS["{client.name}"].'
    keys = ("CLIENT_ID", "CLIENT_SECRET", "CLIENT_TOKEN_API", "SCOPES", "TOKEN_URL")
    return {key: where + key for key in keys}
