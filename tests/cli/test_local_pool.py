"""``flask m2m local-pool`` is a pool for development, with the application's clients or a file's."""

from __future__ import annotations

import json
import re
import signal
import socket
import subprocess
import sys
import time
from contextlib import ExitStack, suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jwt
import pytest
import requests
from click.testing import CliRunner

from flask_m2m_cognito._cli import local_pool
from flask_m2m_cognito.cli import m2m
from flask_m2m_cognito.testing import LocalUserPool
from tests.cli.flask_process import LONGEST, Flask, bare_environ

TOML = """
pool_id = "eu-west-1_Development"
token_lifetime = 600

[clients.billing]
secret = "secret-of-billing"
scopes = ["orders/read", "orders/write"]

[clients.reports]
secrets = ["secret-of-reports", "its-second-secret"]
"""
SAME = {
    "pool_id": "eu-west-1_Development",
    "token_lifetime": 600,
    "clients": {
        "billing": {"secret": "secret-of-billing", "scopes": ["orders/read", "orders/write"]},
        "reports": {"secrets": ["secret-of-reports", "its-second-secret"]},
    },
}


POOL_IS_HERE = """
import socket

resolve = socket.getaddrinfo
socket.getaddrinfo = lambda host, *more, **named: resolve(
    "127.0.0.1" if host in ("pool", b"pool") else host, *more, **named
)
"""


@pytest.fixture
def port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        number: int = free.getsockname()[1]
    return number


@pytest.fixture(params=["toml", "json"])
def config(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "toml" and sys.version_info < (3, 11):
        pytest.skip("tomllib is there from Python 3.11 on")
    path = tmp_path / f"pool.{request.param}"
    path.write_text(TOML if request.param == "toml" else json.dumps(SAME))
    return str(path)


def announced(process: subprocess.Popen[str]) -> dict[str, Any]:
    """What it says once it listens."""
    assert process.stdout is not None
    lines = []
    for line in process.stdout:
        lines.append(line)
        if line == "}\n":
            break
    said: dict[str, Any] = json.loads("".join(lines))
    return said


def wait_for_port(port: int) -> None:
    ends = time.monotonic() + LONGEST
    while time.monotonic() < ends:
        with suppress(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port), timeout=LONGEST).close()
            return
    raise TimeoutError(f"Nothing listens on port {port}.")


def asked(url: str, client_id: str, secret: str, scope: str = "") -> requests.Response:
    form = {
        "grant_type": "client_credentials",
        "client_id": client_id,
        "client_secret": secret,
        "scope": scope,
    }
    with requests.Session() as session:
        session.trust_env = False
        return session.post(url, data=form, timeout=10)


def test_file(flask: Flask, port: int, config: str) -> None:
    with flask.running("local-pool", "--json", "--port", str(port), "--config", config, app=None) as process:
        said = announced(process)
        assert said["settings"]["COGNITO_M2M_ISSUER"] == f"http://127.0.0.1:{port}/eu-west-1_Development"
        url = said["settings"]["COGNITO_M2M_TOKEN_URL"]
        answer = asked(url, "billing", "secret-of-billing").json()
        refused = asked(url, "billing", "secret-of-billing", "other/scope")
        second = asked(url, "reports", "its-second-secret", "any/scope")
        process.send_signal(signal.SIGINT)
        assert process.wait(LONGEST) == 0
    assert (answer["expires_in"], refused.json(), second.status_code) == (
        600,
        {"error": "invalid_scope"},
        200,
    )
    said_of_itself = jwt.decode(answer["access_token"], options={"verify_signature": False})
    assert said_of_itself["scope"] == "orders/read orders/write"
    assert "secret" not in json.dumps(said)


def test_clients_of_the_application(flask: Flask, pool: LocalUserPool, port: int) -> None:
    named = {"CLIENT_ID": "billing", "CLIENT_SECRET": ["one-of-two-secrets", "the-other"], "SCOPES": "a/b"}
    app, again = "service:create_app", {**named, "SCOPES": "c/d"}
    options = ("local-pool", "--json", "--port", str(port))
    with flask.running(*options, app=app, CLIENTS={"one": named, "two": again}) as process:
        said = announced(process)
        url = said["settings"]["COGNITO_M2M_TOKEN_URL"]
        default = asked(url, "shop-client", pool.client().secret)
        billing = asked(url, "billing", "the-other", "a/b c/d")
        process.send_signal(signal.SIGTERM)
        assert process.wait(LONGEST) == 0
    assert (default.status_code, billing.status_code) == (200, 200)
    assert said["settings"]["COGNITO_M2M_USER_POOL_ID"] == pool.pool_id
    assert said["clients"] == ["shop-client", "billing"]


