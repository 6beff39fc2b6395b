"""Check that each client gets a token, and one with the scopes that it asks for.

It requests a new token, whatever is cached, since that is the question. Cognito bills it.
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
    """Check one client: the way to its token endpoints, its token, the token's scopes."""
    return [*_way_findings(client, network), *_token_findings(parts, client, network)]


def advice_for(error: CognitoTokenRequestError, client: ClientSettings, scopes: Sequence[str] | None) -> str:
    """Return what to do after a token request failed.

    Args:
        scopes: those of the command line, or ``None``. ``flask m2m check`` asks for the client's own ones
            only, and so passes where one of these is not allowed.
    """
    if not scopes or not _is_about_scopes(error):
        return "`flask m2m check` says what to do."
    which = listed(scopes) if len(scopes) == 1 else f"one or more of {listed(scopes)}"
    advice = _SCOPE_NOT_ALLOWED.format(SCOPES="--scopes")
    return f"{_subject(client)} may not have {which}. {advice}"


def client_name(client: ClientSettings) -> str:
    """Return the application's name for the client and its id, which Cognito knows, for a sentence."""
    name = "the default client" if client.name is None else f"client {client.name!r}"
    return f"{name} ({client.client_id})"


def _subject(client: ClientSettings) -> str:
    name = client_name(client)
    return name[0].upper() + name[1:]


def _way_findings(client: ClientSettings, network: Network) -> list[Finding]:
    findings = [line for url in client.token_urls for line in network.look_at(url)]
    # One that answers is enough: they are asked in order.
    return demote(findings) if any(map(network.reached, client.token_urls)) else findings


def _token_findings(parts: AppM2M, client: ClientSettings, network: Network) -> list[Finding]:
    if not any(map(network.reached, client.token_urls)):
        hosts = listed({Place.of(url).host for url in client.token_urls})
        said = f"No token for {client_name(client)}: {hosts} can't be reached."
        return [failed("token", said, "See above.")]
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
    check, name, code = "token", client_name(client), error.error_code
    if _is_about_scopes(error):
        check, advice = "scopes", _SCOPE_NOT_ALLOWED
        said = f"{_subject(client)} may not have {listed(_rejected_scopes(parts, client), 'or')} ({code})."
    elif code in _ERRORS:
        said, advice = _ERRORS[code]
        said = f"{said.format(client=name)} ({code})."
    elif str(error).startswith("The client secret"):
        said, advice = f"No token for {name}: {error}", _SECRET_NOT_READ
    else:
        said = f"No token for {name} from {listed(client.token_urls)}: {error}".rstrip(".") + "."
        advice = _WRONG_API if client.client_token_api else _WRONG_DOMAIN
    return failed(check, said, advice.format_map(_labels(client)))


def _is_about_scopes(error: CognitoTokenRequestError) -> bool:
    # GetClientToken has no error of its own for them: it says in words which parameter is invalid.
    description = error.error_description if error.error_code == "invalid_request" else None
    return error.error_code == "invalid_scope" or "scope" in (description or "").lower()


def _rejected_scopes(parts: AppM2M, client: ClientSettings) -> list[str]:
    """Return the scopes that are not allowed: Cognito does not say which."""
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
    """Return the scopes of our own new token, or ``None`` if it does not name them."""
    try:
        claims = jwt.decode(response.access_token, options={"verify_signature": False})
    except (jwt.InvalidTokenError, RecursionError):
        claims = {}
    scope = claims.get("scope", response.raw.get("scope"))
    return parse_scopes(scope) if isinstance(scope, str) else None


def _labels(client: ClientSettings) -> dict[str, str]:
    """Return the names of its settings, as a text for a person names them."""
    where = PREFIX if client.name is None else f'{PREFIX}CLIENTS["{client.name}"].'
    keys = ("CLIENT_ID", "CLIENT_SECRET", "CLIENT_TOKEN_API", "SCOPES", "TOKEN_URL")
    return {key: where + key for key in keys}
