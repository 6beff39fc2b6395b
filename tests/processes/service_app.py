"""The service that the tests of this folder run in real servers: guarded, and calling with a token."""

from __future__ import annotations

import hashlib
import os

from flask import Flask
from flask.typing import ResponseReturnValue

from flask_m2m_cognito import CognitoM2M, current_token

m2m = CognitoM2M()


def create_app() -> Flask:
    app = Flask(__name__)
    app.config.from_prefixed_env()
    m2m.init_app(app)

    @app.get("/work")
    @m2m.require_scopes("inventory/read")
    def work() -> ResponseReturnValue:
        token = m2m.token()
        return {
            "caller": current_token.client_id,
            "pid": os.getpid(),
            "token": hashlib.sha256(token.encode()).hexdigest(),
        }

    return app
