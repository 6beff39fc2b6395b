"""What a program written for m2m-cognito 0.1 relies on. Its README is empty, so its code is the contract.

The tests in the classes "Stricter…" describe intended differences.
"""

from __future__ import annotations

import dataclasses
import inspect
import pickle
import re
import socket
import time
from collections.abc import Callable
from typing import Any

import pytest
import requests

import flask_m2m_cognito
from flask_m2m_cognito import (
    CognitoAccessTokenValidator,
    CognitoM2MClient,
    CognitoTokenRequestError,
    InsufficientScopeError,
    KeysUnavailableError,
    M2MCognitoError,
    TokenResponse,
    TokenValidationError,
    ValidatedAccessToken,
)
from flask_m2m_cognito.inbound.key_source import trusted_pool_from
from flask_m2m_cognito.inbound.user_pool import user_pool_from
from flask_m2m_cognito.testing import LocalUserPool


@pytest.fixture
def client(pool: LocalUserPool) -> CognitoM2MClient:
    return CognitoM2MClient(
        token_url=pool.token_url, client_id="local-client", client_secret=pool.client().secret
    )


def failure_of(client: CognitoM2MClient, **named: Any) -> CognitoTokenRequestError:
    with pytest.raises(CognitoTokenRequestError) as raised:
        client.fetch_token(**{"scopes": "inventory/read", **named})
    return raised.value


def validator_of(pool: LocalUserPool, **named: Any) -> CognitoAccessTokenValidator:
    """Build a validator as 0.1 does, but for a pool on loopback."""
    where = user_pool_from(pool.pool_id, issuer=pool.issuer, jwks_url=pool.jwks_url)
    return CognitoAccessTokenValidator(
        region=pool.region, user_pool_id=pool.pool_id, pools=[trusted_pool_from(where)], **named
    )


def rejection_of(pool: LocalUserPool, token: Any, **named: Any) -> TokenValidationError:
    with pytest.raises(TokenValidationError) as raised:
        validator_of(pool, **named).validate(token)
    return raised.value


def test_every_public_name_of_0_1_exists() -> None:
    assert {
        "CognitoAccessTokenValidator",
        "CognitoM2MClient",
        "CognitoTokenRequestError",
        "InsufficientScopeError",
        "M2MCognitoError",
        "TokenResponse",
        "TokenValidationError",
        "ValidatedAccessToken",
    } <= set(flask_m2m_cognito.__all__)


@pytest.mark.parametrize(
    ("call", "named"),
    [
        pytest.param(CognitoM2MClient, ["token_url", "client_id", "client_secret"], id="CognitoM2MClient"),
        pytest.param(CognitoM2MClient.fetch_token, ["scopes", "timeout"], id="fetch_token"),
        pytest.param(
            CognitoAccessTokenValidator,
            [
                "region",
                "user_pool_id",
                "allowed_client_ids",
                "required_scopes",
                "scope_match",
                "audience",
            ],
            id="CognitoAccessTokenValidator",
        ),
        pytest.param(CognitoAccessTokenValidator.validate, ["token"], id="validate"),
        pytest.param(
            CognitoTokenRequestError,
            ["message", "status_code", "error_code", "error_description", "response_body"],
            id="CognitoTokenRequestError",
        ),
        pytest.param(
            InsufficientScopeError,
            ["message", "token_scopes", "required_scopes"],
            id="InsufficientScopeError",
        ),
        pytest.param(TokenResponse, ["access_token", "expires_in", "token_type", "raw"], id="TokenResponse"),
        pytest.param(ValidatedAccessToken, ["client_id", "scopes", "claims"], id="ValidatedAccessToken"),
    ],
)
def test_arguments_of_0_1_exist_and_new_ones_are_optional(call: Callable[..., Any], named: list[str]) -> None:
    parameters = {
        name: parameter for name, parameter in inspect.signature(call).parameters.items() if name != "self"
    }
    assert [name for name in parameters if name in named] == named
    assert all(
        parameters[name].default is not inspect.Parameter.empty for name in parameters if name not in named
    )


