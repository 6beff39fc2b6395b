"""When keys are fetched, what an unknown ``kid`` causes, and what is answered while there are no keys."""

from __future__ import annotations

from typing import Any

import pytest
from cachelib import SimpleCache

from flask_m2m_cognito import (
    CognitoAccessTokenValidator,
    KeysUnavailableError,
    TokenValidationError,
    ValidatedAccessToken,
)
from flask_m2m_cognito.inbound.key_set import parse_key_set
from flask_m2m_cognito.inbound.key_source import KeyTimes, TrustedPool
from flask_m2m_cognito.remote.bounded_backend import BoundedBackend
from flask_m2m_cognito.remote.sealed_store import Seal, SealedStore
from flask_m2m_cognito.testing import LocalUserPool
from tests.inbound.trusted import trusted, validator_of
from tests.support.clocks import Clocks
from tests.support.threads import together

LONG = 10**6  # seconds: tokens outlive all keys here
COOLDOWN, FRESH_FOR, USABLE_FOR = 10, 3600, 86400


def answer_to(validator: CognitoAccessTokenValidator, token: str) -> str:
    """``"good"``, or the reason why not."""
    try:
        validator.validate(token)
    except (TokenValidationError, KeysUnavailableError) as error:
        return error.reason
    return "good"


def is_recalled(validator: CognitoAccessTokenValidator, token: str) -> bool:
    """Whether ``token`` is remembered, with keys and claims as they were."""
    return isinstance(validator.recall(token), ValidatedAccessToken)


class TestColdStart:
    def test_keys_are_fetched_at_first_use_and_once(self, pool: LocalUserPool) -> None:
        validator = validator_of(pool)
        assert pool.count() == 0
        assert [answer_to(validator, pool.token()) for _ in range(5)] == ["good"] * 5
        assert (pool.count("jwks"), pool.count()) == (1, 1)

    def test_without_keys_nothing_can_be_said_of_a_token(self, pool: LocalUserPool) -> None:
        pool.fail("jwks", status=500, headers={"Retry-After": "7"})
        with pytest.raises(KeysUnavailableError) as raised:
            validator_of(pool).validate(pool.token())
        assert (raised.value.reason, raised.value.retry_after) == ("keys_unavailable", 7)
        assert not isinstance(raised.value, TokenValidationError)
        assert raised.value.__cause__ is not None

    def test_its_download_answers_for_an_unknown_kid_and_does_not_begin_the_cooldown(
        self, own_pool: LocalUserPool, clocks: Clocks
    ) -> None:
        validator = validator_of(own_pool, clocks=clocks)
        assert answer_to(validator, own_pool.token(headers={"kid": "unknown"})) == "unknown_key"
        assert own_pool.count("jwks") == 1
        own_pool.rotate_key()
        # Not at the same instant: then the download would count as this token's own.
        clocks.advance(0.001)
        assert answer_to(validator, own_pool.token()) == "good"
        assert own_pool.count("jwks") == 2


