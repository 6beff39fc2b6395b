"""The service of these tests: an application with one guarded view, which trusts a local pool."""

from __future__ import annotations

from flask import Flask

from flask_m2m_cognito import AppM2M, CognitoM2M
from flask_m2m_cognito.testing import LocalUserPool
from tests.support.headers import bearer


def create_service(pool: LocalUserPool) -> Flask:
    app, m2m = Flask("shop"), CognitoM2M()
    app.config.update(pool.config(ALLOWED_CLIENT_IDS="*"))
    m2m.init_app(app)
    app.get("/items")(m2m.require_scopes("inventory/read")(lambda: "reached"))
    return app


def parts(app: Flask) -> AppM2M:
    found: AppM2M = app.extensions["cognito_m2m"]
    return found


def status_of(app: Flask, token: str) -> int:
    return app.test_client().get("/items", headers=bearer(token)).status_code
