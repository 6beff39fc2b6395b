"""docs/security-tests.md names a test for each promise of docs/security.md: those tests must exist."""

from __future__ import annotations

import ast
import functools
import pathlib
import re

import pytest

ROOT = pathlib.Path(__file__).parents[2]


def _named() -> list[tuple[str, str]]:
    """Return file and name of each test. A line of the page names the file of the tests below it."""
    named, path = [], ""
    for line in (ROOT / "docs/security-tests.md").read_text("utf-8").splitlines():
        path = match[1] if (match := re.fullmatch(r"`(tests/[\w/]+\.py)`", line)) else path
        named += [(path, name) for name in re.findall(r"`((?:test_|Test)\w+)`", line)]
    return named


@functools.cache
def _tests_in(path: str) -> set[str]:
    nodes = ast.walk(ast.parse((ROOT / path).read_text("utf-8")))
    return {node.name for node in nodes if isinstance(node, (ast.FunctionDef, ast.ClassDef))}


NAMED = _named()


@pytest.mark.parametrize(("path", "name"), NAMED, ids=[f"{path}::{name}" for path, name in NAMED])
def test_named_test_exists(path: str, name: str) -> None:
    assert name in _tests_in(path)


def test_every_attack_file_is_listed() -> None:
    files = {path.relative_to(ROOT).as_posix() for path in pathlib.Path(__file__).parent.glob("test_*.py")}
    assert files - {path for path, _ in NAMED} == {"tests/attacks/test_security_page.py"}
