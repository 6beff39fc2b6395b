"""The pool rotates its keys: the new one is accepted at once, a withdrawn one no longer after a download."""

from __future__ import annotations

from flask_m2m_cognito.testing import LocalUserPool
from tests.support.clocks import Clocks

from .stage import MovedService, SharedCache, moved_service


class TestSharedEntryWithoutTheKey:
    """A process has key set 0, the cache has set 1, and tokens are signed with the key of set 2."""

    def two_processes(self, pool: LocalUserPool, clocks: Clocks) -> tuple[MovedService, MovedService]:
        cache = SharedCache()
        one, other = (moved_service(pool, clocks, cache=cache) for _ in range(2))
        assert one.get("/items", pool.token()).status_code == 200
        clocks.advance(1)
        pool.rotate_key(keep_old=True)
        assert other.get("/items", pool.token()).status_code == 200
        clocks.advance(1)
        return one, other

    def test_cached_set_without_the_kid_does_not_end_the_renewal(
        self, pool: LocalUserPool, clocks: Clocks
    ) -> None:
        one, _ = self.two_processes(pool, clocks)
        pool.rotate_key(keep_old=True)
        downloads = pool.count("jwks")
        assert one.get("/items", pool.token()).status_code == 200
        assert pool.count("jwks") == downloads + 1

    def test_loading_the_cached_set_starts_no_cooldown(self, pool: LocalUserPool, clocks: Clocks) -> None:
        one, _ = self.two_processes(pool, clocks)
        token_of_set_1, downloads = pool.token(), pool.count("jwks")
        assert one.get("/items", token_of_set_1).status_code == 200
        assert pool.count("jwks") == downloads, "its key came from the cache"
        pool.rotate_key(keep_old=True)
        assert one.get("/items", pool.token()).status_code == 200
        assert pool.count("jwks") == downloads + 1


def test_new_kid_is_503_and_not_401_in_an_outage(
    service: MovedService, pool: LocalUserPool, clocks: Clocks
) -> None:
    old = pool.token()
    pool.rotate_key()
    new = pool.token()
    pool.offline()
    answer = service.get("/items", new)
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "10")
    assert service.get("/items", old).status_code == 200
    pool.online()
    clocks.advance(10)
    assert service.get("/items", new).status_code == 200