class TestUnknownKid:
    @pytest.fixture
    def validator(self, own_pool: LocalUserPool, clocks: Clocks) -> CognitoAccessTokenValidator:
        """One that has had keys for a minute."""
        validator = validator_of(own_pool, clocks=clocks)
        validator.validate(own_pool.token())
        clocks.advance(60)
        own_pool.clear_requests()
        return validator

    def test_a_new_key_is_accepted_on_its_first_request(
        self, validator: CognitoAccessTokenValidator, own_pool: LocalUserPool
    ) -> None:
        old = own_pool.token()
        own_pool.rotate_key()
        assert [answer_to(validator, token) for token in (own_pool.token(), old)] == ["good", "good"]
        assert own_pool.count("jwks") == 1

    def test_a_key_that_came_within_the_cooldown_is_accepted_after_it(
        self, validator: CognitoAccessTokenValidator, own_pool: LocalUserPool, clocks: Clocks
    ) -> None:
        answer_to(validator, own_pool.token(headers={"kid": "unknown"}))
        own_pool.rotate_key()
        assert answer_to(validator, own_pool.token()) == "unknown_key"
        clocks.advance(COOLDOWN)
        assert answer_to(validator, own_pool.token()) == "good"

    def test_after_a_failed_download_the_key_may_be_new_and_the_token_good(
        self, validator: CognitoAccessTokenValidator, own_pool: LocalUserPool, clocks: Clocks
    ) -> None:
        known = own_pool.token(expires_in=LONG)
        own_pool.rotate_key()
        own_pool.fail("jwks", status=500)
        answers = [answer_to(validator, own_pool.token()) for _ in range(3)]
        assert answers == ["keys_unavailable"] * 3
        assert own_pool.count("jwks") == 1
        # Those that are held go on.
        assert answer_to(validator, known) == "good"
        assert answer_to(validator, own_pool.token(key=own_pool.kids[0])) == "good"

    def test_a_failed_download_begins_the_cooldown_too(
        self, validator: CognitoAccessTokenValidator, own_pool: LocalUserPool, clocks: Clocks
    ) -> None:
        own_pool.rotate_key()
        with own_pool.fail("jwks", status=500):
            answer_to(validator, own_pool.token())
        clocks.advance(COOLDOWN - 1)
        assert answer_to(validator, own_pool.token()) == "keys_unavailable"
        assert own_pool.count("jwks") == 1
        clocks.advance(1)
        assert answer_to(validator, own_pool.token()) == "good"

    def test_the_answer_follows_the_last_download(
        self, validator: CognitoAccessTokenValidator, own_pool: LocalUserPool, clocks: Clocks
    ) -> None:
        token = own_pool.token(headers={"kid": "unknown"})
        answers = []
        for is_down in (False, True, False):
            own_pool.fail("jwks", status=500) if is_down else own_pool.recover()
            answers += [answer_to(validator, token), answer_to(validator, token)]
            clocks.advance(COOLDOWN)
        assert answers == ["unknown_key"] * 2 + ["keys_unavailable"] * 2 + ["unknown_key"] * 2

    def test_retry_after_is_what_the_failed_download_said(
        self, validator: CognitoAccessTokenValidator, own_pool: LocalUserPool
    ) -> None:
        own_pool.fail("jwks", status=503, headers={"Retry-After": "120"})
        with pytest.raises(KeysUnavailableError) as raised:
            validator.validate(own_pool.token(headers={"kid": "unknown"}))
        assert raised.value.retry_after == 120
        assert raised.value.__cause__ is not None

    def test_each_pool_has_a_cooldown_of_its_own(
        self, own_pool: LocalUserPool, pool: LocalUserPool, clocks: Clocks
    ) -> None:
        validator = validator_of(own_pool, pool, clocks=clocks)
        for each in (own_pool, pool):
            answer_to(validator, each.token(expires_in=LONG))
        clocks.advance(60)
        for each in (own_pool, pool):
            assert (
                answer_to(validator, each.token(headers={"kid": "unknown"}, expires_in=LONG)) == "unknown_key"
            )
        assert (own_pool.count("jwks"), pool.count("jwks")) == (2, 2)


class TestNewKeyUnderAKnownKid:
    """An emulator that restarts has a new key under the same ``kid``."""

    @pytest.fixture
    def validator(self, own_pool: LocalUserPool, clocks: Clocks) -> CognitoAccessTokenValidator:
        """One that holds another key under the pool's ``kid``, for a minute."""
        with LocalUserPool() as other:
            own_pool.fail("jwks", body=with_kid(other.jwks(), own_pool.kid))
            validator = validator_of(own_pool, clocks=clocks)
            assert answer_to(validator, own_pool.token(expires_in=LONG)) == "bad_signature"
        own_pool.recover()
        clocks.advance(60)
        own_pool.clear_requests()
        return validator

    def test_it_is_accepted_on_its_first_request(
        self, validator: CognitoAccessTokenValidator, own_pool: LocalUserPool
    ) -> None:
        assert answer_to(validator, own_pool.token()) == "good"
        assert own_pool.count("jwks") == 1

    def test_bad_signatures_cause_one_download_per_cooldown(
        self, validator: CognitoAccessTokenValidator, own_pool: LocalUserPool, clocks: Clocks
    ) -> None:
        downloads = []
        for _ in range(4):
            content, _, signature = own_pool.token().rpartition(".")
            assert answer_to(validator, f"{content}.{'A' * len(signature)}") == "bad_signature"
            answer_to(validator, own_pool.token(headers={"kid": "unknown"}))
            downloads.append(own_pool.count("jwks"))
            clocks.advance(COOLDOWN / 2)
        assert downloads == [1, 1, 2, 2]

    def test_after_a_failed_download_the_signature_is_bad(
        self, validator: CognitoAccessTokenValidator, own_pool: LocalUserPool, clocks: Clocks
    ) -> None:
        with own_pool.fail("jwks", status=500):
            assert [answer_to(validator, own_pool.token()) for _ in range(3)] == ["bad_signature"] * 3
        assert own_pool.count("jwks") == 1
        clocks.advance(COOLDOWN)
        assert answer_to(validator, own_pool.token()) == "good"

    def test_keys_fetched_for_this_very_request_are_not_fetched_again(
        self, own_pool: LocalUserPool, clocks: Clocks
    ) -> None:
        content, _, signature = own_pool.token().rpartition(".")
        assert (
            answer_to(validator_of(own_pool, clocks=clocks), f"{content}.{'A' * len(signature)}")
            == "bad_signature"
        )
        assert own_pool.count("jwks") == 1


