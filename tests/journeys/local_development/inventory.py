"""Inventory, a service that only orders may read."""

from __future__ import annotations

from flask import Flask
from flask.typing import ResponseReturnValue

from flask_m2m_cognito import CognitoM2M, current_token

m2m = CognitoM2M()


def create_app() -> Flask:
    app = Flask(__name__)
    app.config.from_prefixed_env()
    m2m.init_app(app)

    @app.get("/items/<name>")
    @m2m.require_scopes("inventory/read")
    def item(name: str) -> ResponseReturnValue:
        return {"name": name, "caller": current_token.client_id}

    return app
