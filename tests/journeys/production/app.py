"""Stock in production: all guarded except the probes, JSON logs, metrics, warm-up before the fork."""

from __future__ import annotations

import os
from logging.config import dictConfig
from typing import Any

from flask import Flask
from flask.typing import ResponseReturnValue

from flask_m2m_cognito import CognitoM2M, current_token
from flask_m2m_cognito.otel import instrument

LOGGING: dict[str, Any] = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"json": {"()": "tests.journeys.production.json_lines.JsonFormatter"}},
    "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "json"}},
    "loggers": {"flask_m2m_cognito": {"level": "INFO"}},
    "root": {"level": "WARNING", "handlers": ["stderr"]},
}

m2m = CognitoM2M()


def create_app() -> Flask:
    dictConfig(LOGGING)
    app = Flask(__name__)
    app.config.from_prefixed_env()
    m2m.init_app(app)
    m2m.protect(app, "stock/read")
    app.register_blueprint(m2m.health_blueprint(), url_prefix="/internal")
    instrument(app)

    @app.get("/items")
    def items() -> ResponseReturnValue:
        return {"caller": current_token.client_id, "pid": os.getpid()}

    @app.post("/orders")
    @m2m.require_scopes("stock/write")  # in addition to stock/read
    def order() -> ResponseReturnValue:
        """Get a token, as for a call of the next service."""
        return {"authorized": bool(m2m.token("purchase/write"))}

    m2m.for_app(app).warm_up(tokens=["purchase/write"])
    return app
