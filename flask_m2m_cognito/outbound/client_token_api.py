"""Use ``GetClientToken`` of the user pools API, which returns tokens of a pool without a domain.

Builds the request body and translates the response to OAuth 2.0, so all other code treats both ways alike.
The request is not signed: the client secret authenticates it, and it needs no IAM permission.

Source: the model ``cognito-idp`` of the AWS SDKs (JSON 1.1), operation ``GetClientToken``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from ..remote.transport import Body
from .client_secret import SecretText

_HEADERS = {
    "Content-Type": "application/x-amz-json-1.1",
    "X-Amz-Target": "AWSCognitoIdentityProviderService.GetClientToken",
}

# TokenSource backs off longer after some OAuth codes, and ClientSecret reads the secret again after
# invalid_client. Any other error keeps its AWS name.
_CODES = {
    "NotAuthorizedException": "invalid_client",
    "ResourceNotFoundException": "invalid_client",
    "OperationNotEnabledException": "unauthorized_client",
    "ForbiddenException": "unauthorized_client",
    "InvalidParameterException": "invalid_request",
}

_MEMBERS = {"access_token": "AccessToken", "expires_in": "ExpiresIn", "token_type": "TokenType"}


def build_client_token_request(
    client_id: str, secret: SecretText, scopes: Sequence[str], metadata: Mapping[str, str] | None
) -> Body:
    """Return the body of a request for ``scopes``, or without scopes for all that the client may have."""
    content: dict[str, Any] = {"ClientId": client_id, "Secret": secret.reveal()}
    if scopes:
        content["Scopes"] = list(scopes)
    if metadata:
        content["ClientMetadata"] = dict(metadata)
    return Body(json.dumps(content, separators=(",", ":")).encode("ascii"), _HEADERS)


def translate_to_oauth(payload: Mapping[str, Any]) -> dict[str, Any]:
    """Return a response in the form of the token endpoint's (RFC 6749, sections 5.1 and 5.2).

    >>> translate_to_oauth({"ClientAuthenticationResult": {"AccessToken": "a.b.c", "ExpiresIn": 3600}})
    {'access_token': 'a.b.c', 'expires_in': 3600}
    >>> translate_to_oauth({"__type": "NotAuthorizedException", "message": "Invalid secret."})
    {'error': 'invalid_client', 'error_description': 'NotAuthorizedException: Invalid secret.'}
    """
    result = payload.get("ClientAuthenticationResult")
    if isinstance(result, Mapping):
        return {name: result[theirs] for name, theirs in _MEMBERS.items() if theirs in result}
    kind = payload.get("__type")
    name = kind.rpartition("#")[2] if isinstance(kind, str) else ""
    if not name:
        return {}
    message = payload.get("message") or payload.get("Message")
    return {
        "error": _CODES.get(name, name),
        "error_description": f"{name}: {message}" if isinstance(message, str) else name,
    }
