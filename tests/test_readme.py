"""The README is correct: its code runs, its curl commands get their status, its tables name real things."""

from __future__ import annotations

import itertools
import json
import re
import shlex
import subprocess
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
import requests

from example_app.services import create_inventory_app
from example_app.stage import LoopbackServer
from flask_m2m_cognito.exceptions import REASONS
from flask_m2m_cognito.settings.app_settings import PREFIX, SETTINGS
from flask_m2m_cognito.testing import LocalUserPool

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text("utf-8")
PYTHON_BLOCKS = re.findall(r"^```python\n(.*?)^```", README, re.DOTALL | re.MULTILINE)


@pytest.fixture
def pool() -> Iterator[LocalUserPool]:
    with LocalUserPool(clients={"caller": None, "orders": None}) as pool:
        yield pool


@pytest.fixture
def pool_in_environment(pool: LocalUserPool, monkeypatch: pytest.MonkeyPatch) -> LocalUserPool:
    """Put the pool's settings into the environment, from which the README's programs read them."""
    for key, value in pool.config("orders", ALLOWED_CLIENT_IDS=["caller", "orders"]).items():
        monkeypatch.setenv(f"FLASK_{key}", value if isinstance(value, str) else json.dumps(value))
    return pool


def block_after(marker: str) -> str:
    """Return the only fenced block after the line ``<!-- marker -->``."""
    (block,) = re.findall(rf"^<!-- {marker} -->\n```\w+\n(.*?)^```$", README, re.DOTALL | re.MULTILINE)
    return str(block)


def run(source: str) -> dict[str, Any]:
    """Run a program, and return its global names."""
    names: dict[str, Any] = {"__name__": "readme"}
    exec(compile(source, "README.md", "exec"), names)
    return names


def statuses_of_items(client: Any, pool: LocalUserPool) -> list[int]:
    tokens = [pool.token("inventory/read"), pool.token("orders/read"), pool.token(expires_in=-60)]
    headers = [{}, *({"Authorization": f"Bearer {token}"} for token in tokens)]
    return [client.get("/items", headers=each).status_code for each in headers]


# -- the code ------------------------------------------------------------------------------------


@pytest.mark.parametrize("block", PYTHON_BLOCKS, ids=lambda block: block.splitlines()[-1].strip()[:40])
def test_python_block_compiles(block: str) -> None:
    compile(block, "README.md", "exec")


def test_first_program_guards_its_view(pool_in_environment: LocalUserPool) -> None:
    client = run(PYTHON_BLOCKS[0])["create_app"]().test_client()
    assert statuses_of_items(client, pool_in_environment) == [401, 200, 403, 401]


def test_guarded_view_rejects_and_accepts(pool_in_environment: LocalUserPool) -> None:
    client = run(block_after("test: guarded view"))["app"].test_client()
    assert statuses_of_items(client, pool_in_environment) == [401, 200, 403, 401]


