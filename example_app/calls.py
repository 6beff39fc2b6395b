"""The calls that the page has a button for, and how one is sent."""

from __future__ import annotations

import functools
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from statistics import quantiles
from typing import Any

import requests
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, generate_private_key

from flask_m2m_cognito.testing import LocalUserPool

from .stage import Stage
from .traffic import Hop, describe_hop, phrase_of

TokenOf = Callable[[str], str]
"""Returns a fresh token of the caller with this name, as ``m2m.token(client=name)`` does."""


@dataclass(frozen=True)
class Call:
    """One button.

    Attributes:
        key: its name in URLs.
        label: its text.
        remark: an explanation below it.
        status: the expected status of the response.
        authorization: returns the header's value, from the callers' tokens and the pool.
        service, method, path: what to call.
        prepare: runs before the call, and returns a message.
    """

    key: str
    label: str
    remark: str
    status: int
    authorization: Callable[[TokenOf, LocalUserPool], str | None]
    service: str = "orders"
    method: str = "GET"
    path: str = "/orders/7"
    prepare: Callable[[Stage], str] | None = field(default=None, repr=False)


def _token_of(name: str) -> Callable[[TokenOf, LocalUserPool], str]:
    return lambda token_of, pool: f"Bearer {token_of(name)}"


def _issued(issue: Callable[[LocalUserPool], str]) -> Callable[[TokenOf, LocalUserPool], str]:
    return lambda token_of, pool: f"Bearer {issue(pool)}"


def _new_key_and_no_pool(stage: Stage) -> str:
    stage.rotate_key()
    stage.switch_pool(on=False)
    return "First, the pool got a new key and was switched off."


@functools.cache
def _forgers_key() -> RSAPrivateKey:
    return generate_private_key(public_exponent=65537, key_size=2048)


CALLS: tuple[Call, ...] = (
    Call(
        "read",
        "Read an order",
        "The client shop sends its token to orders. Orders sends its own to inventory.",
        200,
        _token_of("shop"),
    ),
    Call(
        "place",
        "Place an order",
        "The same with POST, which needs other scopes of both tokens.",
        201,
        _token_of("shop"),
        method="POST",
        path="/orders",
    ),
    Call(
        "newest-key",
        "Use a token signed with the newest key",
        "After a rotation, orders does not know this key, and downloads the keys once.",
        200,
        _issued(lambda pool: pool.token(client_id="shop")),
    ),
    Call(
        "no-token",
        "Send no token",
        "The challenge has no error code (RFC 6750, section 3.1).",
        401,
        lambda token_of, pool: None,
    ),
    Call(
        "expired",
        "Send an expired token",
        "It expired a minute ago. LEEWAY allows for 10 s of clock skew.",
        401,
        _issued(lambda pool: pool.token(client_id="shop", expires_in=-60)),
    ),
    Call(
        "forged",
        "Send a forged token",
        "Its claims are correct, but it is signed with another key.",
        401,
        _issued(lambda pool: pool.token(client_id="shop", key=_forgers_key())),
    ),
    Call(
        "user-token",
        "Send a user access token",
        "Same pool, same key, sufficient scope, but it belongs to a user who signed in.",
        401,
        _issued(lambda pool: pool.user_token("orders/read", "shop")),
    ),
    Call(
        "no-scope",
        "Call without the required scope",
        "The client reports may read orders, and tries to place one.",
        403,
        _token_of("reports"),
        method="POST",
        path="/orders",
    ),
    Call(
        "no-client",
        "Call inventory directly",
        "The token of shop is valid, but inventory allows only the client orders.",
        403,
        _token_of("shop"),
        service="inventory",
        path="/items/tea",
    ),
    Call(
        "bad-header",
        "Send a malformed header",
        "“Bearer” is followed by three words, but a token has no spaces.",
        400,
        lambda token_of, pool: "Bearer not a token",
    ),
    Call(
        "no-keys",
        "Use a new key while the pool is off",
        "The token is valid, but its key is unavailable. The response is 503, not 401.",
        503,
        _issued(lambda pool: pool.token(client_id="shop")),
        prepare=_new_key_and_no_pool,
    ),
)


def send_call(call: Call, stage: Stage, token_of: TokenOf) -> dict[str, Any]:
    """Send the call, and describe all requests that it caused."""
    prepared = call.prepare(stage) if call.prepare else None
    authorization = call.authorization(token_of, stage.pool)
    counts_before, started = stage.pool_request_counts(), time.perf_counter()
    headers = {} if authorization is None else {"Authorization": authorization}
    requests.request(call.method, stage.urls[call.service] + call.path, headers=headers, timeout=30)
    hops = stage.tap.since(started)
    counts = stage.pool_request_counts() - counts_before
    plain = requests.request(call.method, stage.plain_url + call.path, headers=headers, timeout=30)
    return {
        "label": call.label,
        "prepared": prepared,
        "plain_status": plain.status_code,
        "hops": [describe_hop(hop) for hop in hops],
        "summary": [
            *map(_sentence, hops),
            f"The plain decorator answered {phrase_of(plain.status_code)}.",
            _pool_sentence(counts, stage.state()["pool_on"]),
        ],
        "state": stage.state(),
    }


def send_burst(stage: Stage, token_of: TokenOf, count: int = 100) -> dict[str, Any]:
    """Send ``count`` calls from 8 threads, and return what they cost. Send as many to the plain decorator."""
    counts_before = stage.pool_request_counts()
    authorization = f"Bearer {token_of('shop')}"

    def send(url: str) -> tuple[int, float]:
        started = time.perf_counter()
        reply = requests.get(f"{url}/orders/7", headers={"Authorization": authorization}, timeout=30)
        return reply.status_code, (time.perf_counter() - started) * 1000

    with ThreadPoolExecutor(max_workers=8) as threads:
        statuses, times = zip(*threads.map(send, [stage.urls["orders"]] * count), strict=True)
        plain_statuses = [status for status, _ in threads.map(send, [stage.plain_url] * count)]
    counts, percentiles = stage.pool_request_counts() - counts_before, quantiles(times, n=100)
    return {
        "statuses": dict(sorted(Counter(statuses).items())),
        "plain_statuses": dict(sorted(Counter(plain_statuses).items())),
        "p50": round(percentiles[49], 1),
        "p99": round(percentiles[98], 1),
        "token_requests": sum(counts.values()) - counts["keys"],
        "key_downloads": counts["keys"],
        "pool": _pool_sentence(counts, stage.state()["pool_on"]),
        "state": stage.state(),
    }


def _sentence(hop: Hop) -> str:
    answered = f"{hop.service.capitalize()} answered {phrase_of(hop.response.status_code)}"
    return f"{answered} ({hop.reason.replace('_', ' ')})." if hop.reason else f"{answered}."


def _pool_sentence(counts: Counter[str], pool_on: bool) -> str:
    requests_received = [
        ("for its keys" if name == "keys" else f"for a token of {name}")
        + (f" ({count} times)" if count > 1 else "")
        for name, count in sorted(counts.items())
    ]
    if requests_received:
        return f"The pool got a request {' and '.join(requests_received)}."
    return "The pool got no request." if pool_on else "The pool is off."