def with_kid(jwks: Any, kid: str) -> dict[str, Any]:
    return {"keys": [{**key, "kid": kid} for key in jwks["keys"]]}


class TestAge:
    def test_fresh_keys_cost_no_request(self, own_pool: LocalUserPool, clocks: Clocks) -> None:
        validator = validator_of(own_pool, clocks=clocks)
        token = own_pool.token(expires_in=LONG)
        validator.validate(token)
        clocks.advance(FRESH_FOR - 1)
        validator.validate(token)
        assert own_pool.count("jwks") == 1
        clocks.advance(1)
        validator.validate(token)
        assert own_pool.count("jwks") == 2

    def test_keys_are_usable_for_a_day_without_their_source(
        self, own_pool: LocalUserPool, clocks: Clocks
    ) -> None:
        validator = validator_of(own_pool, clocks=clocks)
        token = own_pool.token(expires_in=LONG)
        validator.validate(token)
        own_pool.fail("jwks", status=500)
        clocks.advance(USABLE_FOR - 1)
        assert answer_to(validator, token) == "good"
        clocks.advance(1)
        assert answer_to(validator, token) == "keys_unavailable"

    def test_a_set_without_a_usable_key_is_a_failed_fetch_and_the_one_before_goes_on(
        self, own_pool: LocalUserPool, clocks: Clocks
    ) -> None:
        validator = validator_of(own_pool, clocks=clocks)
        token = own_pool.token(expires_in=LONG)
        validator.validate(token)
        own_pool.answer("jwks", {"keys": [{**own_pool.jwks()["keys"][0], "use": "enc"}]})
        clocks.advance(FRESH_FOR)
        assert answer_to(validator, token) == "good"
        assert own_pool.count("jwks") == 2
        assert answer_to(validator, own_pool.token(headers={"kid": "unknown"})) == "keys_unavailable"

    @pytest.mark.parametrize(("chance", "fresh_for"), [(0.0, 930), (0.5, 1000), (1.0, 1070)])
    def test_moment_of_renewal_is_drawn_for_each_value(
        self, own_pool: LocalUserPool, clocks: Clocks, chance: float, fresh_for: float
    ) -> None:
        drawn = iter([chance, 0.5])
        keys = trusted(
            own_pool, clocks, times=KeyTimes(fresh_for=1000), spread=lambda: next(drawn)
        ).key_source
        keys.get()
        assert keys.state.fresh_wall - clocks.wall() == pytest.approx(fresh_for)
        clocks.advance(fresh_for)
        keys.get()
        assert keys.state.fresh_wall - clocks.wall() == pytest.approx(1000)

    def test_keys_are_never_fresh_when_no_longer_usable(
        self, own_pool: LocalUserPool, clocks: Clocks
    ) -> None:
        times = KeyTimes(fresh_for=500, usable_for=500)
        keys = trusted(own_pool, clocks, times=times, spread=lambda: 1.0).key_source
        keys.get()
        assert (keys.state.fresh_wall, keys.state.usable_wall) == (clocks.wall() + 500,) * 2

    def test_processes_that_share_keys_renew_them_apart(
        self, own_pool: LocalUserPool, clocks: Clocks
    ) -> None:
        cache = SimpleCache()
        moments = set()
        for chance in (0.2, 0.9):
            store = SealedStore(BoundedBackend(lambda: cache), Seal(bytes(32)), clock=clocks.clock)
            keys = trusted(own_pool, clocks, store=store, spread=lambda chance=chance: chance).key_source
            keys.get()
            moments.add(keys.state.fresh_wall)
        assert (own_pool.count("jwks"), len(moments)) == (1, 2)


