"""One token request: what it sends, how each response is handled, and that no secret is shown."""

from __future__ import annotations

import json
from base64 import b64decode
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote_plus

import pytest
import requests

from flask_m2m_cognito import __version__
from flask_m2m_cognito.exceptions import CognitoTokenRequestError, ConfigurationError
from flask_m2m_cognito.outbound.token_endpoint import CognitoM2MClient, TokenResponse
from flask_m2m_cognito.remote.clock import Deadline
from flask_m2m_cognito.testing import LocalClient, LocalUserPool

SECRET = "a secret/of+the=client"
QUICK = (1.0, 0.5)  # for endpoints that hang


@pytest.fixture(scope="module")
def pools() -> Iterator[tuple[LocalUserPool, LocalUserPool]]:
    clients = [LocalClient("billing", (SECRET,), any_scope=True)]
    with LocalUserPool(clients=clients) as one, LocalUserPool(clients=clients) as other:
        for pool in (one, other):
            pool.rotate_key()  # creates the key now, so no request of a test waits for it
        yield one, other


@pytest.fixture
def pool(pools: tuple[LocalUserPool, LocalUserPool]) -> LocalUserPool:
    return reset_pool(pools[0])


@pytest.fixture
def other_pool(pools: tuple[LocalUserPool, LocalUserPool]) -> LocalUserPool:
    return reset_pool(pools[1])


def reset_pool(pool: LocalUserPool) -> LocalUserPool:
    pool.recover()
    pool.clear_requests()
    pool.set_secrets("billing", SECRET)
    return pool


def client_of(*pools: LocalUserPool, secret: Any = SECRET, **more: Any) -> CognitoM2MClient:
    urls = [pool.token_url for pool in pools]
    return CognitoM2MClient(urls[0] if len(urls) == 1 else urls, "billing", secret, **more)


def failure_of(client: CognitoM2MClient, timeout: Any = 5.0) -> CognitoTokenRequestError:
    with pytest.raises(CognitoTokenRequestError) as caught:
        client.fetch_token("inventory/read", timeout=timeout)
    return caught.value


def token_body(pool: LocalUserPool, **members: Any) -> dict[str, Any]:
    whole = {"access_token": pool.token(), "expires_in": 3600, "token_type": "Bearer", **members}
    return {name: value for name, value in whole.items() if value is not None}


class TestHeaders:
    HEADER = "shared-with-the-waf/1"

    @pytest.mark.parametrize("api", [False, True], ids=["token endpoint", "GetClientToken"])
    def test_own_user_agent_and_given_headers_are_sent(self, pool: LocalUserPool, api: bool) -> None:
        url = pool.url if api else pool.token_url
        client = CognitoM2MClient(
            url, "billing", SECRET, headers={"x-origin-verify": self.HEADER}, client_token_api=api
        )
        client.fetch_token("inventory/read")
        headers = pool.requests[-1].headers
        assert headers["User-Agent"] == f"flask-m2m-cognito/{__version__}"
        assert headers["X-Origin-Verify"] == self.HEADER
        assert headers["Accept"] == "application/json"

    def test_given_header_replaces_the_usual_one(self, pool: LocalUserPool) -> None:
        client_of(pool, headers={"user-agent": "mine/1"}).fetch_token("inventory/read")
        assert pool.requests[-1].headers["User-Agent"] == "mine/1"

    def test_header_value_is_never_shown(self, pool: LocalUserPool) -> None:
        client = client_of(pool, headers={"x-origin-verify": self.HEADER})
        pool.answer("token", {"error": "blocked", "error_description": self.HEADER}, status=403)
        error = failure_of(client)
        assert self.HEADER not in f"{client!r} {error!r} {error.error_description} {error.response_body}"


