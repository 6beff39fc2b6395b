"""Coroutines get a cached token without a thread, and wait for a fetch without blocking the event loop."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import Awaitable, Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

import pytest
from flask import Flask

from flask_m2m_cognito import CognitoM2M, TokenUnavailableError
from flask_m2m_cognito.outbound.bearer_auth import bearer_auth
from flask_m2m_cognito.outbound.token_endpoint import CognitoM2MClient
from flask_m2m_cognito.outbound.token_source import TokenSource
from flask_m2m_cognito.remote.refreshable import Refreshing
from flask_m2m_cognito.testing import LocalUserPool
from tests.outbound.clocks import Threads, refreshing
from tests.outbound.peers import Peer
from tests.support.clocks import Clocks
from tests.support.settling import settle

T = TypeVar("T")

HOUR = 3600.0


class CountedThreads(ThreadPoolExecutor):
    """The default executor of a loop, which counts its tasks."""

    def __init__(self) -> None:
        super().__init__(max_workers=4)
        self.used = 0

    def submit(self, *task: Any, **more: Any) -> Future[Any]:
        self.used += 1
        return super().submit(*task, **more)


def run_on_a_loop(coroutine: Callable[[], Awaitable[T]]) -> tuple[T, int]:
    """Return the result, and the number of threads that it used."""

    async def run() -> tuple[T, int]:
        threads = CountedThreads()
        asyncio.get_running_loop().set_default_executor(threads)
        result = await coroutine()
        return result, threads.used

    return asyncio.run(run())


def run_without_blocking_the_loop(pool: LocalUserPool, coroutine: Callable[[], Awaitable[T]]) -> T:
    """Return the result. The pool only responds after the loop has run a hundred iterations."""

    async def run() -> T:
        task = asyncio.ensure_future(coroutine())
        await asyncio.to_thread(pool.wait_for, "token")
        for _ in range(100):
            await asyncio.sleep(0)
        assert not task.done()
        pool.recover("token")
        return await task

    pool.clear_requests()
    with pool.delay("token", 60):
        return asyncio.run(run())


def source_of(
    pool: LocalUserPool, clocks: Clocks, threads: Threads, in_background: bool = True
) -> TokenSource:
    client = CognitoM2MClient(pool.token_url, "local-client", pool.client().secret)
    return TokenSource(client, ["a/read"], refreshing=refreshing(clocks, threads, 0.0, in_background))


def real_source_of(pool: LocalUserPool, clocks: Clocks, in_background: bool = True) -> TokenSource:
    """Return a source that starts real threads, as in an application."""
    client = CognitoM2MClient(pool.token_url, "local-client", pool.client().secret)
    time = Refreshing(clocks.clock, in_background=in_background)
    return TokenSource(client, ["a/read"], refreshing=time)


class TestSource:
    @pytest.mark.parametrize("in_background", [True, False], ids=["in background", "inline"])
    def test_first_fetch_does_not_block_the_loop(
        self, pool: LocalUserPool, clocks: Clocks, in_background: bool
    ) -> None:
        source = real_source_of(pool, clocks, in_background=in_background)
        token = run_without_blocking_the_loop(pool, source.token_async)
        assert token == source.token()
        assert pool.count("token") == 1

    def test_coroutines_share_one_request(self, pool: LocalUserPool, clocks: Clocks) -> None:
        source = real_source_of(pool, clocks)

        async def get_many() -> list[str]:
            return await asyncio.gather(*(source.token_async() for _ in range(50)))

        assert set(run_without_blocking_the_loop(pool, get_many)) == {source.token()}
        assert pool.count("token") == 1

    @pytest.mark.parametrize("method", ["token_async", "refreshed_token_async"])
    def test_each_waiting_coroutine_gets_its_own_error(
        self, pool: LocalUserPool, clocks: Clocks, threads: Threads, method: str
    ) -> None:
        get = getattr(source_of(pool, clocks, threads), method)

        async def failures() -> list[BaseException | str]:
            return await asyncio.gather(*(get() for _ in range(20)), return_exceptions=True)

        with pool.fail("token", status=400):
            errors, used = run_on_a_loop(failures)
        assert {type(error) for error in errors} == {TokenUnavailableError}
        assert len({id(error) for error in errors}) == 20
        assert (pool.count("token"), used) == (1, 0)

    @pytest.mark.parametrize(("method", "requests"), [("token_async", 1), ("refreshed_token_async", 2)])
    def test_cancelled_coroutine_does_not_affect_others(
        self, pool: LocalUserPool, clocks: Clocks, method: str, requests: int
    ) -> None:
        source = real_source_of(pool, clocks)

        async def get_and_cancel() -> list[BaseException | str]:
            waiting = [asyncio.create_task(getattr(source, method)()) for _ in range(6)]
            await asyncio.sleep(0)
            for each in waiting[:3]:
                each.cancel()
            return await asyncio.gather(*waiting, return_exceptions=True)

        outcomes = run_without_blocking_the_loop(pool, get_and_cancel)
        assert [type(each) for each in outcomes[:3]] == [asyncio.CancelledError] * 3
        assert set(outcomes[3:]) == {source.token()}
        assert pool.count("token") == requests

    def test_coroutines_that_time_out_occupy_no_thread(self, pool: LocalUserPool, clocks: Clocks) -> None:
        source = real_source_of(pool, clocks)

        async def give_up() -> None:
            for _ in range(6):
                with pytest.raises(asyncio.TimeoutError):
                    await asyncio.wait_for(source.token_async(), 0.01)
            pool.recover("token")

        with pool.delay("token", 60):
            assert run_on_a_loop(give_up) == (None, 0)
        assert pool.count("token") == 1

    def test_abandoned_failure_is_not_logged_by_asyncio(
        self, pool: LocalUserPool, clocks: Clocks, caplog: pytest.LogCaptureFixture
    ) -> None:
        source = real_source_of(pool, clocks)

        async def give_up() -> None:
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(source.token_async(), 0.01)

        with pool.delay("token", 0.3), pool.fail("token", status=400):
            run_on_a_loop(give_up)
        gc.collect()
        assert [record for record in caplog.records if record.name == "asyncio"] == []

    def test_loop_closed_during_a_fetch_is_released(
        self, pool: LocalUserPool, clocks: Clocks, caplog: pytest.LogCaptureFixture
    ) -> None:
        source = real_source_of(pool, clocks)

        async def give_up() -> None:
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(source.token_async(), 0.01)

        with pool.delay("token", 0.3):
            loop = asyncio.new_event_loop()
            loop.run_until_complete(give_up())
            loop.close()
            closed = weakref.ref(loop)
            del loop
            token = asyncio.run(source.token_async())
        settle()
        gc.collect()
        assert token == source.token()
        assert closed() is None
        assert caplog.records == []

    @pytest.mark.parametrize(
        ("age", "in_background", "is_forgotten", "is_newer"),
        [
            pytest.param(0, True, False, False, id="fresh"),
            pytest.param(0, False, False, False, id="fresh, inline"),
            pytest.param(0.9 * HOUR, True, False, False, id="usable"),
            pytest.param(0.9 * HOUR, False, False, True, id="usable, inline"),
            pytest.param(60, True, True, True, id="forgotten"),
        ],
    )
    def test_token_occupies_no_thread_of_the_loop(
        self,
        pool: LocalUserPool,
        clocks: Clocks,
        threads: Threads,
        age: float,
        in_background: bool,
        is_forgotten: bool,
        is_newer: bool,
    ) -> None:
        source = source_of(pool, clocks, threads, in_background=in_background)
        held = source.token()
        clocks.advance(age)
        if is_forgotten:
            source.forget(held)
        threads.held = in_background and not is_forgotten
        token, used = run_on_a_loop(source.token_async)
        assert (token != held, used) == (is_newer, 0)

    def test_usable_token_occupies_no_thread_during_backoff(
        self, pool: LocalUserPool, clocks: Clocks, threads: Threads
    ) -> None:
        source = source_of(pool, clocks, threads, in_background=False)
        held = source.token()
        clocks.advance(0.9 * HOUR)
        with pool.fail("token", status=500):
            assert run_on_a_loop(source.token_async) == (held, 0)
            assert run_on_a_loop(source.token_async) == (held, 0)

    def test_forced_renewals_of_a_loop_share_the_next_request(self, pool: LocalUserPool) -> None:
        source = real_source_of(pool, Clocks())
        old = source.token()
        threads = CountedThreads()

        async def renew_often() -> list[str]:
            asyncio.get_running_loop().set_default_executor(threads)
            return await asyncio.gather(*(source.refreshed_token_async() for _ in range(60)))

        tokens = run_without_blocking_the_loop(pool, renew_often)
        assert old not in tokens
        assert (len(set(tokens)), pool.count("token"), threads.used) == (2, 2, 0)

    def test_error_is_immediate_during_backoff(
        self, pool: LocalUserPool, clocks: Clocks, threads: Threads
    ) -> None:
        source = source_of(pool, clocks, threads)

        async def failure() -> TokenUnavailableError:
            with pytest.raises(TokenUnavailableError) as caught:
                await source.token_async()
            return caught.value

        pool.set_secrets("local-client", "another")
        try:
            (first, used), (again, used_again) = run_on_a_loop(failure), run_on_a_loop(failure)
        finally:
            pool.set_secrets("local-client", source.client.client_secret)  # type: ignore[arg-type]
        assert (first.error_code, used) == ("invalid_client", 0)
        assert (again.error_code, used_again) == ("invalid_client", 0)
        assert pool.count("token") == 1


class TestHttpx:
    def test_first_fetch_does_not_block_the_loop(
        self, http: Any, pool: LocalUserPool, clocks: Clocks, peer: Peer
    ) -> None:
        source = real_source_of(pool, clocks)
        assert run_without_blocking_the_loop(pool, lambda: send(http, source, peer)) == 200
        assert peer.received[0].token == source.token()

    def test_fresh_token_occupies_no_thread(
        self, http: Any, pool: LocalUserPool, clocks: Clocks, threads: Threads, peer: Peer
    ) -> None:
        source = source_of(pool, clocks, threads)
        source.token()
        assert count_threads_for_the_token(http, source, peer) == 0

    def test_second_try_does_not_block_the_loop(
        self, http: Any, pool: LocalUserPool, clocks: Clocks, peer: Peer
    ) -> None:
        source = real_source_of(pool, clocks)
        old = source.token()
        clocks.advance(60)
        peer.refuses(old)
        assert run_without_blocking_the_loop(pool, lambda: send(http, source, peer)) == 200
        assert peer.tokens == [old, source.token()]


async def send(http: Any, source: TokenSource, peer: Peer) -> int:
    return await get(http, source, peer.url())


async def get(http: Any, source: TokenSource, url: str) -> int:
    async with http.AsyncClient(trust_env=False, verify=False, timeout=30) as client:
        return int((await client.get(url, auth=bearer_auth(source))).status_code)


def count_threads_for_the_token(http: Any, source: TokenSource, peer: Peer) -> int:
    """Return how many more threads a request uses than the same request without a token."""

    async def without() -> None:
        async with http.AsyncClient(trust_env=False, verify=False, timeout=30) as client:
            await client.get(peer.url())

    return run_on_a_loop(lambda: send(http, source, peer))[1] - run_on_a_loop(without)[1]


class TestApplication:
    @pytest.fixture
    def m2m(self) -> CognitoM2M:
        return CognitoM2M()

    @pytest.fixture
    def app(self, pool: LocalUserPool, m2m: CognitoM2M) -> Flask:
        app = Flask("orders")
        pool.add_client("billing", scopes="invoices/read")
        billing = {"CLIENT_ID": "billing", "CLIENT_SECRET": pool.client("billing").secret}
        app.config.update(pool.config(ALLOWED_CLIENT_IDS="*", CLIENTS={"billing": billing}))
        m2m.init_app(app)
        return app

    def test_token_async_returns_the_same_tokens_as_token(self, app: Flask, m2m: CognitoM2M) -> None:
        async def get_tokens() -> list[str]:
            return [
                await m2m.token_async(),
                await m2m.token_async("a/read"),
                await m2m.token_async("invoices/read", client="billing"),
                await m2m.for_app(app).token_async(["a/read"]),
            ]

        default, read, billing, read_again = asyncio.run(get_tokens())
        assert (default, read) == (m2m.token(), m2m.token("a/read"))
        assert billing == m2m.token("invoices/read", client="billing")
        assert read_again == read

    def test_fetch_in_an_async_view_does_not_block_the_loop(
        self, app: Flask, m2m: CognitoM2M, pool: LocalUserPool
    ) -> None:
        @app.get("/order")
        async def order() -> dict[str, bool]:
            async def turn_the_loop() -> None:
                await asyncio.to_thread(pool.wait_for, "token")
                pool.recover("token")

            token, _ = await asyncio.gather(m2m.token_async(), turn_the_loop())
            return {"same": token == m2m.token()}

        with pool.delay("token", 60):
            assert app.test_client().get("/order").json == {"same": True}
        assert pool.count("token") == 1

    def test_failure_in_an_async_view_is_503(self, app: Flask, m2m: CognitoM2M, pool: LocalUserPool) -> None:
        @app.get("/order")
        async def order() -> str:
            return await m2m.token_async()

        with pool.fail("token", status=500):
            answer = app.test_client().get("/order")
        assert answer.status_code == 503
        assert answer.headers["Retry-After"]
