"""``flask m2m token`` and ``check`` for a pool without a domain, which is asked by ``GetClientToken``."""

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
    def test_it_is_the_apis(self, flask: Flask, pool: LocalUserPool, api: dict[str, Any]) -> None:
        ended = flask("token", may_say_token=True, **api)
        assert (ended.status, ended.err) == (0, "")
        claims = jwt.decode(ended.out.strip(), options={"verify_signature": False})
        assert (claims["client_id"], claims["scope"]) == ("shop-client", "stock/read stock/write")
        assert paths(pool) == ["/"]

    def test_named_client_may_have_its_own_way(
        self, flask: Flask, pool: LocalUserPool, api: dict[str, Any]
    ) -> None:
        bills = {"CLIENT_ID": "billing", "CLIENT_SECRET": pool.client("billing").secret, **api}
        options = ("--client", "bills", "--scopes", "b/c a/b")
        ended = flask("token", "--json", *options, may_say_token=True, CLIENTS={"bills": bills})
        assert (ended.json["client_id"], ended.json["scopes"]) == ("billing", "a/b b/c")
        assert paths(pool) == ["/"]

    @pytest.mark.parametrize(
        ("options", "said", "code", "advice"),
        [
            pytest.param(
                (),
                {"CLIENT_SECRET": "not-the-secret-of-it"},
                "invalid_client",
                "`flask m2m check` says what to do",
                id="wrong secret",
            ),
            pytest.param(
                ("--scopes", "stock/delete"),
                {},
                "invalid_request",
                "may not have stock/delete",
                id="scope not allowed",
            ),
        ],
    )
    def test_refusal_is_a_sentence(
        self,
        flask: Flask,
        api: dict[str, Any],
        options: tuple[str, ...],
        said: dict[str, Any],
        code: str,
        advice: str,
    ) -> None:
        ended = flask("token", *options, **api, **said)
        assert (ended.status, ended.out) == (1, "")
        assert code in ended.err
        assert advice in ended.err


class TestCheck:
    def test_all_is_well(self, flask: Flask, pool: LocalUserPool, api: dict[str, Any]) -> None:
        ended = flask("check", **api)
        assert ended.status == 0
        assert ended.finding("ok", "token", "shop-client", "1 h")
        assert ended.finding("ok", "scopes", "stock/read and stock/write")
        assert ended.finding("ok", "clock")
        assert paths(pool) == ["/"]

    def test_wrong_secret(self, flask: Flask, api: dict[str, Any]) -> None:
        ended = flask("check", CLIENT_SECRET="not-the-secret-of-it", **api)
        assert ended.status == 1
        assert ended.finding("failed", "token", "invalid_client", "COGNITO_M2M_CLIENT_SECRET")

    def test_scope_that_is_not_allowed_is_named(self, flask: Flask, api: dict[str, Any]) -> None:
        ended = flask("check", SCOPES="stock/read stock/delete", **api)
        assert ended.status == 1
        line = ended.finding("failed", "scopes", "may not have stock/delete", "COGNITO_M2M_SCOPES")
        assert "invalid_request" in line

    @pytest.mark.parametrize(
        ("name", "words"),
        [
            ("OperationNotEnabledException", ("unauthorized_client", "Client credentials")),
            ("TooManyRequestsException", ("more token requests", "Wait a minute")),
        ],
    )
    def test_what_the_api_says_is_told(
        self, flask: Flask, pool: LocalUserPool, api: dict[str, Any], name: str, words: tuple[str, ...]
    ) -> None:
        with pool.fail("token", status=400, body={"__type": name, "message": "In words."}):
            ended = flask("check", **api)
        assert ended.status == 1
        assert ended.finding("failed", "token", *words)

    def test_address_of_the_other_endpoint_is_not_called_the_right_one(
        self, flask: Flask, pool: LocalUserPool
    ) -> None:
        ended = flask("check", CLIENT_TOKEN_API=True, TOKEN_URL=pool.token_url)
        assert ended.status == 1
        line = ended.finding("failed", "token", "COGNITO_M2M_TOKEN_URL", "https://cognito-idp.")
        assert "ends with /oauth2/token" not in line
