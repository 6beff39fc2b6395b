"""Each service answers the same before and after its migration, except for the changes on its page."""

from __future__ import annotations

import importlib
import importlib.util
import json
import os
from collections.abc import Callable
from typing import Any

import jwt
import pytest
from flask import Flask

from flask_m2m_cognito import CognitoAccessTokenValidator, CognitoM2MClient
from flask_m2m_cognito.testing import LocalUserPool
from tests.journeys.migrations.after import (
    cognito_lib_service,
    m2m_cognito_extension,
    m2m_cognito_service,
    pyjwt_decorator,
)

AWS_ISSUER = "https://cognito-idp.us-east-1.amazonaws.com/us-east-1_LocalPool"


def before(name: str) -> Any:
    """Import the program of this name as it was before the migration."""
    return importlib.import_module(f"tests.journeys.migrations.before.{name}")


@pytest.fixture
def environ(monkeypatch: pytest.MonkeyPatch) -> Callable[[dict[str, Any]], None]:
    def change(settings: dict[str, Any]) -> None:
        for name in [name for name in os.environ if name.startswith("FLASK_")]:
            monkeypatch.delenv(name)
        for name, value in settings.items():
            monkeypatch.setenv(f"FLASK_{name}", json.dumps(value))

    return change


@pytest.fixture
def downloads(pool: LocalUserPool, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Serve the keys to libraries that only use the URL at AWS. The value lists the URL of each download."""
    urls: list[str] = []

    def fetch_data(client: jwt.PyJWKClient) -> Any:
        urls.append(client.uri)
        return pool.jwks()

    monkeypatch.setattr(jwt.PyJWKClient, "fetch_data", fetch_data)
    return urls


def headers_of(pool: LocalUserPool, issuer: str) -> dict[str, dict[str, str]]:
    """Return the headers that callers send in each case."""
    valid = pool.token("stock/read", "orders", iss=issuer)
    start, signature = valid.rsplit(".", 1)
    tokens = {
        "valid": valid,
        "no scope": pool.token("orders/read", "orders", iss=issuer),
        "stranger": pool.token("stock/read", "stranger", iss=issuer),
        "expired": pool.token("stock/read", "orders", iss=issuer, expires_in=-60),
        "another issuer": pool.token("stock/read", "orders", iss="https://example.com/pool"),
        "forged": f"{start}.{'B' if signature[0] == 'A' else 'A'}{signature[1:]}",
        "not a JWT": "bad",
        "user token": pool.user_token("stock/read", client_id="orders", iss=issuer),
    }
    return {"none": {}, **{case: {"Authorization": f"Bearer {token}"} for case, token in tokens.items()}}


def verdicts(app: Flask, headers: dict[str, dict[str, str]], path: str = "/items") -> dict[str, int]:
    client = app.test_client()
    return {case: client.get(path, headers=each).status_code for case, each in headers.items()}


def test_pyjwt_decorator_and_guard_answer_the_same(
    pool: LocalUserPool, environ: Callable[[dict[str, Any]], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ISSUER", pool.issuer)
    monkeypatch.setenv("JWKS_URL", pool.jwks_url)
    headers = headers_of(pool, pool.issuer)
    old = verdicts(before("pyjwt_decorator").create_app(), headers)
    environ(pool.config(ALLOWED_CLIENT_IDS="orders"))
    new = verdicts(pyjwt_decorator.create_app(), headers)
    assert (old["valid"], old["no scope"], old["none"], old["forged"]) == (200, 403, 401, 401)
    assert changes(old, new) == {"stranger": (200, 403), "user token": (200, 401)}


# Slow, because it requires the extra [dev]: m2m-cognito does not work with the oldest supported requests.
@pytest.mark.slow
def test_changed_import_line_changes_no_answer(pool: LocalUserPool, downloads: list[str]) -> None:
    if importlib.util.find_spec("m2m_cognito") is None and not os.environ.get("CI"):
        pytest.skip("m2m-cognito is not installed")
    program = before("m2m_cognito_service")
    policy: dict[str, Any] = {"allowed_client_ids": ["orders"], "required_scopes": ["stock/read"]}
    client: dict[str, Any] = {
        "token_url": pool.token_url,
        "client_id": "shop",
        "client_secret": pool.client("shop").secret,
    }
    validator = program.CognitoAccessTokenValidator(region=pool.region, user_pool_id=pool.pool_id, **policy)
    old_app = program.create_app(validator, program.CognitoM2MClient(**client))
    new_app = m2m_cognito_service.create_app(
        CognitoAccessTokenValidator(pools=[pool.trusted_pool()], **policy), CognitoM2MClient(**client)
    )
    old = verdicts(old_app, headers_of(pool, AWS_ISSUER))
    assert old["valid"] == 200
    assert verdicts(new_app, headers_of(pool, pool.issuer)) == old
    orders = [app.test_client().post("/orders").get_json() for app in (old_app, new_app)]
    assert orders == [{"expires_in": 3600}] * 2
    with pool.fail("token", status=400):
        failed = [app.test_client().post("/orders") for app in (old_app, new_app)]
    assert [reply.status_code for reply in failed] == [502, 502]
    assert failed[0].get_json() == failed[1].get_json()


def test_unavailable_keys_are_503_for_valid_tokens(
    pool: LocalUserPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = CognitoM2MClient(token_url=pool.token_url, client_id="shop", client_secret="not used")
    validator = CognitoAccessTokenValidator(pools=[pool.trusted_pool()])
    with pool.fail("jwks", status=500):
        answers = verdicts(m2m_cognito_service.create_app(validator, client), headers_of(pool, pool.issuer))
    assert (answers["valid"], answers["not a JWT"]) == (503, 401)


def test_extension_rejects_unknown_clients_and_users(
    pool: LocalUserPool, environ: Callable[[dict[str, Any]], None]
) -> None:
    headers = headers_of(pool, pool.issuer)
    policy: dict[str, Any] = {"allowed_client_ids": ["orders"], "required_scopes": ["stock/read"]}
    validator = CognitoAccessTokenValidator(pools=[pool.trusted_pool()], **policy)
    client = CognitoM2MClient(
        token_url=pool.token_url, client_id="shop", client_secret=pool.client("shop").secret
    )
    old = verdicts(m2m_cognito_service.create_app(validator, client), headers)
    environ(pool.config("shop", ALLOWED_CLIENT_IDS="orders"))
    app = m2m_cognito_extension.create_app()
    assert changes(old, verdicts(app, headers)) == {"stranger": (401, 403), "user token": (200, 401)}
    count = pool.count("token")
    assert [app.test_client().post("/orders").get_json() for _ in range(2)] == [{"has_token": True}] * 2
    assert pool.count("token") == count + 1


def cookie_verdicts(app: Flask, headers: dict[str, dict[str, str]]) -> dict[str, int]:
    """Return what :func:`verdicts` returns, with the tokens in the cookie of flask-cognito-lib."""
    answers: dict[str, int] = {}
    for case, sent in headers.items():
        client = app.test_client()
        if sent:
            client.set_cookie("cognito_access_token", sent["Authorization"].removeprefix("Bearer "))
        answers[case] = client.get("/api/items").status_code
    return answers


def test_api_moves_from_the_cookie_of_flask_cognito_lib(
    pool: LocalUserPool,
    environ: Callable[[dict[str, Any]], None],
    downloads: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    environ(
        {
            "SECRET_KEY": "of the user sessions",
            "AWS_REGION": pool.region,
            "AWS_COGNITO_USER_POOL_ID": pool.pool_id,
            "AWS_COGNITO_USER_POOL_CLIENT_ID": "orders",
        }
    )
    old_app = before("cognito_lib_service").create_app()
    old_headers = headers_of(pool, AWS_ISSUER)
    old = cookie_verdicts(old_app, old_headers)
    assert len(downloads) == len(old) - 2  # one for each request with a JWT
    monkeypatch.setattr(jwt.PyJWKClient, "fetch_data", fails_to_connect)
    assert cookie_verdicts(old_app, {"valid": old_headers["valid"]}) == {"valid": 500}

    environ(pool.config(ALLOWED_CLIENT_IDS="orders"))
    new_app = cognito_lib_service.create_app()
    new_headers = headers_of(pool, pool.issuer)
    new = verdicts(new_app, new_headers, "/api/items")
    assert pool.count("jwks") == 2  # at first use, and once for the forged signature
    with pool.offline():
        assert verdicts(new_app, {"valid": new_headers["valid"]}, "/api/items") == {"valid": 200}

    assert old["valid"] == new["valid"] == 200
    not_valid = ("none", "expired", "another issuer", "forged", "not a JWT")
    assert changes(old, new) == {
        **dict.fromkeys(not_valid, (403, 401)),
        "user token": (200, 401),
        "no scope": (200, 403),
    }


def fails_to_connect(client: jwt.PyJWKClient) -> Any:
    raise jwt.exceptions.PyJWKClientConnectionError("AWS does not answer")


def changes(old: dict[str, int], new: dict[str, int]) -> dict[str, tuple[int, int]]:
    return {case: (old[case], new[case]) for case in old if old[case] != new[case]}