@pytest.mark.parametrize(
    ("call", "name", "default"),
    [
        (CognitoM2MClient.fetch_token, "timeout", 30.0),
        (CognitoAccessTokenValidator, "allowed_client_ids", None),
        (CognitoAccessTokenValidator, "required_scopes", ()),
        (CognitoAccessTokenValidator, "scope_match", "all"),
        (CognitoAccessTokenValidator, "audience", None),
    ],
)
def test_defaults_are_those_of_0_1(call: Callable[..., Any], name: str, default: object) -> None:
    assert inspect.signature(call).parameters[name].default == default


class TestTokenResponse:
    def test_is_a_frozen_dataclass_of_four_fields(self) -> None:
        response = TokenResponse("token", 3600, "Bearer", {"access_token": "token"})
        assert [field.name for field in dataclasses.fields(response)] == [
            "access_token",
            "expires_in",
            "token_type",
            "raw",
        ]
        assert response == TokenResponse(
            access_token="token", expires_in=3600, token_type="Bearer", raw={"access_token": "token"}
        )
        with pytest.raises(dataclasses.FrozenInstanceError):
            response.access_token = "other"  # type: ignore[misc]

    def test_repr_hides_the_token(self) -> None:
        assert "s3cret" not in repr(TokenResponse("s3cret", None, None, {"access_token": "s3cret"}))


class TestFetchToken:
    def test_has_its_arguments_as_attributes(self, client: CognitoM2MClient, pool: LocalUserPool) -> None:
        assert (client.token_url, client.client_id, client.client_secret) == (
            pool.token_url,
            "local-client",
            pool.client().secret,
        )

    def test_returns_the_token_and_its_members(self, client: CognitoM2MClient, pool: LocalUserPool) -> None:
        response = client.fetch_token(scopes="inventory/read")
        assert (response.expires_in, response.token_type) == (3600, "Bearer")
        assert response.raw == {
            "access_token": response.access_token,
            "expires_in": 3600,
            "token_type": "Bearer",
        }
        assert validator_of(pool).validate(response.access_token).scopes == {"inventory/read"}

    def test_sends_the_form_of_0_1(self, client: CognitoM2MClient, pool: LocalUserPool) -> None:
        client.fetch_token(scopes="inventory/read")
        (request,) = pool.requests
        assert request.method == "POST"
        assert request.headers["Content-Type"] == "application/x-www-form-urlencoded"
        assert request.headers["Authorization"] is None
        assert request.form_pairs == [
            ("grant_type", "client_credentials"),
            ("client_id", "local-client"),
            ("client_secret", pool.client().secret),
            ("scope", "inventory/read"),
        ]

    @pytest.mark.parametrize(
        ("scopes", "expected"),
        [
            pytest.param("a/read", "a/read", id="one"),
            pytest.param("b/write a/read", "b/write a/read", id="text, in its order"),
            pytest.param("  a/read \t\n b/write ", "a/read b/write", id="text with more whitespace"),
            pytest.param(["b/write", "a/read"], "b/write a/read", id="list, in its order"),
            pytest.param(("a/read", "b/write"), "a/read b/write", id="tuple"),
            pytest.param([" a/read ", "", "  "], "a/read", id="list with whitespace and empty items"),
            pytest.param(["a/read b/write"], "a/read b/write", id="list with two scopes in one item"),
        ],
    )
    def test_joins_scopes(
        self, client: CognitoM2MClient, pool: LocalUserPool, scopes: Any, expected: str
    ) -> None:
        client.fetch_token(scopes=scopes)
        assert pool.requests[0].form["scope"] == expected

    @pytest.mark.parametrize("scopes", ["", "  \t", [], (), ["", "  "]])
    def test_raises_without_a_request_if_no_scope_is_given(
        self, client: CognitoM2MClient, pool: LocalUserPool, scopes: Any
    ) -> None:
        error = failure_of(client, scopes=scopes)
        assert (error.status_code, error.error_code, error.error_description, error.response_body) == (
            None,
            None,
            None,
            None,
        )
        assert pool.count() == 0

    @pytest.mark.parametrize(
        "timeout",
        [
            pytest.param(5, id="an int"),
            pytest.param(5.0, id="a float"),
            pytest.param((3.05, 5.0), id="a pair"),
        ],
    )
    def test_accepts_a_timeout(self, client: CognitoM2MClient, timeout: Any) -> None:
        assert client.fetch_token(scopes="a/read", timeout=timeout).access_token

    @pytest.mark.parametrize(
        "timeout", [pytest.param(0.1, id="a float"), pytest.param((5.0, 0.1), id="a pair")]
    )
    def test_times_out(self, client: CognitoM2MClient, pool: LocalUserPool, timeout: Any) -> None:
        pool.fail("token", hang=True)
        began = time.monotonic()
        error = failure_of(client, timeout=timeout)
        assert time.monotonic() - began < 4
        assert error.status_code is None
        assert isinstance(error.__cause__, requests.Timeout)

    def test_uses_attributes_that_are_set_later(self, pool: LocalUserPool) -> None:
        client = CognitoM2MClient(token_url=pool.url + "/gone", client_id="x", client_secret="y")
        client.token_url, client.client_id = pool.token_url, "local-client"
        client.client_secret = pool.client().secret
        assert client.fetch_token(scopes="a/read").access_token

    def test_does_not_cache_tokens(self, client: CognitoM2MClient, pool: LocalUserPool) -> None:
        for _ in range(2):
            client.fetch_token(scopes="a/read")
        assert pool.count("token") == 2

    @pytest.mark.parametrize(
        ("expires_in", "seconds"),
        [
            pytest.param(3600, 3600, id="an int"),
            pytest.param(3600.0, 3600, id="a whole float"),
            pytest.param(None, None, id="null"),
        ],
    )
    def test_reads_expires_in(
        self, client: CognitoM2MClient, pool: LocalUserPool, expires_in: Any, seconds: int | None
    ) -> None:
        pool.answer("token", {"access_token": "abc", "expires_in": expires_in})
        response = client.fetch_token(scopes="a/read")
        assert (response.expires_in, type(response.expires_in)) == (seconds, type(seconds))

    @pytest.mark.parametrize(
        ("token_type", "read"), [("Bearer", "Bearer"), ("bearer", "bearer"), (None, None), (7, "7")]
    )
    def test_returns_token_type_unchecked(
        self, client: CognitoM2MClient, pool: LocalUserPool, token_type: Any, read: str | None
    ) -> None:
        pool.answer("token", {"access_token": "abc", "token_type": token_type})
        assert client.fetch_token(scopes="a/read").token_type == read

    def test_keeps_unknown_members(self, client: CognitoM2MClient, pool: LocalUserPool) -> None:
        pool.answer("token", {"access_token": "abc", "made_up": [1]})
        response = client.fetch_token(scopes="a/read")
        assert response.raw == {"access_token": "abc", "made_up": [1]}
        assert (response.expires_in, response.token_type) == (None, None)


