"""Memory of inference, from the IR: the results that are needed at one time."""

from __future__ import annotations

from itertools import accumulate

from archdsl.base.exhaustive import assert_never
from archdsl.core.ir import Apply, Block, Head, Loop, Ref, Region, Select, blocks_of
from archdsl.core.readers import reads_of_step


def inference_peak(root: Block) -> int:
    """The most elements that are needed at one time, for one image."""
    known: dict[int, int] = {}
    for block in blocks_of(root):
        known[id(block)] = _region_peak(block.body, 0, known)
    return known[id(root)]


def _region_peak(region: Region, level: int, known: dict[int, int]) -> int:
    """The most elements of the input and the values of a region, while it is computed."""
    last = {region.output: len(region.steps)}
    for i, step in enumerate(region.steps):
        for ref in reads_of_step(step):
            last[ref] = max(last.get(ref, 0), i)
    sizes = {Ref(level, 0): region.input.size}
    sizes |= {Ref(level, i): step.output.size for i, step in enumerate(region.steps, 1)}
    changes = [0] * (len(region.steps) + 2)
    for ref, until in last.items():
        if ref in sizes and ref.index <= until:
            changes[ref.index] += sizes[ref]
            changes[until + 1] -= sizes[ref]
    most = region.input.size
    for step, alive in zip(region.steps, accumulate(changes), strict=False):
        if not isinstance(step, Head):
            most = max(most, alive + _working(step, level, known))
    return most


def _working(step: Apply | Select | Loop | Head, level: int, known: dict[int, int]) -> int:
    """Elements beside the input that a step needs, its result among them."""
    match step:
        case Apply(module=Block() as block):
            return max(known[id(block)] - block.input.size, step.output.size)
        case Apply():
            return step.output.size
        case Select() | Head():
            return max(_region_peak(step.region, level + 1, known) - step.region.input.size, step.output.size)
        case Loop(kind="sequence"):
            return max(_region_peak(r.region, level + 1, known) for r in step.runs)
        case Loop():
            inner = max(_region_peak(r.region, level + 1, known) - r.region.input.size for r in step.runs)
            return step.output.size + inner
        case _:
            assert_never(step)
