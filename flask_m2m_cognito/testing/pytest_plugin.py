"""Fixtures for tests of guarded views. pytest finds this plugin by itself once the package is installed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Protocol

import pytest

if TYPE_CHECKING:
    from .local_user_pool import LocalUserPool
    from .moved_clock import MovedClock


class M2MHeaders(Protocol):
    """Makes the headers of a request with a good token."""

    def __call__(self, *scopes: str, client_id: str | None = None, **claims: Any) -> dict[str, str]: ...


@pytest.fixture
def m2m_pool() -> Iterator[LocalUserPool]:
    """A user pool on a loopback port: ``m2m_pool.config()`` has the settings for an application."""
    from .local_user_pool import LocalUserPool

    with LocalUserPool() as pool:
        yield pool


@pytest.fixture
def m2m_headers(m2m_pool: LocalUserPool) -> M2MHeaders:
    """``m2m_headers("inventory/read")``: the headers of a request with a good token of ``m2m_pool``.

    Made without HTTP. Takes ``client_id=`` and claims, as :meth:`LocalUserPool.token` does.
    """

    def headers(*scopes: str, client_id: str | None = None, **claims: Any) -> dict[str, str]:
        return {"Authorization": f"Bearer {m2m_pool.token(scopes, client_id, **claims)}"}

    return headers


@pytest.fixture
def m2m_clock() -> Iterator[MovedClock]:
    """A clock that the test moves, for the applications that it initialises."""
    from .moved_clock import MovedClock

    with MovedClock() as clock:
        yield clock
