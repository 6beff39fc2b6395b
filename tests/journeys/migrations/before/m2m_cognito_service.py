"""A service with the validator and the client of m2m-cognito."""

from flask import Flask, request
from m2m_cognito import (
    CognitoAccessTokenValidator,
    CognitoM2MClient,
    CognitoTokenRequestError,
    InsufficientScopeError,
    TokenValidationError,
)


def create_app(validator: CognitoAccessTokenValidator, client: CognitoM2MClient) -> Flask:
    app = Flask(__name__)

    @app.get("/items")
    def items():
        try:
            caller = validator.validate(request.headers.get("Authorization", "").removeprefix("Bearer "))
        except InsufficientScopeError as error:
            return {"required": sorted(error.required_scopes)}, 403
        except TokenValidationError:
            return {"error": "invalid_token"}, 401
        return {"caller": caller.client_id, "scopes": sorted(caller.scopes)}

    @app.post("/orders")
    def order():
        try:
            response = client.fetch_token(scopes=["purchase/write"])
        except CognitoTokenRequestError as error:
            return {"error": error.error_code, "status": error.status_code}, 502
        return {"expires_in": response.expires_in}

    return app
