"""Health, warm-up and probes: plain data from memory, in each state."""

from __future__ import annotations

import json
from typing import Any

import pytest

from flask_m2m_cognito.exceptions import KeysUnavailableError, TokenUnavailableError
from flask_m2m_cognito.inbound.key_source import TrustedPool, trusted_pool_from
from flask_m2m_cognito.inbound.user_pool import user_pool_from
from flask_m2m_cognito.remote.bounded_backend import BoundedBackend
from flask_m2m_cognito.remote.refreshable import Refreshing
from flask_m2m_cognito.telemetry.clock_offset import ClockOffset
from flask_m2m_cognito.telemetry.health import health_of as health_of_parts
from flask_m2m_cognito.testing import LocalUserPool
from tests.support.clocks import Clocks
from tests.support.threads import seconds_of, wait_for

from .caches import RaisingCache
from .stage import DAY, HOUR, PAST_FRESH, MovedService, app_on, get, moved_service

MARGIN = 2.0


def health_of(service: MovedService) -> dict[str, Any]:
    """Return the health, which must be plain JSON data."""
    health = service.parts.health()
    assert json.loads(json.dumps(health, allow_nan=False)) == health
    return health


def keys_row(health: dict[str, Any], pool: LocalUserPool) -> dict[str, Any]:
    row: dict[str, Any] = health["pools"][pool.pool_id]
    return row


def test_health_is_starting_before_the_first_request(pool: LocalUserPool, clocks: Clocks) -> None:
    health = health_of(moved_service(pool, clocks))
    assert (health["status"], health["ready"]) == ("starting", False)
    assert keys_row(health, pool)["state"] == "gone"
    assert health["clock_offset"] is None
    assert pool.count() == 0, "it sends no request"


def test_health_is_ok_with_keys_and_a_token(
    service: MovedService, pool: LocalUserPool, clocks: Clocks
) -> None:
    fetched_at = clocks.wall()
    clocks.advance(99)
    health = health_of(service)
    assert (health["status"], health["ready"]) == ("ok", True)
    keys, (token,) = keys_row(health, pool), health["tokens"]
    assert (keys["state"], keys["source"], keys["keys"], keys["failures"]) == ("fresh", "network", 1, 0)
    assert keys["age"] == pytest.approx(100)
    assert keys["seconds_left"] == pytest.approx(DAY - 100)
    assert keys["last_success"] == pytest.approx(fetched_at - 1)
    assert (token["client"], token["client_id"], token["scopes"]) == (
        "default",
        "local-client",
        "inventory/read",
    )
    assert token["state"] == "fresh"
    assert token["seconds_left"] == pytest.approx(3600 - 30 - 100)
    assert health["store"] == {"works": True, "kind": "SharedCache"}


def test_health_is_degraded_but_ready_in_an_outage(
    service: MovedService, pool: LocalUserPool, clocks: Clocks
) -> None:
    pool.offline()
    clocks.advance(PAST_FRESH)
    service.get("/items", pool.token())
    wait_for(lambda: keys_row(health_of(service), pool)["failures"], "the refresh has failed")
    health = health_of(service)
    assert (health["status"], health["ready"]) == ("degraded", True)
    keys = keys_row(health, pool)
    assert keys["state"] == "usable"
    assert 0.5 <= keys["next_try_in"] <= 1
    assert keys["last_error_at"] == pytest.approx(clocks.wall())
    assert "refused" in keys["last_error"]


def test_one_rare_token_that_fails_makes_health_degraded(real_pool: LocalUserPool) -> None:
    app, m2m = app_on(real_pool)
    parts = m2m.for_app(app)
    assert get(app.test_client(), "/relay", real_pool.token()).status_code == 200
    with real_pool.fail("token", status=400, body={"error": "invalid_scope"}):
        with pytest.raises(TokenUnavailableError):
            parts.token("rare/x")
        assert parts.health()["status"] == "degraded"


