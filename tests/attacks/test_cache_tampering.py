"""An attacker can read and write the cache: nothing that is planted there becomes a key or a token.

The cache is a real Redis. The victim is a process that starts with the entries that the attacker planted.
"""

from __future__ import annotations

import base64
import json
import logging
import pathlib
import pickle
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from flask import Flask, g
from flask_caching import Cache

from flask_m2m_cognito import CognitoM2M
from flask_m2m_cognito.remote.sealed_store import Seal
from flask_m2m_cognito.testing import LocalUserPool
from tests.attacks.stage import jwk_of, new_rsa_key
from tests.support.headers import bearer
from tests.support.services import Service as RedisServer
from tests.support.settling import settle

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


@pytest.fixture
def attacker(redis_server: RedisServer, pool: LocalUserPool) -> Iterator[Attacker]:
    attacker = Attacker(redis_server, pool)
    yield attacker
    attacker.redis.close()


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


def _forged(pool: LocalUserPool) -> str:
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


@pytest.mark.parametrize("planted", PLANTED, ids=str)
def test_planted_keys_are_not_trusted(planted: Planted, attacker: Attacker) -> None:
    assert Process(attacker).status_for(attacker.pool.token()) == 200
    attacker.put(attacker.name_of(KEYS), planted.value(attacker, KEYS))
    downloads = attacker.pool.count("jwks")
    victim = Process(attacker)

    assert victim.status_for(_forged(attacker.pool)) == 401
    assert victim.status_for(attacker.pool.token()) == 200
    assert attacker.pool.count("jwks") == downloads + 1


@pytest.mark.parametrize("planted", PLANTED, ids=str)
def test_planted_token_is_not_sent(planted: Planted, attacker: Attacker) -> None:
    first = Process(attacker).token()
    attacker.put(attacker.name_of(TOKEN), planted.value(attacker, TOKEN))
    victim = Process(attacker)

    assert victim.token() not in (FORGERS_TOKEN, first)
    assert attacker.pool.count("token") >= 2


@pytest.mark.parametrize("planted", PLANTED, ids=str)
def test_planted_lease_does_not_block(planted: Planted, attacker: Attacker) -> None:
    """CWE-667. A lease that cannot be decrypted is ignored."""
    Process(attacker).token()
    name = attacker.name_of(TOKEN).replace(f":{TOKEN}:", f":{LEASE}:")
    value = planted.value(attacker, TOKEN)
    attacker.redis.delete(attacker.name_of(TOKEN))
    attacker.put(name, value)
    began = time.monotonic()

    assert Process(attacker).token()
    assert time.monotonic() - began < 5


def test_planted_entry_is_replaced_and_logged_once(
    attacker: Attacker, caplog: pytest.LogCaptureFixture
) -> None:
    Process(attacker).token()
    attacker.put(attacker.name_of(TOKEN), "planted\r\nERROR: content")
    with caplog.at_level(logging.DEBUG):
        fetched = Process(attacker).token()
        settle()

    complaints = [each for each in caplog.records if getattr(each, "event", "") == "cache-entry-ignored"]
    assert len(complaints) == 1
    assert "planted" not in caplog.text
    assert Process(attacker).token() == fetched


def test_swapped_entries_are_ignored(attacker: Attacker) -> None:
    """CWE-345: both entries are authentic."""
    process = Process(attacker)
    process.status_for(attacker.pool.token())
    token = process.token()
    keys_name, token_name = attacker.name_of(KEYS), attacker.name_of(TOKEN)
    keys, sealed_token = attacker.text_of(KEYS), attacker.text_of(TOKEN)
    attacker.put(keys_name, sealed_token)
    attacker.put(token_name, keys)
    requests = attacker.pool.count()
    victim = Process(attacker)

    assert victim.status_for(attacker.pool.token()) == 200
    assert victim.token() != token
    assert attacker.pool.count() == requests + 2


@pytest.mark.parametrize(
    "other",
    [
        pytest.param({"CLIENT_METADATA": {"tenant": "other"}}, id="other metadata"),
        pytest.param({"SCOPES": "stock/write"}, id="other scopes"),
    ],
)
def test_token_moved_to_another_entry_is_not_sent(other: dict[str, Any], attacker: Attacker) -> None:
    """CWE-639: the entry is authentic, but belongs to another client."""
    attacker_owns = Process(attacker, **other).token()
    stolen = attacker.text_of(TOKEN)
    attacker.redis.flushall()
    Process(attacker).token()
    attacker.put(attacker.name_of(TOKEN), stolen)

    assert Process(attacker).token() != attacker_owns


