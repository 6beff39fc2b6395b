"""The fast path has the same results as a validator without memory, for every reason and for acceptance.

``recall`` repeats the order of the checks, for speed. Each case fixes the inputs that lead to one reason.
Hypothesis draws the others: claims, settings, the state of the keys, and the time of the second request.
"""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flask_m2m_cognito import (
    CognitoAccessTokenValidator,
    InsufficientScopeError,
    KeysUnavailableError,
    TokenValidationError,
    ValidatedAccessToken,
)
from flask_m2m_cognito.exceptions import REASONS
from flask_m2m_cognito.inbound.key_source import KeyTimes
from flask_m2m_cognito.inbound.revocation_list import EVERY_TOKEN, RevocationList
from flask_m2m_cognito.remote.refreshable import Fetched, Refreshable, Refreshing
from flask_m2m_cognito.testing import LocalUserPool
from tests.inbound.trusted import at_once, trusted, validator_of
from tests.support.clocks import NOW, Clocks

ABSENT = object()
TIMES = KeyTimes(fresh_for=300, usable_for=1000)
NOTHING_REVOKED = RevocationList()
REVOKED = NOTHING_REVOKED.with_revoked("local-client", NOW, EVERY_TOKEN, ())
PARTLY_REVOKED = NOTHING_REVOKED.with_revoked("local-client", NOW, NOW - 10, ("another",))


def denies_all(subject: object) -> bool:
    return False


def allows_local_client(client_id: str) -> bool:
    return client_id == "local-client"


def wants_tenant(token: ValidatedAccessToken) -> object:
    return token.claims["tenant"] == "acme"


def forbids(token: ValidatedAccessToken) -> bool:
    raise TokenValidationError("Not today.", reason="expired")


# The first value of each is that of a service without special settings and of a token without a defect.
# Hypothesis starts with it, so each reason below is reached, whatever other values are drawn.
DRAWN: dict[str, tuple[Any, ...]] = {
    "claim token_use": ("access", "id"),
    "claim exp": (NOW + 3600, NOW + 60, NOW + 60.5, NOW - 5, NOW - 100, "soon"),
    "claim nbf": (ABSENT, NOW, NOW + 30, NOW + 5.5, True),
    "claim client_id": ("local-client", "stranger", "", 7, ABSENT),
    "claim sub": ("local-client", "stranger", 7, ABSENT),
    "claim username": (ABSENT, "ada", None),
    "claim scope": ("inventory/read orders/write", "inventory/read", "", None, ["inventory/read"], ABSENT),
    "claim aud": ("orders", ["stock", "orders"], "other", [], ABSENT),
    "claim tenant": ("acme", "other", ["acme"], ABSENT),
    "setting allowed_client_ids": (
        None,
        ["local-client"],
        ["stranger"],
        [],
        allows_local_client,
        denies_all,
    ),
    "setting audience": (None, "orders", ["stock"], []),
    "setting required_scopes": ((), ["inventory/read"], ["inventory/read", "orders/write"]),
    "setting scope_match": ("all", "any"),
    "setting machine_tokens_only": (False, True),
    "setting token_check": (None, wants_tenant, denies_all, forbids),
    "setting leeway": (0, 10, 0.5),
    "token": ("as issued", "kid unknown", "signature changed", "issuer unknown", "alg none", "cut off"),
    "keys": ("there", "gone", "down"),
    # The lists before and after the first request; None: revocations are off.
    "lists": (
        (None, None),
        (NOTHING_REVOKED, NOTHING_REVOKED),
        (NOTHING_REVOKED, REVOKED),
        (REVOKED, NOTHING_REVOKED),
        (PARTLY_REVOKED, PARTLY_REVOKED),
    ),
    "another request": ("none", "has an unknown key"),
    "wall": (0, 1, 5.5, 30, 59, 60, 60.5, 69.5, 70, 299, 301, 999, 1001, -1, -10, -4000),
    "monotonic": (0, 1, 299, 301, 999, 1001),
}

LEADS_TO: dict[str, dict[str, Any]] = {
    "accepted": {},
    "malformed": {"claim exp": "soon"},
    "wrong_algorithm": {"token": "alg none"},
    "wrong_issuer": {"token": "issuer unknown"},
    "unknown_key": {"keys": "gone", "monotonic": 20, "another request": "has an unknown key"},
    "unknown_key, keys old by the wall clock": {"keys": "gone", "wall": 301},
    "unknown_key, keys old by the monotonic clock": {"keys": "gone", "monotonic": 301},
    "bad_signature": {"token": "signature changed"},
    "wrong_token_use": {"claim token_use": "id"},
    "expired": {"claim exp": NOW + 60, "wall": 60},
    "not_yet_valid": {"claim nbf": NOW + 30},
    "missing_client_id": {"claim client_id": ABSENT},
    "user_token": {"claim username": "ada", "setting machine_tokens_only": True},
    "accepted, and nothing is revoked": {"lists": (NOTHING_REVOKED, NOTHING_REVOKED)},
    "revoked": {"lists": (NOTHING_REVOKED, REVOKED), "wall": 11},
    "revoked, by the monotonic clock": {"lists": (NOTHING_REVOKED, REVOKED), "monotonic": 11},
    "revoked, and before": {"lists": (REVOKED, REVOKED)},
    "client_not_allowed": {"setting allowed_client_ids": ["stranger"]},
    "wrong_audience": {"setting audience": "orders", "claim aud": "other"},
    "insufficient_scope": {"setting required_scopes": ["inventory/read"], "claim scope": ""},
    "rejected_by_check": {"setting token_check": wants_tenant, "claim tenant": "other"},
    "keys_unavailable": {"keys": "down", "wall": 1001},
    "keys_unavailable, by the monotonic clock": {"keys": "down", "monotonic": 1001},
}

