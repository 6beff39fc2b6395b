"""The wall clock jumps, or the machine sleeps: no request fails, and no value is used after it expires."""

from __future__ import annotations

import itertools

import pytest

from flask_m2m_cognito.remote.clock import Clock
from flask_m2m_cognito.remote.refreshable import Fetched, Refreshable, Refreshing
from flask_m2m_cognito.testing import LocalUserPool
from tests.support.clocks import Clocks
from tests.support.threads import at_once, load

from .stage import HOUR, MovedService


def long_token(pool: LocalUserPool) -> str:
    return pool.token(expires_in=48 * HOUR)


@pytest.mark.parametrize("jump", [-HOUR, HOUR], ids=["back by an hour", "forward by an hour"])
def test_wall_clock_jump_fails_no_request(
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


@pytest.mark.parametrize("which", ["wall", "monotonic"])
@pytest.mark.parametrize("looks", range(12))
def test_value_that_expires_between_clock_reads_is_refetched(looks: int, which: str) -> None:
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
