"""Format results as text for a terminal, and as a Markdown table for the documentation."""

from __future__ import annotations

from collections.abc import Iterable

from tests.benchmarks.results import BARE, LIMIT, OURS, Figure, RowResult, Spread

M2M_COGNITO = "m2m-cognito"

_NONE = "\N{EN DASH}"

_NOT_PEERS = frozenset({OURS, LIMIT, BARE})


def as_text(result: RowResult) -> str:
    """Return one row as text, with a line for each contender of each figure."""
    lines = [f"\n{result.name}: {result.title}  ({result.seconds:.1f} s)"]
    for figure in result.figures:
        target = "" if figure.target is None else f"  target: {_number(figure.target, figure.unit)}"
        lines.append(f"  {figure.what}{target}")
        lines += [
            f"      {name:<12} {_with_spread(spread, figure)}" for name, spread in figure.values.items()
        ]
    lines += [f"  ({note})" for note in result.notes]
    return "\n".join(lines)


def as_markdown(results: Iterable[RowResult]) -> str:
    """Return a table with a line for each figure: the median over all rounds, with the spread in brackets."""
    lines = [
        "| work | figure | target | here | limit | best peer | m2m-cognito |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for result in results:
        for number, figure in enumerate(result.figures):
            cells = [
                result.title if number == 0 else "",
                figure.what,
                _NONE if figure.target is None else _number(figure.target, figure.unit),
                _cell(figure, OURS),
                _cell(figure, LIMIT if LIMIT in figure.values else BARE),
                _best_peer(figure),
                _cell(figure, M2M_COGNITO),
            ]
            lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _cell(figure: Figure, name: str) -> str:
    return _with_spread(figure.values[name], figure) if name in figure.values else _NONE


def _best_peer(figure: Figure) -> str:
    peers = {name: spread.median for name, spread in figure.values.items() if name not in _NOT_PEERS}
    peers.pop(M2M_COGNITO, None)
    if not peers:
        return _NONE
    best = (max if figure.more_is_better else min)(peers, key=peers.__getitem__)
    return f"{_number(peers[best], figure.unit)} ({best})"


def _with_spread(spread: Spread, figure: Figure) -> str:
    median = _number(spread.median, figure.unit)
    if spread.rounds == 1 or spread.low == spread.high:
        return median
    return f"{median} [{_number(spread.low, '')}{_NONE}{_number(spread.high, '')}]"


def _number(value: float, unit: str) -> str:
    """Format a number with three digits, or all of a large one.

    >>> [_number(*each) for each in ((1.2345, "x"), (14823.6, "x"), (4.0, ""), (0.71, "ms"))]
    ['1.23', '14,824', '4', '0.71 ms']
    """
    if float(value).is_integer() or abs(value) >= 100:
        text = f"{value:,.0f}"
    else:
        text = f"{value:.2f}" if abs(value) < 10 else f"{value:.1f}"
    return text if unit in ("", "x") else f"{text} {unit}"