class TestFailedTokenRequest:
    @pytest.mark.parametrize(
        ("body", "status", "code", "description"),
        [
            pytest.param('{"error": "invalid_client"}', 400, "invalid_client", None, id="an OAuth error"),
            pytest.param(
                '{"error": "invalid_scope", "error_description": "no such scope"}',
                400, "invalid_scope", "no such scope", id="an OAuth error with a description",
            ),
            pytest.param('{"error": "invalid_client"}', 401, "invalid_client", None, id="with 401"),
            pytest.param('{"error": "slow_down"}', 200, "slow_down", None, id="with 200"),
            pytest.param('{"error": null, "access_token": "abc"}', 200, None, None, id="null, with 200"),
            pytest.param(
                '{"error": 7, "error_description": ["x"]}', 400, "7", "['x']", id="members of other types"
            ),
            pytest.param('{"error": "", "error_description": ""}', 400, None, None, id="empty members"),
            pytest.param("{}", 500, None, None, id="a bare 500"),
            pytest.param("<html>gateway</html>", 504, None, None, id="an HTML page"),
            pytest.param("not JSON", 200, None, None, id="text that is not JSON, with 200"),
            pytest.param("", 200, None, None, id="an empty body"),
            pytest.param('["abc"]', 200, None, None, id="a list"),
            pytest.param("null", 200, None, None, id="null"),
            pytest.param("{}", 200, None, None, id="no access_token"),
            pytest.param('{"access_token": ""}', 200, None, None, id="an empty access_token"),
            pytest.param('{"access_token": 7}', 200, None, None, id="an access_token that is a number"),
            pytest.param('{"access_token": null}', 200, None, None, id="an access_token that is null"),
        ],
    )  # fmt: skip
    def test_error_has_status_code_description_and_body(
        self,
        client: CognitoM2MClient,
        pool: LocalUserPool,
        body: str,
        status: int,
        code: str | None,
        description: str | None,
    ) -> None:
        pool.answer("token", body, status=status)
        error = failure_of(client)
        assert (error.status_code, error.error_code, error.error_description) == (status, code, description)
        # Tokens are removed from it, see below.
        assert error.response_body == re.sub('(?<="access_token": )"[^"]*"', '"[hidden]"', body)

    @pytest.mark.parametrize("expires_in", ["3600.5", "[3600]", '"soon"'])
    def test_malformed_expires_in_is_an_error(
        self, client: CognitoM2MClient, pool: LocalUserPool, expires_in: str
    ) -> None:
        pool.answer("token", f'{{"access_token": "abc", "expires_in": {expires_in}}}')
        error = failure_of(client)
        assert (error.status_code, error.error_code) == (200, None)
        assert error.response_body is not None
        assert expires_in in error.response_body

    def test_wrong_secret_is_invalid_client(self, pool: LocalUserPool) -> None:
        client = CognitoM2MClient(token_url=pool.token_url, client_id="local-client", client_secret="wrong")
        error = failure_of(client)
        assert (error.status_code, error.error_code) == (400, "invalid_client")
        assert error.response_body is not None
        assert "invalid_client" in error.response_body

    @pytest.mark.parametrize(
        "break_it",
        [
            pytest.param(lambda pool: pool.offline(), id="no connection"),
            pytest.param(lambda pool: pool.fail("token", reset=True), id="connection reset"),
            pytest.param(lambda pool: pool.fail("token", cut_off=True), id="cut off in the middle"),
        ],
    )
    def test_connection_error_is_the_cause(
        self, client: CognitoM2MClient, pool: LocalUserPool, break_it: Callable[[LocalUserPool], Any]
    ) -> None:
        break_it(pool)
        error = failure_of(client)
        assert isinstance(error.__cause__, requests.RequestException)
        assert (error.status_code, error.error_code, error.response_body) == (None, None, None)

    def test_closed_port_is_a_connection_error(self) -> None:
        with socket.socket() as closed:
            closed.bind(("127.0.0.1", 0))
            url = f"http://127.0.0.1:{closed.getsockname()[1]}/oauth2/token"
            client = CognitoM2MClient(token_url=url, client_id="a", client_secret="b")
            assert isinstance(failure_of(client, timeout=2).__cause__, requests.ConnectionError)


