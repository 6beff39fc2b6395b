"""Which token source a call uses, and the limit on their number."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from flask_m2m_cognito.exceptions import ConfigurationError
from flask_m2m_cognito.outbound.token_endpoint import CognitoM2MClient
from flask_m2m_cognito.outbound.token_source import TokenSource
from flask_m2m_cognito.outbound.token_sources import TokenSources


class Workshop:
    """Builds sources, and records which."""

    def __init__(self) -> None:
        self.built: list[tuple[str | None, frozenset[str]]] = []

    def build(self, client: str | None, scopes: tuple[str, ...], metadata: dict[str, str]) -> TokenSource:
        self.built.append((client, frozenset(scopes)))
        client_of_source = CognitoM2MClient("https://acme.example.com/oauth2/token", "id", "secret")
        return TokenSource(client_of_source, scopes, metadata)


@pytest.fixture
def workshop() -> Workshop:
    return Workshop()


@pytest.fixture
def sources(workshop: Workshop) -> TokenSources:
    defaults: dict[str | None, tuple[str, ...]] = {None: ("a/read", "b/write"), "billing": ()}
    return TokenSources(defaults, workshop.build, most=4)


@pytest.mark.parametrize(
    "scopes",
    [
        pytest.param("b/write a/read", id="text"),
        pytest.param(["b/write", "a/read"], id="list"),
        pytest.param(("a/read", "b/write", "a/read"), id="tuple with one twice"),
        pytest.param({"a/read", "b/write"}, id="set"),
        pytest.param(None, id="none: the client's own"),
        pytest.param("", id="empty: the client's own"),
        pytest.param([], id="empty list: the client's own"),
    ],
)
def test_equal_sets_of_scopes_are_one_source(sources: TokenSources, workshop: Workshop, scopes: Any) -> None:
    first = sources.get("a/read b/write")
    assert sources.get(scopes) is first
    assert sources.get(scopes) is first
    assert workshop.built == [(None, frozenset({"a/read", "b/write"}))]


def test_clients_have_sources_of_their_own(sources: TokenSources) -> None:
    assert sources.get("a/read") is not sources.get("a/read", "billing")


def test_client_without_scopes_requests_none(sources: TokenSources) -> None:
    assert sources.get(client="billing").scopes == ()


@pytest.mark.parametrize("scope", ['a"b', "a\\b", "é", "a\x00", "a,b"])
def test_invalid_scope_is_an_error_at_once(sources: TokenSources, workshop: Workshop, scope: str) -> None:
    with pytest.raises(ConfigurationError):
        sources.get(["a/read", scope])
    assert workshop.built == []


def test_error_for_an_unknown_client_lists_the_clients(sources: TokenSources) -> None:
    with pytest.raises(ConfigurationError, match="'billing'"):
        sources.get(client="biling")


def test_missing_default_client_error_names_the_settings(workshop: Workshop) -> None:
    with pytest.raises(ConfigurationError, match="COGNITO_M2M_CLIENT_ID"):
        TokenSources({"billing": ()}, workshop.build).get()


def test_oldest_source_is_dropped_above_the_limit(sources: TokenSources, workshop: Workshop) -> None:
    first = sources.get("s/0")
    others = [sources.get(f"s/{number}") for number in range(1, 5)]
    assert len(sources.all()) == 4
    assert [sources.get(f"s/{number}") for number in range(1, 5)] == others
    assert sources.get("s/0") is not first
    assert len(workshop.built) == 6


def test_many_spellings_of_one_set_are_one_source(sources: TokenSources, workshop: Workshop) -> None:
    found = {id(sources.get("a/read" + " " * number)) for number in range(100)}
    assert len(found) == 1
    assert len(workshop.built) == 1


def test_all_and_of_client_return_the_built_sources(sources: TokenSources) -> None:
    mine, theirs = sources.get("a/read"), sources.get("a/read", "billing")
    assert sources.all() == ((None, mine), ("billing", theirs))
    assert sources.of_client("billing") == (theirs,)
    assert sources.of_client(None) == (mine,)


def test_concurrent_calls_build_one_source(sources: TokenSources, workshop: Workshop) -> None:
    start = threading.Barrier(8)

    def call(_: int) -> TokenSource:
        start.wait(5)
        return sources.get("a/read")

    with ThreadPoolExecutor(8) as callers:
        assert len(set(callers.map(call, range(8)))) == 1
    assert len(workshop.built) == 1


class TestMetadata:
    def test_different_metadata_has_its_own_source(self, sources: TokenSources) -> None:
        one, other = (sources.get(metadata={"tenant": name}) for name in ("one", "other"))
        assert len({one, other, sources.get()}) == 3
        assert sources.get(metadata={"tenant": "one"}) is one
        assert one.metadata == {"tenant": "one"}

    def test_order_and_empty_metadata_do_not_matter(self, sources: TokenSources) -> None:
        one = sources.get(metadata={"a": "1", "b": "2"})
        assert sources.get(metadata={"b": "2", "a": "1"}) is one
        assert sources.get(metadata={}) is sources.get()

    def test_metadata_of_many_tenants_leaves_the_plain_source(self, sources: TokenSources) -> None:
        plain = sources.get("a/read")
        for number in range(10):
            sources.get("a/read", metadata={"tenant": str(number)})
        assert len(sources.all()) == 4
        assert sources.get("a/read") is plain

    @pytest.mark.parametrize("metadata", [{"a": 1}, {1: "a"}, {"a": None}, "a=1", ["a"], {"a": ["b"]}])
    def test_invalid_metadata_is_an_error(self, sources: TokenSources, metadata: Any) -> None:
        with pytest.raises(ConfigurationError, match="metadata"):
            sources.get(metadata=metadata)
