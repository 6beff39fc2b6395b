"""The API for machines, with the token in the header."""

from __future__ import annotations

from flask import Blueprint, Flask
from flask.typing import ResponseReturnValue

from flask_m2m_cognito import CognitoM2M

m2m = CognitoM2M()
api = Blueprint("api", __name__, url_prefix="/api")
m2m.protect(api, by_method={"GET": "stock/read", "POST": "stock/admin"})


@api.get("/items")
def items() -> ResponseReturnValue:
    return {"items": []}


@api.post("/items")
def add_item() -> ResponseReturnValue:
    return {"added": True}


def create_app() -> Flask:
    app = Flask(__name__)
    app.config.from_prefixed_env()
    m2m.init_app(app)
    app.register_blueprint(api)
    return app
