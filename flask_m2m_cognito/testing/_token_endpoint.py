"""The token endpoint of a local pool, and ``GetClientToken`` of its user pools API.

Source: RFC 6749, sections 2.3.1, 4.4 and 5; Amazon Cognito Developer Guide, "The token issuer
endpoint" and "Resource binding". Where they differ, this follows Cognito: every error is a 400, and
``resource`` (RFC 8707) adds no ``aud`` to a machine token. Source for the API: the model
``cognito-idp`` of the AWS SDKs, JSON 1.1, where every error is a 400 with a ``__type``.
"""

from __future__ import annotations

import json
from base64 import b64decode
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import unquote_plus

from ._answers import NO_STORE, Answer, json_answer
from ._clients import LocalClient
from ._recorded import FORM_TYPE, TARGET, RecordedRequest

_GRANT = "client_credentials"
_USER_GRANTS = ("authorization_code", "refresh_token")

_OPERATION = "AWSCognitoIdentityProviderService.GetClientToken"
_JSON_TYPE = {"Content-Type": "application/x-amz-json-1.1"}
_MOST_SCOPES = 50

Grant = tuple[LocalClient, tuple[str, ...]]


class _Rejected(Exception):
    """A rejected request: an OAuth error code, or the name and the message of an API exception."""


def token_answer(
    request: RecordedRequest,
    clients: Mapping[str, LocalClient],
    issue: Callable[[tuple[str, ...], str], str],
    lifetime: int,
) -> Answer:
    """Return an answer with a token from ``issue``, or with the error."""
    is_api = request.path == "/"
    try:
        client, scopes = _grant_by_api(request, clients) if is_api else _grant(request, clients)
    except _Rejected as rejection:
        if is_api:
            name, message = rejection.args
            return json_answer({"__type": name, "message": message}, 400, _JSON_TYPE)
        # RFC 6749, section 5.2. Cognito answers 400 for every error, even invalid_client.
        return json_answer({"error": str(rejection)}, 400, NO_STORE)
    token = issue(scopes, client.client_id)
    if is_api:
        result = {"AccessToken": token, "ExpiresIn": lifetime, "TokenType": "Bearer"}
        return json_answer({"ClientAuthenticationResult": result}, headers=_JSON_TYPE)
    content = {"access_token": token, "expires_in": lifetime, "token_type": "Bearer"}
    return json_answer(content, headers=NO_STORE)


def _grant(request: RecordedRequest, clients: Mapping[str, LocalClient]) -> Grant:
    form = _parameters(request)
    grant_type = form.get("grant_type")
    if grant_type is None:
        raise _Rejected("invalid_request")
    if grant_type != _GRANT and grant_type not in _USER_GRANTS:
        raise _Rejected("unsupported_grant_type")
    client = _authenticate(_credentials(request, form), clients)
    if grant_type != _GRANT:
        raise _Rejected("unauthorized_client")
    return client, _choose_scopes(client, form.get("scope"))


def _parameters(request: RecordedRequest) -> dict[str, str]:
    """Return the form without empty values, which RFC 6749, section 3.2, treats as omitted."""
    pairs = [(name, value) for name, value in request.form_pairs if value]
    is_form = request.headers.get_content_type() == FORM_TYPE
    if not is_form or len(dict(pairs)) != len(pairs):
        raise _Rejected("invalid_request")
    return dict(pairs)


def _credentials(request: RecordedRequest, form: Mapping[str, str]) -> tuple[str, str]:
    """Return client id and secret, from the Authorization header or from the form."""
    header = request.headers["Authorization"]
    client_id, secret = form.get("client_id"), form.get("client_secret")
    if header is None:
        if client_id is None:
            raise _Rejected("invalid_request")
        return client_id, secret or ""
    if secret is not None:
        # RFC 6749, section 2.3, forbids two methods at once. A .netrc file may cause that unnoticed.
        raise _Rejected("invalid_request")
    basic_id, basic_secret = _basic_credentials(header)
    if client_id is not None and client_id not in (basic_id, unquote_plus(basic_id)):
        raise _Rejected("invalid_client")
    return basic_id, basic_secret


def _basic_credentials(header: str) -> tuple[str, str]:
    scheme, _, encoded = header.partition(" ")
    try:
        client_id, colon, secret = b64decode(encoded.strip(), validate=True).decode().partition(":")
    except ValueError:
        raise _Rejected("invalid_client") from None
    if scheme.lower() != "basic" or not colon:
        raise _Rejected("invalid_client")
    return client_id, secret


def _authenticate(credentials: tuple[str, str], clients: Mapping[str, LocalClient]) -> LocalClient:
    # RFC 6749, section 2.3.1, form-encodes both before base64; the example of AWS does not.
    for client_id, secret in (credentials, tuple(map(unquote_plus, credentials))):
        client = clients.get(client_id)
        if client is not None and secret in client.secrets:
            return client
    raise _Rejected("invalid_client")


def _choose_scopes(client: LocalClient, requested: str | None) -> tuple[str, ...]:
    if requested is None:
        return client.scopes
    scopes = tuple(dict.fromkeys(scope for scope in requested.split(" ") if scope))
    if not scopes or not all(client.may_have(scope) for scope in scopes):
        raise _Rejected("invalid_scope")
    return scopes


def _grant_by_api(request: RecordedRequest, clients: Mapping[str, LocalClient]) -> Grant:
    if request.headers[TARGET] != _OPERATION:
        raise _Rejected("UnknownOperationException", "")
    try:
        content: Any = json.loads(request.body)
    except ValueError:
        content = None
    if request.headers.get_content_type() != _JSON_TYPE["Content-Type"] or not isinstance(content, dict):
        raise _Rejected("SerializationException", "")
    client_id, scopes = content.get("ClientId"), content.get("Scopes")
    client = clients.get(str(client_id))
    if client is None:
        raise _Rejected("ResourceNotFoundException", f"User pool client {client_id} does not exist.")
    if content.get("Secret") not in client.secrets:
        raise _Rejected("NotAuthorizedException", "Client secret is not valid.")
    if scopes is None:
        return client, client.scopes
    if not isinstance(scopes, list) or not all(isinstance(scope, str) for scope in scopes):
        raise _Rejected("SerializationException", "")
    if len(scopes) > _MOST_SCOPES or not all(client.may_have(scope) for scope in scopes):
        raise _Rejected("InvalidParameterException", "Invalid scope requested.")
    return client, tuple(dict.fromkeys(scopes)) or client.scopes
