"""What one can see: signals and log records, each once, with stable names and fields, and without secrets."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from typing import Any

import pytest
from flask import Flask, request_started

from flask_m2m_cognito import signals
from flask_m2m_cognito.inbound.validated_access_token import ValidatedAccessToken
from flask_m2m_cognito.testing import LocalUserPool, MovedClock
from flask_m2m_cognito.web.rejection_log import MOST_A_MINUTE, Rejection, RejectionLog
from tests.support.clocks import Clocks
from tests.support.settling import settle

from .caches import RaisingCache
from .stage import DAY, HOUR, SCOPE, MovedService, Records, app_on, get, moved_service

Sent = list[tuple[str, Any, dict[str, Any]]]


def names(sent: Sent) -> list[str]:
    settle()
    return [name for name, _, _ in sent]


def arguments_of(sent: Sent, name: str) -> list[dict[str, Any]]:
    settle()
    return [arguments for each, _, arguments in sent if each == name]


# -- signals ---------------------------------------------------------------------------------


def test_a_request_that_is_let_in_sends_what_was_fetched_for_it_and_its_token(
    pool: LocalUserPool, clocks: Clocks, sent: Sent
) -> None:
    service = moved_service(pool, clocks)
    service.get("/relay", pool.token())
    # In any order: callers go on before a refresh is reported.
    assert sorted(names(sent)) == ["keys-refreshed", "token-accepted", "token-obtained"]
    assert {sender for _, sender, _ in sent} == {service.app}
    keys, accepted, obtained = (arguments for _, _, arguments in sorted(sent, key=lambda each: each[0]))
    assert (keys["pool_id"], keys["source"], keys["recovered"]) == (pool.pool_id, "network", False)
    assert keys["seconds"] >= 0
    assert isinstance(accepted["token"], ValidatedAccessToken)
    assert obtained["client"] is None
    assert (obtained["client_id"], obtained["scopes"]) == ("local-client", "inventory/read")
    assert obtained["source"] == "network"


def test_what_another_process_fetched_is_told_as_from_the_store(
    pool: LocalUserPool, clocks: Clocks, sent: Sent
) -> None:
    cache = RaisingCache()
    for _ in range(2):
        moved_service(pool, clocks, cache=cache).get("/relay", pool.token())
    assert [arguments["source"] for arguments in arguments_of(sent, "keys-refreshed")] == ["network", "store"]
    assert [arguments["source"] for arguments in arguments_of(sent, "token-obtained")] == ["network", "store"]


def test_a_refusal_sends_its_reason_status_kid_and_path(
    service: MovedService, pool: LocalUserPool, sent: Sent
) -> None:
    service.get("/items", pool.token(expires_in=-60))
    service.get("/items")
    service.get("/items", pool.token("orders/read"))
    told = arguments_of(sent, "token-rejected")
    assert [(each["reason"], each["status"]) for each in told] == [
        ("expired", 401),
        ("missing_token", 401),
        ("insufficient_scope", 403),
    ]
    assert {each["path"] for each in told} == {"/items"}
    assert told[0]["kid"] == pool.kid


def test_failures_are_told_with_their_number_and_the_next_try_and_recovery_once(
    service: MovedService, pool: LocalUserPool, clocks: Clocks, sent: Sent
) -> None:
    pool.offline()
    clocks.advance(DAY + 1)
    for _ in range(3):
        service.get("/items", pool.token())
        service.get("/token")
        clocks.advance(8)
    pool.online()
    service.get("/relay", pool.token())
    for name in ("keys-failed", "token-failed"):
        failed = arguments_of(sent, name)
        assert [each["count"] for each in failed] == [1, 2, 3]
        # Chance takes off up to half.
        assert all(most / 2 <= each["retry_in"] <= most for most, each in zip((1, 2, 4), failed, strict=True))
        assert {each["has_value"] for each in failed} == {False}
        assert all(isinstance(each["error"], Exception) for each in failed)
    assert [each["recovered"] for each in arguments_of(sent, "keys-refreshed")] == [True]
    assert [each["recovered"] for each in arguments_of(sent, "token-obtained")] == [True]


@pytest.mark.parametrize("signal", signals._signals.values(), ids=signals._signals)
def test_a_receiver_that_raises_is_logged_and_harms_nobody(
    pool: LocalUserPool, clocks: Clocks, records: Records, signal: Any
) -> None:
    called: list[str] = []

    def raises(sender: object, **_: object) -> None:
        called.append("raises")
        raise RuntimeError("this receiver is broken")

    def works(sender: object, **_: object) -> None:
        called.append("works")

    cache = RaisingCache()
    service = moved_service(pool, clocks, cache=cache)
    with signal.connected_to(raises), signal.connected_to(works):
        pool.fail("all", status=500)
        assert service.get("/items", pool.token()).status_code == 503
        assert service.get("/token").status_code == 503
        pool.recover()
        clocks.advance(60)
        cache.misbehaves = True
        assert service.get("/relay", pool.token()).status_code == 200
        settle()
    assert {"raises", "works"} == set(called)
    failed = records.of("receiver-failed")
    assert len(failed) == called.count("raises")
    assert {vars(record)["signal"] for record in failed} == {signal.name}
    assert all(record.exc_info for record in failed)


# -- changes of state, logged once ---------------------------------------------------------------


def test_an_outage_is_one_failure_and_one_recovery_each(
    service: MovedService, pool: LocalUserPool, clocks: Clocks, records: Records
) -> None:
    pool.offline()
    clocks.advance(DAY + 1)
    for _ in range(10):
        service.get("/items", pool.token())
        service.get("/token")
        clocks.advance(60)
    pool.online()
    service.get("/relay", pool.token())
    told = [event for event in records.events() if event.startswith(("keys-", "token-"))]
    told = [event for event in told if event != "token-rejected"]
    assert sorted(told) == ["keys-failed", "keys-recovered", "token-failed", "token-recovered"]
    failed, recovered = records.of("keys-failed")[0], records.of("keys-recovered")[0]
    assert (failed.levelno, recovered.levelno) == (logging.ERROR, logging.INFO)
    assert vars(failed)["pool"] == vars(recovered)["pool"] == pool.pool_id
    assert 0.5 <= vars(failed)["retry_in"] <= 1
    token = vars(records.of("token-failed")[0])
    assert (token["client_id"], token["scopes"]) == ("local-client", "inventory/read")


def test_outage_becomes_an_error_when_nothing_serves(
    service: MovedService, pool: LocalUserPool, clocks: Clocks, records: Records
) -> None:
    pool.offline()
    for hours in (2, 1, 30, 1):  # keys are usable for a day, a token for an hour
        clocks.advance(hours * 3600)
        service.get("/items", pool.token())
        settle()
    levels = [record.levelno for record in records.of("keys-failed")]
    assert levels == [logging.WARNING, logging.ERROR]


def test_what_wont_mend_is_logged_once(pool: LocalUserPool, clocks: Clocks, records: Records) -> None:
    service = moved_service(pool, clocks)
    pool.remove_client(pool.client().client_id)
    for _ in range(5):
        service.get("/token")
        clocks.advance(60)
    assert pool.count("token") == 5
    assert records.events(logging.WARNING) == ["token-failed"]


# -- refusals, a few a minute ------------------------------------------------------------------


def test_a_refusal_is_logged_with_reason_kid_pool_and_path_as_fields(
    service: MovedService, pool: LocalUserPool, records: Records
) -> None:
    service.get("/items?secret=1", pool.token(expires_in=-60))
    (record,) = records.of("token-rejected")
    fields = vars(record)
    assert record.name == "flask_m2m_cognito.auth"
    assert record.levelno == logging.INFO
    assert (fields["reason"], fields["status"], fields["path"]) == ("expired", 401, "/items")
    assert (fields["kid"], fields["pool"]) == (pool.kid, pool.pool_id)
    assert record.getMessage() == "Rejected a request: expired"


def test_ten_a_minute_for_each_reason_are_logged_and_then_a_count(clocks: Clocks, records: Records) -> None:
    log = RejectionLog(Flask("shop"), clocks.clock)
    for reason in ("expired", "missing_token"):
        for _ in range(1_000):
            log.note(Rejection(reason, 401, None, None, "/"))
    assert len(records.of("token-rejected")) == 2 * MOST_A_MINUTE
    clocks.advance(59.9)
    log.note(Rejection("expired", 401, None, None, "/"))
    assert len(records.of("token-rejected")) == 2 * MOST_A_MINUTE
    clocks.advance(0.1)
    log.note(Rejection("malformed", 401, None, None, "/"))
    assert len(records.of("token-rejected")) == 2 * MOST_A_MINUTE + 1
    more = {vars(each)["reason"]: vars(each)["count"] for each in records.of("token-rejected-more")}
    assert more == {"expired": 1_001 - MOST_A_MINUTE, "missing_token": 1_000 - MOST_A_MINUTE}


@pytest.mark.parametrize("path", ["/items", "/unguarded"])
def test_next_request_of_any_kind_logs_the_count(
    real_pool: LocalUserPool, records: Records, path: str
) -> None:
    with MovedClock() as clock:
        app, _ = app_on(real_pool)
        client, token = app.test_client(), real_pool.token(SCOPE)
        for _ in range(MOST_A_MINUTE + 2):
            get(client, "/items")
        clock.move(58)
        get(client, path, token)
        assert not records.of("token-rejected-more")
        clock.move(3)
        for _ in range(2):
            get(client, path, token)
    (record,) = records.of("token-rejected-more")
    assert (vars(record)["reason"], vars(record)["count"]) == ("missing_token", 2)
    assert not any(request_started.receivers_for(app))


def test_end_of_the_process_logs_the_count(real_pool: LocalUserPool) -> None:
    program = """
