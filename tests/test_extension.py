"""``CognitoM2M``: applications with their own settings, tokens in both directions, and warnings."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import gc
import json
import logging
import socket
import subprocess
import sys
import threading
import time
import warnings
import weakref
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import requests
from flask import Flask, g
from flask_caching import Cache

from flask_m2m_cognito import (
    CognitoAccessTokenValidator,
    CognitoM2M,
    CognitoM2MClient,
    CognitoTokenRequestError,
    ConfigurationError,
    TokenUnavailableError,
    require_scopes,
)
from flask_m2m_cognito.testing import LocalUserPool
from tests.outbound.peers import Peer
from tests.support.headers import bearer
from tests.support.settling import settle

SECRET_KEY = "the key that seals what is shared"
KEPT: list[Flask] = []


@pytest.fixture
def pool() -> Iterator[LocalUserPool]:
    with LocalUserPool("us-east-1_One") as pool:
        pool.add_client("billing", scopes="stock/read stock/write")
        yield pool


@pytest.fixture
def other_pool() -> Iterator[LocalUserPool]:
    with LocalUserPool("eu-west-1_Other") as pool:
        yield pool


@pytest.fixture
def peer() -> Iterator[Peer]:
    with Peer() as started:
        yield started


@pytest.fixture
def m2m() -> CognitoM2M:
    return CognitoM2M()


@pytest.fixture(autouse=True)
def _kept_apps() -> Iterator[None]:
    """Release the applications after each test: a CognitoM2M does not keep them alive."""
    yield
    KEPT.clear()


def app_of(m2m: CognitoM2M | None, pool: LocalUserPool, name: str = "inventory", **settings: Any) -> Flask:
    """Return a service with one guarded view. ``settings`` change those of the pool; ``None`` removes one."""
    app = Flask(name)
    KEPT.append(app)
    usual = {"SECRET_KEY": SECRET_KEY, **pool.config(ALLOWED_CLIENT_IDS="*")}
    app.config.update({key: value for key, value in {**usual, **settings}.items() if value is not None})

    @app.get("/items")
    @require_scopes("inventory/read")
    def items() -> dict[str, str]:
        return {"caller": g.m2m_token.client_id}

    if m2m is not None:
        m2m.init_app(app)
    return app


def status_of(app: Flask, token: str) -> int:
    return app.test_client().get("/items", headers=bearer(token)).status_code


def settings_without(*prefixes: str) -> dict[str, Any]:
    """Return settings that make ``app_of`` remove those with these prefixes."""
    names = [
        "USER_POOL_ID", "ISSUER", "JWKS_URL", "ALLOWED_CLIENT_IDS",
        "TOKEN_URL", "CLIENT_ID", "CLIENT_SECRET", "SCOPES",
    ]  # fmt: skip
    return {f"COGNITO_M2M_{name}": None for name in names if name.startswith(prefixes)}


CALLS_ONLY = settings_without("USER_POOL_ID", "ISSUER", "JWKS_URL", "ALLOWED_CLIENT_IDS")
RECEIVES_ONLY = settings_without("TOKEN_URL", "CLIENT_ID", "CLIENT_SECRET", "SCOPES")


class TestApplications:
    def test_each_application_has_its_own_settings(
        self, m2m: CognitoM2M, pool: LocalUserPool, other_pool: LocalUserPool
    ) -> None:
        one, other = app_of(m2m, pool, "one"), app_of(m2m, other_pool, "other")
        assert (status_of(one, pool.token()), status_of(one, other_pool.token())) == (200, 401)
        assert (status_of(other, pool.token()), status_of(other, other_pool.token())) == (401, 200)

    def test_each_application_uses_its_own_client(
        self, m2m: CognitoM2M, pool: LocalUserPool, other_pool: LocalUserPool
    ) -> None:
        one, other = app_of(m2m, pool, "one"), app_of(m2m, other_pool, "other")
        for app, its_pool in ((one, pool), (other, other_pool)):
            with app.app_context():
                token = m2m.token()
                assert m2m.validator.validate(token).iss == its_pool.issuer
        assert (pool.count("token"), other_pool.count("token")) == (1, 1)

    def test_constructor_takes_an_application(self, pool: LocalUserPool) -> None:
        app = app_of(None, pool)
        CognitoM2M(app)
        assert status_of(app, pool.token()) == 200

    def test_views_may_be_guarded_before_init_app(self, m2m: CognitoM2M, pool: LocalUserPool) -> None:
        app = app_of(None, pool)
        app.get("/more")(m2m.require_scopes("inventory/write")(lambda: "more"))
        m2m.init_app(app)
        headers = bearer(pool.token("inventory/read"))
        assert app.test_client().get("/items", headers=headers).status_code == 200
        assert app.test_client().get("/more", headers=headers).status_code == 403

    def test_parts_are_in_extensions_and_frozen(self, m2m: CognitoM2M, pool: LocalUserPool) -> None:
        app = app_of(m2m, pool)
        assert app.extensions["cognito_m2m"] is m2m.for_app(app)
        with pytest.raises(dataclasses.FrozenInstanceError):
            app.extensions["cognito_m2m"].settings = None

    @pytest.mark.parametrize("which", ["another", "the same"])
    def test_second_object_on_an_application_raises(
        self, m2m: CognitoM2M, pool: LocalUserPool, which: str
    ) -> None:
        app = app_of(m2m, pool)
        parts = app.extensions["cognito_m2m"]
        with pytest.raises(RuntimeError):
            (m2m if which == "the same" else CognitoM2M()).init_app(app)
        assert app.extensions["cognito_m2m"] is parts

    def test_invalid_settings_leave_no_state(self, m2m: CognitoM2M, pool: LocalUserPool) -> None:
        app = app_of(None, pool, COGNITO_M2M_LEEWAY="soon", COGNITO_M2M_REGON="us-east-1")
        with pytest.raises(ConfigurationError) as caught:
            m2m.init_app(app)
        assert len(caught.value.problems) == 2
        assert "cognito_m2m" not in app.extensions
        app.config.update(COGNITO_M2M_LEEWAY=10)
        del app.config["COGNITO_M2M_REGON"]
        m2m.init_app(app)
        assert status_of(app, pool.token()) == 200

    def test_settings_are_read_once(self, m2m: CognitoM2M, pool: LocalUserPool) -> None:
        app = app_of(m2m, pool)
        app.config["COGNITO_M2M_ALLOWED_CLIENT_IDS"] = ["other"]
        assert status_of(app, pool.token()) == 200

    def test_object_does_not_keep_an_application_alive(self, m2m: CognitoM2M, pool: LocalUserPool) -> None:
        app = weakref.ref(app_of(m2m, pool))
        KEPT.clear()
        gc.collect()
        assert app() is None

    def test_init_app_sends_no_request(self, m2m: CognitoM2M, pool: LocalUserPool) -> None:
        app_of(m2m, pool)
        assert pool.count() == 0


class TestContexts:
    def test_without_a_context_the_only_application_is_used(
        self, m2m: CognitoM2M, pool: LocalUserPool
    ) -> None:
        app = app_of(m2m, pool)
        assert m2m.token() == m2m.for_app(app).token()
        assert m2m.validator is m2m.for_app(app).validator

    @pytest.mark.parametrize("number", [0, 2], ids=["none", "two"])
    def test_without_a_context_no_app_or_two_apps_raise(
        self, m2m: CognitoM2M, pool: LocalUserPool, number: int
    ) -> None:
        apps = [app_of(m2m, pool, f"app-{each}") for each in range(number)]
        with pytest.raises(RuntimeError) as caught:
            m2m.token()
        assert "for_app" in str(caught.value)
        assert all(repr(app.name) in str(caught.value) for app in apps)

    def test_for_app_works_in_a_thread(self, m2m: CognitoM2M, pool: LocalUserPool) -> None:
        app = app_of(m2m, pool)
        app_of(m2m, pool, "another")
        with ThreadPoolExecutor(1) as thread:
            token = thread.submit(lambda: m2m.for_app(app).token()).result(5)
        with app.app_context():
            assert m2m.token() == token

    @pytest.mark.parametrize(
        ("ahead", "text"), [(3700, "3700 s ahead of"), (-90, "90 s behind"), (20, None), (0, None)]
    )
    def test_wrong_clock_is_warned_about_once(
        self, m2m: CognitoM2M, caplog: pytest.LogCaptureFixture, ahead: float, text: str | None
    ) -> None:
        with LocalUserPool(clock=lambda: time.time() - ahead) as elsewhere:
            app = app_of(m2m, elsewhere)
            for scopes in (None, "orders/read", "orders/write"):
                m2m.for_app(app).token(scopes)
            settle()
        found = [each.getMessage() for each in caplog.records if "clock" in each.getMessage()]
        assert len(found) == (0 if text is None else 1)
        assert text is None or text in found[0]

    def test_token_headers_are_each_clients_own(self, m2m: CognitoM2M, pool: LocalUserPool) -> None:
        billing = {"CLIENT_ID": "billing", "CLIENT_SECRET": pool.client("billing").secret}
        clients = {"one": billing, "other": {**billing, "TOKEN_HEADERS": {"x-origin-verify": "other"}}}
        settings = {"CLIENTS": clients, "TOKEN_HEADERS": {"x-origin-verify": "top"}}
        app = app_of(m2m, pool, **{f"COGNITO_M2M_{key}": value for key, value in settings.items()})
        for client, scopes in ((None, None), ("one", "stock/read"), ("other", "stock/write")):
            m2m.for_app(app).token(scopes, client=client)
        sent = [each.headers["X-Origin-Verify"] for each in pool.requests]
        assert sent == ["top", "top", "other"]

    @pytest.mark.parametrize("bound", [False, True], ids=["m2m", "for_app"])
    def test_metadata_and_force_refresh_reach_the_request(
        self, m2m: CognitoM2M, pool: LocalUserPool, peer: Peer, bound: bool
    ) -> None:
        app = app_of(m2m, pool)
        calls: Any = m2m.for_app(app) if bound else m2m
        metadata = {"tenant": "acme"}
        plain = calls.token()
        first = calls.token(metadata=metadata)
        assert pool.requests[-1].form["aws_client_metadata"] == '{"tenant":"acme"}'
        second = calls.token(metadata=metadata, force_refresh=True)
        third = asyncio.run(calls.token_async(metadata=metadata, force_refresh=True))
        assert len({plain, first, second, third, calls.token(force_refresh=True)}) == 5
        assert asyncio.run(calls.token_async(metadata=metadata)) == third
        requests.get(peer.url(), auth=calls.auth(metadata=metadata), timeout=5)
        calls.session(metadata=metadata, timeout=5, retries=1).get(peer.url())
        assert peer.tokens == [third] * 2

    def test_for_app_of_an_uninitialised_application_raises(self, m2m: CognitoM2M) -> None:
        with pytest.raises(RuntimeError):
            m2m.for_app(Flask("stranger"))

    def test_collected_application_is_named_in_the_error(self, m2m: CognitoM2M, pool: LocalUserPool) -> None:
        app_of(m2m, pool, "worker-app")
        KEPT.clear()
        gc.collect()
        for call in (m2m.token, m2m.health, m2m.warm_up, lambda: m2m.validator):
            with pytest.raises(RuntimeError, match=r"'worker-app' .* garbage-collected"):
                call()
        with pytest.raises(RuntimeError, match="0 applications: none"):
            CognitoM2M().token()

    def test_context_of_an_uninitialised_application_raises(
        self, m2m: CognitoM2M, pool: LocalUserPool
    ) -> None:
        app_of(m2m, pool)
        with Flask("stranger").app_context(), pytest.raises(RuntimeError):
            m2m.token()


class TestClients:
    @pytest.fixture
    def app(self, m2m: CognitoM2M, pool: LocalUserPool) -> Flask:
        billing = {"CLIENT_ID": "billing", "CLIENT_SECRET": pool.client("billing").secret}
        return app_of(m2m, pool, COGNITO_M2M_CLIENTS={"billing": {**billing, "SCOPES": "stock/read"}})

    def test_named_client_uses_its_id_at_the_shared_endpoint(
        self, app: Flask, m2m: CognitoM2M, pool: LocalUserPool
    ) -> None:
        token = m2m.validator.validate(m2m.token(client="billing"))
        assert (token.client_id, token.scopes) == ("billing", {"stock/read"})
        assert pool.requests[0].form["client_id"] == "billing"

    def test_default_client_requests_the_settings_scopes(
        self, app: Flask, m2m: CognitoM2M, pool: LocalUserPool
    ) -> None:
        token = m2m.validator.validate(m2m.token())
        assert (token.client_id, token.scopes) == ("local-client", set(pool.client().scopes))

    def test_scopes_of_a_call_are_text_or_a_sequence(
        self, app: Flask, m2m: CognitoM2M, pool: LocalUserPool
    ) -> None:
        first = m2m.token("orders/write orders/read")
        assert m2m.token(["orders/read", "orders/write"]) == first
        assert m2m.token({"orders/read", "orders/write"}) == first
        assert pool.count("token") == 1

    @pytest.mark.parametrize("method", ["token", "auth", "session", "client"])
    def test_unknown_client_is_an_error_that_names_known_ones(
        self, app: Flask, m2m: CognitoM2M, method: str
    ) -> None:
        arguments = {"name": "biling"} if method == "client" else {"client": "biling"}
        with pytest.raises(ConfigurationError, match="'billing'"):
            getattr(m2m.for_app(app), method)(**arguments)

    def test_client_returns_the_underlying_client(
        self, app: Flask, m2m: CognitoM2M, pool: LocalUserPool
    ) -> None:
        default, billing = m2m.client(), m2m.client("billing")
        assert isinstance(default, CognitoM2MClient)
        assert (default.client_id, billing.client_id) == ("local-client", "billing")
        assert billing.token_url == pool.token_url
        first = billing.fetch_token("stock/read").access_token
        assert billing.fetch_token("stock/read").access_token != first

    def test_auth_and_session_take_a_name(self, app: Flask, m2m: CognitoM2M, peer: Peer) -> None:
        requests.get(peer.url(), auth=m2m.auth(client="billing"), timeout=5)
        with m2m.session(client="billing") as session:
            session.get(peer.url(), timeout=5)
        assert peer.tokens == [m2m.token(client="billing")] * 2

    def test_scope_not_allowed_for_the_client_is_an_error(
        self, app: Flask, m2m: CognitoM2M, pool: LocalUserPool
    ) -> None:
        with pytest.raises(TokenUnavailableError) as caught:
            m2m.token("orders/read", client="billing")
        assert caught.value.error_code == "invalid_scope"

    def test_wrong_secret_is_invalid_client(self, pool: LocalUserPool) -> None:
        m2m = CognitoM2M(app_of(None, pool, COGNITO_M2M_CLIENT_SECRET="wrong"))
        with pytest.raises(CognitoTokenRequestError) as caught:
            m2m.token()
        assert caught.value.error_code == "invalid_client"

    def test_secret_in_a_file_is_read_again_after_a_rotation(
        self, m2m: CognitoM2M, pool: LocalUserPool, tmp_path: Path
    ) -> None:
        file = tmp_path / "secret"
        file.write_text(pool.client().secret + "\n")
        app_of(m2m, pool, COGNITO_M2M_CLIENT_SECRET=None, COGNITO_M2M_CLIENT_SECRET_FILE=file)
        m2m.token("orders/read")
        pool.set_secrets("local-client", "the new secret")
        file.write_text("the new secret\n")
        assert m2m.token("orders/write")
        assert pool.count("token") == 3

    def test_basic_sends_id_and_secret_in_the_header(self, m2m: CognitoM2M, pool: LocalUserPool) -> None:
        app_of(m2m, pool, COGNITO_M2M_CLIENT_AUTH="basic")
        m2m.token()
        assert "client_secret" not in pool.requests[0].form
        assert pool.requests[0].headers["Authorization"].startswith("Basic ")

    def test_metadata_of_the_settings_is_sent(self, m2m: CognitoM2M, pool: LocalUserPool) -> None:
        app_of(m2m, pool, COGNITO_M2M_CLIENT_METADATA={"tenant": "acme"})
        m2m.token()
        assert pool.requests[0].form["aws_client_metadata"] == '{"tenant":"acme"}'


class TestOneDirection:
    def test_receiving_application_has_no_client(self, m2m: CognitoM2M, pool: LocalUserPool) -> None:
        app = app_of(m2m, pool, **RECEIVES_ONLY)
        assert status_of(app, pool.token()) == 200
        for method in (m2m.token, m2m.client):
            with pytest.raises(ConfigurationError, match="COGNITO_M2M_CLIENT_ID"):
                method()

    def test_calling_application_trusts_no_pool(self, m2m: CognitoM2M, pool: LocalUserPool) -> None:
        app = app_of(m2m, pool, **CALLS_ONLY)
        assert m2m.token()
        assert m2m.for_app(app).guard is None
        with pytest.raises(RuntimeError, match="COGNITO_M2M_USER_POOL_ID"):
            _ = m2m.validator

    def test_guarded_view_without_a_pool_is_never_open(self, m2m: CognitoM2M, pool: LocalUserPool) -> None:
        app = app_of(m2m, pool, **CALLS_ONLY)
        assert status_of(app, pool.token()) == 500
        app.testing = True
        with pytest.raises(RuntimeError, match="COGNITO_M2M_USER_POOL_ID"):
            status_of(app, pool.token())

    def test_guarded_view_without_init_app_is_never_open(self, pool: LocalUserPool) -> None:
        assert status_of(app_of(None, pool), pool.token()) == 500

    def test_pinned_keys_work_without_the_jwks_endpoint(self, m2m: CognitoM2M, pool: LocalUserPool) -> None:
        app = app_of(m2m, pool, COGNITO_M2M_JWKS={pool.pool_id: pool.jwks()})
        pool.offline()
        assert status_of(app, pool.token("inventory/read")) == 200

    def test_pinned_key_with_a_duplicate_name_is_not_used(self, m2m: CognitoM2M, pool: LocalUserPool) -> None:
        (key,) = pool.jwks()["keys"][-1:]
        with pytest.raises(ConfigurationError, match="JWKS"):
            app_of(m2m, pool, COGNITO_M2M_JWKS=f'{{"keys":[{json.dumps(key)[:-1]},"kid":"other"}}]}}')

    def test_unusable_pinned_keys_are_an_error_naming_the_pool(
        self, m2m: CognitoM2M, pool: LocalUserPool
    ) -> None:
        with pytest.raises(ConfigurationError, match=f"JWKS.*{pool.pool_id}.*RSA keys"):
            app_of(m2m, pool, COGNITO_M2M_JWKS={pool.pool_id: {"keys": [{"kty": "EC"}]}})

    def test_validator_is_the_underlying_validator(self, m2m: CognitoM2M, pool: LocalUserPool) -> None:
        app_of(m2m, pool)
        assert isinstance(m2m.validator, CognitoAccessTokenValidator)
        assert (m2m.validator.issuer, m2m.validator.jwks_url) == (pool.issuer, pool.jwks_url)


class TestModuleLevel:
    """``auth()`` and ``session()`` at module level, before any application exists."""

    @pytest.mark.parametrize("way", ["auth", "session"])
    def test_auth_sends_the_token_of_the_current_application(
        self,
        m2m: CognitoM2M,
        pool: LocalUserPool,
        other_pool: LocalUserPool,
        peer: Peer,
        way: str,
    ) -> None:
        auth, session = m2m.auth("orders/read"), m2m.session("orders/read")

        def call() -> str:
            if way == "auth":
                return requests.get(peer.url(), auth=auth, timeout=5).text
            return session.get(peer.url(), timeout=5).text

        apps = [app_of(m2m, pool, "one"), app_of(m2m, other_pool, "other")]
        for app in apps:
            app.get("/call")(call)
            assert app.test_client().get("/call").text == "well"
        assert peer.tokens == [m2m.for_app(app).token("orders/read") for app in apps]
        assert peer.tokens[0] != peer.tokens[1]

    def test_auth_without_a_context_raises_for_several_apps(
        self, m2m: CognitoM2M, pool: LocalUserPool, peer: Peer
    ) -> None:
        auth = m2m.auth()
        for name in ("one", "other"):
            app_of(m2m, pool, name)
        with pytest.raises(RuntimeError):
            requests.get(peer.url(), auth=auth, timeout=5)
        assert peer.received == []


class TestInAView:
    @pytest.fixture
    def app(self, m2m: CognitoM2M, pool: LocalUserPool) -> Flask:
        app = app_of(m2m, pool)
        app.get("/call")(lambda: m2m.token()[:0] or "called")
        return app

    def test_unavailable_token_is_503_with_retry_after(self, app: Flask, pool: LocalUserPool) -> None:
        with pool.offline():
            answer = app.test_client().get("/call")
        assert answer.status_code == 503
        assert int(answer.headers["Retry-After"]) >= 1
        assert answer.mimetype == "application/problem+json"
        assert answer.json is not None
        assert answer.json["reason"] == "token_unavailable"

    def test_application_may_handle_the_error(self, app: Flask, pool: LocalUserPool) -> None:
        @app.errorhandler(TokenUnavailableError)
        def handle(error: TokenUnavailableError) -> tuple[str, int]:
            return f"{error.error_code}", 502

        with pool.answer("token", {"error": "unauthorized_client"}, status=400):
            answer = app.test_client().get("/call")
        assert (answer.status_code, answer.text) == (502, "unauthorized_client")


class TestConcurrency:
    def test_eight_threads_at_a_cold_start_make_one_request_each_way(
        self, m2m: CognitoM2M, pool: LocalUserPool
    ) -> None:
        app, start, token = app_of(m2m, pool), threading.Barrier(17), pool.token()

        def receive(_: int) -> int:
            start.wait(5)
            return status_of(app, token)

        def call(_: int) -> str:
            start.wait(5)
            return m2m.token()

        pool.delay("all", 30)
        with ThreadPoolExecutor(16) as threads:
            statuses, tokens = threads.map(receive, range(8)), threads.map(call, range(8))
            start.wait(5)
            pool.wait_for("jwks")
            pool.wait_for("token")
            pool.recover()
            assert list(statuses) == [200] * 8
            assert len(set(tokens)) == 1
        assert (pool.count("jwks"), pool.count("token")) == (1, 1)

    def test_both_directions_work_while_the_pool_is_offline(
        self, m2m: CognitoM2M, pool: LocalUserPool
    ) -> None:
        app, seen, unseen = app_of(m2m, pool), pool.token(), pool.token()
        assert status_of(app, seen) == 200
        ours = m2m.token()
        with pool.offline():
            assert [status_of(app, token) for token in (seen, unseen)] == [200, 200]
            assert m2m.token() == ours
            assert status_of(app, pool.token(expires_in=-60)) == 401


def warnings_of(app: Flask) -> list[str]:
    """Return the warnings of ``init_app``, each up to the first comma."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        CognitoM2M().init_app(app)
    assert all(warning.filename == __file__ for warning in caught)
    return [str(warning.message).partition(",")[0] for warning in caught]