def test_calls_to_another_service_share_one_token(
    pool_in_environment: LocalUserPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    inventory = LoopbackServer(create_inventory_app(pool_in_environment.config()), 0)
    try:
        monkeypatch.setenv("FLASK_STOCK_URL", inventory.url)
        reserve = run(block_after("test: token"))["reserve"]
        answers = [reserve("tea"), reserve("coffee")]
    finally:
        inventory.end()
    assert [answer["requested_by"] for answer in answers] == ["orders", "orders"]
    assert pool_in_environment.count("token") == 1


def test_example_of_a_test_passes(
    pool_in_environment: LocalUserPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = PYTHON_BLOCKS[0].replace("create_app()", "create_app(config)")
    with_settings = first.replace("app.config.from_prefixed_env()", "app.config.from_mapping(config)")
    service = types.ModuleType("my_service")
    vars(service).update(run(with_settings))
    monkeypatch.setitem(sys.modules, "my_service", service)
    run(block_after("test: testing"))["test_items_need_a_token_with_the_scope"]()


# -- the example ---------------------------------------------------------------------------------


@pytest.mark.processes
def test_printed_curl_commands_get_the_readmes_statuses() -> None:
    command = block_after("example: start").strip().rpartition(" && ")[2]
    assert command == ".venv/bin/python -m example_app"
    with subprocess.Popen(
        [sys.executable, "-m", "example_app", "--port", "0"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stdout is not None
            lines = iter(process.stdout.readline, "")  # stops at the end of the output
            printed = "".join(itertools.takewhile(lambda line: "Ctrl-C" not in line, lines))
            statuses = [(int(expected), status_of(line)) for expected, line in curl_lines(printed)]
        finally:
            process.terminate()
    assert statuses == [(200, 200), (401, 401), (401, 401), (403, 403), (403, 403)]
    assert same_ports_and_tokens(block_after("example: prints")).strip() in same_ports_and_tokens(printed)


def curl_lines(text: str) -> list[tuple[str, str]]:
    """Return each curl command with the status from the comment above it."""
    return re.findall(r"^# (\d{3}): .*\n(curl .*)$", text, re.MULTILINE)


def status_of(curl_line: str) -> int:
    """Send the request of a curl command, and return its status."""
    program, *words = shlex.split(curl_line)
    method, headers, urls = "GET", {}, []
    while words:
        word = words.pop(0)
        if word == "-X":
            method = words.pop(0)
        elif word == "-H":
            name, _, value = words.pop(0).partition(": ")
            headers[name] = value
        elif word != "-i":
            urls.append(word)
    assert (program, len(urls)) == ("curl", 1)
    return requests.request(method, urls[0], headers=headers, timeout=10).status_code


def same_ports_and_tokens(text: str) -> str:
    return re.sub(r"eyJ[\w.-]+", "eyJ…", re.sub(r"127\.0\.0\.1:\d+", "127.0.0.1", text))


# -- the tables ----------------------------------------------------------------------------------


def test_settings_table_names_known_settings_once() -> None:
    section = README.partition("\n## Settings\n")[2].partition("\n## ")[0]
    keys = re.findall(r"^\| `([A-Z_]+)` \|", section, re.MULTILINE)
    assert len(keys) == section.count("\n|") - 2  # every row except the head and the line below it
    assert len(keys) == len(set(keys))
    assert set(keys) <= {each.key for each in SETTINGS}


def test_exported_settings_are_in_the_table() -> None:
    section = README.partition("\n## Settings\n")[2].partition("\n## ")[0]
    exported = re.findall(rf"^export FLASK_{PREFIX}([A-Z_]+)=", README, re.MULTILINE)
    assert exported
    assert {key for key in exported if f"| `{key}` |" not in section} == set()


def test_named_reasons_exist() -> None:
    sentence = " ".join(README.split()).partition("with a stable `reason`, such as ")[2].partition(".")[0]
    named = re.findall(r"`([a-z_]+)`", sentence)
    assert named
    assert set(named) <= set(REASONS)


def test_readme_has_at_most_1300_words() -> None:
    assert len(README.split()) <= 1300  # as wc -w counts, code and tables included


def test_relative_links_point_to_files() -> None:
    links = re.findall(r"\]\((?!https?:)([^)#]+)[^)]*\)", README)
    assert links
    assert [link for link in links if not (ROOT / link).is_file()] == []


def test_picture_has_a_text_alternative() -> None:
    ((alternative, path),) = re.findall(r"!\[([^\]]*)\]\(([^)]+)\)", README)
    picture = ElementTree.parse(ROOT / path).getroot()
    assert alternative
    assert {each.tag.rpartition("}")[2] for each in picture} >= {"title", "desc"}


def test_ci_can_find_the_test_command() -> None:
    assert ".venv/bin/python -m pytest -n auto" in block_after("ci: tests")


@pytest.mark.skipif(not (ROOT / ".ci" / "run").exists(), reason="the sdist has no .ci/run")
def test_ci_runs_every_declared_python() -> None:
    project = (ROOT / "pyproject.toml").read_text("utf-8")
    script = (ROOT / ".ci" / "run").read_text("utf-8")
    (run,) = re.findall(r"^readonly PYTHONS=\((.*)\)$", script, re.MULTILINE)
    assert run.split() == re.findall(r'"Programming Language :: Python :: (3\.\d+)"', project)
