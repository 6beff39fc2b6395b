"""``m2m.revoke`` and ``m2m.unrevoke``: their arguments, and what the process itself then answers."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask_caching import Cache

from flask_m2m_cognito import CognitoM2M, ConfigurationError, M2MCognitoError
from flask_m2m_cognito.testing import LocalUserPool
from tests.faults.caches import RaisingCache, WatchedCache
from tests.support.headers import bearer
from tests.web.conftest import MakeApp

ON: dict[str, Any] = {"REVOCATIONS": True, "CACHE_KEY": "k" * 16}
Status = Callable[[str], int]


@pytest.fixture
def cache() -> RaisingCache:
    return RaisingCache()


@pytest.fixture
def status(make_app: MakeApp, m2m: CognitoM2M, cache: RaisingCache) -> Status:
    """Return a function that sends a request with a token, and returns the status of its answer."""
    app = Flask("shop")
    app.extensions["cache"] = {"cache": cache}
    make_app(app, **ON)
    app.get("/")(m2m.require_scopes()(lambda: ""))
    return lambda token: app.test_client().get("/", headers=bearer(token)).status_code


def at(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, timezone(timedelta(hours=2)))


# -- what is revoked -----------------------------------------------------------------------------


def test_every_token_is_revoked_until_unrevoke(status: Status, m2m: CognitoM2M, pool: LocalUserPool) -> None:
    token = pool.token()
    assert status(token) == 200
    m2m.revoke("local-client")
    assert (status(token), status(pool.token())) == (401, 401)
    assert status(pool.token(client_id="billing")) == 200
    m2m.unrevoke("local-client")
    assert (status(token), status(pool.token())) == (200, 200)


@pytest.mark.parametrize("form", [at, float, int], ids=["a datetime", "a float", "an int"])
def test_before_revokes_only_older_tokens(
    status: Status, m2m: CognitoM2M, pool: LocalUserPool, form: Callable[[float], Any]
) -> None:
    now = int(time.time())
    m2m.revoke("local-client", before=form(now))
    assert (status(pool.token(iat=now - 1)), status(pool.token(iat=now))) == (401, 200)


@pytest.mark.parametrize("jti", ["leaked", ["leaked", "other"], {"leaked": 1}.keys()])
def test_jti_revokes_only_these_tokens(
    status: Status, m2m: CognitoM2M, pool: LocalUserPool, jti: Any
) -> None:
    m2m.revoke("local-client", jti=jti)
    assert (status(pool.token(jti="leaked")), status(pool.token())) == (401, 200)


def test_calls_add_up(status: Status, m2m: CognitoM2M, pool: LocalUserPool) -> None:
    now = int(time.time())
    m2m.revoke("local-client", before=now)
    m2m.revoke("local-client", jti="leaked")
    assert (status(pool.token(iat=now - 1)), status(pool.token(jti="leaked"))) == (401, 401)
    assert status(pool.token()) == 200


# -- arguments -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        pytest.param({"before": datetime(2026, 1, 1)}, "a UTC offset, got 2026-01-01T00:00:00", id="naive"),
        pytest.param({"before": time.time() + 3600}, "in the past", id="the future"),
        pytest.param({"before": at(4e9)}, "got 2096-10-02T09:06:40+02:00", id="a future datetime"),
        pytest.param({"before": 1764525600000}, "in the past, got 1764525600000", id="ms"),
        pytest.param({"before": 0}, "in the past", id="zero"),
        pytest.param({"before": -1.5}, "got -1.5", id="a negative time"),
        pytest.param({"before": float("nan")}, "got nan", id="not a number"),
        pytest.param({"before": float("inf")}, "got inf", id="infinity"),
        pytest.param({"before": 10**400}, "in the past", id="a number beyond floats"),
        pytest.param({"before": True}, "a datetime or seconds since the epoch, got True", id="a bool"),
        pytest.param({"before": "2026-01-01"}, "a datetime or seconds", id="text"),
        pytest.param({"jti": []}, "jti is empty", id="no jti"),
        pytest.param({"jti": ()}, "jti is empty", id="no jti in a tuple"),
        pytest.param({"jti": ""}, "jti must be", id="an empty jti"),
        pytest.param({"jti": ["a", None]}, "jti must be 1 to 256", id="a jti of None"),
        pytest.param({"jti": b"leaked"}, "jti must be 1 to 256", id="a jti of bytes"),
        pytest.param({"jti": 7}, "jti must be 1 to 256", id="a number for the jti"),
        pytest.param({"jti": "a" * 257}, "jti must be 1 to 256", id="a long jti"),
        pytest.param({"client_id": "local-client "}, "spaces around", id="a space after the client"),
        pytest.param({"client_id": ""}, "client_id must be", id="an empty client"),
        pytest.param({"client_id": 7}, "client_id must be", id="a number for the client"),
    ],
)
def test_invalid_argument_revokes_nothing(
    status: Status, m2m: CognitoM2M, pool: LocalUserPool, arguments: dict[str, Any], words: str
) -> None:
    with pytest.raises(ConfigurationError) as caught:
        m2m.revoke(**{"client_id": "local-client", **arguments})
    assert words in str(caught.value)
    assert status(pool.token()) == 200


def test_unrevoke_may_keep_older_tokens_revoked(status: Status, m2m: CognitoM2M, pool: LocalUserPool) -> None:
    now = int(time.time())
    m2m.revoke("local-client")
    with pytest.raises(ConfigurationError, match=r"^keep_before must be a time in the past, got"):
        m2m.unrevoke("local-client", keep_before=now + 3600)
    assert status(pool.token(iat=now)) == 401
    m2m.unrevoke("local-client", keep_before=at(now))
    assert (status(pool.token(iat=now - 1)), status(pool.token(iat=now))) == (401, 200)
    m2m.unrevoke("local-client")
    assert status(pool.token(iat=now - 1)) == 200


def test_unrevoke_needs_a_revoked_client(status: Status, m2m: CognitoM2M) -> None:
    with pytest.raises(M2MCognitoError, match=r"^No token of the client 'local-client' is revoked\.$"):
        m2m.unrevoke("local-client")


@pytest.mark.parametrize("method", ["revoke", "unrevoke"])
def test_change_names_why_the_cache_is_unavailable(
    status: Status, m2m: CognitoM2M, cache: RaisingCache, pool: LocalUserPool, method: str
) -> None:
    cache.misbehaves = True
    with pytest.raises(M2MCognitoError, match="unavailable, because the cache is: ConnectionError"):
        getattr(m2m, method)("local-client")
    assert status(pool.token()) == 200


@pytest.mark.parametrize("method", ["revoke", "unrevoke"])
def test_revocations_that_are_off_are_an_error(app: Flask, m2m: CognitoM2M, method: str) -> None:
    with pytest.raises(ConfigurationError, match=r"^COGNITO_M2M_REVOCATIONS is off\."):
        getattr(m2m, method)("local-client")


# -- settings ------------------------------------------------------------------------------------


def test_health_counts_revoked_clients(status: Status, m2m: CognitoM2M) -> None:
    m2m.revoke("local-client")
    row = m2m.health()["revocations"]
    assert row is not None
    assert (row["state"], row["source"], row["clients"]) == ("fresh", "store", 1)


@pytest.mark.parametrize(("is_down", "source"), [(False, "store"), (True, "none")])
def test_warm_up_shows_whether_the_list_can_be_read(
    status: Status, m2m: CognitoM2M, cache: RaisingCache, is_down: bool, source: str
) -> None:
    cache.misbehaves = is_down
    row = m2m.warm_up()["revocations"]
    assert row is not None
    assert (row["source"], row["failures"]) == (source, int(is_down))


NO_CACHE = "requires a cache that all processes share"
NO_KEY = "requires COGNITO_M2M_CACHE_KEY or SECRET_KEY, of at least 16 bytes"


@pytest.mark.parametrize(
    ("config", "words"),
    [
        pytest.param({}, [NO_CACHE, NO_KEY], id="nothing"),
        pytest.param({"CACHE_TYPE": "RedisCache"}, [NO_KEY], id="no key"),
        pytest.param({"CACHE_TYPE": "RedisCache", "SECRET_KEY": "k" * 15}, [NO_KEY], id="a short key"),
        pytest.param({"CACHE_TYPE": "SimpleCache", "SECRET_KEY": "k" * 16}, [NO_CACHE], id="in the process"),
        pytest.param({"CACHE_TYPE": "flask_caching.backends.NullCache"}, [NO_CACHE, NO_KEY], id="null"),
        pytest.param({"COGNITO_M2M_LEEWAY": -1}, ["must be between", NO_CACHE, NO_KEY], id="another problem"),
    ],
)
def test_one_error_lists_what_revocations_lack(
    pool: LocalUserPool, config: dict[str, Any], words: list[str]
) -> None:
    app = Flask("shop")
    app.config.update(pool.config(REVOCATIONS=True), **config)
    with pytest.raises(ConfigurationError) as caught:
        CognitoM2M(app)
    assert len(caught.value.problems) == len(words)
    assert all(word in problem for word, problem in zip(words, caught.value.problems, strict=True))


def own_cache_app(pool: LocalUserPool) -> Flask:
    app = Flask("shop")
    app.config.update(pool.config(ALLOWED_CLIENT_IDS="*", **ON))
    return app


def test_cache_may_be_initialised_after_the_extension(pool: LocalUserPool, tmp_path: Path) -> None:
    app = own_cache_app(pool)
    cache = Cache(config={"CACHE_TYPE": "FileSystemCache", "CACHE_DIR": str(tmp_path)})
    m2m = CognitoM2M(app, cache=cache)
    cache.init_app(app)
    m2m.revoke("local-client")


def test_unknown_cache_must_be_passed(pool: LocalUserPool) -> None:
    with pytest.raises(ConfigurationError, match=NO_CACHE):
        CognitoM2M(own_cache_app(pool))


def test_later_cache_that_is_not_shared_is_an_error(pool: LocalUserPool) -> None:
    app = own_cache_app(pool)
    cache = Cache(config={"CACHE_TYPE": "SimpleCache"})
    m2m = CognitoM2M(app, cache=cache)
    cache.init_app(app)
    with pytest.raises(ConfigurationError, match=r"REVOCATIONS .* share, .* in this process only"):
        m2m.revoke("local-client")


def test_list_is_shared_by_applications_with_one_key(pool: LocalUserPool) -> None:
    cache = WatchedCache()
    services = [own_cache_app(pool) for _ in range(2)]
    for app in services:
        app.extensions["cache"] = {"cache": cache}
    m2m, other = (CognitoM2M(app) for app in services)
    m2m.revoke("local-client")
    services[1].get("/")(other.require_scopes()(lambda: ""))
    assert services[1].test_client().get("/", headers=bearer(pool.token())).status_code == 401
