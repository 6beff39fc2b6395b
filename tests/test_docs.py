"""The documentation is correct: its code runs, its other blocks can be parsed, and what it names exists.

The Python blocks of a page run in order, as one program. The settings of a local user pool are in the
environment. A comment that begins with ``% run:`` is code that the reader does not see: it prepares or checks
a block. Each block also runs alone, as when a reader copies it.
"""

from __future__ import annotations

import builtins
import doctest
import json
import re
import shlex
import shutil
import subprocess
import symtable
import sys
import textwrap
import threading
import types
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import pytest
import requests
import yaml
from flask import Flask, g, request

from example_app.stage import LoopbackServer
from flask_m2m_cognito import CognitoM2M
from flask_m2m_cognito.cli import m2m as m2m_group
from flask_m2m_cognito.exceptions import REASONS
from flask_m2m_cognito.settings.app_settings import PREFIX, SETTINGS
from flask_m2m_cognito.testing import LocalUserPool
from flask_m2m_cognito.web.problems import ANSWERS
from tests.support.headers import bearer
from tests.support.settling import settle

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = sorted(path for path in DOCS.rglob("*.md") if "_build" not in path.parts)

_FENCE = re.compile(
    r"^(?P<fence>```+)(?P<language>[^\n`]*)\n(?P<content>.*?)^(?P=fence)[ ]*$"
    r"|^% run:[ ]*\n(?P<hidden>(?:^%[^\n]*\n)+)",
    re.DOTALL | re.MULTILINE,
)


@dataclass(frozen=True)
class Block:
    """One fenced block, or one hidden one, of a page."""

    path: Path
    line: int
    language: str
    content: str

    def __str__(self) -> str:
        return f"{self.path.relative_to(ROOT)}:{self.line}"


def blocks_of(path: Path) -> list[Block]:
    text = path.read_text("utf-8")
    return [block for match in _FENCE.finditer(text) for block in _blocks_in(path, text, match)]


def _blocks_in(path: Path, text: str, match: re.Match[str]) -> Iterator[Block]:
    line = text.count("\n", 0, match.start()) + 2
    if match["hidden"] is not None:
        code = re.sub(r"^% ?", "", match["hidden"], flags=re.MULTILINE)
        yield Block(path, line, "hidden", code)
        return
    language, _, argument = match["language"].strip().partition(" ")
    if language == "{code-block}":
        yield Block(path, line, argument.strip(), match["content"])
    elif not language.startswith("{"):
        yield Block(path, line, language, match["content"])


BLOCKS = [block for path in PAGES for block in blocks_of(path)]
README_BLOCKS = blocks_of(ROOT / "README.md")  # test_readme runs its Python


def of_language(*languages: str) -> Any:
    chosen = [block for block in [*BLOCKS, *README_BLOCKS] if block.language in languages]
    return pytest.mark.parametrize("block", chosen, ids=str)


SET_UP = re.findall(
    r"^<!-- (?:ci: tests|example: start) -->\n```bash\n(.*)\n", (ROOT / "README.md").read_text("utf-8"), re.M
)


@pytest.mark.parametrize(
    "block", [each for each in [*BLOCKS, *README_BLOCKS] if each.language != "hidden"], ids=str
)
def test_code_lines_have_at_most_88_characters(block: Block) -> None:
    """Longer lines need a scroll bar. The README's setup commands are one line each."""
    lines = block.content.splitlines()
    assert [line for line in lines if len(line) > 88 and line not in SET_UP] == []


# -- Python --------------------------------------------------------------------------------------


@pytest.fixture
def pool() -> Iterator[LocalUserPool]:
    clients = {"orders": None, "caller": None, "billing": None, "reports": None}
    with LocalUserPool(clients=clients) as pool:
        yield pool


@pytest.fixture
def stock(pool: LocalUserPool) -> Iterator[str]:
    """The URL of a service that the pages' examples call."""
    app = Flask("stock", static_folder=None)
    app.config.update(pool.config(ALLOWED_CLIENT_IDS="*"))
    m2m = CognitoM2M(app)

    @app.route("/<path:path>", methods=["GET", "POST"])
    @m2m.require_scopes()
    def echo(path: str) -> dict[str, Any]:
        token = g.m2m_token
        return {
            "path": path,
            "method": request.method,
            "caller": token.client_id,
            "scopes": sorted(token.scopes),
        }

    server = LoopbackServer(app, 0)
    yield server.url
    server.end()


