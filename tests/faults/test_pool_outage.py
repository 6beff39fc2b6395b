"""Cognito is down: while keys are usable nobody notices, then 503 at once, then 200 within the rest."""

from __future__ import annotations

from flask_m2m_cognito.testing import LocalUserPool
from tests.remote.moved import together
from tests.support.clocks import Clocks

from .stage import DAY, HOUR, MovedService, load, moved_service, seconds_of, wait_for


def long_token(pool: LocalUserPool) -> str:
    return pool.token("inventory/read", expires_in=30 * DAY)


def test_no_request_fails_while_keys_are_usable(
    service: MovedService, pool: LocalUserPool, clocks: Clocks
) -> None:
    token = long_token(pool)
    with load(lambda: service.status("/items", token)) as callers:
        callers.go_on_for(40)
        pool.offline()
        for _ in range(23):
            clocks.advance(HOUR)
            callers.go_on_for(5)
        wait_for(lambda: service.keys.keys.state.failure, "the background refresh has failed")
    assert callers.statuses == {200}


def test_no_request_waits_for_a_pool_that_hangs_while_keys_are_usable(
    service: MovedService, pool: LocalUserPool, clocks: Clocks
) -> None:
    token = long_token(pool)
    pool.fail("jwks", hang=True)
    clocks.advance(2 * HOUR)
    with load(lambda: service.status("/items", token)) as callers:
        callers.go_on_for(20)
        pool.wait_for("jwks", 2)
        callers.go_on_for(200)
        assert pool.count("jwks") == 2
        pool.recover("jwks")
    assert callers.statuses == {200}
    wait_for(lambda: service.keys.keys.snapshot()["state"] == "fresh", "the next refresh succeeds")


def test_a_token_in_hand_goes_on_being_sent_until_it_ends(
    service: MovedService, pool: LocalUserPool, clocks: Clocks
) -> None:
    token = long_token(pool)
    pool.offline()
    clocks.advance(3600 - 30 - 2)
    with load(lambda: service.status("/relay", token)) as callers:
        callers.go_on_for(50)
    assert callers.statuses == {200}


def test_past_their_use_each_caller_gets_503_at_once(
    service: MovedService, pool: LocalUserPool, clocks: Clocks
) -> None:
    token = long_token(pool)
    pool.offline()
    clocks.advance(DAY + 1)
    first = service.get("/items", token)
    assert first.status_code == 503
    alone = min(seconds_of(lambda: service.get("/items")) for _ in range(20))
    pool.online()
    asked = pool.count("jwks")
    answers = together(50, lambda: service.get("/items", token))
    assert {answer.status_code for answer in answers} == {503}  # type: ignore[attr-defined]
    assert {answer.headers["Retry-After"] for answer in answers} == {"1"}  # type: ignore[attr-defined]
    assert pool.count("jwks") == asked
    # As quick as the 401 of a request without a token, which asks nobody either.
    assert min(seconds_of(lambda: service.get("/items", token)) for _ in range(20)) < 5 * alone


def test_a_pool_that_is_back_is_found_within_the_rest(
    service: MovedService, pool: LocalUserPool, clocks: Clocks
) -> None:
    token = long_token(pool)
    pool.offline()
    clocks.advance(DAY + 1)
    rests = []
    for _ in range(8):
        answer = service.get("/items", token)
        assert answer.status_code == 503
        rests.append(int(answer.headers["Retry-After"]))
        clocks.advance(rests[-1])
    assert rests == [1, 2, 4, 8, 16, 32, 60, 60]
    assert service.get("/items", token).status_code == 503
    pool.online()
    clocks.advance(60)
    assert service.get("/items", token).status_code == 200
    assert pool.count("jwks") == 2


def test_no_token_is_503_at_once_while_it_rests_and_200_afterwards(
    pool: LocalUserPool, clocks: Clocks
) -> None:
    service = moved_service(pool, clocks)
    pool.offline()
    assert service.get("/token").status_code == 503
    pool.online()
    answers = together(20, lambda: service.get("/token"))
    assert {answer.status_code for answer in answers} == {503}  # type: ignore[attr-defined]
    assert {answer.headers["Retry-After"] for answer in answers} == {"1"}  # type: ignore[attr-defined]
    assert pool.count("token") == 0
    clocks.advance(1)
    assert service.get("/token").status_code == 200


def test_an_expired_token_is_not_sent_in_an_outage(
    service: MovedService, pool: LocalUserPool, clocks: Clocks
) -> None:
    pool.offline()
    clocks.advance(3600 - 29)
    assert service.get("/token").status_code == 503
