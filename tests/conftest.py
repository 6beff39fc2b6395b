"""Fixtures for every test: a user pool, real Redis and Memcached, and an event loop.

``redis_server`` and ``memcached_server`` run for the whole session, and are empty at the start of each test
that uses them. A test that stops its server uses ``own_redis`` or ``own_memcached``.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import Any

import pytest

from flask_m2m_cognito.testing import LocalUserPool
from tests.support.services import Service, ServiceMissing, running_memcached, running_redis
from tests.support.used_keys import UsedKeys

_SERVICE_FIXTURES = frozenset({"own_memcached", "own_redis", "memcached_server", "redis_server"})


@pytest.fixture
def pool() -> Iterator[LocalUserPool]:
    """A pool for this test alone. It takes a millisecond, because it reuses the key of an earlier test."""
    with LocalUserPool() as pool:
        pool.jwks()  # creates its key now, so a test that measures a request does not measure that
        yield pool


@pytest.fixture
def redis_server(_shared_redis: Service) -> Service:
    """The session's Redis, empty."""
    _shared_redis.empty()
    return _shared_redis


@pytest.fixture
def memcached_server(_shared_memcached: Service) -> Service:
    """The session's Memcached, empty."""
    _shared_memcached.empty()
    return _shared_memcached


@pytest.fixture
def own_redis() -> Iterator[Service]:
    """A Redis for this test alone, which may pause or stop it."""
    yield from _service(running_redis())


@pytest.fixture
def own_memcached() -> Iterator[Service]:
    """A Memcached for this test alone, which may pause or stop it."""
    yield from _service(running_memcached())


@pytest.fixture
def names_of_loopback(monkeypatch: pytest.MonkeyPatch) -> None:
    """Resolve every name that ends with ``.test`` to this machine."""
    resolve = socket.getaddrinfo

    def resolved(host: Any, *more: Any, **named: Any) -> Any:
        name = host.decode() if isinstance(host, bytes) else host
        return resolve("127.0.0.1" if str(name).endswith(".test") else host, *more, **named)

    monkeypatch.setattr(socket, "getaddrinfo", resolved)


@pytest.fixture
def current_event_loop() -> Iterator[None]:
    """An event loop for mangum, which would otherwise create one and leave it open."""
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    yield
    asyncio.set_event_loop(None)
    loop.close()


@pytest.fixture(scope="session")
def _shared_redis() -> Iterator[Service]:
    yield from _service(running_redis())


@pytest.fixture(scope="session")
def _shared_memcached() -> Iterator[Service]:
    yield from _service(running_memcached())


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(UsedKeys())


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """``-n auto``: one worker more than there are cores, at most 4.

    On two cores, two workers took 144 s for 165 s of CPU time, because many tests wait for time limits. More
    workers are not faster: each collects all tests, which takes 9 s of CPU time, and starts its own Redis.
    """
    return min((os.cpu_count() or 1) + 1, 4)


@pytest.hookimpl(tryfirst=True)  # before -m selects by marker
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if not _SERVICE_FIXTURES.isdisjoint(getattr(item, "fixturenames", ())):
            item.add_marker("services")


def _service(running: AbstractContextManager[Service]) -> Iterator[Service]:
    """Yield the running service. If its program is missing, skip the test, or fail in CI."""
    try:
        with running as service:
            yield service
    except ServiceMissing as missing:
        if os.environ.get("CI"):
            pytest.fail(f"{missing}, and in CI every test must run", pytrace=False)
        pytest.skip(str(missing))