class TestStricterClient:
    """Intended differences from 0.1."""

    def test_response_body_holds_no_token_or_secret(
        self, client: CognitoM2MClient, pool: LocalUserPool
    ) -> None:
        secret = pool.client().secret
        pool.answer("token", {"access_token": "s3cret", "error": f"you sent {secret}"})
        error = failure_of(client)
        assert error.response_body is not None
        assert "s3cret" not in error.response_body
        assert secret not in error.response_body

    def test_redirects_are_not_followed(self, client: CognitoM2MClient, pool: LocalUserPool) -> None:
        pool.fail("token", status=307, headers={"Location": f"{pool.url}/elsewhere"})
        assert failure_of(client).status_code == 307
        assert pool.count("other") == 0

    @pytest.mark.parametrize("token", ["abc\r\nX: y", "abc def", "é"])
    def test_token_that_is_no_header_value_is_an_error(
        self, client: CognitoM2MClient, pool: LocalUserPool, token: str
    ) -> None:
        pool.answer("token", {"access_token": token})
        assert failure_of(client).status_code == 200

    def test_expires_in_must_not_be_a_bool(self, client: CognitoM2MClient, pool: LocalUserPool) -> None:
        pool.answer("token", {"access_token": "abc", "expires_in": True})
        assert failure_of(client).status_code == 200

    def test_duplicate_scope_is_sent_once(self, client: CognitoM2MClient, pool: LocalUserPool) -> None:
        client.fetch_token(scopes="a/read a/read")
        assert pool.requests[0].form["scope"] == "a/read"


