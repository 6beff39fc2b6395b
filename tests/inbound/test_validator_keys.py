"""When keys are fetched, what an unknown ``kid`` causes, and what happens while keys are unavailable."""

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
    """Return ``"valid"``, or the reason of the rejection."""
    try:
        validator.validate(token)
    except (TokenValidationError, KeysUnavailableError) as error:
        return error.reason
    return "valid"


def is_recalled(validator: CognitoAccessTokenValidator, token: str) -> bool:
    """Return whether ``token`` is remembered, with unchanged keys."""
    return isinstance(validator.recall(token), ValidatedAccessToken)


class TestColdStart:
    def test_keys_are_fetched_once_at_first_use(self, pool: LocalUserPool) -> None:
        validator = validator_of(pool)
        assert pool.count() == 0
        assert [answer_to(validator, pool.token()) for _ in range(5)] == ["valid"] * 5
        assert (pool.count("jwks"), pool.count()) == (1, 1)

    def test_validate_raises_keys_unavailable_without_keys(self, pool: LocalUserPool) -> None:
        pool.fail("jwks", status=500, headers={"Retry-After": "7"})
        with pytest.raises(KeysUnavailableError) as raised:
            validator_of(pool).validate(pool.token())
        assert (raised.value.reason, raised.value.retry_after) == ("keys_unavailable", 7)
        assert not isinstance(raised.value, TokenValidationError)
        assert raised.value.__cause__ is not None

    def test_first_download_does_not_start_the_cooldown(
        self, own_pool: LocalUserPool, clocks: Clocks
    ) -> None:
        validator = validator_of(own_pool, clocks=clocks)
        assert answer_to(validator, own_pool.token(headers={"kid": "unknown"})) == "unknown_key"
        assert own_pool.count("jwks") == 1
        own_pool.rotate_key()
        # Not at the same instant: then the download would count as this token's own.
        clocks.advance(0.001)
        assert answer_to(validator, own_pool.token()) == "valid"
        assert own_pool.count("jwks") == 2


