"""An API whose callers keep their token in flask-cognito-lib's cookie."""

from flask import Blueprint, Flask
from flask_cognito_lib import CognitoAuth
from flask_cognito_lib.decorators import auth_required

api = Blueprint("api", __name__, url_prefix="/api")


@api.get("/items")
@auth_required()
def items():
    return {"items": []}


@api.post("/items")
@auth_required(groups=["admin"])
def add_item():
    return {"added": True}


def create_app():
    app = Flask(__name__)
    app.config.from_prefixed_env()
    CognitoAuth(app)
    app.register_blueprint(api)
    return app
