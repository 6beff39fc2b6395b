"""A program that uses the library as the README does. mypy --strict checks its types."""

from __future__ import annotations

import requests
from flask import Flask, g
from flask.typing import ResponseReturnValue

from flask_m2m_cognito import (
    AppM2M,
    BearerAuth,
    CognitoAccessTokenValidator,
    CognitoM2M,
    CognitoM2MClient,
    CognitoTokenRequestError,
    Health,
    Reason,
    Route,
    TokenResponse,
    TokenValidationError,
    ValidatedAccessToken,
    current_principal,
    current_token,
    require_scopes,
)
from flask_m2m_cognito.testing import LocalUserPool

m2m = CognitoM2M()


@require_scopes("inventory/read")
def caller() -> str:
    return current_token.client_id


def reason_of(error: TokenValidationError) -> tuple[Reason, str | None]:
    return error.reason, error.client_id


@m2m.principal_loader
def tenant(token: ValidatedAccessToken) -> dict[str, int]:
    return {token.client_id: 1}


def principal(token: ValidatedAccessToken) -> int:
    kept: dict[str, int] = tenant(token)
    return kept[current_principal["id"]]


def parts(app: Flask) -> tuple[AppM2M, BearerAuth]:
    return m2m.for_app(app), m2m.auth()


def delete_row(owner: str) -> frozenset[str]:
    token: ValidatedAccessToken = m2m.authorize("rows/own", "rows/admin", match="any", clients=[owner])
    return token.scopes


def failing_pools() -> list[str]:
    health: Health = m2m.health()
    return [pool_id for pool_id, pool in health["pools"].items() if pool["failures"]]


def open_routes(app: Flask) -> list[Route]:
    routes: list[Route] = m2m.routes(app)
    return [route for route in routes if route.is_open and not route.misplaced]


def misspell() -> None:
    assert m2m.health()["status"] != "healthy"  # type: ignore[comparison-overlap]
    m2m.require_scopes("a", match="some")  # type: ignore[arg-type]


def create_app() -> Flask:
    app = Flask(__name__)
    app.config.from_prefixed_env()
    m2m.init_app(app)

    @app.get("/items")
    @m2m.require_scopes("inventory/read")
    def items() -> ResponseReturnValue:
        token: ValidatedAccessToken = g.m2m_token
        return {"caller": token.client_id, "scopes": sorted(token.scopes)}

    @app.post("/orders")
    @m2m.require_scopes("orders/write", "orders/admin", match="any", clients=["billing"])
    async def order() -> ResponseReturnValue:
        reply = requests.post("https://stock.example.com/reserve", json={}, auth=m2m.auth(), timeout=5)
        with m2m.session("stock/write", client="billing") as session:
            session.get("https://stock.example.com/")
        later = await m2m.token_async("stock/write", client="billing")
        return {"status": reply.status_code, "token": m2m.token(["stock/write"]), "later": later}

    @app.route("/stock", methods=["GET", "POST"])
    @m2m.require_scopes(by_method={"GET": "inventory/read", "POST": ["inventory/write"]})
    def stock() -> ResponseReturnValue:
        return {
            "expires_in": current_token.expires_in,
            "may": current_token.has_scopes("a", "b", match="any"),
        }

    app.add_url_rule("/caller", view_func=caller)
    return app


def without_flask() -> frozenset[str]:
    client = CognitoM2MClient(
        token_url="https://acme.example.com/oauth2/token", client_id="a", client_secret="b"
    )
    try:
        answer: TokenResponse = client.fetch_token(scopes=["a/read"], timeout=(3.05, 10))
    except CognitoTokenRequestError as error:
        raise SystemExit(error.error_code) from error
    validator = CognitoAccessTokenValidator(region="us-west-2", user_pool_id="us-west-2_AbCdEfGhI")
    return validator.validate(answer.access_token).scopes


def with_local_pool() -> str:
    with LocalUserPool() as pool:
        return pool.token(scopes="inventory/read", client_id="billing")
