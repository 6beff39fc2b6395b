"""A pool and a service on moved clocks, and the records and signals of the library."""

from __future__ import annotations

import gc
import logging
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from flask_m2m_cognito import signals
from flask_m2m_cognito.testing import LocalUserPool
from tests.support.clocks import Clocks

from .stage import MovedService, Records, moved_service


@pytest.fixture
def clocks() -> Clocks:
    return Clocks()


@pytest.fixture
def pool(clocks: Clocks) -> Iterator[LocalUserPool]:
    """A pool that uses the moved clocks."""
    with LocalUserPool(clock=clocks.wall) as pool:
        yield pool


@pytest.fixture
def real_pool() -> Iterator[LocalUserPool]:
    """A pool that uses the real clock, for an application that does."""
    with LocalUserPool() as pool:
        yield pool


@pytest.fixture
def service(pool: LocalUserPool, clocks: Clocks) -> MovedService:
    """A service that has the keys of ``pool`` and a token."""
    service = moved_service(pool, clocks)
    assert service.get("/relay", pool.token()).status_code == 200
    clocks.advance(1)
    return service


@pytest.fixture
def records() -> Iterator[Records]:
    """The library's log records, of every level."""
    gc.disable()  # applications of earlier tests log their counts of rejections when they are collected
    logger, handler = logging.getLogger("flask_m2m_cognito"), Records()
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    yield handler
    logger.setLevel(level)
    logger.removeHandler(handler)
    gc.enable()


@pytest.fixture
def signalled() -> Iterator[list[tuple[str, Any, dict[str, Any]]]]:
    """Every signal of the library: its name, its sender and its arguments."""
    received: list[tuple[str, Any, dict[str, Any]]] = []

    def receiver(name: str) -> Callable[..., None]:
        return lambda sender, **arguments: received.append((name, sender, arguments))

    with ExitStack() as stack:
        for name, signal in signals._signals.items():
            stack.enter_context(signal.connected_to(receiver(name)))
        yield received
