"""``flask m2m token``, ``flask m2m refresh-tokens`` and ``flask m2m refresh-keys``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jwt
import pytest

from flask_m2m_cognito.remote.sealed_store import Seal
from flask_m2m_cognito.testing import LocalUserPool
from tests.cli.flask_process import Flask


@pytest.fixture
def shared(tmp_path: Path) -> dict[str, Any]:
    return {"CACHE_TYPE": "FileSystemCache", "CACHE_DIR": str(tmp_path), "CACHE_KEY": "sixteen bytes or more"}


def claims(token: str) -> dict[str, Any]:
    found: dict[str, Any] = jwt.decode(token, options={"verify_signature": False})
    return found


@pytest.mark.parametrize("command", ["refresh-keys", "refresh-tokens"])
@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        pytest.param({"CACHE_TYPE": "SimpleCache"}, "no shared cache is configured", id="in the process"),
        pytest.param({"CACHE_TYPE": "NullCache"}, "no shared cache is configured", id="none"),
        pytest.param({"CACHE_KEY": None}, "CACHE_KEY (or SECRET_KEY) is not set", id="no key"),
        pytest.param({"CACHE_KEY": "fifteen-letters"}, "shorter than 16 bytes", id="a short key"),
        pytest.param(
            {"CACHE_TYPE": "RedisCache", "CACHE_REDIS_URL": "redis://127.0.0.1:1/0"},
            "is unavailable",
            id="no server listens",
        ),
        pytest.param({"CACHE_TYPE": "NoSuchCache"}, "is unavailable", id="a cache that does not exist"),
    ],
)
def test_value_that_is_not_shared_is_a_failure(
    flask: Flask, shared: dict[str, Any], command: str, changed: dict[str, Any], reason: str
) -> None:
    ended, as_json = (flask(command, *option, **{**shared, **changed}) for option in ((), ("--json",)))
    assert (ended.status, as_json.status) == (1, 1)
    assert ended.line("Not shared", reason)
    (row,) = as_json.json.get("tokens") or as_json.json["pools"].values()
    assert reason in row["not_shared"]


class TestToken:
    def test_only_the_token_is_printed(self, flask: Flask) -> None:
        ended = flask("token", may_print_token=True)
        assert (ended.status, ended.err) == (0, "")
        assert claims(ended.out.strip())["scope"] == "stock/read stock/write"

    def test_scopes_and_client(self, flask: Flask, pool: LocalUserPool) -> None:
        bills = {"CLIENT_ID": "billing", "CLIENT_SECRET": pool.client("billing").secret}
        options = ("--json", "--scopes", "b/c a/b", "--client", "bills")
        ended = flask("token", *options, may_print_token=True, CLIENTS={"bills": bills})
        found = claims(ended.json["access_token"])
        assert (found["client_id"], found["scope"]) == ("billing", "a/b b/c")
        assert (ended.json["client_id"], ended.json["scopes"]) == ("billing", "a/b b/c")
        assert 3500 < ended.json["usable_for"] <= 3600

    def test_shared_token_is_not_requested_again(
        self, flask: Flask, pool: LocalUserPool, shared: dict[str, Any]
    ) -> None:
        tokens = {flask("token", may_print_token=True, **shared).out for _ in range(2)}
        assert (len(tokens), pool.count("token")) == (1, 1)

    @pytest.mark.parametrize("command", ["token", "refresh-tokens"])
    def test_failure_is_an_error_message(self, flask: Flask, command: str) -> None:
        ended = flask(command, CLIENT_SECRET="not-the-secret-of-it")
        assert ended.status == 1
        assert "invalid_client" in ended.out + ended.err
        assert "flask m2m check" in ended.out + ended.err

    @pytest.mark.parametrize("command", ["token", "refresh-tokens"])
    def test_rejected_scope_is_explained(self, flask: Flask, command: str) -> None:
        """``check`` would not help: it requests the client's configured scopes, and finds nothing wrong."""
        ended = flask(command, "--scopes", "stock/read stock/delete")
        output = ended.out + ended.err
        assert ended.status == 1
        assert "invalid_scope" in output
        assert "(shop-client) may not have one or more of stock/delete and stock/read." in output
        assert "remove them from --scopes" in output
        assert "flask m2m check" not in output

    def test_rejected_scope_of_the_settings_leads_to_check(self, flask: Flask) -> None:
        ended = flask("token", SCOPES="stock/delete")
        assert (ended.status, ended.out) == (1, "")
        assert "Run `flask m2m check`" in ended.err

    def test_unknown_client_is_an_error(self, flask: Flask) -> None:
        ended = flask("token", "--client", "nobody")
        assert (ended.status, ended.out) == (1, "")
        assert "Unknown client 'nobody'" in ended.err


