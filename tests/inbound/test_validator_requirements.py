"""A service's requirements for tokens, the order of the checks, and the trusted issuers."""

from __future__ import annotations

import itertools
import json
import logging
import re
from base64 import urlsafe_b64decode
from concurrent.futures import Future
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key

from flask_m2m_cognito import (
    ConfigurationError,
    InsufficientScopeError,
    KeysUnavailableError,
    TokenValidationError,
    ValidatedAccessToken,
)
from flask_m2m_cognito.inbound.claims_policy import CHECKS, failed_check
from flask_m2m_cognito.inbound.key_source import trusted_pool_from
from flask_m2m_cognito.inbound.user_pool import UserPool, user_pool_from
from flask_m2m_cognito.remote.refreshable import Refreshing
from flask_m2m_cognito.testing import LocalUserPool
from tests.inbound.trusted import at_once, reason_of, trusted, validator_of
from tests.support.clocks import NOW, Clocks


class Promise:
    """As the coroutine of an async function: true, but not computed yet."""

    def __await__(self) -> Any:
        return iter(())


class Undecided:
    """As an array of several elements: bool() of it raises."""

    def __bool__(self) -> bool:
        raise ValueError("the truth of an array is ambiguous")


class FalseLikeNumpys:
    """A false value that is not ``False`` itself."""

    def __bool__(self) -> bool:
        return False


async def later() -> Any:
    yield True


NO_TRUE_ANSWERS = [
    pytest.param(False, id="False"),
    pytest.param(None, id="None"),
    pytest.param(0, id="0"),
    pytest.param("", id="empty text"),
    pytest.param([], id="an empty list"),
    pytest.param({}, id="an empty dict"),
    pytest.param(re.match("acme", "local-client"), id="no match"),
    pytest.param(FalseLikeNumpys(), id="numpy's False"),
    pytest.param(Undecided(), id="an array of two"),
    pytest.param(NotImplemented, id="NotImplemented"),
    pytest.param(Promise(), id="an awaitable"),
    pytest.param((each for each in "ab"), id="a generator"),
    pytest.param(filter(None, "ab"), id="a filter"),
    pytest.param(later(), id="an async generator"),
    pytest.param(Future(), id="a future"),
]


