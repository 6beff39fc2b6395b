"""A blueprint for probes: the state of keys and tokens, and whether the application is ready."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from flask import Blueprint
from flask.typing import ResponseReturnValue

from .requirement import PUBLIC

READY_TIMEOUT = 2.0
"""Seconds that a probe waits for the keys of a service that has just started."""

_NO_STORE = {"Cache-Control": "no-store"}


def health_blueprint_of(
    health: Callable[[], Mapping[str, object]], warm_up: Callable[..., Mapping[str, object]], name: str
) -> Blueprint:
    """Return a blueprint with ``/health``, always 200 with details, and ``/ready``, 200 or 503 without.

    Both are public. An outage of Cognito is no reason to take a service out of rotation: its cached keys
    still work, and ``/ready`` stays 200.
    """
    blueprint = Blueprint(name, __name__)

    @blueprint.get("/health")
    def details() -> ResponseReturnValue:
        return dict(health()), _NO_STORE

    @blueprint.get("/ready")
    def ready() -> ResponseReturnValue:
        # A service that gets no traffic until it is ready would otherwise never fetch its keys.
        is_ready = bool(health()["ready"] or warm_up(timeout=READY_TIMEOUT)["ready"])
        return {"ready": is_ready}, 200 if is_ready else 503, _NO_STORE

    # Probes have no token. A guard of the blueprint itself still applies.
    for view in (details, ready):
        setattr(view, PUBLIC, blueprint)
    return blueprint
