"""Orders, a service that calls the service stock with its own tokens."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import requests
from flask import Flask
from flask.typing import ResponseReturnValue

from flask_m2m_cognito import CognitoM2M, TokenUnavailableError

m2m = CognitoM2M()


def create_app(config: Mapping[str, Any] | None = None) -> Flask:
    """Create the app. It needs settings for the clients ``orders`` and ``warehouse``, and STOCK_URL."""
    app = Flask(__name__)
    app.config.from_prefixed_env()
    app.config.from_mapping(config or {})
    m2m.init_app(app)
    items = f"{app.config['STOCK_URL']}/items"

    @app.get("/stock")
    def stock() -> ResponseReturnValue:
        """List what is in stock, through a session with a timeout and retries."""
        with m2m.session("stock/read", timeout=5, retries=2) as session:
            reply = session.get(items)
        return reply.json(), reply.status_code

    @app.post("/deliveries")
    def deliver() -> ResponseReturnValue:
        """Add to the stock, as another client."""
        auth = m2m.auth("stock/write", client="warehouse")
        reply = requests.post(items, auth=auth, timeout=5)
        return reply.json(), reply.status_code

    @app.get("/suggestions")
    def suggestions() -> ResponseReturnValue:
        """A page that must answer soon, even without the stock."""
        try:
            headers = {"Authorization": f"Bearer {m2m.token('stock/read')}"}
            reply = requests.get(items, headers=headers, timeout=2)
        except TokenUnavailableError as error:
            app.logger.warning("No token for stock: %s", error.error_code or error.status_code)
            return {"items": None}
        except requests.Timeout:
            return {"items": None}
        return {"items": reply.json()["items"]}

    return app
