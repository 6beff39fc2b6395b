"""OpenTelemetry's spans: one for each refresh, and one around each HTTP request, as an exporter gets them."""

from __future__ import annotations

import logging
import socket
import threading
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest
import requests
from flask import Flask

from flask_m2m_cognito import CognitoM2M, CognitoTokenRequestError, TokenUnavailableError
from flask_m2m_cognito.testing import LocalUserPool, MovedClock
from tests.support.settling import settle
from tests.support.telemetry import Telemetry, ask, instrumented

pytest.importorskip("opentelemetry.sdk")

from opentelemetry import context, trace
from opentelemetry.sdk.trace import SpanProcessor
from opentelemetry.trace import SpanKind, StatusCode

LONG = 30.0
"""Seconds within which what a test waits for has come on any machine."""

SOON = 0.3


@pytest.fixture
def telemetry() -> Iterator[Telemetry]:
    made = Telemetry()
    yield made
    made.end()


@pytest.fixture
def clock() -> Iterator[MovedClock]:
    with MovedClock() as clock:
        yield clock


@pytest.fixture
def pool(clock: MovedClock) -> Iterator[LocalUserPool]:
    with LocalUserPool(clients={"orders": None, "billing": None}, clock=clock.wall) as pool:
        pool.jwks()  # makes its key, which takes longer than SOON on a busy machine
        yield pool


@pytest.fixture
def m2m() -> CognitoM2M:
    return CognitoM2M()


@pytest.fixture
def app(pool: LocalUserPool, m2m: CognitoM2M, telemetry: Telemetry) -> Flask:
    return instrumented(pool, m2m, telemetry)


def parent(span: Any) -> int | None:
    return None if span.parent is None else span.parent.span_id


def own(span: Any) -> int:
    found: int = span.context.span_id
    return found


def own_trace(span: Any) -> int:
    found: int = span.context.trace_id
    return found


