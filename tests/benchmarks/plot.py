"""Draw the ratios: a line for each figure, on a logarithmic axis, with all contenders."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from html import escape

from tests.benchmarks.results import BARE, LIMIT, OURS, Figure, RowResult, Spread

_WIDTH = 980
_LEFT = 430
_RIGHT = 50
_TOP = 74
_STEP = 46
_NEAR = 84

_STYLE = """
text { font: 13px system-ui, sans-serif; fill: #1f2328; }
.title { font-size: 17px; font-weight: 600; }
.row { font-weight: 600; }
.small { font-size: 11px; fill: #59636e; }
.grid { stroke: #d1d9e0; }
.limit { stroke: #59636e; stroke-width: 2; }
.spread { stroke-width: 3; stroke-linecap: round; opacity: .45; }
.ours { fill: #0969da; stroke: #0969da; }
.peer { fill: #bc4c00; stroke: #bc4c00; }
.target { fill: none; stroke: #1a7f37; stroke-width: 2; }
@media (prefers-color-scheme: dark) {
  text { fill: #e6edf3; } .small { fill: #9198a1; } .grid { stroke: #3d444d; } .limit { stroke: #9198a1; }
  .ours { fill: #4493f8; stroke: #4493f8; } .peer { fill: #f0883e; stroke: #f0883e; }
  .target { stroke: #3fb950; }
}
"""


def as_svg(results: Iterable[RowResult]) -> str:
    """Return a self-contained SVG, readable on light and dark pages."""
    drawn = [
        (result, figure)
        for result in results
        for figure in result.figures
        if figure.unit == "x" and figure.target is not None and len(figure.values) > 1
    ]
    height = _TOP + _STEP * len(drawn) + 40
    scale = _Scale(spread.median for _, figure in drawn for spread in figure.values.values())
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" role="img" '
        'aria-label="Time of each kind of work as a multiple of its limit">',
        f"<style>{_STYLE}</style>",
        '<text class="title" x="16" y="28">Time as a multiple of the reference, logarithmic</text>',
        *_legend(),
        *_grid(scale, height - 40),
    ]
    for number, (result, figure) in enumerate(drawn):
        parts += _line(scale, result, figure, _TOP + _STEP * number + 24)
    return "\n".join([*parts, "</svg>", ""])


class _Scale:
    """Map a ratio to a place on the axis, whose ends are whole or half powers of ten."""

    def __init__(self, values: Iterable[float]) -> None:
        logs = [math.log10(max(value, 0.01)) for value in values] or [0.0]
        self.low = min(-0.5, math.floor(2 * min(logs)) / 2)
        self.high = max(1.0, math.ceil(2 * max(logs) + 0.4) / 2)

    def x(self, value: float) -> float:
        part = (math.log10(max(value, 0.01)) - self.low) / (self.high - self.low)
        return _LEFT + min(1.0, max(0.0, part)) * (_WIDTH - _LEFT - _RIGHT)


def _legend() -> list[str]:
    return [
        '<circle class="ours" cx="24" cy="48" r="5"/><text x="34" y="52">flask-m2m-cognito</text>',
        '<circle class="peer" cx="184" cy="48" r="4"/><text x="194" y="52">peers</text>',
        '<path class="target" d="M262 43l5 5-5 5-5-5z"/><text x="273" y="52">target</text>',
        '<path class="limit" d="M352 41v14"/><text x="360" y="52">the limit, or another reference</text>',
    ]


def _grid(scale: _Scale, bottom: float) -> list[str]:
    parts = []
    for power in range(math.ceil(scale.low), math.floor(scale.high) + 1):
        x = scale.x(10.0**power)
        parts.append(f'<path class="grid" d="M{x:.1f} {_TOP}V{bottom}"/>')
        place = f'x="{x:.1f}" y="{bottom + 18}" text-anchor="middle"'
        parts.append(f'<text class="small" {place}>{_times(10.0**power)}</text>')
    return parts


def _line(scale: _Scale, result: RowResult, figure: Figure, y: float) -> list[str]:
    reference = figure.values[LIMIT].median if LIMIT in figure.values else 1.0
    parts = [
        f'<text class="row" x="16" y="{y - 3}">{escape(_cut(result.title))}</text>',
        f'<text class="small" x="16" y="{y + 12}">{escape(figure.what)}</text>',
        f'<path class="limit" d="M{scale.x(reference):.1f} {y - 9}v18"/>',
    ]
    if figure.target is not None:
        parts.append(f'<path class="target" d="M{scale.x(figure.target):.1f} {y - 6}l6 6-6 6-6-6z"/>')
    peers = {name: spread for name, spread in figure.values.items() if name not in (OURS, LIMIT, BARE)}
    for name, spread in peers.items():
        parts += _dot(scale, spread, y, "peer", 4, name)
    parts += _labels({name: scale.x(spread.median) for name, spread in peers.items()}, y - 8)
    if figure.ours is not None:
        parts += _dot(scale, figure.ours, y, "ours", 5, "flask-m2m-cognito")
    return parts


def _dot(scale: _Scale, spread: Spread, y: float, kind: str, radius: int, name: str) -> list[str]:
    x, title = scale.x(spread.median), f"{name}: {spread.median:,.2f}"
    return [
        f'<path class="spread {kind}" d="M{scale.x(spread.low):.1f} {y}H{scale.x(spread.high):.1f}"/>',
        f'<circle class="{kind}" cx="{x:.1f}" cy="{y}" r="{radius}"><title>{escape(title)}</title></circle>',
    ]


def _labels(places: Mapping[str, float], y: float) -> list[str]:
    """Return the names above their dots. Names whose dots are close share one label."""
    groups: list[list[str]] = []
    for name in sorted(places, key=places.__getitem__):
        if groups and places[name] - places[groups[-1][-1]] < _NEAR:
            groups[-1].append(name)
        else:
            groups.append([name])
    return [
        f'<text class="small" x="{sum(places[name] for name in group) / len(group):.1f}" y="{y}" '
        f'text-anchor="middle">{escape(", ".join(group))}</text>'
        for group in groups
    ]


def _times(ratio: float) -> str:
    return f"{ratio:,g}\N{MULTIPLICATION SIGN}"


def _cut(text: str) -> str:
    return text if len(text) <= 60 else text[:59] + "…"
