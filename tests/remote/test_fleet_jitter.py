"""400 processes without a shared cache that start together must not renew together."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Mapping, Sequence

import pytest

from flask_m2m_cognito.outbound.token_endpoint import CognitoM2MClient, DatedToken, TokenResponse
from flask_m2m_cognito.outbound.token_source import TokenSource
from flask_m2m_cognito.remote.clock import Deadline
from flask_m2m_cognito.remote.refreshable import Refreshing
from tests.remote.moved import at_once
from tests.support.clocks import Clocks

PROCESSES = 400
STARTS_WITHIN = 2.0
LIFETIME = 3600
COGNITO_ALLOWS = 150
"""Token requests a second."""


class Endpoint(CognitoM2MClient):
    """Returns a token for each request, and stores when the request was made."""

    def __init__(self, clocks: Clocks, requested_at: list[float]) -> None:
        super().__init__("https://auth.example.com/oauth2/token", "client", "not a secret")
        self._clocks = clocks
        self._requested_at = requested_at

    def request_dated_token(
        self,
        scopes: Sequence[str],
        timeout: tuple[float, float],
        deadline: Deadline,
        metadata: Mapping[str, str] | None = None,
    ) -> DatedToken:
        self._requested_at.append(self._clocks.wall())
        token = TokenResponse(f"token-{len(self._requested_at)}", LIFETIME, "Bearer", {})
        return DatedToken(token, self._clocks.wall())


def busiest_second(jitter: Callable[[random.Random], float], seed: int = 7) -> int:
    """Return the most renewals in one second, during four lifetimes. Each process has one call a second."""
    chance = random.Random(seed)
    renewed_at: list[float] = []
    for _ in range(PROCESSES):
        clocks = Clocks()
        began = clocks.wall()
        clocks.advance(chance.uniform(0, STARTS_WITHIN))
        requested_at: list[float] = []
        source = _source(clocks, requested_at, lambda: jitter(chance))
        source.token()
        while clocks.wall() < began + 4 * LIFETIME:
            # This is the next call after the token is no longer fresh.
            clocks.advance(source.refreshable.state.fresh_wall - clocks.wall() + chance.random())
            assert source.refreshable.snapshot()["state"] == "usable"
            source.token()
        renewed_at += requested_at[1:]
    return max(Counter(int(moment) for moment in renewed_at).values())


def _source(clocks: Clocks, requested_at: list[float], jitter: Callable[[], float]) -> TokenSource:
    refreshing = Refreshing(clocks.clock, jitter, start_thread=at_once)
    return TokenSource(Endpoint(clocks, requested_at), refreshing=refreshing)


def test_fleet_without_jitter_exceeds_cognitos_quota() -> None:
    assert busiest_second(lambda chance: 0.5) > COGNITO_ALLOWS


@pytest.mark.parametrize("seed", range(3))
def test_fleet_with_jitter_spreads_its_renewals(seed: int) -> None:
    assert busiest_second(random.Random.random, seed) <= 10
