"""Cognito is down: no request fails while keys are usable, then each gets 503 at once until it recovers."""

from __future__ import annotations

import threading

import pytest

from flask_m2m_cognito.testing import LocalUserPool
from tests.support.clocks import Clocks
from tests.support.settling import refresh_threads
from tests.support.threads import LONG, load, seconds_of, together, wait_for

from .stage import DAY, HOUR, MovedService, moved_service


def long_token(pool: LocalUserPool) -> str:
    return pool.token("inventory/read", expires_in=30 * DAY)


def test_no_request_fails_while_keys_are_usable(
    service: MovedService, pool: LocalUserPool, clocks: Clocks
) -> None:
    token = long_token(pool)
    with load(lambda: service.status("/items", token)) as callers:
        callers.go_on_for(40)
        pool.offline()
        for _ in range(8):
            clocks.advance(2.9 * HOUR)
            callers.go_on_for(5)
        wait_for(lambda: service.keys.key_source.state.failure, "the background refresh has failed")
    assert callers.statuses == {200}


def test_cached_token_is_sent_until_it_expires(
    service: MovedService, pool: LocalUserPool, clocks: Clocks
) -> None:
    token = long_token(pool)
    pool.offline()
    clocks.advance(3600 - 30 - 2)
    with load(lambda: service.status("/relay", token)) as callers:
        callers.go_on_for(50)
    assert callers.statuses == {200}


def test_expired_keys_are_503_at_once(service: MovedService, pool: LocalUserPool, clocks: Clocks) -> None:
    token = long_token(pool)
    pool.offline()
    clocks.advance(DAY + 1)
    first = service.get("/items", token)
    assert first.status_code == 503
    alone = min(seconds_of(lambda: service.get("/items")) for _ in range(20))
    pool.online()
    downloads = pool.count("jwks")
    answers = together(50, lambda: service.get("/items", token))
    assert {answer.status_code for answer in answers} == {503}  # type: ignore[attr-defined]
    assert {answer.headers["Retry-After"] for answer in answers} == {"1"}  # type: ignore[attr-defined]
    assert pool.count("jwks") == downloads
    # As fast as the 401 of a request without a token, which needs no download either.
    assert min(seconds_of(lambda: service.get("/items", token)) for _ in range(20)) < 5 * alone


def test_cached_values_still_work_while_both_endpoints_hang(pool: LocalUserPool, clocks: Clocks) -> None:
    # On a busy machine the load takes longer than the usual 5 s, by the real clock. A download that started
    # in it would then have failed, and the next one would start when the clocks move.
    service = moved_service(pool, clocks, TIMEOUT=(3, LONG))
    token = pool.token(expires_in=30 * HOUR)
    assert service.get("/relay", token).status_code == 200
    pool.fail(hang=True)
    clocks.advance(3301)
    service.get("/relay", token)
    pool.wait_for("token", 2)
    clocks.advance(200)
    with load(lambda: service.status("/relay", token)) as callers:
        callers.go_on_for(300)
    clocks.advance(500)
    with load(lambda: service.status("/items", token)) as callers_of_keys:
        pool.wait_for("jwks", 2)
        callers_of_keys.go_on_for(300)
    assert callers.statuses == callers_of_keys.statuses == {200}
    assert (pool.count("jwks"), pool.count("token")) == (2, 2)
    pool.recover()
    wait_for(lambda: not refresh_threads(), "the refresh threads have ended")


@pytest.mark.parametrize("fault", [{"hang": True}, {"drip": 1.0}], ids=["hang", "drip"])
def test_recovered_pool_ends_the_wait(pool: LocalUserPool, clocks: Clocks, fault: dict[str, object]) -> None:
    service = moved_service(pool, clocks)
    pool.fail("jwks", **fault)  # type: ignore[arg-type]
    token = pool.token()

    def revive() -> None:
        pool.wait_for("jwks")
        pool.recover()

    threading.Thread(target=revive).start()
    assert service.get("/items", token).status_code == 200
