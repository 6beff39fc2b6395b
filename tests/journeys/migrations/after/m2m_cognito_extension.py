"""The service with the extension in place of the validator and the client."""

from __future__ import annotations

from flask import Flask
from flask.typing import ResponseReturnValue

from flask_m2m_cognito import CognitoM2M, current_token

m2m = CognitoM2M()


def create_app() -> Flask:
    app = Flask(__name__)
    app.config.from_prefixed_env()
    m2m.init_app(app)

    @app.get("/items")
    @m2m.require_scopes("stock/read")
    def items() -> ResponseReturnValue:
        return {"caller": current_token.client_id, "scopes": sorted(current_token.scopes)}

    @app.post("/orders")
    def order() -> ResponseReturnValue:
        return {"has_token": bool(m2m.token("purchase/write"))}

    return app
