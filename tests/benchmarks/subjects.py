"""The subjects of the measurements: this library and the peers that are installed."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from flask import Flask

from flask_m2m_cognito import CognitoM2M
from tests.benchmarks.pool_process import NEEDED, Address
from tests.benchmarks.results import OURS

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]
Validate = Callable[[str], object]
Ask = Callable[[], str]


@dataclass(frozen=True)
class Subject:
    """One library, with the functions that the rows measure.

    Attributes:
        name: its name in the table.
        guard: takes an application and a pool. Returns a decorator for views that require :data:`NEEDED`.
        validate: takes a pool and the seconds for which keys are fresh. Returns a function that validates a
            token.
        token: takes an application, a pool and the lifetime of a token in seconds. Returns a function that
            returns a fresh token. It is called inside the application's context.
        fetches_keys: ``validate`` downloads the keys, and again for an unknown key.
    """

    name: str
    guard: Callable[[Flask, Address], Decorator] | None = None
    validate: Callable[[Address, float], Validate] | None = None
    token: Callable[[Flask, Address, float], Ask] | None = None
    fetches_keys: bool = False


def _initialised(app: Flask, address: Address, **settings: Any) -> CognitoM2M:
    m2m: CognitoM2M | None = app.extensions.get(_MINE)
    if m2m is None:
        app.config.update(address.config(**settings), CACHE_NO_NULL_WARNING=True)
        m2m = app.extensions[_MINE] = CognitoM2M(app)
    return m2m


_MINE = "benchmarks"


def in_context(app: Flask, ask: Ask) -> Ask:
    """Return ``ask``, wrapped in the context of ``app``."""

    def ask_in_context() -> str:
        with app.app_context():
            return ask()

    return ask_in_context


def _guard(app: Flask, address: Address) -> Decorator:
    return _initialised(app, address).require_scopes(NEEDED)


def _validate(address: Address, keys_fresh_for: float) -> Validate:
    app = Flask("validating")
    return _initialised(app, address, KEYS_FRESH_FOR=keys_fresh_for).for_app(app).validator.validate


def _token(app: Flask, address: Address, lifetime: float) -> Ask:
    return _initialised(app, address).token


US = Subject(OURS, _guard, _validate, _token, fetches_keys=True)

PEERS = {
    "authlib": "authlib_peer",
    "google.auth": "google_auth_peer",
    "joserfc": "joserfc_peer",
    "m2m_cognito": "m2m_cognito_peer",
}
"""The adapter of each peer's package."""


def installed_peers() -> tuple[list[Subject], list[str]]:
    """Return the peers that are installed, and a line about each that is not."""
    peers: list[Subject] = []
    missing: list[str] = []
    for package, adapter in PEERS.items():
        if _is_installed(package):
            peers.append(importlib.import_module(f"tests.benchmarks.peers.{adapter}").PEER)
        else:
            missing.append(f"{package} is not installed and is left out: pip install -e '.[benchmark]'")
    return peers, missing


def _is_installed(package: str) -> bool:
    try:
        return importlib.util.find_spec(package) is not None
    except ModuleNotFoundError:
        return False