@pytest.fixture
def names(
    pool: LocalUserPool, stock: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Iterator[dict[str, Any]]:
    """The global names that a page's program starts with."""
    callers = ["orders", "caller", "billing", "reports"]
    for key, value in pool.config("orders", ALLOWED_CLIENT_IDS=callers).items():
        monkeypatch.setenv(f"FLASK_{key}", value if isinstance(value, str) else json.dumps(value))
    monkeypatch.setenv("FLASK_STOCK_URL", stock)
    monkeypatch.setenv("BILLING_SECRET", pool.client("billing").secret)
    monkeypatch.chdir(tmp_path)
    rq = types.ModuleType("rq")
    vars(rq).update(Worker=Worker)
    monkeypatch.setitem(sys.modules, "rq", rq)
    modules = dict(sys.modules)
    yield {"__name__": "page", "pool": pool, "bearer": bearer, "settle": settle}
    for name in sys.modules.keys() - modules.keys():
        if getattr(sys.modules[name], "__file__", None) is None:
            del sys.modules[name]  # a module that a page has created


PYTHONS_OF_MCP_CLIENTS = {"fastmcp": range(11, 14), "mcp": range(10, 14), "httpx2": range(10, 14)}


def skip_if_not_installable(source: str) -> None:
    """Skip a test of code that imports a client for MCP, if `pyproject.toml` installs none on this Python."""
    for package, minors in PYTHONS_OF_MCP_CLIENTS.items():
        if f"import {package}" in source and sys.version_info.minor not in minors:
            pytest.skip(f"{package} is not installed on Python 3.{sys.version_info.minor}")


class Worker:
    """Replaces RQ's worker. The pages' programs extend the method that forks."""

    def execute_job(self, job: object, queue: object) -> None:
        """Start a process for the job."""


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # from imports of some frameworks
@pytest.mark.usefixtures("current_event_loop")
@pytest.mark.parametrize(
    "path",
    [path for path in PAGES if any(block.language in ("python", "pycon") for block in blocks_of(path))],
    ids=lambda path: str(path.relative_to(DOCS)),
)
def test_page_runs(path: Path, names: dict[str, Any]) -> None:
    skip_if_not_installable(path.read_text("utf-8"))
    names["__file__"] = str(path)
    for block in blocks_of(path):
        if block.language in ("python", "hidden"):
            source = "\n" * (block.line - 1) + textwrap.dedent(block.content)
            exec(compile(source, str(path), "exec"), names)
        elif block.language == "pycon":
            run_session(block, names)


@pytest.fixture
def not_installed(names: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Replace packages that the tests do not install, and the application that the reader has."""
    for name, members in {
        "boto3": {"client": lambda service: None},
        "celery": {"shared_task": lambda task: task},
        "my_service": {"create_app": lambda config: Flask("mine"), "m2m": None},
    }.items():
        module = types.ModuleType(name)
        vars(module).update(members)
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setenv("ISSUER", names["pool"].issuer)
    monkeypatch.setenv("JWKS_URL", names["pool"].jwks_url)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # from imports of some frameworks
@pytest.mark.usefixtures("current_event_loop", "not_installed")
@pytest.mark.parametrize("block", [each for each in BLOCKS if each.language == "python"], ids=str)
def test_block_runs_when_copied_alone(block: Block) -> None:
    source = textwrap.dedent(block.content)
    skip_if_not_installable(source)
    exec(compile(source, str(block), "exec"), {"__name__": "copied"})
    assert undefined_in(symtable.symtable(source, str(block), "exec")) == set()


def undefined_in(table: symtable.SymbolTable, defined: frozenset[str] = frozenset(dir(builtins))) -> set[str]:
    """Return the global names that would raise a NameError when a function of the block is called."""
    if table.get_type() == "module":
        defined |= {
            each.get_name() for each in table.get_symbols() if each.is_assigned() or each.is_imported()
        }
    read = {each.get_name() for each in table.get_symbols() if each.is_global() and each.is_referenced()}
    return (read - defined).union(*(undefined_in(child, defined) for child in table.get_children()))


def run_session(block: Block, names: dict[str, Any]) -> None:
    session = doctest.DocTestParser().get_doctest(
        block.content, names, str(block), str(block.path), block.line
    )
    session.globs = names
    shown: list[str] = []
    failed = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(
        session, out=shown.append, clear_globs=False
    )
    assert not failed.failed, "".join(shown)


SERVERS = {
    "flask run": ["flask", "--app", "shop", "run", "--port", "0"],
    "gunicorn": ["gunicorn", "--bind", "127.0.0.1:0", "--workers", "2", "shop:create_app()"],
}


@pytest.mark.processes
@pytest.mark.parametrize("command", [pytest.param(each, id=name) for name, each in SERVERS.items()])
def test_documented_dictconfig_shows_rejections(
    command: list[str], names: dict[str, Any], tmp_path: Path
) -> None:
    (block,) = (
        each for each in blocks_of(DOCS / "guide/logging-and-signals.md") if "dictConfig" in each.content
    )
    (tmp_path / "shop.py").write_text(block.content, "utf-8")
    with subprocess.Popen(
        [sys.executable, "-m", *command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        watchdog = threading.Timer(30, process.kill)
        watchdog.start()
        try:
            assert process.stdout is not None
            lines = iter(process.stdout.readline, "")  # stops at the end of the output
            url = next(found[0] for line in lines if (found := re.search(r"http://127[.\d]+:\d+", line)))
            assert requests.get(f"{url}/items", timeout=10).status_code == 401
            assert any("INFO flask_m2m_cognito.auth: " in line and "missing_token" in line for line in lines)
        finally:
            watchdog.cancel()
            process.terminate()


# -- other languages -----------------------------------------------------------------------------


def test_every_language_is_checked() -> None:
    checked = {
        "python",
        "hidden",
        "pycon",
        "bash",
        "console",
        "terraform",
        "json",
        "toml",
        "http",
        "text",
        "yaml",
    }
    assert {f"{block}: {block.language!r}" for block in BLOCKS if block.language not in checked} == set()


@of_language("yaml")
def test_yaml_can_be_parsed(block: Block) -> None:
    assert yaml.safe_load(block.content)


@pytest.mark.skipif(shutil.which("bash") is None, reason="bash is not installed")
@of_language("bash", "console")
def test_shell_can_be_parsed(block: Block) -> None:
    script = block.content
    if block.language == "console":
        script = "".join(re.findall(r"^\$ (.*\n(?:(?<=\\\n).*\n)*)", script, re.MULTILINE))
    done = subprocess.run(["bash", "-n"], input=script, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@of_language("terraform")
def test_terraform_can_be_parsed(block: Block) -> None:
    hcl2 = pytest.importorskip("hcl2")
    assert hcl2.loads(block.content)


@of_language("json")
def test_json_can_be_parsed(block: Block) -> None:
    json.loads(block.content)


@pytest.mark.skipif(sys.version_info < (3, 11), reason="tomllib is new in Python 3.11")
@of_language("toml")
def test_toml_can_be_parsed(block: Block) -> None:
    import tomllib

    tomllib.loads(block.content)


@of_language("http")
def test_http_is_a_well_formed_response(block: Block) -> None:
    head = re.sub(r"\n +", " ", block.content.partition("\n\n")[0]).splitlines()  # a long header is wrapped
    assert re.fullmatch(r"HTTP/1\.1 \d{3} [A-Z][A-Za-z ]+", head[0])
    assert all(re.fullmatch(r"[A-Za-z-]+: .+", line) for line in head[1:])


COMMANDS = [
    (f"{block}: {command}", shlex.split(command))
    for block in [*BLOCKS, *README_BLOCKS]
    if block.language in ("console", "bash")
    for command in re.findall(r"\bm2m ([a-z][^<>$)|\n]*)", block.content)
]


@pytest.mark.parametrize("words", [words for _, words in COMMANDS], ids=[name for name, _ in COMMANDS])
def test_command_exists_with_its_options(words: list[str]) -> None:
    name, *arguments = words
    parent = click.Context(m2m_group)
    # Raises for an option that does not exist.
    m2m_group.commands[name].make_context(name, arguments, parent=parent, resilient_parsing=False)


# -- names ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", [*PAGES, ROOT / "README.md"], ids=lambda path: str(path.relative_to(ROOT)))
def test_named_settings_exist(path: Path) -> None:
    named = re.findall(rf"(?<![A-Z_]){PREFIX}([A-Z_]*[A-Z])(?![A-Z_…])", path.read_text("utf-8"))
    misspelt = {"USER_POOL"}  # on purpose, on the page on errors
    assert set(named) <= {setting.key for setting in SETTINGS} | misspelt


def test_settings_page_has_both_tables() -> None:
    page = (DOCS / "settings.md").read_text("utf-8")
    assert re.findall(r"^```\{settings-reference\} (\w+)$", page, re.MULTILINE) == ["application", "client"]


def test_answers_page_matches_the_code() -> None:
    page = (DOCS / "answers.md").read_text("utf-8")
    rows = re.findall(r"^\| `(\w+)` \| (\d{3}) \| (?:`(\w+)`|\W) \|", page, re.MULTILINE)
    documented = {reason: (int(status), error or None) for reason, status, error in rows}
    assert documented == {reason: (row.status, row.error) for reason, row in ANSWERS.items()}
    assert documented.keys() == set(REASONS)
