"""Tests of users that mock HTTP or freeze time: the statements of docs/guide/testing-beside-mocks.md."""

from __future__ import annotations

import asyncio
import json
import runpy
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import freezegun
import httpx
import pytest
import requests
import requests_mock
import responses
import respx
import time_machine
import vcr  # type: ignore[import-untyped]
from flask import Flask

from flask_m2m_cognito import AppM2M, CognitoM2M, TokenUnavailableError
from flask_m2m_cognito.remote import clock as clock_module
from flask_m2m_cognito.testing import LocalUserPool, MovedClock
from tests.support.settling import refresh_threads, settle
from tests.testing.service import create_service, parts, status_of

ITEMS = "https://stock.example.com/items"
TOKEN_URL = "https://shop.auth.us-east-1.amazoncognito.com/oauth2/token"
ANSWER = {"access_token": "t0ken", "expires_in": 3600, "token_type": "Bearer"}
REFUSED = {"WWW-Authenticate": 'Bearer error="invalid_token"'}
LATER = "2031-05-01 12:00:00"
HOUR = 3600.0
YEAR = 365 * 24 * HOUR


def cognito_client() -> AppM2M:
    """Return a client of Cognito itself, which tests cannot reach."""
    app = Flask("shop")
    app.config.update(
        COGNITO_M2M_TOKEN_URL=TOKEN_URL, COGNITO_M2M_CLIENT_ID="shop", COGNITO_M2M_CLIENT_SECRET="s3cret"
    )
    return CognitoM2M(app).for_app(app)


class TestMocksOfRequests:
    @pytest.mark.parametrize("mocking", [responses.RequestsMock, requests_mock.Mocker])
    def test_mock_answers_token_requests(self, mocking: Callable[[], Any]) -> None:
        with mocking() as mock:
            mock.post(TOKEN_URL, json=ANSWER)
            assert cognito_client().token() == "t0ken"

    def test_responses_lets_the_pool_through(self, m2m_pool: LocalUserPool, m2m_clock: MovedClock) -> None:
        tokens = parts(create_service(m2m_pool))
        tokens.token()
        m2m_clock.move(60)  # a younger token is not replaced
        with responses.RequestsMock() as mock:
            mock.add_passthru(m2m_pool.url)
            mock.get(ITEMS, status=401, headers=REFUSED)
            mock.get(ITEMS, body="ok")
            assert tokens.session().get(ITEMS, timeout=5).text == "ok"
        assert m2m_pool.count("token") == 2

    def test_requests_mock_retries_401_without_threads(
        self, m2m_pool: LocalUserPool, m2m_clock: MovedClock, m2m_no_threads: None
    ) -> None:
        tokens = parts(create_service(m2m_pool))
        tokens.token()
        m2m_clock.move(60)
        with requests_mock.Mocker(real_http=True) as mock:
            mock.get(ITEMS, [{"status_code": 401, "headers": REFUSED}, {"text": "ok"}])
            assert tokens.session().get(ITEMS, timeout=5).text == "ok"
        assert m2m_pool.count("token") == 2

    def test_respx_answers_httpx_beside_the_pool(self, m2m_pool: LocalUserPool) -> None:
        tokens = parts(create_service(m2m_pool))
        with respx.mock:
            items = respx.get(ITEMS).respond(text="ok")
            assert httpx.get(ITEMS, auth=tokens.auth()).text == "ok"
        assert items.calls.last.request.headers["Authorization"] == f"Bearer {tokens.token()}"


class TestCassettes:
    @pytest.mark.parametrize("is_used_before", [False, True], ids=["first", "used before"])
    def test_token_requests_can_be_recorded_and_replayed(
        self, m2m_pool: LocalUserPool, m2m_clock: MovedClock, tmp_path: Path, is_used_before: bool
    ) -> None:
        recorder = vcr.VCR(filter_post_data_parameters=["client_secret"])
        path = tmp_path / "cassette.yaml"
        if is_used_before:
            parts(create_service(m2m_pool)).token()
        with recorder.use_cassette(str(path), record_mode="once"):
            recorded = parts(create_service(m2m_pool)).token()
        m2m_clock.set_wall(YEAR)  # its life begins when it is received
        with m2m_pool.offline(), recorder.use_cassette(str(path), record_mode="none"):
            assert parts(create_service(m2m_pool)).token() == recorded
        assert m2m_pool.client().secret not in path.read_text("utf-8")

    def test_local_pool_is_not_recorded_in_a_cassette(self, m2m_pool: LocalUserPool, tmp_path: Path) -> None:
        with vcr.use_cassette(str(tmp_path / "cassette.yaml"), ignore_localhost=True) as cassette:
            assert parts(create_service(m2m_pool)).token()
            assert len(cassette) == 0
        assert m2m_pool.count("token") == 1