class TestRequirements:
    @pytest.mark.parametrize(
        "allowed",
        [
            pytest.param(["local-client", "other"], id="a list"),
            pytest.param(frozenset({"local-client"}), id="a set"),
            pytest.param(lambda client_id: client_id == "local-client", id="a callable"),
            pytest.param(None, id="any"),
        ],
    )
    def test_allowed_client_is_accepted(self, pool: LocalUserPool, allowed: Any) -> None:
        assert (
            validator_of(pool, allowed_client_ids=allowed).validate(pool.token()).client_id == "local-client"
        )

    @pytest.mark.parametrize(
        "allowed",
        [
            pytest.param(["other", "local-client2", "LOCAL-CLIENT"], id="a list of others"),
            pytest.param([], id="an empty list"),
            pytest.param(lambda client_id: False, id="a callable that returns False"),
        ],
    )
    def test_other_client_is_rejected(self, pool: LocalUserPool, allowed: Any) -> None:
        assert reason_of(validator_of(pool, allowed_client_ids=allowed), pool.token()) == "client_not_allowed"

    def test_callable_for_clients_runs_on_every_request(self, pool: LocalUserPool) -> None:
        answers = iter([True, False, True])
        validator = validator_of(pool, allowed_client_ids=lambda client_id: next(answers))
        token = pool.token()
        validator.validate(token)
        assert reason_of(validator, token) == "client_not_allowed"
        validator.validate(token)

    @pytest.mark.parametrize(
        ("required", "aud"),
        [
            pytest.param("orders", "orders", id="text and text"),
            pytest.param("orders", ["stock", "orders"], id="text and a list"),
            pytest.param(["orders", "stock"], "stock", id="a list and text"),
            pytest.param({"orders", "stock"}, ["other", "stock"], id="a set and a list"),
            pytest.param("orders", ["orders", 7, None], id="a list with more than text"),
            pytest.param(None, "other", id="not checked"),
        ],
    )
    def test_matching_audience_is_accepted(self, pool: LocalUserPool, required: Any, aud: Any) -> None:
        assert validator_of(pool, audience=required).validate(pool.token(aud=aud)).aud == aud

    @pytest.mark.parametrize(
        ("required", "aud"),
        [
            pytest.param("orders", "other", id="another"),
            pytest.param("orders", None, id="none"),
            pytest.param("orders", "", id="empty text"),
            pytest.param("orders", [], id="empty list"),
            pytest.param("orders", "orders2", id="a longer one"),
            pytest.param("orders", "order", id="a shorter one"),
            pytest.param("orders", "Orders", id="another case"),
            pytest.param("orders", ["orders2"], id="a list with another"),
            pytest.param("orders", [["orders"]], id="a list in a list"),
            pytest.param("orders", {"orders": 1}, id="an object"),
            pytest.param("7", 7, id="a number"),
            pytest.param("", None, id="empty text is required, and there is no aud"),
            pytest.param([], "orders", id="an empty list is required"),
        ],
    )
    def test_other_audience_is_rejected(self, pool: LocalUserPool, required: Any, aud: Any) -> None:
        assert reason_of(validator_of(pool, audience=required), pool.token(aud=aud)) == "wrong_audience"

    @pytest.mark.parametrize(
        ("scopes", "match", "is_enough"),
        [
            pytest.param("a b", "all", True, id="all of all"),
            pytest.param("a b c", "all", True, id="more than all"),
            pytest.param("a", "all", False, id="one of all"),
            pytest.param("a", "any", True, id="one of any"),
            pytest.param("c", "any", False, id="another of any"),
            pytest.param("A B", "all", False, id="another case"),
            pytest.param("a\tb", "all", False, id="with a tab between"),
            pytest.param("a\u00a0b", "any", False, id="with a no-break space between"),
        ],
    )
    def test_required_scopes_are_checked(
        self, pool: LocalUserPool, scopes: str, match: Any, is_enough: bool
    ) -> None:
        validator = validator_of(pool, required_scopes=["a", "b"], scope_match=match)
        token = pool.token(scope=scopes)
        if is_enough:
            assert validator.validate(token).scopes == set(scopes.split(" "))
            return
        with pytest.raises(InsufficientScopeError) as raised:
            validator.validate(token)
        assert raised.value.reason == "insufficient_scope"
        assert raised.value.token_scopes == set(scopes.split(" "))
        assert raised.value.required_scopes == {"a", "b"}

    @pytest.mark.parametrize(
        "answer",
        [
            pytest.param(True, id="True"),
            pytest.param(1, id="1"),
            pytest.param(["billing"], id="a list with something in it"),
            pytest.param(re.match("local", "local-client"), id="a match"),
        ],
    )
    def test_token_is_accepted_if_token_check_returns_true(self, pool: LocalUserPool, answer: object) -> None:
        seen: list[ValidatedAccessToken] = []

        def check(token: ValidatedAccessToken) -> object:
            seen.append(token)
            return answer

        assert [validator_of(pool, token_check=check).validate(pool.token())] == seen

    @pytest.mark.parametrize("answer", NO_TRUE_ANSWERS)
    def test_own_check_without_a_true_answer_rejects(self, pool: LocalUserPool, answer: object) -> None:
        def check(subject: object) -> Any:
            return answer

        assert reason_of(validator_of(pool, token_check=check), pool.token()) == "rejected_by_check"
        assert reason_of(validator_of(pool, allowed_client_ids=check), pool.token()) == "client_not_allowed"

    @pytest.mark.parametrize(
        ("setting", "reason"),
        [("token_check", "rejected_by_check"), ("allowed_client_ids", "client_not_allowed")],
    )
    @pytest.mark.parametrize(
        ("error", "text"),
        [
            pytest.param(KeyError("tenant"), None, id="any error"),
            pytest.param(KeysUnavailableError("keys"), None, id="another of ours"),
            pytest.param(
                TokenValidationError("Not today.", reason="expired"), "Not today.", id="one of ours"
            ),
            pytest.param(TokenValidationError(), None, id="one of ours without a text"),
            pytest.param(
                InsufficientScopeError("Few.", token_scopes=frozenset(), required_scopes=frozenset("a")),
                "Few.",
                id="one of ours about scopes",
            ),
        ],
    )
    def test_own_check_that_raises_rejects(
        self, pool: LocalUserPool, setting: str, reason: str, error: Exception, text: str | None
    ) -> None:
        def check(subject: object) -> bool:
            raise error

        with pytest.raises(TokenValidationError) as raised:
            validator_of(pool, **{setting: check}).validate(pool.token())
        assert (type(raised.value), raised.value.reason) == (TokenValidationError, reason)
        assert raised.value.__cause__ is error
        expected = (
            text or "The client is not allowed .*|The access token was rejected by an additional check .*"
        )
        assert re.fullmatch(expected, str(raised.value))

    def test_failing_own_check_is_logged_ten_times_a_minute(
        self, pool: LocalUserPool, clocks: Clocks, caplog: pytest.LogCaptureFixture
    ) -> None:
        def check(token: ValidatedAccessToken) -> bool:
            return bool(token.claims["tenant"])

        def records() -> list[logging.LogRecord]:
            return [each for each in caplog.records if getattr(each, "setting", None) == "TOKEN_CHECK"]

        validator, token = validator_of(pool, clocks=clocks, token_check=check), pool.token()
        for _ in range(12):
            reason_of(validator, token)
        clocks.advance(59)
        reason_of(validator, token)
        assert len(records()) == 10
        clocks.advance(1)
        reason_of(validator, token)
        assert len(records()) == 11
        assert "in check" in caplog.text
        assert "KeyError: 'tenant'" in caplog.text

    @pytest.mark.parametrize("error", [TokenValidationError("No."), LookupError()])
    def test_answer_raised_by_an_own_check_is_not_logged(
        self, pool: LocalUserPool, caplog: pytest.LogCaptureFixture, error: Exception
    ) -> None:
        def check(token: ValidatedAccessToken) -> bool:
            raise error

        reason_of(validator_of(pool, token_check=check, answers=(LookupError,)), pool.token())
        assert not caplog.records

    def test_token_check_runs_on_every_request(self, pool: LocalUserPool) -> None:
        seen: list[str] = []
        validator = validator_of(pool, token_check=lambda token: seen.append(token.client_id) or True)
        token = pool.token()
        for _ in range(3):
            validator.validate(token)
        assert seen == ["local-client"] * 3

    @pytest.mark.parametrize("scope", ["a/read,a/write", "a b", ""])
    def test_invalid_required_scope_is_a_value_error(self, pool: LocalUserPool, scope: str) -> None:
        with pytest.raises(ValueError, match="comma"):
            validator_of(pool, required_scopes=["a/read", scope])

    def test_invalid_match_is_a_value_error(self, pool: LocalUserPool) -> None:
        with pytest.raises(ValueError, match="scope_match"):
            validator_of(pool, scope_match="some")


