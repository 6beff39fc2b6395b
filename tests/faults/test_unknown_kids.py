"""Anyone may send any kid: it costs one download per cooldown, and does not delay other callers."""

from __future__ import annotations

import functools
import json
import secrets
import statistics
import time
from base64 import urlsafe_b64encode
from collections.abc import Iterator

import pytest

from flask_m2m_cognito.exceptions import KeysUnavailableError, TokenValidationError
from flask_m2m_cognito.testing import LocalUserPool
from tests.support.clocks import Clocks
from tests.support.settling import settle
from tests.support.threads import seconds_of, threads, wait_for

from .stage import PAST_FRESH, MovedService, app_on, get, moved_service

THREADS = 8
MARGIN = 1.5
"""Seconds that a busy machine may add."""


def base64url(content: object) -> str:
    return urlsafe_b64encode(json.dumps(content).encode()).rstrip(b"=").decode()


def tokens_with_random_kids(pool: LocalUserPool, count: int) -> Iterator[str]:
    """Yield tokens that pass all checks that need no key."""
    payload = pool.token().split(".")[1]
    signature = urlsafe_b64encode(secrets.token_bytes(256)).rstrip(b"=").decode()
    for _ in range(count):
        yield f"{base64url({'alg': 'RS256', 'kid': secrets.token_hex(16)})}.{payload}.{signature}"


def reason_for(service: MovedService, token: str) -> str:
    try:
        service.parts.validator.validate(token)
    except (TokenValidationError, KeysUnavailableError) as error:
        return error.reason
    return "accepted"


def test_valid_token_does_not_wait_for_an_unknown_kids_download(
    service: MovedService, pool: LocalUserPool, clocks: Clocks
) -> None:
    valid = pool.token()
    assert reason_for(service, valid) == "accepted"

    def median() -> float:
        return statistics.median(seconds_of(lambda: reason_for(service, valid)) for _ in range(500))

    alone, beside = [], []
    # In turns, so that the machine's load affects both alike.
    for turn in range(1, 6):
        alone.append(median())
        pool.fail("jwks", hang=True, times=1)
        with threads() as started:
            for token in tokens_with_random_kids(pool, THREADS):
                started(functools.partial(reason_for, service, token))
            pool.wait_for("jwks", 2 * turn)
            beside.append(median())
            pool.recover()
        # For those that still waited: a connection that ends without an answer is retried once.
        assert set(started.outcomes) <= {"unknown_key", "keys_unavailable"}
        wait_for(functools.partial(_has_count, pool, 2 * turn + 1), "the download was retried")
        clocks.advance(10)
    # A few microseconds each: waiting for the download would take a thousand times as long.
    assert min(beside) < 3 * min(alone)


def _has_count(pool: LocalUserPool, times: int) -> bool:
    return pool.count("jwks") == times


@pytest.mark.parametrize("renew", ["background", "inline"])
def test_unknown_kid_waits_until_the_download_is_1_s_old(real_pool: LocalUserPool, renew: str) -> None:
    app, _ = app_on(real_pool, RENEW=renew)
    client = app.test_client()
    assert get(client, "/items", real_pool.token()).status_code == 200
    unknown = tokens_with_random_kids(real_pool, THREADS + 1)
    real_pool.fail("jwks", hang=True)

    def status(token: str) -> tuple[int, str | None, float]:
        started = time.monotonic()
        answer = get(app.test_client(), "/items", token)
        return answer.status_code, answer.headers.get("Retry-After"), time.monotonic() - started

    with threads() as started:
        for _ in range(THREADS):
            started(functools.partial(status, next(unknown)))
    assert {outcome[:2] for outcome in started.outcomes} == {(503, "1")}
    assert all(0.5 < outcome[2] < 1 + MARGIN for outcome in started.outcomes)
    # The same download is more than 1 s old now.
    late = status(next(unknown))
    assert (late[:2], late[2] < 0.9) == ((503, "1"), True)
    assert real_pool.count("jwks") == 2
    assert get(client, "/items", real_pool.token()).status_code == 200


def test_unknown_kid_does_not_wait_for_an_inline_renewal(pool: LocalUserPool, clocks: Clocks) -> None:
    service = moved_service(pool, clocks, RENEW="inline")
    assert service.get("/items", pool.token()).status_code == 200
    clocks.advance(PAST_FRESH)
    (token,) = tokens_with_random_kids(pool, 1)
    with pool.fail("jwks", hang=True):
        status, seconds = service.status("/items", token)
    settle()  # the download that hung is reported in this test, not in the next
    assert (status, seconds < 1 + MARGIN) == (503, True)
