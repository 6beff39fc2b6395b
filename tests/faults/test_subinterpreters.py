"""cryptography in a second sub-interpreter of a process. mod_wsgi creates one for each application."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from flask_m2m_cognito.testing import LocalUserPool

ROOT = Path(__file__).parents[2]
LONG = 60.0

# The error of cryptography 50 in the second application of a mod_wsgi 4.9 process.
PROGRAM = """
import json, os, sys

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name == "cryptography.hazmat.bindings._rust":
            raise ImportError("PyO3 modules do not yet support subinterpreters, see https://github.com/")

sys.meta_path.insert(0, Refuse())

from flask import Flask
from flask_m2m_cognito import CognitoM2M

app = Flask("shop")
app.config.update(json.loads(os.environ["CONFIG"]))
m2m = CognitoM2M(app)
app.get("/guarded", endpoint="guarded")(m2m.require_scopes()(lambda: {}))
app.get("/calling", endpoint="calling")(lambda: {"token": m2m.token()})
headers = {"Authorization": f"Bearer {os.environ['TOKEN']}"}
print(app.test_client().get(sys.argv[1], headers=headers).status_code)
"""


def log_of(pool: LocalUserPool, path: str, **settings: Any) -> str:
    """Return the output of the program, which requests ``path``."""
    config = pool.config(ALLOWED_CLIENT_IDS="*", **settings)
    config |= {"SECRET_KEY": "k" * 20, "CACHE_TYPE": "SimpleCache"}  # sealing needs cryptography too
    ended = subprocess.run(
        [sys.executable, "-c", PROGRAM, path],
        env={**os.environ, "CONFIG": json.dumps(config), "TOKEN": pool.token()},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=LONG,
        check=False,
    )
    return ended.stdout + ended.stderr


@pytest.mark.processes
@pytest.mark.parametrize("path", ["/guarded", "/calling"])
def test_500_in_a_sub_interpreter_logs_the_remedy(real_pool: LocalUserPool, path: str) -> None:
    log = log_of(real_pool, path)
    assert log.startswith("500\n")
    assert "WSGIApplicationGroup %{GLOBAL}" in log.splitlines()[-1]


@pytest.mark.processes
def test_pinned_keys_in_a_sub_interpreter_log_the_remedy(real_pool: LocalUserPool) -> None:
    log = log_of(real_pool, "/guarded", JWKS=real_pool.jwks())
    assert "WSGIApplicationGroup %{GLOBAL}" in log.splitlines()[-1]
