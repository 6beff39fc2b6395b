"""Behaviour that all commands of ``flask m2m`` share."""

from __future__ import annotations

import subprocess
import sys

import pytest

from flask_m2m_cognito.cli import m2m
from tests.cli.flask_process import Flask

COMMANDS = [
    "check", "explain", "local-pool", "refresh-keys", "refresh-tokens", "revocations", "revoke", "routes",
    "scopes", "token", "unrevoke",
]  # fmt: skip
ARGUMENTS = {"revoke": ["a-client"], "unrevoke": ["a-client"]}


def test_every_command_has_a_json_option() -> None:
    assert sorted(m2m.commands) == COMMANDS
    for command in m2m.commands.values():
        assert "--json" in {option for parameter in command.params for option in parameter.opts}


@pytest.mark.parametrize("command", [name for name in COMMANDS if name not in ("check", "local-pool")])
def test_wrong_settings_are_reported_without_traceback(flask: Flask, command: str) -> None:
    ended = flask(command, *ARGUMENTS.get(command, []), LEEWAY="soon", CLIENT_SECRET=None)
    assert (ended.status, ended.out) == (1, "")
    assert "COGNITO_M2M_LEEWAY" in ended.err
    assert "COGNITO_M2M_CLIENT_SECRET" in ended.err


@pytest.mark.parametrize(
    "command", ["explain", "refresh-keys", "refresh-tokens", "revocations", "revoke", "token", "unrevoke"]
)
def test_app_without_the_extension_is_an_error(flask: Flask, command: str) -> None:
    ended = flask(command, *ARGUMENTS.get(command, []), app="service:create_bare_app")
    assert ended.status == 1
    assert "init_app" in ended.err


def test_missing_application_is_flasks_own_error(flask: Flask) -> None:
    ended = flask("check", app=None)
    assert ended.status == 2
    assert "Could not locate a Flask application" in ended.err


def test_library_does_not_import_the_commands() -> None:
    code = "import sys, flask_m2m_cognito; print([name for name in sys.modules if 'm2m_cognito.cli' in name])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_other_flask_commands_import_only_the_group() -> None:
    code = "import sys, flask_m2m_cognito.cli; print([n for n in sys.modules if '_cognito.cli.' in n])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "['flask_m2m_cognito.cli.group']"