DEFECTS: dict[str, dict[str, Any]] = {
    # In the order of the checks.
    "The token is not an access token.": {"token_use": "id"},
    "The access token's exp, iat or nbf is missing or invalid.": {"exp": "soon"},
    "The access token has expired.": {"exp": NOW - 100},
    "The access token is not yet valid.": {"nbf": NOW + 100},
    "The access token has no valid client_id.": {"client_id": 7},
    "The access token's sub must be a string.": {"sub": 7},
    "User access tokens are not accepted; use a client-credentials token.": {"username": "ada"},
    "The access token's scope must be a string.": {"scope": 7},
    "The client is not allowed to call this service.": {"client_id": "stranger", "sub": "stranger"},
    "The access token is for a different audience.": {"aud": "other"},
    "The access token lacks one or more required scopes.": {"scope": "other/read"},
    "The access token was rejected by an additional check of this service.": {"tenant": "other"},
}
"""The message of each check of a claim, and claims that fail it."""

PAIRS = [
    pytest.param(DEFECTS[first] | DEFECTS[second], first, id=f"{first} before {second}")
    for first, second in itertools.combinations(DEFECTS, 2)
    if not DEFECTS[first].keys() & DEFECTS[second].keys()
]


class TestOrder:
    @pytest.mark.parametrize(("claims", "text"), PAIRS)
    def test_earlier_check_rejects_a_token_with_two_defects(
        self, pool: LocalUserPool, claims: dict[str, Any], text: str
    ) -> None:
        valid = json.loads(urlsafe_b64decode(pool.token("inventory/read", aud="orders").split(".")[1] + "=="))
        validator = validator_of(
            pool,
            allowed_client_ids=["local-client"],
            required_scopes=["inventory/read"],
            audience="orders",
            machine_tokens_only=True,
            token_check=lambda token: "tenant" not in token.claims,
        )
        validator.validate(pool.sign(valid))
        with pytest.raises(TokenValidationError) as raised:
            validator.validate(pool.sign({**valid, **claims}))
        assert str(raised.value) == text

    def test_failed_check_is_found_by_its_rejection(self) -> None:
        assert [failed_check(check.build_rejection()) for check in CHECKS] == list(CHECKS)

    def test_signature_is_checked_before_claims_except_issuer(self, pool: LocalUserPool) -> None:
        forgers_key = generate_private_key(public_exponent=65537, key_size=2048)
        claims = {name: value for defect in DEFECTS.values() for name, value in defect.items()}
        assert reason_of(validator_of(pool), pool.sign({"iss": pool.issuer, **claims}, key=forgers_key)) == (
            "bad_signature"
        )


