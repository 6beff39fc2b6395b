"""The requests that a local pool has recorded."""

from __future__ import annotations

import json
from base64 import b64decode
from dataclasses import dataclass, field
from email.message import Message
from typing import Literal, get_args
from urllib.parse import parse_qsl

Endpoint = Literal["jwks", "token", "openid-configuration", "other"]
ENDPOINTS: tuple[Endpoint, ...] = get_args(Endpoint)

FORM_TYPE = "application/x-www-form-urlencoded"

TARGET = "X-Amz-Target"
"""The header that names the operation of the user pools API. Requests with it count as ``"token"``."""


@dataclass(frozen=True, eq=False)
class RecordedRequest:
    """A request as a local pool received it. Its repr shows no secret and no token.

    Attributes:
        endpoint: ``"jwks"``, ``"token"``, ``"openid-configuration"`` or ``"other"``.
        method: the HTTP method.
        path: the path without the query.
        query: the query, without the question mark.
        headers: the headers. Names ignore case, and an absent header is ``None``.
        body: the body.
        form: the parameters of a form body. A repeated name has its last value.
        at: when the request arrived, in seconds since the epoch by the pool's clock.
    """

    endpoint: Endpoint
    method: str
    path: str
    query: str = field(repr=False)
    headers: Message = field(repr=False)
    body: bytes = field(repr=False)
    form: dict[str, str] = field(repr=False)
    at: float

    @property
    def form_pairs(self) -> list[tuple[str, str]]:
        """The parameters of a form body in order, with repeated ones; empty for any other body."""
        return _form_pairs(self.headers, self.body)


def record_request(
    *, pool_id: str, method: str, target: str, headers: Message, body: bytes, at: float
) -> RecordedRequest:
    """Return the record of a request for ``target``, the path and query of its request line."""
    path, _, query = target.partition("?")
    return RecordedRequest(
        endpoint="token" if path == "/" and TARGET in headers else _endpoint_of(path, pool_id),
        method=method,
        path=path,
        query=query,
        headers=headers,
        body=body,
        form=dict(_form_pairs(headers, body)),
        at=at,
    )


def _endpoint_of(path: str, pool_id: str) -> Endpoint:
    """Return the endpoint that answers at ``path``."""
    endpoints: dict[str, Endpoint] = {
        "/oauth2/token": "token",
        f"/{pool_id}/.well-known/jwks.json": "jwks",
        f"/{pool_id}/.well-known/openid-configuration": "openid-configuration",
    }
    return endpoints.get(path, "other")


def parse_client(request: RecordedRequest) -> tuple[str, tuple[str, ...]]:
    """Return the client id and the scopes of a token request; each is empty if the request has none."""
    scheme, _, credentials = (request.headers["Authorization"] or "").partition(" ")
    client_id, scope = request.form.get("client_id"), request.form.get("scope", "")
    if scheme.lower() == "basic" and client_id is None:
        try:
            pair = b64decode(credentials.strip(), validate=True).decode()
        except ValueError:
            pair = ""
        return pair.partition(":")[0] if ":" in pair else "", tuple(scope.split())
    if TARGET in request.headers:
        return _client_in_json(request.body)
    return client_id or "", tuple(scope.split())


def _client_in_json(body: bytes) -> tuple[str, tuple[str, ...]]:
    try:
        content = json.loads(body)
    except (ValueError, RecursionError):
        content = None
    if not isinstance(content, dict):
        return "", ()
    scopes = content.get("Scopes")
    return str(content.get("ClientId", "")), tuple(map(str, scopes)) if isinstance(scopes, list) else ()


def _form_pairs(headers: Message, body: bytes) -> list[tuple[str, str]]:
    if headers.get_content_type() != FORM_TYPE:
        return []
    return parse_qsl(body.decode("utf-8", "replace"), keep_blank_values=True)