class TestMemory:
    """What is remembered of a token: that its key has signed it, and no more."""

    def test_it_is_remembered_when_the_keys_were_fetched_anew_and_its_key_is_among_them(
        self, own_pool: LocalUserPool, clocks: Clocks
    ) -> None:
        validator = validator_of(own_pool, clocks=clocks)
        token = own_pool.token(expires_in=LONG)
        first = validator.verify(token)
        own_pool.rotate_key()
        clocks.advance(FRESH_FOR)
        assert validator.verify(token) is first
        assert own_pool.count("jwks") == 2

    def test_it_is_refused_once_its_key_is_withdrawn_and_the_new_set_is_known(
        self, own_pool: LocalUserPool, clocks: Clocks
    ) -> None:
        validator = validator_of(own_pool, clocks=clocks)
        token = own_pool.token(expires_in=LONG)
        validator.validate(token)
        own_pool.rotate_key(keep_old=False)
        assert answer_to(validator, token) == "good"  # nobody has told us yet
        clocks.advance(60)
        validator.validate(own_pool.token())
        assert answer_to(validator, token) == "unknown_key"

    def test_it_is_refused_if_its_kid_has_another_key_now(
        self, own_pool: LocalUserPool, clocks: Clocks
    ) -> None:
        validator = validator_of(own_pool, clocks=clocks)
        token = own_pool.token(expires_in=LONG)
        validator.validate(token)
        kid = own_pool.kid
        own_pool.rotate_key(keep_old=False)
        own_pool.answer("jwks", {"keys": [{**own_pool.jwks()["keys"][0], "kid": kid}]})
        clocks.advance(FRESH_FOR)
        assert answer_to(validator, token) == "bad_signature"

    @pytest.mark.parametrize(
        "claims", [pytest.param({}, id="flat"), pytest.param({"deep": {"a": [1, {"b": 2}]}}, id="nested")]
    )
    def test_claims_of_one_request_do_not_reach_another(
        self, pool: LocalUserPool, claims: dict[str, Any]
    ) -> None:
        validator = validator_of(pool)
        token = pool.token(**claims)
        before = repr(validator_of(pool).validate(token).claims)
        for check in (validator.validate, validator.validate, validator.recall, validator.recall) * 2:
            checked = check(token)
            assert isinstance(checked, ValidatedAccessToken)
            assert repr(checked.claims) == before
            assert "admin/all" not in checked.scopes
            spoil(checked.claims)

    @pytest.mark.parametrize("claims", [pytest.param({}, id="flat"), pytest.param({"a": [1]}, id="nested")])
    def test_claims_of_requests_at_one_moment_are_each_one_s_own(
        self, pool: LocalUserPool, claims: dict[str, Any]
    ) -> None:
        validator = validator_of(pool)
        for _ in range(20):
            token = pool.token(**claims)
            outcomes = together(8, lambda token=token: validator.validate(token).claims)
            assert len({id(each) for each in outcomes}) == 8
            assert all(each == outcomes[0] for each in outcomes)

    def test_one_that_was_used_since_gets_a_second_chance(self, pool: LocalUserPool) -> None:
        validator = validator_of(pool, verified_tokens=3)
        steady, *others = [pool.token() for _ in range(4)]
        for token in (steady, *others[:2], steady, others[2]):
            validator.validate(token)
        assert [is_recalled(validator, token) for token in (steady, *others)] == [
            True,
            False,
            True,
            True,
        ]

    def test_0_turns_it_off(self, pool: LocalUserPool) -> None:
        validator = validator_of(pool, verified_tokens=0)
        token = pool.token()
        assert validator.verify(token) is not validator.verify(token)
        assert not is_recalled(validator, token)
        assert answer_to(validator, token) == "good"

    def test_refused_tokens_that_the_pool_has_not_signed_are_not_remembered(
        self, pool: LocalUserPool
    ) -> None:
        validator = validator_of(pool, verified_tokens=1)
        good = pool.token()
        validator.validate(good)
        header, payload, signature = pool.token().split(".")
        forged = f"{header}.{payload}.{'A' * len(signature)}"
        for token in ("nonsense", forged, pool.token(headers={"kid": "unknown"}), pool.token(iss="x")):
            assert answer_to(validator, token) != "good"
        assert is_recalled(validator, good)

    @pytest.mark.parametrize(
        "claims", [pytest.param({}, id="flat"), pytest.param({"deep": {"a": 1}}, id="nested")]
    )
    def test_no_token_is_held(self, pool: LocalUserPool, claims: dict[str, Any]) -> None:
        validator = validator_of(pool)
        token = pool.token(**claims)
        validator.validate(token)
        verified = validator.verify(token)
        texts = texts_within(verified) | texts_within(vars(validator))
        assert any(b"access" in text for text in texts)
        header, payload, signature = (part.encode() for part in token.split("."))
        for part in (payload, signature, header + b"." + payload):
            assert not any(part in text for text in texts)

    def test_a_token_that_is_no_text_is_not_remembered_as_one_that_is(self, pool: LocalUserPool) -> None:
        validator = validator_of(pool)
        token = pool.token()
        validator.validate(token.encode())  # type: ignore[arg-type]
        assert is_recalled(validator, token)
        assert answer_to(validator, None) == "malformed"  # type: ignore[arg-type]


