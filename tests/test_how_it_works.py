"""docs/how-it-works.md is correct: its map has every module, and its table of calls agrees with the code."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

import flask_m2m_cognito

ROOT = Path(__file__).parents[1]
PACKAGE = Path(flask_m2m_cognito.__file__).parent
PAGE = (ROOT / "docs" / "how-it-works.md").read_text("utf-8")

Row = tuple[int, int, int]


def modules() -> list[str]:
    """Return every module except empty ``__init__`` ones. Private modules of ``testing`` count as one."""
    paths = {path.relative_to(PACKAGE).as_posix() for path in PACKAGE.rglob("*.py")}
    rooms = {path for path in paths if path.endswith("/__init__.py")} - {"testing/__init__.py"}
    return sorted({re.sub(r"^testing/_(?!_).*", "testing/_*.py", path) for path in paths - rooms})


def rows(text: str) -> dict[str, Row]:
    """Return calls, files and threads of each path, from a table that ``tests.call_counts`` printed."""
    found = re.findall(r"^\| (.+?) \| (\d+) \| (\d+) \| (\d+) \|$", text, re.MULTILINE)
    return {name: (int(calls), int(files), int(threads)) for name, calls, files, threads in found}


def test_map_has_each_module_once() -> None:
    assert sorted(re.findall(r"^\| `([\w/*]+\.py)` \|", PAGE, re.MULTILINE)) == modules()


def test_page_names_only_modules_that_exist() -> None:
    assert set(re.findall(r"`([\w/*]+\.py)`", PAGE)) <= set(modules())


@pytest.mark.processes
def test_call_table_agrees_with_the_code() -> None:
    command = [sys.executable, "-m", "tests.call_counts"]
    counted = rows(subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout)
    documented = rows(PAGE)
    assert documented.keys() == counted.keys()
    assert {name: row[1:] for name, row in documented.items()} == {
        name: row[1:] for name, row in counted.items()
    }
    assert {name: row[0] for name, row in documented.items()} == {
        name: pytest.approx(row[0], rel=0.1) for name, row in counted.items()
    }
