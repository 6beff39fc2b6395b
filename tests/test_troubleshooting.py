"""docs/troubleshooting.md has a row for every reason, every log event and every ConfigurationError.

The three lists are read from the package: reasons from their type, events and messages from the syntax trees
of its modules. A new one needs a row, and a row needs one that exists.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import flask_m2m_cognito
from flask_m2m_cognito.exceptions import REASONS

PACKAGE = Path(flask_m2m_cognito.__file__).parent
PAGE = (Path(__file__).parents[1] / "docs" / "troubleshooting.md").read_text("utf-8")
MODULES = {path.relative_to(PACKAGE).as_posix(): path for path in sorted(PACKAGE.rglob("*.py"))}

# In these modules every sentence is part of a message, which they return for others to raise. The table of
# the settings has descriptions instead.
ONLY_MESSAGES = {
    *(name for name in MODULES if name.startswith("settings/") and name != "settings/table.py"),
    "formats/urls.py",
    "web/misplaced.py",
}


def section(title: str) -> str:
    return PAGE.partition(f"\n## {title}\n")[2].partition("\n## ")[0]


def first_cells(text: str) -> list[list[str]]:
    """Return the code words in the first cell of each row of the tables in ``text``."""
    cells = re.findall(r"^\| ([^|\n]*`[^|\n]*) \|", text, re.MULTILINE)
    return [re.findall(r"`([^`]+)`", cell) for cell in cells]


# -- reasons and events --------------------------------------------------------------------------


def test_every_reason_has_one_row() -> None:
    assert sorted(reason for cell in first_cells(section("By reason")) for reason in cell) == sorted(REASONS)


def test_every_event_has_one_row() -> None:
    rows = [event for cell in first_cells(section("By event")) for event in cell]
    assert len(rows) == len(set(rows))
    events = {event for path in MODULES.values() for event in events_in(path)}
    assert [event for event in events if not any(re.fullmatch(event, row) for row in rows)] == []
    assert [row for row in rows if not any(re.fullmatch(event, row) for event in events)] == []


def events_in(path: Path) -> Iterator[str]:
    """Yield the values of ``"event"`` in dicts, as patterns. A value in an f-string matches any word."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Dict):
            for key, value in zip(node.keys, node.values, strict=True):
                if isinstance(key, ast.Constant) and key.value == "event":
                    yield re.escape(template(value) or "…").replace("…", "[a-z]+")


# -- messages of ConfigurationError --------------------------------------------------------------


def test_every_configuration_error_has_a_row() -> None:
    """Each message has all words of some phrase in a first cell, in any order.

    When you change a message, change the phrase of its row. Choose words that are specific to the message.
    """
    found = messages()
    assert len(found) > 100  # fewer would mean that the search misses some
    without = [f"{where}: {message}" for where, message in found if not any(has(message, p) for p in PHRASES)]
    assert without == []


def test_every_row_has_a_configuration_error() -> None:
    texts = [message for _, message in messages()]
    assert [phrase for phrase in PHRASES if not any(has(text, phrase) for text in texts)] == []


PHRASES = [phrase for cell in first_cells(section("By message: ConfigurationError")) for phrase in cell]


def has(message: str, phrase: str) -> bool:
    return words(phrase) <= words(message)


def words(text: str) -> set[str]:
    return {word for each in text.casefold().split() if (word := each.strip(".,:;/()[]'\"…"))}


def messages() -> list[tuple[str, str]]:
    """Return every sentence that a ConfigurationError may contain, with its module and line."""
    return [
        (f"{name}:{line}", message)
        for name, path in MODULES.items()
        for part in parts_with_messages(name, ast.parse(path.read_text("utf-8")))
        for line, message in sentences(part)
    ]


def parts_with_messages(name: str, tree: ast.Module) -> Iterator[ast.AST]:
    if name in ONLY_MESSAGES:
        yield tree
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "ConfigurationError":
            yield from node.args


def sentences(node: ast.AST) -> Iterator[tuple[int, str]]:
    """Yield texts of at least three words below ``node``, except docstrings."""
    text = template(node)
    if text is not None:
        if len(text.split()) > 2:
            yield node.lineno, " ".join(text.split())  # type: ignore[attr-defined]
        return
    for child in ast.iter_child_nodes(node):
        if not (isinstance(child, ast.Expr) and isinstance(child.value, ast.Constant)):
            yield from sentences(child)


def template(node: ast.AST) -> str | None:
    """Return a text, or an f-string with ``…`` for each value except the key of a setting."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        return "".join(template(part) or "…" for part in node.values)
    if isinstance(node, ast.FormattedValue):
        texts = [each.value for each in ast.walk(node.value) if isinstance(each, ast.Constant)]
        labels = [text for text in texts if isinstance(text, str) and re.fullmatch(r"[A-Z_]+", text)]
        return labels[0] if len(labels) == 1 else "…"
    return None


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ('raise_it("plain words of it")', ["plain words of it"]),
        ("raise_it(f\"{label('LEEWAY')} is {value}, not that\")", ["LEEWAY is …, not that"]),
        ('"""A docstring with words."""\nx = "two words"', []),
    ],
)
def test_sentences_are_found(source: str, expected: list[str]) -> None:
    assert [text for _, text in sentences(ast.parse(source))] == expected
