"""Fixtures: applications that trust the test's pool, and their CognitoM2M."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from flask import Flask

from flask_m2m_cognito import CognitoM2M
from flask_m2m_cognito.testing import LocalUserPool

MakeApp = Callable[..., Flask]
Bearer = Callable[..., dict[str, str]]


@pytest.fixture
def m2m() -> CognitoM2M:
    return CognitoM2M()


@pytest.fixture
def make_app(pool: LocalUserPool, m2m: CognitoM2M) -> MakeApp:
    """Return a function that creates an application, which trusts the pool, with extra settings."""

    def make(name: str | Flask = "shop", **settings: Any) -> Flask:
        app = Flask(name) if isinstance(name, str) else name
        app.config.update(pool.config(**{"ALLOWED_CLIENT_IDS": "*", **settings}))
        m2m.init_app(app)
        return app

    return make


@pytest.fixture
def app(make_app: MakeApp) -> Flask:
    return make_app()


@pytest.fixture
def bearer(pool: LocalUserPool) -> Bearer:
    """Return a function that creates a header with a new token for the given scopes."""

    def header(*scopes: str, **named: Any) -> dict[str, str]:
        return {"Authorization": f"Bearer {pool.token(scopes, **named)}"}

    return header
