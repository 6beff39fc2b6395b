"""m2m-cognito: its validator in a decorator as users write it, and its client."""

from __future__ import annotations

import functools
from typing import Any

from flask import Flask, abort, g, request
from jwt import PyJWKClient
from m2m_cognito import CognitoAccessTokenValidator, CognitoM2MClient, TokenValidationError

from tests.benchmarks.pool_process import NEEDED, Address
from tests.benchmarks.subjects import Ask, Decorator, Subject, Validate


def _validator(address: Address, keys_fresh_for: float = 300) -> CognitoAccessTokenValidator:
    validator = CognitoAccessTokenValidator(
        region=address.pool_id.partition("_")[0],
        user_pool_id=address.pool_id,
        allowed_client_ids=[address.client_id],
        required_scopes=[NEEDED],
    )
    # It supports only AWS, so point it at the local pool.
    validator.issuer = address.issuer
    validator._jwks_client = PyJWKClient(address.jwks_url, lifespan=keys_fresh_for)
    return validator


def _guard(app: Flask, address: Address) -> Decorator:
    validator = _validator(address)

    def guarded(view: Any) -> Any:
        @functools.wraps(view)
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            scheme, _, token = request.headers.get("Authorization", "").partition(" ")
            if scheme != "Bearer":
                abort(401)
            try:
                g.token = validator.validate(token)
            except TokenValidationError:
                abort(401)
            return view(*args, **kwargs)

        return wrapper

    return guarded


def _validate(address: Address, keys_fresh_for: float) -> Validate:
    validator = _validator(address, keys_fresh_for)
    client = validator._jwks_client
    client.get_jwk_set()
    # As after half a minute of service: sooner after a download, PyJWT does not look for an unknown key.
    client._last_successful_fetch = None
    validate: Validate = validator.validate
    return validate


def _token(app: Flask, address: Address, lifetime: float) -> Ask:
    client = CognitoM2MClient(
        token_url=address.token_url, client_id=address.client_id, client_secret=address.client_secret
    )
    return lambda: str(client.fetch_token(scopes=NEEDED).access_token)


PEER = Subject("m2m-cognito", _guard, _validate, _token, fetches_keys=True)