class TestTimes:
    @pytest.mark.parametrize(
        ("claims", "leeway", "reason"),
        [
            pytest.param({"exp": NOW + 1}, 0, None, id="a second left"),
            pytest.param({"exp": NOW}, 0, "expired", id="expires now"),
            pytest.param({"exp": NOW - 9}, 10, None, id="expired within the leeway"),
            pytest.param({"exp": NOW - 10}, 10, "expired", id="expired as long ago as the leeway"),
            pytest.param({"exp": NOW - 11}, 10, "expired", id="expired before the leeway"),
            pytest.param({"exp": NOW - 0.25}, 0.5, None, id="expired within a fraction of the leeway"),
            pytest.param({"nbf": NOW}, 0, None, id="becomes valid now"),
            pytest.param({"nbf": NOW + 1}, 0, "not_yet_valid", id="becomes valid in a second"),
            pytest.param({"nbf": NOW + 10}, 10, None, id="becomes valid at the end of the leeway"),
            pytest.param({"nbf": NOW + 11}, 10, "not_yet_valid", id="becomes valid after the leeway"),
        ],
    )
    def test_leeway_applies_to_exp_and_nbf(
        self, pool: LocalUserPool, claims: dict[str, Any], leeway: float, reason: str | None
    ) -> None:
        validator = validator_of(pool, leeway=leeway)
        token = pool.token(**claims)
        if reason is None:
            validator.validate(token)
        else:
            assert reason_of(validator, token) == reason

    def test_early_token_is_valid_once_nbf_is_reached(self, pool: LocalUserPool, clocks: Clocks) -> None:
        validator = validator_of(pool, clocks=clocks)
        token = pool.token(nbf=NOW + 60)
        assert reason_of(validator, token) == "not_yet_valid"
        clocks.advance(60)
        validator.validate(token)


