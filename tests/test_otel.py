"""OpenTelemetry's metrics, as a reader gets them."""

from __future__ import annotations

import asyncio
import gc
import subprocess
import sys
import weakref
from collections.abc import Iterator
from typing import Any

import pytest
from flask import Flask

from flask_m2m_cognito import CognitoM2M, TokenUnavailableError
from flask_m2m_cognito.otel import instrument
from flask_m2m_cognito.testing import LocalUserPool, MovedClock
from tests.telemetry import Telemetry, ask, instrumented


@pytest.fixture
def telemetry() -> Iterator[Telemetry]:
    made = Telemetry()
    yield made
    made.end()


@pytest.fixture
def pool() -> Iterator[LocalUserPool]:
    with LocalUserPool(clients={"orders": None, "billing": None}) as pool:
        yield pool


@pytest.fixture
def m2m() -> CognitoM2M:
    return CognitoM2M()


@pytest.fixture
def app(pool: LocalUserPool, m2m: CognitoM2M, telemetry: Telemetry) -> Flask:
    return instrumented(pool, m2m, telemetry)


class TestRequests:
    def test_they_are_counted_by_outcome_and_reason(
        self, app: Flask, pool: LocalUserPool, telemetry: Telemetry
    ) -> None:
        good = pool.token("items/read")
        tokens = [good, good, None, None, pool.token("items/write"), "bad", pool.token(expires_in=-60)]
        assert [ask(app, token) for token in tokens] == [200, 200, 401, 401, 403, 401, 401]
        counts = telemetry.counts("cognito_m2m.requests")
        refused = {
            (of["error.type"], of["http.response.status_code"]): value
            for of, value in counts
            if of["cognito_m2m.outcome"] == "rejected"
        }
        accepted = {
            of["cognito_m2m.check"]: value for of, value in counts if of["cognito_m2m.outcome"] == "accepted"
        }
        assert accepted == {"signature": 1, "memory": 1}
        assert refused == {
            ("missing_token", 401): 2,
            ("insufficient_scope", 403): 1,
            ("malformed", 401): 1,
            ("expired", 401): 1,
        }

    def test_a_token_that_is_known_is_from_memory_also_when_the_keys_are_being_renewed(
        self, pool: LocalUserPool, m2m: CognitoM2M, telemetry: Telemetry
    ) -> None:
        with MovedClock() as clock:
            app, token = instrumented(pool, m2m, telemetry), pool.token("items/read", expires_in=86400)
            assert ask(app, token) == 200
            pool.fail("jwks", status=500)
            clock.move(2 * 3600)
            assert ask(app, token) == 200
        assert {of["cognito_m2m.check"]: value for of, value in telemetry.counts("cognito_m2m.requests")} == {
            "signature": 1,
            "memory": 1,
        }

    def test_another_application_is_not_counted(
        self, app: Flask, pool: LocalUserPool, m2m: CognitoM2M, telemetry: Telemetry
    ) -> None:
        other = Flask("other")
        other.config.update(pool.config(ALLOWED_CLIENT_IDS="*"))
        m2m.init_app(other)
        other.get("/items")(m2m.require_scopes()(lambda: "reached"))
        assert ask(other, pool.token()) == 200
        assert ask(other) == 401
        assert telemetry.counts("cognito_m2m.requests") == []


class TestRefreshes:
    def test_duration_is_recorded_for_keys_and_tokens(
        self, app: Flask, m2m: CognitoM2M, pool: LocalUserPool, telemetry: Telemetry
    ) -> None:
        m2m.warm_up([None, {"client": "billing"}], required=True)
        recorded = {
            tuple(sorted(point.attributes.items())): point.count
            for point in telemetry.points("cognito_m2m.refresh.duration")
        }
        source = ("cognito_m2m.source", "network")
        assert recorded == {
            (("cognito_m2m.pool_id", pool.pool_id), source, ("cognito_m2m.value", "keys")): 1,
            (
                ("cognito_m2m.client", "default"),
                ("cognito_m2m.client_id", "orders"),
                source,
                ("cognito_m2m.value", "token"),
            ): 1,
            (
                ("cognito_m2m.client", "billing"),
                ("cognito_m2m.client_id", "billing"),
                source,
                ("cognito_m2m.value", "token"),
            ): 1,
        }

    def test_failure_has_cognitos_code(
        self, app: Flask, m2m: CognitoM2M, pool: LocalUserPool, telemetry: Telemetry
    ) -> None:
        pool.set_secrets("orders", "another")
        with pytest.raises(TokenUnavailableError):
            m2m.token()
        (point,) = telemetry.points("cognito_m2m.refresh.duration")
        assert (point.attributes["error.type"], point.count) == ("invalid_client", 1)
        assert "cognito_m2m.source" not in point.attributes

    def test_error_without_a_code_has_the_name_of_its_class(
        self, app: Flask, pool: LocalUserPool, telemetry: Telemetry
    ) -> None:
        with pool.fail("jwks", status=500):
            assert ask(app, pool.token()) == 503
        (point,) = telemetry.points("cognito_m2m.refresh.duration")
        assert point.attributes["error.type"].isidentifier()
        assert (point.attributes["cognito_m2m.value"], point.count) == ("keys", 1)

    def test_value_from_the_store_is_counted(
        self, pool: LocalUserPool, m2m: CognitoM2M, telemetry: Telemetry, tmp_path: Any
    ) -> None:
        shared = {"CACHE_TYPE": "FileSystemCache", "CACHE_DIR": str(tmp_path), "SECRET_KEY": "k" * 32}
        first, second = Flask("first"), Flask("second")
        for app in (first, second):
            app.config.update(shared, **pool.config("orders", ALLOWED_CLIENT_IDS="*", STORE_TIMEOUT=5))
            m2m.init_app(app)
        telemetry.instrument(second)
        assert m2m.for_app(first).token() == m2m.for_app(second).token()
        (point,) = telemetry.points("cognito_m2m.refresh.duration")
        assert point.attributes["cognito_m2m.source"] == "store"