class TestRefreshKeys:
    def test_key_ids_are_printed(self, flask: Flask, pool: LocalUserPool, shared: dict[str, Any]) -> None:
        kids = pool.kid, pool.rotate_key()
        ended = flask("refresh-keys", **shared)
        assert ended.status == 0
        assert ended.line("seal", Seal(shared["CACHE_KEY"].encode()).fingerprint)
        assert all(json.dumps(kid) in ended.line(pool.pool_id, "2 keys") for kid in kids)

    def test_keys_are_downloaded_although_fresh_ones_are_cached(
        self, flask: Flask, pool: LocalUserPool, shared: dict[str, Any]
    ) -> None:
        assert flask("refresh-keys", **shared).status == 0
        pool.rotate_key(keep_old=False)
        ended = flask("refresh-keys", "--json", **shared)
        row = ended.json["pools"][pool.pool_id]
        assert (row["kids"], row["source"], row["not_shared"]) == ([pool.kid], "network", None)
        assert (ended.status, ended.json["seal"]) == (0, Seal(shared["CACHE_KEY"].encode()).fingerprint)
        # Other processes now find the new key in the cache.
        with pool.offline():
            assert flask("explain", "--json", stdin=pool.token(), **shared).json["good"]

    def test_keys_are_downloaded_although_others_are_pinned(self, flask: Flask, pool: LocalUserPool) -> None:
        pinned = pool.jwks()
        pool.rotate_key(keep_old=False)
        rows = flask("refresh-keys", "--json", JWKS=pinned).json["pools"]
        assert rows[pool.pool_id]["kids"] == [pool.kid]

    def test_outage(self, flask: Flask, pool: LocalUserPool, shared: dict[str, Any]) -> None:
        with pool.fail("jwks", status=503):
            ended = flask("refresh-keys")
        assert ended.status == 1
        assert ended.line(pool.pool_id, "failed", "503", "flask m2m check")

    def test_outage_with_keys_in_the_cache(
        self, flask: Flask, pool: LocalUserPool, shared: dict[str, Any]
    ) -> None:
        flask("refresh-keys", **shared)
        with pool.fail("jwks", status=503):
            ended = flask("refresh-keys", **shared)
        assert ended.status == 1
        assert ended.line("503", "The known keys stay in use", json.dumps(pool.kid))

    def test_app_without_a_pool(self, flask: Flask) -> None:
        ended = flask("refresh-keys", USER_POOL_ID=None, ISSUER=None, JWKS_URL=None, ALLOWED_CLIENT_IDS=None)
        assert ended.status == 1
        assert "COGNITO_M2M_USER_POOL_ID" in ended.err


class TestRefreshTokens:
    def test_shared_token_is_replaced_and_not_printed(
        self, flask: Flask, pool: LocalUserPool, shared: dict[str, Any]
    ) -> None:
        old = flask("token", may_print_token=True, **shared).out
        ended = flask("refresh-tokens", **shared)
        assert (ended.status, ended.err) == (0, "")
        assert ended.out.startswith("default: usable for ")
        assert flask("token", may_print_token=True, **shared).out != old
        assert pool.count("token") == 2

    def test_each_client_gets_its_own(
        self, flask: Flask, pool: LocalUserPool, shared: dict[str, Any]
    ) -> None:
        bills = {"CLIENT_ID": "billing", "CLIENT_SECRET": pool.client("billing").secret, "SCOPES": "a/b"}
        ended = flask("refresh-tokens", "--json", CLIENTS={"bills": bills}, **shared)
        rows = [
            (row["client"], row["client_id"], row["error"], row["not_shared"]) for row in ended.json["tokens"]
        ]
        assert (ended.status, rows) == (
            0,
            [("default", pool.client().client_id, None, None), ("bills", "billing", None, None)],
        )
