"""The names that users and their alerts rely on do not change.

``tests/stable_names.json`` is the list. After an intended change, write it again and review the difference:

    python -m tests.test_stable_names
"""

from __future__ import annotations

import ast
import importlib
import inspect
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
from werkzeug.local import LocalProxy

import flask_m2m_cognito
from flask_m2m_cognito import otel, signals
from flask_m2m_cognito.cli.group import m2m
from flask_m2m_cognito.exceptions import REASONS
from flask_m2m_cognito.settings.app_settings import PREFIX, SETTINGS
from flask_m2m_cognito.testing import pytest_plugin
from flask_m2m_cognito.web.problems import ANSWERS

# Created only by the library, or used only by its own parts.
INTERNAL = re.compile(
    r"(AppM2M|BearerAuth)$|BearerAuth\.with_route|AppM2M\.(of_every_token|pools)|AccessTokenValidator\.(check|recall|run_own_check|verify)"
    r"|CognitoM2MClient\.(build_redaction|client_secret|merged_metadata|request_\w+)|Health\."
)
LIST = Path(__file__).with_name("stable_names.json")
PACKAGE = Path(flask_m2m_cognito.__file__).parent


def names() -> dict[str, Any]:
    """Return every name that a user's program, alert or script may contain, by kind."""
    return {
        "public names": dict(_public_names()),
        "reasons": {reason: [ANSWERS[reason].status, ANSWERS[reason].error] for reason in REASONS},
        "events": sorted(set(_events())),
        "settings": [PREFIX + setting.key for setting in SETTINGS],
        "signals": sorted(signal.name for signal in vars(signals).values() if _is_signal(signal)),
        "metrics and attributes": sorted(
            {f"cognito_m2m.{name}" for name, *_ in otel._GAUGES}
            | set(re.findall(r"\bcognito_m2m\.[a-z_.]+\b", _source_without_docstring(otel)))
        ),
        "fixtures": sorted(name for name in vars(pytest_plugin) if name.startswith("m2m_")),
        "commands": {name: _options(command) for name, command in sorted(m2m.commands.items())},
    }


def _public_names() -> Iterator[tuple[str, Any]]:
    """Yield each public name with its arguments, and those of its public members."""
    for module_name in ("flask_m2m_cognito", "flask_m2m_cognito.testing"):
        module = importlib.import_module(module_name)
        for name in sorted(module.__all__):
            value = getattr(module, name)
            yield f"{module_name}.{name}", None if INTERNAL.search(name) else _arguments(value)
            if inspect.isclass(value):
                for member in sorted(each for each in dir(value) if not each.startswith("_")):
                    if not hasattr(Exception, member) and not INTERNAL.search(f"{name}.{member}"):
                        yield f"{module_name}.{name}.{member}", _arguments(getattr(value, member))
    yield "flask_m2m_cognito.otel.instrument", _arguments(otel.instrument)


def _arguments(value: Any) -> list[str] | None:
    """Return the names of the arguments, in order, or ``None`` for a value that is not called."""
    if isinstance(value, LocalProxy) or not (inspect.isclass(value) or inspect.isroutine(value)):
        return None
    try:
        parameters = inspect.signature(value).parameters.values()
    except (TypeError, ValueError):
        return None
    return [str(each).partition(":")[0].partition("=")[0] for each in parameters]


def _events() -> Iterator[str]:
    """Yield the ``event`` field of each log record: the package writes them as literals."""
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Dict):
                for key, value in zip(node.keys, node.values, strict=True):
                    if isinstance(key, ast.Constant) and key.value == "event":
                        yield from _texts(value)


def _texts(value: ast.expr) -> list[str]:
    if isinstance(value, ast.Constant):
        return [str(value.value)]
    # f"{prefix}-failed", for the keys, the tokens and the list of revocations
    suffix = ast.unparse(value).rpartition("}")[2].rstrip("'\"")
    return [f"{prefix}{suffix}" for prefix in ("keys", "token", "revocations")]


def _source_without_docstring(module: Any) -> str:
    """Return the code: the docstring has names that it builds from parts, which tests/test_otel.py holds."""
    return inspect.getsource(module).replace(module.__doc__ or "", "")


def _is_signal(value: object) -> bool:
    return type(value).__name__ == "NamedSignal"


def _options(command: click.Command) -> list[str]:
    return sorted(option for parameter in command.params for option in parameter.opts)


@pytest.mark.parametrize("kind", sorted({*names(), *json.loads(LIST.read_text("utf-8"))}))
def test_stable_names_do_not_change(kind: str) -> None:
    assert names()[kind] == json.loads(LIST.read_text("utf-8"))[kind]


if __name__ == "__main__":
    LIST.write_text(json.dumps(names(), indent=1, sort_keys=True) + "\n", "utf-8")
