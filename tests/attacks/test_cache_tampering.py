"""An attacker can read and write the cache: nothing that is planted there becomes a key or a token.

The cache is a real Redis. The victim is a process that starts with the entries that the attacker planted.
"""

from __future__ import annotations

import logging
import pathlib
import pickle
import re
import time
from typing import Any

import pytest
from flask_caching import Cache

from flask_m2m_cognito.testing import LocalUserPool
from tests.attacks.shared_cache import (
    CACHE_KEY,
    FORGERS_TOKEN,
    KEYS,
    LEASE,
    PLANTED,
    TOKEN,
    Attacker,
    Planted,
    Process,
    forged,
)
from tests.support.settling import settle


@pytest.mark.parametrize("planted", PLANTED, ids=str)
def test_planted_keys_are_not_trusted(planted: Planted, attacker: Attacker) -> None:
    assert Process(attacker).status_for(attacker.pool.token()) == 200
    attacker.put(attacker.name_of(KEYS), planted.value(attacker, KEYS))
    downloads = attacker.pool.count("jwks")
    victim = Process(attacker)

    assert victim.status_for(forged(attacker.pool)) == 401
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