class TestObserved:
    def test_token_requests_are_counted_by_client(
        self, app: Flask, m2m: CognitoM2M, telemetry: Telemetry
    ) -> None:
        m2m.token()
        m2m.token("b/read")
        m2m.token("b/read")
        assert telemetry.counts("cognito_m2m.token_requests") == [
            ({"cognito_m2m.client": "default"}, 2),
            ({"cognito_m2m.client": "billing"}, 0),
        ]

    def test_ages_are_those_of_what_is_held(
        self, app: Flask, m2m: CognitoM2M, pool: LocalUserPool, telemetry: Telemetry
    ) -> None:
        assert telemetry.counts("cognito_m2m.age") == []
        m2m.warm_up([None], required=True)
        (keys, keys_age), (token, token_age) = telemetry.counts("cognito_m2m.age")
        assert keys == {"cognito_m2m.value": "keys", "cognito_m2m.pool_id": pool.pool_id}
        assert token == {
            "cognito_m2m.value": "token",
            "cognito_m2m.client": "default",
            "cognito_m2m.client_id": "orders",
            "cognito_m2m.scopes": "a/read",
        }
        assert 0 <= keys_age < 60
        assert 0 <= token_age < 60

    def test_several_applications_of_one_process_are_counted_together(
        self, pool: LocalUserPool, telemetry: Telemetry, caplog: pytest.LogCaptureFixture
    ) -> None:
        with MovedClock() as clock:
            apps = [instrumented(pool, CognitoM2M(), telemetry) for _ in range(2)]
            for app in apps:
                app.extensions["cognito_m2m"].token()
                clock.move(10)
        apps[1].extensions["cognito_m2m"].token(client="billing")
        counts = telemetry.counts("cognito_m2m.token_requests")
        assert sorted((of["cognito_m2m.client"], count) for of, count in counts) == [
            ("billing", 1),
            ("default", 2),
        ]
        ages = {of["cognito_m2m.client"]: age for of, age in telemetry.counts("cognito_m2m.age")}
        assert ages["default"] > 15  # that of the older one
        assert "created already" not in caplog.text

    def test_application_that_is_not_initialised_yet_is_no_error(self, telemetry: Telemetry) -> None:
        telemetry.instrument(Flask("later"))
        assert telemetry.counts("cognito_m2m.token_requests") == []


class TestInstrumentation:
    def test_no_token_and_no_secret_is_told(
        self, app: Flask, m2m: CognitoM2M, pool: LocalUserPool, telemetry: Telemetry
    ) -> None:
        token = m2m.token()
        ask(app, token)
        told = repr(
            [telemetry.points(name) for name in ("cognito_m2m.requests", "cognito_m2m.refresh.duration")]
        )
        assert token not in told
        assert pool.client("orders").secret not in told

    def test_twice_is_an_error(self, app: Flask) -> None:
        with pytest.raises(RuntimeError, match="already"):
            instrument(app)

    def test_it_keeps_no_application(self, pool: LocalUserPool, telemetry: Telemetry) -> None:
        app = Flask("short-lived")
        app.config.update(pool.config(ALLOWED_CLIENT_IDS="*"))
        CognitoM2M(app)
        telemetry.instrument(app)
        gone = weakref.ref(app)
        del app
        gc.collect()
        assert gone() is None
        assert telemetry.counts("cognito_m2m.token_requests") == []

    def test_async_token_is_counted_too(self, app: Flask, m2m: CognitoM2M, telemetry: Telemetry) -> None:
        asyncio.run(m2m.token_async())
        assert telemetry.counts("cognito_m2m.token_requests")[0][1] == 1

    def test_without_it_nothing_of_opentelemetry_is_imported(self) -> None:
        code = (
            "import sys, flask_m2m_cognito.app_parts; print([n for n in sys.modules if 'opentelemetry' in n])"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert done.stdout.strip() == "[]"

    def test_where_it_is_not_installed_that_is_said(self, monkeypatch: pytest.MonkeyPatch) -> None:
        for name in [name for name in sys.modules if name.partition(".")[0] == "opentelemetry"]:
            monkeypatch.setitem(sys.modules, name, None)
        with pytest.raises(RuntimeError, match=r"flask-m2m-cognito\[otel\]"):
            instrument(Flask("shop"))
