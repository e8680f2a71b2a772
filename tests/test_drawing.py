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
    ("DSN()", None),
    ("CrescendoNet()", None),
    ("MultiResNet(14, k=8)", "split:8"),
    ("in -> { in + (in -> Conv(16, 3)) } -> repeat 3 { B(3, 3) -> Conv(16, 3) }", None),
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
    drawn = diagram(load("MultiResNet(110, k=4)", "split:2")[0].network).panels
    panels = {p.title: p.part for p in drawn}
    assert [p.subtitle.rpartition(", ")[2] for p in drawn if p.title == "BasicBlock"] == [
        "x51 of 54",
        "x2 of 54",
        "x1 of 54",
    ]
    block = panels["BasicBlock"]
    assert isinstance(block, Series) and [p.text for p in block.parts[:2] if isinstance(p, Box)] == ["BN", "ReLU"]
    join = block.parts[2]
    assert isinstance(join, Branches) and join.symbol == "+" and len(join.parts) == 5
    assert [p.device for p in join.parts if isinstance(p, Box)] == [0, 0, 1, 1]
    assert join.parts[4] == Series(())
    assert boxes_of(panels["Function"]) == ["3x3 conv, 64, /2", "BN", "ReLU", "3x3 conv, 64"]


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
    assert (
        "... 10 in all" in text and text.count(">Function<") == 3 * 3 + 2
    )  # three forms of a block, two of a function


def test_light_and_dark() -> None:
    text = archdsl.load("WRN(16, 2)")._repr_svg_()
    assert archdsl.load("WRN(16, 2)")._repr_html_() == f"<div>{text}</div>"
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
    assert run(*draw, "-o", tmp_path / "wrn.png").returncode == 2 and not (tmp_path / "wrn.png").exists()
    done = run(*draw, "-o", tmp_path / "nothing" / "wrn.svg")
    assert done.returncode == 1 and "cannot write" in done.stderr


def test_other_formats() -> None:
    """The blocks of a graph: every box is a node, and every node but the inputs comes after another."""
    one = diagram(load("MultiResNet(14, k=4)")[0].network)
    flowchart, graph = mermaid(one), dot(one)
    assert flowchart.startswith("flowchart TD\n") and flowchart.count('"Function"') == 3 * 4 + 2
    nodes = re.findall(r'^ +(n\d+)\["', flowchart, re.MULTILINE)
    edges = re.findall(r"^ +(n\d+) --> (n\d+)$", flowchart, re.MULTILINE)
    reached = {b for _, b in edges}
    assert len(nodes) == len(set(nodes)) and {n for pair in edges for n in pair} <= set(nodes)
    assert len(set(nodes) - reached) == 1 + len(one.panels)  # the beginnings
    assert graph.count("->") == len(edges) and graph.count("[label=") == len(nodes)
    assert flowchart.count("subgraph") == graph.count("subgraph") == 1 + 3 + len(one.panels)  # three stages


def test_what_is_joined_outside_of_blocks_is_drawn_so() -> None:
    """Three residual blocks without a definition, and two convolutions side by side."""
    chain = " -> ".join(["in", *["{ in + (in -> Conv(16, 3)) }"] * 3])
    one = diagram(load(chain)[0].network)
    assert not one.chained
    whole = one.panels[0].part
    assert isinstance(whole, Series) and all(isinstance(p, Branches) and p.symbol == "+" for p in whole.parts)
    assert len(whole.parts) == 3 and '["+"]' in mermaid(one)
    side = diagram(load("sum { Conv(16, 3), Conv(16, 1) }")[0].network).panels[0].part
    assert isinstance(side, Branches) and boxes_of(side) == ["3x3 conv, 16", "1x1 conv, 16"]
    turns = diagram(load("repeat 3 { B(3, 3) -> Conv(16, 3) }")[0].network)
    assert not turns.chained and isinstance(turns.panels[0].part, Repeated)


def test_auxiliary_outputs_stand_aside() -> None:
    one = diagram(load("GoogLeNet()")[0].network)
    heads = [line for line in one.overview if line.kind == "head"]
    assert one.chained and len(heads) == 2 and all(line.level == 2 for line in heads)
    flowchart = mermaid(one)
    (aux,) = re.findall(r'(n\d+)\["aux1', flowchart)
    (source,) = re.findall(rf"(n\d+) --> {aux}\n", flowchart)
    assert re.search(rf'{source}\["inception4a', flowchart) and f" {aux} -->" not in flowchart


def test_operations_without_modules_are_drawn() -> None:
    texts = [line.text for line in diagram(load("ResNet(50)")[0].network).overview]
    assert texts[:4] == ["conv1  7x7 conv, 64, /2", "bn1  BN", "ReLU", "3x3 max pool, /2"]
    assert [line.text for line in diagram(load("ReLU")[0].network).overview] == ["ReLU"]
    assert svg(diagram(load("Identity")[0].network)).startswith("<svg")


def test_what_is_too_large_is_named() -> None:
    panels = {p.title: p.part for p in diagram(load("FractalNet(columns=9)")[0].network).panels}
    block = panels["FractalBlock"]
    assert isinstance(block, Box) and block.text.startswith("too large to draw: ")


def test_devices_differ_and_are_named() -> None:
    text = svg(diagram(load("MultiResNet(14, k=8)", "split:8")[0].network))
    fills = re.findall(r"\.device\d \{ fill: (#\w+); \}", text)
    assert len(fills) == 16 == len(set(fills)) and "Function @7" in text and 'class="conv"' not in text
