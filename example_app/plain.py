"""The views of both services behind a plain PyJWT decorator, to compare the answers. Not code to copy."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jwt
from flask import Flask, abort, request
from flask.typing import ResponseReturnValue

AGENT = "plain-pyjwt"
"""The ``User-Agent`` of its key downloads, so that the page does not count them."""

View = Callable[..., ResponseReturnValue]


def create_key_client(keys_url: str) -> jwt.PyJWKClient:
    """Create a client with PyJWT's defaults: it caches the keys for 5 minutes."""
    return jwt.PyJWKClient(keys_url, headers={"User-Agent": AGENT}, timeout=5)


def expire_keys(keys: jwt.PyJWKClient) -> None:
    """Empty the cache, as 5 minutes do."""
    assert keys.jwk_set_cache is not None
    keys.jwk_set_cache.put(None)


def create_plain_app(keys: jwt.PyJWKClient, issuer: str) -> Flask:
    """Create a service whose decorator checks the signature, expiry, issuer and scope of each token."""
    app = Flask(__name__, static_folder=None)

    def require_scope(scope: str) -> Callable[[View], View]:
        def decorate(view: View) -> View:
            @functools.wraps(view)
            def guarded(**arguments: Any) -> ResponseReturnValue:
                try:
                    token = request.headers["Authorization"].split()[1]
                    key = keys.get_signing_key_from_jwt(token)
                    claims = jwt.decode(token, key.key, algorithms=["RS256"], issuer=issuer)
                except (KeyError, IndexError, jwt.PyJWTError):
                    abort(401)
                if scope not in claims.get("scope", "").split():
                    abort(403)
                return view(**arguments)

            return guarded

        return decorate

    @app.get("/orders/<int:number>")
    @require_scope("orders/read")
    def read_order(number: int) -> ResponseReturnValue:
        return {"number": number}

    @app.post("/orders")
    @require_scope("orders/write")
    def place_order() -> ResponseReturnValue:
        return {}, 201

    @app.get("/items/<item>")
    @require_scope("inventory/read")
    def read_item(item: str) -> ResponseReturnValue:
        return {"item": item}

    return app
