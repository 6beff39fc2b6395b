"""Fixtures for every test: a user pool, real Redis and Memcached, and an event loop.

``redis_server`` and ``memcached_server`` run for the whole session and are empty at the start of each test
that asks for them. A test that stops its server asks for ``own_redis`` or ``own_memcached``.
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
    """A pool of this test alone, which costs a millisecond: its key is mostly one of an earlier test's."""
    with LocalUserPool() as pool:
        pool.jwks()  # its key is there before the time of a test's request begins
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
    """A Redis of this test alone, which may pause or stop it."""
    yield from _service(running_redis())


@pytest.fixture
def own_memcached() -> Iterator[Service]:
    """A Memcached of this test alone, which may pause or stop it."""
    yield from _service(running_memcached())


@pytest.fixture
def names_of_loopback(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every name that ends with ``.test`` is an address of this machine."""
    resolve = socket.getaddrinfo

    def resolved(host: Any, *more: Any, **named: Any) -> Any:
        name = host.decode() if isinstance(host, bytes) else host
        return resolve("127.0.0.1" if str(name).endswith(".test") else host, *more, **named)

    monkeypatch.setattr(socket, "getaddrinfo", resolved)


@pytest.fixture
def current_event_loop() -> Iterator[None]:
    """An event loop for mangum, which else makes one when it is built, and leaves it open."""
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

    On two cores two workers took 144 s for 165 s of CPU: many tests wait for others' time limits. Each worker
    collects all tests, 9 s of CPU, and has a Redis of its own, so that many more are no quicker.
    """
    return min((os.cpu_count() or 1) + 1, 4)


@pytest.hookimpl(tryfirst=True)  # before -m chooses by the marker
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if not _SERVICE_FIXTURES.isdisjoint(getattr(item, "fixturenames", ())):
            item.add_marker("services")


def _service(running: AbstractContextManager[Service]) -> Iterator[Service]:
    """The started service, else a skip that says what is missing, or in CI a failure."""
    try:
        with running as service:
            yield service
    except ServiceMissing as missing:
        if os.environ.get("CI"):
            pytest.fail(f"{missing}, and in CI every test must run", pytrace=False)
        pytest.skip(str(missing))
