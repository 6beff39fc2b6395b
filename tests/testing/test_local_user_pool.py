"""LocalUserPool: its answers, tokens, faults and recorded requests."""

from __future__ import annotations

import json
import socket
import threading
from base64 import b64encode
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timezone
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import quote_plus

import jwt
import pytest
import requests
from cryptography.hazmat.primitives.asymmetric import rsa

from flask_m2m_cognito.exceptions import ConfigurationError
from flask_m2m_cognito.testing import LocalClient, LocalUserPool

GRANT = {"grant_type": "client_credentials"}


@pytest.fixture
def http() -> Iterator[Http]:
    with Http() as session:
        yield session


class Http(requests.Session):
    """A session without a proxy, whose requests have a timeout."""

    def __init__(self) -> None:
        super().__init__()
        self.trust_env = False

    def request(self, *args: Any, timeout: Any = 5, **kwargs: Any) -> requests.Response:  # type: ignore[override]
        return super().request(*args, timeout=timeout, **kwargs)


def post_form(pool: LocalUserPool, client_id: str | None = None, **more: str) -> dict[str, str]:
    client = pool.client(client_id)
    return {**GRANT, "client_id": client.client_id, "client_secret": client.secret, **more}


def verified_claims(pool: LocalUserPool, http: Http, token: str, **options: Any) -> dict[str, Any]:
    """Return the claims, after verifying the signature with the key that the JWKS has for the kid."""
    kid = jwt.get_unverified_header(token)["kid"]
    shown = {key["kid"]: key for key in http.get(pool.jwks_url).json()["keys"]}
    checks: Any = {"verify_aud": False, **options}
    claims: dict[str, Any] = jwt.decode(token, jwt.PyJWK(shown[kid]), algorithms=["RS256"], options=checks)
    return claims


