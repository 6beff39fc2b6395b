"""``GetClientToken`` of a local pool's user pools API.

Source: the model ``cognito-idp`` of the AWS SDKs: JSON 1.1, where every refusal is a 400 with a ``__type``.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from ._answers import Answer, json_answer
from ._clients import LocalClient
from ._recorded import TARGET, RecordedRequest

_OPERATION = "AWSCognitoIdentityProviderService.GetClientToken"
_JSON_TYPE = {"Content-Type": "application/x-amz-json-1.1"}
_MOST_SCOPES = 50


class _Refused(Exception):
    """The name of an exception of the API, and its message."""


def client_token_answer(
    request: RecordedRequest,
    clients: Mapping[str, LocalClient],
    issue: Callable[[LocalClient, tuple[str, ...]], str],
    lifetime: int,
) -> Answer:
    """A token from ``issue``, or the reason why there is none."""
    try:
        client, scopes = _grant(request, clients)
    except _Refused as refusal:
        name, message = refusal.args
        return json_answer({"__type": name, "message": message}, 400, _JSON_TYPE)
    result = {"AccessToken": issue(client, scopes), "ExpiresIn": lifetime, "TokenType": "Bearer"}
    return json_answer({"ClientAuthenticationResult": result}, headers=_JSON_TYPE)


def _grant(
    request: RecordedRequest, clients: Mapping[str, LocalClient]
) -> tuple[LocalClient, tuple[str, ...]]:
    if request.headers[TARGET] != _OPERATION:
        raise _Refused("UnknownOperationException", "")
    asked = _asked(request)
    client = clients.get(str(asked.get("ClientId")))
    if client is None:
        raise _Refused(
            "ResourceNotFoundException", f"User pool client {asked.get('ClientId')} does not exist."
        )
    if asked.get("Secret") not in client.secrets:
        raise _Refused("NotAuthorizedException", "Client secret is not valid.")
    return client, _granted_scopes(client, asked.get("Scopes"))


def _asked(request: RecordedRequest) -> dict[str, Any]:
    try:
        asked = json.loads(request.body)
    except ValueError:
        asked = None
    if request.headers.get_content_type() != _JSON_TYPE["Content-Type"] or not isinstance(asked, dict):
        raise _Refused("SerializationException", "")
    return asked


def _granted_scopes(client: LocalClient, asked: object) -> tuple[str, ...]:
    if asked is None:
        return client.scopes
    if not isinstance(asked, list) or not all(isinstance(scope, str) for scope in asked):
        raise _Refused("SerializationException", "")
    if len(asked) > _MOST_SCOPES or not all(client.may_have(scope) for scope in asked):
        raise _Refused("InvalidParameterException", "Invalid scope requested.")
    return tuple(dict.fromkeys(asked)) or client.scopes
