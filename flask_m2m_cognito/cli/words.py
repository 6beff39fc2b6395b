"""Format durations, clock differences, names and unverified values for output."""

from __future__ import annotations

import json
from collections.abc import Iterable

LONGEST = 200
"""The most characters that are shown of an unverified value."""

CLOCK_AGREES = 2.0
"""Seconds within which two clocks agree: ``Date`` has whole seconds, and an answer takes time to arrive."""

_UNITS = ((86400, "d"), (3600, "h"), (60, "min"), (1, "s"))


def duration(seconds: float) -> str:
    """Return a duration in at most two units.

    >>> [duration(seconds) for seconds in (0.4, 4, 90, 3 * 3600 + 5, 300, 200_000)]
    ['less than 1 s', '4 s', '1 min 30 s', '3 h', '5 min', '2 d 7 h']
    """
    left, parts = round(abs(seconds)), list[str]()
    for size, unit in _UNITS:
        count, left = divmod(left, size)
        if count or parts:
            parts.append(f"{count} {unit}" if count else "")
    return " ".join(parts[:2]).strip() or "less than 1 s"


def clock_words(offset: float | None) -> str:
    """Return how this machine's clock differs from Cognito's, which is ahead by ``offset`` seconds.

    >>> clock_words(4.2)
    "your clock is 4 s behind Cognito's"
    >>> clock_words(-300), clock_words(0.5)
    ("your clock is 5 min ahead of Cognito's", "your clock agrees with Cognito's")
    """
    if offset is None:
        return "Cognito's clock is unknown"
    if abs(offset) < CLOCK_AGREES:
        return "your clock agrees with Cognito's"
    side = "behind" if offset > 0 else "ahead of"
    return f"your clock is {duration(offset)} {side} Cognito's"


def quoted(value: object) -> str:
    """Quote an unverified value on one line, without terminal control characters.

    >>> quoted("a" + chr(27) + "[2J")
    '"a\\\\u001b[2J"'
    """
    try:
        text = json.dumps(value, default=str)
    except (ValueError, RecursionError):
        return "a value that is too large to show"
    # JSON does not escape DEL.
    text = text.replace("\x7f", "\\u007f")
    return text if len(text) <= LONGEST else text[: LONGEST - 1] + "…"


def listed(values: Iterable[str], last: str = "and") -> str:
    """Sort and join names for a sentence.

    >>> listed(["b", "a", "c"]), listed([]), listed(["a", "b"], "or")
    ('a, b and c', 'none', 'a or b')
    """
    names = sorted(values)
    if len(names) < 2:
        return names[0] if names else "none"
    return f"{', '.join(names[:-1])} {last} {names[-1]}"


def columns(rows: Iterable[Iterable[str]]) -> list[str]:
    """Return rows as lines, each column as wide as its widest cell.

    >>> columns([("a", "b"), ("ccc", "d")])
    ['a    b', 'ccc  d']
    """
    cells = [list(row) for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in cells
    ]