import logging
logging.basicConfig(level="INFO", format="%(message)s")
from flask import Flask
from flask_m2m_cognito import CognitoM2M
app = Flask("shop")
app.config.from_prefixed_env()
m2m = CognitoM2M(app)
app.get("/a")(m2m.require_scopes()(lambda: ""))
for _ in range(13):
    app.test_client().get("/a")
"""
    settings = real_pool.config(ALLOWED_CLIENT_IDS="*")
    environment = {f"FLASK_{name}": json.dumps(value) for name, value in settings.items()}
    ended = subprocess.run(
        [sys.executable, "-c", program], env={**os.environ, **environment}, capture_output=True, text=True
    )
    assert ended.returncode == 0, ended.stderr
    assert ended.stderr.splitlines()[-1] == "3 more requests were rejected: missing_token"


# -- token requests are billed -----------------------------------------------------------------


def test_more_than_ten_token_requests_an_hour_are_one_warning_with_the_sum(
    pool: LocalUserPool, clocks: Clocks, records: Records
) -> None:
    service = moved_service(pool, clocks)
    for _ in range(12):
        service.tokens.client.fetch_token("inventory/read")
    (warning,) = records.of("many-token-requests")
    assert warning.levelno == logging.WARNING
    fields = vars(warning)
    assert (fields["client_id"], fields["last_hour"], fields["total"]) == ("local-client", 11, 11)
    assert service.parts.health()["token_requests"] == {"default": {"total": 12, "last_hour": 12}}
    clocks.advance(HOUR)
    assert service.parts.health()["token_requests"] == {"default": {"total": 12, "last_hour": 0}}
    for _ in range(11):
        service.tokens.client.fetch_token("inventory/read")
    assert [vars(record)["total"] for record in records.of("many-token-requests")] == [11, 23]


def test_ten_token_requests_an_hour_are_no_warning_and_refusals_are_not_billed(
    pool: LocalUserPool, clocks: Clocks, records: Records
) -> None:
    service = moved_service(pool, clocks)
    for _ in range(10):
        service.tokens.client.fetch_token("inventory/read")
    pool.fail("token", status=429)
    for _ in range(5):
        with pytest.raises(Exception, match="429"):
            service.tokens.client.fetch_token("inventory/read")
    assert not records.of("many-token-requests")
    assert service.parts.health()["token_requests"]["default"]["total"] == 10


# -- SCOPES_MISSING ----------------------------------------------------------------------------


def granting_less(pool: LocalUserPool) -> dict[str, Any]:
    return {"access_token": pool.token("inventory/read"), "expires_in": 3600, "token_type": "Bearer"}


def test_a_token_with_fewer_scopes_than_asked_is_a_failure_where_that_is_set(
    real_pool: LocalUserPool,
) -> None:
    app, _ = app_on(real_pool, SCOPES_MISSING="raise", SCOPES=["inventory/read", "orders/write"])
    real_pool.answer("token", granting_less(real_pool))
    answer = get(app.test_client(), "/token")
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "60")
    assert get(app.test_client(), "/token").status_code == 503
    assert real_pool.count("token") == 1