DECIDED_BY_RECALL = {"accepted", "wrong_audience", "insufficient_scope", "rejected_by_check"}
NOT_OF_A_TOKEN = {"missing_token", "bad_header", "method_not_allowed", "token_unavailable", "invalid"}


def outcome(validate: Any, token: str) -> tuple[Any, ...] | None:
    """Return everything that a caller can see of a verdict; ``None`` if ``validate`` returned a digest."""
    try:
        validated = validate(token)
    except InsufficientScopeError as error:
        return error.reason, str(error), error.client_id, error.token_scopes, error.required_scopes
    except TokenValidationError as error:
        return error.reason, str(error), error.client_id, error.token_scopes, error.kid, error.pool
    except KeysUnavailableError as error:
        return "keys_unavailable", str(error)
    if isinstance(validated, bytes):
        return None
    return "accepted", validated.client_id, validated.scopes, validated.claims


def part(drawn: dict[str, Any], kind: str) -> dict[str, Any]:
    return {
        name.removeprefix(kind): value
        for name, value in drawn.items()
        if name.startswith(kind) and value is not ABSENT
    }


def token_of(pool: LocalUserPool, claims: dict[str, Any], how: str) -> str:
    issuer = "https://example.com" if how == "issuer unknown" else pool.issuer
    headers = {"kid unknown": {"kid": "unknown"}, "alg none": {"alg": "none"}}.get(how, {})
    token = pool.sign({"iss": issuer, "iat": NOW - 10, **claims}, headers=headers)
    signing_input, _, signature = token.rpartition(".")
    if how == "signature changed":
        return f"{signing_input}.{'A' * len(signature)}"
    return signing_input if how == "cut off" else token


def revocations_from(lists: list[RevocationList], clocks: Clocks) -> Refreshable[RevocationList]:
    """Return a source of the first of ``lists``, which is fresh for 10 s and then late."""
    return Refreshable(
        lambda ask: Fetched(lists[0], clocks.wall() + 10, float("inf"), clocks.wall()),
        unavailable=lambda error, retry_in: error,
        late_after=0.0,
        refreshing=Refreshing(clocks.clock, lambda: 0.0, at_once),
    )


@pytest.mark.parametrize("case", LEADS_TO)
def test_fast_path_equals_verify_then_check(pool: LocalUserPool, case: str) -> None:
    reason, fixed = case.partition(",")[0], LEADS_TO[case]
    seen: set[str] = set()
    recalled: set[str] = set()
    gone = {"keys": [{**key, "kid": "newer"} for key in pool.jwks()["keys"]]}

    @settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])
    @given(
        st.fixed_dictionaries(
            {
                name: st.just(fixed[name]) if name in fixed else st.sampled_from(values)
                for name, values in DRAWN.items()
            }
        )
    )
    def holds(drawn: dict[str, Any]) -> None:
        clocks = Clocks()
        keys = trusted(pool, clocks, times=TIMES)
        options = part(drawn, "setting ")
        lists = list(drawn["lists"])
        if lists[0] is not None:
            options["revocations"] = revocations_from(lists, clocks)
        quick, thorough = (
            validator_of(keys, clocks=clocks, verified_tokens=size, **options) for size in (8, 0)
        )
        claims = part(drawn, "claim ")
        token = token_of(pool, claims, drawn["token"])
        for each in (token, token_of(pool, claims, "as issued")):
            outcome(quick.validate, each)
        if drawn["keys"] == "gone":
            pool.answer("jwks", gone)
        elif drawn["keys"] == "down":
            pool.fail("jwks")
        try:
            clocks.wall_now += drawn["wall"]
            clocks.monotonic_now += drawn["monotonic"]
            lists[0] = lists[1]
            if drawn["another request"] == "has an unknown key":
                outcome(thorough.validate, token_of(pool, claims, "kid unknown"))
            compare(quick, thorough, token)
        finally:
            pool.recover()

    def compare(
        quick: CognitoAccessTokenValidator, thorough: CognitoAccessTokenValidator, token: str
    ) -> None:
        fast, slow = outcome(quick.recall, token), outcome(thorough.validate, token)
        if fast is None:
            # The keys may have been renewed in between, so validate with both again.
            fast, slow = outcome(quick.validate, token), outcome(thorough.validate, token)
        else:
            recalled.add(fast[0])
        assert fast == slow
        seen.add(str(slow and slow[0]))

    holds()
    assert reason in seen
    assert recalled <= DECIDED_BY_RECALL
    assert (reason in recalled) is (reason in DECIDED_BY_RECALL)


def test_every_reason_of_a_token_is_compared() -> None:
    compared = {case.partition(",")[0] for case in LEADS_TO}
    assert compared == {"accepted", *REASONS} - NOT_OF_A_TOKEN
