"""A pool in this process, and ``flask m2m`` in others."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from flask_m2m_cognito.testing import LocalUserPool
from tests.cli.flask_process import Flask
from tests.support.sockets import free_port


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "flask" in getattr(item, "fixturenames", ()):
            item.add_marker("processes")


@pytest.fixture
def pool() -> Iterator[LocalUserPool]:
    with LocalUserPool(clients={"shop-client": "stock/read stock/write", "billing": None}) as started:
        yield started


@pytest.fixture
def flask(pool: LocalUserPool, tmp_path: Path) -> Flask:
    return Flask(pool, tmp_path)


@pytest.fixture
def early_pool() -> Iterator[LocalUserPool]:
    """A pool whose clock is five minutes ahead."""
    with LocalUserPool(clock=lambda: time.time() + 300) as started:
        yield started


@pytest.fixture
def port() -> int:
    return free_port()
