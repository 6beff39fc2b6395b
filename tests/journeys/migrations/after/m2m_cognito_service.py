"""A service with the validator and the client of this library, after a change of the import line."""

from __future__ import annotations

from flask import Flask, request
from flask.typing import ResponseReturnValue

from flask_m2m_cognito import (
    CognitoAccessTokenValidator,
    CognitoM2MClient,
    CognitoTokenRequestError,
    InsufficientScopeError,
    KeysUnavailableError,
    TokenValidationError,
)


def create_app(validator: CognitoAccessTokenValidator, client: CognitoM2MClient) -> Flask:
    app = Flask(__name__)

    @app.get("/items")
    def items() -> ResponseReturnValue:
        try:
            caller = validator.validate(request.headers.get("Authorization", "").removeprefix("Bearer "))
        except KeysUnavailableError:  # new: the token may be valid
            return {"error": "unavailable"}, 503
        except InsufficientScopeError as error:
            return {"required": sorted(error.required_scopes)}, 403
        except TokenValidationError:
            return {"error": "invalid_token"}, 401
        return {"caller": caller.client_id, "scopes": sorted(caller.scopes)}

    @app.post("/orders")
    def order() -> ResponseReturnValue:
        try:
            response = client.fetch_token(scopes=["purchase/write"])
        except CognitoTokenRequestError as error:
            return {"error": error.error_code, "status": error.status_code}, 502
        return {"expires_in": response.expires_in}

    return app
