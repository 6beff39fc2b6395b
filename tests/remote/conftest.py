"""Both uses of ``Refreshable``: alone, and over a shared store."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import fields, replace
from typing import Any

import pytest
from cachelib import SimpleCache

from flask_m2m_cognito.remote.bounded_backend import BoundedBackend
from flask_m2m_cognito.remote.refreshable import Refreshable, Refreshing
from flask_m2m_cognito.remote.reports import Note, unobserved
from flask_m2m_cognito.remote.sealed_store import Seal, SealedStore
from flask_m2m_cognito.remote.sharing import Codec, shared
from tests.remote.moved import COOLDOWN, DEADLINE, Source, Unavailable, at_once
from tests.support.clocks import Clocks

Build = Callable[..., Refreshable[str]]


class Observing:
    """An observer of refreshes, made from two functions."""

    def __init__(
        self,
        ended: Callable[[Any], object] = lambda event: None,
        around: Callable[[bool], AbstractContextManager[Note]] = unobserved,
    ) -> None:
        self.ended, self.around = ended, around


@pytest.fixture
def clocks() -> Clocks:
    return Clocks(1_750_000_000)  # long ago, because stores in other processes use the real clock


@pytest.fixture
def source(clocks: Clocks) -> Source:
    return Source(clocks)


@pytest.fixture(params=["alone", "over a shared store"])
def build(request: pytest.FixtureRequest, clocks: Clocks, source: Source) -> Build:
    """Return a function that builds a ``Refreshable`` of ``source`` on test clocks, with more arguments."""

    def built(**arguments: Any) -> Refreshable[str]:
        fetch = arguments.pop("fetch", source)
        if request.param != "alone":
            codec = Codec("text", str, lambda entry, held: source.fetched(entry.payload, entry.fetched_at))
            fetch = shared(
                fetch, _store(clocks), "the value", codec, clock=clocks.clock, pause=clocks.advance
            )
        observes = {name: arguments.pop(name) for name in ("ended", "around") if name in arguments}
        if observes:
            arguments["observer"] = Observing(**observes)
        shared_by_all = {each.name for each in fields(Refreshing)} & arguments.keys()
        refreshing = Refreshing(clocks.clock, jitter=lambda: 0.0, start_thread=at_once)
        return Refreshable(
            fetch,
            refreshing=replace(refreshing, **{name: arguments.pop(name) for name in shared_by_all}),
            **{
                "unavailable": Unavailable,
                "deadline": DEADLINE,
                "cooldown": COOLDOWN,
                **arguments,
            },
        )

    return built


def _store(clocks: Clocks) -> SealedStore:
    cache = SimpleCache()
    backend = BoundedBackend(lambda: cache, clock=clocks.clock, start_thread=at_once)
    return SealedStore(backend, Seal(b"sixteen bytes or more"), clock=clocks.clock)
