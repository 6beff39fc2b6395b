"""An attacker can read and write the cache, or the clocks differ: revocations are neither added nor removed.

The cache is a real Redis. Each process, and the operator's host, has a clock of its own.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from flask_m2m_cognito import M2MCognitoError
from flask_m2m_cognito.app.app_m2m import AppM2M
from flask_m2m_cognito.cli import revocations as command
from flask_m2m_cognito.testing import MovedClock
from tests.attacks.shared_cache import CACHE_KEY, KEYS, LEASE, PLANTED, Attacker, Planted, Process
from tests.support.settling import settle

REVOCATIONS = "revocations"
REACH = 11.0
LEASED = 5.0
HOURS = pytest.mark.parametrize("seconds", [7200.0, -7200.0], ids=["ahead", "behind"])


class Member:
    """A process of the fleet, or the operator's host, with its own clock."""

    def __init__(self, attacker: Attacker, **settings: Any) -> None:
        with MovedClock() as self.clock:
            self.process = Process(attacker, **{"REVOCATIONS": True, **settings})

    @property
    def m2m(self) -> AppM2M:
        return self.process.m2m.for_app(self.process.app)

    def reason_for(self, token: str) -> Any:
        """Return why the process rejects the token now, ``None`` if it accepts it."""
        return self.process.reason_for(token)

    def reason_later(self, token: str) -> Any:
        """Return the same after the time in which every process obeys."""
        self.clock.move(REACH)
        return self.reason_for(token)


@pytest.fixture
def worker(attacker: Attacker, token: str) -> Member:
    """A running process that has a list without revocations, and remembers the token of the client."""
    worker = Member(attacker)
    assert worker.reason_for(token) is None
    return worker


@pytest.fixture
def operator(attacker: Attacker) -> Member:
    return Member(attacker)


@pytest.fixture
def client_id(attacker: Attacker) -> str:
    return attacker.pool.client().client_id


@pytest.fixture
def token(attacker: Attacker) -> str:
    return attacker.pool.token(expires_in=86400)


@pytest.mark.parametrize("planted", PLANTED, ids=str)
def test_planted_list_removes_nothing(
    planted: Planted, attacker: Attacker, worker: Member, operator: Member, client_id: str, token: str
) -> None:
    operator.m2m.revoke(client_id)
    assert worker.reason_later(token) == "revoked"
    attacker.put(attacker.name_of(REVOCATIONS), planted.value(attacker, REVOCATIONS))

    assert worker.reason_later(token) == "revoked"
    assert Member(attacker).reason_for(token) == "revoked"


@pytest.mark.parametrize("planted", PLANTED, ids=str)
def test_planted_lease_does_not_prevent_a_change(
    planted: Planted, attacker: Attacker, worker: Member, operator: Member, client_id: str, token: str
) -> None:
    operator.m2m.revoke("another client")
    value = planted.value(attacker, REVOCATIONS)
    attacker.put(attacker.name_of(REVOCATIONS).replace(f":{REVOCATIONS}:", f":{LEASE}:"), value)

    operator.m2m.revoke(client_id)
    assert worker.reason_later(token) == "revoked"


def test_replayed_lease_does_not_prevent_a_change(
    attacker: Attacker, worker: Member, operator: Member, client_id: str, token: str
) -> None:
    """CWE-294: an authentic lease, which its holder has given back."""
    store = worker.m2m._store
    lease = store.take_lease(REVOCATIONS, LEASED)
    assert lease is not None
    (name,) = attacker.redis.keys(f"*:{LEASE}:*")
    replayed = attacker.redis.get(name)
    store.give_back(lease)
    attacker.put(name, replayed)
    operator.clock.move(LEASED)

    operator.m2m.revoke(client_id)
    assert worker.reason_later(token) == "revoked"


def test_replayed_list_does_not_remove_a_revocation(
    attacker: Attacker, worker: Member, operator: Member, client_id: str, token: str
) -> None:
    """CWE-294."""
    operator.m2m.revoke("another client")
    older = attacker.redis.get(attacker.name_of(REVOCATIONS))
    operator.m2m.revoke(client_id)
    assert worker.reason_later(token) == "revoked"
    attacker.put(attacker.name_of(REVOCATIONS), older)

    assert worker.reason_later(token) == "revoked"
    assert Member(attacker).reason_for(token) == "revoked"


@pytest.fixture
def replays_revocation(
    attacker: Attacker, worker: Member, operator: Member, client_id: str, token: str
) -> None:
    """CWE-294: the list in the cache has a revocation that was removed since."""
    operator.m2m.revoke(client_id)
    older = attacker.redis.get(attacker.name_of(REVOCATIONS))
    operator.m2m.unrevoke(client_id)
    assert worker.reason_later(token) is None
    attacker.put(attacker.name_of(REVOCATIONS), older)


@pytest.mark.usefixtures("replays_revocation")
def test_replayed_list_does_not_add_a_revocation(attacker: Attacker, worker: Member, token: str) -> None:
    assert worker.reason_later(token) is None
    assert Member(attacker).reason_for(token) is None


def test_limit_new_process_trusts_a_replayed_list(
    attacker: Attacker, operator: Member, client_id: str, token: str
) -> None:
    """A limit, see docs/security.md: until a process with the newer list has stored it again."""
    operator.m2m.revoke("another client")
    older = attacker.redis.get(attacker.name_of(REVOCATIONS))
    operator.m2m.revoke(client_id)
    attacker.put(attacker.name_of(REVOCATIONS), older)
    started = Member(attacker)

    assert started.reason_for(token) is None
    assert operator.reason_later(token) == "revoked"
    assert started.reason_later(token) == "revoked"


