"""How long a token is used, when it is renewed, and what a caller gets if none is available."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
from cachelib import SimpleCache

from flask_m2m_cognito.exceptions import CognitoTokenRequestError, TokenUnavailableError
from flask_m2m_cognito.outbound.token_endpoint import CognitoM2MClient
from flask_m2m_cognito.outbound.token_source import TokenPolicy, TokenSource, is_lasting
from flask_m2m_cognito.remote.bounded_backend import BoundedBackend
from flask_m2m_cognito.remote.reports import Note
from flask_m2m_cognito.remote.sealed_store import Entry, Seal, SealedStore
from flask_m2m_cognito.testing import LocalUserPool
from tests.outbound.clocks import Threads, refreshing
from tests.support.clocks import Clocks
from tests.support.settling import settle

SECRET = "the secret of the client"


@pytest.fixture
def store(clocks: Clocks) -> SealedStore:
    """A store that several processes share."""
    cache = SimpleCache()
    seal = Seal(b"a key of sixteen bytes or more")
    return SealedStore(BoundedBackend(lambda: cache), seal, clock=clocks.clock)


@pytest.fixture
def pool(pool: LocalUserPool) -> LocalUserPool:
    pool.set_secrets("local-client", SECRET)
    return pool


def client_of(pool: LocalUserPool, **more: Any) -> CognitoM2MClient:
    return CognitoM2MClient(pool.token_url, "local-client", SECRET, **more)


def source_of(
    pool: LocalUserPool,
    clocks: Clocks,
    threads: Threads | None = None,
    scopes: Any = ("a/read",),
    chance: float = 0.5,
    in_background: bool = True,
    **more: Any,
) -> TokenSource:
    """Return a source for ``pool``. A chance of 0.5 means renewal at exactly 75 % of a lifetime."""
    time = refreshing(clocks, threads, chance, in_background)
    return TokenSource(client_of(pool), scopes, refreshing=time, **more)


def identity(client: CognitoM2MClient, scopes: Any, metadata: Any = None) -> str:
    return TokenSource(client, scopes, metadata).identity


def failure_of(source: TokenSource) -> TokenUnavailableError:
    with pytest.raises(TokenUnavailableError) as caught:
        source.token()
    return caught.value


def answer_with(pool: LocalUserPool, *, own: float | None = 3600, **members: Any) -> None:
    """Make ``pool`` return a token that expires in ``own`` seconds, in a response with these members."""
    token = pool.token(scopes="a/read", expires_in=own, without=["exp"] if own is None else ())
    body = {"access_token": token, "token_type": "Bearer", "expires_in": 3600, **members}
    pool.answer("token", {name: value for name, value in body.items() if value is not None})


def refuse_every_token(source: TokenSource) -> None:
    """Call a peer that refuses each token, including that of the second try."""
    token = source.token()
    newer = source.renew(token)
    if newer != token:
        source.forget(newer)


class TestLifetime:
    @pytest.mark.parametrize(
        ("answer", "life"),
        [
            pytest.param({"expires_in": 3600, "own": 3600}, 3600, id="both the same"),
            pytest.param({"expires_in": 3600, "own": 600}, 600, id="own exp is sooner"),
            pytest.param({"expires_in": 600, "own": 3600}, 600, id="expires_in is sooner"),
            pytest.param({"expires_in": None, "own": 900}, 900, id="own exp alone"),
            pytest.param({"expires_in": 900, "own": None}, 900, id="expires_in alone"),
            pytest.param({"expires_in": 900, "access_token": "opaque"}, 900, id="no JWT"),
            pytest.param({"expires_in": 900, "access_token": "a.b.c"}, 900, id="nearly a JWT"),
            pytest.param({"expires_in": None, "own": None}, 300, id="neither"),
            pytest.param({"expires_in": None, "access_token": "opaque"}, 300, id="neither, and no JWT"),
        ],
    )
    def test_is_the_lesser_of_expires_in_and_the_tokens_exp(
        self, pool: LocalUserPool, clocks: Clocks, answer: dict[str, Any], life: float
    ) -> None:
        answer_with(pool, **answer)
        source = source_of(pool, clocks, policy=TokenPolicy(margin=0))
        source.token()
        pool.fail("token", status=400)
        clocks.advance_to(life - 1)
        assert source.token()
        clocks.advance_to(life)
        assert failure_of(source).status_code == 400

    @pytest.mark.parametrize(
        "answer",
        [
            pytest.param({"expires_in": 0}, id="expires_in is 0"),
            pytest.param({"expires_in": -5}, id="expires_in is negative"),
            pytest.param({"own": 0}, id="own exp is now"),
            pytest.param({"own": -60}, id="own exp is past"),
        ],
    )
    def test_expired_token_is_a_failed_fetch(
        self, pool: LocalUserPool, clocks: Clocks, answer: dict[str, Any]
    ) -> None:
        answer_with(pool, **answer)
        assert type(failure_of(source_of(pool, clocks)).__cause__) is CognitoTokenRequestError

    @pytest.mark.parametrize(
        ("life", "margin", "usable_for"),
        [
            pytest.param(3600, 30.0, 3570, id="the margin"),
            pytest.param(300, 30.0, 270, id="the margin, just a tenth"),
            pytest.param(100, 30.0, 90, id="a tenth of a short life"),
            pytest.param(3600, 900.0, 3240, id="a tenth of a long life"),
            pytest.param(3600, 0.0, 3600, id="no margin"),
        ],
    )
    def test_token_is_not_returned_with_less_left_than(
        self, pool: LocalUserPool, clocks: Clocks, life: int, margin: float, usable_for: float
    ) -> None:
        answer_with(pool, expires_in=life, own=life)
        source = source_of(pool, clocks, policy=TokenPolicy(margin=margin))
        token = source.token()
        pool.fail("token", status=400)
        clocks.advance_to(usable_for - 0.5)
        assert source.token() == token
        clocks.advance_to(usable_for)
        failure_of(source)

    @pytest.mark.parametrize(
        ("fraction", "chance", "fresh_for"),
        [
            pytest.param(0.75, 0.0, 2511.0, id="earliest"),
            pytest.param(0.75, 0.5, 2700.0, id="middle"),
            pytest.param(0.75, 1.0, 2889.0, id="latest"),
            pytest.param(0.5, 0.5, 1800.0, id="half"),
            pytest.param(1.0, 1.0, 3570.0, id="not after the margin"),
        ],
    )
    def test_is_renewed_after_the_fresh_fraction_with_jitter(
        self,
        pool: LocalUserPool,
        clocks: Clocks,
        threads: Threads,
        fraction: float,
        chance: float,
        fresh_for: float,
    ) -> None:
        source = source_of(pool, clocks, threads, chance=chance, policy=TokenPolicy(fresh_fraction=fraction))
        source.token()
        clocks.advance_to(fresh_for - 1)
        source.token()
        assert pool.count("token") == 1
        clocks.advance_to(fresh_for + 0.001)
        source.token()
        assert pool.count("token") == 2

    def test_jitter_is_drawn_for_each_token(self, pool: LocalUserPool, clocks: Clocks) -> None:
        chances = iter([0.0, 1.0])
        time = replace(refreshing(clocks), jitter=lambda: next(chances))
        source = TokenSource(client_of(pool), ["a/read"], refreshing=time)
        source.token()
        clocks.advance_to(2512)
        source.token()
        clocks.advance_to(2512 + 2888)
        source.token()
        assert pool.count("token") == 2

    @pytest.mark.parametrize("ahead", [-7200, 290, 300, 3590, 3600, 100_000])
    @pytest.mark.parametrize("life", [300, 3600])
    def test_clock_of_this_machine_does_not_matter(
        self, clocks: Clocks, pool: LocalUserPool, ahead: float, life: int
    ) -> None:
        here, there = Clocks(), clocks
        here.advance(ahead)
        answer_with(pool, expires_in=life, own=life)
        source = source_of(pool, here)
        token = source.token()
        for _ in range(10):
            here.advance(life * 0.07)
            there.advance(life * 0.07)
            assert source.token() == token
        assert pool.count("token") == 1
        here.advance(life * 0.1)
        source.token()
        assert pool.count("token") == 2

    def test_exp_without_iat_is_compared_with_the_date_header(
        self, pool: LocalUserPool, clocks: Clocks
    ) -> None:
        token = pool.sign({"exp": clocks.wall() + 600, "scope": "a/read"})
        pool.answer("token", {"access_token": token, "expires_in": 900})
        source = source_of(pool, clocks)
        source.token()
        assert source.refreshable.snapshot()["seconds_left"] == 570

    def test_starts_when_the_response_arrives(self, pool: LocalUserPool) -> None:
        clocks = Clocks()

        @contextmanager
        def take_long(method: str, url: str) -> Iterator[Note]:
            yield lambda answer: clocks.advance(100)

        client = CognitoM2MClient(pool.token_url, "local-client", SECRET, on_request=take_long)
        source = TokenSource(client, ["a/read"], refreshing=refreshing(clocks))
        answer_with(pool, own=None, expires_in=900)
        source.token()
        assert source.refreshable.snapshot()["seconds_left"] == 900 - 30


class TestCachedResponses:
    """A gateway that caches the token endpoint's responses returns tokens that are not new."""

    def cached(self, pool: LocalUserPool, clocks: Clocks, age: float, left: float, **body: Any) -> str:
        now = clocks.wall()
        claims = {"scope": "a/read", "iat": now - age, "exp": now + left, "jti": str(now)}
        token = pool.sign(claims)
        pool.answer("token", {"access_token": token, "expires_in": age + left, **body})
        return token

    def test_token_is_not_used_after_it_expires(self, pool: LocalUserPool, clocks: Clocks) -> None:
        token = self.cached(pool, clocks, age=3000, left=600)
        source = source_of(pool, clocks)
        assert source.token() == token
        assert source.refreshable.snapshot()["seconds_left"] == 570

    @pytest.mark.parametrize("left", [1, 20, 30])
    @pytest.mark.parametrize("way", ["by its age", "by expires_in"])
    def test_token_with_less_than_the_margin_is_renewed_at_once(
        self, pool: LocalUserPool, clocks: Clocks, threads: Threads, left: int, way: str
    ) -> None:
        if way == "by its age":
            short = self.cached(pool, clocks, age=3600 - left, left=left)
        else:
            short = self.cached(pool, clocks, age=0, left=3600, expires_in=left)
        source = source_of(pool, clocks, threads)
        assert source.token() == short
        pool.recover()
        clocks.advance(0.1)
        threads.held = True
        assert source.token() == short
        threads.run_waiting()
        assert source.token() != short
        assert pool.count("token") == 2

    def test_same_short_token_is_not_fetched_at_each_call(self, pool: LocalUserPool, clocks: Clocks) -> None:
        short = self.cached(pool, clocks, age=3580, left=20)
        source = source_of(pool, clocks)
        for _ in range(100):
            assert source.token() == short
            clocks.advance(0.1)
        assert pool.count("token") <= 6
        clocks.advance(20)
        error = failure_of(source)
        assert "expired" in str(error)
        assert error.retry_after is not None

    @pytest.mark.parametrize(("age", "left"), [("2400", 1200), ("soon", 3600), ("", 3600)])
    def test_age_header_counts(self, pool: LocalUserPool, clocks: Clocks, age: str, left: int) -> None:
        token = pool.token(scopes="a/read", expires_in=3600)
        body = {"access_token": token, "expires_in": 3600}
        pool.answer("token", body, headers={"Age": age} if age else {})
        source = source_of(pool, clocks)
        assert source.token() == token
        assert source.refreshable.snapshot()["seconds_left"] == left - 30


