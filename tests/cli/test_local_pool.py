"""``flask m2m local-pool`` runs a pool for development, with the clients of the application or a file."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from base64 import b64encode
from contextlib import ExitStack, suppress
from email.message import Message
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jwt
import pytest
import requests
from click.testing import CliRunner
from flask import Flask as Application

from flask_m2m_cognito import CognitoM2M
from flask_m2m_cognito.cli import local_pool
from flask_m2m_cognito.cli.group import m2m
from flask_m2m_cognito.cli.local_lines import commands_for, request_line
from flask_m2m_cognito.testing import LocalUserPool
from flask_m2m_cognito.testing._answers import Answer
from flask_m2m_cognito.testing._recorded import FORM_TYPE, record_request
from tests.cli.flask_process import LONGEST, Flask, bare_environ, read_announcement
from tests.support.sockets import free_port

POOL = {
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


def wait_for_port(port: int) -> None:
    ends = time.monotonic() + LONGEST
    while time.monotonic() < ends:
        with suppress(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port), timeout=LONGEST).close()
            return
    raise TimeoutError(f"Nothing listens on port {port}.")


def request_token(url: str, client_id: str, secret: str, scope: str = "") -> requests.Response:
    form = {"grant_type": "client_credentials", "client_id": client_id, "client_secret": secret}
    with session_without_proxy() as session:
        return session.post(url, data={**form, "scope": scope}, timeout=10)


def session_without_proxy() -> requests.Session:
    """Return a session that uses no proxy."""
    session = requests.Session()
    session.trust_env = False
    return session


def test_file_names_clients_and_requests_are_logged(flask: Flask, port: int, tmp_path: Path) -> None:
    (tmp_path / "pool.json").write_text(json.dumps(POOL))
    options = ("local-pool", "--json", "--port", str(port), "--config", "pool.json")
    with flask.running(*options, app=None, stderr=subprocess.PIPE) as process:
        content = read_announcement(process)
        assert content["settings"]["COGNITO_M2M_ISSUER"] == f"http://127.0.0.1:{port}/eu-west-1_Development"
        url = content["client_settings"]["COGNITO_M2M_TOKEN_URL"]
        answer = request_token(url, "billing", "secret-of-billing").json()
        assert request_token(url, "reports", "its-second-secret", "any/scope").status_code == 200
        assert request_token(url, "reports", "local-secret", "a/b").status_code == 200
        refused = request_token(url, "billing", "secret-of-billing", "other/scope")
        request_token(url, "secret-of-billing", "billing")
        with session_without_proxy() as session:
            session.get(f"{content['url']}/eu-west-1_Development/.well-known/jwks.json", timeout=10)
        process.send_signal(signal.SIGINT)
        _, log = process.communicate(timeout=LONGEST)
    assert process.returncode == 0
    claims = jwt.decode(answer["access_token"], options={"verify_signature": False})
    assert (answer["expires_in"], claims["scope"]) == (600, "orders/read orders/write")
    assert refused.json() == {"error": "invalid_scope"}
    assert not any(secret in json.dumps(content) for secret in ("secret-of", "its-second-secret"))
    assert log.splitlines() == [
        "POST /oauth2/token 200 billing orders/read orders/write",
        "POST /oauth2/token 200 reports any/scope",
        "POST /oauth2/token 200 reports a/b",
        "POST /oauth2/token 400 invalid_scope billing other/scope",
        "POST /oauth2/token 400 invalid_client (a secret)",
        "GET /eu-west-1_Development/.well-known/jwks.json 200",
    ]


def test_clients_of_the_application(flask: Flask, pool: LocalUserPool, port: int) -> None:
    named = {"CLIENT_ID": "billing", "CLIENT_SECRET": ["one-of-two-secrets", "the-other"], "SCOPES": "a/b"}
    app, again = "service:create_app", {**named, "SCOPES": "c/d"}
    options = ("local-pool", "--json", "--port", str(port))
    with flask.running(*options, app=app, CLIENTS={"one": named, "two": again}) as process:
        content = read_announcement(process)
        url = content["client_settings"]["COGNITO_M2M_TOKEN_URL"]
        default = request_token(url, "shop-client", pool.client().secret)
        billing = request_token(url, "billing", "the-other", "a/b c/d")
        process.send_signal(signal.SIGTERM)
        assert process.wait(LONGEST) == 0
    assert (default.status_code, billing.status_code) == (200, 200)
    assert content["settings"]["COGNITO_M2M_USER_POOL_ID"] == pool.pool_id
    assert content["clients"] == ["shop-client", "billing", "local-client"]


def test_app_with_client_token_api_gets_the_url_of_the_api(flask: Flask, port: int) -> None:
    options = ("local-pool", "--json", "--port", str(port))
    with flask.running(*options, app="service:create_app", CLIENT_TOKEN_API=True, TOKEN_URL=None) as process:
        content = read_announcement(process)
        settings = {**content["settings"], **content["client_settings"]}
        short = {key.removeprefix("COGNITO_M2M_"): value for key, value in settings.items()}
        token = flask("token", "--json", may_print_token=True, CLIENT_TOKEN_API=True, JWKS_URL=None, **short)
    assert short["TOKEN_URL"] == f"http://127.0.0.1:{port}/"
    assert token.status == 0


@pytest.mark.parametrize("app", ["create_app_without_its_secret", "create_app_with_a_number_as_secret"])
def test_unreadable_secret_is_reported_without_traceback(flask: Flask, port: int, app: str) -> None:
    ended = flask("local-pool", "--port", str(port), app=f"service:{app}")
    assert ended.status == 1
    assert "shop-client" in ended.err
    assert "--config" in ended.err
    assert "top-secret" not in ended.err


def test_without_an_application_or_a_file(flask: Flask, port: int) -> None:
    with flask.running("local-pool", "--port", str(port), app=None) as process:
        lines = lines_of(process)
        url = f"http://127.0.0.1:{port}"
        assert "# Clients: local-client" in lines
        assert f"export FLASK_COGNITO_M2M_ISSUER={url}/us-east-1_LocalPool" in lines
        assert f"# export FLASK_COGNITO_M2M_TOKEN_URL={url}/oauth2/token" in lines
        assert request_token(f"{url}/oauth2/token", "local-client", "local-secret").status_code == 200


UNSET: dict[str, Any] = dict.fromkeys(
    ["USER_POOL_ID", "ISSUER", "JWKS_URL", "TOKEN_URL", "CLIENT_ID", "CLIENT_SECRET", "SCOPES"]
)
"""An application that has none of the settings that the pool prints."""


def lines_of(process: subprocess.Popen[str], calls: int = 1) -> list[str]:
    """Return its output, up to the command that calls the application as the last client."""
    assert process.stdout is not None
    lines: list[str] = []
    while sum(line.startswith("curl -H") for line in lines) < calls:
        lines.append(process.stdout.readline().rstrip("\n"))
        assert process.poll() is None, lines
    return lines


@pytest.mark.skipif(not shutil.which("bash") or not shutil.which("curl"), reason="there is no bash or curl")
def test_printed_commands_work_in_a_shell(flask: Flask, port: int, tmp_path: Path) -> None:
    """A new user runs settings, a token request and a call in two terminals."""
    callers = ["billing", "report's"]
    app_port = str(free_port())
    config = {"ALLOWED_CLIENT_IDS": callers, **UNSET}
    environ = {**flask.environ(config), "FLASK_RUN_PORT": app_port, "FLASK_APP": "service:create_app"}
    environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), environ["PATH"]])
    environ["NO_PROXY"] = "*"

    def shell(script: str) -> str:
        return subprocess.run(
            ["bash", "-ec", script], env=environ, cwd=tmp_path, capture_output=True, text=True, check=True
        ).stdout

    command = [sys.executable, "-m", "flask", "m2m", "local-pool", "--port", str(port)]
    with ExitStack() as stack:
        pool = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environ, cwd=tmp_path)
        stack.enter_context(pool)
        stack.callback(pool.kill)
        lines = lines_of(pool, calls=len(callers))
        exports = "\n".join(line for line in lines if line.startswith("export "))
        tokens = [line for line in lines if line.startswith("curl http")]
        calls = [line for line in lines if line.startswith("curl -H")]
        assert {json.loads(shell(f"{line} -s"))["token_type"] for line in tokens} == {"Bearer"}
        service = subprocess.Popen(["bash", "-c", f"{exports}\nexec flask run"], env=environ, cwd=tmp_path)
        stack.enter_context(service)
        stack.callback(service.kill)
        wait_for_port(int(app_port))
        status = "-s -o body -w '%{http_code}'"
        assert [shell(f"{exports}\n{line} {status}") for line in calls] == ["200", "200"]
    assert any("--as billing" in line for line in calls)
    assert any("""--as 'report'"'"'s'""" in line for line in calls)


def test_callers_are_the_allowed_clients(flask: Flask, port: int) -> None:
    options, allowed = ("local-pool", "--json", "--port", str(port)), ["reports", "billing"]
    own = {**UNSET, "CLIENT_ID": "shop", "CLIENT_SECRET": "the-shops-own-secret"}
    with flask.running(
        *options, app="service:create_app", **{**own, "ALLOWED_CLIENT_IDS": allowed}
    ) as process:
        content = read_announcement(process)
        secrets = ("local-secret", "the-shops-own-secret")
        url = content["client_settings"]["COGNITO_M2M_TOKEN_URL"]
        answers = {
            (each, secret): request_token(url, each, secret).status_code
            for each in content["clients"]
            for secret in secrets
        }
    assert content["clients"] == ["shop", "billing", "reports"]
    assert [client for (client, secret), status in answers.items() if status == 200] == [
        "shop", "shop", "billing", "reports",
    ]  # fmt: skip
    # The application rejects its own client id, so no call is printed for it.
    assert [client for client, each in content["commands"].items() if each["call"]] == ["billing", "reports"]
    assert "the-shops-own-secret" not in json.dumps(content)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        pytest.param({}, 'curl -H "Authorization: Bearer $(', id="usual"),
        pytest.param({"HEADER_NAME": "X-Caller"}, 'curl -H "X-Caller: Bearer $(', id="header"),
        pytest.param({"AUDIENCE": "https://shop.example"}, None, id="audience, which its tokens lack"),
        pytest.param({"REQUIRED_SCOPES": "shop/use"}, None, id="a scope that the client lacks"),
    ],
)
def test_printed_call_is_accepted_by_the_application(settings: dict[str, str], words: str | None) -> None:
    with LocalUserPool(clients={"billing": "inventory/write"}) as pool:
        app = Application("shop", static_folder=None)
        app.config.update(pool.config(**settings, ALLOWED_CLIENT_IDS=["billing"]))
        guard = CognitoM2M(app)
        for method in ("POST", "GET"):
            view = guard.require_scopes("inventory/write")(lambda: "")
            app.add_url_rule(f"/{method.lower()}", method, view, methods=[method])
        call = commands_for(pool.client(), pool, app, guard.for_app(app).settings).call
    assert (call is None) == (words is None)
    assert words is None or call is None or (call.startswith(words) and call.endswith("/get"))


def test_invalid_settings_are_a_note_and_no_error(flask: Flask, port: int) -> None:
    options = ("local-pool", "--json", "--port", str(port))
    running = flask.running(
        *options, app="service:create_app", stderr=subprocess.PIPE, **UNSET, LEEWAY="soon"
    )
    with running as process:
        assert read_announcement(process)["clients"] == ["local-client"]
        process.send_signal(signal.SIGINT)
        _, note = process.communicate(timeout=LONGEST)
    assert process.returncode == 0
    assert "settings are invalid, so the pool has only local-client" in note
    assert "COGNITO_M2M_LEEWAY" in note


@pytest.mark.parametrize(
    ("headers", "body", "words"),
    [
        pytest.param({"Authorization": f"Basic {b64encode(b'basic:pw').decode()}"}, b"", "basic", id="Basic"),
        pytest.param({"Authorization": "Basic ?"}, b"", "", id="no Basic"),
        pytest.param({"X-Amz-Target": "x"}, b'{"ClientId": "api", "Scopes": ["a/b"]}', "api a/b", id="API"),
        pytest.param({"X-Amz-Target": "x"}, b'{"ClientId": 7, "Scopes": "a"}', "7", id="odd JSON"),
        pytest.param({"X-Amz-Target": "x"}, b"[", "", id="no JSON"),
        pytest.param({}, b"client_id=%1b%5b2J%0aGET&scope=a%0ab", r'"\u001b[2J\nGET" a b', id="controls"),
    ],
)
def test_log_line_of_an_odd_token_request(headers: dict[str, str], body: bytes, words: str) -> None:
    message = Message()
    for name, value in {"Content-Type": FORM_TYPE, **headers}.items():
        message[name] = value
    request = record_request(
        pool_id="p", method="POST", target="/" if "X-Amz-Target" in headers else "/oauth2/token",
        headers=message, body=body, at=0.0,
    )  # fmt: skip
    line = request_line(request, Answer(400, b'{"error": "invalid_client"}', {}), [])
    assert line == f"POST {request.path} 400 invalid_client {words}".rstrip()


def test_public_url_is_in_the_printed_settings(flask: Flask, port: int) -> None:
    options = ("--host", "127.0.0.2", "--port", str(port), "--public-url", f"http://pool.test:{port}/")
    with flask.running("local-pool", "--json", *options, app=None) as process:
        content = read_announcement(process)
        settings, to_call = content["settings"], content["client_settings"]
        url = f"http://127.0.0.2:{port}/us-east-1_LocalPool/.well-known/openid-configuration"
        found = requests.get(url, timeout=5, proxies={"http": ""}).json()
    assert settings == {
        "COGNITO_M2M_USER_POOL_ID": "us-east-1_LocalPool",
        "COGNITO_M2M_ISSUER": f"http://pool.test:{port}/us-east-1_LocalPool",
        "COGNITO_M2M_ALLOW_HTTP_HOSTS": "pool.test",
    }
    assert to_call["COGNITO_M2M_TOKEN_URL"] == f"http://pool.test:{port}/oauth2/token"
    assert (found["issuer"], found["token_endpoint"]) == (
        settings["COGNITO_M2M_ISSUER"],
        to_call["COGNITO_M2M_TOKEN_URL"],
    )


def test_compose_file_of_the_docs_runs(port: int, tmp_path: Path) -> None:
    page = (Path(__file__).parents[2] / "docs/guide/plain-http.md").read_text("utf-8")
    compose = page.partition("```yaml\n")[2].partition("```")[0]
    shop_port = str(free_port())
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
        token = request_token(f"http://127.0.0.1:{port}/oauth2/token", "local-client", "local-secret").json()
        headers = {"Authorization": f"Bearer {token['access_token']}"}
        with session_without_proxy() as session:
            url = f"http://127.0.0.1:{shop_port}/items"
            assert session.get(url, headers=headers, timeout=10).json() == {"caller": "local-client"}


@pytest.mark.parametrize("url", ["pool:9229", "http://pool:9229/a", "http://me@pool", "http://pool?x", "*"])
def test_public_url_must_be_an_origin(url: str) -> None:
    ended = CliRunner().invoke(m2m, ["local-pool", "--public-url", url])
    assert ended.exit_code == 1
    assert "public_url must be scheme, host and port" in ended.output


def test_address_beyond_loopback_is_a_warning(monkeypatch: pytest.MonkeyPatch, pool: LocalUserPool) -> None:
    """No pool listens there in this test."""
    monkeypatch.setattr(local_pool, "_LoggingPool", lambda *args, **kwargs: pool)
    stopped = SimpleNamespace(wait=lambda seconds: True)
    monkeypatch.setattr(local_pool, "threading", SimpleNamespace(Event=lambda: stopped))
    monkeypatch.setattr(local_pool.signal, "signal", lambda *args: None)
    output = {
        host: CliRunner().invoke(m2m, ["local-pool", "--host", host]).output
        for host in ("0.0.0.0", "10.0.0.7", "::", "127.0.0.1", "localhost")
    }
    assert [host for host, text in output.items() if "WARNING" in text] == ["0.0.0.0", "10.0.0.7", "::"]


def test_port_in_use_is_an_error(flask: Flask, pool: LocalUserPool) -> None:
    ended = flask("local-pool", "--port", pool.url.rpartition(":")[2], app=None)
    assert ended.status == 1
    assert "--port" in ended.err


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("{", "Could not read"),
        ('{"client": {}}', "unknown key client"),
        ('{"clients": {"billing": {"scopes": []}}}', "clients.billing needs a secret"),
        ('{"clients": {"billing": {"secret": "s", "scope": "a"}}}', "unknown key scope"),
        ('{"clients": {"bil:ling": {"secret": "s"}}}', "without a colon"),
        ('{"clients": {"billing": {"secret": "s", "secrets": ["t"]}}}', "secret or secrets, not both"),
        ('{"clients": {"billing": {"secret": "s", "scopes": [1]}}}', "scopes must be text or a list of text"),
        ('{"pool_id": "nowhere"}', "pool_id must be"),
        ('{"token_lifetime": "1h"}', "token_lifetime"),
        ("[]", "must contain an object"),
    ],
)
def test_invalid_file_is_an_error(tmp_path: Path, content: str, problem: str) -> None:
    path = tmp_path / "pool.json"
    path.write_text(content)
    ended = CliRunner().invoke(m2m, ["local-pool", "--config", str(path)])
    assert ended.exit_code == 1
    assert problem in ended.output


@pytest.mark.skipif(sys.version_info >= (3, 11), reason="TOML is read there")
def test_toml_before_python_3_11_is_an_error(flask: Flask, tmp_path: Path) -> None:
    path = tmp_path / "pool.toml"
    path.write_text("")
    ended = flask("local-pool", "--config", str(path), app=None)
    assert ended.status == 1
    assert ".json" in ended.err
