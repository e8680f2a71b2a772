"""A diagram as SVG. Sizes come from the text, in a font of equal widths: nothing overlaps, and nothing is cut."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape

from archdsl.drawing.diagram import Box, Branches, Diagram, Kind, Line, Panel, Part, Repeated, Series

CHAR, FONT = 6.7, 11
"""Width of a character, and the size of the font."""
HIGH, PAD, GAP = 20.0, 8.0, 12.0
"""Height of a box, space inside it, space between boxes."""
JOIN = 18.0
"""Height of the circle or box of a join."""
INDENT, BETWEEN = 16.0, 6.0
"""Of a row of the overview: what a level adds on the left, and the space to the next row."""
MARGIN = 24.0
WIDEST = 1500.0
"""Panels go to a new row beyond this width."""

COLOURS = {
    "conv": ("#cfe2ff", "#1d3f72"),
    "norm": ("#e8e3d3", "#4a4433"),
    "act": ("#fde2c8", "#6b431a"),
    "pool": ("#d8eed8", "#23502a"),
    "block": ("#e6dbf5", "#46306b"),
    "other": ("#eeeeee", "#3a3a3a"),
    "head": ("#f8d7da", "#6b2229"),
}
"""Fill of the boxes in light and in dark."""

DEVICES = (
    ("#9fc5ff", "#2457a6"),
    ("#ffb877", "#a35a12"),
    ("#a5dba5", "#2f7a3a"),
    ("#eda7cf", "#96326e"),
    ("#c9b5f2", "#5b3fa0"),
    ("#f2df8a", "#85700f"),
    ("#93dcd9", "#1d7673"),
    ("#e8aaa0", "#97382b"),
)
"""Of the devices, which are also named; further ones begin again. What is on no device of its own is grey then."""

_STYLE = """
text { font: 11px ui-monospace, SFMono-Regular, Menlo, Consolas, 'DejaVu Sans Mono', monospace; fill: #1a1a1a; }
text.title { font-size: 14px; font-weight: bold; }
text.note { fill: #666666; }
rect, circle { stroke: #777777; stroke-width: 1; }
rect.page { stroke: none; fill: #ffffff; }
rect.frame { fill: none; stroke-dasharray: 4 3; }
circle, rect.join { fill: #ffffff; }
path { stroke: #777777; stroke-width: 1; fill: none; }
"""

_DARK = """
text { fill: #e8e8e8; }
text.note { fill: #a0a0a0; }
rect.page { fill: #161616; }
circle, rect.join { fill: #161616; }
"""


@dataclass(frozen=True, slots=True)
class _Size:
    width: float
    height: float


def svg(diagram: Diagram) -> str:
    """The text of the picture."""
    page = _Page(placed=bool(diagram.devices))
    overview = _overview_size(diagram.overview)
    page.text(MARGIN, MARGIN + 10, diagram.title, "title")
    page.text(MARGIN, MARGIN + 28, diagram.subtitle, "note")
    top = MARGIN + 48
    page.overview(diagram.overview, diagram.chained, MARGIN, top)
    left = MARGIN + overview.width + 2 * MARGIN
    right, bottom = page.panels(diagram.panels, left, top)
    bottom = max(bottom, top + overview.height)
    for i, name in enumerate(diagram.devices):
        page.box(Box(name, "other", i), MARGIN + 55 + 110 * i, bottom + MARGIN / 2)
    if diagram.devices:
        bottom += MARGIN / 2 + HIGH
    title = max(len(diagram.title) * CHAR * 14 / FONT, len(diagram.subtitle) * CHAR) + MARGIN
    width = max(right, title, MARGIN + overview.width) + MARGIN
    return page.document(width, bottom + MARGIN, diagram.title)


class _Page:
    def __init__(self, placed: bool) -> None:
        self.out: list[str] = []
        self.placed = placed

    def document(self, width: float, height: float, title: str) -> str:
        rules = [f".{kind} {{ fill: {light}; }}" for kind, (light, _) in COLOURS.items()]
        dark = [f".{kind} {{ fill: {shade}; }}" for kind, (_, shade) in COLOURS.items()]
        rules += [f".device{i} {{ fill: {light}; }}" for i, (light, _) in enumerate(DEVICES)]
        dark += [f".device{i} {{ fill: {shade}; }}" for i, (_, shade) in enumerate(DEVICES)]
        style = "\n".join([_STYLE.strip(), *rules])
        night = "\n".join([_DARK.strip(), *dark])
        size = f'width="{width:.0f}" height="{height:.0f}" viewBox="0 0 {width:.0f} {height:.0f}"'
        return "\n".join(
            [
                f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img">',
                f"<title>{escape(title)}</title>",
                f"<style>\n{style}\n@media (prefers-color-scheme: dark) {{\n{night}\n}}\n</style>",
                f'<rect class="page" width="{width:.0f}" height="{height:.0f}"/>',
                *self.out,
                "</svg>\n",
            ]
        )

    # ---- pieces

    def text(self, x: float, y: float, text: str, style: str = "", anchor: str = "") -> None:
        if not text:
            return
        extra = f' class="{style}"' if style else ""
        extra += f' text-anchor="{anchor}"' if anchor else ""
        self.out.append(f'<text x="{x:.1f}" y="{y:.1f}"{extra} xml:space="preserve">{escape(text)}</text>')

    def line(self, *points: tuple[float, float]) -> None:
        moves = " L ".join(f"{x:.1f} {y:.1f}" for x, y in points)
        self.out.append(f'<path d="M {moves}"/>')

    def rect(self, x: float, y: float, width: float, height: float, style: str) -> None:
        place = f'x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}"'
        self.out.append(f'<rect class="{style}" {place} rx="4"/>')

    def style(self, kind: Kind) -> str:
        return "other" if self.placed else kind

    def box(self, box: Box, centre: float, y: float) -> None:
        width = _size(box).width
        style = self.style(box.kind) if box.device is None else f"device{box.device % len(DEVICES)}"
        self.rect(centre - width / 2, y, width, HIGH, style)
        self.text(centre, y + 14, box.text, anchor="middle")

    # ---- the overview

    def overview(self, lines: tuple[Line, ...], chained: bool, x: float, y: float) -> None:
        if not lines:
            return
        shapes = x + max(_line_width(line) for line in lines) + GAP
        params = shapes + max(len(line.shape) for line in lines) * CHAR + GAP
        end = params + max(len(line.params) for line in lines) * CHAR
        last = y  # where the last row of level 1 ends
        for i, line in enumerate(lines):
            left = x + INDENT * (line.level - 1)
            before = lines[i - 1] if i else None
            if chained and before and line.level == 1:
                self.line((x + INDENT / 2, last), (x + INDENT / 2, y))
            elif chained and before and line.level == before.level:
                self.line((left + INDENT / 2, y - BETWEEN), (left + INDENT / 2, y))
            self.rect(left, y, len(line.text) * CHAR + 2 * PAD, HIGH, self.style(line.kind))
            self.text(left + PAD, y + 14, line.text)
            self.text(shapes, y + 14, line.shape, "note")
            self.text(end, y + 14, line.params, "note", "end")
            last = y + HIGH if line.level == 1 else last
            y += HIGH + BETWEEN

    # ---- panels

    def panels(self, panels: tuple[Panel, ...], left: float, top: float) -> tuple[float, float]:
        """Draw the panels in rows; the right and the lower end of all."""
        x, y, row, right = left, top, 0.0, left
        for panel in panels:
            inside = _size(panel.part)
            width = max(inside.width, len(panel.title) * CHAR * 14 / FONT, len(panel.subtitle) * CHAR) + 2 * PAD
            height = inside.height + 44 + 2 * GAP
            if x > left and x + width > WIDEST:
                x, y, row = left, y + row + MARGIN, 0.0
            self.text(x, y + 10, panel.title, "title")
            self.text(x, y + 27, panel.subtitle, "note")
            centre = x + width / 2
            self.line((centre, y + 36), (centre, y + 36 + GAP))
            self.part(panel.part, centre, y + 36 + GAP)
            end = y + 36 + GAP + inside.height
            self.line((centre, end), (centre, end + GAP))
            x, row = x + width + MARGIN, max(row, height)
            right = max(right, x - MARGIN)
        return right, y + row

    def part(self, part: Part, centre: float, y: float) -> None:
        match part:
            case Box():
                self.box(part, centre, y)
            case Series(parts=()):
                pass
            case Series(parts=parts):
                for i, inner in enumerate(parts):
                    self.part(inner, centre, y)
                    y += _size(inner).height
                    if i + 1 < len(parts):
                        self.line((centre, y), (centre, y + GAP))
                        y += GAP
            case Repeated(part=inner, count=count):
                size = _size(inner)
                whole = _size(part)
                self.rect(centre - size.width / 2 - PAD, y, size.width + 2 * PAD, whole.height, "frame")
                self.line((centre, y), (centre, y + PAD))
                self.part(inner, centre, y + PAD)
                self.line((centre, y + PAD + size.height), (centre, y + whole.height))
                self.text(centre + size.width / 2 + PAD + 4, y + whole.height / 2 + 4, f"x{count:,}")
            case Branches():
                self.branches(part, centre, y)

    def branches(self, part: Branches, centre: float, y: float) -> None:
        whole = _size(part)
        sizes = [_size(p) for p in part.parts]
        tall = max(s.height for s in sizes)
        x = centre - whole.width / 2 + (whole.width - sum(s.width for s in sizes) - GAP * (len(sizes) - 1)) / 2
        start, end = y + GAP, y + GAP + tall
        joined = end + GAP
        for inner, size in zip(part.parts, sizes, strict=True):
            middle = x + size.width / 2
            self.line((centre, y), (centre, y + GAP / 2), (middle, y + GAP / 2), (middle, start))
            self.part(inner, middle, start)
            self.line((middle, start + size.height), (middle, end + GAP / 2), (centre, end + GAP / 2), (centre, joined))
            x += size.width + GAP
        if not part.symbol:
            return
        if len(part.symbol) == 1:
            self.out.append(f'<circle cx="{centre:.1f}" cy="{joined + JOIN / 2:.1f}" r="{JOIN / 2:.1f}"/>')
        else:
            width = len(part.symbol) * CHAR + PAD
            self.rect(centre - width / 2, joined, width, JOIN, "join")
        self.text(centre, joined + 13, part.symbol, anchor="middle")


# ---- sizes


def _size(part: Part) -> _Size:
    match part:
        case Box():
            return _Size(len(part.text) * CHAR + 2 * PAD, HIGH)
        case Series(parts=()):
            return _Size(GAP, 0)
        case Series(parts=parts):
            sizes = [_size(p) for p in parts]
            return _Size(max(s.width for s in sizes), sum(s.height for s in sizes) + GAP * (len(sizes) - 1))
        case Repeated(part=inner, count=count):
            size = _size(inner)
            # The number stands on the right; the same space is left on the left, so that the line stays in the middle.
            label = (len(f"x{count:,}") * CHAR + 8) * 2
            return _Size(size.width + 2 * PAD + label, size.height + 2 * PAD)
        case Branches():
            sizes = [_size(p) for p in part.parts]
            symbol = len(part.symbol) * CHAR + PAD
            width = max(sum(s.width for s in sizes) + GAP * (len(sizes) - 1), symbol)
            return _Size(width, max(s.height for s in sizes) + 2 * GAP + (JOIN if part.symbol else 0))


def _line_width(line: Line) -> float:
    return INDENT * (line.level - 1) + len(line.text) * CHAR + 2 * PAD


def _overview_size(lines: tuple[Line, ...]) -> _Size:
    if not lines:
        return _Size(0, 0)
    columns = max(len(line.shape) for line in lines) + max(len(line.params) for line in lines)
    width = max(_line_width(line) for line in lines) + columns * CHAR + 2 * GAP
    return _Size(width, len(lines) * (HIGH + BETWEEN))
