"""Two Flask services, written as for production. Nothing here depends on the pool being a local one.

In production, each is a program of its own with its own ``m2m``. Its configuration comes from the
environment: ``app.config.from_prefixed_env()``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flask import Flask, abort, current_app, g, request
from flask.typing import ResponseReturnValue

from flask_m2m_cognito import CognitoM2M

orders_m2m = CognitoM2M()
inventory_m2m = CognitoM2M()

ORDERS = {7: {"item": "tea", "quantity": 2}}
STOCK = {"tea": 12, "coffee": 5}


def create_orders_app(config: Mapping[str, Any]) -> Flask:
    """Create orders: its views are guarded, and it calls inventory."""
    app = Flask(__name__, static_folder=None)
    app.config.from_mapping(
        config,
        COGNITO_M2M_REALM="orders",
        COGNITO_M2M_ALLOWED_CLIENT_IDS=["shop", "reports"],
        COGNITO_M2M_SCOPES=["inventory/read", "inventory/write"],
    )
    orders_m2m.init_app(app)

    @app.get("/orders/<int:number>")
    @orders_m2m.require_scopes("orders/read")
    def read_order(number: int) -> ResponseReturnValue:
        order = ORDERS.get(number) or abort(404)
        stock = call_inventory("GET", f"/items/{order['item']}")
        return {"number": number, **order, "in_stock": stock["in_stock"], "read_by": g.m2m_token.client_id}

    @app.post("/orders")
    @orders_m2m.require_scopes("orders/write")
    def place_order() -> ResponseReturnValue:
        order = {"item": request.form.get("item", "tea"), "quantity": 1}
        stock = call_inventory("POST", f"/items/{order['item']}/reservations")
        return {**order, "left": stock["in_stock"], "placed_by": g.m2m_token.client_id}, 201

    return app


def call_inventory(method: str, path: str) -> Any:
    """Return inventory's answer. The request has a token of orders, not the one of its caller."""
    with orders_m2m.session() as session:
        reply = session.request(method, current_app.config["INVENTORY_URL"] + path, timeout=15)
    if not reply.ok:
        abort(502, f"Inventory answered {reply.status_code}.")
    return reply.json()


def create_inventory_app(config: Mapping[str, Any]) -> Flask:
    """Create inventory: only orders may call it."""
    app = Flask(__name__, static_folder=None)
    app.config.from_mapping(
        config,
        COGNITO_M2M_REALM="inventory",
        COGNITO_M2M_ALLOWED_CLIENT_IDS=["orders"],
    )
    inventory_m2m.init_app(app)

    @app.get("/items/<item>")
    @inventory_m2m.require_scopes("inventory/read")
    def read_item(item: str) -> ResponseReturnValue:
        if item not in STOCK:
            abort(404)
        return {"item": item, "in_stock": STOCK[item], "requested_by": g.m2m_token.client_id}

    @app.post("/items/<item>/reservations")
    @inventory_m2m.require_scopes("inventory/write")
    def reserve(item: str) -> ResponseReturnValue:
        if item not in STOCK:
            abort(404)
        STOCK[item] = STOCK[item] - 1 or 12  # restocked when the last one is reserved
        return {"item": item, "in_stock": STOCK[item], "requested_by": g.m2m_token.client_id}

    return app
