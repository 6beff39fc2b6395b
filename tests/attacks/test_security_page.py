"""docs/security.md says by which test each thing is held: those tests must exist."""

from __future__ import annotations

import ast
import pathlib
import re

import pytest

ROOT = pathlib.Path(__file__).parents[2]
NAMED = sorted(
    set(re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", (ROOT / "docs/security.md").read_text("utf-8")))
)


@pytest.mark.parametrize(("path", "name"), NAMED, ids=[f"{path}::{name}" for path, name in NAMED])
def test_what_the_page_names_exists(path: str, name: str) -> None:
    names = {
        node.name
        for node in ast.parse((ROOT / path).read_text("utf-8")).body
        if isinstance(node, (ast.FunctionDef, ast.ClassDef))
    }
    assert name in names


def test_each_file_of_attacks_is_named() -> None:
    files = {path.relative_to(ROOT).as_posix() for path in pathlib.Path(__file__).parent.glob("test_*.py")}
    assert files - {path for path, _ in NAMED} == {"tests/attacks/test_security_page.py"}
