"""Pictures: every layer is there, nothing overlaps, nothing leaves the page."""

from __future__ import annotations

import re
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from support import run, succeed

import archdsl
from archdsl.drawing.diagram import Box, Branches, Part, Repeated, Series, diagram
from archdsl.drawing.graph import dot, mermaid
from archdsl.drawing.svg import CHAR, svg
from archdsl.driver import load

SPECS = [
    ("ResNet(50)", None),
    ("WRN(28, 10, dropout=0.3)", None),
    ("MultiResNet(110, k=4)", "split:2"),
    ("MultiResNet(26, k=10)", None),
    ("DenseNet(121)", None),
    ("GoogLeNet()", None),
    ("FractalNet()", None),
    ("PolyNet()", None),
    ("AlexNet()", None),
    ("B(3,3)x[k=4]", None),
    ("Swapout(20, 2)", None),
    ("Highway(19)", None),
]
SVG = "{http://www.w3.org/2000/svg}"


def picture(spec: str, place: str | None) -> ET.Element:
    return ET.fromstring(svg(diagram(load(spec, place)[0].network)))


def rectangles(page: ET.Element) -> list[tuple[float, float, float, float]]:
    """Left, top, right and lower end of every box."""
    found = [r for r in page.iter(f"{SVG}rect") if r.get("class") not in ("page", "frame")]
    sizes = [tuple(float(r.get(key, "0")) for key in ("x", "y", "width", "height")) for r in found]
    return [(x, y, x + w, y + h) for x, y, w, h in sizes]


@pytest.mark.parametrize(("spec", "place"), SPECS)
def test_nothing_overlaps_or_is_cut(spec: str, place: str | None) -> None:
    page = picture(spec, place)
    width, height = float(page.get("width", "0")), float(page.get("height", "0"))
    boxes = sorted(rectangles(page))
    for i, (left, top, right, end) in enumerate(boxes):
        assert 0 <= left < right <= width and 0 <= top < end <= height
        for left_2, top_2, right_2, end_2 in boxes[i + 1 :]:
            apart = right <= left_2 + 0.1 or end <= top_2 + 0.1 or end_2 <= top + 0.1 or right_2 <= left + 0.1
            assert apart, f"{spec}: two boxes overlap at {left}, {top}"
    for text in page.iter(f"{SVG}text"):
        assert text.text
        size = 14 / 11 if text.get("class") == "title" else 1
        wide, x = len(text.text) * CHAR * size, float(text.get("x", "0"))
        start = x - {"middle": wide / 2, "end": wide}.get(text.get("text-anchor", ""), 0.0)
        assert start >= 0 and start + wide <= width + 1 and float(text.get("y", "0")) <= height


def boxes_of(part: Part) -> list[str]:
    match part:
        case Box():
            return [part.text]
        case Repeated():
            return boxes_of(part.part)
        case Series() | Branches():
            return [text for p in part.parts for text in boxes_of(p)]


def test_a_block_is_drawn_as_the_paper_does() -> None:
    """Pre-activation, the functions side by side, and the shortcut: one sum of five."""
    panels = {p.title: p.part for p in diagram(load("MultiResNet(110, k=4)", "split:2")[0].network).panels}
    block = panels["BasicBlock"]
    assert isinstance(block, Series) and [p.text for p in block.parts[:2] if isinstance(p, Box)] == ["BN", "ReLU"]
    join = block.parts[2]
    assert isinstance(join, Branches) and join.symbol == "+" and len(join.parts) == 5
    assert [p.device for p in join.parts if isinstance(p, Box)] == [0, 0, 1, 1]
    assert join.parts[4] == Series(())
    assert boxes_of(panels["Function"]) == ["3x3 conv, 16", "BN", "ReLU", "3x3 conv, 16"]


def test_shared_parts_are_drawn_once() -> None:
    """FractalNet's columns share what they begin with: seven convolutions, not eight or more."""
    panels = {p.title: p.part for p in diagram(load("FractalNet()")[0].network).panels}
    assert sum(text.startswith("ConvUnit") for text in boxes_of(panels["FractalBlock"])) == 7


def test_repeats_are_collapsed() -> None:
    deep, shallow = (picture(s, None) for s in ("ResNet(1001, block=bottleneck)", "ResNet(29, block=bottleneck)"))
    assert deep.get("height") == shallow.get("height")
    assert "Bottleneck x110" in ET.tostring(deep, encoding="unicode")


def test_many_functions_are_abbreviated() -> None:
    text = ET.tostring(picture("MultiResNet(26, k=10)", None), encoding="unicode")
    assert "... 10 in all" in text and text.count(">Function<") < 10


def test_light_and_dark() -> None:
    text = archdsl.load("WRN(16, 2)")._repr_svg_()
    assert "@media (prefers-color-scheme: dark)" in text
    light, dark = text.split("@media")
    classes = set(re.findall(r'class="(\w+)"', text)) - {"frame", "title"}
    assert all(f".{name}" in light and f".{name}" in dark for name in classes)


def test_command(tmp_path: Path) -> None:
    draw = (sys.executable, "-m", "archdsl", "draw", "WRN(16, 2)")
    succeed(*draw, "-o", tmp_path / "wrn.svg")
    assert (tmp_path / "wrn.svg").read_text(encoding="utf-8") == archdsl.load("WRN(16, 2)")._repr_svg_()
    assert succeed(*draw) == (tmp_path / "wrn.svg").read_text(encoding="utf-8")
    assert run(*draw, "--format=png").returncode == 2
    done = run(*draw, "-o", tmp_path / "nothing" / "wrn.svg")
    assert done.returncode == 1 and "cannot write" in done.stderr


def test_other_formats() -> None:
    """The blocks of a graph: every box is a node, and every node but the inputs comes after another."""
    one = diagram(load("MultiResNet(14, k=4)")[0].network)
    flowchart, graph = mermaid(one), dot(one)
    assert flowchart.startswith("flowchart TD\n") and flowchart.count('"Function"') == 4 + 1
    nodes = re.findall(r'^ +(n\d+)\["', flowchart, re.MULTILINE)
    edges = re.findall(r"^ +(n\d+) --> (n\d+)$", flowchart, re.MULTILINE)
    reached = {b for _, b in edges}
    assert len(nodes) == len(set(nodes)) and {n for pair in edges for n in pair} <= set(nodes)
    assert len(set(nodes) - reached) == 1 + len(one.panels)  # the beginnings
    assert graph.count("->") == len(edges) and graph.count("[label=") == len(nodes)
