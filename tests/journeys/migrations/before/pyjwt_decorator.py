"""A service with a decorator over PyJWT."""

import functools
import os

import jwt
from flask import Flask, abort, g, request


def create_app():
    app = Flask(__name__)
    jwks = jwt.PyJWKClient(os.environ["JWKS_URL"])

    def require_scope(scope):
        def decorate(view):
            @functools.wraps(view)
            def wrapper(*args, **kwargs):
                try:
                    token = request.headers["Authorization"].removeprefix("Bearer ")
                    key = jwks.get_signing_key_from_jwt(token).key
                    claims = jwt.decode(token, key, algorithms=["RS256"], issuer=os.environ["ISSUER"])
                except Exception:
                    abort(401)
                if scope not in claims.get("scope", "").split():
                    abort(403)
                g.claims = claims
                return view(*args, **kwargs)

            return wrapper

        return decorate

    @app.get("/items")
    @require_scope("stock/read")
    def items():
        return {"caller": g.claims["client_id"]}

    return app
