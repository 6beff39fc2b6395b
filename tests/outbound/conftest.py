"""A pool by the clock of the test's file."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from flask_m2m_cognito.testing import LocalUserPool
from tests.support.clocks import Clocks


@pytest.fixture
def pool(clocks: Clocks) -> Iterator[LocalUserPool]:
    """A pool whose tokens begin by the test's clock."""
    with LocalUserPool(clock=clocks.wall) as started:
        started.jwks()  # its key is there before the time of a test's request begins
        yield started