def test_health_is_unavailable_but_ready_without_usable_values(
    service: MovedService, pool: LocalUserPool, clocks: Clocks
) -> None:
    pool.offline()
    clocks.advance(DAY + 1)
    service.get("/items", pool.token())
    health = health_of(service)
    assert (health["status"], health["ready"]) == ("unavailable", True)
    pool.online()
    clocks.advance(1)
    service.get("/items", pool.token())
    assert health_of(service)["status"] == "ok"


def test_service_that_never_had_keys_is_not_ready(pool: LocalUserPool, clocks: Clocks) -> None:
    service = moved_service(pool, clocks)
    pool.offline()
    service.get("/items", pool.token())
    assert (health_of(service)["status"], health_of(service)["ready"]) == ("unavailable", False)


NO_KEYS: list[dict[str, Any]] = [{"status": 404}, {"status": 400}, {"status": 200, "body": {"keys": []}}]


@pytest.mark.parametrize("fault", NO_KEYS, ids=str)
def test_pool_without_keys_does_not_block_readiness(
    pool: LocalUserPool, clocks: Clocks, fault: dict[str, Any]
) -> None:
    with LocalUserPool(pool_id="us-east-1_Deleted") as deleted:
        trusted = [trusted_at(each, clocks) for each in (pool, deleted)]
        deleted.fail("jwks", **fault)
        trusted[0].key_source.get()
        assert not health_at(trusted)["ready"], "the other pool has not been tried yet"
        with pytest.raises(KeysUnavailableError):
            trusted[1].key_source.get()
        health = health_at(trusted)
        assert (health["ready"], health["status"]) == (True, "degraded")
        assert health["pools"]["us-east-1_Deleted"]["last_error"]
        deleted.fail("jwks", status=503)
        clocks.advance(HOUR)
        with pytest.raises(KeysUnavailableError):
            trusted[1].key_source.get()
        assert health_at(trusted)["ready"], "it stays ready"


@pytest.mark.parametrize(
    "fault", [{"status": 503}, {"status": 403}, {"garbage": True}, {"reset": True}], ids=str
)
def test_pool_that_does_not_answer_blocks_readiness(
    pool: LocalUserPool, clocks: Clocks, fault: dict[str, Any]
) -> None:
    with LocalUserPool(pool_id="us-east-1_Silent") as silent, silent.fail("jwks", **fault):
        both = [trusted_at(pool, clocks), trusted_at(silent, clocks)]
        both[0].key_source.get()
        with pytest.raises(KeysUnavailableError):
            both[1].key_source.get()
        assert not health_at(both)["ready"]


def test_service_whose_only_pool_has_no_keys_is_not_ready(pool: LocalUserPool, clocks: Clocks) -> None:
    only = trusted_at(pool, clocks)
    pool.fail("jwks", status=404)
    with pytest.raises(KeysUnavailableError):
        only.key_source.get()
    health = health_at([only])
    assert (health["ready"], health["status"]) == (False, "unavailable")


def trusted_at(pool: LocalUserPool, clocks: Clocks) -> TrustedPool:
    user_pool = user_pool_from(pool.pool_id, issuer=pool.issuer, jwks_url=pool.jwks_url)
    return trusted_pool_from(user_pool, refreshing=Refreshing(clocks.clock))


def health_at(pools: list[TrustedPool]) -> dict[str, Any]:
    return health_of_parts(pools, [], {}, BoundedBackend(lambda: None), ClockOffset(), None)


def test_broken_cache_makes_health_degraded(pool: LocalUserPool, clocks: Clocks) -> None:
    service = moved_service(pool, clocks, cache=(cache := RaisingCache()))
    cache.misbehaves = True
    service.get("/relay", pool.token())
    health = health_of(service)
    assert (health["status"], health["ready"]) == ("degraded", True)
    assert health["store"] == {"works": False, "kind": "RaisingCache"}