class TestRequests:
    def test_post_sends_id_and_secret_in_the_form(self, pool: LocalUserPool) -> None:
        client_of(pool).fetch_token("inventory/read")
        (request,) = pool.requests
        assert request.method == "POST"
        assert request.form == {
            "grant_type": "client_credentials",
            "client_id": "billing",
            "client_secret": SECRET,
            "scope": "inventory/read",
        }
        assert request.headers["Authorization"] is None

    def test_basic_sends_id_and_secret_only_in_the_header(self, pool: LocalUserPool) -> None:
        client_of(pool, client_auth="basic").fetch_token("inventory/read")
        (request,) = pool.requests
        assert request.form == {"grant_type": "client_credentials", "scope": "inventory/read"}
        scheme, _, encoded = request.headers["Authorization"].partition(" ")
        assert scheme == "Basic"
        assert b64decode(encoded).decode() == f"billing:{quote_plus(SECRET)}"

    def test_basic_secret_may_have_a_colon_and_non_ascii_letters(self, pool: LocalUserPool) -> None:
        pool.set_secrets("billing", "sé:cret 100%")
        assert client_of(pool, secret="sé:cret 100%", client_auth="basic").fetch_token("inventory/read")

    @pytest.mark.parametrize("client_auth", ["post", "basic"])
    def test_netrc_entry_for_the_host_is_ignored(
        self, pool: LocalUserPool, client_auth: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        netrc = tmp_path / "netrc"
        netrc.write_text("machine 127.0.0.1 login somebody password else\n")
        netrc.chmod(0o600)
        monkeypatch.setenv("NETRC", str(netrc))
        assert requests.utils.get_netrc_auth(pool.token_url) == ("somebody", "else")
        client_of(pool, client_auth=client_auth).fetch_token("inventory/read")
        (request,) = pool.requests
        assert (request.headers["Authorization"] is None) == (client_auth == "post")
        assert ("client_secret" in request.form) == (client_auth == "post")

    @pytest.mark.parametrize(
        "scopes",
        [
            pytest.param("a/read b/write", id="text"),
            pytest.param("  a/read\n b/write ", id="text with more whitespace"),
            pytest.param(["a/read", "b/write"], id="list"),
            pytest.param(("a/read", " b/write", "", "a/read"), id="tuple with blanks and twice"),
        ],
    )
    def test_scopes_may_be_a_string_or_a_sequence(self, pool: LocalUserPool, scopes: Any) -> None:
        client_of(pool).fetch_token(scopes)
        assert pool.requests[0].form["scope"] == "a/read b/write"

    @pytest.mark.parametrize("scopes", ["", "  ", [], ["", " "]], ids=["empty", "blank", "none", "blanks"])
    def test_fetch_token_without_a_scope_sends_nothing(self, pool: LocalUserPool, scopes: Any) -> None:
        with pytest.raises(CognitoTokenRequestError):
            client_of(pool).fetch_token(scopes)
        assert pool.count() == 0

    def test_request_token_without_scopes_sends_no_scope(self, pool: LocalUserPool) -> None:
        client_of(pool).request_token((), (1.0, 1.0), Deadline(5.0))
        assert "scope" not in pool.requests[0].form

    def test_client_metadata_is_sent_as_json(self, pool: LocalUserPool) -> None:
        client_of(pool, client_metadata={"tenant": "acme", "ümlaut": "é"}).fetch_token("inventory/read")
        sent = pool.requests[0].form["aws_client_metadata"]
        assert json.loads(sent) == {"tenant": "acme", "ümlaut": "é"}

    @pytest.mark.parametrize("metadata", [None, {}], ids=["none", "empty"])
    def test_empty_client_metadata_is_not_sent(self, pool: LocalUserPool, metadata: Any) -> None:
        client_of(pool, client_metadata=metadata).fetch_token("inventory/read")
        assert "aws_client_metadata" not in pool.requests[0].form

    def test_redirect_is_not_followed(self, pool: LocalUserPool, other_pool: LocalUserPool) -> None:
        pool.fail("token", status=307, headers={"Location": other_pool.token_url})
        assert failure_of(client_of(pool)).status_code == 307
        assert other_pool.count() == 0

    def test_each_call_is_a_request(self, pool: LocalUserPool) -> None:
        client = client_of(pool)
        first, second = client.fetch_token("inventory/read"), client.fetch_token("inventory/read")
        assert first.access_token != second.access_token
        assert pool.count("token") == 2


UNSAFE_URLS = [
    "http://auth.example.com/oauth2/token",
    "HTTP://127.0.0.1.example.com/",
    "http://localhost@auth.example.com/",
    "https://somebody:hunter2@auth.example.com/",
    "//auth.example.com/",
    "ftp://localhost/",
    "",
]


class TestUnsafeTokenUrl:
    @pytest.mark.parametrize("is_api", [False, True])
    @pytest.mark.parametrize(
        "url", [*UNSAFE_URLS, ["https://a.example", UNSAFE_URLS[0]], [], [None]], ids=str
    )
    def test_is_rejected_by_the_constructor(self, url: Any, is_api: bool) -> None:
        with pytest.raises(ConfigurationError, match="token_url") as caught:
            CognitoM2MClient(url, "billing", SECRET, client_token_api=is_api)
        assert "hunter2" not in str(caught.value)
        assert SECRET not in "".join(_locals_of(caught.value))

    @pytest.mark.parametrize("url", [UNSAFE_URLS[0], [UNSAFE_URLS[0]]], ids=type)
    def test_is_rejected_on_assignment(self, pool: LocalUserPool, url: Any) -> None:
        client = client_of(pool)
        with pytest.raises(ConfigurationError):
            client.token_url = url
        assert client.token_url == pool.token_url

    def test_may_be_http_to_an_allowed_host(self, pool: LocalUserPool, names_of_loopback: None) -> None:
        url = pool.token_url.replace("127.0.0.1", "pool.test")
        client = CognitoM2MClient(url, "billing", SECRET, allow_http_hosts=["pool.test"])
        assert client.fetch_token("inventory/read").access_token
        with pytest.raises(ConfigurationError, match="ALLOW_HTTP_HOSTS"):
            client.token_url = url.replace("pool.test", "other.test")
        with pytest.raises(ConfigurationError, match="plain http"):
            CognitoM2MClient(url, "billing", SECRET, allow_http_hosts="*")

    def test_later_changes_to_the_list_have_no_effect(self, pool: LocalUserPool) -> None:
        urls = [pool.token_url]
        client = CognitoM2MClient(urls, "billing", SECRET)
        urls[0] = UNSAFE_URLS[0]
        assert client.fetch_token("inventory/read").access_token

    def test_safe_url_may_be_assigned(self, pool: LocalUserPool, other_pool: LocalUserPool) -> None:
        client = client_of(pool)
        client.token_url = [other_pool.token_url, pool.token_url]
        client.fetch_token("inventory/read")
        assert (pool.count(), other_pool.count()) == (0, 1)


class TestSeveralTokenUrls:
    @pytest.mark.parametrize(
        ("fault", "is_next_tried"),
        [
            pytest.param({"reset": True}, True, id="reset"),
            pytest.param({"cut_off": True}, True, id="cut off"),
            pytest.param({"hang": True}, True, id="timeout"),
            pytest.param({"status": 500}, True, id="500"),
            pytest.param({"status": 503, "headers": {"Retry-After": "5"}}, True, id="503 with Retry-After"),
            *(
                pytest.param({"status": status}, False, id=str(status))
                for status in (400, 401, 403, 404, 429)
            ),
        ],
    )
    def test_next_url_is_tried_only_after_an_outage(
        self, pool: LocalUserPool, other_pool: LocalUserPool, fault: dict[str, Any], is_next_tried: bool
    ) -> None:
        client = client_of(pool, other_pool)
        pool.fail("token", **fault)
        if is_next_tried:
            assert client.fetch_token("inventory/read", timeout=QUICK if "hang" in fault else 5.0)
        else:
            assert failure_of(client).status_code == fault["status"]
        assert (pool.count("token"), other_pool.count("token")) == (1, int(is_next_tried))

    def test_last_response_is_raised_when_all_fail(
        self, pool: LocalUserPool, other_pool: LocalUserPool
    ) -> None:
        pool.fail("token", reset=True)
        other_pool.fail("token", status=502)
        assert failure_of(client_of(pool, other_pool)).status_code == 502


class TestResponses:
    def test_token_response_is_parsed(self, pool: LocalUserPool) -> None:
        body = token_body(pool, expires_in=1200, scope="inventory/read")
        pool.answer("token", body)
        assert client_of(pool).fetch_token("inventory/read") == TokenResponse(
            access_token=body["access_token"], expires_in=1200, token_type="Bearer", raw=body
        )

    @pytest.mark.parametrize(
        ("members", "expires_in"),
        [
            pytest.param({"expires_in": None}, None, id="missing"),
            pytest.param({"expires_in": 3600.0}, 3600, id="whole float"),
            pytest.param({"expires_in": "3600"}, 3600, id="text"),
            pytest.param({"expires_in": "0900"}, 900, id="text with a leading zero"),
            pytest.param({"expires_in": -1}, -1, id="negative"),
        ],
    )
    def test_valid_expires_in_is_parsed(
        self, pool: LocalUserPool, members: dict[str, Any], expires_in: int | None
    ) -> None:
        pool.answer("token", token_body(pool, **members))
        found = client_of(pool).fetch_token("inventory/read").expires_in
        assert found == expires_in
        assert found is None or type(found) is int

    @pytest.mark.parametrize(
        "expires_in",
        ["", "-5", "1e3", "\uff13\uff16", "9" * 5000],
        ids=["empty", "a sign", "an exponent", "wide digits", "too many digits"],
    )
    def test_invalid_expires_in_is_an_error(self, pool: LocalUserPool, expires_in: str) -> None:
        pool.answer("token", token_body(pool, expires_in=expires_in))
        error = failure_of(client_of(pool))
        assert (error.status_code, error.error_code) == (200, None)

    def test_200_with_an_error_in_it_is_an_error(self, pool: LocalUserPool) -> None:
        pool.answer("token", token_body(pool, error="invalid_scope", error_description="no such scope"))
        error = failure_of(client_of(pool))
        assert (error.status_code, error.error_code) == (200, "invalid_scope")
        assert error.error_description == "no such scope"

    def test_oauth_error_has_code_description_and_request_id(self, pool: LocalUserPool) -> None:
        body = {"error": "invalid_client", "error_description": "client is gone"}
        pool.answer("token", body, status=400, headers={"x-amzn-requestid": "7d3c"})
        error = failure_of(client_of(pool))
        assert error.status_code == 400
        assert error.error_code == "invalid_client"
        assert error.error_description == "client is gone"
        assert json.loads(error.response_body or "") == body
        assert error.request_id == "7d3c"
        assert error.retry_after is None

    def test_request_id_is_read_from_both_apis(self, pool: LocalUserPool) -> None:
        api = CognitoM2MClient(pool.url + "/", "billing", "wrong", client_token_api=True)
        for client in (client_of(pool, secret="wrong"), api):
            assert failure_of(client).request_id

    @pytest.mark.parametrize(
        ("status", "body", "code"),
        [
            pytest.param(429, {"message": "Too many requests"}, None, id="429"),
            pytest.param(
                400, {"__type": "TooManyRequestsException"}, "TooManyRequestsException", id="400 of AWS"
            ),
            pytest.param(
                400,
                {"__type": "com.amazonaws.cognito#TooManyRequestsException"},
                "TooManyRequestsException",
                id="400 of AWS with a name space",
            ),
        ],
    )
    def test_throttling_has_code_and_retry_after(
        self, pool: LocalUserPool, status: int, body: dict[str, str], code: str | None
    ) -> None:
        pool.answer("token", body, status=status, headers={"Retry-After": "7"})
        error = failure_of(client_of(pool))
        assert (error.status_code, error.error_code, error.retry_after) == (status, code, 7.0)

    def test_error_page_keeps_its_status(self, pool: LocalUserPool) -> None:
        pool.answer("token", "<h1>Forbidden</h1>", status=403)
        error = failure_of(client_of(pool))
        assert (error.status_code, error.response_body) == (403, "<h1>Forbidden</h1>")

    @pytest.mark.parametrize(
        "fault",
        [{"reset": True}, {"cut_off": True}, {"size": 100_000}],
        ids=["reset", "cut off", "too large"],
    )
    def test_truncated_response_is_an_error_without_status(
        self, pool: LocalUserPool, fault: dict[str, Any]
    ) -> None:
        with pool.fail("token", **fault):
            error = failure_of(client_of(pool))
        assert (error.status_code, error.error_code, error.response_body) == (None, None, None)

    def test_connection_error_of_requests_is_the_cause(self, pool: LocalUserPool) -> None:
        with pool.offline():
            error = failure_of(client_of(pool))
        assert isinstance(error.__cause__, requests.ConnectionError)


class TestRedaction:
    @pytest.mark.parametrize("client_auth", ["post", "basic"])
    @pytest.mark.parametrize("status", [200, 400, 503])
    def test_quoted_request_is_redacted(self, pool: LocalUserPool, client_auth: Any, status: int) -> None:
        client = client_of(pool, client_auth=client_auth)
        client.fetch_token("inventory/read")
        quoted = pool.requests[0]
        sent = f"{quoted.headers['Authorization']} {quoted.body.decode()} {SECRET}"
        pool.answer("token", {"error": f"bad {SECRET}", "error_description": sent}, status=status)
        error = failure_of(client)
        for text in (str(error), repr(error), *map(str, vars(error).values())):
            for secret in (SECRET, quote_plus(SECRET), sent.split()[1]):
                assert secret not in text

    @pytest.mark.parametrize(
        "body",
        [
            pytest.param('{"access_token": "opaque-token", "error": "odd"}', id="beside an error"),
            pytest.param('{"access_token": "opaque-token\\r\\nX: y"}', id="with a line break"),
            pytest.param('{"access_token": "a\\"opaque-token\\"é"}', id="with quotes in it"),
            pytest.param('{"id_token":"opaque-token"}', id="of another kind"),
            pytest.param('{"access_token": "opaque-token', id="truncated"),
            pytest.param('{"access_token": "opaque-token\\', id="truncated in an escape"),
        ],
    )
    def test_token_in_an_invalid_response_is_redacted(self, pool: LocalUserPool, body: str) -> None:
        pool.answer("token", body)
        assert "opaque-token" not in (failure_of(client_of(pool)).response_body or "")

    def test_reprs_show_neither_secret_nor_token(self, pool: LocalUserPool) -> None:
        client = client_of(pool)
        response = client.fetch_token("inventory/read")
        assert SECRET not in repr(client)
        assert response.access_token not in repr(response)
        assert "billing" in repr(client)
        assert "3600" in repr(response)


def _locals_of(error: BaseException | None) -> Iterator[str]:
    while error is not None:
        frame = error.__traceback__
        while frame is not None:
            # The frames of the test itself hold the pool, and so the secret.
            if "flask_m2m_cognito" in frame.tb_frame.f_code.co_filename:
                yield from map(repr, frame.tb_frame.f_locals.values())
            frame = frame.tb_next
        error = error.__cause__ or error.__context__
