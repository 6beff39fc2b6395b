"""Pools for the tests of validators: one with a stopped clock, and one with the test's clocks."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from flask_m2m_cognito.testing import LocalUserPool
from tests.support.clocks import NOW, Clocks


@pytest.fixture
def pool() -> Iterator[LocalUserPool]:
    """Return a new, working pool with a stopped clock."""
    with LocalUserPool(clock=lambda: NOW) as pool:
        yield pool


@pytest.fixture
def own_pool(clocks: Clocks) -> Iterator[LocalUserPool]:
    """Return a new pool with the clocks of this test."""
    with LocalUserPool(clock=clocks.wall) as pool:
        yield pool


@pytest.fixture
def clocks() -> Clocks:
    return Clocks()