class TestCalls:
    def test_download_has_the_attributes_of_an_http_client(
        self, app: Flask, pool: LocalUserPool, telemetry: Telemetry
    ) -> None:
        assert ask(app, pool.token("items/read")) == 200
        (call,) = telemetry.calls
        assert (call.name, call.status.status_code) == ("GET", StatusCode.UNSET)
        assert dict(call.attributes) == {
            "http.request.method": "GET",
            "server.address": "127.0.0.1",
            "server.port": urlsplit(pool.url).port,
            "url.full": pool.jwks_url,
            "http.response.status_code": 200,
            "cognito_m2m.pool_id": pool.pool_id,
        }
        assert call.start_time < call.end_time

    @pytest.mark.parametrize("api", [False, True], ids=["token endpoint", "user pools API"])
    def test_token_request_says_which_client_it_is_of(
        self, pool: LocalUserPool, m2m: CognitoM2M, telemetry: Telemetry, api: bool
    ) -> None:
        instrumented(pool, m2m, telemetry, CLIENT_TOKEN_API=api)
        m2m.token(client="billing")
        (call,) = telemetry.calls
        assert call.name == "POST"
        assert dict(call.attributes) == {
            "http.request.method": "POST",
            "server.address": "127.0.0.1",
            "server.port": urlsplit(pool.url).port,
            "url.full": pool.api_url if api else pool.token_url,
            "http.response.status_code": 200,
            "cognito_m2m.client": "billing",
            "cognito_m2m.client_id": "billing",
        }

    def test_each_address_is_one(self, pool: LocalUserPool, m2m: CognitoM2M, telemetry: Telemetry) -> None:
        # The spellings of this machine stand for two regions.
        other = pool.token_url.replace("127.0.0.1", "localhost")
        instrumented(pool, m2m, telemetry, TOKEN_URL=[other, pool.token_url])
        with pool.fail("token", status=500, times=1):
            m2m.token()
        failed, good = telemetry.calls
        assert [each.attributes["server.address"] for each in (failed, good)] == ["localhost", "127.0.0.1"]
        assert (failed.status.status_code, good.status.status_code) == (StatusCode.ERROR, StatusCode.UNSET)
        assert telemetry.refresh("token").status.status_code is StatusCode.UNSET
        assert {parent(failed), parent(good)} == {own(telemetry.refresh("token"))}

    def test_each_secret_that_is_tried_is_one(
        self, pool: LocalUserPool, m2m: CognitoM2M, telemetry: Telemetry
    ) -> None:
        instrumented(pool, m2m, telemetry, CLIENT_SECRET=["an old one", pool.client("orders").secret])
        m2m.token()
        statuses = [call.attributes["http.response.status_code"] for call in telemetry.calls]
        assert statuses == [400, 200]

    def test_refused_one_has_its_status_as_its_type_and_no_text(
        self, app: Flask, m2m: CognitoM2M, pool: LocalUserPool, telemetry: Telemetry
    ) -> None:
        pool.set_secrets("orders", "another")
        with pytest.raises(TokenUnavailableError):
            m2m.token()
        (call,) = telemetry.calls
        attributes = call.attributes
        assert (attributes["http.response.status_code"], attributes["error.type"]) == (400, "400")
        assert (call.status.status_code, call.status.description, call.events) == (StatusCode.ERROR, None, ())

    def test_one_without_an_answer_has_the_errors_class(
        self, app: Flask, m2m: CognitoM2M, pool: LocalUserPool, telemetry: Telemetry
    ) -> None:
        with pool.offline(), pytest.raises(TokenUnavailableError):
            m2m.token()
        first, again = telemetry.calls
        for call in (first, again):
            assert call.attributes["error.type"] == "ConnectionError"
            assert "http.response.status_code" not in call.attributes
            assert call.status.status_code is StatusCode.ERROR

    def test_one_that_outlives_its_deadline_has_ended(
        self, pool: LocalUserPool, m2m: CognitoM2M, telemetry: Telemetry
    ) -> None:
        instrumented(pool, m2m, telemetry, REFRESH_DEADLINE=SOON, RENEW="inline")
        with pool.fail("token", hang=True):
            with pytest.raises(TokenUnavailableError):
                m2m.token()
            settle()
        (call,) = telemetry.calls
        assert (call.attributes["error.type"], call.status.status_code) == ("timeout", StatusCode.ERROR)

    @pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
    def test_one_whose_thread_is_made_to_end_has_ended(
        self, pool: LocalUserPool, m2m: CognitoM2M, telemetry: Telemetry, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def interrupted(*_: Any, **__: Any) -> Any:
            raise SystemExit

        instrumented(pool, m2m, telemetry)
        monkeypatch.setattr(socket, "getaddrinfo", interrupted)
        with pytest.raises(TokenUnavailableError):
            m2m.token()
        monkeypatch.undo()
        assert [span.attributes["error.type"] for span in telemetry.spans] == ["SystemExit"] * 2
        assert trace.get_current_span() is trace.INVALID_SPAN

    def test_url_has_no_query(
        self, app: Flask, m2m: CognitoM2M, pool: LocalUserPool, telemetry: Telemetry
    ) -> None:
        client = m2m.client()
        client.token_url = f"{pool.token_url}?key=hidden"
        client.fetch_token("a/read")
        (call,) = telemetry.calls
        assert call.attributes["url.full"] == f"{pool.token_url}?REDACTED"
        assert "hidden" not in call.to_json()

    def test_span_is_current_and_suppresses_other_http_spans(
        self, app: Flask, m2m: CognitoM2M, telemetry: Telemetry, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        seen: list[Any] = []
        send = requests.Session.send

        def as_an_instrumentation_does(*args: Any, **named: Any) -> requests.Response:
            is_suppressed = context.get_value(context._SUPPRESS_HTTP_INSTRUMENTATION_KEY)
            seen.append((trace.get_current_span().get_span_context().span_id, is_suppressed))
            return send(*args, **named)

        monkeypatch.setattr(requests.Session, "send", as_an_instrumentation_does)
        m2m.token()
        (call,) = telemetry.calls
        assert seen == [(own(call), True)]

    def test_clients_own_request_is_a_child_of_the_callers_span(
        self, app: Flask, m2m: CognitoM2M, telemetry: Telemetry
    ) -> None:
        with telemetry.tracer.start_as_current_span("order") as order, app.app_context():
            m2m.client().fetch_token("a/read")
            assert trace.get_current_span() is order
        call, _ = telemetry.spans
        assert (call.kind, parent(call)) == (SpanKind.CLIENT, own(order))


class TestRefreshes:
    def test_it_is_the_parent_of_its_calls(
        self, app: Flask, m2m: CognitoM2M, pool: LocalUserPool, telemetry: Telemetry
    ) -> None:
        m2m.warm_up([None], required=True)
        keys, token = telemetry.refresh("keys"), telemetry.refresh("token")
        assert (keys.kind, token.kind, parent(token)) == (SpanKind.INTERNAL, SpanKind.INTERNAL, None)
        assert dict(keys.attributes) == {
            "cognito_m2m.value": "keys",
            "cognito_m2m.pool_id": pool.pool_id,
            "cognito_m2m.source": "network",
        }
        assert dict(token.attributes) == {
            "cognito_m2m.value": "token",
            "cognito_m2m.client": "default",
            "cognito_m2m.client_id": "orders",
            "cognito_m2m.scopes": "a/read",
            "cognito_m2m.source": "network",
        }
        assert {call.name: parent(call) for call in telemetry.calls} == {"GET": own(keys), "POST": own(token)}

    @pytest.mark.parametrize("renew", ["background", "inline"])
    def test_it_is_a_child_of_the_span_of_the_caller_who_waits(
        self, pool: LocalUserPool, m2m: CognitoM2M, telemetry: Telemetry, renew: str
    ) -> None:
        instrumented(pool, m2m, telemetry, RENEW=renew)
        with telemetry.tracer.start_as_current_span("order") as order:
            m2m.token()
            assert trace.get_current_span() is order
        refresh = telemetry.refresh("token")
        assert (parent(refresh), refresh.links) == (own(order), ())

    def test_one_behind_a_caller_is_a_trace_of_its_own_with_a_link(
        self, app: Flask, m2m: CognitoM2M, telemetry: Telemetry, clock: MovedClock
    ) -> None:
        m2m.token()
        telemetry.clear()
        clock.move(3000)
        with telemetry.tracer.start_as_current_span("order") as order:
            m2m.token()
        telemetry.wait_for(3)
        refresh, (call,) = telemetry.refresh("token"), telemetry.calls
        assert (parent(refresh), [link.context.span_id for link in refresh.links]) == (None, [own(order)])
        assert own_trace(refresh) != own_trace(order)
        assert parent(call) == own(refresh)

    def test_one_behind_nobodys_span_has_no_link(
        self, app: Flask, m2m: CognitoM2M, telemetry: Telemetry, clock: MovedClock
    ) -> None:
        m2m.token()
        telemetry.clear()
        clock.move(3000)
        m2m.token()
        telemetry.wait_for(2)
        assert telemetry.refresh("token").links == ()

    def test_inline_renewal_is_a_child_of_the_callers_span(
        self, pool: LocalUserPool, m2m: CognitoM2M, telemetry: Telemetry, clock: MovedClock
    ) -> None:
        instrumented(pool, m2m, telemetry, RENEW="inline")
        m2m.token()
        telemetry.clear()
        clock.move(3000)
        with telemetry.tracer.start_as_current_span("order") as order:
            m2m.token()
        assert parent(telemetry.refresh("token")) == own(order)

    def test_failed_one_has_cognitos_code(
        self, app: Flask, m2m: CognitoM2M, pool: LocalUserPool, telemetry: Telemetry
    ) -> None:
        pool.set_secrets("orders", "another")
        with pytest.raises(TokenUnavailableError):
            m2m.token()
        refresh = telemetry.refresh("token")
        (point,) = telemetry.points("cognito_m2m.refresh.duration")
        for attributes in (refresh.attributes, point.attributes):
            assert attributes["error.type"] == "invalid_client"
            assert "cognito_m2m.source" not in attributes
        status = refresh.status
        assert (status.status_code, status.description, refresh.events) == (StatusCode.ERROR, None, ())

    def test_answer_without_keys_fails_the_refresh_and_not_the_call(
        self, app: Flask, pool: LocalUserPool, telemetry: Telemetry
    ) -> None:
        with pool.answer("jwks", {"keys": []}):
            assert ask(app, pool.token("items/read")) == 503
        (call,) = telemetry.calls
        assert call.status.status_code is StatusCode.UNSET
        assert telemetry.refresh("keys").attributes["error.type"] == "NoUsableKeys"

    def test_one_that_was_given_up_has_ended_once_it_has(
        self, pool: LocalUserPool, m2m: CognitoM2M, telemetry: Telemetry
    ) -> None:
        gate = threading.Event()

        def slow_secret() -> str:
            gate.wait(LONG)
            return pool.client("orders").secret

        instrumented(pool, m2m, telemetry, CLIENT_SECRET=slow_secret, REFRESH_DEADLINE=SOON)
        with pytest.raises(TokenUnavailableError):
            m2m.token()
        assert telemetry.spans == []
        gate.set()
        telemetry.wait_for(1)
        assert telemetry.refresh("token").status.status_code is StatusCode.ERROR

    def test_value_from_the_store_is_a_refresh_without_a_call(
        self, pool: LocalUserPool, m2m: CognitoM2M, telemetry: Telemetry, tmp_path: Any
    ) -> None:
        shared = {"CACHE_TYPE": "FileSystemCache", "CACHE_DIR": str(tmp_path), "SECRET_KEY": "k" * 32}
        first, second = Flask("first"), Flask("second")
        for app in (first, second):
            app.config.update(shared, **pool.config("orders", ALLOWED_CLIENT_IDS="*", STORE_TIMEOUT=5))
            m2m.init_app(app)
        telemetry.instrument(second)
        assert m2m.for_app(first).token() == m2m.for_app(second).token()
        (refresh,), (point,) = telemetry.spans, telemetry.points("cognito_m2m.refresh.duration")
        for attributes in (refresh.attributes, point.attributes):
            assert attributes["cognito_m2m.source"] == "store"


class TestInstrumentation:
    @pytest.mark.parametrize("is_first", [True, False], ids=["before init_app", "after it and a call"])
    def test_it_may_come_before_or_after(
        self, pool: LocalUserPool, m2m: CognitoM2M, telemetry: Telemetry, is_first: bool
    ) -> None:
        app = Flask("shop")
        app.config.update(pool.config(ALLOWED_CLIENT_IDS="*"))
        if is_first:
            telemetry.instrument(app)
        m2m.init_app(app)
        if not is_first:
            m2m.token("a/read")
            telemetry.instrument(app)
        m2m.token("b/read")
        assert [span.name for span in telemetry.spans] == ["POST", "refresh token"]

    def test_another_application_has_no_spans(
        self, app: Flask, pool: LocalUserPool, m2m: CognitoM2M, telemetry: Telemetry
    ) -> None:
        other = Flask("other")
        other.config.update(pool.config(ALLOWED_CLIENT_IDS="*"))
        m2m.init_app(other)
        m2m.for_app(other).token("a/read")
        assert telemetry.spans == []

    def test_no_token_and_no_secret_is_told(
        self, app: Flask, m2m: CognitoM2M, pool: LocalUserPool, telemetry: Telemetry
    ) -> None:
        token = m2m.token()
        pool.set_secrets("billing", "another")
        with pytest.raises(CognitoTokenRequestError):
            m2m.token(client="billing")
        metrics = telemetry.metrics()
        assert "cognito_m2m.remaining" in {metric.name for metric in metrics}
        told = "".join(span.to_json() for span in telemetry.spans) + repr(
            [metric.data.data_points for metric in metrics]
        )
        assert len(telemetry.calls) == 2
        sent = app.config["COGNITO_M2M_CLIENTS"]["billing"]["CLIENT_SECRET"]
        for hidden in (token, "eyJ", pool.client("orders").secret, sent):
            assert hidden not in told

    @pytest.mark.parametrize("moment", ["on_start", "on_end"])
    def test_processor_that_raises_is_logged_and_harms_nobody(
        self,
        app: Flask,
        m2m: CognitoM2M,
        telemetry: Telemetry,
        monkeypatch: pytest.MonkeyPatch,
        caplog: pytest.LogCaptureFixture,
        moment: str,
    ) -> None:
        def broken(*_: Any, **__: Any) -> None:
            raise RuntimeError("this processor is broken")

        processor = SpanProcessor()
        monkeypatch.setattr(processor, moment, broken)
        telemetry.tracers.add_span_processor(processor)
        with caplog.at_level(logging.ERROR, "flask_m2m_cognito"):
            assert m2m.token()
        settle()
        told = [vars(record)["event"] for record in caplog.records]
        assert told == ["watcher-failed", "watcher-failed"]
        assert trace.get_current_span() is trace.INVALID_SPAN
