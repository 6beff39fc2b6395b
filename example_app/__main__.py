"""``python -m example_app``: start the pool, both services and the page, and print commands to try."""

from __future__ import annotations

import argparse
import signal
import threading
from collections.abc import Iterator, Sequence

from flask_m2m_cognito.testing import LocalUserPool

from .page import callers, create_page_app
from .stage import LoopbackServer, Stage

DEFAULT_PORT = 8700


def main(arguments: Sequence[str] | None = None) -> None:
    """Run until SIGINT (Ctrl-C) or SIGTERM."""
    parser = argparse.ArgumentParser("example_app", description="Two services that call each other.")
    parser.add_argument(
        "--port",
        type=int,
        default=DEFAULT_PORT,
        help="port of the page (default: %(default)s); orders, inventory and the pool use the next three; "
        "0 uses free ports",
    )
    port = parser.parse_args(arguments).port
    stopped = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *caught: stopped.set())
    with Stage(port) as stage:
        page_app = create_page_app(stage)
        page = LoopbackServer(page_app, port)
        tokens = callers.for_app(page_app)
        shop, reports = tokens.token(client="shop"), tokens.token(client="reports")
        print(*introduction(page.url, stage.urls, stage.pool, shop, reports), sep="\n", flush=True)
        while not stopped.wait(0.5):  # on Windows, Ctrl-C does not interrupt a wait without a timeout
            pass
        page.end()


def introduction(
    page_url: str, urls: dict[str, str], pool: LocalUserPool, shop: str, reports: str
) -> Iterator[str]:
    """Yield the lines to print: curl commands to copy, each below the status of its response."""
    orders, inventory = urls["orders"], urls["inventory"]
    expired = pool.token(client_id="shop", expires_in=-60)
    yield f"Two services with a local user pool: orders at {orders} calls inventory at {inventory}."
    yield "Copy a curl command into another terminal. The valid tokens expire in an hour."
    yield ""
    yield "# 200: the client shop reads an order; orders calls inventory with a token of its own"
    yield f"curl -i {orders}/orders/7 -H 'Authorization: Bearer {shop}'"
    yield ""
    yield "# 401: no token"
    yield f"curl -i {orders}/orders/7"
    yield ""
    yield "# 401: an expired token"
    yield f"curl -i {orders}/orders/7 -H 'Authorization: Bearer {expired}'"
    yield ""
    yield "# 403: the client reports may read orders, but not place one"
    yield f"curl -i -X POST {orders}/orders -H 'Authorization: Bearer {reports}'"
    yield ""
    yield "# 403: inventory allows only the client orders, so it rejects the valid token of shop"
    yield f"curl -i {inventory}/items/tea -H 'Authorization: Bearer {shop}'"
    yield ""
    yield f"Open the page to try more: {page_url}"
    yield "Press Ctrl-C to stop."


if __name__ == "__main__":
    main()