class TestValidator:
    def test_derives_issuer_and_jwks_url_as_0_1_does(self) -> None:
        validator = CognitoAccessTokenValidator(region="us-west-2", user_pool_id="us-west-2_AbCdEfGhI")
        assert validator.region == "us-west-2"
        assert validator.user_pool_id == "us-west-2_AbCdEfGhI"
        assert validator.issuer == "https://cognito-idp.us-west-2.amazonaws.com/us-west-2_AbCdEfGhI"
        assert validator.jwks_url == f"{validator.issuer}/.well-known/jwks.json"

    def test_has_its_policy_as_attributes(self) -> None:
        validator = CognitoAccessTokenValidator(
            region="us-west-2",
            user_pool_id="us-west-2_AbCdEfGhI",
            allowed_client_ids=["a", "b", "a"],
            required_scopes=["x", "y"],
            scope_match="any",
            audience="orders",
        )
        assert validator.allowed_client_ids == frozenset({"a", "b"})
        assert validator.required_scopes == frozenset({"x", "y"})
        assert (validator.scope_match, validator.audience) == ("any", "orders")

    def test_arguments_are_keyword_only(self) -> None:
        with pytest.raises(TypeError):
            CognitoAccessTokenValidator("us-west-2", "us-west-2_AbCdEfGhI")  # type: ignore[misc]

    @pytest.mark.parametrize("scope_match", ["some", "ALL", "", None])
    def test_unknown_scope_match_is_a_value_error(self, scope_match: Any) -> None:
        with pytest.raises(ValueError, match="scope_match must be 'all' or 'any'"):
            CognitoAccessTokenValidator(
                region="us-west-2", user_pool_id="us-west-2_AbCdEfGhI", scope_match=scope_match
            )

    def test_makes_no_request_before_the_first_token(self, pool: LocalUserPool) -> None:
        validator_of(pool)
        assert pool.count() == 0

    def test_returns_client_scopes_and_claims(self, pool: LocalUserPool) -> None:
        validated = validator_of(pool).validate(pool.token("a/read b/write", "billing"))
        assert validated.client_id == "billing"
        assert validated.scopes == frozenset({"a/read", "b/write"})
        assert validated.claims["client_id"] == "billing"
        assert validated.claims["iss"] == pool.issuer

    def test_accepts_user_access_tokens(self, pool: LocalUserPool) -> None:
        assert validator_of(pool).validate(pool.user_token()).claims["username"] == "ada"

    @pytest.mark.parametrize("scope", [None, "", " "])
    def test_token_without_scopes_is_accepted(self, pool: LocalUserPool, scope: str | None) -> None:
        assert validator_of(pool).validate(pool.token(scope=scope)).scopes == frozenset()

    @pytest.mark.parametrize(
        ("allowed", "accepted"),
        [(None, True), (["billing"], True), ({"billing": 1}, True), (["x"], False), ([], False)],
    )
    def test_allowed_clients(self, pool: LocalUserPool, allowed: Any, accepted: bool) -> None:
        token = pool.token(client_id="billing")
        if accepted:
            validator_of(pool, allowed_client_ids=allowed).validate(token)
        else:
            assert "not allowed" in str(rejection_of(pool, token, allowed_client_ids=allowed))

    @pytest.mark.parametrize(
        ("match", "scopes", "is_enough"),
        [("all", "a b", True), ("all", "a", False), ("any", "a", True), ("any", "c", False)],
    )
    def test_required_scopes(self, pool: LocalUserPool, match: str, scopes: str, is_enough: bool) -> None:
        named: dict[str, Any] = {"required_scopes": ["a", "b"], "scope_match": match}
        if is_enough:
            validator_of(pool, **named).validate(pool.token(scopes))
            return
        error = rejection_of(pool, pool.token(scopes), **named)
        assert isinstance(error, InsufficientScopeError)
        assert (error.token_scopes, error.required_scopes) == (frozenset(scopes.split()), frozenset("ab"))

    @pytest.mark.parametrize(
        ("aud", "accepted"), [("orders", True), (["x", "orders"], True), ("x", False), (None, False)]
    )
    def test_audience(self, pool: LocalUserPool, aud: Any, accepted: bool) -> None:
        if accepted:
            validator_of(pool, audience="orders").validate(pool.token(aud=aud))
        else:
            rejection_of(pool, pool.token(aud=aud), audience="orders")
        validator_of(pool).validate(pool.token(aud=aud))

    def test_text_for_an_expired_token_has_the_word(self, pool: LocalUserPool) -> None:
        assert "expired" in str(rejection_of(pool, pool.token(expires_in=-1)))

    @pytest.mark.parametrize(
        "make",
        [
            pytest.param(lambda pool: "nonsense", id="not a token"),
            pytest.param(lambda pool: "", id="empty text"),
            pytest.param(lambda pool: None, id="None"),
            pytest.param(lambda pool: pool.token(headers={"kid": "x"}), id="an unknown key"),
            pytest.param(lambda pool: pool.token(headers={"kid": None}), id="no kid"),
            pytest.param(lambda pool: pool.token(headers={"alg": "HS256"}), id="another algorithm"),
            pytest.param(lambda pool: pool.token()[:-8] + "AAAAAAAA", id="an invalid signature"),
            pytest.param(lambda pool: pool.token(iss="https://x.example"), id="another issuer"),
            pytest.param(lambda pool: pool.token(iss=None), id="no issuer"),
            pytest.param(lambda pool: pool.token(exp=None), id="no exp"),
            pytest.param(lambda pool: pool.token(iat=None), id="no iat"),
            pytest.param(lambda pool: pool.token(nbf=2**40), id="not valid yet"),
            pytest.param(lambda pool: pool.token(token_use=None), id="no token_use"),
            pytest.param(lambda pool: pool.id_token(), id="an ID token"),
            pytest.param(lambda pool: pool.token(without="client_id"), id="no client_id"),
            pytest.param(lambda pool: pool.sign({"iss": pool.issuer}), id="only an issuer"),
            pytest.param(lambda pool: pool.token(client_id=""), id="an empty client_id"),
            pytest.param(lambda pool: pool.token(scope=["a"]), id="a scope that is not text"),
        ],
    )
    def test_invalid_token_raises_token_validation_error(
        self, pool: LocalUserPool, make: Callable[[LocalUserPool], Any]
    ) -> None:
        error = rejection_of(pool, make(pool))
        assert type(error) is TokenValidationError
        assert str(error)