ANY_CLIENT = "COGNITO_M2M_ALLOWED_CLIENT_IDS is not set"
NO_KEY = "COGNITO_M2M_CACHE_KEY (or SECRET_KEY) is not set"
SHORT_KEY = "COGNITO_M2M_CACHE_KEY (or SECRET_KEY) is shorter than 16 bytes"
UNSET: dict[str, Any] = {"COGNITO_M2M_ALLOWED_CLIENT_IDS": None}


PLAIN_HTTP = "COGNITO_M2M_ALLOW_HTTP_HOSTS allows plain http to"


class TestSeveralEmulatedPools:
    def test_each_pool_verifies_only_its_own_tokens(
        self, m2m: CognitoM2M, pool: LocalUserPool, other_pool: LocalUserPool
    ) -> None:
        both = (pool, other_pool)
        settings = {
            "COGNITO_M2M_USER_POOL_ID": [each.pool_id for each in both],
            "COGNITO_M2M_ISSUER": {each.pool_id: each.issuer for each in both},
            "COGNITO_M2M_JWKS_URL": {each.pool_id: each.jwks_url for each in both},
        }
        app = app_of(m2m, pool, **settings)
        assert [status_of(app, each.token()) for each in both] == [200, 200]
        assert [status_of(app, a.token(iss=b.issuer)) for a, b in (both, both[::-1])] == [401, 401]


