"""A request with fresh keys and tokens takes no shared lock: it is served while others hold all locks."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from flask import Flask, g

from flask_m2m_cognito import CognitoM2M
from flask_m2m_cognito.remote.threads import PerProcess
from flask_m2m_cognito.testing import LocalUserPool
from tests.support.headers import bearer
from tests.support.threads import LONG


@pytest.fixture
def app() -> Iterator[tuple[Flask, dict[str, str]]]:
    m2m, app = CognitoM2M(), Flask("inventory")
    with LocalUserPool() as pool:
        app.config.update(pool.config(ALLOWED_CLIENT_IDS="*", SCOPES=["stock/read"]))
        m2m.init_app(app)

        @app.get("/items")
        @m2m.require_scopes("items/read")
        def items() -> dict[str, Any]:
            return {"caller": g.m2m_token.client_id, "sends": bool(m2m.token())}

        yield app, bearer(pool.token("items/read"))


@contextlib.contextmanager
def held_by_another(locks: list[Any]) -> Iterator[None]:
    """Let another thread hold ``locks`` until the end of the block."""
    are_held, may_end = threading.Event(), threading.Event()

    def hold() -> None:
        with contextlib.ExitStack() as stack:
            for lock in locks:
                stack.enter_context(lock)
            are_held.set()
            may_end.wait(LONG)

    thread = threading.Thread(target=hold)
    thread.start()
    try:
        assert are_held.wait(LONG)
        yield
    finally:
        may_end.set()
        thread.join(LONG)


def locks_of(app: Flask) -> list[Any]:
    """Return every lock that can be reached from the application's parts."""
    parts, found, seen = [app.extensions["cognito_m2m"]], [], set()
    while parts:
        part = parts.pop()
        if id(part) in seen:
            continue
        seen.add(id(part))
        if isinstance(part, PerProcess):
            parts.append(part.get())
        elif isinstance(part, (type(threading.Lock()), type(threading.RLock()))):
            found.append(part)
        elif isinstance(part, (dict, list, tuple)):
            parts += part.values() if isinstance(part, dict) else part
        elif type(part).__module__.startswith("flask_m2m_cognito"):
            parts += vars(part).values() if hasattr(part, "__dict__") else ()
            names = [name for kind in type(part).__mro__ for name in getattr(kind, "__slots__", ())]
            parts += [getattr(part, name, None) for name in names]
        elif callable(part):
            parts += [getattr(part, "__self__", None)]
    return found


def test_request_is_served_while_all_locks_are_held(app: tuple[Flask, dict[str, str]]) -> None:
    service, headers = app
    outcomes: list[Any] = []

    def send() -> None:
        outcomes.append(service.test_client().get("/items", headers=headers).json)

    send()
    locks = locks_of(service)
    assert len(locks) >= 5
    thread = threading.Thread(target=send, daemon=True)
    with held_by_another(locks):
        thread.start()
        thread.join(5.0)
        assert not thread.is_alive()
    assert outcomes == [{"caller": "local-client", "sends": True}] * 2
