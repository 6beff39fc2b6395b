"""The token endpoint refuses, throttles, breaks or resets: how often it is asked, and when again."""

from __future__ import annotations

from dataclasses import dataclass, field
from email.utils import formatdate
from typing import Any

import pytest

from flask_m2m_cognito.exceptions import TokenUnavailableError
from flask_m2m_cognito.outbound.token_endpoint import CognitoM2MClient
from flask_m2m_cognito.outbound.token_source import TokenSource
from flask_m2m_cognito.remote.refreshable import Refreshing
from flask_m2m_cognito.testing import LocalUserPool
from tests.remote.moved import at_once, together
from tests.support.clocks import Clocks

LIFETIME = 3600


@dataclass(frozen=True)
class Row:
    """What is wrong; requests in one attempt; seconds of rest with no token in hand, and with one."""

    fault: dict[str, Any] = field(default_factory=dict)
    requests: int = 1
    rest: float = 1.0
    rest_with_token: float | None = None
    error_code: str | None = None


def oauth_error(code: str, **headers: str) -> dict[str, Any]:
    return {"status": 400, "body": {"error": code}, "headers": headers}


THROTTLED = {"__type": "TooManyRequestsException", "message": "Rate exceeded"}

ROWS = {
    "429": Row({"status": 429}),
    "429 with Retry-After": Row({"status": 429, "headers": {"Retry-After": "40"}}, rest=40),
    "429 with a long Retry-After": Row(
        {"status": 429, "headers": {"Retry-After": "7200"}}, rest=60, rest_with_token=3600
    ),
    "429 with a Retry-After below the rest": Row({"status": 429, "headers": {"Retry-After": "0"}}),
    "400 TooManyRequestsException": Row(
        {"status": 400, "body": THROTTLED}, error_code="TooManyRequestsException"
    ),
    "400 TooManyRequestsException with a namespace and Retry-After": Row(
        {
            "status": 400,
            "body": {"__type": "com.amazonaws.cognito#TooManyRequestsException"},
            "headers": {"Retry-After": "7"},
        },
        rest=7,
        error_code="TooManyRequestsException",
    ),
    "500": Row({"status": 500}),
    "501": Row({"status": 501}),
    "502": Row({"status": 502}, requests=2),
    "503": Row({"status": 503}, requests=2),
    "503 with Retry-After": Row({"status": 503, "headers": {"Retry-After": "20"}}, rest=20),
    "504": Row({"status": 504}, requests=2),
    "reset": Row({"reset": True}, requests=2),
    "cut off": Row({"cut_off": True}, requests=2),
    "garbage": Row({"garbage": True}),
    "an expired token": Row({"body": {"access_token": "opaque", "expires_in": 0, "token_type": "Bearer"}}),
    "invalid_client": Row(oauth_error("invalid_client"), rest=60, error_code="invalid_client"),
    "unauthorized_client": Row(oauth_error("unauthorized_client"), rest=60, error_code="unauthorized_client"),
    "invalid_scope": Row(oauth_error("invalid_scope"), rest=60, error_code="invalid_scope"),
    "invalid_scope with a short Retry-After": Row(
        oauth_error("invalid_scope", **{"Retry-After": "1"}), rest=60, error_code="invalid_scope"
    ),
    "401 invalid_client": Row(
        {"status": 401, "body": {"error": "invalid_client"}}, rest=60, error_code="invalid_client"
    ),
}

every_row = pytest.mark.parametrize("row", ROWS.values(), ids=ROWS)


def source_on(pool: LocalUserPool, clocks: Clocks, jitter: float = 0.0) -> TokenSource:
    client = pool.client()
    return TokenSource(
        CognitoM2MClient(pool.token_url, client.client_id, client.secret),
        ["inventory/read"],
        refreshing=Refreshing(clocks.clock, lambda: jitter, at_once),
    )


def failed(source: TokenSource) -> TokenUnavailableError:
    with pytest.raises(TokenUnavailableError) as caught:
        source.token()
    return caught.value


@every_row
def test_one_attempt_makes_at_most_one_retry_and_rests(pool: LocalUserPool, clocks: Clocks, row: Row) -> None:
    source = source_on(pool, clocks)
    pool.fail("token", **row.fault)
    error = failed(source)
    assert pool.count("token") == row.requests
    assert error.retry_after == pytest.approx(row.rest)
    assert error.error_code == row.error_code

    # Nobody asks before the rest has ended, whoever comes.
    pool.recover()
    clocks.advance(row.rest - 0.1)
    assert all(isinstance(each, TokenUnavailableError) for each in together(10, lambda: failed(source)))
    assert pool.count("token") == row.requests
    clocks.advance(0.1)
    assert source.token()
    assert pool.count("token") == row.requests + 1


@every_row
def test_a_token_in_hand_is_sent_while_the_endpoint_rests(
    pool: LocalUserPool, clocks: Clocks, row: Row
) -> None:
    pool_lifetime, source = 8 * LIFETIME, source_on(pool, clocks)
    pool.answer(
        "token",
        {"access_token": "opaque", "expires_in": pool_lifetime, "token_type": "Bearer"},
        times=1,
    )
    assert source.token() == "opaque"
    pool.fail("token", **row.fault)
    clocks.advance(0.75 * pool_lifetime)
    rest = row.rest if row.rest_with_token is None else row.rest_with_token
    assert [source.token() for _ in range(10)] == ["opaque"] * 10
    assert pool.count("token") == 1 + row.requests
    clocks.advance(rest - 0.1)
    assert source.token() == "opaque"
    assert pool.count("token") == 1 + row.requests
    pool.recover()
    clocks.advance(0.1)
    source.token()
    assert source.token() != "opaque"
    assert pool.count("token") == 2 + row.requests


def test_an_hour_is_the_longest_retry_after_that_is_obeyed_as_a_date_too(
    pool: LocalUserPool, clocks: Clocks
) -> None:
    # The date is compared with the real clock, by which the answer came.
    source = source_on(pool, clocks)
    pool.fail("token", status=429, headers={"Retry-After": formatdate(4_000_000_000, usegmt=True)})
    assert failed(source).retry_after == 60


def test_rests_double_to_a_minute_and_jitter_takes_off_up_to_half(
    pool: LocalUserPool, clocks: Clocks
) -> None:
    rests: dict[float, list[float]] = {}
    pool.fail("token", status=500)
    for jitter in (0.0, 1.0):
        source = source_on(pool, clocks, jitter)
        for _ in range(8):
            rests.setdefault(jitter, []).append(failed(source).retry_after or 0.0)
            clocks.advance(rests[jitter][-1])
    assert rests[0.0] == pytest.approx([1, 2, 4, 8, 16, 32, 60, 60])
    assert rests[1.0] == pytest.approx([0.5, 1, 2, 4, 8, 16, 30, 30])


def test_a_retry_inside_an_attempt_may_succeed(pool: LocalUserPool, clocks: Clocks) -> None:
    for fault in ({"reset": True}, {"status": 503}, {"cut_off": True}):
        pool.clear_requests()
        pool.fail("token", **fault, times=1)  # type: ignore[arg-type]
        assert source_on(pool, clocks).token()
        assert pool.count("token") == 2