class TestIssuers:
    def test_each_issuer_of_a_pool_is_accepted(self, pool: LocalUserPool, clocks: Clocks) -> None:
        forms = (pool.issuer, f"https://issuer-cognito-idp.us-east-1.amazonaws.com/{pool.pool_id}")
        both = trusted_pool_from(
            UserPool(pool.pool_id, pool.region, forms, (pool.jwks_url,)),
            refreshing=Refreshing(clocks.clock, start_thread=at_once),
        )
        validator = validator_of(both, clocks=clocks)
        assert [validator.validate(pool.token(iss=form)).iss for form in forms] == list(forms)
        assert validator.issuers == forms

    def test_second_host_serves_keys_if_the_first_is_down(self, pool: LocalUserPool, clocks: Clocks) -> None:
        with LocalUserPool() as first:
            first.fail("jwks", status=500)
            both = trusted_pool_from(
                UserPool(pool.pool_id, pool.region, (pool.issuer,), (first.jwks_url, pool.jwks_url)),
                refreshing=Refreshing(clocks.clock, start_thread=at_once),
            )
            validator_of(both, clocks=clocks).validate(pool.token())
            assert (first.count("jwks"), pool.count("jwks")) == (1, 1)

    def test_tokens_are_verified_with_the_keys_of_their_pool(
        self, pool: LocalUserPool, own_pool: LocalUserPool
    ) -> None:
        validator = validator_of(pool, own_pool)
        assert validator.validate(pool.token()).iss == pool.issuer
        assert validator.validate(own_pool.token()).iss == own_pool.issuer
        assert (pool.count("jwks"), own_pool.count("jwks")) == (1, 1)
        assert (validator.issuer, validator.jwks_url) == (pool.issuer, pool.jwks_url)
        assert validator.issuers == (pool.issuer, own_pool.issuer)

    def test_key_of_one_pool_is_not_valid_for_another_pool(
        self, pool: LocalUserPool, own_pool: LocalUserPool
    ) -> None:
        validator = validator_of(pool, own_pool)
        validator.validate(own_pool.token())
        assert reason_of(validator, own_pool.token(iss=pool.issuer)) == "unknown_key"
        posing = own_pool.token(iss=pool.issuer, headers={"kid": pool.kid})
        assert reason_of(validator, posing) == "bad_signature"

    @pytest.mark.parametrize("other_is", ["well", "down"])
    def test_long_token_may_mention_another_pool(
        self, pool: LocalUserPool, own_pool: LocalUserPool, clocks: Clocks, other_is: str
    ) -> None:
        if other_is == "down":
            own_pool.fail("jwks", status=500)
        validator = validator_of(trusted(own_pool, clocks), trusted(pool, clocks), clocks=clocks)
        token = pool.token(partner={"iss": own_pool.issuer}, rows=list(range(500)))
        assert validator.validate(token).iss == pool.issuer

    def test_long_token_with_another_pools_issuer_is_rejected(
        self, pool: LocalUserPool, own_pool: LocalUserPool
    ) -> None:
        validator = validator_of(pool, own_pool)
        posing = own_pool.token(iss=pool.issuer, own={"iss": own_pool.issuer}, rows=list(range(500)))
        assert reason_of(validator, posing) in ("wrong_issuer", "unknown_key")

    def test_two_pools_with_the_same_issuer_are_an_error(
        self, pool: LocalUserPool, own_pool: LocalUserPool, clocks: Clocks
    ) -> None:
        other = user_pool_from(own_pool.pool_id, issuer=pool.issuer, jwks_url=own_pool.jwks_url)
        with pytest.raises(ConfigurationError, match="have the same issuer"):
            validator_of(trusted(pool, clocks), trusted_pool_from(other))

    def test_untrusted_pool_is_a_wrong_issuer(self, pool: LocalUserPool, own_pool: LocalUserPool) -> None:
        assert reason_of(validator_of(pool), own_pool.token()) == "wrong_issuer"
        assert own_pool.count() == 0

    def test_unavailable_pool_does_not_affect_other_pools(
        self, pool: LocalUserPool, own_pool: LocalUserPool, clocks: Clocks
    ) -> None:
        own_pool.fail("jwks", status=500)
        validator = validator_of(trusted(own_pool, clocks), trusted(pool, clocks), clocks=clocks)
        validator.validate(pool.token())
        assert own_pool.count() == 0
