"""The calls that the page has a button for, and how one is made."""

from __future__ import annotations

import functools
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import requests
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, generate_private_key

from flask_m2m_cognito.testing import LocalUserPool

from .stage import Stage
from .traffic import Hop, phrase_of, told

TokenOf = Callable[[str], str]
"""Gives the fresh token of the caller with this name: a user's ``m2m.token(client=name)``."""


@dataclass(frozen=True)
class Call:
    """One button.

    Attributes:
        key: its name in URLs.
        label: what stands on it.
        remark: what is special about it.
        status: what is answered while all is well.
        authorization: the header's value, from the callers' tokens and the pool.
        service, method, path: what is called.
        prepare: what is done first; gives a sentence about it.
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


def _of_caller(name: str) -> Callable[[TokenOf, LocalUserPool], str]:
    return lambda token_of, pool: f"Bearer {token_of(name)}"


def _made(make: Callable[[LocalUserPool], str]) -> Callable[[TokenOf, LocalUserPool], str]:
    return lambda token_of, pool: f"Bearer {make(pool)}"


def _new_key_and_no_pool(stage: Stage) -> str:
    stage.rotate_key()
    stage.switch_pool(on=False)
    return "First the pool was given a new key and was switched off. It stays off until you switch it on."


@functools.cache
def _forgers_key() -> RSAPrivateKey:
    return generate_private_key(public_exponent=65537, key_size=2048)


CALLS: tuple[Call, ...] = (
    Call(
        "read",
        "Read an order",
        "The shop shows its token to orders, and orders shows its own to inventory.",
        200,
        _of_caller("shop"),
    ),
    Call(
        "place",
        "Place an order",
        "The same way with POST, for which both tokens need another scope.",
        201,
        _of_caller("shop"),
        method="POST",
        path="/orders",
    ),
    Call(
        "newest-key",
        "With a token of the newest key",
        "After a rotation: orders does not know the key, and downloads the key set once.",
        200,
        _made(lambda pool: pool.token(client_id="shop")),
    ),
    Call(
        "no-token",
        "Without a token",
        "The challenge has no error code: nothing was wrong yet.",
        401,
        lambda token_of, pool: None,
    ),
    Call(
        "expired",
        "With a token that has ended",
        "A minute ago. Up to 10 s would pass, for clocks that differ (LEEWAY).",
        401,
        _made(lambda pool: pool.token(client_id="shop", expires_in=-60)),
    ),
    Call(
        "forged",
        "With a forged token",
        "All claims are right, but another key has signed them.",
        401,
        _made(lambda pool: pool.token(client_id="shop", key=_forgers_key())),
    ),
    Call(
        "person",
        "With a person's token",
        "Same pool, same key, right scope: but people sign in, and machines call.",
        401,
        _made(lambda pool: pool.user_token("orders/read", "shop")),
    ),
    Call(
        "no-scope",
        "Without the scope",
        "The client “reports” may read orders, and tries to place one.",
        403,
        _of_caller("reports"),
        method="POST",
        path="/orders",
    ),
    Call(
        "no-client",
        "Past orders, straight to inventory",
        "The shop's token is good, but inventory lets nobody but orders in.",
        403,
        _of_caller("shop"),
        service="inventory",
        path="/items/tea",
    ),
    Call(
        "bad-header",
        "With a header that is none",
        "“Bearer” and then three words: no token has spaces.",
        400,
        lambda token_of, pool: "Bearer not a token",
    ),
    Call(
        "no-keys",
        "New key, and the pool is off",
        "The token is good, but nobody can tell: so it is 503, and never 401.",
        503,
        _made(lambda pool: pool.token(client_id="shop")),
        prepare=_new_key_and_no_pool,
    ),
)


def made_call(call: Call, stage: Stage, token_of: TokenOf) -> dict[str, Any]:
    """Make the call, and tell all that happened."""
    prepared = call.prepare(stage) if call.prepare else None
    authorization = call.authorization(token_of, stage.pool)
    asked_before, started = stage.asked_of_pool(), time.perf_counter()
    requests.request(
        call.method,
        stage.urls[call.service] + call.path,
        headers={} if authorization is None else {"Authorization": authorization},
        timeout=30,
    )
    hops = stage.tap.since(started)
    asked = stage.asked_of_pool() - asked_before
    return {
        "label": call.label,
        "prepared": prepared,
        "hops": [told(hop) for hop in hops],
        "summary": [*map(_sentence, hops), _pool_sentence(asked, stage.state()["pool_on"])],
        "state": stage.state(),
    }


def _sentence(hop: Hop) -> str:
    answered = f"{hop.service.capitalize()} answered {phrase_of(hop.response.status_code)}"
    return f"{answered} ({hop.reason.replace('_', ' ')})." if hop.reason else f"{answered}."


def _pool_sentence(asked: Counter[str], pool_on: bool) -> str:
    said = [
        ("for its keys" if name == "keys" else f"for a token by {name}")
        + (f" ({count} times)" if count > 1 else "")
        for name, count in sorted(asked.items())
    ]
    if said:
        return f"The pool was asked {' and '.join(said)}."
    return "The pool was not asked." if pool_on else "The pool is off."