def test_health_distinguishes_cached_and_pinned_keys(pool: LocalUserPool, clocks: Clocks) -> None:
    cache = RaisingCache()
    moved_service(pool, clocks, cache=cache).get("/items", pool.token())
    second = moved_service(pool, clocks, cache=cache)
    second.get("/items", pool.token())
    assert keys_row(health_of(second), pool)["source"] == "store"
    pinned = moved_service(pool, clocks, JWKS=pool.jwks())
    row = keys_row(health_of(pinned), pool)
    assert (row["source"], row["seconds_left"], health_of(pinned)["ready"]) == ("pinned", None, True)


@pytest.mark.parametrize("offset", [-90.0, 0.0, 3600.0])
def test_clock_offset_comes_from_the_date_header(offset: float) -> None:
    ours, theirs = Clocks(), Clocks()
    theirs.advance(offset)
    with LocalUserPool(clock=theirs.wall) as pool:
        service = moved_service(pool, ours)
        service.get("/items", pool.token())
        # The header has whole seconds. The library takes the middle.
        assert service.parts.health()["clock_offset"] == pytest.approx(offset, abs=1)


# -- warm-up -----------------------------------------------------------------------------------


def test_warm_up_fetches_before_the_first_request(real_pool: LocalUserPool) -> None:
    app, m2m = app_on(real_pool)
    health = m2m.for_app(app).warm_up([None, "orders/read"], timeout=30)
    assert (health["status"], health["ready"], len(health["tokens"])) == ("ok", True, 2)
    requests = real_pool.count()
    assert requests == 3
    assert get(app.test_client(), "/relay", real_pool.token()).status_code == 200
    assert real_pool.count() == requests


@pytest.mark.parametrize("fault", [{"status": 500}, {"reset": True}, {"garbage": True}])
def test_warm_up_raises_nothing_unless_required(real_pool: LocalUserPool, fault: dict[str, Any]) -> None:
    real_pool.fail(**fault)
    app, m2m = app_on(real_pool)
    health = m2m.for_app(app).warm_up([None], timeout=30)
    assert (health["status"], health["ready"]) == ("unavailable", False)
    with pytest.raises((KeysUnavailableError, TokenUnavailableError)):
        m2m.for_app(app).warm_up([None], timeout=30, required=True)


def test_warm_up_times_out_and_continues_in_the_background(
    real_pool: LocalUserPool,
) -> None:
    real_pool.fail(hang=True)
    app, m2m = app_on(real_pool)
    parts = m2m.for_app(app)
    assert seconds_of(lambda: parts.warm_up([None], timeout=0.2)) < 0.2 + MARGIN
    with pytest.raises(TimeoutError):
        parts.warm_up([None], timeout=0.05, required=True)
    real_pool.wait_for("jwks")
    real_pool.wait_for("token")
    real_pool.recover()
    wait_for(lambda: parts.health()["status"] == "ok", "the fetches have finished")


# -- probes ------------------------------------------------------------------------------------


def test_blueprint_serves_readiness_and_health(real_pool: LocalUserPool) -> None:
    app, m2m = app_on(real_pool)
    app.register_blueprint(m2m.health_blueprint(), url_prefix="/internal")
    client = app.test_client()
    details = client.get("/internal/health")
    assert (details.status_code, details.get_json()["status"]) == (200, "starting")
    assert real_pool.count() == 0
    ready = client.get("/internal/ready")
    assert (ready.status_code, ready.get_json()) == (200, {"ready": True})
    assert real_pool.count("jwks") == 1, (
        "a service that gets no traffic until it is ready must fetch the keys itself"
    )
    assert ready.headers["Cache-Control"] == details.headers["Cache-Control"] == "no-store"
    real_pool.offline()
    assert client.get("/internal/ready").status_code == 200
    assert client.get("/internal/health").get_json()["ready"] is True


def test_blueprint_is_not_ready_without_keys(real_pool: LocalUserPool) -> None:
    app, m2m = app_on(real_pool)
    app.register_blueprint(m2m.health_blueprint())
    real_pool.offline()
    answer = app.test_client().get("/ready")
    assert (answer.status_code, answer.get_json()) == (503, {"ready": False})
    assert app.test_client().get("/health").status_code == 200
