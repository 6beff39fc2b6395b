"""The application that rows run in gunicorn: an unguarded view, and a view guarded by each contender."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass, field
from typing import Any

from flask import Flask
from flask.typing import ResponseReturnValue

from tests.benchmarks.limits import limit_guard
from tests.benchmarks.pool_process import Address
from tests.benchmarks.results import BARE, LIMIT
from tests.benchmarks.subjects import US, Subject, installed_peers

VARIABLE = "FLASK_M2M_COGNITO_BENCHMARK"
"""The environment variable from which :func:`create_app` reads the plan."""


@dataclass(frozen=True)
class Plan:
    """What a server serves.

    Attributes:
        address: the address of the pool.
        token: the token that the limit knows.
        settings: more Flask configuration, such as a cache.
        only: the name of the only subject to serve. By default it serves all.
    """

    address: Address
    token: str = field(repr=False)
    settings: dict[str, Any] = field(default_factory=dict)
    only: str | None = None


def create_app() -> Flask:
    """Serve ``/bare``, ``/limit`` and ``/<subject>``, and ``/work/<subject>``, which also gets a token."""
    plan = json.loads(os.environ[VARIABLE])
    address = Address(**plan["address"])
    app = Flask(__name__)
    app.config.update(plan["settings"])
    app.add_url_rule(f"/{BARE}", BARE, _some)
    app.add_url_rule(f"/{LIMIT}", LIMIT, limit_guard([plan["token"]])(app)(_some))
    for subject in (US, *installed_peers()[0]):
        if subject.guard is not None and plan["only"] in (None, subject.name):
            _add_views(app, subject, address)
    return app


def _add_views(app: Flask, subject: Subject, address: Address) -> None:
    assert subject.guard is not None
    guard = subject.guard(app, address)
    app.add_url_rule(f"/{subject.name}", subject.name, guard(_some))
    if subject.token is None:
        return
    ask = subject.token(app, address, 3600)

    def work() -> ResponseReturnValue:
        return hashlib.sha256(ask().encode()).hexdigest()

    app.add_url_rule(f"/work/{subject.name}", f"work-{subject.name}", guard(work))


def _some() -> str:
    return "some"
