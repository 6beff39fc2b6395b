"""Users' tests that mock HTTP or freeze time: the statements of the page "Testing beside mocks"."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager

import freezegun
import pytest
import time_machine
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
