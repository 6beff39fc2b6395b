"""The page ``docs/cli.md`` is correct: its service, its commands and their output."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import click
import pytest

from flask_m2m_cognito.cli import m2m
from tests.cli.flask_process import Flask, read_announcement

PAGE = Path(__file__).parents[2] / "docs" / "cli.md"


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE.read_text("utf-8"), re.DOTALL | re.MULTILINE)


def commands() -> list[tuple[str, str]]:
    """Return each command after a ``$``, with the output below it."""
    text = "".join(block + "\n" for block in blocks("console"))
    return [
        (command, out.strip())
        for command, out in re.findall(r"^\$ (.*)\n((?:[^$\n].*\n)*)", text, re.MULTILINE)
    ]


@pytest.fixture
def shop(flask: Flask, tmp_path: Path) -> Flask:
    (tmp_path / "shop.py").write_text(blocks("python")[0])
    export = {
        "Identifier": "inventory",
        "Scopes": [{"ScopeName": each} for each in ("read", "write", "count")],
    }
    orders = {"Identifier": "orders", "Scopes": [{"ScopeName": "read"}]}
    (tmp_path / "pool.json").write_text(json.dumps({"ResourceServers": [export, orders]}))
    return flask


def test_commands_print_the_output_on_the_page(shop: Flask) -> None:
    shown = [(command, out) for command, out in commands() if out]
    assert len(shown) == 8
    shared = {"CACHE_TYPE": "FileSystemCache", "CACHE_DIR": "cache", "CACHE_KEY": "k" * 16}
    for command, out in shown:
        words = shlex.split(command)
        assert words[:4] == ["flask", "--app", "shop", "m2m"]
        printed = shop(*words[4:], app="shop", REVOCATIONS=True, **shared).out.strip()
        assert without_what_varies(printed) == without_what_varies(out)


def without_what_varies(text: str) -> str:
    return re.sub(r"(changed )\S+Z|(seal: )[0-9a-f]{16}", r"\1\2…", text)


def test_every_command_on_the_page_exists() -> None:
    named = set()
    for command in re.findall(r"\bm2m ([a-z-]+(?: [^<>$)`\n]*)?)", "\n".join(line for line, _ in commands())):
        name, *arguments = shlex.split(command)
        # Raises for an unknown option.
        m2m.commands[name].make_context(name, arguments, parent=click.Context(m2m), resilient_parsing=False)
        named.add(name)
    assert named == set(m2m.commands)


@pytest.mark.skipif(sys.version_info < (3, 11), reason="tomllib exists since Python 3.11")
def test_file_of_the_local_pool_is_read(flask: Flask, port: int, tmp_path: Path) -> None:
    (tmp_path / "pool.toml").write_text(blocks("toml")[0])
    options = ("local-pool", "--json", "--port", str(port), "--config", "pool.toml")
    with flask.running(*options, app=None) as pool:
        content = read_announcement(pool)
    assert content["settings"]["COGNITO_M2M_USER_POOL_ID"] == "eu-west-1_Development"
    assert content["clients"] == ["billing", "reports"]
    assert "scope=inventory/read orders/read'" in content["commands"]["billing"]["token"]


def test_flask_lists_the_commands(shop: Flask) -> None:
    done = subprocess.run([*shop.command("shop"), "--help"], capture_output=True, text=True, check=True)
    assert all(name in done.stdout for name in m2m.commands)