class TestUwsgiWithoutThreads:
    @pytest.mark.parametrize(
        ("renew", "consequence"),
        [
            pytest.param({}, "requests wait for the renewal", id="unset"),
            pytest.param({"RENEW": "background"}, "'background' does not work", id="background"),
            pytest.param({"RENEW": "inline"}, None, id="inline"),
        ],
    )
    def test_missing_threads_are_warned_about_unless_inline_is_set(
        self,
        monkeypatch: pytest.MonkeyPatch,
        pool: LocalUserPool,
        renew: dict[str, str],
        consequence: str | None,
    ) -> None:
        monkeypatch.setitem(sys.modules, "uwsgi", SimpleNamespace(has_threads=0))
        app = Flask("shop")
        app.config.update(pool.config(ALLOWED_CLIENT_IDS="*", **renew))
        text = f"uWSGI runs without threads, so .*{consequence}.*enable-threads"
        with pytest.warns(UserWarning, match=text) if consequence else contextlib.nullcontext():
            CognitoM2M(app)


class TestPlainHttp:
    def test_service_runs_in_a_mesh_of_plain_http(
        self, m2m: CognitoM2M, peer: Peer, names_of_loopback: None, caplog: pytest.LogCaptureFixture
    ) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        with LocalUserPool(port=port, public_url=f"http://pool.mesh.test:{port}") as pool:
            hosts = "*.mesh.test, stock.test"
            with pytest.warns(
                UserWarning, match=r"plain http to \*\.mesh\.test, stock\.test: .*signing keys"
            ):
                app = app_of(m2m, pool, COGNITO_M2M_ALLOW_HTTP_HOSTS=hosts)
            assert status_of(app, pool.token()) == 200
            with app.app_context():
                for url in (peer.url(host="stock.test"), peer.url(host="a.b.mesh.test")):
                    assert m2m.session().get(url, timeout=5).status_code == 200
            assert m2m.for_app(app).session().get(peer.url(host="stock.test"), timeout=5).status_code == 200
        assert any(record.getMessage().startswith(PLAIN_HTTP) for record in caplog.records)

    def test_hosts_are_kept_for_each_application(
        self, m2m: CognitoM2M, pool: LocalUserPool, peer: Peer, names_of_loopback: None
    ) -> None:
        with pytest.warns(UserWarning, match=PLAIN_HTTP):
            allows = app_of(m2m, pool, "allows", COGNITO_M2M_ALLOW_HTTP_HOSTS="stock.test")
        refuses, auth, url = app_of(m2m, pool, "refuses"), m2m.auth(), peer.url(host="stock.test")
        with allows.app_context():
            assert requests.get(url, auth=auth, timeout=5).status_code == 200
        with refuses.app_context(), pytest.raises(ConfigurationError, match=r"sent to http://stock\.test"):
            requests.get(url, auth=auth, timeout=5)
        with pytest.raises(ConfigurationError, match="ALLOW_HTTP_HOSTS"):
            m2m.for_app(refuses).session().get(url, timeout=5)


