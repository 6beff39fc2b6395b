"""Minimal implementations of each kind of work: the limits that the rows compare with."""

from __future__ import annotations

import base64
import functools
import hashlib
import json
import threading
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Sequence
from typing import Any

from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicNumbers
from cryptography.hazmat.primitives.hashes import SHA256
from flask import Flask, abort, request

from tests.benchmarks.pool_process import NEEDED, Address
from tests.benchmarks.subjects import Ask, Decorator, Validate


def limit_guard(tokens: Sequence[str]) -> Callable[[Flask], Decorator]:
    """Return a guard that splits the header and looks up a SHA-256 of the token, and nothing more."""
    known = {hashlib.sha256(token.encode()).digest(): object() for token in tokens}

    def decorator(view: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(view)
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            _scheme, _, token = request.environ["HTTP_AUTHORIZATION"].partition(" ")
            if hashlib.sha256(token.encode()).digest() not in known:
                abort(401)
            return view(*args, **kwargs)

        return wrapper

    return lambda app: decorator


def limit_validate(address: Address) -> Validate:
    """Return a function that verifies a signature and parses header and claims, and nothing more."""
    with urllib.request.urlopen(address.jwks_url, timeout=5) as answer:
        keys = {row["kid"]: _public_key(row) for row in json.load(answer)["keys"]}
    padding, digest, decode = PKCS1v15(), SHA256(), base64.urlsafe_b64decode

    def validate(token: str) -> object:
        signed, _, signature = token.encode().rpartition(b".")
        header, _, payload = signed.partition(b".")
        kid = json.loads(decode(header + b"=="))["kid"]
        keys[kid].verify(decode(signature + b"=="), signed, padding, digest)
        return json.loads(decode(payload + b"=="))

    return validate


def limit_ask() -> Ask:
    """Return a function that reads an attribute and a clock."""
    cached, now = _Cached("a token", time.time() + 86400), time.time

    def ask() -> str:
        return cached.value if now() < cached.until else ""

    return ask


def limit_crowd(address: Address) -> Ask:
    """Return a function that fetches a token on one thread while the others wait for a lock."""
    lock = threading.Lock()
    fetched: list[str] = []

    def ask() -> str:
        if not fetched:
            with lock:
                if not fetched:
                    fetched.append(fetch_token(address))
        return fetched[0]

    return ask


def fetch_token(address: Address) -> str:
    """Fetch a new token with one request on a new connection."""
    form = {
        "grant_type": "client_credentials",
        "client_id": address.client_id,
        "client_secret": address.client_secret,
        "scope": NEEDED,
    }
    body = urllib.parse.urlencode(form).encode()
    with urllib.request.urlopen(address.token_url, data=body, timeout=10) as answer:
        return str(json.load(answer)["access_token"])


class _Cached:
    __slots__ = ("until", "value")

    def __init__(self, value: str, until: float) -> None:
        self.value = value
        self.until = until


def _public_key(row: dict[str, str]) -> Any:
    return RSAPublicNumbers(_number(row["e"]), _number(row["n"])).public_key()


def _number(text: str) -> int:
    return int.from_bytes(base64.urlsafe_b64decode(text + "=="), "big")