class TestRefusedTokens:
    @pytest.mark.parametrize(("age", "requests"), [(9.9, 1), (10.0, 2)], ids=["young", "old enough"])
    @pytest.mark.parametrize("way", ["renew", "forget"])
    def test_token_younger_than_10_s_is_not_replaced(
        self, pool: LocalUserPool, clocks: Clocks, way: str, age: float, requests: int
    ) -> None:
        source = source_of(pool, clocks)
        old = source.token()
        clocks.advance(age)
        getattr(source, way)(old)
        assert (source.token() != old) == (requests == 2)
        assert pool.count("token") == requests

    @pytest.mark.parametrize(("passed", "requests"), [(29.9, 2), (30.0, 3)], ids=["too soon", "after"])
    @pytest.mark.parametrize("way", ["renew", "forget"])
    def test_only_one_token_is_replaced_in_30_s(
        self, pool: LocalUserPool, clocks: Clocks, way: str, passed: float, requests: int
    ) -> None:
        source = source_of(pool, clocks)
        clocks.advance(11)
        source.token()
        clocks.advance(11)
        getattr(source, way)(source.token())
        second = source.token()
        clocks.advance(passed)
        getattr(source, way)(second)
        source.token()
        assert pool.count("token") == requests

    @pytest.mark.parametrize("step", [5, 60, 240])
    def test_refused_tokens_back_off_to_an_hour(self, pool: LocalUserPool, clocks: Clocks, step: int) -> None:
        source, hourly = source_of(pool, clocks), []
        for _ in range(4):
            pool.clear_requests()
            for _ in range(3600 // step):
                refuse_every_token(source)
                clocks.advance(step)
            hourly.append(pool.count("token"))
        # At 0 and 10 s, then 30 s later, 60, 120, 240, 480, 960; then the renewal after 75 % of a lifetime.
        assert hourly[0] <= 8
        assert max(hourly[1:]) <= 2

    def test_refused_token_of_another_process_counts_too(
        self, pool: LocalUserPool, clocks: Clocks, store: SealedStore
    ) -> None:
        sources = [source_of(pool, clocks, store=store) for _ in range(3)]
        for _ in range(720):
            for source in sources:
                refuse_every_token(source)
            clocks.advance(5)
        assert pool.count("token") <= 9

    def test_accepted_token_ends_the_backoff(self, pool: LocalUserPool, clocks: Clocks) -> None:
        source = source_of(pool, clocks)
        for _ in range(60):
            refuse_every_token(source)
            clocks.advance(30)
        for _ in range(3):
            clocks.advance(2701)
            source.token()
        first = source.token()
        clocks.advance(11)
        second = source.renew(first)
        clocks.advance(30)
        assert len({first, second, source.renew(second)}) == 3


class TestForcedRenewal:
    def test_returns_a_new_token_for_all_callers(self, pool: LocalUserPool, clocks: Clocks) -> None:
        source = source_of(pool, clocks)
        old = source.token()
        new = source.refreshed_token()
        assert source.token() == new != old
        assert [source.refreshed_token() for _ in range(2)] != [new, new]
        assert pool.count("token") == 4

    def test_first_token_is_one_request(self, pool: LocalUserPool, clocks: Clocks) -> None:
        source = source_of(pool, clocks)
        assert source.refreshed_token() == source.token()
        assert pool.count("token") == 1

    def test_failure_is_raised_and_others_get_the_old_token(
        self, pool: LocalUserPool, clocks: Clocks
    ) -> None:
        source = source_of(pool, clocks)
        old = source.token()
        with pool.answer("token", {"error": "invalid_scope"}, status=400):
            for _ in range(2):
                with pytest.raises(TokenUnavailableError) as caught:
                    source.refreshed_token()
                assert caught.value.error_code == "invalid_scope"
                assert caught.value.retry_after == pytest.approx(60)
                assert source.token() == old
        assert pool.count("token") == 2
        clocks.advance(60)
        assert source.refreshed_token() != old

    def test_expired_new_token_is_a_failure(self, pool: LocalUserPool, clocks: Clocks) -> None:
        source = source_of(pool, clocks)
        source.token()
        answer_with(pool, expires_in=0)
        with pytest.raises(TokenUnavailableError):
            source.refreshed_token()

    def test_shared_token_of_another_process_is_not_enough(
        self, pool: LocalUserPool, clocks: Clocks, store: SealedStore
    ) -> None:
        one, other = (source_of(pool, clocks, store=store) for _ in range(2))
        shared = one.token()
        with pool.fail("token", status=400), pytest.raises(TokenUnavailableError):
            other.refreshed_token()
        clocks.advance(1)
        new = other.refreshed_token()
        assert new != shared
        clocks.advance_to(2700)
        assert one.token() == new

    def test_call_during_a_request_joins_the_next_one(self, pool: LocalUserPool) -> None:
        source = TokenSource(client_of(pool), ["a/read"])
        old = source.token()
        pool.delay("token", 30)
        with ThreadPoolExecutor(5) as callers:
            first = callers.submit(source.refreshed_token)
            pool.wait_for("token", 2)
            later = [callers.submit(source.refreshed_token) for _ in range(4)]
            while not all(each.running() for each in later):
                pass
            assert source.token() == old
            pool.recover()
            tokens = {each.result(10) for each in later}
            assert first.result(10) not in tokens
        # A call may start after the next request has finished. None shares the request that was in progress.
        assert pool.count("token") - 2 == len(tokens)


class TestMetadata:
    def test_is_merged_over_the_clients_metadata(self, pool: LocalUserPool, clocks: Clocks) -> None:
        client = client_of(pool, client_metadata={"stage": "prod", "tenant": "none"})
        TokenSource(client, ["a/read"], {"tenant": "acme"}, refreshing=refreshing(clocks)).token()
        sent = json.loads(pool.requests[0].form["aws_client_metadata"])
        assert sent == {"stage": "prod", "tenant": "acme"}

    def test_keeps_shared_tokens_apart(self) -> None:
        client = CognitoM2MClient("https://one.example.com/t", "billing", SECRET, client_metadata={"a": "1"})
        names = [identity(client, ["a"], metadata) for metadata in ({"a": "2"}, {"b": "1"}, None)]
        assert len(set(names)) == 3
        assert identity(client, ["a"], {"a": "1"}) == names[2]


class TestNoToken:
    @pytest.mark.parametrize(
        ("code", "lasts"),
        [
            ("invalid_client", True),
            ("unauthorized_client", True),
            ("invalid_scope", True),
            ("unsupported_grant_type", True),
            ("invalid_request", False),
            ("TooManyRequestsException", False),
            (None, False),
        ],
    )
    def test_error_that_only_the_operator_can_fix_is_lasting(self, code: str | None, lasts: bool) -> None:
        assert is_lasting(CognitoTokenRequestError("no", error_code=code)) is lasts

    def test_error_has_the_attributes_of_its_cause(self, pool: LocalUserPool, clocks: Clocks) -> None:
        body = {"error": "invalid_client", "error_description": "no such client"}
        pool.answer("token", body, status=400, headers={"x-amzn-requestid": "7d3c"})
        error = failure_of(source_of(pool, clocks))
        cause = error.__cause__
        assert type(cause) is CognitoTokenRequestError
        for each in (error, cause):
            assert each.status_code == 400
            assert each.error_code == "invalid_client"
            assert each.error_description == "no such client"
            assert each.request_id == "7d3c"
            assert "no such client" in (each.response_body or "")
        assert error.reason == "token_unavailable"
        assert isinstance(error, CognitoTokenRequestError)

    def test_unreadable_secret_is_token_unavailable(self, pool: LocalUserPool, clocks: Clocks) -> None:
        def vault() -> str:
            raise ConnectionError("vault is down")

        source = TokenSource(
            CognitoM2MClient(pool.token_url, "local-client", vault), ["a/read"], refreshing=refreshing(clocks)
        )
        error = failure_of(source)
        assert type(error.__cause__) is CognitoTokenRequestError
        assert pool.count() == 0

    def test_error_class_can_be_replaced(self, pool: LocalUserPool, clocks: Clocks) -> None:
        class Mine(TokenUnavailableError):
            """An error class of an application."""

        pool.fail("token", status=500)
        assert type(failure_of(source_of(pool, clocks, unavailable=lambda error: Mine(str(error))))) is Mine


class TestScopes:
    def test_are_sorted_and_requested_once(self, pool: LocalUserPool, clocks: Clocks) -> None:
        source = source_of(pool, clocks, scopes=["b/write", "a/read", "b/write"])
        source.token()
        assert pool.requests[0].form["scope"] == "a/read b/write"

    def test_request_without_scopes_accepts_any_grant(self, pool: LocalUserPool, clocks: Clocks) -> None:
        assert source_of(pool, clocks, scopes=()).token()
        assert "scope" not in pool.requests[0].form

    def test_missing_scopes_cause_a_warning(
        self, pool: LocalUserPool, clocks: Clocks, caplog: pytest.LogCaptureFixture
    ) -> None:
        answer_with(pool)
        assert source_of(pool, clocks, scopes=["a/read", "b/write"]).token()
        (record,) = caplog.records
        assert (record.levelname, record.name) == ("WARNING", "flask_m2m_cognito.token")
        assert "b/write" in record.getMessage()
        assert "a/read" not in record.getMessage()

    def test_missing_scopes_can_be_a_failed_fetch(self, pool: LocalUserPool, clocks: Clocks) -> None:
        answer_with(pool)
        policy = TokenPolicy(scopes_missing="raise")
        error = failure_of(source_of(pool, clocks, scopes=["a/read", "b/write"], policy=policy))
        assert error.error_code == "invalid_scope"
        assert error.retry_after == pytest.approx(60)

    @pytest.mark.parametrize(
        ("scopes", "answer"),
        [
            pytest.param(["a/read"], {}, id="all granted"),
            pytest.param([], {}, id="none requested"),
            pytest.param(["x/y"], {"access_token": "opaque"}, id="scopes of the token are unknown"),
            pytest.param(["x/y"], {"access_token": "opaque", "scope": "x/y z"}, id="granted in the response"),
        ],
    )
    def test_there_is_no_warning_when(
        self,
        pool: LocalUserPool,
        clocks: Clocks,
        caplog: pytest.LogCaptureFixture,
        scopes: list[str],
        answer: dict[str, Any],
    ) -> None:
        answer_with(pool, **answer)
        policy = TokenPolicy(scopes_missing="raise")
        assert source_of(pool, clocks, scopes=scopes, policy=policy).token()
        assert not caplog.records

    def test_scopes_of_an_opaque_token_are_in_the_response(self, pool: LocalUserPool, clocks: Clocks) -> None:
        answer_with(pool, access_token="opaque", scope="a/read")
        policy = TokenPolicy(scopes_missing="raise")
        failure_of(source_of(pool, clocks, scopes=["a/read", "b/write"], policy=policy))


class TestIdentity:
    CLIENT = CognitoM2MClient("https://one.example.com/t", "billing", SECRET, client_metadata={"a": "1"})

    @pytest.mark.parametrize(
        "scopes",
        [["b", "a"], ("a", "b", "a"), {"a", "b"}],
        ids=["another order", "one twice", "a set"],
    )
    def test_equal_sets_of_scopes_are_one(self, scopes: Any) -> None:
        assert identity(self.CLIENT, scopes) == identity(self.CLIENT, ["a", "b"])

    def test_order_of_metadata_does_not_matter(self) -> None:
        one, other = (
            CognitoM2MClient("https://one.example.com/t", "billing", SECRET, client_metadata=metadata)
            for metadata in ({"a": "1", "b": "2"}, {"b": "2", "a": "1"})
        )
        assert identity(one, ["a"]) == identity(other, ["a"])

    def test_secret_does_not_affect_it(self) -> None:
        other = CognitoM2MClient(
            "https://one.example.com/t", "billing", "another", client_metadata={"a": "1"}, client_auth="basic"
        )
        assert identity(other, ["a"]) == identity(self.CLIENT, ["a"])
        assert SECRET not in identity(self.CLIENT, ["a"])

    @pytest.mark.parametrize(
        ("change", "scopes"),
        [
            pytest.param({}, ["a", "c"], id="scopes"),
            pytest.param({}, ["a b"], id="scopes that join to the same text"),
            pytest.param({}, [], id="no scopes"),
            pytest.param({"token_url": "https://two.example.com/t"}, ["a", "b"], id="token URL"),
            pytest.param(
                {"token_url": ["https://one.example.com/t", "https://two.example.com/t"]},
                ["a", "b"],
                id="one more token URL",
            ),
            pytest.param({"client_id": "billing2"}, ["a", "b"], id="client id"),
            pytest.param({"client_metadata": {"a": "2"}}, ["a", "b"], id="metadata"),
            pytest.param({"client_metadata": None}, ["a", "b"], id="no metadata"),
        ],
    )
    def test_differs_by(self, change: dict[str, Any], scopes: list[str]) -> None:
        members = {
            "token_url": "https://one.example.com/t",
            "client_id": "billing",
            "client_secret": SECRET,
            "client_metadata": {"a": "1"},
            **change,
        }
        other = CognitoM2MClient(**members)
        assert identity(other, scopes) != identity(self.CLIENT, ["a", "b"])


class TestSharing:
    def test_two_processes_make_one_request(
        self, pool: LocalUserPool, clocks: Clocks, store: SealedStore
    ) -> None:
        one, other = (source_of(pool, clocks, store=store) for _ in range(2))
        assert one.token() == other.token()
        assert pool.count("token") == 1

    @pytest.mark.parametrize(
        ("policy", "is_used"),
        [
            pytest.param(TokenPolicy(margin=30), True, id="the same margin"),
            pytest.param(TokenPolicy(margin=360), False, id="a larger margin"),
            pytest.param(TokenPolicy(margin=30, fresh_fraction=0.5), False, id="a smaller fresh part"),
            pytest.param(TokenPolicy(margin=30, fresh_fraction=1), True, id="a larger fresh part"),
        ],
    )
    def test_settings_of_the_reader_decide_what_is_fresh(
        self, pool: LocalUserPool, clocks: Clocks, store: SealedStore, policy: TokenPolicy, is_used: bool
    ) -> None:
        writer = source_of(pool, clocks, store=store, policy=TokenPolicy(margin=1, fresh_fraction=1))
        token = writer.token()
        clocks.advance_to(3300 if policy.margin > 30 else 2600)
        reader = source_of(pool, clocks, store=store, policy=policy)
        assert (reader.token() == token) is is_used

    def test_entry_of_a_clock_ahead_does_not_prolong_a_token(
        self, pool: LocalUserPool, clocks: Clocks, store: SealedStore
    ) -> None:
        token, now = pool.token("a/read", expires_in=300), clocks.wall()
        name = identity(client_of(pool), ["a/read"])
        store.save(name, "token", Entry(token, now + 50, now + 50 + 3600))
        reader = source_of(pool, clocks, store=store)
        assert reader.token() == token
        clocks.advance(300)
        assert reader.token() != token

    def test_token_that_lacks_scopes_is_rejected_from_the_cache_too(
        self, pool: LocalUserPool, clocks: Clocks, store: SealedStore, caplog: pytest.LogCaptureFixture
    ) -> None:
        pool.answer("token", {"access_token": pool.token("a/read"), "expires_in": 3600})
        scopes = ["a/read", "b/write"]
        lenient, other = (source_of(pool, clocks, store=store, scopes=scopes) for _ in range(2))
        assert lenient.token() == other.token()
        settle()
        events = [vars(record).get("event") for record in caplog.records]
        assert events.count("scopes-missing") == 2, "each process logs it"
        strict = source_of(
            pool, clocks, store=store, scopes=scopes, policy=TokenPolicy(scopes_missing="raise")
        )
        assert failure_of(strict).error_code == "invalid_scope"

    @pytest.mark.parametrize(
        ("granted", "is_used"),
        [
            pytest.param("a/read", False, id="fewer scopes"),
            pytest.param("a/read b/write", True, id="all scopes"),
            pytest.param(None, True, id="no scopes in the answer"),
        ],
    )
    def test_opaque_token_in_the_cache_is_checked_for_scopes(
        self, pool: LocalUserPool, clocks: Clocks, store: SealedStore, granted: str | None, is_used: bool
    ) -> None:
        answer_with(pool, access_token="opaque", scope=granted)
        scopes = ["a/read", "b/write"]
        source_of(pool, clocks, store=store, scopes=scopes).token()
        pool.fail("token", status=500)
        policy = TokenPolicy(scopes_missing="raise")
        strict = source_of(pool, clocks, store=store, scopes=scopes, policy=policy)
        if is_used:
            assert strict.token() == "opaque"
        else:
            failure_of(strict)

    @pytest.mark.parametrize(
        "payload",
        ["opaque", {"token": "opaque"}, {"scope": "a/read"}, {"token": 1, "scope": None}, None],
        ids=["of an earlier version", "no scopes", "no token", "odd token", "null"],
    )
    def test_entry_without_granted_scopes_is_ignored(
        self, pool: LocalUserPool, clocks: Clocks, store: SealedStore, payload: Any
    ) -> None:
        now = clocks.wall()
        store.save(identity(client_of(pool), ["a/read"]), "token", Entry(payload, now, now + 3600))
        assert source_of(pool, clocks, store=store).token() != "opaque"
        assert pool.count("token") == 1

    def test_other_scopes_have_another_token(
        self, pool: LocalUserPool, clocks: Clocks, store: SealedStore
    ) -> None:
        one = source_of(pool, clocks, store=store)
        other = source_of(pool, clocks, store=store, scopes=["b/write"])
        assert one.token() != other.token()


def test_repr_hides_the_secret_and_the_token(pool: LocalUserPool, clocks: Clocks) -> None:
    source = source_of(pool, clocks)
    token = source.token()
    shown = f"{source!r} {source.refreshable.state!r} {source.client!r}"
    assert "local-client" in shown
    assert SECRET not in shown
    assert token not in shown