class TestPinnedKeys:
    @pytest.fixture
    def pinned(self, own_pool: LocalUserPool, clocks: Clocks) -> TrustedPool:
        return trusted(own_pool, clocks, pinned=parse_key_set(own_pool.jwks()))

    def test_they_serve_at_once_where_there_is_no_way_out(
        self, own_pool: LocalUserPool, pinned: TrustedPool, clocks: Clocks
    ) -> None:
        validator = validator_of(pinned, clocks=clocks)
        with own_pool.offline():
            assert answer_to(validator, own_pool.token(expires_in=LONG)) == "good"
            clocks.advance(USABLE_FOR * 400)
            assert answer_to(validator, own_pool.token(expires_in=LONG)) == "good"
        assert pinned.key_source.state.fetched.source == "pinned"  # type: ignore[union-attr]

    def test_the_pools_own_keys_take_their_place(
        self, own_pool: LocalUserPool, pinned: TrustedPool, clocks: Clocks
    ) -> None:
        validator = validator_of(pinned, clocks=clocks)
        old = own_pool.kid
        own_pool.rotate_key(keep_old=False)
        assert answer_to(validator, own_pool.token()) == "good"
        assert pinned.key_source.state.fetched.source == "network"  # type: ignore[union-attr]
        clocks.advance(COOLDOWN)
        assert answer_to(validator, own_pool.token(key=old)) == "unknown_key"

    def test_they_serve_again_when_the_pools_own_are_gone(
        self, own_pool: LocalUserPool, pinned: TrustedPool, clocks: Clocks
    ) -> None:
        validator = validator_of(pinned, clocks=clocks)
        token = own_pool.token(expires_in=LONG)
        own_pool.rotate_key(keep_old=False)
        assert answer_to(validator, own_pool.token()) == "good"
        own_pool.fail("jwks", status=500)
        clocks.advance(USABLE_FOR)
        assert answer_to(validator, token) == "good"

    def test_a_kid_that_is_not_among_them_is_503_without_a_way_out(
        self, own_pool: LocalUserPool, pinned: TrustedPool, clocks: Clocks
    ) -> None:
        validator = validator_of(pinned, clocks=clocks)
        own_pool.rotate_key()
        with own_pool.offline():
            assert answer_to(validator, own_pool.token()) == "keys_unavailable"


def spoil(claims: dict[str, Any]) -> None:
    """Change all that can be changed."""
    for value in claims.values():
        if isinstance(value, dict):
            value["a"].append("changed")
            value["more"] = True
    claims["scope"] = "admin/all"
    claims.pop("exp")


def texts_within(start: object) -> set[bytes]:
    """Every text and all bytes that can be reached from ``start`` through plain objects."""
    found: set[bytes] = set()
    seen: set[int] = set()
    todo = [start]
    while todo:
        value = todo.pop()
        if id(value) in seen:
            continue
        seen.add(id(value))
        if isinstance(value, str):
            found.add(value.encode("utf-8", "surrogatepass"))
        elif isinstance(value, (bytes, bytearray)):
            found.add(bytes(value))
        elif isinstance(value, dict):
            todo += [*value.keys(), *value.values()]
        elif isinstance(value, (list, tuple, set, frozenset)):
            todo += value
        elif type(value).__module__.startswith("flask_m2m_cognito"):
            todo += vars(value).values() if hasattr(value, "__dict__") else ()
            names = [name for each in type(value).__mro__ for name in getattr(each, "__slots__", ())]
            todo += [getattr(value, name, None) for name in names]
        elif callable(value):
            todo.append(getattr(value, "__self__", None))
    return found
