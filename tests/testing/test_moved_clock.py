"""The moved clock and the fixtures of the pytest plugin, as the tests of a user use them."""

from __future__ import annotations

import pytest

from flask_m2m_cognito import current_token, require_scopes
from flask_m2m_cognito.testing import LocalUserPool, MovedClock
from tests.support.headers import bearer
from tests.testing.service import create_service, parts, status_of

HOUR = 3600.0


def test_expires_in_follows_the_moved_clock() -> None:
    with MovedClock() as clock, LocalUserPool(clock=clock.wall) as pool:
        app = create_service(pool)
        app.get("/left", endpoint="left")(require_scopes()(lambda: str(current_token.expires_in)))
        headers = bearer(pool.token("inventory/read"))
        clock.move(HOUR - 10)
        # The first request verifies the signature; later ones find the token in memory.
        left = [float(app.test_client().get("/left", headers=headers).text) for _ in range(3)]
    assert all(0 < each <= 10 for each in left), left


def test_outbound_token_is_renewed_when_it_has_expired() -> None:
    with MovedClock() as clock, LocalUserPool(clock=clock.wall) as pool:
        m2m = parts(create_service(pool))
        first = m2m.token()
        clock.move(HOUR)
        assert m2m.token() != first
    assert pool.count("token") == 2


def test_keys_expire_although_the_wall_clock_is_set_back() -> None:
    with MovedClock() as clock, LocalUserPool(clock=clock.wall) as pool:
        app = create_service(pool)
        assert status_of(app, pool.token("inventory/read")) == 200
        with pool.offline():
            clock.move(25 * HOUR)
            clock.set_wall(-25 * HOUR)
            assert status_of(app, pool.token("inventory/read")) == 503


def test_applications_outside_the_block_use_the_system_clock() -> None:
    with MovedClock() as clock:
        clock.move(HOUR)
    with LocalUserPool() as pool:
        assert status_of(create_service(pool), pool.token("inventory/read")) == 200


def test_move_rejects_negative_seconds() -> None:
    with pytest.raises(ValueError, match="set_wall"):
        MovedClock().move(-1)


FOR_EACH_TEST = """
import pytest
from flask import Flask
from flask_m2m_cognito import CognitoM2M

@pytest.fixture
def client(m2m_clock, m2m_pool):
    app, m2m = Flask("shop"), CognitoM2M()
    app.config.update(m2m_pool.config(allowed_client_ids="*"))
    m2m.init_app(app)
    app.get("/items")(m2m.require_scopes("inventory/read")(lambda: "reached"))
    return app.test_client()

def test_scopes(client, m2m_headers):
    assert client.get("/items").status_code == 401
    assert client.get("/items", headers=m2m_headers("inventory/read")).status_code == 200
    assert client.get("/items", headers=m2m_headers("inventory/write")).status_code == 403

def test_an_hour_later(client, m2m_clock, m2m_headers):
    headers = m2m_headers("inventory/read", client_id="billing")
    assert client.get("/items", headers=headers).status_code == 200
    m2m_clock.move(3700)
    assert client.get("/items", headers=headers).status_code == 401
"""

FOR_THE_SESSION = """
import pytest
from flask import Flask
from flask_m2m_cognito import CognitoM2M
from flask_m2m_cognito.testing import LocalUserPool, M2MHeaders

@pytest.fixture(scope="session")
def app(m2m_session_pool: LocalUserPool) -> Flask:
    app, m2m = Flask("shop"), CognitoM2M()
    app.config.update(m2m_session_pool.config(allowed_client_ids="*"))
    m2m.init_app(app)
    app.get("/items")(m2m.require_scopes("inventory/read")(lambda: "reached"))
    return app

@pytest.mark.parametrize("time", [1, 2])
def test_app_of_the_session(app: Flask, m2m_headers: M2MHeaders, time: int) -> None:
    headers = m2m_headers("inventory/read")
    assert app.test_client().get("/items", headers=headers).status_code == 200

def test_own_pool(app: Flask, m2m_pool: LocalUserPool, m2m_headers: M2MHeaders) -> None:
    headers = m2m_headers("inventory/read")
    assert app.test_client().get("/items", headers=headers).status_code == 401
"""


def test_fixtures_of_the_plugin_work_with_guarded_views(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(test_each=FOR_EACH_TEST, test_session=FOR_THE_SESSION)
    outcome = pytester.runpytest_subprocess("-p", "no:cacheprovider")
    outcome.assert_outcomes(passed=5)