def error_of(answer: requests.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["error"]


class TestAddress:
    @pytest.mark.parametrize("host", ["127.0.0.2", "::1"])
    def test_pool_listens_on_another_address(self, http: Http, host: str) -> None:
        with LocalUserPool(host=host) as pool:
            assert http.get(pool.jwks_url).status_code == 200
            assert "COGNITO_M2M_ALLOW_HTTP_HOSTS" not in pool.config()

    def test_all_urls_begin_with_the_public_url(self) -> None:
        with LocalUserPool(public_url="http://Pool.test:9229/") as pool:
            claims = jwt.decode(pool.token(), options={"verify_signature": False})
            urls = [claims["iss"], pool.issuer, pool.jwks_url, pool.token_url, pool.api_url]
            assert all(url.startswith("http://Pool.test:9229/") for url in urls)
            assert pool.config()["COGNITO_M2M_ALLOW_HTTP_HOSTS"] == ["pool.test"]

    def test_https_public_url_allows_no_plain_http(self) -> None:
        with LocalUserPool(public_url="https://pool.test") as pool:
            assert "COGNITO_M2M_ALLOW_HTTP_HOSTS" not in pool.config()


class TestTokenEndpoint:
    def test_answer_is_like_cognitos(self, pool: LocalUserPool, http: Http) -> None:
        answer = http.post(pool.token_url, data=post_form(pool, scope="orders/read"))
        assert answer.status_code == 200
        assert set(answer.json()) == {"access_token", "expires_in", "token_type"}
        assert (answer.json()["expires_in"], answer.json()["token_type"]) == (3600, "Bearer")
        assert "no-store" in answer.headers["Cache-Control"]
        assert answer.headers["x-amz-cognito-request-id"]
        assert "x-amzn-requestid" not in answer.headers
        assert answer.headers["Content-Type"] == "application/json;charset=UTF-8"

    def test_token_is_like_cognitos(self, pool: LocalUserPool, http: Http) -> None:
        # MCP clients send a resource, but Cognito binds only user tokens to one.
        form = post_form(pool, scope="orders/write orders/read", resource="https://stock.example.com/mcp")
        token = http.post(pool.token_url, data=form).json()["access_token"]
        assert jwt.get_unverified_header(token) == {"kid": pool.kid, "alg": "RS256"}
        claims = verified_claims(pool, http, token)
        assert claims.pop("jti") != verified_claims(pool, http, pool.token())["jti"]
        assert claims.pop("exp") - claims["iat"] == 3600
        assert claims.pop("iat") == claims.pop("auth_time")
        assert claims == {
            "sub": "local-client",
            "client_id": "local-client",
            "token_use": "access",
            "scope": "orders/write orders/read",
            "iss": pool.issuer,
            "version": 2,
        }

    def test_basic_credentials_are_accepted(self, pool: LocalUserPool, http: Http) -> None:
        auth = ("local-client", pool.client().secret)
        assert http.post(pool.token_url, data=GRANT, auth=auth).status_code == 200

    def test_basic_credentials_may_be_form_encoded(self, pool: LocalUserPool, http: Http) -> None:
        client = pool.add_client("billing app", "100% sé+cret")
        auth = (quote_plus(client.client_id), quote_plus(client.secret))
        assert http.post(pool.token_url, data=GRANT, auth=auth).status_code == 200

    @pytest.mark.parametrize(
        ("allowed", "requested", "granted"),
        [
            pytest.param(["b/write", "a/read"], {}, "b/write a/read", id="all allowed scopes"),
            pytest.param("a/read", {"scope": "a/read b/write"}, None, id="another scope"),
            pytest.param(None, {"scope": "never/heard-of"}, "never/heard-of", id="any scope"),
        ],
    )
    def test_client_gets_its_allowed_scopes(
        self, pool: LocalUserPool, http: Http, allowed: Any, requested: dict[str, str], granted: str | None
    ) -> None:
        pool.add_client("billing", scopes=allowed)
        answer = http.post(pool.token_url, data=post_form(pool, "billing", **requested))
        if granted is None:
            assert error_of(answer) == (400, "invalid_scope")
        else:
            assert verified_claims(pool, http, answer.json()["access_token"])["scope"] == granted

    @pytest.mark.parametrize(
        ("form", "error"),
        [
            pytest.param({"client_secret": "wrong"}, "invalid_client", id="wrong secret"),
            pytest.param({"client_secret": None}, "invalid_client", id="no secret"),
            pytest.param({"client_secret": ""}, "invalid_client", id="empty secret"),
            pytest.param({"client_id": "unknown"}, "invalid_client", id="unknown client"),
            pytest.param({"client_id": None}, "invalid_request", id="no client"),
            pytest.param({"grant_type": None}, "invalid_request", id="no grant type"),
            pytest.param({"grant_type": "password"}, "unsupported_grant_type", id="unknown grant type"),
            pytest.param({"grant_type": "refresh_token"}, "unauthorized_client", id="grant type for users"),
            pytest.param({"scope": 'quo"te'}, "invalid_scope", id="malformed scope"),
            pytest.param({"scope": " "}, "invalid_scope", id="blank scope"),
            pytest.param({"scope": ["a/b", "c/d"]}, "invalid_request", id="parameter twice"),
        ],
    )
    def test_invalid_requests_get_an_error(
        self, pool: LocalUserPool, http: Http, form: dict[str, Any], error: str
    ) -> None:
        answer = http.post(pool.token_url, data={**post_form(pool), **form})
        assert error_of(answer) == (400, error)
        assert "no-store" in answer.headers["Cache-Control"]

    @pytest.mark.parametrize(
        ("header", "error"),
        [
            pytest.param("Basic !!!", "invalid_client", id="not base64"),
            pytest.param("Basic " + b64encode(b"local-client").decode(), "invalid_client", id="no colon"),
            pytest.param("Basic " + b64encode(b"\xff:\xff").decode(), "invalid_client", id="not UTF-8"),
            pytest.param("Bearer abc", "invalid_client", id="not Basic"),
        ],
    )
    def test_malformed_authorization_header(
        self, pool: LocalUserPool, http: Http, header: str, error: str
    ) -> None:
        answer = http.post(pool.token_url, data=GRANT, headers={"Authorization": header})
        assert error_of(answer) == (400, error)

    @pytest.mark.parametrize(
        ("changed", "error"),
        [
            pytest.param({}, "invalid_request", id="secret twice"),
            pytest.param({"client_id": "other", "client_secret": None}, "invalid_client", id="two ids"),
        ],
    )
    def test_header_and_form_must_agree(
        self, pool: LocalUserPool, http: Http, changed: dict[str, Any], error: str
    ) -> None:
        auth = ("local-client", pool.client().secret)
        answer = http.post(pool.token_url, data={**post_form(pool), **changed}, auth=auth)
        assert error_of(answer) == (400, error)

    def test_json_instead_of_a_form_is_an_error(self, pool: LocalUserPool, http: Http) -> None:
        answer = http.post(pool.token_url, json=post_form(pool))
        assert error_of(answer) == (400, "invalid_request")

    def test_get_is_not_allowed(self, pool: LocalUserPool, http: Http) -> None:
        assert http.get(pool.token_url).status_code == 405

    def test_both_secrets_are_accepted_during_a_rotation(self, pool: LocalUserPool, http: Http) -> None:
        old = post_form(pool)
        new = {**old, "client_secret": "new"}
        pool.set_secrets("local-client", [old["client_secret"], "new"])
        assert http.post(pool.token_url, data=old).status_code == 200
        assert http.post(pool.token_url, data=new).status_code == 200
        pool.set_secrets("local-client", "new")
        assert error_of(http.post(pool.token_url, data=old)) == (400, "invalid_client")
        assert http.post(pool.token_url, data=new).status_code == 200

    def test_removed_client_is_unknown(self, pool: LocalUserPool, http: Http) -> None:
        form = post_form(pool)
        pool.remove_client("local-client")
        assert error_of(http.post(pool.token_url, data=form)) == (400, "invalid_client")

    def test_many_threads_at_once_are_served(self, pool: LocalUserPool) -> None:
        together = threading.Barrier(32)

        def send(_: int) -> int:
            together.wait(timeout=10)
            return requests.post(pool.token_url, data=post_form(pool), timeout=10).status_code

        with ThreadPoolExecutor(32) as threads:
            assert set(threads.map(send, range(32))) == {200}
        assert pool.count("token") == 32


class TestKeys:
    def test_discovery_names_the_other_endpoints(self, pool: LocalUserPool, http: Http) -> None:
        found = http.get(f"{pool.issuer}/.well-known/openid-configuration").json()
        assert found["issuer"] == pool.issuer
        assert http.get(found["jwks_uri"]).json() == pool.jwks()
        assert http.post(found["token_endpoint"], data=post_form(pool)).status_code == 200

    def test_key_set_is_like_cognitos(self, pool: LocalUserPool) -> None:
        (key,) = pool.jwks()["keys"]
        assert set(key) == {"alg", "e", "kid", "kty", "n", "use"}
        assert (key["alg"], key["kty"], key["use"], key["kid"]) == ("RS256", "RSA", "sig", pool.kid)
        assert jwt.PyJWK(key).key.key_size == 2048

    def test_pools_never_share_a_key(self) -> None:
        numbers = {LocalUserPool().jwks()["keys"][0]["n"] for _ in range(3)}
        assert len(numbers) == 3

    def test_after_a_rotation_old_and_new_tokens_are_valid(self, pool: LocalUserPool, http: Http) -> None:
        old_kid, old_token = pool.kid, pool.token()
        new_kid = pool.rotate_key()
        assert pool.kids == (old_kid, new_kid)
        assert jwt.get_unverified_header(pool.token())["kid"] == new_kid
        assert verified_claims(pool, http, old_token)
        assert verified_claims(pool, http, pool.token())

    def test_rotation_can_drop_the_old_key(self, pool: LocalUserPool) -> None:
        old_kid = pool.kid
        assert pool.kids == (old_kid,)
        new_kid = pool.rotate_key(keep_old=False)
        assert pool.kids == (new_kid,) != (old_kid,)

    def test_withdrawn_key_signs_but_is_not_published(self, pool: LocalUserPool) -> None:
        old_kid = pool.kid
        pool.rotate_key()
        pool.withdraw_key(old_kid)
        assert old_kid not in pool.kids
        assert jwt.get_unverified_header(pool.token(key=old_kid))["kid"] == old_kid


class TestTokensWithoutHttp:
    def claims(self, pool: LocalUserPool, token: str) -> dict[str, Any]:
        key = jwt.PyJWK(pool.jwks()["keys"][0])
        unchecked: Any = {"verify_aud": False, "verify_exp": False}
        claims: dict[str, Any] = jwt.decode(token, key, algorithms=["RS256"], options=unchecked)
        return claims

    @pytest.mark.parametrize("scopes", ["a/b c/d", ["a/b", "c/d"]], ids=["text", "list"])
    def test_scopes_are_text_or_a_sequence(self, pool: LocalUserPool, scopes: str | list[str]) -> None:
        assert self.claims(pool, pool.token(scopes))["scope"] == "a/b c/d"

    def test_default_is_the_first_client_with_all_its_scopes(self, pool: LocalUserPool) -> None:
        claims = self.claims(pool, pool.token())
        assert claims["client_id"] == "local-client"
        assert claims["scope"].split() == list(pool.client().scopes)

    def test_known_client_has_its_own_scopes(self, pool: LocalUserPool) -> None:
        pool.add_client("billing", scopes="a/read")
        assert self.claims(pool, pool.token(client_id="billing"))["scope"] == "a/read"

    def test_client_may_be_unknown_and_claims_can_be_set(self, pool: LocalUserPool) -> None:
        claims = self.claims(pool, pool.token(scopes=["a/b"], client_id="x", exp=123, tenant={"id": 7}))
        assert (claims["sub"], claims["client_id"]) == ("x", "x")
        assert (claims["exp"], claims["tenant"]) == (123, {"id": 7})

    def test_expired_token(self, pool: LocalUserPool) -> None:
        claims = self.claims(pool, pool.token(expires_in=-5))
        assert claims["exp"] == claims["iat"] - 5

    def test_claims_and_headers_of_none_are_omitted(self, pool: LocalUserPool) -> None:
        token = pool.token(exp=None, sub=None, headers={"typ": "JWT", "kid": None})
        assert jwt.get_unverified_header(token) == {"typ": "JWT", "alg": "RS256"}
        assert not {"exp", "sub"} & set(self.claims(pool, token))

    @pytest.mark.parametrize("without", ["client_id", ["client_id"]], ids=["text", "list"])
    def test_client_id_can_be_omitted(self, pool: LocalUserPool, without: str | list[str]) -> None:
        assert "client_id" not in self.claims(pool, pool.token(without=without))

    def test_own_key_signs_under_the_kid_of_the_pool(self, pool: LocalUserPool) -> None:
        forged = pool.token(key=rsa.generate_private_key(public_exponent=65537, key_size=2048))
        assert jwt.get_unverified_header(forged)["kid"] == pool.kid
        with pytest.raises(jwt.InvalidSignatureError):
            self.claims(pool, forged)

    def test_sign_uses_bytes_unchanged(self, pool: LocalUserPool) -> None:
        token = pool.sign(b'{"a":1,"a":2}', headers=b'{"alg":"RS256", "crit":[]}')
        header, payload, _ = token.split(".")
        assert jwt.utils.base64url_decode(header) == b'{"alg":"RS256", "crit":[]}'
        assert jwt.utils.base64url_decode(payload) == b'{"a":1,"a":2}'

    def test_sign_adds_nothing_to_a_payload(self, pool: LocalUserPool) -> None:
        assert self.claims(pool, pool.sign({"exp": None, "a": 1})) == {"exp": None, "a": 1}

    def test_user_token_differs_from_a_machine_token(self, pool: LocalUserPool) -> None:
        claims = self.claims(pool, pool.user_token(username="grace", groups=["admin"]))
        assert (claims["token_use"], claims["client_id"]) == ("access", "local-client")
        assert claims["username"] == "grace"
        assert claims["sub"] != claims["client_id"]
        assert claims["scope"] == "aws.cognito.signin.user.admin openid"
        assert claims["cognito:groups"] == ["admin"]

    def test_user_has_one_sub(self, pool: LocalUserPool) -> None:
        subs = [self.claims(pool, mint(username="ada"))["sub"] for mint in (pool.user_token, pool.id_token)]
        assert subs[0] == subs[1] != self.claims(pool, pool.user_token(username="grace"))["sub"]

    def test_id_token_has_the_client_as_audience(self, pool: LocalUserPool) -> None:
        claims = self.claims(pool, pool.id_token(client_id="web"))
        assert (claims["token_use"], claims["aud"]) == ("id", "web")
        assert not {"client_id", "scope"} & set(claims)

    def test_clock_sets_times_of_tokens_records_and_date(self, http: Http) -> None:
        with LocalUserPool(clock=lambda: 1_000_000_000.5, token_lifetime=300) as pool:
            assert self.claims(pool, pool.token())["exp"] == 1_000_000_300
            date = parsedate_to_datetime(http.get(pool.jwks_url).headers["Date"])
            assert date.replace(tzinfo=timezone.utc).timestamp() == 1_000_000_000
            assert pool.requests[0].at == 1_000_000_000.5


class TestConfiguration:
    def test_config_has_all_settings_except_policy(self, pool: LocalUserPool) -> None:
        assert pool.config() == {
            "COGNITO_M2M_USER_POOL_ID": "us-east-1_LocalPool",
            "COGNITO_M2M_ISSUER": pool.issuer,
            "COGNITO_M2M_JWKS_URL": f"{pool.url}/us-east-1_LocalPool/.well-known/jwks.json",
            "COGNITO_M2M_TOKEN_URL": f"{pool.url}/oauth2/token",
            "COGNITO_M2M_CLIENT_ID": "local-client",
            "COGNITO_M2M_CLIENT_SECRET": pool.client().secret,
            "COGNITO_M2M_SCOPES": ["inventory/read", "inventory/write", "orders/read", "orders/write"],
        }

    def test_extra_settings_override_those_of_a_client(self, pool: LocalUserPool) -> None:
        pool.add_client("billing", ["s1", "s2"], "a/read")
        config = pool.config("billing", leeway=0, SCOPES=["b/read"])
        assert (config["COGNITO_M2M_CLIENT_ID"], config["COGNITO_M2M_CLIENT_SECRET"]) == ("billing", "s1")
        assert (config["COGNITO_M2M_LEEWAY"], config["COGNITO_M2M_SCOPES"]) == (0, ["b/read"])

    def test_first_client_is_the_default(self) -> None:
        pool = LocalUserPool(clients={"billing": "a/read", "reports": None})
        assert [client.client_id for client in pool.clients] == ["billing", "reports"]
        assert pool.client() is pool.client("billing")
        assert (pool.client().scopes, pool.client().any_scope) == (("a/read",), False)
        assert pool.client("reports").any_scope

    def test_clients_can_be_objects(self) -> None:
        billing = LocalClient("billing", secrets=("s",), scopes=("a/read",))
        assert LocalUserPool(clients=[billing]).clients == (billing,)

    def test_region_comes_from_the_pool_id(self) -> None:
        assert LocalUserPool("eu-central-1_Abc").region == "eu-central-1"

    @pytest.mark.parametrize(
        "make",
        [
            pytest.param(lambda: LocalUserPool("LocalPool"), id="pool id without region"),
            pytest.param(lambda: LocalUserPool().add_client("a:b"), id="colon in a client id"),
            pytest.param(lambda: LocalUserPool().add_client("a", []), id="no secret"),
            pytest.param(lambda: LocalUserPool().add_client("a", [""]), id="empty secret"),
            pytest.param(
                lambda: LocalUserPool().add_client("a", scopes=["two words"]), id="scope with a space"
            ),
            pytest.param(
                lambda: LocalUserPool().set_secrets("nobody", "s"), id="secrets of an unknown client"
            ),
            pytest.param(lambda: LocalUserPool(clients={}).client(), id="no default client"),
            pytest.param(lambda: LocalUserPool().config("nobody"), id="settings of an unknown client"),
            pytest.param(lambda: LocalUserPool().withdraw_key("no-such-kid"), id="unknown key"),
            pytest.param(lambda: LocalUserPool().fail(times=0), id="zero times"),
            pytest.param(lambda: LocalUserPool().fail(drip=0), id="zero drip"),
            pytest.param(lambda: LocalUserPool().fail(hang=True, reset=True), id="contradicting faults"),
            pytest.param(lambda: LocalUserPool().fail("jwk"), id="unknown endpoint"),  # type: ignore[arg-type]
        ],
    )
    def test_invalid_argument_is_an_error(self, make: Any) -> None:
        with pytest.raises(ConfigurationError):
            make()

    def test_pool_that_was_not_started_is_an_error(self) -> None:
        with pytest.raises(RuntimeError, match="start"):
            LocalUserPool().config()

    def test_repr_has_no_secret_and_no_token(self, pool: LocalUserPool, http: Http) -> None:
        secret = pool.client().secret
        token = http.post(pool.token_url, data=post_form(pool)).json()["access_token"]
        http.get(f"{pool.url}/?token={token}", headers={"Authorization": f"Bearer {token}"})
        printed = repr(pool) + repr(pool.requests) + repr(pool.clients)
        assert secret not in printed
        assert token not in printed


class TestFaults:
    @pytest.mark.parametrize("status", [429, 500, 503])
    def test_status_fault_has_headers_but_no_oauth_error(
        self, pool: LocalUserPool, http: Http, status: int
    ) -> None:
        pool.fail("token", status=status, headers={"Retry-After": "7"})
        answer = http.post(pool.token_url, data=post_form(pool))
        assert (answer.status_code, answer.headers["Retry-After"]) == (status, "7")
        assert set(answer.json()) == {"message"}

    def test_fault_applies_to_all_endpoints_or_one(self, pool: LocalUserPool, http: Http) -> None:
        def statuses() -> tuple[int, int]:
            token = http.post(pool.token_url, data=post_form(pool))
            return http.get(pool.jwks_url).status_code, token.status_code

        pool.fail()
        assert statuses() == (500, 500)
        pool.recover("jwks")
        assert statuses() == (200, 500)
        pool.recover()
        assert statuses() == (200, 200)
        pool.fail("jwks")
        assert statuses() == (500, 200)

    def test_fault_ends_with_its_block(self, pool: LocalUserPool, http: Http) -> None:
        with pool.fail("jwks", status=503):
            assert http.get(pool.jwks_url).status_code == 503
        assert http.get(pool.jwks_url).status_code == 200

    def test_times_counts_requests_to_all_endpoints(self, pool: LocalUserPool, http: Http) -> None:
        pool.fail(status=503, times=2)
        form = post_form(pool)
        statuses = [
            http.get(pool.jwks_url).status_code,
            http.post(pool.token_url, data=form).status_code,
            http.get(pool.jwks_url).status_code,
        ]
        assert statuses == [503, 503, 200]

    def test_custom_answer(self, pool: LocalUserPool, http: Http) -> None:
        pool.answer("token", {"error": "invalid_client"}, 401, {"WWW-Authenticate": "Basic"}, times=1)
        answer = http.post(pool.token_url, data=post_form(pool))
        assert error_of(answer) == (401, "invalid_client")
        assert answer.headers["WWW-Authenticate"] == "Basic"
        assert answer.headers["Content-Type"].startswith("application/json")
        assert http.post(pool.token_url, data=post_form(pool)).status_code == 200

    def test_redirect(self, pool: LocalUserPool, http: Http) -> None:
        pool.fail("jwks", status=302, headers={"Location": "http://127.0.0.1:9/"})
        answer = http.get(pool.jwks_url, allow_redirects=False)
        assert (answer.status_code, answer.headers["Location"]) == (302, "http://127.0.0.1:9/")

    def test_garbage_is_an_html_page_with_200(self, pool: LocalUserPool, http: Http) -> None:
        pool.fail("jwks", garbage=True)
        answer = http.get(pool.jwks_url)
        assert (answer.status_code, answer.headers["Content-Type"]) == (200, "text/html")
        assert not answer.content.startswith(b"{")

    def test_cut_off_body_is_shorter_than_announced(self, pool: LocalUserPool, http: Http) -> None:
        pool.fail("jwks", cut_off=True)
        answer = http.get(pool.jwks_url, stream=True)
        assert answer.status_code == 200
        with pytest.raises((requests.exceptions.ChunkedEncodingError, requests.ConnectionError)):
            _ = answer.content

    def test_reset_resets_the_connection(self, pool: LocalUserPool) -> None:
        pool.fail("jwks", reset=True)
        with connect(pool) as plain:
            plain.sendall(request_line(pool))
            with pytest.raises(ConnectionResetError):
                plain.recv(1)

    @pytest.mark.parametrize("end", ["recover", "stop", "offline"])
    def test_hang_ends_with_the_fault_or_the_pool(self, pool: LocalUserPool, end: str) -> None:
        pool.fail("jwks", hang=True)
        with connect(pool) as plain:
            plain.sendall(request_line(pool))
            pool.wait_for("jwks")
            pool.recover("token")
            plain.settimeout(0)
            with pytest.raises(BlockingIOError):
                plain.recv(1)
            plain.settimeout(5)
            getattr(pool, end)()
            assert plain.recv(1) == b""

    def test_delayed_answer_is_sent_on_recovery(self, pool: LocalUserPool) -> None:
        pool.delay("jwks", 3600)
        with ThreadPoolExecutor(1) as thread:
            answer = thread.submit(requests.get, pool.jwks_url, timeout=5)
            pool.wait_for("jwks")
            assert not answer.done()
            pool.recover("jwks")
            assert answer.result(timeout=5).json() == pool.jwks()

    def test_delay_and_fault_can_be_combined(self, pool: LocalUserPool, http: Http) -> None:
        pool.delay("jwks", 0.01)
        pool.fail("jwks", status=503, times=1)
        answer = http.get(pool.jwks_url)
        assert (answer.status_code, answer.elapsed.total_seconds() >= 0.01) == (503, True)

    def test_dripping_body_is_complete_after_recovery(self, pool: LocalUserPool, http: Http) -> None:
        pool.fail("jwks", drip=1000)
        answer = http.get(pool.jwks_url, stream=True)
        begun = answer.raw.read(1)
        pool.recover()
        assert json.loads(begun + answer.raw.read()) == pool.jwks()

    @pytest.mark.parametrize("size", [100_000, 10])
    def test_size_is_exact_and_json_stays_valid(self, pool: LocalUserPool, http: Http, size: int) -> None:
        pool.fail("jwks", size=size)
        answer = http.get(pool.jwks_url)
        assert len(answer.content) == size
        assert size < 1000 or answer.json() == pool.jwks()

    def test_header_of_none_is_not_sent(self, pool: LocalUserPool, http: Http) -> None:
        pool.fail("jwks", headers={"content-length": None, "DATE": None})
        answer = http.get(pool.jwks_url)
        assert not {"Content-Length", "Date"} & set(answer.headers)
        assert answer.json() == pool.jwks()


class TestRecords:
    def test_record_has_the_request(self, pool: LocalUserPool, http: Http) -> None:
        form = post_form(pool, scope="a/b")
        http.post(f"{pool.token_url}?x=1", data=form, headers={"X-Trace": "7"})
        (record,) = pool.requests
        assert (record.endpoint, record.method, record.path, record.query) == (
            "token", "POST", "/oauth2/token", "x=1"
        )  # fmt: skip
        assert record.form == form
        assert (record.headers["x-trace"], record.headers["X-Absent"]) == ("7", None)

    def test_requests_are_counted_by_endpoint(self, pool: LocalUserPool, http: Http) -> None:
        for url in (pool.jwks_url, pool.jwks_url, pool.token_url, pool.url):
            http.get(url)
        assert (pool.count("jwks"), pool.count("token"), pool.count("other"), pool.count()) == (2, 1, 1, 4)
        pool.clear_requests()
        assert (pool.count(), pool.requests) == (0, ())

    def test_key_set_of_another_pool_is_not_found(self, pool: LocalUserPool, http: Http) -> None:
        answer = http.get(pool.jwks_url.replace("LocalPool", "OtherPool"))
        assert answer.status_code == 404
        assert pool.requests[0].endpoint == "other"

    def test_failed_requests_are_recorded_too(self, pool: LocalUserPool, http: Http) -> None:
        pool.fail("jwks", reset=True)
        with pytest.raises(requests.ConnectionError):
            http.get(pool.jwks_url)
        assert pool.count("jwks") >= 1

    def test_wait_for_times_out(self, pool: LocalUserPool) -> None:
        with pytest.raises(TimeoutError, match="0 of 2 requests for 'token'"):
            pool.wait_for("token", 2, timeout=0.01)


class TestListening:
    def test_offline_pool_comes_back_on_its_port(self, pool: LocalUserPool, http: Http) -> None:
        before = http.get(pool.jwks_url).json()
        with pool.offline():
            with pytest.raises(requests.ConnectionError) as refused:
                requests.get(pool.jwks_url, timeout=5)
            assert "refused" in str(refused.value)
        assert http.get(pool.jwks_url).json() == before

    def test_going_offline_closes_open_connections(self, pool: LocalUserPool) -> None:
        with connect(pool) as plain:
            plain.sendall(request_line(pool))
            assert plain.recv(65536).startswith(b"HTTP/1.1 200")
            pool.offline()
            assert plain.recv(65536) == b""

    def test_offline_pool_keeps_its_port(self, pool: LocalUserPool) -> None:
        pool.offline()
        with socket.socket() as other, pytest.raises(OSError, match="in use"):
            other.bind(("127.0.0.1", pool_port(pool)))

    def test_offline_pool_creates_tokens(self, pool: LocalUserPool) -> None:
        with pool.offline():
            assert pool.token()

    def test_stop_ends_every_thread(self, http: Http) -> None:
        before = set(threading.enumerate())  # other tests' pools have threads too
        with LocalUserPool() as pool:
            http.get(pool.jwks_url)
            pool.fail("token", hang=True)
            with connect(pool) as plain:
                plain.sendall(b"POST /oauth2/token HTTP/1.1\r\nHost: x\r\n\r\n")
                pool.wait_for("token")
                mine = set(threading.enumerate()) - before
                pool.stop()
                assert len(mine) >= 2
                assert not any(thread.is_alive() for thread in mine)

    def test_start_and_stop_can_be_called_twice(self, http: Http) -> None:
        pool = LocalUserPool()
        pool.stop()
        assert pool.start() is pool.start()
        pool.stop()
        pool.stop()

    def test_restarted_pool_is_the_same_pool(self, pool: LocalUserPool, http: Http) -> None:
        token, settings = pool.token(), pool.config()
        pool.stop()
        pool.start()
        assert pool.config() == settings
        assert verified_claims(pool, http, token)

    def test_connection_is_reused_for_the_next_request(self, pool: LocalUserPool) -> None:
        with connect(pool) as plain:
            for _ in range(2):
                plain.sendall(request_line(pool))
                assert plain.recv(65536).startswith(b"HTTP/1.1 200")

    @pytest.mark.parametrize(
        "header", ["Content-Length: many", "Transfer-Encoding: chunked"], ids=["not a number", "chunked"]
    )
    def test_body_of_unknown_length_is_a_bad_request(self, pool: LocalUserPool, header: str) -> None:
        with connect(pool) as plain:
            plain.sendall(f"POST /oauth2/token HTTP/1.1\r\nHost: x\r\n{header}\r\n\r\n".encode())
            assert plain.recv(65536).startswith(b"HTTP/1.1 400")


def connect(pool: LocalUserPool) -> socket.socket:
    return socket.create_connection(("127.0.0.1", pool_port(pool)), timeout=5)


def pool_port(pool: LocalUserPool) -> int:
    return int(pool.url.rpartition(":")[2])


def request_line(pool: LocalUserPool) -> bytes:
    return f"GET /{pool.pool_id}/.well-known/jwks.json HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()
