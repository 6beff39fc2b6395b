"""``flask m2m token`` and ``check`` for a pool without a domain, with ``GetClientToken``."""

from __future__ import annotations

from typing import Any

import jwt
import pytest

from flask_m2m_cognito.testing import LocalUserPool
from tests.cli.flask_process import Flask


@pytest.fixture
def api(pool: LocalUserPool) -> dict[str, Any]:
    return {"CLIENT_TOKEN_API": True, "TOKEN_URL": pool.api_url}


def paths(pool: LocalUserPool) -> list[str]:
    return [request.path for request in pool.requests if request.endpoint == "token"]


class TestToken:
    def test_token_comes_from_the_api(self, flask: Flask, pool: LocalUserPool, api: dict[str, Any]) -> None:
        ended = flask("token", may_print_token=True, **api)
        assert (ended.status, ended.err) == (0, "")
        claims = jwt.decode(ended.out.strip(), options={"verify_signature": False})
        assert (claims["client_id"], claims["scope"]) == ("shop-client", "stock/read stock/write")
        assert paths(pool) == ["/"]

    def test_disallowed_scope_is_named(self, flask: Flask, api: dict[str, Any]) -> None:
        ended = flask("token", "--scopes", "stock/delete", **api)
        assert (ended.status, ended.out) == (1, "")
        assert "invalid_request" in ended.err
        assert "may not have stock/delete" in ended.err


class TestCheck:
    def test_correct_settings_pass(self, flask: Flask, pool: LocalUserPool, api: dict[str, Any]) -> None:
        ended = flask("check", **api)
        assert ended.status == 0
        assert ended.finding("ok", "token", "shop-client", "1 h")
        assert ended.finding("ok", "scopes", "stock/read and stock/write")
        assert ended.finding("ok", "clock")
        assert paths(pool) == ["/"]

    @pytest.mark.parametrize(
        ("changed", "check", "words"),
        [
            pytest.param(
                {"CLIENT_SECRET": "not-the-secret-of-it"},
                "token",
                ("invalid_client", "COGNITO_M2M_CLIENT_SECRET"),
                id="wrong secret",
            ),
            pytest.param(
                {"SCOPES": "stock/read stock/delete"},
                "scopes",
                ("may not have stock/delete (invalid_request)", "COGNITO_M2M_SCOPES"),
                id="disallowed scope",
            ),
        ],
    )
    def test_wrong_setting_is_named(
        self, flask: Flask, api: dict[str, Any], changed: dict[str, str], check: str, words: tuple[str, ...]
    ) -> None:
        ended = flask("check", **{**api, **changed})
        assert ended.status == 1
        assert ended.finding("failed", check, *words)

    @pytest.mark.parametrize(
        ("name", "words"),
        [
            ("OperationNotEnabledException", ("unauthorized_client", "Client credentials")),
            ("TooManyRequestsException", ("more token requests", "Wait a minute")),
        ],
    )
    def test_error_of_the_api_is_explained(
        self, flask: Flask, pool: LocalUserPool, api: dict[str, Any], name: str, words: tuple[str, ...]
    ) -> None:
        with pool.fail("token", status=400, body={"__type": name, "message": "In words."}):
            ended = flask("check", **api)
        assert ended.status == 1
        assert ended.finding("failed", "token", *words)

    def test_url_of_the_other_endpoint_fails(self, flask: Flask, pool: LocalUserPool) -> None:
        ended = flask("check", CLIENT_TOKEN_API=True, TOKEN_URL=pool.token_url)
        assert ended.status == 1
        line = ended.finding("failed", "token", "COGNITO_M2M_TOKEN_URL", "https://cognito-idp.")
        assert "ends with /oauth2/token" not in line
