"""The results, as plain values."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

OURS = "ours"
LIMIT = "limit"
BARE = "bare"


@dataclass(frozen=True)
class Spread:
    """The median over all rounds, and the 10th and 90th percentiles."""

    median: float
    low: float
    high: float
    rounds: int


def spread_of(values: Iterable[float]) -> Spread:
    """Return the spread of ``values``, of which there must be at least one.

    >>> spread_of([3.0, 1.0, 2.0])
    Spread(median=2.0, low=1.0, high=3.0, rounds=3)
    """
    ordered = sorted(values)
    last = len(ordered) - 1
    return Spread(
        statistics.median(ordered), ordered[round(0.1 * last)], ordered[round(0.9 * last)], len(ordered)
    )


def spreads(values: Mapping[str, Iterable[float]], times: float = 1.0) -> dict[str, Spread]:
    """Return the spread of each contender's values, multiplied by ``times``, such as 1e6 for microseconds."""
    return {name: spread_of(times * value for value in each) for name, each in values.items()}


@dataclass(frozen=True)
class Figure:
    """One number of a row, for each contender that has it.

    Attributes:
        what: what is measured, in words.
        unit: ``"x"`` for a ratio, ``""`` for a count, else a unit.
        values: the spread for each contender.
        target: the target for this library, if there is one.
        fails_above: ``--check`` fails above this: something is broken, and not only slow.
    """

    what: str
    unit: str
    values: Mapping[str, Spread]
    target: float | None = None
    fails_above: float | None = None
    more_is_better: bool = False

    @property
    def ours(self) -> Spread | None:
        return self.values.get(OURS)


@dataclass(frozen=True)
class RowResult:
    """A row: its figures, and notes about them."""

    name: str
    title: str
    figures: tuple[Figure, ...]
    notes: tuple[str, ...] = ()
    seconds: float = field(default=0.0, compare=False)


def ratio_figure(what: str, values: Mapping[str, Spread], target: float | None = None) -> Figure:
    """Return a ratio. ``--check`` allows three times its target, because the machine is shared."""
    return Figure(what, "x", values, target, None if target is None else 3 * target)


def count_figure(what: str, values: Mapping[str, Spread], target: int, at_most: int | None = None) -> Figure:
    """Return a count, which must be correct on any machine."""
    return Figure(what, "", values, target, target if at_most is None else at_most)


def check_errors(results: Iterable[RowResult]) -> list[str]:
    """Return a line for each figure on which ``--check`` fails."""
    return [
        f"{result.name}: {figure.what}: {figure.ours.median:g}{figure.unit}, above {figure.fails_above:g}"
        for result in results
        for figure in result.figures
        if figure.ours is not None
        and figure.fails_above is not None
        and figure.ours.median > figure.fails_above
    ]


def as_json(results: Iterable[RowResult], about: Mapping[str, Any]) -> dict[str, Any]:
    """Return all results for a JSON file."""
    return {"about": dict(about), "rows": [asdict(result) for result in results]}
