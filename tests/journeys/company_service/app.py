"""Stock, a company's service: the company's error format, an audit log, rate limits by client, OpenAPI."""

from __future__ import annotations

import json
import logging
from logging.config import dictConfig
from typing import Any

from apiflask import APIFlask
from flask import Flask, jsonify
from flask.typing import ResponseReturnValue
from flask_limiter import Limiter
from flask_limiter.util import get_remote_address
from werkzeug.exceptions import HTTPException

from flask_m2m_cognito import CognitoM2M, current_token
from flask_m2m_cognito.signals import token_rejected

LOGGING: dict[str, Any] = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"default": {"format": "%(levelname)s %(name)s: %(message)s"}},
    "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "default"}},
    "loggers": {"stock.audit": {"level": "INFO"}},
    "root": {"level": "WARNING", "handlers": ["stderr"]},
}

audit = logging.getLogger("stock.audit")
m2m = CognitoM2M()


def caller() -> str:
    return current_token.client_id if current_token else get_remote_address()


limiter = Limiter(caller)


def create_app() -> Flask:
    dictConfig(LOGGING)
    app = APIFlask(__name__, title="Stock", version="1")
    app.config.from_prefixed_env()  # FLASK_RATELIMIT_STORAGE_URI too
    m2m.init_app(app)
    limiter.init_app(app)
    token_rejected.connect(record_denial, app)
    app.register_error_handler(HTTPException, company_error)

    @app.get("/items")
    @m2m.require_scopes("stock/read")
    @limiter.limit("3 per minute")
    def items() -> ResponseReturnValue:
        """List the items."""
        return {"caller": current_token.client_id, "items": ["tea", "coffee"]}

    @app.post("/items")
    @m2m.require_scopes("stock/write", "stock/admin", match="any")
    def add_item() -> ResponseReturnValue:
        """Add an item."""
        return {"added": True}, 201

    @app.get("/health")
    @limiter.limit("10 per minute")
    def health() -> ResponseReturnValue:
        return {"up": True}

    @app.spec_processor  # pyright: ignore[reportUnknownMemberType]
    def with_scopes(spec: dict[str, Any] | str) -> dict[str, Any] | str:
        return m2m.openapi(spec, app) if isinstance(spec, dict) else spec  # text where it is YAML

    return app


def company_error(error: HTTPException) -> ResponseReturnValue:
    code = getattr(error, "reason", error.name.lower().replace(" ", "_"))
    return jsonify(error={"code": code, "message": error.description}), error.code or 500


def record_denial(
    sender: Flask,
    reason: str,
    path: str,
    client_id: str | None,
    token_scopes: frozenset[str] | None,
    required_scopes: frozenset[str] | None,
    **more: object,
) -> None:
    line = {
        "client": client_id,
        "reason": reason,
        "path": path,
        "had": sorted(token_scopes or ()),
        "required": sorted(required_scopes or ()),
    }
    audit.info("%s", json.dumps(line))
