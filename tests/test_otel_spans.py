"""OpenTelemetry's spans of refreshes and of HTTP requests, as an exporter receives them."""

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
"""Seconds to wait for something that happens on any machine."""

SOON = 0.3


@pytest.fixture
def telemetry() -> Iterator[Telemetry]:
    telemetry = Telemetry()
    yield telemetry
    telemetry.end()


@pytest.fixture
def clock() -> Iterator[MovedClock]:
    with MovedClock() as clock:
        yield clock


@pytest.fixture
def pool(clock: MovedClock) -> Iterator[LocalUserPool]:
    with LocalUserPool(clients={"orders": None, "billing": None}, clock=clock.wall) as pool:
        pool.jwks()  # creates the key, which takes longer than SOON on a busy machine
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


class TestHttpRequests:
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
    def test_token_request_has_its_client_as_attribute(
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

    def test_each_address_has_a_span(
        self, pool: LocalUserPool, m2m: CognitoM2M, telemetry: Telemetry
    ) -> None:
        # Two names of this machine represent two Regions.
        other = pool.token_url.replace("127.0.0.1", "localhost")
        instrumented(pool, m2m, telemetry, TOKEN_URL=[other, pool.token_url])
        with pool.fail("token", status=500, times=1):
            m2m.token()
        failed, second = telemetry.calls
        assert [each.attributes["server.address"] for each in (failed, second)] == ["localhost", "127.0.0.1"]
        assert (failed.status.status_code, second.status.status_code) == (StatusCode.ERROR, StatusCode.UNSET)
        assert telemetry.refresh("token").status.status_code is StatusCode.UNSET
        assert {parent(failed), parent(second)} == {own(telemetry.refresh("token"))}

    def test_each_secret_has_a_span(self, pool: LocalUserPool, m2m: CognitoM2M, telemetry: Telemetry) -> None:
        instrumented(pool, m2m, telemetry, CLIENT_SECRET=["an old one", pool.client("orders").secret])
        m2m.token()
        statuses = [call.attributes["http.response.status_code"] for call in telemetry.calls]
        assert statuses == [400, 200]

    def test_rejected_request_has_a_status_and_no_text(
        self, app: Flask, m2m: CognitoM2M, pool: LocalUserPool, telemetry: Telemetry
    ) -> None:
        pool.set_secrets("orders", "another")
        with pytest.raises(TokenUnavailableError):
            m2m.token()
        (call,) = telemetry.calls
        attributes = call.attributes
        assert (attributes["http.response.status_code"], attributes["error.type"]) == (400, "400")
        assert (call.status.status_code, call.status.description, call.events) == (StatusCode.ERROR, None, ())

    def test_failed_request_has_the_class_of_the_error(
        self, app: Flask, m2m: CognitoM2M, pool: LocalUserPool, telemetry: Telemetry
    ) -> None:
        with pool.offline(), pytest.raises(TokenUnavailableError):
            m2m.token()
        first, again = telemetry.calls
        for call in (first, again):
            assert call.attributes["error.type"] == "ConnectionError"
            assert "http.response.status_code" not in call.attributes
            assert call.status.status_code is StatusCode.ERROR

    def test_span_of_a_hung_request_ends_at_the_deadline(
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
    def test_span_ends_if_its_thread_is_stopped(
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

        def send_and_note_the_span(*args: Any, **named: Any) -> requests.Response:
            is_suppressed = context.get_value(context._SUPPRESS_HTTP_INSTRUMENTATION_KEY)
            seen.append((trace.get_current_span().get_span_context().span_id, is_suppressed))
            return send(*args, **named)

        monkeypatch.setattr(requests.Session, "send", send_and_note_the_span)
        m2m.token()
        (call,) = telemetry.calls
        assert seen == [(own(call), True)]

    def test_fetch_token_is_a_child_of_the_callers_span(
        self, app: Flask, m2m: CognitoM2M, telemetry: Telemetry
    ) -> None:
        with telemetry.tracer.start_as_current_span("order") as order, app.app_context():
            m2m.client().fetch_token("a/read")
            assert trace.get_current_span() is order
        call, _ = telemetry.spans
        assert (call.kind, parent(call)) == (SpanKind.CLIENT, own(order))


class TestRefreshes:
    def test_refresh_is_the_parent_of_its_requests(
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
    def test_refresh_is_a_child_of_the_waiting_callers_span(
        self, pool: LocalUserPool, m2m: CognitoM2M, telemetry: Telemetry, renew: str
    ) -> None:
        instrumented(pool, m2m, telemetry, RENEW=renew)
        with telemetry.tracer.start_as_current_span("order") as order:
            m2m.token()
            assert trace.get_current_span() is order
        refresh = telemetry.refresh("token")
        assert (parent(refresh), refresh.links) == (own(order), ())

    def test_background_refresh_is_a_separate_trace_with_a_link(
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

    def test_background_refresh_without_a_span_has_no_link(
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

    def test_failed_refresh_has_the_error_code_of_cognito(
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

    def test_empty_key_set_fails_the_refresh_not_the_request(
        self, app: Flask, pool: LocalUserPool, telemetry: Telemetry
    ) -> None:
        with pool.answer("jwks", {"keys": []}):
            assert ask(app, pool.token("items/read")) == 503
        (call,) = telemetry.calls
        assert call.status.status_code is StatusCode.UNSET
        assert telemetry.refresh("keys").attributes["error.type"] == "NoUsableKeys"

    def test_span_of_an_abandoned_refresh_ends_with_its_work(
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

    def test_refresh_from_the_cache_has_no_request(
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
    @pytest.mark.parametrize("is_first", [True, False], ids=["before init_app", "after a token request"])
    def test_instrument_may_come_before_or_after_init_app(
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

    def test_spans_and_metrics_contain_no_token_and_no_secret(
        self, app: Flask, m2m: CognitoM2M, pool: LocalUserPool, telemetry: Telemetry
    ) -> None:
        token = m2m.token()
        pool.set_secrets("billing", "another")
        with pytest.raises(CognitoTokenRequestError):
            m2m.token(client="billing")
        metrics = telemetry.metrics()
        assert "cognito_m2m.remaining" in {metric.name for metric in metrics}
        exported = "".join(span.to_json() for span in telemetry.spans) + repr(
            [metric.data.data_points for metric in metrics]
        )
        assert len(telemetry.calls) == 2
        used = app.config["COGNITO_M2M_CLIENTS"]["billing"]["CLIENT_SECRET"]
        for hidden in (token, "eyJ", pool.client("orders").secret, used):
            assert hidden not in exported

    @pytest.mark.parametrize("moment", ["on_start", "on_end"])
    def test_exception_of_a_span_processor_is_only_logged(
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
        events = [vars(record)["event"] for record in caplog.records]
        assert events == ["watcher-failed", "watcher-failed"]
        assert trace.get_current_span() is trace.INVALID_SPAN
