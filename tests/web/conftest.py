"""A pool that all tests of views share, and applications that trust it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from flask import Flask

from flask_m2m_cognito import CognitoM2M
from flask_m2m_cognito.testing import LocalUserPool

MakeApp = Callable[..., Flask]


@pytest.fixture
def local_pool(pool: LocalUserPool) -> LocalUserPool:
    """A pool that is well and has got no request."""
    return pool


@pytest.fixture
def make_app(local_pool: LocalUserPool) -> MakeApp:
    """Makes an application that trusts the pool, with these settings on top."""

    def make(name: str = "shop", **settings: Any) -> Flask:
        app = Flask(name)
        app.config.update(local_pool.config(**{"ALLOWED_CLIENT_IDS": "*", **settings}))
        CognitoM2M(app)
        return app

    return make


@pytest.fixture
def app(make_app: MakeApp) -> Flask:
    return make_app()
