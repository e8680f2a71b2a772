"""Parameters, multiply-adds and depth, from the IR alone. The cost follows the number of distinct blocks."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from archdsl.base.exhaustive import assert_never
from archdsl.core.ir import (
    Apply,
    Block,
    Head,
    Label,
    Layer,
    Loop,
    Network,
    Ref,
    Region,
    Select,
    Step,
    blocks_of,
    regions_of,
)
from archdsl.core.primitives import PRIMITIVES, parameters_of


@dataclass(frozen=True, slots=True)
class Measure:
    """What a block or network costs, for one image."""

    params: int
    """Learned parameters; running statistics are not learned."""
    macs: int
    """Multiply-adds of convolutions and linear layers."""
    depth: int
    """Convolutions and linear layers on the longest path."""
    operations: int
    """Layers and operations, each as often as it runs."""


def measure(network: Network) -> Measure:
    """Parameters, multiply-adds and depth of a network."""
    return measure_block(network.root)


def measure_block(root: Block) -> Measure:
    """Parameters, multiply-adds and depth of a block."""
    return measures(root)[id(root)]


def measures(root: Block) -> dict[int, Measure]:
    """The measure of a block and of all blocks below it, by id."""
    known: dict[int, Measure] = {}
    for block in blocks_of(root):
        params, macs, operations = _costs(block.body, known)
        depth = Depths(known).of_region(block.body, {Ref(0, 0): 0}, 0)
        known[id(block)] = Measure(params, macs, depth, operations)
    return known


def _costs(region: Region, known: dict[int, Measure]) -> tuple[int, int, int]:
    """Parameters, multiply-adds and operations."""
    params = macs = operations = 0
    for step in region.steps:
        p, m, n = _step_costs(step, known)
        params, macs, operations = params + p, macs + m, operations + n
    return params, macs, operations


def _step_costs(step: Step, known: dict[int, Measure]) -> tuple[int, int, int]:
    match step:
        case Apply(module=module) if isinstance(module, Block):
            inner = known[id(module)]
            return 0 if step.again else inner.params, inner.macs, inner.operations
        case Apply():
            return _layer_costs(step)
        case Select():
            return _costs(step.region, known)
        case Head():
            # Its parameters are trained; for an image to be classified it does not run.
            params, _, operations = _costs(step.region, known)
            return params, 0, operations
        case Loop():
            params = macs = operations = 0
            for run in step.runs:
                p, m, n = _costs(run.region, known)
                params, macs, operations = params + run.count * p, macs + run.count * m, operations + run.count * n
            return params, macs, operations
        case _:
            assert_never(step)


def _layer_costs(step: Apply) -> tuple[int, int, int]:
    assert isinstance(step.module, Layer)
    kind, args = step.module.kind, dict(step.module.args)
    params = 0 if step.again else parameters_of(kind, args, step.shapes)
    return params, PRIMITIVES[kind].macs(args, step.shapes, step.output), 1


class Depths:
    """Longest paths: the depth of each value, given the depths of those before it."""

    def __init__(self, known: dict[int, Measure]) -> None:
        self.known = known

    def of_region(self, region: Region, outer: dict[Ref, int], level: int) -> int:
        depths = dict(outer)
        for i, step in enumerate(region.steps, 1):
            depths[Ref(level, i)] = self.of_step(step, depths, level)
        return depths[region.output]

    def of_step(self, step: Step, depths: dict[Ref, int], level: int) -> int:
        match step:
            case Apply(module=module):
                own = self.known[id(module)].depth if isinstance(module, Block) else PRIMITIVES[module.kind].is_layer
                return max(depths[r] for r in step.inputs) + own
            case Select() | Head():
                return self.of_region(step.region, depths, level + 1)
            case Loop(kind="sequence"):
                depth = depths[step.input]
                for run in step.runs:
                    depth = self._after_run(run.region, run.count, depth, depths, level)
                return depth
            case Loop():
                inner = {**depths, Ref(level + 1, 0): depths[step.input]}
                return max(self.of_region(run.region, inner, level + 1) for run in step.runs)
            case _:
                assert_never(step)

    def _after_run(self, region: Region, count: int, start: int, depths: dict[Ref, int], level: int) -> int:
        """Depth after `count` iterations. An iteration is max(start + a, c), so all after the first add the same a."""

        def once(depth: int) -> int:
            return self.of_region(region, {**depths, Ref(level + 1, 0): depth}, level + 1)

        first = once(start)
        return first if count == 1 else first + (count - 1) * (once(first) - first)


def child_name(label: Label, counters: dict[str, int], iteration: int = 0) -> str:
    """The name of a child as PyTorch has it; `counters` numbers the elements of lists and sequences."""
    if label.style == "plain":
        return label.stem
    if label.style == "index":
        return f"{label.stem}{label.index + iteration}"
    number = counters.get(label.stem, 0)
    counters[label.stem] = number + 1
    return f"{label.stem}.{number}" if label.style == "item" else str(number)


def modules(block: Block, prefix: str = "") -> Iterator[tuple[str, Apply]]:
    """Every named module below a block by its path, with the first application of it; each iteration is spelled out."""
    for name, step in _children(block.body, {}, 0):
        path = f"{prefix}{name}"
        yield path, step
        if isinstance(step.module, Block):
            yield from modules(step.module, f"{path}.")


def _children(region: Region, counters: dict[str, int], iteration: int) -> Iterator[tuple[str, Apply]]:
    for step in region.steps:
        if isinstance(step, Apply):
            if step.label and not step.again:
                yield child_name(step.label, counters, iteration), step
        elif isinstance(step, Loop):
            for run in step.runs:
                for j in range(run.count):
                    yield from _children(run.region, counters, j)
        else:
            for inner in regions_of(step):
                yield from _children(inner, counters, iteration)
