"""An operator revokes a client or refreshes the keys: every worker obeys in time, others do not notice."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from flask_m2m_cognito.testing import LocalUserPool
from tests.processes.fleet import Fleet, gunicorn, run_command
from tests.processes.settings import files, memcached, redis, settings
from tests.support.services import Service, running_redis
from tests.support.threads import Load, load, wait_for

pytestmark = [pytest.mark.processes, pytest.mark.slow]

REACH = 11.0
COMMAND = 30.0
"""The most seconds for which a command runs on a slow machine."""


@dataclass(frozen=True)
class Sent:
    """A request: when it began, and the status and the process of its answer."""

    began: float
    status: int
    pid: str


@dataclass
class Caller:
    """A client with one token, and the requests that it has sent."""

    fleet: Fleet
    token: str
    sent: list[Sent] = field(default_factory=list)

    def send(self) -> tuple[int, float]:
        began = time.monotonic()
        answer = self.fleet.get("/items", self.token)
        self.sent.append(Sent(began, answer.status, answer.headers["X-Pid"]))
        return answer.status, time.monotonic() - began

    def since(self, moment: float) -> list[Sent]:
        return [each for each in self.sent if each.began > moment]

    def reach_every_worker(self, workers: int, since: float) -> None:
        """Send requests until every worker has answered one."""
        wait_for(
            lambda: self.send() and len({each.pid for each in self.since(since)}) == workers, "all answer"
        )

    def pids_of(self, status: int, since: float) -> set[str]:
        """Return the processes that have answered with this status since then."""
        return {each.pid for each in self.since(since) if each.status == status}

    def seconds_until_all_answer(self, status: int, workers: int, after: float, calls: Load) -> float:
        """Wait until every worker answers with ``status``. Return when another one was last, in seconds."""
        wait_for(lambda: len(self.pids_of(status, after)) == workers, f"all answer {status}", REACH + COMMAND)
        calls.go_on_for(50)
        return max((each.began - after for each in self.since(after) if each.status != status), default=0.0)


@pytest.fixture
def pool() -> Iterator[LocalUserPool]:
    with LocalUserPool(clients={"shop": None, "reports": None}) as pool:
        yield pool


@contextmanager
def running(config: dict[str, object], workers: int) -> Iterator[Fleet]:
    """Run a fleet whose workers have all started."""
    with gunicorn(config, ["-w", str(workers), "-k", "gthread", "--threads", "4"]) as fleet:
        started: set[str] = set()

        def has_started() -> bool:
            started.add(fleet.get("/internal/health").headers["X-Pid"])
            return len(started) == workers

        wait_for(has_started, "the workers have started")
        yield fleet


def run(config: dict[str, object], *arguments: str) -> float:
    """Run a command. Return when it ended."""
    run_command(config, *arguments)
    return time.monotonic()


def test_revoked_client_is_rejected_within_11_s(pool: LocalUserPool, own_redis: Service) -> None:
    config = settings(pool, redis(own_redis), REVOCATIONS=True)
    with running(config, 4) as fleet:
        shop, reports = (Caller(fleet, pool.token(client_id=each)) for each in ("shop", "reports"))
        with load(shop.send, threads=2) as calls, load(reports.send, threads=2) as others:
            for command, status in (("revoke", 401), ("unrevoke", 200)):
                ended = run(config, command, "shop", "--no-wait")
                assert shop.seconds_until_all_answer(status, 4, ended, calls) < REACH
        assert others.statuses == {200}, fleet.log


def test_revocation_survives_redis_killed_after_the_command(pool: LocalUserPool, own_redis: Service) -> None:
    config = settings(pool, redis(own_redis), REVOCATIONS=True)
    with running(config, 4) as fleet, ExitStack() as again:
        shop, reports = (Caller(fleet, pool.token(client_id=each)) for each in ("shop", "reports"))
        with load(shop.send, threads=2) as calls, load(reports.send, threads=2) as others:
            ended = run(config, "revoke", "shop")
            own_redis.stop()
            wait_for(lambda: fleet.log.count("Could not fetch the list of revocations") == 4, "all noticed")
            assert shop.seconds_until_all_answer(401, 4, ended, calls) == 0
            # It restarts empty, and the workers store the list again.
            again.enter_context(running_redis(own_redis.port))
            wait_for(lambda: "shop" in run_command(config, "revocations"), "the list is stored again")
            ended = run(config, "unrevoke", "shop", "--no-wait")
            assert shop.seconds_until_all_answer(200, 4, ended, calls) < REACH
        assert others.statuses == {200}, fleet.log


def test_withdrawn_key_is_rejected_within_11_s_of_the_refresh(
    pool: LocalUserPool, own_redis: Service
) -> None:
    config = settings(pool, redis(own_redis), REVOCATIONS=True)
    with running(config, 4) as fleet:
        shop = Caller(fleet, pool.token())
        with load(shop.send) as calls:
            calls.go_on_for(50)
            pool.rotate_key(keep_old=False)
            ended = run(config, "refresh-keys")
            assert shop.seconds_until_all_answer(401, 4, ended, calls) < REACH


def test_idle_workers_obey_at_their_first_request(pool: LocalUserPool, own_redis: Service) -> None:
    config = settings(pool, redis(own_redis), REVOCATIONS=True)
    with running(config, 4) as fleet:
        shop, reports = (Caller(fleet, pool.token(client_id=each)) for each in ("shop", "reports"))
        for caller in (shop, reports):
            caller.reach_every_worker(4, 0.0)
        pool.rotate_key(keep_old=False)
        run(config, "refresh-keys")
        ended = run(config, "revoke", "shop")
        for caller in (shop, reports):
            caller.reach_every_worker(4, ended)
            assert {each.status for each in caller.since(ended)} == {401}


@pytest.mark.parametrize("kind", ["memcached", "files"])
def test_other_caches_tell_every_process(
    kind: str, pool: LocalUserPool, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    is_memcached = kind == "memcached"
    cache = memcached(request.getfixturevalue("memcached_server")) if is_memcached else files(tmp_path)
    config = settings(pool, cache, REVOCATIONS=True)
    with running(config, 2) as fleet:
        shop = Caller(fleet, pool.token(client_id="shop"))
        with load(shop.send, threads=2) as calls:
            ended = run(config, "revoke", "shop", "--no-wait")
            assert shop.seconds_until_all_answer(401, 2, ended, calls) < REACH
