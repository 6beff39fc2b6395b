"""The list of revocations: what it revokes, and how processes merge their lists."""

from __future__ import annotations

import functools
import itertools
import json
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flask_m2m_cognito.inbound.revocation_list import (
    EVERY_TOKEN,
    KeyRefresh,
    Revocation,
    RevocationList,
    parse_revocation_list,
)
from flask_m2m_cognito.inbound.validated_access_token import ValidatedAccessToken, build_token
from tests.support.clocks import NOW

EMPTY = RevocationList()
DAY = 86400.0

moments = st.floats(0, 2**40)
rows = st.builds(
    lambda *parts: Revocation().merge(Revocation(*parts)),
    st.dictionaries(st.sampled_from([1.0, NOW, EVERY_TOKEN]), moments),
    st.dictionaries(st.text(), moments),
    moments,
)
lists = st.builds(
    RevocationList,
    st.dictionaries(st.sampled_from(["shop", "billing", "reports"]), rows),
    st.dictionaries(st.sampled_from(["pool-1", "pool-2"]), st.builds(KeyRefresh, moments, moments)),
)


def token(client_id: str = "shop", iat: float = NOW - 60, **claims: Any) -> ValidatedAccessToken:
    return build_token(client_id, frozenset(), {"iat": iat, **claims}, time)


class TestRevokes:
    def test_every_token_of_a_client_is_revoked(self) -> None:
        revoked = EMPTY.with_revoked("shop", NOW, EVERY_TOKEN, ())
        assert revoked.revokes(token())
        assert revoked.revokes(token(iat=NOW + 365 * DAY))
        assert not revoked.revokes(token("billing"))

    @pytest.mark.parametrize(
        ("iat", "is_revoked"), [(NOW - 1, True), (NOW, True), (NOW + 0.5, False), (NOW + 1, False)]
    )
    def test_tokens_issued_before_a_time_are_revoked(self, iat: float, is_revoked: bool) -> None:
        revoked = EMPTY.with_revoked("shop", NOW, NOW + 0.25, ())
        assert revoked.revokes(token(iat=iat)) is is_revoked

    @pytest.mark.parametrize(
        ("jti", "is_revoked"),
        [("one", True), ("two", True), ("three", False), (["one"], False), (None, False)],
    )
    def test_tokens_with_these_ids_are_revoked(self, jti: object, is_revoked: bool) -> None:
        revoked = EMPTY.with_revoked("shop", NOW, 0.0, ("one", "two"))
        assert revoked.revokes(token(jti=jti)) is is_revoked
        assert not revoked.revokes(token("billing", jti=jti))

    def test_token_without_an_id_is_not_revoked_by_an_id(self) -> None:
        assert not EMPTY.with_revoked("shop", NOW, 0.0, ("None", "")).revokes(token())


class TestChanges:
    def test_later_revocation_never_revokes_less(self) -> None:
        steps = [(EVERY_TOKEN, ()), (NOW - 100.0, ()), (NOW - 50.0, ()), (0.0, ("one",))]
        for order in itertools.permutations(steps):
            held = EMPTY
            for before, token_ids in order:
                held = held.with_revoked("shop", NOW, before, token_ids)
            assert (held.clients["shop"].before, set(held.clients["shop"].token_ids)) == (
                EVERY_TOKEN,
                {"one"},
            )

    def test_unrevoked_client_is_accepted_again(self) -> None:
        held = EMPTY.with_revoked("shop", NOW, EVERY_TOKEN, ("one",)).without("shop", NOW + 1)
        assert not held.revokes(token(jti="one"))
        assert held.revoked == {}

    def test_change_counts_although_the_clock_is_behind(self) -> None:
        held = EMPTY.with_revoked("shop", NOW + 9000, EVERY_TOKEN, ())
        changed = held.without("shop", NOW)
        assert not held.merge(changed).revokes(token())
        assert changed.with_revoked("shop", NOW - 50, EVERY_TOKEN, ()).merge(held).revokes(token())

    def test_ids_are_dropped_when_their_tokens_have_expired(self) -> None:
        held, kept = EMPTY, []
        for days in (0, 2, 8):
            held = held.with_revoked("shop", NOW + days * DAY, 0.0, (f"of day {days}",))
            kept.append(set(held.clients["shop"].token_ids))
        assert kept[1:] == [{"of day 0", "of day 2"}, {"of day 2", "of day 8"}]


class TestMerge:
    @given(st.lists(lists, min_size=1, max_size=4))
    def test_lists_merge_the_same_in_any_order(self, some: list[RevocationList]) -> None:
        merged = {
            json.dumps(functools.reduce(RevocationList.merge, order).to_document(), sort_keys=True)
            for order in itertools.permutations(some)
        }
        assert len(merged) == 1

    @given(lists, lists)
    def test_list_that_adds_nothing_leaves_the_same_object(
        self, held: RevocationList, other: RevocationList
    ) -> None:
        merged = held.merge(other)
        assert merged.merge(other) is merged
        assert merged.merge(held) is merged

    def test_older_list_removes_and_restores_nothing(self) -> None:
        first = EMPTY.with_revoked("shop", NOW, EVERY_TOKEN, ()).with_revoked("billing", NOW, NOW, ())
        newer = first.without("shop", NOW + 5).with_revoked("reports", NOW + 5, 0.0, ("one",))
        assert newer.merge(first) is newer
        assert first.merge(newer) == newer

    def test_later_refresh_of_the_keys_counts(self) -> None:
        first = EMPTY.with_keys_refreshed({"pool-1": 5000.0, "pool-2": 7.0}, NOW)
        second = first.with_keys_refreshed({"pool-1": 6.0}, NOW - 9000)  # from a host whose clock is behind
        for merged in (first.merge(second), second.merge(first)):
            fetched = {pool_id: each.fetched_at for pool_id, each in merged.key_refreshes.items()}
            assert fetched == {"pool-1": 6.0, "pool-2": 7.0}


class TestDocument:
    @given(lists)
    def test_document_has_the_whole_list(self, held: RevocationList) -> None:
        assert parse_revocation_list(json.loads(json.dumps(held.to_document(), allow_nan=False))) == held

    @pytest.mark.parametrize(
        "document",
        [
            None,
            [],
            {},
            {"clients": {}},
            {"clients": [], "key_refreshes": {}},
            {"clients": {"shop": None}, "key_refreshes": {}},
            {"clients": {"shop": {"changed_at": 1}}, "key_refreshes": {}},
            {"clients": {"shop": {"changed_at": 1, "before": "x", "token_ids": {}}}, "key_refreshes": {}},
            {"clients": {"shop": {"changed_at": 1, "before": 0, "token_ids": []}}, "key_refreshes": {}},
            {"clients": {}, "key_refreshes": {"pool-1": None}},
        ],
        ids=str,
    )
    def test_other_content_is_an_error(self, document: object) -> None:
        with pytest.raises(ValueError, match="malformed"):
            parse_revocation_list(document)
