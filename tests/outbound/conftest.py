"""A pool with the clock of the test, threads that the test controls, and services to call."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from flask_m2m_cognito.testing import LocalUserPool
from tests.outbound.clocks import Threads
from tests.outbound.peers import Peer
from tests.support.clocks import Clocks


@pytest.fixture
def clocks() -> Clocks:
    return Clocks()


@pytest.fixture
def threads() -> Threads:
    return Threads()


@pytest.fixture
def pool(clocks: Clocks) -> Iterator[LocalUserPool]:
    """A pool whose tokens are issued by the test's clock."""
    with LocalUserPool(clock=clocks.wall) as started:
        started.jwks()  # creates the key now, so no request of a test waits for it
        yield started


@pytest.fixture
def peer() -> Iterator[Peer]:
    with Peer() as started:
        yield started


@pytest.fixture
def stranger() -> Iterator[Peer]:
    """A service of another origin."""
    with Peer() as started:
        yield started


@pytest.fixture(params=["httpx", "httpx2"])
def http(request: pytest.FixtureRequest) -> Any:
    """httpx, and httpx2, which the package of MCP clients installs up to Python 3.13."""
    return pytest.importorskip(request.param)
