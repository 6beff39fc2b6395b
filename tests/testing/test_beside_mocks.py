"""Users' tests that mock HTTP or freeze time: the statements of the page "Testing beside mocks"."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import freezegun
import pytest
import time_machine
import vcr
from flask import Flask

from flask_m2m_cognito import AppM2M, CognitoM2M
from flask_m2m_cognito.testing import LocalUserPool
from tests.settling import settle

LATER = "2031-05-01 12:00:00"
HOUR = 3600.0


def service(pool: LocalUserPool) -> Flask:
    app, m2m = Flask("shop"), CognitoM2M()
    app.config.update(pool.config(ALLOWED_CLIENT_IDS="*"))
    m2m.init_app(app)
    app.get("/items")(m2m.require_scopes("inventory/read")(lambda: "reached"))
    return app


def parts(app: Flask) -> AppM2M:
    found: AppM2M = app.extensions["cognito_m2m"]
    return found


def status_of(app: Flask, token: str) -> int:
    return app.test_client().get("/items", headers={"Authorization": f"Bearer {token}"}).status_code


class TestCassettes:
    @pytest.mark.parametrize("is_used_before", [False, True], ids=["first", "used before"])
    def test_token_requests_are_recorded_and_replayed(
        self, m2m_pool: LocalUserPool, tmp_path: Path, is_used_before: bool
    ) -> None:
        recorder = vcr.VCR(filter_post_data_parameters=["client_secret"])
        path = tmp_path / "cassette.yaml"
        if is_used_before:
            parts(service(m2m_pool)).token()
        with recorder.use_cassette(str(path), record_mode="once"):
            recorded = parts(service(m2m_pool)).token()
        with m2m_pool.offline(), recorder.use_cassette(str(path), record_mode="none"):
            assert parts(service(m2m_pool)).token() == recorded
        assert m2m_pool.client().secret not in path.read_text("utf-8")

    def test_local_pool_is_left_out_of_a_cassette(self, m2m_pool: LocalUserPool, tmp_path: Path) -> None:
        with vcr.use_cassette(str(tmp_path / "cassette.yaml"), ignore_localhost=True) as cassette:
            assert parts(service(m2m_pool)).token()
            assert len(cassette) == 0
        assert m2m_pool.count("token") == 1


FROZEN: dict[str, Callable[[str], AbstractContextManager[object]]] = {
    "freezegun": freezegun.freeze_time,
    "time-machine": lambda moment: time_machine.travel(moment, tick=False),
}


def pass_time(frozen: object, seconds: float) -> None:
    frozen.tick(seconds) if hasattr(frozen, "tick") else frozen.shift(seconds)  # type: ignore[attr-defined]


@pytest.mark.parametrize("freeze", FROZEN.values(), ids=FROZEN)
@pytest.mark.parametrize("is_older", [True, False], ids=["app before", "app inside"])
class TestFrozenTime:
    def test_tokens_expire_by_the_frozen_time(
        self, freeze: Callable[[str], AbstractContextManager[object]], is_older: bool
    ) -> None:
        with LocalUserPool() as pool:
            older = service(pool) if is_older else None
            with freeze(LATER) as frozen:
                app = older or service(pool)
                token = pool.token("inventory/read")
                assert status_of(app, token) == 200
                pass_time(frozen, HOUR + 11)
                assert status_of(app, token) == 401

    def test_own_token_is_renewed_by_the_frozen_time(
        self, freeze: Callable[[str], AbstractContextManager[object]], is_older: bool
    ) -> None:
        with LocalUserPool() as pool:
            older = service(pool) if is_older else None
            with freeze(LATER) as frozen:
                tokens = parts(older or service(pool))
                first = tokens.token()
                assert tokens.token() == first
                pass_time(frozen, HOUR)
                assert tokens.token() != first
            settle()
