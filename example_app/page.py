"""The page: a button for each call, and the switches. It calls the services as shop and as reports."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from flask import Flask, abort, render_template, request, send_from_directory
from flask.typing import ResponseReturnValue
from werkzeug.wrappers import Response

from flask_m2m_cognito import CognitoM2M

from .calls import CALLS, send_burst, send_call
from .stage import HOST, Stage

callers = CognitoM2M()

_CALLERS = ("shop", "reports")
_GROUPS = {
    "Accepted": [call for call in CALLS if call.status < 300],
    "Unauthorized": [call for call in CALLS if call.status == 401],
    "Forbidden": [call for call in CALLS if call.status == 403],
    "Bad request and outage": [call for call in CALLS if call.status in (400, 503)],
}
_TOUR = (
    ("call", "Call", "Shop reads an order. Keys and tokens are fetched."),
    ("outage", "Switch the pool off", "PyJWT's keys expire at once, not after 5 minutes."),
    ("again", "Call in the outage", "Cached keys and the cached token still work."),
    ("new-key", "Use a new key", "Orders cannot download it, so its tokens get 503."),
    ("recovery", "Switch the pool on", "After Retry-After, orders downloads the key."),
)
_ROOT = Path(__file__).parents[1]
_TEXTS = ("README.md", "docs/index.md", "example_app/services.py", "example_app/plain.py")
_SECURITY = {
    "Content-Security-Policy": "default-src 'self'; frame-ancestors 'none'; base-uri 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
}


def create_page_app(stage: Stage) -> Flask:
    """Create the page's application. It calls the services of ``stage`` as shop and as reports."""
    app = Flask(__name__)
    app.json.sort_keys = False  # type: ignore[attr-defined]  # keep the order of the token's claims
    app.config["COGNITO_M2M_TOKEN_URL"] = stage.pool.token_url
    app.config["COGNITO_M2M_CLIENTS"] = {name: _client_settings(stage, name) for name in _CALLERS}
    callers.init_app(app)
    one_at_a_time = threading.Lock()
    switches: dict[str, Callable[[bool], str]] = {
        "pool": stage.switch_pool,
        "short-life": stage.shorten_life,
        "rotate": lambda on: stage.rotate_key(),
        "restart": lambda on: stage.restart_orders(),
    }

    app.before_request(_reject_other_sites)
    app.after_request(_add_security_headers)

    @app.get("/")
    def page() -> str:
        return render_template(
            "page.html", groups=_GROUPS, tour=_TOUR, urls=stage.urls, pool_url=stage.pool.url
        )

    @app.get("/text/<path:name>")
    def text(name: str) -> ResponseReturnValue:
        if name not in _TEXTS:
            abort(404)
        return send_from_directory(_ROOT, name, mimetype="text/plain")

    @app.get("/favicon.ico")  # browsers request it for the texts
    def icon() -> ResponseReturnValue:
        return app.send_static_file("icon.svg")

    @app.get("/state")
    def state() -> ResponseReturnValue:
        return stage.state()

    @app.post("/calls/<key>")
    def call(key: str) -> ResponseReturnValue:
        chosen = next((each for each in CALLS if each.key == key), None) or abort(404)
        with one_at_a_time:
            return send_call(chosen, stage, lambda name: callers.token(client=name))

    @app.post("/burst")
    def burst() -> ResponseReturnValue:
        with one_at_a_time:
            return send_burst(stage, lambda name: callers.token(client=name))

    @app.post("/switches/<name>")
    def switch(name: str) -> ResponseReturnValue:
        turn = switches.get(name) or abort(404)
        with one_at_a_time:
            message = turn(bool(request.get_json().get("on")))
        return {"message": message, "state": stage.state()}

    return app


def _client_settings(stage: Stage, name: str) -> dict[str, Any]:
    client = stage.pool.client(name)
    return {"CLIENT_ID": client.client_id, "CLIENT_SECRET": client.secret, "SCOPES": list(client.scopes)}


def _reject_other_sites() -> None:
    """Reject requests from pages of other sites, which have another host or cannot send JSON."""
    if urlsplit(f"//{request.host}").hostname not in (HOST, "localhost"):
        abort(403)
    if request.method == "POST" and not request.is_json:
        abort(415)


def _add_security_headers(response: Response) -> Response:
    response.headers.update(_SECURITY)
    return response