class TestStricterValidator:
    """Intended differences from 0.1."""

    def test_unavailable_keys_are_not_a_token_validation_error(self, pool: LocalUserPool) -> None:
        with pool.offline(), pytest.raises(KeysUnavailableError) as raised:
            validator_of(pool).validate(pool.token())
        assert isinstance(raised.value, M2MCognitoError)
        assert not isinstance(raised.value, TokenValidationError)

    def test_iat_is_not_compared_with_the_clock(self, pool: LocalUserPool) -> None:
        validator_of(pool).validate(pool.token(iat=int(time.time()) + 300))

    def test_times_must_be_numbers(self, pool: LocalUserPool) -> None:
        assert rejection_of(pool, pool.token(exp=str(int(time.time()) + 300))).reason == "malformed"

    def test_only_a_space_separates_scopes(self, pool: LocalUserPool) -> None:
        validated = validator_of(pool).validate(pool.token(scope="a\tb"))
        assert validated.scopes == {"a\tb"}

    def test_issuer_uses_the_suffix_of_the_partition(self) -> None:
        validator = CognitoAccessTokenValidator(region="cn-north-1", user_pool_id="cn-north-1_AbCdEfGhI")
        assert validator.issuer == "https://cognito-idp.cn-north-1.amazonaws.com.cn/cn-north-1_AbCdEfGhI"


