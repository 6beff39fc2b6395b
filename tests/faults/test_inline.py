"""`RENEW="inline"`, for processes that are frozen between requests: callers wait for the renewal."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from flask_m2m_cognito.testing import LocalUserPool
from tests.support.threads import LONG, wait_for

from .stage import app_on, get

ROOT = Path(__file__).parents[2]


def test_inline_refresh_finishes_with_its_request(real_pool: LocalUserPool) -> None:
    app, _ = app_on(real_pool, RENEW="inline", KEYS_FRESH_FOR=0.05, CACHE_TYPE="NullCache")
    token = real_pool.token()
    assert get(app.test_client(), "/relay", token).status_code == 200

    def renewed_by_the_request() -> bool:
        before = real_pool.count("jwks")
        assert get(app.test_client(), "/items", token).status_code == 200
        # If the process is frozen now, no request to the pool is under way.
        return real_pool.count("jwks") > before

    for _ in range(3):
        wait_for(renewed_by_the_request, "keys are no longer fresh, and the next request renews them")


@pytest.mark.processes
def test_aborted_caller_does_not_abort_the_refresh_of_others() -> None:
    program = """
from gevent import monkey; monkey.patch_all()
import gevent
from flask_m2m_cognito.testing import LocalUserPool
from tests.faults.stage import app_on, get

with LocalUserPool() as pool:
    app, _ = app_on(pool, RENEW="inline")
    token = pool.token()
    pool.delay("jwks", 0.5)

    def ask(seconds):
        with gevent.Timeout(seconds, False):
            return get(app.test_client(), "/items", token).status_code

    leader = gevent.spawn(ask, 0.2)
    pool.wait_for("jwks")
    others = [gevent.spawn(ask, 20) for _ in range(10)]
    gevent.joinall([leader, *others])
    print(leader.value, *{other.value for other in others}, pool.count("jwks"))
"""
    ended = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, timeout=LONG, check=True, capture_output=True, text=True
    )
    assert ended.stdout.split() == ["None", "200", "1"]