def test_application_that_asks_get_client_token_is_told_its_address(flask: Flask, port: int) -> None:
    options = ("local-pool", "--json", "--port", str(port))
    with flask.running(*options, app="service:create_app", CLIENT_TOKEN_API=True, TOKEN_URL=None) as process:
        settings = announced(process)["settings"]
        said = {key.removeprefix("COGNITO_M2M_"): value for key, value in settings.items()}
        token = flask("token", "--json", may_say_token=True, CLIENT_TOKEN_API=True, JWKS_URL=None, **said)
    assert said["TOKEN_URL"] == f"http://127.0.0.1:{port}/"
    assert token.status == 0


@pytest.mark.parametrize("app", ["create_app_without_its_secret", "create_app_with_a_number_as_secret"])
def test_secret_that_can_not_be_read_is_said_without_a_traceback(flask: Flask, port: int, app: str) -> None:
    ended = flask("local-pool", "--port", str(port), app=f"service:{app}")
    assert ended.status == 1
    assert "shop-client" in ended.err
    assert "--config" in ended.err
    assert "top-secret" not in ended.err


def test_without_an_application_or_a_file(flask: Flask, port: int) -> None:
    with flask.running("local-pool", "--port", str(port), app=None) as process:
        assert process.stdout is not None
        assert "local-client" in process.stdout.readline()
        settings = [process.stdout.readline().strip() for _ in range(3)]
        assert f"FLASK_COGNITO_M2M_TOKEN_URL=http://127.0.0.1:{port}/oauth2/token" in settings
        assert (
            asked(f"http://127.0.0.1:{port}/oauth2/token", "local-client", "local-secret").status_code == 200
        )


def test_service_runs_on_it(flask: Flask, port: int, config: str) -> None:
    """The settings that it prints are the ones that an application needs."""
    with flask.running("local-pool", "--json", "--port", str(port), "--config", config, app=None) as process:
        said = announced(process)["settings"]
        settings = {key.removeprefix("COGNITO_M2M_"): value for key, value in said.items()}
        billing: dict[str, Any] = {
            "CLIENT_ID": "billing",
            "CLIENT_SECRET": "secret-of-billing",
            "SCOPES": None,
        }
        assert flask("check", JWKS_URL=None, **settings, **billing).status == 0


def test_public_url_is_what_applications_are_told(flask: Flask, port: int) -> None:
    options = ("--host", "127.0.0.2", "--port", str(port), "--public-url", f"http://pool.test:{port}/")
    with flask.running("local-pool", "--json", *options, app=None) as process:
        settings = announced(process)["settings"]
        url = f"http://127.0.0.2:{port}/us-east-1_LocalPool/.well-known/openid-configuration"
        found = requests.get(url, timeout=5, proxies={"http": ""}).json()
    assert settings == {
        "COGNITO_M2M_USER_POOL_ID": "us-east-1_LocalPool",
        "COGNITO_M2M_ISSUER": f"http://pool.test:{port}/us-east-1_LocalPool",
        "COGNITO_M2M_TOKEN_URL": f"http://pool.test:{port}/oauth2/token",
        "COGNITO_M2M_ALLOW_HTTP_HOSTS": "pool.test",
    }
    assert (found["issuer"], found["token_endpoint"]) == (
        settings["COGNITO_M2M_ISSUER"],
        settings["COGNITO_M2M_TOKEN_URL"],
    )