def test_keys_of_another_pool_are_not_trusted(attacker: Attacker) -> None:
    """The attacker owns a pool that another service of the fleet trusts, with the same cache and key."""
    with LocalUserPool("us-east-1_Elsewhere") as elsewhere:
        theirs = Process(attacker, **_settings_of(elsewhere))
        assert theirs.status_for(elsewhere.token()) == 200
        stolen = attacker.text_of(KEYS)
        attacker.redis.flushall()
        assert Process(attacker).status_for(attacker.pool.token()) == 200
        attacker.put(attacker.name_of(KEYS), stolen)
        victim = Process(attacker)

        forged = elsewhere.token(iss=attacker.pool.issuer)
        assert victim.reason_for(forged) == "unknown_key"


def _settings_of(pool: LocalUserPool) -> dict[str, Any]:
    names = ("USER_POOL_ID", "ISSUER", "JWKS_URL")
    return {name: pool.config()[f"COGNITO_M2M_{name}"] for name in names}


def test_older_entry_does_not_replace_newer_keys(attacker: Attacker) -> None:
    """A replay (CWE-294): a process that saw a key withdrawn must not accept it again."""
    process = Process(attacker, UNKNOWN_KEY_COOLDOWN=0.001)
    before = attacker.pool.kid
    assert process.status_for(attacker.pool.token()) == 200
    older = attacker.text_of(KEYS)
    attacker.pool.rotate_key(keep_old=False)
    assert process.status_for(attacker.pool.token()) == 200
    attacker.put(attacker.name_of(KEYS), older)

    assert process.status_for(attacker.pool.token(key=before, headers={"kid": before})) == 401


def test_limit_new_process_accepts_an_older_fresh_entry(
    attacker: Attacker,
) -> None:
    """A limit, see docs/security.md: the withdrawn key is accepted for at most KEYS_FRESH_FOR."""
    before = attacker.pool.kid
    assert Process(attacker).status_for(attacker.pool.token()) == 200
    older = attacker.text_of(KEYS)
    attacker.pool.rotate_key(keep_old=False)
    attacker.put(attacker.name_of(KEYS), older)

    victim = Process(attacker)
    assert victim.status_for(attacker.pool.token(key=before, headers={"kid": before})) == 200


def test_cache_reader_learns_no_token_key_or_name(attacker: Attacker) -> None:
    """CWE-312."""
    process = Process(attacker)
    process.status_for(attacker.pool.token())
    token = process.token()
    seen = attacker.everything()

    client = attacker.pool.client()
    for secret in (token, token.split(".")[1], client.secret, client.client_id, attacker.pool.kid, CACHE_KEY,
                   attacker.pool.url, "stock/read"):  # fmt: skip
        assert secret not in seen
    assert re.search(r"cognito-m2m:v\d+:[0-9a-f]{16}:", seen)


def _pickle_that_touches(path: pathlib.Path) -> bytes:
    class Touches:
        def __reduce__(self) -> Any:
            return pathlib.Path.touch, (pathlib.Path(path),)

    return pickle.dumps(Touches())


@pytest.mark.parametrize("kind", [KEYS, TOKEN])
def test_pickle_is_not_executed_by_the_librarys_cache(
    kind: str, attacker: Attacker, tmp_path: pathlib.Path
) -> None:
    """CWE-502."""
    first = Process(attacker)
    first.status_for(attacker.pool.token())
    first.token()
    trace = tmp_path / "it ran"
    attacker.put(attacker.name_of(kind), _pickle_that_touches(trace))
    attacker.put(attacker.name_of(kind) + "!", b"!" + _pickle_that_touches(trace))
    victim = Process(attacker)

    assert victim.status_for(attacker.pool.token()) == 200
    assert victim.token()
    assert not trace.exists()


def test_limit_flask_cachings_serializer_executes_pickle(
    attacker: Attacker, tmp_path: pathlib.Path, caplog: pytest.LogCaptureFixture
) -> None:
    """CWE-502, see docs/security.md: Flask-Caching unpickles the value first. The library can only warn."""
    Process(attacker, Cache()).token()
    assert "reads with pickle" in caplog.text
    trace = tmp_path / "it ran"
    attacker.put(attacker.name_of(TOKEN), b"!" + _pickle_that_touches(trace))

    assert Process(attacker, Cache()).token()
    assert trace.exists()


def test_pickle_is_not_executed_with_a_json_serializer(
    attacker: Attacker, tmp_path: pathlib.Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The advice in the warning works."""
    from flask_m2m_cognito.app.cache_backend import text_serializer

    Process(attacker, Cache(), serializer=text_serializer()).token()
    trace = tmp_path / "it ran"
    attacker.put(attacker.name_of(TOKEN), b"!" + _pickle_that_touches(trace))

    assert Process(attacker, Cache(), serializer=text_serializer()).token()
    assert not trace.exists()
    assert "reads with pickle" not in caplog.text