class TestRecordAtStart:
    @pytest.mark.parametrize(
        ("settings", "text"),
        [
            (
                {},
                "shop accepts tokens of us-east-1_One (allowed clients: any) "
                "and requests tokens as local-client.",
            ),
            (
                {"COGNITO_M2M_ALLOWED_CLIENT_IDS": "b,a"},
                "shop accepts tokens of us-east-1_One (allowed clients: a, b) "
                "and requests tokens as local-client.",
            ),
            (
                {"COGNITO_M2M_ALLOWED_CLIENT_IDS": bool, **RECEIVES_ONLY},
                "shop accepts tokens of us-east-1_One (allowed clients: a callable decides) "
                "and requests none.",
            ),
            (CALLS_ONLY, "shop accepts no tokens (no user pool) and requests tokens as local-client."),
        ],
    )
    def test_log_says_what_is_configured(
        self, pool: LocalUserPool, caplog: pytest.LogCaptureFixture, settings: dict[str, Any], text: str
    ) -> None:
        caplog.set_level("INFO", "flask_m2m_cognito")
        CognitoM2M(app_of(None, pool, "shop", **settings))
        (record,) = caplog.records
        assert (record.levelname, record.__dict__["event"]) == ("INFO", "configured")
        assert record.getMessage() == text


