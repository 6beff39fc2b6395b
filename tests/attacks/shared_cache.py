"""The stage of attacks on a shared cache: a real Redis, its attacker, and processes of a fleet."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from flask import Flask, g
from flask_caching import Cache

from flask_m2m_cognito import CognitoM2M
from flask_m2m_cognito.remote.sealed_store import Seal
from flask_m2m_cognito.testing import LocalUserPool
from tests.attacks.stage import jwk_of, new_rsa_key
from tests.support.headers import bearer
from tests.support.services import Service as RedisServer

CACHE_KEY = "a cache key of more than sixteen bytes"
FORGERS_KEY = new_rsa_key()
FORGERS_KID = "the forger's"
FORGERS_TOKEN = "a.token.of-the-forger"

KEYS, TOKEN, LEASE = "keys", "token", "lease"


@dataclass
class Attacker:
    """Reads and writes the Redis that a fleet shares."""

    server: RedisServer
    pool: LocalUserPool
    redis: Any = field(init=False)

    def __post_init__(self) -> None:
        import redis

        self.redis = redis.Redis(port=self.server.port)

    def name_of(self, kind: str) -> str:
        """Return the name of the fleet's entry for its keys, its token or a lease."""
        (name,) = (each.decode() for each in self.redis.keys(f"*cognito-m2m:*:{kind}:*"))
        return str(name)

    def text_of(self, kind: str) -> str:
        return str(json.loads(self.redis.get(self.name_of(kind))))

    def put(self, name: str, value: bytes | str) -> None:
        self.redis.set(name, value if isinstance(value, bytes) else json.dumps(value))

    def everything(self) -> str:
        names = self.redis.keys("*")
        values = [self.redis.get(name) or b"" for name in names]
        return repr([*names, *values])


class Process:
    """One process of the fleet: it validates tokens and requests one of its own."""

    def __init__(
        self, attacker: Attacker, cache: Cache | None = None, serializer: Any = None, **settings: Any
    ) -> None:
        self.app = Flask("fleet")
        self.app.config.update(
            attacker.pool.config(
                **{"ALLOWED_CLIENT_IDS": "*", "CACHE_KEY": CACHE_KEY, "SCOPES": "stock/read", **settings}
            ),
            CACHE_TYPE="RedisCache",
            CACHE_REDIS_URL=attacker.server.url,
        )
        if cache is not None:
            cache.init_app(self.app)
        if cache is not None and serializer is not None:
            self.app.extensions["cache"][cache].serializer = serializer
        self.m2m = CognitoM2M(self.app)
        view = self.m2m.require_scopes()(lambda: g.m2m_token.client_id)
        self.app.add_url_rule("/", "view", view)

    def status_for(self, token: str) -> int:
        headers = bearer(token)
        return int(self.app.test_client().get("/", headers=headers).status_code)

    def token(self) -> str:
        return self.m2m.for_app(self.app).token()

    def reason_for(self, token: str) -> Any:
        headers = bearer(token)
        return (self.app.test_client().get("/", headers=headers).get_json() or {}).get("reason")


def forged(pool: LocalUserPool) -> str:
    return pool.token(headers={"kid": FORGERS_KID}, key=FORGERS_KEY)


def _key_set() -> dict[str, Any]:
    return {"keys": [jwk_of(FORGERS_KEY, FORGERS_KID)]}


def _content(kind: str) -> dict[str, Any]:
    """Return the content of an entry, except for its name, which the attacker does not know."""
    payload: Any = _key_set() if kind == KEYS else FORGERS_TOKEN
    times = {"fetched_at": time.time(), "fresh_for": 3600.0, "usable_for": 86400.0}
    return {"payload": payload, **times, "kind": kind, "name": "?"}


Plant = Callable[[Attacker, str], "bytes | str"]


@dataclass(frozen=True)
class Planted:
    """What the attacker replaces an entry with."""

    name: str
    source: str
    value: Plant

    def __str__(self) -> str:
        return self.name


def _changed(position: int) -> Plant:
    def value(attacker: Attacker, kind: str) -> str:
        text = attacker.text_of(kind)
        index = position % len(text)
        return text[:index] + ("A" if text[index] != "A" else "B") + text[index + 1 :]

    return value


def _later_time(attacker: Attacker, kind: str) -> str:
    """Change the time of the Fernet text, which is authenticated but not encrypted."""
    raw = bytearray(base64.urlsafe_b64decode(attacker.text_of(kind)))
    raw[1:9] = int(time.time() + 1e6).to_bytes(8, "big")
    return base64.urlsafe_b64encode(raw).decode()


def _unauthenticated(attacker: Attacker, kind: str) -> str:
    """Flip a bit of the initialisation vector, which changes the first block of the plaintext."""
    raw = bytearray(base64.urlsafe_b64decode(attacker.text_of(kind)))
    raw[9] ^= 1
    return base64.urlsafe_b64encode(raw).decode()


PLANTED = [
    Planted("the content as JSON", "CWE-345", lambda attacker, kind: _content(kind)),  # type: ignore[arg-type, return-value]
    Planted("sealed with the forger's key", "CWE-345", lambda attacker, kind: Seal(b"x" * 32).close(
        _content(kind))),
    Planted("sealed with the name of the key", "CWE-1391", lambda attacker, kind: Seal(
        attacker.name_of(kind).split(":")[2].encode()).close(_content(kind))),
    Planted("one character changed in the middle", "CWE-354", _changed(200)),
    Planted("one bit of the vector changed", "CWE-353: CBC without its MAC", _unauthenticated),
    Planted("a later time", "CWE-354", _later_time),
    Planted("without its MAC", "CWE-354", lambda attacker, kind: attacker.text_of(kind)[:-44]),
    Planted("empty", "CWE-20", lambda attacker, kind: ""),
    Planted("an object", "CWE-20", lambda attacker, kind: b"{}"),
    Planted("not JSON", "CWE-20", lambda attacker, kind: b"nonsense"),
    Planted("nested too deep", "CWE-674", lambda attacker, kind: b"[" * 100_000),
    Planted("a megabyte", "CWE-400", lambda attacker, kind: "A" * (1 << 20)),
]  # fmt: skip
