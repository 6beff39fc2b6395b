"""Orders, a service that the shop may read, and that reads the inventory."""

from __future__ import annotations

from flask import Flask
from flask.typing import ResponseReturnValue

from flask_m2m_cognito import CognitoM2M, current_token

m2m = CognitoM2M()


def create_app() -> Flask:
    app = Flask(__name__)
    app.config.from_prefixed_env()
    m2m.init_app(app)

    @app.get("/orders/<int:number>")
    @m2m.require_scopes("orders/read")
    def order(number: int) -> ResponseReturnValue:
        with m2m.session("inventory/read", timeout=10) as session:
            reply = session.get(f"{app.config['INVENTORY_URL']}/items/tea")
        reply.raise_for_status()
        return {"number": number, "item": reply.json(), "caller": current_token.client_id}

    return app
