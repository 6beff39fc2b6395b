"""The service that these tests run in real servers. It has guarded views and gets tokens."""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Iterator

from flask import Flask, Response
from flask.typing import ResponseReturnValue

from flask_m2m_cognito import CognitoM2M, current_token

m2m = CognitoM2M()


def create_app() -> Flask:
    logging.basicConfig(format="%(process)d %(name)s: %(message)s", level=logging.INFO)
    app = Flask(__name__)
    app.config.from_prefixed_env()
    m2m.init_app(app)
    app.register_blueprint(m2m.health_blueprint(), url_prefix="/internal")

    @app.get("/work")
    @m2m.require_scopes("inventory/read")
    def work() -> ResponseReturnValue:
        return {"caller": current_token.client_id, "pid": os.getpid(), "token": digest_of(m2m.token())}

    @app.get("/items")
    @m2m.require_scopes("inventory/read")
    def items() -> ResponseReturnValue:
        return {"pid": os.getpid()}

    @app.get("/pid-then-token")
    def pid_then_token() -> Response:
        """Send the process id at once, and then the digest of a token."""
        parts = m2m.for_app(app)

        def lines() -> Iterator[str]:
            yield f"{os.getpid()}\n"
            yield digest_of(parts.token())

        return Response(lines(), mimetype="text/plain")

    @app.after_request
    def add_pid(response: Response) -> Response:
        response.headers["X-Pid"] = str(os.getpid())
        return response

    if "WARM_UP" in app.config:
        m2m.for_app(app).warm_up([None], timeout=app.config["WARM_UP"])
    return app


def digest_of(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()