class TestNoThreads:
    def test_mock_of_one_thread_answers_a_refresh(
        self, monkeypatch: pytest.MonkeyPatch, m2m_no_threads: None
    ) -> None:
        here = threading.local()
        here.is_mocked = True
        real = requests.Session.send

        def send(session: requests.Session, *args: Any, **kwargs: Any) -> requests.Response:
            assert here.is_mocked
            return real(session, *args, **kwargs)

        monkeypatch.setattr(requests.Session, "send", send)
        with responses.RequestsMock() as mock:
            mock.post(TOKEN_URL, json=ANSWER)
            assert cognito_client().token() == "t0ken"

    def test_coroutine_fetches_on_the_event_loops_thread(self, m2m_no_threads: None) -> None:
        threads: list[threading.Thread] = []

        def answer(request: requests.PreparedRequest) -> tuple[int, dict[str, str], str]:
            threads.append(threading.current_thread())
            return 200, {}, json.dumps(ANSWER)

        with responses.RequestsMock() as mock:
            mock.add_callback("POST", TOKEN_URL, answer)
            assert asyncio.run(cognito_client().token_async()) == "t0ken"
        assert threads == [threading.current_thread()]

    def test_older_application_starts_no_threads(
        self, m2m_pool: LocalUserPool, request: pytest.FixtureRequest
    ) -> None:
        with MovedClock() as clock:
            app = create_service(m2m_pool)
        settle()
        request.getfixturevalue("m2m_no_threads")
        first = parts(app).token()
        clock.move(3000)  # the token is usable, and due for renewal
        assert parts(app).token() != first
        assert status_of(app, m2m_pool.token("inventory/read")) == 200
        assert not refresh_threads()


FROZEN: dict[str, Callable[[str], AbstractContextManager[object]]] = {
    "freezegun": freezegun.freeze_time,
    "time-machine": lambda moment: time_machine.travel(moment, tick=False),
}


def pass_time(frozen: object, seconds: float) -> None:
    frozen.tick(seconds) if hasattr(frozen, "tick") else frozen.shift(seconds)  # type: ignore[attr-defined]


@pytest.mark.parametrize("freeze", FROZEN.values(), ids=FROZEN)
@pytest.mark.parametrize("is_older", [True, False], ids=["app before the freeze", "app inside the freeze"])
class TestFrozenTime:
    def test_tokens_expire_by_the_frozen_time(
        self, freeze: Callable[[str], AbstractContextManager[object]], is_older: bool
    ) -> None:
        with LocalUserPool() as pool:
            older = create_service(pool) if is_older else None
            with freeze(LATER) as frozen:
                app = older or create_service(pool)
                token = pool.token("inventory/read")
                assert status_of(app, token) == 200
                pass_time(frozen, HOUR + 11)
                assert status_of(app, token) == 401

    def test_outbound_token_is_renewed_by_the_frozen_time(
        self, freeze: Callable[[str], AbstractContextManager[object]], is_older: bool
    ) -> None:
        with LocalUserPool() as pool:
            older = create_service(pool) if is_older else None
            with freeze(LATER) as frozen:
                tokens = parts(older or create_service(pool))
                first = tokens.token()
                assert tokens.token() == first
                pass_time(frozen, HOUR)
                assert tokens.token() != first
            settle()


@pytest.mark.parametrize("freeze", FROZEN.values(), ids=FROZEN)
def test_backoff_in_a_freeze_ends_in_real_time(
    m2m_pool: LocalUserPool, freeze: Callable[[str], AbstractContextManager[object]]
) -> None:
    tokens = parts(create_service(m2m_pool))
    with freeze(LATER), m2m_pool.fail("token", status=500), pytest.raises(TokenUnavailableError):
        tokens.token()
    assert tokens.health()["tokens"][0]["next_try_in"] <= 1


def test_monotonic_clock_is_real_when_imported_in_a_freeze() -> None:
    with freezegun.freeze_time(LATER):
        imported = runpy.run_path(clock_module.__file__)
        now: float = imported["SYSTEM"].monotonic()
    assert abs(now - time.monotonic()) < YEAR


def test_loopback_sockets_or_no_sockets_are_enough(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import pytest
        from flask import Flask
        from flask_m2m_cognito import CognitoM2M
        from flask_m2m_cognito.testing import LocalUserPool

        def status(pool, **settings):
            app = Flask("shop")
            app.config.update(pool.config(ALLOWED_CLIENT_IDS="*", **settings))
            m2m = CognitoM2M(app)
            app.get("/items")(m2m.require_scopes("a/b")(lambda: "reached"))
            headers = {"Authorization": f"Bearer {pool.token('a/b')}"}
            return app.test_client().get("/items", headers=headers).status_code

        @pytest.mark.allow_hosts(["127.0.0.1"])
        def test_loopback(m2m_pool):
            assert status(m2m_pool) == 200

        def test_pinned_keys_of_a_pool_that_is_never_started():
            pool = LocalUserPool(public_url="http://127.0.0.1:9229")
            assert status(pool, JWKS=pool.jwks()) == 200

        def test_without_any_socket(m2m_pool):
            raise AssertionError("m2m_pool listens on one")
        """
    )
    outcome = pytester.runpytest_subprocess("-p", "no:cacheprovider", "--disable-socket")
    outcome.assert_outcomes(passed=2, errors=1)
