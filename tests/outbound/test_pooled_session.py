"""Sessions are light: they share a process's connections, and nothing else."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
import requests

from flask_m2m_cognito.outbound.bearer_auth import BearerAuth
from flask_m2m_cognito.outbound.pooled_session import pooled_session
from tests.outbound.children import in_a_child
from tests.outbound.peers import Peer, Reply


class Tokens:
    """One token, whatever happens."""

    def token(self) -> str:
        return "a-token"

    def renew(self, refused: str) -> str:
        return refused

    def forget(self, refused: str) -> None:
        """Keep it."""


@pytest.fixture
def peer() -> Iterator[Peer]:
    with Peer() as started:
        yield started


def session() -> requests.Session:
    return pooled_session(BearerAuth(Tokens()))


def test_request_carries_the_token(peer: Peer) -> None:
    with session() as made:
        assert made.get(peer.url(), timeout=5).status_code == 200
    assert peer.tokens == ["a-token"]


def test_all_share_their_connections(peer: Peer) -> None:
    for _ in range(3):
        with session() as made:
            made.get(peer.url(), timeout=5)
    assert len({request.connection for request in peer.received}) == 1


def test_closing_one_does_not_harm_others(peer: Peer) -> None:
    one, other = session(), session()
    one.get(peer.url(), timeout=5)
    one.close()
    assert other.get(peer.url(), timeout=5).status_code == 200
    assert one.get(peer.url(), timeout=5).status_code == 200
    assert len({request.connection for request in peer.received}) == 1


def test_cookies_and_headers_are_each_ones_own(peer: Peer) -> None:
    peer.answer = lambda request: Reply(headers={"Set-Cookie": "name=value"})
    one, other = session(), session()
    one.headers["X-Mine"] = "yes"
    one.get(peer.url(), timeout=5)
    assert dict(one.cookies) == {"name": "value"}
    assert dict(other.cookies) == {}
    assert "X-Mine" not in other.headers


def test_making_one_opens_no_connection_and_makes_no_pool(peer: Peer) -> None:
    adapters = {id(made.get_adapter("https://example.com/")) for made in (session(), session())}
    assert len(adapters) == 1


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
@pytest.mark.parametrize("way", ["direct", "by a proxy"])
def test_after_a_fork_a_child_opens_connections_of_its_own(peer: Peer, way: str) -> None:
    # Over a shared socket each would read the other's answers.
    made = session()
    made.trust_env = False
    url = peer.url()
    if way == "by a proxy":
        made.proxies = {"http": peer.url("")}
        url = "http://localhost:1/"
    made.get(url, timeout=5)
    assert in_a_child(lambda: made.get(url, timeout=5).status_code == 200)
    made.get(url, timeout=5)
    mine, childs, mine_again = (request.connection for request in peer.received)
    assert childs != mine
    assert mine_again == mine
