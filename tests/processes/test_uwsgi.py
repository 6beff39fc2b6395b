"""uWSGI before 2.0.27 runs no threads between requests unless ``enable-threads`` is set."""

from __future__ import annotations

import importlib.util
import time

import pytest

from flask_m2m_cognito.testing import LocalUserPool
from tests.processes.fleet import Fleet, uwsgi
from tests.processes.settings import IN_PROCESS, settings

pytestmark = [
    pytest.mark.processes,
    pytest.mark.skipif(importlib.util.find_spec("pyuwsgi") is None, reason="no such uWSGI for this Python"),
]

DOWNLOAD = 1.0
WITHIN = 15.0
WARNING = "uWSGI runs without threads"


def has_waiting_request(fleet: Fleet, pool: LocalUserPool) -> bool:
    """Return whether a request waits for new keys when the old ones are no longer fresh."""
    token = pool.token("inventory/read")
    assert fleet.get("/items", token).status == 200
    pool.delay("jwks", DOWNLOAD)
    until = time.monotonic() + WITHIN
    while (began := time.monotonic()) < until:
        assert fleet.get("/items", token).status == 200
        if time.monotonic() - began >= DOWNLOAD:
            return True
        if pool.count("jwks") > 1:
            return False
    return False


def test_uwsgi_without_threads_renews_inline(pool: LocalUserPool) -> None:
    with uwsgi(settings(pool, IN_PROCESS, KEYS_FRESH_FOR=0.05)) as fleet:
        assert has_waiting_request(fleet, pool)
        assert fleet.log.count(f"flask_m2m_cognito: {WARNING}") == 1


def test_uwsgi_with_threads_renews_in_the_background(pool: LocalUserPool) -> None:
    with uwsgi(settings(pool, IN_PROCESS, KEYS_FRESH_FOR=0.05), ["--enable-threads"]) as fleet:
        assert not has_waiting_request(fleet, pool)
        assert WARNING not in fleet.log
