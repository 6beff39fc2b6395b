"""``flask m2m token --local``: a caller's token, for an application that has no client of its own."""

from __future__ import annotations

import pytest
from click.testing import CliRunner

from flask_m2m_cognito.cli.group import m2m
from flask_m2m_cognito.testing import LocalUserPool
from tests.cli.flask_process import Flask
from tests.cli.test_remote_values import claims

RECEIVES_ONLY = dict.fromkeys(["TOKEN_URL", "CLIENT_ID", "CLIENT_SECRET", "SCOPES"])


@pytest.fixture
def pool(pool: LocalUserPool) -> LocalUserPool:
    """A pool like the one of ``flask m2m local-pool``."""
    pool.set_secrets("shop-client", [pool.client("shop-client").secret, "local-secret"])
    return pool


def test_receive_only_app_needs_no_client(flask: Flask, pool: LocalUserPool) -> None:
    """The pool is found by the issuer of the application."""
    ended = flask("token", "--local", "--as", "shop-client", may_print_token=True, **RECEIVES_ONLY)
    assert (ended.status, ended.err) == (0, "")
    assert claims(ended.out.strip())["client_id"] == "shop-client"
    assert claims(ended.out.strip())["scope"] == "stock/read stock/write"
    assert flask("explain", stdin=ended.out, **RECEIVES_ONLY).status == 0


def test_url_option_needs_no_application(flask: Flask, pool: LocalUserPool) -> None:
    options = ("--as", "shop-client", "--url", pool.url, "--scopes", "stock/read", "--json")
    ended = flask("token", "--local", *options, app=None, may_print_token=True)
    assert claims(ended.json.pop("access_token"))["scope"] == "stock/read"
    assert {**ended.json, "access_token": ""} == {
        "access_token": "",
        "token_type": "Bearer",
        "client_id": "shop-client",
        "scopes": "stock/read",
        "usable_for": 3600,
    }


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        pytest.param(["--as", "nobody"], "has no client 'nobody' with the secret local-secret", id="client"),
        pytest.param(["--as", "shop-client", "--scopes", "a/b"], "may not have a/b", id="scope"),
        pytest.param(
            ["--as", "shop-client", "--url", "http://127.0.0.1:1"],
            "No local pool answers at http://127.0.0.1:1: start `flask m2m local-pool`",
            id="no server listens",
        ),
    ],
)
def test_error_message_says_what_to_do(
    flask: Flask, pool: LocalUserPool, options: list[str], problem: str
) -> None:
    ended = flask("token", "--local", *options, **RECEIVES_ONLY)
    assert (ended.status, ended.out) == (1, "")
    assert problem in ended.err


def test_invalid_settings_fall_back_to_the_default_url(flask: Flask) -> None:
    ended = flask("token", "--local", "--as", "x", LEEWAY="soon")
    assert "http://127.0.0.1:9229" in ended.err


@pytest.mark.parametrize(
    "options",
    [
        ["--local"],
        ["--local", "--as", "a", "--client", "b"],
        ["--as", "a"],
        ["--url", "http://127.0.0.1:1"],
        ["--local", "--as", "a", "--url", "pool:9229"],
        ["--local", "--as", "a", "--url", "http://pool:9229/oauth2/token"],
    ],
)
def test_options_that_exclude_each_other(options: list[str]) -> None:
    ended = CliRunner().invoke(m2m, ["token", *options])
    assert ended.exit_code == 2
    assert "--local" in ended.output or "--url must be scheme, host and port" in ended.output
