"""The service with a guard in place of its decorator."""

from __future__ import annotations

from flask import Flask, g
from flask.typing import ResponseReturnValue

from flask_m2m_cognito import CognitoM2M

m2m = CognitoM2M()


def create_app() -> Flask:
    app = Flask(__name__)
    app.config.from_prefixed_env()
    m2m.init_app(app)

    @app.get("/items")
    @m2m.require_scopes("stock/read")
    def items() -> ResponseReturnValue:
        return {"caller": g.m2m_claims["client_id"]}

    return app
