"""Fixtures for tests of guarded views. pytest finds this plugin by itself once the package is installed."""

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
    """A new user pool for each test: ``m2m_pool.config()`` has the settings for an application."""
    from ._local_user_pool import LocalUserPool

    with LocalUserPool() as pool:
        yield pool


@pytest.fixture(scope="session")
def m2m_session_pool() -> Iterator[LocalUserPool]:
    """One user pool for the whole test session, for an application that lives as long.

    Faults, recorded requests and added clients stay from test to test.
    """
    from ._local_user_pool import LocalUserPool

    with LocalUserPool() as pool:
        yield pool


@pytest.fixture
def m2m_headers(request: pytest.FixtureRequest) -> M2MHeaders:
    """``m2m_headers("inventory/read")``: the headers of a request with a valid token.

    The token is of ``m2m_session_pool`` if the test, or a fixture of it, uses that pool and not
    ``m2m_pool``; else of ``m2m_pool``. Made without HTTP. Takes ``client_id=`` and claims,
    as :meth:`LocalUserPool.token` does.
    """

    in_use = request.fixturenames
    of_session = "m2m_session_pool" in in_use and "m2m_pool" not in in_use
    pool: LocalUserPool = request.getfixturevalue("m2m_session_pool" if of_session else "m2m_pool")

    def headers(*scopes: str, client_id: str | None = None, **claims: Any) -> dict[str, str]:
        return {"Authorization": f"Bearer {pool.token(scopes, client_id, **claims)}"}

    return headers


@pytest.fixture
def m2m_no_threads() -> Iterator[None]:
    """Refreshes run on the thread that asks for the value, whenever its application was initialised.

    For mocks that hold only for a thread, or hold a lock while they answer, such as those of requests-mock.
    What a coroutine waits for is fetched on its event loop's thread, which stands still meanwhile. Nothing
    ends the wait for a resolver or a cache that hangs.
    """
    from ..remote.threads import no_threads

    with no_threads():
        yield


@pytest.fixture
def m2m_clock() -> Iterator[MovedClock]:
    """A clock that the test moves, for the applications that it initialises."""
    from ._moved_clock import MovedClock

    with MovedClock() as clock:
        yield clock