def test_compose_file_of_the_docs_runs(port: int, tmp_path: Path) -> None:
    page = (Path(__file__).parents[2] / "docs/guide/plain-http.md").read_text("utf-8")
    compose = page.partition("```yaml\n")[2].partition("```")[0]
    with socket.create_server(("127.0.0.1", 0)) as free:
        shop_port = str(free.getsockname()[1])
    for written, here in (("0.0.0.0", "127.0.0.1"), ("9229", str(port)), ("5000", shop_port)):
        compose = compose.replace(written, here)
    commands = [json.loads(line) for line in re.findall(r"command: (\[.*?\])", compose, re.DOTALL)]
    settings = dict(re.findall(r"(FLASK_\w+): (.*)", compose))
    (tmp_path / "shop.py").write_text(page.partition("```python\n")[2].partition("```")[0])
    (tmp_path / "sitecustomize.py").write_text(POOL_IS_HERE)
    environ = {**bare_environ(), **settings, "PYTHONPATH": str(tmp_path), "PYTHONWARNINGS": "ignore"}
    with ExitStack() as stack:
        for command in commands:
            process = subprocess.Popen([sys.executable, "-m", *command], env=environ, cwd=tmp_path)
            stack.enter_context(process)
            stack.callback(process.kill)
        for each in (port, int(shop_port)):
            wait_for_port(each)
        token = asked(f"http://127.0.0.1:{port}/oauth2/token", "local-client", "local-secret").json()
        headers = {"Authorization": f"Bearer {token['access_token']}"}
        with requests.Session() as session:
            session.trust_env = False
            url = f"http://127.0.0.1:{shop_port}/items"
            assert session.get(url, headers=headers, timeout=10).json() == {"caller": "local-client"}


@pytest.mark.parametrize("url", ["pool:9229", "http://pool:9229/a", "http://me@pool", "http://pool?x", "*"])
def test_public_url_is_an_origin_alone(url: str) -> None:
    ended = CliRunner().invoke(m2m, ["local-pool", "--public-url", url])
    assert ended.exit_code == 1
    assert "public_url must be scheme, host and port" in ended.output


def test_address_beyond_loopback_is_warned_about(
    monkeypatch: pytest.MonkeyPatch, pool: LocalUserPool
) -> None:
    monkeypatch.setattr(local_pool, "LocalUserPool", lambda *args, **kwargs: pool)
    stopped = SimpleNamespace(wait=lambda seconds: True)
    monkeypatch.setattr(local_pool, "threading", SimpleNamespace(Event=lambda: stopped))
    monkeypatch.setattr(local_pool.signal, "signal", lambda *args: None)
    said = {
        host: CliRunner().invoke(m2m, ["local-pool", "--host", host]).output
        for host in ("0.0.0.0", "10.0.0.7", "::", "127.0.0.1", "localhost")
    }
    assert [host for host, text in said.items() if "WARNING" in text] == ["0.0.0.0", "10.0.0.7", "::"]


def test_port_that_is_taken(flask: Flask, pool: LocalUserPool) -> None:
    ended = flask("local-pool", "--port", pool.url.rpartition(":")[2], app=None)
    assert ended.status == 1
    assert "--port" in ended.err


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("{", "can't be read as JSON"),
        ('{"client": {}}', "client is not known"),
        ('{"clients": {"billing": {"scopes": []}}}', "clients.billing needs a secret"),
        ('{"clients": {"billing": {"secret": "s", "scope": "a"}}}', "scope is not known"),
        ('{"clients": {"bil:ling": {"secret": "s"}}}', "without a colon"),
        ('{"clients": {"billing": {"secret": "s", "secrets": ["t"]}}}', "secret or secrets, not both"),
        ('{"clients": {"billing": {"secret": "s", "scopes": [1]}}}', "scopes is a list of texts"),
        ('{"pool_id": "nowhere"}', "pool_id must be"),
        ('{"token_lifetime": "1h"}', "token_lifetime"),
        ("[]", "give an object"),
    ],
)
def test_file_that_is_wrong(tmp_path: Path, content: str, problem: str) -> None:
    path = tmp_path / "pool.json"
    path.write_text(content)
    ended = CliRunner().invoke(m2m, ["local-pool", "--config", str(path)])
    assert ended.exit_code == 1
    assert problem in ended.output


@pytest.mark.skipif(sys.version_info >= (3, 11), reason="TOML is read there")
def test_toml_before_python_3_11(flask: Flask, tmp_path: Path) -> None:
    path = tmp_path / "pool.toml"
    path.write_text(TOML)
    ended = flask("local-pool", "--config", str(path), app=None)
    assert ended.status == 1
    assert ".json" in ended.err
