"""A caller with a revoked token: it is rejected wherever a token counts, also if it is remembered."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from flask import Flask, g

from flask_m2m_cognito import CognitoM2M
from flask_m2m_cognito.testing import LocalUserPool, MovedClock
from tests.faults.caches import WatchedCache
from tests.support.headers import bearer

REACH = 11.0
OTHER_HEADER = "X-Token"

Guarding = Callable[[Flask, CognitoM2M], None]


def _caller() -> str:
    return g.m2m_token.client_id if "m2m_token" in g else "nobody"


def decorated(app: Flask, m2m: CognitoM2M) -> None:
    app.get("/")(m2m.require_scopes()(_caller))


def optional(app: Flask, m2m: CognitoM2M) -> None:
    app.get("/")(m2m.optional_token(_caller))


def protected(app: Flask, m2m: CognitoM2M) -> None:
    m2m.protect(app)
    app.get("/")(_caller)


def authorized(app: Flask, m2m: CognitoM2M) -> None:
    app.get("/")(lambda: m2m.authorize().client_id)


def nested(app: Flask, m2m: CognitoM2M) -> None:
    """The guarded view is called by a request inside another one."""
    decorated(app, m2m)
    app.get("/outer")(lambda: app.test_client().get("/", headers=bearer(app.config["TOKEN"])).data)


def validated(app: Flask, m2m: CognitoM2M) -> None:
    app.get("/")(lambda: m2m.validator.validate(app.config["TOKEN"]).client_id)


def start(pool: LocalUserPool, cache: WatchedCache, guarding: Guarding, **settings: Any) -> Flask:
    app = Flask("fleet")
    app.extensions["cache"] = {"cache": cache}
    usual = {"ALLOWED_CLIENT_IDS": "*", "REVOCATIONS": True, "CACHE_KEY": "k" * 16}
    app.config.update(pool.config(**{**usual, **settings}), TOKEN=pool.token())
    guarding(app, CognitoM2M(app))
    return app


@pytest.mark.parametrize(
    ("guarding", "path", "settings"),
    [
        *((each, "/", {}) for each in (decorated, optional, protected, authorized, validated)),
        pytest.param(nested, "/outer", {}, id="nested"),
        pytest.param(decorated, "/", {"VERIFIED_TOKENS": 0}, id="no memory"),
        pytest.param(decorated, "/", {"RENEW": "inline"}, id="inline"),
        pytest.param(decorated, "/", {"HEADER_NAME": OTHER_HEADER}, id="another header"),
        pytest.param(decorated, "/", {"TOKEN_CHECK": lambda token: True}, id="own check"),
        pytest.param(decorated, "/", {"ALLOWED_CLIENT_IDS": lambda client: True}, id="own clients"),
    ],
)
def test_token_that_was_accepted_is_rejected_later(
    pool: LocalUserPool, guarding: Guarding, path: str, settings: dict[str, Any]
) -> None:
    cache = WatchedCache()
    with MovedClock() as clock:
        worker = start(pool, cache, guarding, **settings)
    operator = start(pool, cache, decorated)
    headers = {**bearer(worker.config["TOKEN"]), OTHER_HEADER: worker.config["TOKEN"]}
    for _ in range(3):
        assert worker.test_client().get(path, headers=headers).text == pool.client().client_id
    operator.extensions["cognito_m2m"].revoke(pool.client().client_id)
    clock.move(REACH)
    answer = worker.test_client().get(path, headers=headers)
    assert "The access token has been revoked." in answer.text


def test_client_of_any_pool_can_be_revoked(pool: LocalUserPool) -> None:
    with LocalUserPool("us-east-1_Elsewhere", clients={"elsewhere": None}) as elsewhere:
        both = [pool, elsewhere]
        app = start(
            pool,
            WatchedCache(),
            decorated,
            USER_POOL_ID=[each.pool_id for each in both],
            ISSUER={each.pool_id: each.issuer for each in both},
            JWKS_URL={each.pool_id: each.jwks_url for each in both},
        )
        headers = [bearer(each.token()) for each in both]
        app.extensions["cognito_m2m"].revoke("elsewhere")
        assert [app.test_client().get("/", headers=each).status_code for each in headers] == [200, 401]