def test_swapped_entries_change_no_revocation(
    attacker: Attacker, worker: Member, operator: Member, client_id: str, token: str
) -> None:
    """CWE-345: both entries are authentic."""
    operator.m2m.revoke(client_id)
    assert worker.reason_later(token) == "revoked"
    keys, revocations = attacker.text_of(KEYS), attacker.text_of(REVOCATIONS)
    attacker.put(attacker.name_of(KEYS), revocations)
    attacker.put(attacker.name_of(REVOCATIONS), keys)

    assert Member(attacker).reason_for(token) is None
    assert worker.reason_later(token) == "revoked"
    assert Member(attacker).reason_for(token) == "revoked"


def test_list_of_another_cache_key_changes_no_revocation(
    attacker: Attacker, worker: Member, operator: Member, client_id: str, token: str
) -> None:
    """CWE-345: the attacker has a service of its own in the same Redis."""
    Member(attacker, CACHE_KEY=f"not {CACHE_KEY}").m2m.revoke(client_id)
    others = attacker.text_of(REVOCATIONS)
    assert worker.reason_later(token) is None
    attacker.redis.flushall()
    operator.m2m.revoke("another client")
    attacker.put(attacker.name_of(REVOCATIONS), others)

    assert worker.reason_later(token) is None
    assert Member(attacker).reason_for(token) is None


def test_deleted_list_stays_in_force_and_is_stored_again(
    attacker: Attacker,
    worker: Member,
    operator: Member,
    client_id: str,
    token: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    operator.m2m.revoke(client_id)
    assert worker.reason_later(token) == "revoked"
    attacker.redis.flushall()

    assert worker.reason_later(token) == "revoked"
    settle()
    assert "revocations-missing" in [getattr(each, "event", "") for each in caplog.records]
    assert Member(attacker).reason_for(token) == "revoked"


def test_deletion_before_a_smaller_revocation_removes_nothing(
    attacker: Attacker, worker: Member, operator: Member, client_id: str, token: str
) -> None:
    """The command does not see the earlier revocation, and revokes less than that."""
    operator.m2m.revoke(client_id)
    assert worker.reason_later(token) == "revoked"
    attacker.redis.flushall()
    Member(attacker).m2m.revoke(client_id, jti="another token")

    assert worker.reason_later(token) == "revoked"
    assert Member(attacker).reason_for(token) == "revoked"


@pytest.mark.usefixtures("replays_revocation")
def test_replay_before_a_smaller_revocation_adds_nothing(
    attacker: Attacker, worker: Member, client_id: str, token: str
) -> None:
    """The command sees a revocation that was removed since, and adds to it."""
    Member(attacker).m2m.revoke(client_id, jti="another token")

    assert worker.reason_later(token) is None


def test_command_notices_a_deletion_while_it_waits(
    attacker: Attacker, operator: Member, client_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    waiting = SimpleNamespace(sleep=lambda seconds: attacker.redis.flushall())
    monkeypatch.setattr(command, "time", waiting)
    app = operator.process.app

    assert command.revoke(app, as_json=False, client_id=client_id, before=None, jti=(), waits=True) == 1


@HOURS
def test_operators_clock_may_differ(
    seconds: float, worker: Member, operator: Member, client_id: str, token: str
) -> None:
    operator.clock.set_wall(seconds)
    operator.m2m.revoke(client_id)
    assert worker.reason_later(token) == "revoked"
    operator.m2m.unrevoke(client_id)
    assert worker.reason_later(token) is None


@HOURS
def test_operators_with_different_clocks_obey_each_other(
    seconds: float, attacker: Attacker, worker: Member, operator: Member, client_id: str, token: str
) -> None:
    other = Member(attacker)
    other.clock.set_wall(seconds)
    operator.m2m.revoke(client_id)
    assert worker.reason_later(token) == "revoked"
    other.m2m.unrevoke(client_id)
    assert worker.reason_later(token) is None
    operator.m2m.revoke(client_id)
    assert worker.reason_later(token) == "revoked"


@HOURS
def test_process_whose_clock_jumps_obeys_in_time(
    seconds: float, worker: Member, operator: Member, client_id: str, token: str
) -> None:
    worker.clock.set_wall(seconds)
    assert worker.reason_for(token) is None
    operator.m2m.revoke(client_id)
    assert worker.reason_later(token) == "revoked"
    worker.clock.set_wall(-seconds)
    assert worker.reason_later(token) == "revoked"


def test_list_that_is_too_long_to_store_is_obeyed(
    attacker: Attacker, worker: Member, operator: Member, client_id: str, token: str
) -> None:
    """The attacker deletes the list, so that a second one is made. Both together exceed the limit."""
    ids = [f"{number:0250}" for number in range(600)]
    operator.m2m.revoke("another client", jti=ids)
    assert worker.reason_later(token) is None
    attacker.redis.flushall()
    other = Member(attacker)
    other.m2m.revoke("a third client", jti=ids)
    with pytest.raises(M2MCognitoError, match="at most"):
        other.m2m.revoke("a fourth client", jti=ids)
    other.m2m.revoke(client_id)

    assert worker.reason_later(token) == "revoked"
    assert worker.reason_for(attacker.pool.token(client_id="another client", jti=ids[0])) == "revoked"