class TestUnknownKid:
    @pytest.fixture
    def validator(self, own_pool: LocalUserPool, clocks: Clocks) -> CognitoAccessTokenValidator:
        """Return a validator that fetched its keys a minute ago."""
        validator = validator_of(own_pool, clocks=clocks)
        validator.validate(own_pool.token())
        clocks.advance(60)
        own_pool.clear_requests()
        return validator

    def test_new_key_is_accepted_on_its_first_request(
        self, validator: CognitoAccessTokenValidator, own_pool: LocalUserPool
    ) -> None:
        old = own_pool.token()
        own_pool.rotate_key()
        assert [answer_to(validator, token) for token in (own_pool.token(), old)] == ["valid", "valid"]
        assert own_pool.count("jwks") == 1

    def test_key_added_in_the_cooldown_is_accepted_after_it(
        self, validator: CognitoAccessTokenValidator, own_pool: LocalUserPool, clocks: Clocks
    ) -> None:
        answer_to(validator, own_pool.token(headers={"kid": "unknown"}))
        own_pool.rotate_key()
        assert answer_to(validator, own_pool.token()) == "unknown_key"
        clocks.advance(COOLDOWN)
        assert answer_to(validator, own_pool.token()) == "valid"

    def test_unknown_kid_is_503_after_a_failed_download(
        self, validator: CognitoAccessTokenValidator, own_pool: LocalUserPool, clocks: Clocks
    ) -> None:
        known = own_pool.token(expires_in=LONG)
        own_pool.rotate_key()
        own_pool.fail("jwks", status=500)
        answers = [answer_to(validator, own_pool.token()) for _ in range(3)]
        assert answers == ["keys_unavailable"] * 3
        assert own_pool.count("jwks") == 1
        # Cached keys are still used.
        assert answer_to(validator, known) == "valid"
        assert answer_to(validator, own_pool.token(key=own_pool.kids[0])) == "valid"

    def test_failed_download_starts_the_cooldown_too(
        self, validator: CognitoAccessTokenValidator, own_pool: LocalUserPool, clocks: Clocks
    ) -> None:
        own_pool.rotate_key()
        with own_pool.fail("jwks", status=500):
            answer_to(validator, own_pool.token())
        clocks.advance(COOLDOWN - 1)
        assert answer_to(validator, own_pool.token()) == "keys_unavailable"
        assert own_pool.count("jwks") == 1
        clocks.advance(1)
        assert answer_to(validator, own_pool.token()) == "valid"

    def test_answer_depends_on_the_last_download(
        self, validator: CognitoAccessTokenValidator, own_pool: LocalUserPool, clocks: Clocks
    ) -> None:
        token = own_pool.token(headers={"kid": "unknown"})
        answers = []
        for is_down in (False, True, False):
            own_pool.fail("jwks", status=500) if is_down else own_pool.recover()
            answers += [answer_to(validator, token), answer_to(validator, token)]
            clocks.advance(COOLDOWN)
        assert answers == ["unknown_key"] * 2 + ["keys_unavailable"] * 2 + ["unknown_key"] * 2

    def test_retry_after_comes_from_the_failed_download(
        self, validator: CognitoAccessTokenValidator, own_pool: LocalUserPool
    ) -> None:
        own_pool.fail("jwks", status=503, headers={"Retry-After": "120"})
        with pytest.raises(KeysUnavailableError) as raised:
            validator.validate(own_pool.token(headers={"kid": "unknown"}))
        assert raised.value.retry_after == 120
        assert raised.value.__cause__ is not None

    def test_each_pool_has_its_own_cooldown(
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
        """Return a validator that has held another key under the pool's ``kid`` for a minute."""
        with LocalUserPool() as other:
            own_pool.fail("jwks", body=with_kid(other.jwks(), own_pool.kid))
            validator = validator_of(own_pool, clocks=clocks)
            assert answer_to(validator, own_pool.token(expires_in=LONG)) == "bad_signature"
        own_pool.recover()
        clocks.advance(60)
        own_pool.clear_requests()
        return validator

    def test_new_key_is_accepted_on_the_first_request(
        self, validator: CognitoAccessTokenValidator, own_pool: LocalUserPool
    ) -> None:
        assert answer_to(validator, own_pool.token()) == "valid"
        assert own_pool.count("jwks") == 1

    def test_invalid_signatures_cause_one_download_per_cooldown(
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

    def test_signature_is_invalid_after_a_failed_download(
        self, validator: CognitoAccessTokenValidator, own_pool: LocalUserPool, clocks: Clocks
    ) -> None:
        with own_pool.fail("jwks", status=500):
            assert [answer_to(validator, own_pool.token()) for _ in range(3)] == ["bad_signature"] * 3
        assert own_pool.count("jwks") == 1
        clocks.advance(COOLDOWN)
        assert answer_to(validator, own_pool.token()) == "valid"

    def test_keys_fetched_for_a_request_are_not_fetched_twice(
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

    def test_keys_are_usable_for_a_day_in_an_outage(self, own_pool: LocalUserPool, clocks: Clocks) -> None:
        validator = validator_of(own_pool, clocks=clocks)
        token = own_pool.token(expires_in=LONG)
        validator.validate(token)
        own_pool.fail("jwks", status=500)
        clocks.advance(USABLE_FOR - 1)
        assert answer_to(validator, token) == "valid"
        clocks.advance(1)
        assert answer_to(validator, token) == "keys_unavailable"

    def test_set_without_usable_keys_does_not_replace_the_old_set(
        self, own_pool: LocalUserPool, clocks: Clocks
    ) -> None:
        validator = validator_of(own_pool, clocks=clocks)
        token = own_pool.token(expires_in=LONG)
        validator.validate(token)
        own_pool.answer("jwks", {"keys": [{**own_pool.jwks()["keys"][0], "use": "enc"}]})
        clocks.advance(FRESH_FOR)
        assert answer_to(validator, token) == "valid"
        assert own_pool.count("jwks") == 2
        assert answer_to(validator, own_pool.token(headers={"kid": "unknown"})) == "keys_unavailable"

    @pytest.mark.parametrize(("chance", "fresh_for"), [(0.0, 930), (0.5, 1000), (1.0, 1070)])
    def test_time_of_renewal_is_random_for_each_value(
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

    def test_processes_that_share_keys_renew_at_different_times(
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
    """The memory of verified tokens: that a key has signed a token, and nothing else."""

    def test_token_stays_remembered_if_a_refresh_keeps_its_key(
        self, own_pool: LocalUserPool, clocks: Clocks
    ) -> None:
        validator = validator_of(own_pool, clocks=clocks)
        token = own_pool.token(expires_in=LONG)
        first = validator.verify(token)
        own_pool.rotate_key()
        clocks.advance(FRESH_FOR)
        assert validator.verify(token) is first
        assert own_pool.count("jwks") == 2

    def test_token_is_rejected_once_its_key_is_withdrawn(
        self, own_pool: LocalUserPool, clocks: Clocks
    ) -> None:
        validator = validator_of(own_pool, clocks=clocks)
        token = own_pool.token(expires_in=LONG)
        validator.validate(token)
        own_pool.rotate_key(keep_old=False)
        assert answer_to(validator, token) == "valid"  # the validator does not know yet
        clocks.advance(60)
        validator.validate(own_pool.token())
        assert answer_to(validator, token) == "unknown_key"

    def test_token_is_rejected_if_its_kid_has_another_key(
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
    def test_changed_claims_do_not_affect_other_requests(
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
    def test_concurrent_requests_get_their_own_claims(
        self, pool: LocalUserPool, claims: dict[str, Any]
    ) -> None:
        validator = validator_of(pool)
        for _ in range(20):
            token = pool.token(**claims)
            outcomes = together(8, lambda token=token: validator.validate(token).claims)
            assert len({id(each) for each in outcomes}) == 8
            assert all(each == outcomes[0] for each in outcomes)

    def test_recently_used_token_gets_a_second_chance(self, pool: LocalUserPool) -> None:
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

    def test_size_0_turns_the_memory_off(self, pool: LocalUserPool) -> None:
        validator = validator_of(pool, verified_tokens=0)
        token = pool.token()
        assert validator.verify(token) is not validator.verify(token)
        assert not is_recalled(validator, token)
        assert answer_to(validator, token) == "valid"

    def test_tokens_that_fail_verification_are_not_remembered(self, pool: LocalUserPool) -> None:
        validator = validator_of(pool, verified_tokens=1)
        valid = pool.token()
        validator.validate(valid)
        header, payload, signature = pool.token().split(".")
        forged = f"{header}.{payload}.{'A' * len(signature)}"
        for token in ("nonsense", forged, pool.token(headers={"kid": "unknown"}), pool.token(iss="x")):
            assert answer_to(validator, token) != "valid"
        assert is_recalled(validator, valid)

    @pytest.mark.parametrize(
        "claims", [pytest.param({}, id="flat"), pytest.param({"deep": {"a": 1}}, id="nested")]
    )
    def test_memory_holds_no_token(self, pool: LocalUserPool, claims: dict[str, Any]) -> None:
        validator = validator_of(pool)
        token = pool.token(**claims)
        validator.validate(token)
        verified = validator.verify(token)
        texts = texts_within(verified) | texts_within(vars(validator))
        assert any(b"access" in text for text in texts)
        header, payload, signature = (part.encode() for part in token.split("."))
        for part in (payload, signature, header + b"." + payload):
            assert not any(part in text for text in texts)

    def test_token_as_bytes_is_remembered_as_its_text(self, pool: LocalUserPool) -> None:
        validator = validator_of(pool)
        token = pool.token()
        validator.validate(token.encode())  # type: ignore[arg-type]
        assert is_recalled(validator, token)
        assert answer_to(validator, None) == "malformed"  # type: ignore[arg-type]


class TestPinnedKeys:
    @pytest.fixture
    def pinned(self, own_pool: LocalUserPool, clocks: Clocks) -> TrustedPool:
        return trusted(own_pool, clocks, pinned=parse_key_set(own_pool.jwks()))

    def test_pinned_keys_are_used_at_once_without_network(
        self, own_pool: LocalUserPool, pinned: TrustedPool, clocks: Clocks
    ) -> None:
        validator = validator_of(pinned, clocks=clocks)
        with own_pool.offline():
            assert answer_to(validator, own_pool.token(expires_in=LONG)) == "valid"
            clocks.advance(USABLE_FOR * 400)
            assert answer_to(validator, own_pool.token(expires_in=LONG)) == "valid"
        assert pinned.key_source.state.fetched.source == "pinned"  # type: ignore[union-attr]

    def test_downloaded_keys_replace_pinned_keys(
        self, own_pool: LocalUserPool, pinned: TrustedPool, clocks: Clocks
    ) -> None:
        validator = validator_of(pinned, clocks=clocks)
        old = own_pool.kid
        own_pool.rotate_key(keep_old=False)
        assert answer_to(validator, own_pool.token()) == "valid"
        assert pinned.key_source.state.fetched.source == "network"  # type: ignore[union-attr]
        clocks.advance(COOLDOWN)
        assert answer_to(validator, own_pool.token(key=old)) == "unknown_key"

    def test_pinned_keys_are_used_again_when_others_expire(
        self, own_pool: LocalUserPool, pinned: TrustedPool, clocks: Clocks
    ) -> None:
        validator = validator_of(pinned, clocks=clocks)
        token = own_pool.token(expires_in=LONG)
        own_pool.rotate_key(keep_old=False)
        assert answer_to(validator, own_pool.token()) == "valid"
        own_pool.fail("jwks", status=500)
        clocks.advance(USABLE_FOR)
        assert answer_to(validator, token) == "valid"

    def test_kid_that_is_not_pinned_is_503_without_network(
        self, own_pool: LocalUserPool, pinned: TrustedPool, clocks: Clocks
    ) -> None:
        validator = validator_of(pinned, clocks=clocks)
        own_pool.rotate_key()
        with own_pool.offline():
            assert answer_to(validator, own_pool.token()) == "keys_unavailable"


def spoil(claims: dict[str, Any]) -> None:
    """Change everything that can be changed."""
    for value in claims.values():
        if isinstance(value, dict):
            value["a"].append("changed")
            value["more"] = True
    claims["scope"] = "admin/all"
    claims.pop("exp")


def texts_within(start: object) -> set[bytes]:
    """Return every text and all bytes that can be reached from ``start`` through plain objects."""
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
