"""Where the functions of parallel sums run: each list of them becomes one module, which knows how to compute it.

A sum over a list of modules, y = F1(x) + ... + Fk(x), is rewritten as a block of the style "parallel" under the name
of the list, so that the names of all modules stay. Abdi and Nahavandi, arXiv:1609.05672, section IV.D, divide such
sums over two devices.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

from archdsl.core.ir import (
    Apply,
    Block,
    Head,
    Label,
    Layer,
    Loop,
    Network,
    Origin,
    Placement,
    Ref,
    Region,
    Run,
    Select,
    Step,
    applications,
    blocks_of,
    regions_of,
)

FUSIBLE = frozenset(
    {"Conv", "BatchNorm", "ReLU", "ELU", "Sigmoid", "Tanh", "Dropout", "MaxPool", "AvgPool", "Subsample", "Identity"}
)
"""Layers that work channel by channel, or as groups of channels, so that several functions can be one."""

_INSIDE = "it is a part of a function that is placed as a whole"

UNROLLED = 4
"""Most iterations of a loop inside a function that is fused."""


@dataclass(frozen=True, slots=True)
class Sum:
    """A parallel sum of a network: its block and loop, and why it cannot be placed, if it cannot."""

    block: Block
    loop: Loop
    problem: str | None


def place(network: Network) -> Network:
    """The network with every sum that its placement applies to as one module. The rest is left as it is."""
    placement = network.placement
    if placement is None:
        return network
    done: dict[int, Block] = {}
    for block in blocks_of(network.root):
        lists = _lists(block.body)
        body = _placed(block.body, 0, lists, placement, done)
        done[id(block)] = block if body is block.body else replace(block, body=body)
    return replace(network, root=done[id(network.root)])


def sums(network: Network, placement: Placement) -> list[Sum]:
    """The parallel sums of two functions or more, of distinct blocks, in order."""
    found = [
        Sum(block, loop, problem_of(loop, level, _lists(block.body), placement))
        for block in blocks_of(network.root)
        for loop, level in _loops(block.body, 0)
        if loop.kind in ("sum", "mean") and loop.count > 1
    ]
    functions = [_element(run.region).module for s in found if not s.problem for run in s.loop.runs]
    inside = {id(b) for f in functions if isinstance(f, Block) for b in blocks_of(f)}
    return [replace(s, problem=_INSIDE) if id(s.block) in inside and not s.problem else s for s in found]


def problem_of(loop: Loop, level: int, lists: tuple[str, ...], placement: Placement) -> str | None:
    """Why a sum cannot be placed."""
    stems = {_stem(run.region, level + 1) for run in loop.runs}
    stem = next(iter(stems))
    if len(stems) > 1 or stem is None:
        return "its functions are not the elements of one list: write each as a block, as in `sum 2 { Function(8) }`"
    if lists.count(stem) > 1:
        return f"the list `{stem}` has other elements too"
    if placement.kind == "fused":
        return _unfusible(loop)
    if loop.count < placement.devices:
        return f"it has {loop.count} functions, fewer than {placement.devices} devices"
    return None


def _unfusible(loop: Loop) -> str | None:
    if len(loop.runs) > 1:
        return "its functions differ"
    module = _element(loop.runs[0].region).module
    if isinstance(module, Layer):
        return f"its functions are single layers ({module.kind}): write them as a block"
    if module.style != "module":
        return "its functions are lists: write them as a block"
    problem = _unfusible_region(module.body, 0)
    kinds = {step.module.kind for step in applications(module.body) if isinstance(step.module, Layer)}
    if not problem and not kinds & {"Conv", "BatchNorm"}:
        return "its functions hold no convolution or normalisation"
    return problem


def _unfusible_region(region: Region, level: int) -> str | None:
    """Why the body of a function cannot be computed for several functions at once: it must be a chain of layers."""
    for step in region.steps:
        match step:
            case Apply(module=Block() as block):
                return f"its functions apply a block, {block.name}"
            case Apply(module=Layer(kind=kind)) if kind not in FUSIBLE:
                return f"its functions contain {kind}"
            case Apply(label=Label(style="item")):
                return "its functions contain a list of layers"
            case Apply(again=True):
                return "its functions share weights"
            case Loop(kind="sequence") if step.count <= UNROLLED:
                pass
            case Loop() | Head():
                return "its functions contain a loop"
            case _:
                pass
        for inner in regions_of(step):
            problem = _unfusible_region(inner, level + 1)
            if problem:
                return problem
    return None


def functions_of(blocks: Sequence[Block]) -> list[Layer | Block]:
    """The modules that placed sums apply in parallel."""
    return [a.module for b in blocks if b.style == "parallel" for a in applications(b.body)]


# ---- rewriting


def _placed(region: Region, level: int, lists: tuple[str, ...], placement: Placement, done: dict[int, Block]) -> Region:
    steps = tuple(_step(s, level, lists, placement, done) for s in region.steps)
    same = all(a is b for a, b in zip(steps, region.steps, strict=True))
    return region if same else replace(region, steps=steps)


def _step(step: Step, level: int, lists: tuple[str, ...], placement: Placement, done: dict[int, Block]) -> Step:
    match step:
        case Apply(module=Block() as block):
            new = done[id(block)]
            return step if new is block else replace(step, module=new)
        case Apply():
            return step
        case Select() | Head():
            region = _placed(step.region, level + 1, lists, placement, done)
            return step if region is step.region else replace(step, region=region)
        case Loop():
            several = step.kind in ("sum", "mean") and step.count > 1
            if several and not problem_of(step, level, lists, placement):
                return _parallel(step, level)  # sums inside its functions stay as they are
            runs = tuple(replace(r, region=_placed(r.region, level + 1, lists, placement, done)) for r in step.runs)
            same = all(a.region is b.region for a, b in zip(runs, step.runs, strict=True))
            return step if same else replace(step, runs=runs)


def _parallel(loop: Loop, level: int) -> Step:
    """The sum as the application of a block that holds its list."""
    stem = _stem(loop.runs[0].region, level + 1)
    assert stem
    input = loop.runs[0].region.input
    inner = replace(loop, kind="sum", input=Ref(0, 0), runs=tuple(_numbered(run) for run in loop.runs))
    body = Region(input, (inner,), Ref(0, 1))
    origin = Origin(loop.origin.source, loop.origin.offset)
    block = Block(stem, "parallel", origin, False, (), (), (), body, loop.output)
    source, label = loop.input, Label("plain", stem)
    total = Apply(block, label, (source,), (input,), loop.output, loop.origin)
    if loop.kind == "sum":
        return total
    # The mean is a share of the sum. The two steps stand where one was: in a region that is always taken.
    share = Layer("affine", (("scale", Fraction(1, loop.count)), ("offset", 0)))
    scaled = Apply(share, None, (Ref(level + 1, 1),), (loop.output,), loop.output, loop.origin)
    region = Region(input, (total, scaled), Ref(level + 1, 2))
    return Select(0, region, loop.output, loop.origin)


def _numbered(run: Run) -> Run:
    step = replace(_element(run.region), label=Label("number"), inputs=(Ref(1, 0),))
    return replace(run, region=replace(run.region, steps=(step,), output=Ref(1, 1), names=()))


# ---- what a sum is made of


def _element(region: Region) -> Apply:
    step = region.steps[0]
    assert isinstance(step, Apply)
    return step


def _stem(region: Region, level: int) -> str | None:
    """The list that an iteration takes its one module from."""
    match region.steps:
        case (Apply(label=Label(style="item", stem=stem), inputs=(source,), again=False),):
            plain = source == Ref(level, 0) and region.output == Ref(level, 1)
            return stem if plain else None
        case _:
            return None


def _lists(region: Region) -> tuple[str, ...]:
    """The list of each place in a body that makes an element of one; the runs of a loop are one place."""
    places: list[str] = []
    for step in region.steps:
        match step:
            case Apply(label=Label(style="item", stem=stem)):
                places.append(stem)
            case Loop():
                places += dict.fromkeys(_item(a) for r in step.runs for a in applications(r.region) if _item(a))
            case _:
                for inner in regions_of(step):
                    places += _lists(inner)
    return tuple(places)


def _item(step: Apply) -> str:
    """The list that a module is an element of, or nothing."""
    return step.label.stem if step.label and step.label.style == "item" else ""


def _loops(region: Region, level: int) -> Iterator[tuple[Loop, int]]:
    for step in region.steps:
        if isinstance(step, Loop):
            yield step, level
        for inner in regions_of(step):
            yield from _loops(inner, level + 1)
