"""Signals and log records: each is sent once, with stable names and fields, and without secrets."""

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

Signals = list[tuple[str, Any, dict[str, Any]]]


def names(signalled: Signals) -> list[str]:
    settle()
    return [name for name, _, _ in signalled]


def arguments_of(signalled: Signals, name: str) -> list[dict[str, Any]]:
    settle()
    return [arguments for each, _, arguments in signalled if each == name]


# -- signals ---------------------------------------------------------------------------------


def test_accepted_request_sends_signals(pool: LocalUserPool, clocks: Clocks, signalled: Signals) -> None:
    service = moved_service(pool, clocks)
    service.get("/relay", pool.token())
    # In any order: callers are released before a refresh is reported.
    assert sorted(names(signalled)) == ["keys-refreshed", "token-accepted", "token-obtained"]
    assert {sender for _, sender, _ in signalled} == {service.app}
    keys, accepted, obtained = (arguments for _, _, arguments in sorted(signalled, key=lambda each: each[0]))
    assert (keys["pool_id"], keys["source"], keys["recovered"]) == (pool.pool_id, "network", False)
    assert keys["seconds"] >= 0
    assert isinstance(accepted["token"], ValidatedAccessToken)
    assert obtained["client"] is None
    assert (obtained["client_id"], obtained["scopes"]) == ("local-client", "inventory/read")
    assert obtained["source"] == "network"


def test_value_of_another_process_has_source_store(
    pool: LocalUserPool, clocks: Clocks, signalled: Signals
) -> None:
    cache = RaisingCache()
    for _ in range(2):
        moved_service(pool, clocks, cache=cache).get("/relay", pool.token())
    assert [arguments["source"] for arguments in arguments_of(signalled, "keys-refreshed")] == [
        "network",
        "store",
    ]
    assert [arguments["source"] for arguments in arguments_of(signalled, "token-obtained")] == [
        "network",
        "store",
    ]


def test_rejection_signal_has_reason_status_kid_and_path(
    service: MovedService, pool: LocalUserPool, signalled: Signals
) -> None:
    service.get("/items", pool.token(expires_in=-60))
    service.get("/items")
    service.get("/items", pool.token("orders/read"))
    rejected = arguments_of(signalled, "token-rejected")
    assert [(each["reason"], each["status"]) for each in rejected] == [
        ("expired", 401),
        ("missing_token", 401),
        ("insufficient_scope", 403),
    ]
    assert {each["path"] for each in rejected} == {"/items"}
    assert rejected[0]["kid"] == pool.kid


def test_failure_signals_count_and_recovery_is_sent_once(
    service: MovedService, pool: LocalUserPool, clocks: Clocks, signalled: Signals
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
        failed = arguments_of(signalled, name)
        assert [each["count"] for each in failed] == [1, 2, 3]
        # Jitter takes off up to half.
        assert all(most / 2 <= each["retry_in"] <= most for most, each in zip((1, 2, 4), failed, strict=True))
        assert {each["has_value"] for each in failed} == {False}
        assert all(isinstance(each["error"], Exception) for each in failed)
    assert [each["recovered"] for each in arguments_of(signalled, "keys-refreshed")] == [True]
    assert [each["recovered"] for each in arguments_of(signalled, "token-obtained")] == [True]


@pytest.mark.parametrize("signal", signals._signals.values(), ids=signals._signals)
def test_exception_in_a_receiver_is_logged_and_swallowed(
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


# -- changes of state, each logged once ----------------------------------------------------------


def test_outage_logs_one_failure_and_one_recovery(
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
    events = [event for event in records.events() if event.startswith(("keys-", "token-"))]
    events = [event for event in events if event != "token-rejected"]
    assert sorted(events) == ["keys-failed", "keys-recovered", "token-failed", "token-recovered"]
    failed, recovered = records.of("keys-failed")[0], records.of("keys-recovered")[0]
    assert (failed.levelno, recovered.levelno) == (logging.ERROR, logging.INFO)
    assert vars(failed)["pool"] == vars(recovered)["pool"] == pool.pool_id
    assert 0.5 <= vars(failed)["retry_in"] <= 1
    token = vars(records.of("token-failed")[0])
    assert (token["client_id"], token["scopes"]) == ("local-client", "inventory/read")


def test_outage_becomes_an_error_without_usable_values(
    service: MovedService, pool: LocalUserPool, clocks: Clocks, records: Records
) -> None:
    pool.offline()
    for hours in (2, 1, 30, 1):  # keys are usable for a day, a token for an hour
        clocks.advance(hours * 3600)
        service.get("/items", pool.token())
        settle()
    levels = [record.levelno for record in records.of("keys-failed")]
    assert levels == [logging.WARNING, logging.ERROR]


def test_permanent_failure_is_logged_once(pool: LocalUserPool, clocks: Clocks, records: Records) -> None:
    service = moved_service(pool, clocks)
    pool.remove_client(pool.client().client_id)
    for _ in range(5):
        service.get("/token")
        clocks.advance(60)
    assert pool.count("token") == 5
    assert records.events(logging.WARNING) == ["token-failed"]


# -- rejections, a few a minute ----------------------------------------------------------------


def test_rejection_record_has_reason_kid_pool_and_path(
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


def test_ten_rejections_a_minute_per_reason_are_logged(clocks: Clocks, records: Records) -> None:
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
def test_next_request_logs_the_count_of_the_others(
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


def test_process_exit_logs_the_count_of_the_others(real_pool: LocalUserPool) -> None:
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


def test_more_than_ten_token_requests_an_hour_log_a_warning(
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


def test_refused_token_requests_are_not_counted(
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


def answer_with_fewer_scopes(pool: LocalUserPool) -> dict[str, Any]:
    return {"access_token": pool.token("inventory/read"), "expires_in": 3600, "token_type": "Bearer"}


def test_missing_scopes_are_a_failure_with_scopes_missing_raise(
    real_pool: LocalUserPool,
) -> None:
    app, _ = app_on(real_pool, SCOPES_MISSING="raise", SCOPES=["inventory/read", "orders/write"])
    real_pool.answer("token", answer_with_fewer_scopes(real_pool))
    answer = get(app.test_client(), "/token")
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "60")
    assert get(app.test_client(), "/token").status_code == 503
    assert real_pool.count("token") == 1