class TestValidatedAccessToken:
    def test_is_a_frozen_dataclass_of_three_fields(self) -> None:
        validated = ValidatedAccessToken("billing", frozenset({"a"}), {"sub": "billing"})
        assert [field.name for field in dataclasses.fields(validated)] == ["client_id", "scopes", "claims"]
        assert validated == ValidatedAccessToken(
            client_id="billing", scopes=frozenset({"a"}), claims={"sub": "billing"}
        )
        with pytest.raises(dataclasses.FrozenInstanceError):
            validated.scopes = frozenset()  # type: ignore[misc]

    def test_can_be_pickled(self) -> None:
        validated = ValidatedAccessToken("billing", frozenset({"a"}), {"sub": "billing", "deep": [1]})
        assert pickle.loads(pickle.dumps(validated)) == validated


class TestExceptions:
    def test_token_request_error_can_be_created(self) -> None:
        bare = CognitoTokenRequestError("text")
        assert (str(bare), bare.status_code, bare.error_code) == ("text", None, None)
        assert (bare.error_description, bare.response_body) == (None, None)
        full = CognitoTokenRequestError(
            "text", status_code=400, error_code="invalid_client", error_description="x", response_body="{}"
        )
        assert (full.status_code, full.error_code, full.error_description, full.response_body) == (
            400,
            "invalid_client",
            "x",
            "{}",
        )
        with pytest.raises(TypeError):
            CognitoTokenRequestError("text", 400)  # type: ignore[misc]

    def test_insufficient_scope_error_can_be_created(self) -> None:
        error = InsufficientScopeError(
            "text", token_scopes=frozenset({"a"}), required_scopes=frozenset({"a", "b"})
        )
        assert (str(error), error.token_scopes, error.required_scopes) == ("text", {"a"}, {"a", "b"})
        with pytest.raises(TypeError):
            InsufficientScopeError("text")  # type: ignore[call-arg]
        with pytest.raises(TypeError):
            InsufficientScopeError("text", frozenset(), frozenset())  # type: ignore[misc]

    @pytest.mark.parametrize("error", [M2MCognitoError, TokenValidationError])
    def test_plain_errors_can_be_created(self, error: type[Exception]) -> None:
        assert (str(error("text")), error("text").args) == ("text", ("text",))
        assert str(error()) == ""

    def test_base_class_catches_all_errors(self, pool: LocalUserPool, client: CognitoM2MClient) -> None:
        validator = validator_of(pool, required_scopes=["admin"])
        calls: list[Callable[[], object]] = [
            lambda: client.fetch_token(scopes=""),
            lambda: validator.validate("nonsense"),
            lambda: validator.validate(pool.token("a/read")),
        ]
        for call in calls:
            with pytest.raises(M2MCognitoError):
                call()


def test_program_for_0_1_works_with_a_changed_import(pool: LocalUserPool) -> None:
    """Two services as users of 0.1 write them: one fetches a token and calls, the other validates it."""
    secret = pool.add_client("orders").secret
    client = CognitoM2MClient(token_url=pool.token_url, client_id="orders", client_secret=secret)
    validator = validator_of(pool, allowed_client_ids={"orders"}, required_scopes=["inventory/read"])

    def answer(authorization: str) -> tuple[int, str]:
        try:
            token = validator.validate(authorization.removeprefix("Bearer "))
        except InsufficientScopeError as error:
            return 403, " ".join(sorted(error.required_scopes - error.token_scopes))
        except TokenValidationError as error:
            return 401, str(error)
        return 200, token.client_id

    def call(scopes: list[str]) -> tuple[int, str]:
        try:
            response = client.fetch_token(scopes=scopes, timeout=5)
        except CognitoTokenRequestError as error:
            return error.status_code or 502, error.error_code or ""
        return answer(f"{response.token_type} {response.access_token}")

    assert call(["inventory/read", "inventory/write"]) == (200, "orders")
    assert call(["inventory/write"]) == (403, "inventory/read")
    assert answer("Bearer nonsense")[0] == 401
    assert "expired" in answer(f"Bearer {pool.token(client_id='orders', expires_in=-1)}")[1]
    pool.set_secrets("orders", "another secret")
    assert call(["inventory/read"]) == (400, "invalid_client")
