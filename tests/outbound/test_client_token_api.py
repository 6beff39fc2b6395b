"""``GetClientToken`` of the user pools API: its requests, and the translation of its responses to OAuth."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import jwt
import pytest
from flask import Flask

from flask_m2m_cognito import CognitoM2M, CognitoTokenRequestError, ConfigurationError
from flask_m2m_cognito.outbound.token_endpoint import CognitoM2MClient
from flask_m2m_cognito.outbound.token_source import is_lasting
from flask_m2m_cognito.remote.clock import Deadline
from flask_m2m_cognito.settings.app_settings import ClientSettings, settings_from
from flask_m2m_cognito.testing import LocalClient, LocalUserPool

SECRET = 'a secret/of+the="client"'
TARGET = "AWSCognitoIdentityProviderService.GetClientToken"


@pytest.fixture(scope="module")
def _pool() -> Iterator[LocalUserPool]:
    clients = [LocalClient("billing", (SECRET,), scopes=("orders/read", "orders/write"))]
    with LocalUserPool(clients=clients) as pool:
        pool.token()  # creates the key now, so no request of a test waits for it
        yield pool


@pytest.fixture
def pool(_pool: LocalUserPool) -> LocalUserPool:
    _pool.recover()
    _pool.clear_requests()
    _pool.set_secrets("billing", SECRET)
    return _pool


def client_of(pool: LocalUserPool, secret: Any = SECRET, **more: Any) -> CognitoM2MClient:
    return CognitoM2MClient(pool.api_url, "billing", secret, client_token_api=True, **more)


def failure_of(client: CognitoM2MClient) -> CognitoTokenRequestError:
    with pytest.raises(CognitoTokenRequestError) as caught:
        client.fetch_token("orders/read", timeout=5)
    return caught.value


def error(name: str, message: str | None = "A description.") -> dict[str, str]:
    return {"__type": name} if message is None else {"__type": name, "message": message}


class TestRequests:
    def test_request_is_the_unsigned_operation(self, pool: LocalUserPool) -> None:
        client_of(pool, client_auth="basic").fetch_token("orders/read orders/write")
        (request,) = pool.requests
        assert (request.method, request.path, request.endpoint) == ("POST", "/", "token")
        assert request.headers["Content-Type"] == "application/x-amz-json-1.1"
        assert request.headers["X-Amz-Target"] == TARGET
        assert request.headers["Authorization"] is None
        assert json.loads(request.body) == {
            "ClientId": "billing",
            "Secret": SECRET,
            "Scopes": ["orders/read", "orders/write"],
        }

    def test_request_without_scopes_is_granted_all_scopes(self, pool: LocalUserPool) -> None:
        token = client_of(pool).request_token((), (5.0, 5.0), Deadline(5.0)).access_token
        assert "Scopes" not in json.loads(pool.requests[0].body)
        claims = jwt.decode(token, options={"verify_signature": False})
        assert claims["scope"] == "orders/read orders/write"

    def test_client_metadata_is_sent(self, pool: LocalUserPool) -> None:
        client_of(pool, client_metadata={"tenant": "acmé"}).fetch_token("orders/read")
        assert json.loads(pool.requests[0].body)["ClientMetadata"] == {"tenant": "acmé"}


class TestResponses:
    def test_token_is_parsed(self, pool: LocalUserPool) -> None:
        response = client_of(pool).fetch_token("orders/read")
        assert (response.expires_in, response.token_type) == (3600, "Bearer")
        assert response.raw["ClientAuthenticationResult"]["AccessToken"] == response.access_token
        assert response.access_token not in repr(response)

    @pytest.mark.parametrize(
        ("name", "code", "lasts"),
        [
            ("NotAuthorizedException", "invalid_client", True),
            ("ResourceNotFoundException", "invalid_client", True),
            ("OperationNotEnabledException", "unauthorized_client", True),
            ("ForbiddenException", "unauthorized_client", True),
            ("InvalidParameterException", "invalid_request", False),
            ("TooManyRequestsException", "TooManyRequestsException", False),
            ("InternalErrorException", "InternalErrorException", False),
            ("com.amazonaws.cognito#NotAuthorizedException", "invalid_client", True),
        ],
    )
    def test_error_has_the_oauth_code_and_its_own_name(
        self, pool: LocalUserPool, name: str, code: str, lasts: bool
    ) -> None:
        with pool.fail("token", status=400, body=error(name)):
            failure = failure_of(client_of(pool))
        assert (failure.status_code, failure.error_code) == (400, code)
        assert failure.error_description == f"{name.rpartition('#')[2]}: A description."
        assert is_lasting(failure) is lasts
        assert failure.request_id is not None

    @pytest.mark.parametrize(
        ("body", "code"),
        [
            pytest.param({"ClientAuthenticationResult": {}}, None, id="no token"),
            pytest.param({"ClientAuthenticationResult": "eyJ"}, None, id="no object"),
            pytest.param({"access_token": "a.b.c"}, None, id="response of the token endpoint"),
            pytest.param({"ClientAuthenticationResult": {"AccessToken": "a b"}}, None, id="a space in it"),
            pytest.param(error("NotAuthorizedException", None), "invalid_client", id="an error as a success"),
            pytest.param("<html>", None, id="a page"),
            pytest.param([], None, id="a list"),
        ],
    )
    def test_response_without_a_token_is_an_error(self, pool: LocalUserPool, body: Any, code: Any) -> None:
        with pool.answer("token", json.dumps(body) if isinstance(body, list) else body):
            assert failure_of(client_of(pool)).error_code == code

    def test_error_shows_neither_secret_nor_token(self, pool: LocalUserPool) -> None:
        quoted = json.dumps({"Secret": SECRET, "AccessToken": "opaque-token"})
        with pool.fail("token", status=502, body=f"Bad gateway, asked {quoted}"):
            failure = failure_of(client_of(pool))
        assert "Bad gateway" in (failure.response_body or "")
        for hidden in (SECRET, json.dumps(SECRET)[1:-1], "opaque-token"):
            assert hidden not in f"{failure!r} {failure} {vars(failure)}"


class TestSecrets:
    def test_other_errors_try_no_other_secret(self, pool: LocalUserPool) -> None:
        with pool.fail("token", status=400, body=error("TooManyRequestsException")):
            failure_of(client_of(pool, ["an old one", SECRET]))
        assert pool.count("token") == 1


class TestLocalPool:
    @pytest.mark.parametrize(
        ("client_id", "secret", "scopes", "name"),
        [
            pytest.param("nobody", SECRET, ["orders/read"], "ResourceNotFoundException", id="no such client"),
            pytest.param("billing", "wrong", ["orders/read"], "NotAuthorizedException", id="wrong secret"),
            pytest.param("billing", SECRET, ["a/b"], "InvalidParameterException", id="scope not allowed"),
            pytest.param(
                "billing", SECRET, ["orders/read"] * 51, "InvalidParameterException", id="51 scopes"
            ),
        ],
    )
    def test_local_pool_rejects_like_the_api(
        self, pool: LocalUserPool, client_id: str, secret: str, scopes: list[str], name: str
    ) -> None:
        client = CognitoM2MClient(pool.api_url, client_id, secret, client_token_api=True)
        with pytest.raises(CognitoTokenRequestError) as caught:
            client.request_token(scopes, (5.0, 5.0), Deadline(5.0))
        assert (caught.value.error_description or "").startswith(name)

    def test_other_operations_are_unknown(self, pool: LocalUserPool) -> None:
        import requests

        assert requests.post(pool.api_url, json={}, timeout=5).status_code == 404
        headers = {"X-Amz-Target": "AWSCognitoIdentityProviderService.InitiateAuth"}
        answer = requests.post(pool.api_url, json={}, headers=headers, timeout=5)
        assert (answer.status_code, answer.json()["__type"]) == (400, "UnknownOperationException")


class TestApplication:
    def test_token_works_like_any_other(self, pool: LocalUserPool) -> None:
        app = Flask("billing")
        app.config.update(pool.config(CLIENT_TOKEN_API=True, ALLOWED_CLIENT_IDS="*"))
        m2m = CognitoM2M(app)
        token = m2m.validator.validate(m2m.token("orders/read"))
        assert (token.client_id, token.scopes) == ("billing", {"orders/read"})
        m2m.token("orders/read")
        assert [request.path for request in pool.requests if request.endpoint == "token"] == ["/"]
        assert m2m.health()["token_requests"]["default"]["total"] == 1

    def test_api_is_not_an_oauth_endpoint_in_openapi(self, pool: LocalUserPool) -> None:
        app = Flask("billing")
        app.config.update(pool.config(CLIENT_TOKEN_API=True, ALLOWED_CLIENT_IDS="*"))
        document = CognitoM2M(app).openapi({"paths": {}}, app)
        assert document["components"]["securitySchemes"]["cognito_m2m"]["type"] == "openIdConnect"


# -- settings ------------------------------------------------------------------------------------

OWN = {"CLIENT_ID": "me", "CLIENT_SECRET": "x"}
EMULATOR = "http://127.0.0.1:9000/"
WEST = "https://cognito-idp.us-west-2.amazonaws.com/"


def clients_from(**settings: Any) -> dict[str | None, ClientSettings]:
    config = {f"COGNITO_M2M_{key}": value for key, value in settings.items()}
    return dict(settings_from(config, app_name="shop", environ={}).clients)


@pytest.mark.parametrize(
    ("settings", "urls"),
    [
        pytest.param({"USER_POOL_ID": "us-west-2_AbCdEfGhI"}, (WEST,), id="region of the pool"),
        pytest.param(
            {"REGION": "cn-north-1"}, ("https://cognito-idp.cn-north-1.amazonaws.com.cn/",), id="China"
        ),
        pytest.param(
            {"REGION": "eusc-de-east-1"},
            (
                "https://cognito-idp.eusc-de-east-1.amazonaws.eu/",
                "https://cognito-idp.eusc-de-east-1.amazonaws.com/",
            ),
            id="EU Sovereign Cloud",
        ),
        pytest.param({"TOKEN_URL": EMULATOR}, (EMULATOR,), id="an emulator"),
        pytest.param({"TOKEN_URL": EMULATOR, "CLIENT_TOKEN_API": "true"}, (EMULATOR,), id="as text"),
    ],
)
def test_api_url_is_token_url_or_the_regions(settings: dict[str, Any], urls: tuple[str, ...]) -> None:
    client = clients_from(**{**OWN, "CLIENT_TOKEN_API": True, "ALLOWED_CLIENT_IDS": "*", **settings})[None]
    assert (client.client_token_api, client.token_urls) == (True, urls)


@pytest.mark.parametrize(
    ("top", "own", "expected"),
    [
        pytest.param({"CLIENT_TOKEN_API": True}, {}, (True, (WEST,)), id="the top level's"),
        pytest.param(
            {"CLIENT_TOKEN_API": True, "TOKEN_URL": EMULATOR}, {}, (True, (EMULATOR,)), id="its URL"
        ),
        pytest.param(
            {"DOMAIN": "a.b"}, {"CLIENT_TOKEN_API": True}, (True, (WEST,)), id="own, not the domain"
        ),
        pytest.param(
            {"TOKEN_URL": "https://a.b/oauth2/token"},
            {"CLIENT_TOKEN_API": True},
            (True, (WEST,)),
            id="own, not the other endpoint's URL",
        ),
        pytest.param(
            {"CLIENT_TOKEN_API": True},
            {"TOKEN_URL": EMULATOR},
            (True, (EMULATOR,)),
            id="the top level's at its own URL",
        ),
        pytest.param(
            {"CLIENT_TOKEN_API": True},
            {"DOMAIN": "a.b"},
            (False, ("https://a.b/oauth2/token",)),
            id="own domain",
        ),
        pytest.param(
            {"CLIENT_TOKEN_API": True},
            {"CLIENT_TOKEN_API": False, "TOKEN_URL": "https://a.b/t"},
            (False, ("https://a.b/t",)),
            id="own, turned off",
        ),
    ],
)
def test_named_client_inherits_the_api_setting(
    top: dict[str, Any], own: dict[str, Any], expected: tuple[bool, tuple[str, ...]]
) -> None:
    named = clients_from(REGION="us-west-2", **top, CLIENTS={"named": {**OWN, **own}})["named"]
    assert (named.client_token_api, named.token_urls) == expected


@pytest.mark.parametrize(
    ("settings", "key"),
    [
        pytest.param({**OWN, "CLIENT_TOKEN_API": True}, "CLIENT_TOKEN_API", id="no region"),
        pytest.param(
            {**OWN, "CLIENT_TOKEN_API": True, "DOMAIN": "a.b", "REGION": "us-west-2"},
            "DOMAIN",
            id="a domain too",
        ),
        pytest.param({"CLIENT_TOKEN_API": True, "REGION": "us-west-2"}, "CLIENT_ID", id="no client"),
        pytest.param({**OWN, "CLIENT_TOKEN_API": False}, "TOKEN_URL", id="turned off without a URL"),
        pytest.param(
            {
                "CLIENT_TOKEN_API": True,
                "REGION": "us-west-2",
                "CLIENTS": {"a": {**OWN, "CLIENT_TOKEN_API": False}},
            },
            'CLIENTS["a"].TOKEN_URL',
            id="turned off for a named client without a URL",
        ),
        pytest.param({**OWN, "CLIENT_TOKEN_API": "perhaps"}, "CLIENT_TOKEN_API", id="not a flag"),
    ],
)
def test_error_names_the_setting(settings: dict[str, Any], key: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        clients_from(**settings)
    assert f"COGNITO_M2M_{key} " in str(caught.value)


def test_turned_off_api_alone_is_not_a_client() -> None:
    assert (
        clients_from(USER_POOL_ID="us-west-2_AbCdEfGhI", CLIENT_TOKEN_API=False, ALLOWED_CLIENT_IDS="*") == {}
    )
