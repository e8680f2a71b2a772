"""Curves as SVG: panels side by side, each with its axes, in the colours of the reader's light or dark mode."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from math import ceil, floor, log10

WIDTH, HEIGHT = 380.0, 240.0
"""Of a panel, inside its axes."""
LEFT, TOP, BOTTOM, GAP = 60.0, 24.0, 58.0, 40.0
COLOURS = ("#3574c4", "#d9731a", "#3a9a4a", "#c2408f", "#7d5bc7", "#a08a00", "#1f9b97", "#b5483a")

_STYLE = """
text { font: 11px ui-monospace, SFMono-Regular, Menlo, Consolas, 'DejaVu Sans Mono', monospace; fill: #1a1a1a; }
rect.page { fill: #ffffff; }
path { fill: none; stroke-width: 1.5; }
path.axis { stroke: #999999; stroke-width: 1; }
@media (prefers-color-scheme: dark) {
text { fill: #e8e8e8; }
rect.page { fill: #161616; }
}
"""


@dataclass(frozen=True, slots=True)
class Panel:
    """Curves over 0, 1, 2...; each has a stretch that is shaded, if it has one."""

    x: str
    y: str
    curves: tuple[tuple[float, ...], ...]
    shaded: tuple[tuple[int, int], ...] = ()


def chart(panels: Sequence[Panel], names: Sequence[str]) -> str:
    """The text of the picture; `names` are those of the curves, which are the same in every panel."""
    width = len(panels) * (LEFT + WIDTH + GAP)
    height = TOP + HEIGHT + BOTTOM + 16 * len(names)
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:.0f}" height="{height:.0f}"'
        f' viewBox="0 0 {width:.0f} {height:.0f}" role="img">',
        f"<style>{_STYLE}</style>",
        f'<rect class="page" width="{width:.0f}" height="{height:.0f}"/>',
    ]
    for i, panel in enumerate(panels):
        out += _panel(panel, i * (LEFT + WIDTH + GAP) + LEFT)
    for i, name in enumerate(names):
        y = TOP + HEIGHT + BOTTOM + 16 * i
        out.append(f'<path d="M {LEFT:.0f} {y - 4:.0f} h 24" stroke="{_colour(i)}"/>')
        out.append(f'<text x="{LEFT + 32:.0f}" y="{y:.0f}">{escape(name)}</text>')
    return "\n".join([*out, "</svg>\n"])


def _colour(i: int) -> str:
    return COLOURS[i % len(COLOURS)]


def _panel(panel: Panel, left: float) -> list[str]:
    most_x = max(len(curve) for curve in panel.curves) - 1 or 1
    most_y = max(max(curve) for curve in panel.curves) * 1.05 or 1.0
    end = TOP + HEIGHT

    def at(x: float, y: float) -> tuple[float, float]:
        return left + WIDTH * x / most_x, end - HEIGHT * y / most_y

    out = []
    for i, (low, high) in enumerate(panel.shaded):
        (start, _), (stop, _) = at(low, 0), at(high, 0)
        place = f'x="{start:.1f}" y="{TOP:.0f}" width="{stop - start:.1f}" height="{HEIGHT:.0f}"'
        out.append(f'<rect {place} fill="{_colour(i)}" opacity="0.12"/>')
    out.append(f'<path class="axis" d="M {left:.0f} {TOP:.0f} V {end:.0f} h {WIDTH:.0f}"/>')
    for x in _ticks(most_x):
        across = at(x, 0)[0]
        out.append(f'<path class="axis" d="M {across:.1f} {end:.0f} v 4"/>')
        out.append(f'<text x="{across:.1f}" y="{end + 17:.0f}" text-anchor="middle">{x:g}</text>')
    for y in _ticks(most_y):
        down = at(0, y)[1]
        out.append(f'<path class="axis" d="M {left:.0f} {down:.1f} h -4"/>')
        out.append(f'<text x="{left - 8:.0f}" y="{down + 4:.1f}" text-anchor="end">{y:g}</text>')
    for i, curve in enumerate(panel.curves):
        points = " ".join("{:.1f},{:.1f}".format(*at(x, y)) for x, y in enumerate(curve))
        out.append(f'<path d="M {points}" stroke="{_colour(i)}"/>')
    out.append(f'<text x="{left + WIDTH / 2:.0f}" y="{end + 34:.0f}" text-anchor="middle">{escape(panel.x)}</text>')
    out.append(f'<text x="{left:.0f}" y="{TOP - 8:.0f}">{escape(panel.y)}</text>')
    return out


def _ticks(most: float) -> list[float]:
    """Round numbers from 0, about five of them.

    >>> _ticks(54), _ticks(0.11)
    ([0, 10, 20, 30, 40, 50], [0.0, 0.02, 0.04, 0.06, 0.08, 0.1])
    """
    rough = most / 5
    power = 10.0 ** floor(log10(rough))
    step = next(power * n for n in (1, 2, 5, 10) if power * n >= rough * 0.9)
    step = ceil(step) if most >= 5 else step
    return [round(i * step, 12) for i in range(floor(most / step) + 1)]
