"""``python -m example_app``: starts the pool, both services and the page, and says what to try."""

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
        help="of the page; the next three are for orders, inventory and the pool; 0 takes free ones",
    )
    port = parser.parse_args(arguments).port
    ended = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *caught: ended.set())
    with Stage(port) as stage:
        page_app = create_page_app(stage)
        page = LoopbackServer(page_app, port)
        tokens = callers.for_app(page_app)
        shop, reports = tokens.token(client="shop"), tokens.token(client="reports")
        print(*introduction(page.url, stage.urls, stage.pool, shop, reports), sep="\n", flush=True)
        while not ended.wait(0.5):  # an endless wait would not see Ctrl-C on Windows
            pass
        page.end()


def introduction(
    page_url: str, urls: dict[str, str], pool: LocalUserPool, shop: str, reports: str
) -> Iterator[str]:
    """What a newcomer can copy. Each command stands under the status that it is answered with."""
    orders, inventory = urls["orders"], urls["inventory"]
    ended = pool.token(client_id="shop", expires_in=-60)
    yield f"Two services over a local user pool: orders at {orders} calls inventory at {inventory}."
    yield "Copy a line. Its token is real, and good for an hour where it is good at all."
    yield ""
    yield "# 200: the shop reads an order, for which orders asks inventory with a token of its own"
    yield f"curl -i {orders}/orders/7 -H 'Authorization: Bearer {shop}'"
    yield ""
    yield "# 401: no token"
    yield f"curl -i {orders}/orders/7"
    yield ""
    yield "# 401: a token that has ended"
    yield f"curl -i {orders}/orders/7 -H 'Authorization: Bearer {ended}'"
    yield ""
    yield "# 403: the client reports may read orders, and not place one"
    yield f"curl -i -X POST {orders}/orders -H 'Authorization: Bearer {reports}'"
    yield ""
    yield "# 403: inventory lets nobody in but orders, not even the shop with its good token"
    yield f"curl -i {inventory}/items/tea -H 'Authorization: Bearer {shop}'"
    yield ""
    yield f"The same with pictures: {page_url}"
    yield "End it with Ctrl-C."


if __name__ == "__main__":
    main()
