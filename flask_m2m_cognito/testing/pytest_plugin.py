"""Fixtures for tests of guarded views. pytest loads this plugin when the package is installed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from ._local_user_pool import LocalUserPool
    from ._moved_clock import MovedClock
    from ._tokens import M2MHeaders


@pytest.fixture
def m2m_pool() -> Iterator[LocalUserPool]:
    """A new user pool for each test. ``m2m_pool.config()`` returns settings for an application."""
    from ._local_user_pool import LocalUserPool

    with LocalUserPool() as pool:
        yield pool


@pytest.fixture(scope="session")
def m2m_session_pool() -> Iterator[LocalUserPool]:
    """One user pool for the whole test session, for an application that is created once.

    Faults, recorded requests and added clients persist between tests.
    """
    from ._local_user_pool import LocalUserPool

    with LocalUserPool() as pool:
        yield pool


@pytest.fixture
def m2m_headers(request: pytest.FixtureRequest) -> M2MHeaders:
    """A function that returns request headers with a valid token: ``m2m_headers("inventory/read")``.

    The token is from ``m2m_session_pool`` if the test, or a fixture of it, uses that pool and not
    ``m2m_pool``; else from ``m2m_pool``. It is created without HTTP. The function takes
    ``client_id=`` and claims, as :meth:`LocalUserPool.token` does.
    """

    in_use = request.fixturenames
    of_session = "m2m_session_pool" in in_use and "m2m_pool" not in in_use
    pool: LocalUserPool = request.getfixturevalue("m2m_session_pool" if of_session else "m2m_pool")

    def headers(*scopes: str, client_id: str | None = None, **claims: Any) -> dict[str, str]:
        return {"Authorization": f"Bearer {pool.token(scopes, client_id, **claims)}"}

    return headers


@pytest.fixture
def m2m_no_threads() -> Iterator[None]:
    """Run each refresh on the calling thread, for applications initialised before or during the test.

    Use it with mocks that work on one thread only, or that hold a lock while they answer, such as those of
    requests-mock. For a coroutine the refresh blocks the thread of the event loop. A resolver or a cache that
    hangs blocks the test: there is no deadline.
    """
    from ..remote.threads import no_threads

    with no_threads():
        yield


@pytest.fixture
def m2m_clock() -> Iterator[MovedClock]:
    """A clock that the test moves, for applications that are initialised in the test."""
    from ._moved_clock import MovedClock

    with MovedClock() as clock:
        yield clock
