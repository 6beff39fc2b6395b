"""Authlib: its resource protector in Flask, and its session for requests."""

from __future__ import annotations

from typing import Any

import requests
from authlib.integrations.flask_oauth2 import ResourceProtector
from authlib.integrations.requests_client import OAuth2Session
from authlib.oauth2.rfc9068.claims import JWTAccessTokenClaims
from authlib.oauth2.rfc9068.token_validator import JWTBearerTokenValidator
from flask import Flask
from joserfc import jwt
from joserfc.jwk import KeySet

from tests.benchmarks.pool_process import NEEDED, Address
from tests.benchmarks.subjects import Ask, Decorator, Subject


class _Validator(JWTBearerTokenValidator):  # type: ignore[misc]
    """Authlib's validator without ``aud``, which Cognito's machine tokens do not have."""

    def __init__(self, issuer: str, keys: KeySet) -> None:
        super().__init__(issuer, None)
        self._keys = keys
        essential = ("exp", "sub", "client_id", "iat", "jti")
        self._options: dict[str, Any] = {name: {"essential": True} for name in essential}
        self._options["iss"] = {"essential": True, "validate": self.validate_iss}

    def authenticate_token(self, token_string: str) -> JWTAccessTokenClaims:
        token = jwt.decode(token_string, key=self._keys)
        return JWTAccessTokenClaims(token.claims, token.header, self._options)


def _guard(app: Flask, address: Address) -> Decorator:
    keys = KeySet.import_key_set(requests.get(address.jwks_url, timeout=5).json())
    protector = ResourceProtector()
    protector.register_token_validator(_Validator(address.issuer, keys))
    decorator: Decorator = protector([NEEDED])
    return decorator


def _token(app: Flask, address: Address, lifetime: float) -> Ask:
    session = OAuth2Session(
        address.client_id,
        address.client_secret,
        scope=NEEDED,
        token_endpoint=address.token_url,
        token_endpoint_auth_method="client_secret_post",
        grant_type="client_credentials",
        leeway=min(60.0, lifetime / 10),
    )

    def ask() -> str:
        if session.token is None:
            session.fetch_token()
        session.ensure_active_token()
        return str(session.token["access_token"])

    return ask


PEER = Subject("Authlib", guard=_guard, token=_token)
