"""A wall clock that jumps, a machine that sleeps: nobody is refused, and no value outlives its time."""

from __future__ import annotations

import itertools

import pytest
from cachelib import SimpleCache

from flask_m2m_cognito.remote.clock import Clock
from flask_m2m_cognito.remote.refreshable import Fetched, Refreshable, Refreshing
from flask_m2m_cognito.testing import LocalUserPool
from tests.remote.moved import at_once
from tests.support.clocks import Clocks

from .stage import HOUR, MovedService, load, moved_service, wait_for


def long_token(pool: LocalUserPool) -> str:
    return pool.token(expires_in=48 * HOUR)


@pytest.mark.parametrize("jump", [-HOUR, HOUR], ids=["back by an hour", "forward by an hour"])
def test_a_wall_clock_that_jumps_costs_no_request(
    service: MovedService, pool: LocalUserPool, clocks: Clocks, jump: float
) -> None:
    token = long_token(pool)
    with load(lambda: service.status("/relay", token)) as callers:
        callers.go_on_for(20)
        clocks.wall_now += jump
        callers.go_on_for(40)
        service.advance(60)
        clocks.wall_now -= jump
        callers.go_on_for(40)
    assert callers.statuses == {200}
    assert pool.count("jwks") <= 3
    assert pool.count("token") <= 3


def test_after_a_jump_back_keys_are_refreshed_by_their_age_and_not_an_hour_late(
    service: MovedService, pool: LocalUserPool, clocks: Clocks
) -> None:
    clocks.wall_now -= 10 * HOUR
    clocks.advance(HOUR + 1)
    token = long_token(pool)
    assert service.get("/items", token).status_code == 200
    pool.wait_for("jwks", 2)
    wait_for(lambda: service.keys.keys.snapshot()["state"] == "fresh", "the refresh has landed")


def test_after_a_jump_back_a_token_is_not_sent_past_its_end(
    service: MovedService, pool: LocalUserPool, clocks: Clocks
) -> None:
    clocks.wall_now -= 10 * HOUR
    clocks.advance(HOUR)
    assert service.get("/token").status_code == 200
    assert pool.count("token") == 2


def test_a_machine_that_slept_does_not_serve_what_ended_meanwhile(
    service: MovedService, pool: LocalUserPool, clocks: Clocks
) -> None:
    # The monotonic clock of some systems stands still meanwhile.
    old = service.get("/token").get_json()["token"]
    clocks.wall_now += 30 * HOUR
    assert service.get("/token").get_json()["token"] != old
    assert service.get("/items", pool.token()).status_code == 200
    assert (pool.count("jwks"), pool.count("token")) == (2, 2)


def test_a_machine_that_slept_through_an_outage_says_503(
    service: MovedService, pool: LocalUserPool, clocks: Clocks
) -> None:
    token = pool.token(expires_in=100 * HOUR)
    pool.offline()
    clocks.wall_now += 30 * HOUR
    assert service.get("/items", token).status_code == 503


def test_entries_of_a_host_whose_clock_was_ahead_do_not_stop_the_others(
    pool: LocalUserPool, clocks: Clocks
) -> None:
    cache, ahead = SimpleCache(), Clocks()
    ahead.advance(HOUR / 2)
    assert moved_service(pool, ahead, cache=cache).get("/relay", long_token(pool)).status_code == 200
    service = moved_service(pool, clocks, cache=cache)
    for _ in range(8):
        assert service.get("/relay", long_token(pool)).status_code == 200
        service.advance(HOUR / 2)


@pytest.mark.parametrize("which", ["wall", "monotonic"])
@pytest.mark.parametrize("looks", range(12))
def test_what_ends_between_two_looks_at_the_clock_is_fetched_anew_and_not_missed(
    looks: int, which: str
) -> None:
    values, left = itertools.count(1), itertools.repeat(0)

    def jumps() -> float:
        return 1_000.0 + next(left, 900.0)

    clocks = {"wall": lambda: 1_000.0, "monotonic": lambda: 1_000.0, which: jumps}
    clock = Clock(**clocks)

    def fetch(ask: object) -> Fetched[int]:
        now = clock.wall()
        return Fetched(next(values), now + 100, now + 900, now)

    def unavailable(cause: Exception, retry_in: float) -> Exception:
        return LookupError(cause)

    refreshing = Refreshing(clock, start_thread=at_once)
    refreshable = Refreshable(fetch, unavailable=unavailable, refreshing=refreshing)
    assert refreshable.get() == 1
    left = itertools.repeat(0, looks)
    assert set(map(type, [refreshable.get() for _ in range(15)])) == {int}
    assert refreshable.get() == 2
