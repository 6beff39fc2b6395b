"""Tracers that patch requests and raise without their context: keys and tokens are still fetched."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from threading import current_thread

import pytest
import requests
from flask import Flask

from flask_m2m_cognito import CognitoM2M
from flask_m2m_cognito.testing import LocalUserPool
from tests.support.settling import REFRESH_THREAD, settle


def test_tracer_that_raises_does_not_prevent_fetches(
    m2m_pool: LocalUserPool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    real = requests.Session.request

    def traced(*args: object, **kwargs: object) -> requests.Response:
        if current_thread().name == REFRESH_THREAD:
            raise LookupError("no segment on this thread")
        return real(*args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(requests.Session, "request", traced)
    app, m2m = Flask("shop"), CognitoM2M()
    app.config.update(m2m_pool.config(ALLOWED_CLIENT_IDS="*"))
    m2m.init_app(app)
    app.get("/items")(m2m.require_scopes("a/b")(lambda: m2m.token()))
    headers = {"Authorization": f"Bearer {m2m_pool.token('a/b')}"}
    assert app.test_client().get("/items", headers=headers).status_code == 200
    settle()
    assert (m2m_pool.count("jwks"), m2m_pool.count("token")) == (1, 1)
    assert "LookupError: no segment on this thread" in caplog.text


@pytest.mark.processes
@pytest.mark.parametrize(
    ("context_missing", "traced"), [("RUNTIME_ERROR", ["127.0.0.1", "127.0.0.1"]), ("IGNORE_ERROR", [])]
)
def test_xray_sdk_does_not_prevent_fetches(context_missing: str, traced: list[str]) -> None:
    program = f"""
        from aws_xray_sdk.core import patch_all, xray_recorder
        from flask import Flask
        from flask_m2m_cognito import CognitoM2M
        from flask_m2m_cognito.testing import LocalUserPool

        patch_all()
        xray_recorder.configure(
            service="shop", sampling=False, context_missing="{context_missing}", daemon_address="127.0.0.1:9"
        )
        with LocalUserPool() as pool:
            app = Flask("shop")
            app.config.update(pool.config(ALLOWED_CLIENT_IDS="*"))
            m2m = CognitoM2M(app)
            app.get("/items")(m2m.require_scopes("a/b")(lambda: m2m.token()))
            headers = {{"Authorization": "Bearer " + pool.token("a/b")}}
            with xray_recorder.in_segment("request") as segment:
                assert app.test_client().get("/items", headers=headers).status_code == 200
            assert pool.count() == 2
            print([each.name for each in segment.subsegments])
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"{traced}\n"
