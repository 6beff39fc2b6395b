"""Pools for the tests of validators: one that all share, and one that a test has for itself."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from flask_m2m_cognito.testing import LocalUserPool
from tests.support.clocks import NOW, Clocks


@pytest.fixture(scope="session")
def _shared_pool() -> Iterator[LocalUserPool]:
    with LocalUserPool(clock=lambda: NOW) as pool:
        yield pool


@pytest.fixture
def pool(_shared_pool: LocalUserPool) -> Iterator[LocalUserPool]:
    """A pool that is well and has got no request. Its key stays: who rotates it takes ``own_pool``."""
    _shared_pool.clear_requests()
    yield _shared_pool
    _shared_pool.online()
    _shared_pool.recover()


@pytest.fixture
def own_pool(clocks: Clocks) -> Iterator[LocalUserPool]:
    """A pool of this test alone, by its clocks."""
    with LocalUserPool(clock=clocks.wall) as pool:
        yield pool


@pytest.fixture
def clocks() -> Clocks:
    return Clocks()
