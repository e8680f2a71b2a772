"""A network as boxes: what it holds from top to bottom, and below that the inside of each of its blocks once.

A graph of values becomes nested series and branches: from a join back to the last value that all of its operands come
from. Equal neighbours are one box with their number, so the size follows the number of distinct blocks.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from archdsl.base import limits
from archdsl.base.diagnostics import error
from archdsl.core.ir import (
    Apply,
    Block,
    Head,
    Layer,
    Loop,
    Network,
    Ref,
    Region,
    Select,
    applications,
    blocks_of,
)
from archdsl.core.layers import Row, rows
from archdsl.core.measure import measures
from archdsl.core.types import scalar_text
from archdsl.core.ways import parting

Kind = Literal["conv", "norm", "act", "pool", "block", "join", "other", "head"]

KINDS: dict[str, Kind] = {
    "Conv": "conv",
    "Linear": "conv",
    "BatchNorm": "norm",
    "LocalResponseNorm": "norm",
    "ReLU": "act",
    "ELU": "act",
    "Sigmoid": "act",
    "Tanh": "act",
    "Maxout": "act",
    "MaxPool": "pool",
    "AvgPool": "pool",
    "AdaptiveAvgPool": "pool",
    "GlobalAvgPool": "pool",
}

SYMBOLS = {"add": "+", "sum": "+", "multiply": "x", "concat": "concat", "mean": "mean", "DropPath": "mean (drop-path)"}

SHOWN = 4
"""Parallel functions that are drawn side by side; more are the first two, dots, and the last."""

MOST = 400
"""Boxes of one block; of a larger one the number is told."""

FORMS = 3
"""Forms of one definition that are drawn, such as a residual block with and without a projection."""


@dataclass(frozen=True, slots=True)
class Box:
    text: str
    kind: Kind
    device: int | None = None


@dataclass(frozen=True, slots=True)
class Series:
    """Parts one after the other; nothing is a line that goes through."""

    parts: tuple[Part, ...]


@dataclass(frozen=True, slots=True)
class Branches:
    """Parts side by side on one value, and how they are joined."""

    parts: tuple[Part, ...]
    symbol: str


@dataclass(frozen=True, slots=True)
class Repeated:
    """Equal parts one after the other."""

    part: Part
    count: int


Part: TypeAlias = "Box | Series | Branches | Repeated"


@dataclass(frozen=True, slots=True)
class Line:
    """A row of the overview. One of level 1 follows the last of level 1; an auxiliary output stands aside."""

    level: int
    text: str
    kind: Kind
    shape: str
    params: str


@dataclass(frozen=True, slots=True)
class Panel:
    """The inside of a block."""

    title: str
    subtitle: str
    part: Part


@dataclass(frozen=True, slots=True)
class Diagram:
    title: str
    subtitle: str
    overview: tuple[Line, ...]
    chained: bool
    """Whether the rows follow one another; if not, the first panel shows how they are joined."""
    panels: tuple[Panel, ...]
    devices: tuple[str, ...]


def diagram(network: Network) -> Diagram:
    """The boxes of a network; devices have colours if it is placed."""
    known = measures(network.root)
    cost = known[id(network.root)]
    placement = network.placement
    devices = placement.devices if placement and placement.kind != "fused" else 0
    overview = tuple(_line(row) for row in _shown_rows(network))
    whole = _Inside(devices).block(network.root)
    panels = [] if _is_chain(whole) else [_panel(network.name, "", whole)]
    for block, times in _examples(network):
        numbers = f"{block.input} to {block.output}, {known[id(block)].params:,} parameters{times}"
        panels.append(_panel(block.name, numbers, _Inside(devices).block(block)))
    title = network.spec if not placement else f"{network.spec}, {placement}"
    subtitle = f"{cost.params:,} parameters, {cost.macs:,} multiply-adds, depth {cost.depth:,}"
    word = "device" if placement and placement.kind == "split" else "process"
    names = tuple(f"{word} {i}" for i in range(devices))
    return Diagram(title, subtitle, overview, _is_chain(whole), tuple(panels), names)


def _panel(title: str, subtitle: str, part: Part) -> Panel:
    if _size(part) > MOST:
        part = Box(f"too large to draw: {_size(part):,} boxes", "other")
    return Panel(title, subtitle, part)


def _shown_rows(network: Network) -> list[Row]:
    """What the network holds, and what its stages hold; blocks that have a panel of their own stay closed."""
    found = []
    opened = False
    for row in rows(network, 2, operations=True):
        if row.level == 1:
            opened = isinstance(row.module, Block) and _is_stage(row.module)
        if (row.level == 1 or opened) and row.kind not in SYMBOLS:
            found.append(row)
    return found


def _is_stage(block: Block) -> bool:
    """Whether a block is a list of blocks one after the other, which are shown in its place."""
    return block.style == "sequence" or (not block.named and _is_chain(_Inside(0).block(block)))


def _is_chain(part: Part) -> bool:
    match part:
        case Box():
            return True
        case Repeated():
            return isinstance(part.part, Box)
        case Series():
            return all(_is_chain(p) for p in part.parts)
        case Branches():
            return False


def _line(row: Row) -> Line:
    kind: Kind = "block" if isinstance(row.module, Block) else KINDS.get(row.kind, "other")
    name = f"{row.name}  " if row.name else ""
    times = f" x{row.count:,}" if row.count > 1 else ""
    text = f"{name}{row.kind if isinstance(row.module, Block) else layer_text(row.module)}{times}"
    params = f"{row.params:,}" if row.params else ""
    return Line(row.level + row.head, text, "head" if row.head else kind, str(row.output), params)


def _examples(network: Network) -> list[tuple[Block, str]]:
    """The blocks that are drawn by themselves, of each definition the forms that differ, and how often each is used.

    Not drawn are lists without a name, which are shown where they are, and single layers.
    """
    blocks = list(blocks_of(network.root))
    uses = _uses(network.root, blocks)
    forms: dict[object, dict[object, list[Block]]] = {}
    top = (row.module for row in rows(network, 1))
    shown = {id(block) for block in top if isinstance(block, Block) and _is_stage(block)}
    for block in reversed(blocks):
        drawn = block.style == "module" or (block.style == "sequence" and block.named)
        drawn = drawn and block is not network.root and id(block) not in shown
        if drawn and uses[id(block)] and sum(1 for _ in applications(block.body)) > 1:
            form = _form(_Inside(0).block(block))
            forms.setdefault(block.origin, {}).setdefault(form, []).append(block)
    found = []
    for alike in forms.values():
        total = sum(uses[id(b)] for group in alike.values() for b in group)
        for group in list(alike.values())[:FORMS]:
            often = sum(uses[id(b)] for b in group)
            times = f", x{often:,} of {total:,}" if len(alike) > 1 else f", x{often:,}" if often > 1 else ""
            found.append((max(group, key=lambda b: uses[id(b)]), times))
    return found


def _uses(root: Block, blocks: Sequence[Block]) -> Counter[int]:
    """How often the network has each block, by id; `blocks` have those inside before those around them."""
    uses = Counter({id(root): 1})
    for block in reversed(blocks):
        for inner, times in _applied(block.body, uses[id(block)]):
            uses[id(inner)] += times
    return uses


def _applied(region: Region, times: int) -> Iterator[tuple[Block, int]]:
    """The blocks that a region applies, and how often."""
    for step in region.steps:
        match step:
            case Apply(module=Block() as block):
                yield block, times
            case Apply():
                pass
            case Loop():
                for run in step.runs:
                    yield from _applied(run.region, times * run.count)
            case _:
                yield from _applied(step.region, times)


def _form(part: Part) -> object:
    """What two instances of a block have in common if they differ in numbers alone."""
    match part:
        case Box():
            return re.sub(r"(, )?/?\d[\dx.]*", "", part.text)
        case Repeated():
            return (_form(part.part),)
        case Series() | Branches():
            return (getattr(part, "symbol", None), *(_form(p) for p in part.parts))


def layer_text(layer: Layer) -> str:
    """A layer as papers write it.

    >>> layer_text(Layer("Conv", (("width", 64), ("kernel", 3), ("stride", 2), ("groups", 1))))
    '3x3 conv, 64, /2'
    """
    args = dict(layer.args)
    match layer.kind:
        case "Conv":
            stride = f", /{scalar_text(args['stride'])}" if args["stride"] != 1 else ""
            groups = f", {args['groups']} groups" if args["groups"] != 1 else ""
            return f"{_size_text(args['kernel'])} conv, {args['width']}{stride}{groups}"
        case "Linear":
            return f"linear, {args['width']}"
        case "BatchNorm":
            return "BN"
        case "MaxPool" | "AvgPool":
            name = "max pool" if layer.kind == "MaxPool" else "average pool"
            return f"{_size_text(args['kernel'])} {name}, /{scalar_text(args['stride'])}".removesuffix(", /1")
        case "GlobalAvgPool":
            return "global average pool"
        case "AdaptiveAvgPool":
            return f"average pool to {_size_text(args['size'])}"
        case "Dropout":
            return f"dropout {scalar_text(args['p'])}"
        case "LocalResponseNorm":
            return "local response norm"
        case "Subsample":
            return f"subsample /{args['stride']}"
        case "PadChannels":
            return f"zeros to {args['width']}"
        case "affine":
            offset = f" + {scalar_text(args['offset'])}" if args["offset"] else ""
            return f"x {scalar_text(args['scale'])[:6]}{offset}"
        case _:
            return layer.kind


def _size_text(value: object) -> str:
    if isinstance(value, tuple):
        return "x".join(str(v) for v in value)
    return f"{value}x{value}"


# ---- the inside of a block


@dataclass(frozen=True, slots=True)
class _Node:
    part: Part | None
    """None where a value is another one."""
    inputs: tuple[int, ...]
    symbol: str = ""


class _Inside:
    def __init__(self, devices: int) -> None:
        self.devices = devices
        self.boxes = 0

    def block(self, block: Block) -> Part:
        return self._region(block.body)

    def _region(self, region: Region) -> Part:
        nodes: list[_Node] = [_Node(None, ())]
        output = self._add(region, 0, {Ref(0, 0): 0}, nodes)
        return _Series(nodes).part(output, 0)

    def _add(self, region: Region, level: int, values: dict[Ref, int], nodes: list[_Node]) -> int:
        """Add the values of a region; the number of its output."""
        values = dict(values)
        for i, step in enumerate(region.steps, 1):
            match step:
                case Apply(module=Layer(kind="Identity")):
                    values[Ref(level, i)] = values[step.inputs[0]]
                    continue
                case Apply(module=Layer(kind=kind)) if kind in SYMBOLS:
                    nodes.append(_Node(None, tuple(values[r] for r in step.inputs), SYMBOLS[kind]))
                case Apply():
                    nodes.append(_Node(self._box(step), (values[step.inputs[0]],)))
                case Select():
                    values[Ref(level, i)] = self._add(step.region, level + 1, values, nodes)
                    continue
                case Head():
                    continue  # the overview has it
                case Loop():
                    nodes.append(_Node(self._loop(step, level, values), (values[step.input],)))
            values[Ref(level, i)] = len(nodes) - 1
            self.boxes += 1
            if self.boxes > limits.PICTURE:
                raise error("too-large", None, problem=f"a picture of more than {limits.PICTURE:,} boxes")
        return values[region.output]

    def _box(self, step: Apply) -> Part:
        if isinstance(step.module, Layer):
            return Box(layer_text(step.module), KINDS.get(step.module.kind, "other"))
        if step.module.style == "parallel":
            loop = step.module.body.steps[0]
            assert isinstance(loop, Loop)
            return self._parallel(loop, 0, {Ref(0, 0): 0})
        name = step.module.name if step.module.named else (step.label.stem if step.label else step.module.name)
        if step.module.style == "sequence" and not step.module.named:
            return self._region(step.module.body)
        sizes = [str(v) for _, v in step.module.scalars if isinstance(v, int) and not isinstance(v, bool)]
        return Box(f"{name}({', '.join(sizes[:3])})" if sizes else name, "block")

    def _loop(self, loop: Loop, level: int, values: dict[Ref, int]) -> Part:
        if loop.kind != "sequence":
            return self._parallel(loop, level, values)
        parts = []
        for run in loop.runs:
            inner = self._iteration(run.region, level, values)
            parts.append(Repeated(inner, run.count) if run.count > 1 else inner)
        return parts[0] if len(parts) == 1 else Series(tuple(parts))

    def _iteration(self, region: Region, level: int, outer: dict[Ref, int]) -> Part:
        """An iteration by itself; what it reads from outside comes in with its input."""
        nodes: list[_Node] = [_Node(None, ())]
        output = self._add(region, level + 1, {**dict.fromkeys(outer, 0), Ref(level + 1, 0): 0}, nodes)
        return _Series(nodes).part(output, 0)

    def _parallel(self, loop: Loop, level: int, values: dict[Ref, int]) -> Part:
        """The functions side by side; of many, the first two and the last."""
        each: list[Part] = []
        total = loop.count
        for run in loop.runs:
            inner = self._iteration(run.region, level, values)
            some = sorted({0, min(1, run.count - 1), run.count - 1})
            shown: Sequence[int] = range(run.count) if total <= SHOWN else some
            for j in shown:
                each.append(self._on_device(inner, run.start + j, total))
                if total > SHOWN and j == 1 and run.count > 3:
                    each.append(Box(f"... {run.count} in all", "other"))
        return Branches(tuple(each), SYMBOLS[loop.kind])

    def _on_device(self, part: Part, index: int, total: int) -> Part:
        return _placed(part, index * self.devices // total) if self.devices else part


def _placed(part: Part, device: int) -> Part:
    """A function, on a device."""
    match part:
        case Box():
            return Box(f"{part.text} @{device}", part.kind, device)
        case Repeated():
            return Repeated(_placed(part.part, device), part.count)
        case Series():
            return Series(tuple(_placed(p, device) for p in part.parts))
        case Branches():
            return Branches(tuple(_placed(p, device) for p in part.parts), part.symbol)


class _Series:
    """Series and branches of a graph. A node that two branches share stands in both."""

    def __init__(self, nodes: Sequence[_Node]) -> None:
        self.nodes = nodes
        self.above: list[int] = []
        """For each node the last one that every way to its inputs passes."""
        for node in nodes:
            self.above.append(parting(self.above, node.inputs) if node.inputs else -1)

    def part(self, sink: int, source: int) -> Part:
        """What lies between two nodes."""
        parts: list[Part] = []
        while sink != source:
            node = self.nodes[sink]
            if node.part:
                parts.append(node.part)
            if len(node.inputs) == 1:
                sink = node.inputs[0]
                continue
            common = parting(self.above, node.inputs)
            parts.append(Branches(_flat(self._branches(node.inputs, common), node.symbol), node.symbol))
            sink = common
        parts.reverse()
        return parts[0] if len(parts) == 1 else Series(tuple(parts))

    def _branches(self, inputs: Sequence[int], source: int) -> tuple[Part, ...]:
        """The ways from one node to several; those that begin alike begin together."""
        groups: dict[int, list[int]] = {}
        for j in inputs:
            start = j
            while self.above[start] > source:
                start = self.above[start]
            groups.setdefault(start if start > source else -j - 1, []).append(j)
        out: list[Part] = []
        for members in groups.values():
            if len(members) == 1:
                out.append(self.part(members[0], source))
                continue
            common = parting(self.above, members)
            rest = Branches(self._branches(members, common), "")
            first = self.part(common, source)
            out.append(Series((*(first.parts if isinstance(first, Series) else (first,)), rest)))
        return tuple(out)


def _flat(parts: tuple[Part, ...], symbol: str) -> tuple[Part, ...]:
    """A sum of sums is one sum."""
    out: list[Part] = []
    for part in parts:
        out += part.parts if isinstance(part, Branches) and part.symbol == symbol == "+" else (part,)
    return tuple(out)


def _size(part: Part) -> int:
    match part:
        case Box():
            return 1
        case Repeated():
            return _size(part.part)
        case Series() | Branches():
            return 1 + sum(_size(p) for p in part.parts)
