"""The token endpoint of a local pool: who asks, for what, and Cognito's answer.

Source: RFC 6749, sections 2.3.1, 4.4 and 5; Amazon Cognito Developer Guide, "The token issuer
endpoint". Where they differ it is Cognito's way: every refusal is a 400.
"""

from __future__ import annotations

import binascii
from base64 import b64decode
from collections.abc import Callable, Mapping
from urllib.parse import unquote_plus

from ._answers import NO_STORE, Answer, json_answer, oauth_error
from ._client_token_api import client_token_answer
from ._clients import LocalClient
from ._recorded import FORM_TYPE, RecordedRequest

_GRANT = "client_credentials"
_GRANTS_FOR_PEOPLE = ("authorization_code", "refresh_token")


class _Refused(Exception):
    """An OAuth error code."""


def token_answer(
    request: RecordedRequest,
    clients: Mapping[str, LocalClient],
    issue: Callable[[LocalClient, tuple[str, ...]], str],
    lifetime: int,
) -> Answer:
    """A token from ``issue``, or the reason why there is none."""
    if request.path == "/":
        return client_token_answer(request, clients, issue, lifetime)
    try:
        client, scopes = _grant(request, clients)
    except _Refused as refusal:
        return oauth_error(str(refusal))
    return json_answer(
        {"access_token": issue(client, scopes), "expires_in": lifetime, "token_type": "Bearer"},
        headers=NO_STORE,
    )


def _grant(
    request: RecordedRequest, clients: Mapping[str, LocalClient]
) -> tuple[LocalClient, tuple[str, ...]]:
    form = _parameters(request)
    grant_type = form.get("grant_type")
    if grant_type is None:
        raise _Refused("invalid_request")
    if grant_type != _GRANT and grant_type not in _GRANTS_FOR_PEOPLE:
        raise _Refused("unsupported_grant_type")
    client = _authenticated(_credentials(request, form), clients)
    if grant_type != _GRANT:
        raise _Refused("unauthorized_client")
    return client, _granted_scopes(client, form.get("scope"))


def _parameters(request: RecordedRequest) -> dict[str, str]:
    """The form, without what is empty: RFC 6749, section 3.2, counts that as omitted."""
    pairs = [(name, value) for name, value in request.form_pairs if value]
    is_form = request.headers.get_content_type() == FORM_TYPE
    if not is_form or len(dict(pairs)) != len(pairs):
        raise _Refused("invalid_request")
    return dict(pairs)


def _credentials(request: RecordedRequest, form: Mapping[str, str]) -> tuple[str, str]:
    """Client id and secret, from the Authorization header or from the form."""
    header = request.headers["Authorization"]
    client_id, secret = form.get("client_id"), form.get("client_secret")
    if header is None:
        if client_id is None:
            raise _Refused("invalid_request")
        return client_id, secret or ""
    if secret is not None:
        # RFC 6749, section 2.3: never two methods at once. A .netrc can cause it unnoticed.
        raise _Refused("invalid_request")
    basic_id, basic_secret = _basic_credentials(header)
    if client_id is not None and client_id not in (basic_id, unquote_plus(basic_id)):
        raise _Refused("invalid_client")
    return basic_id, basic_secret


def _basic_credentials(header: str) -> tuple[str, str]:
    scheme, _, encoded = header.partition(" ")
    try:
        client_id, colon, secret = b64decode(encoded.strip(), validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        raise _Refused("invalid_client") from None
    if scheme.lower() != "basic" or not colon:
        raise _Refused("invalid_client")
    return client_id, secret


def _authenticated(credentials: tuple[str, str], clients: Mapping[str, LocalClient]) -> LocalClient:
    # RFC 6749, section 2.3.1, has both form-encoded before base64, AWS's own example has not.
    for client_id, secret in (credentials, tuple(map(unquote_plus, credentials))):
        client = clients.get(client_id)
        if client is not None and secret in client.secrets:
            return client
    raise _Refused("invalid_client")


def _granted_scopes(client: LocalClient, asked: str | None) -> tuple[str, ...]:
    if asked is None:
        return client.scopes
    scopes = tuple(dict.fromkeys(scope for scope in asked.split(" ") if scope))
    if not scopes or not all(client.may_have(scope) for scope in scopes):
        raise _Refused("invalid_scope")
    return scopes