class TestWarnings:
    def test_unset_allowed_clients_are_warned_about(
        self, pool: LocalUserPool, caplog: pytest.LogCaptureFixture
    ) -> None:
        assert warnings_of(app_of(None, pool, **UNSET)) == [ANY_CLIENT]
        (record,) = (record for record in caplog.records if record.levelno >= logging.WARNING)
        assert (record.name, record.levelname) == ("flask_m2m_cognito", "WARNING")

    @pytest.mark.parametrize(
        "settings",
        [
            pytest.param({"COGNITO_M2M_ALLOWED_CLIENT_IDS": "*"}, id="any is allowed explicitly"),
            pytest.param({"COGNITO_M2M_ALLOWED_CLIENT_IDS": ["orders"]}, id="clients are named"),
            pytest.param({"COGNITO_M2M_ALLOWED_CLIENT_IDS": bool}, id="a callable decides"),
            pytest.param({**UNSET, "COGNITO_M2M_REQUIRED_SCOPES": "a/read"}, id="scopes are required"),
            pytest.param({**UNSET, "COGNITO_M2M_AUDIENCE": "inventory"}, id="an audience is required"),
            pytest.param(CALLS_ONLY, id="no user pool"),
            pytest.param({"SECRET_KEY": None}, id="no key and the default cache"),
            pytest.param({"SECRET_KEY": None, "CACHE_TYPE": "SimpleCache"}, id="no key and SimpleCache"),
            pytest.param({"SECRET_KEY": None, "CACHE_TYPE": "NullCache"}, id="no key and NullCache"),
            pytest.param(
                {"SECRET_KEY": None, "CACHE_TYPE": "flask_caching.backends.simplecache.SimpleCache"},
                id="no key and SimpleCache by its full name",
            ),
            pytest.param({"SECRET_KEY": "short"}, id="a short key and the default cache"),
            pytest.param({"CACHE_TYPE": "RedisCache"}, id="SECRET_KEY and Redis"),
            pytest.param(
                {"SECRET_KEY": "short", "COGNITO_M2M_CACHE_KEY": "k" * 16, "CACHE_TYPE": "RedisCache"},
                id="a key just long enough and Redis",
            ),
        ],
    )
    def test_no_warning_when(
        self, pool: LocalUserPool, caplog: pytest.LogCaptureFixture, settings: dict[str, Any]
    ) -> None:
        assert warnings_of(app_of(None, pool, **settings)) == []
        assert not [record for record in caplog.records if record.levelno >= logging.WARNING]

    def test_warning_is_printed_once_without_a_log(self, pool: LocalUserPool) -> None:
        program = (
            "import json, sys; from flask import Flask; from flask_m2m_cognito import CognitoM2M\n"
            "app = Flask('shop'); app.config.update(json.load(sys.stdin)); CognitoM2M(app)"
        )
        settings = json.dumps({**pool.config(), "SECRET_KEY": SECRET_KEY})
        done = subprocess.run(
            [sys.executable, "-c", program], input=settings, capture_output=True, text=True, check=True
        )
        assert done.stderr.count(ANY_CLIENT) == 1

    @pytest.mark.parametrize("password", ["hun/ter2", "hun#ter2", "hun?ter2", "12/hunter2", "[hunter2"])
    def test_password_that_breaks_the_redis_url_is_warned_about(
        self, pool: LocalUserPool, password: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        url = f"redis://:{password}@127.0.0.1:6379/0"
        app = app_of(None, pool, CACHE_TYPE="RedisCache", CACHE_REDIS_URL=url)
        (text,) = warnings_of(app)
        assert text.startswith("CACHE_REDIS_URL cannot be parsed")
        assert "percent-encoded" in caplog.text
        assert "hunter2" not in caplog.text

    @pytest.mark.parametrize("password", ["hun%2Fter2", "hun@ter2", "hunter2"])
    def test_redis_url_that_can_be_parsed_is_not_warned_about(
        self, pool: LocalUserPool, password: str
    ) -> None:
        url = f"rediss://me:{password}@cache.test:6379/0?db=1"
        assert warnings_of(app_of(None, pool, CACHE_TYPE="RedisCache", CACHE_REDIS_URL=url)) == []

    @pytest.mark.parametrize(
        ("changes", "warnings"),
        [
            (
                {"COGNITO_M2M_MACHINE_TOKENS_ONLY": False},
                ["COGNITO_M2M_RESOURCE is set and COGNITO_M2M_AUDIENCE is not: tokens"],
            ),
            ({"COGNITO_M2M_MACHINE_TOKENS_ONLY": False, "COGNITO_M2M_AUDIENCE": "stock"}, []),
            ({}, []),
        ],
        ids=["users", "users with an audience", "machines"],
    )
    def test_resource_of_users_without_audience_is_warned_about(
        self, pool: LocalUserPool, changes: dict[str, Any], warnings: list[str]
    ) -> None:
        # Cognito binds no machine token to a resource, so an audience would reject them all.
        found = warnings_of(app_of(None, pool, COGNITO_M2M_RESOURCE="https://stock.example/", **changes))
        assert [text.partition(" that are")[0] for text in found] == warnings

    @pytest.mark.parametrize(
        ("settings", "warning"),
        [
            pytest.param({"SECRET_KEY": None}, NO_KEY, id="no key"),
            pytest.param({"SECRET_KEY": "fifteen bytes.."}, SHORT_KEY, id="a short SECRET_KEY"),
            pytest.param({"COGNITO_M2M_CACHE_KEY": "short"}, SHORT_KEY, id="a short CACHE_KEY"),
        ],
    )
    @pytest.mark.parametrize("kind", ["RedisCache", "MemcachedCache", "FileSystemCache"])
    def test_shared_cache_without_a_long_key_is_warned_about(
        self, pool: LocalUserPool, kind: str, settings: dict[str, Any], warning: str
    ) -> None:
        assert warnings_of(app_of(None, pool, CACHE_TYPE=kind, **settings)) == [warning]

    def test_cache_of_the_application_without_a_key_is_warned_about(
        self, pool: LocalUserPool, tmp_path: Path
    ) -> None:
        app = app_of(None, pool, SECRET_KEY=None)
        Cache(config={"CACHE_TYPE": "FileSystemCache", "CACHE_DIR": str(tmp_path)}).init_app(app)
        assert warnings_of(app) == [NO_KEY]

    def test_later_cache_without_a_key_is_logged_at_its_first_use(
        self, pool: LocalUserPool, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        # A warning there would look like a cache error in tests, which turn warnings into errors.
        app = app_of(None, pool, SECRET_KEY=None)
        assert warnings_of(app) == []
        Cache(config={"CACHE_TYPE": "FileSystemCache", "CACHE_DIR": str(tmp_path)}).init_app(app)
        assert status_of(app, pool.token()) == 200
        texts = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
        assert any(text.startswith(NO_KEY) for text in texts)
        assert list(tmp_path.iterdir())


def everything_logged(caplog: pytest.LogCaptureFixture) -> str:
    """Return each record with all its fields, and the tracebacks as handlers format them."""
    formatter = logging.Formatter("%(message)s")
    return "\n".join(f"{formatter.format(record)} {vars(record)}" for record in caplog.records)


class TestSecrets:
    def test_no_log_record_or_output_has_a_secret(
        self,
        m2m: CognitoM2M,
        pool: LocalUserPool,
        peer: Peer,
        tmp_path: Path,
        caplog: pytest.LogCaptureFixture,
        capfd: pytest.CaptureFixture[str],
    ) -> None:
        caplog.set_level(logging.DEBUG)
        app = app_of(m2m, pool, CACHE_TYPE="FileSystemCache", CACHE_DIR=str(tmp_path))
        app.get("/call")(lambda: requests.get(peer.url(), auth=m2m.auth(), timeout=5).text)
        valid, expired = pool.token(), pool.token(expires_in=-60)
        secrets = {SECRET_KEY, pool.client().secret, valid, expired, valid.split(".")[2]}
        statuses = [status_of(app, valid), status_of(app, expired)]
        with pool.offline():
            statuses.append(status_of(app, pool.token(headers={"kid": "unknown"})))
        assert [*statuses, status_of(app, valid[:-4] + "AAAA")] == [200, 401, 503, 401]
        assert app.test_client().get("/call").text == "well"
        secrets.add(m2m.token())
        for file in tmp_path.iterdir():
            file.write_bytes(b"spoilt" + file.read_bytes())
        quoted = {"error": f"no {pool.client().secret}", "error_description": valid, "access_token": valid}
        with pool.answer("token", quoted, status=400), pytest.raises(TokenUnavailableError):
            m2m.token("orders/read")
        with pool.answer("token", {"access_token": f"{valid}\n"}), pytest.raises(TokenUnavailableError):
            m2m.token("orders/write")
        with pool.offline(), pytest.raises(TokenUnavailableError):
            m2m.token("inventory/read")
        settle()
        text = everything_logged(caplog) + "".join(capfd.readouterr())
        assert "urllib3" in text
        assert {secret for secret in secrets if secret in text} == set()

    def test_no_repr_has_a_secret(self, m2m: CognitoM2M, pool: LocalUserPool) -> None:
        app = app_of(m2m, pool)
        token = m2m.token()
        status_of(app, token)
        parts = m2m.for_app(app)
        shown = repr([m2m, parts, parts.validator, parts.client(), parts.sources.all(), m2m.auth()])
        assert {secret for secret in (SECRET_KEY, pool.client().secret, token) if secret in shown} == set()


def test_warm_up_fetches_the_token_of_its_metadata() -> None:
    metadata = {"tenant": "acme"}
    with LocalUserPool() as pool:
        app = Flask("shop")
        app.config.update(pool.config(ALLOWED_CLIENT_IDS="*"))
        m2m = CognitoM2M(app)
        with app.app_context():
            m2m.warm_up([{"metadata": metadata}], required=True)
            m2m.token(metadata=metadata)
        assert pool.count("token") == 1
