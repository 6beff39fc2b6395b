"""Pools for the tests of validators: one whose clock stands still, and one by the test's clocks."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from flask_m2m_cognito.testing import LocalUserPool
from tests.support.clocks import NOW, Clocks


@pytest.fixture
def pool() -> Iterator[LocalUserPool]:
    """A pool that is well and has got no request, and whose clock stands still."""
    with LocalUserPool(clock=lambda: NOW) as pool:
        yield pool


@pytest.fixture
def own_pool(clocks: Clocks) -> Iterator[LocalUserPool]:
    """A pool of this test alone, by its clocks."""
    with LocalUserPool(clock=clocks.wall) as pool:
        yield pool


@pytest.fixture
def clocks() -> Clocks:
    return Clocks()
