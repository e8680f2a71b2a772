"""What other tools print as the multiply-adds or operations of the same network.

Read from their sources, and compared with them in the tests: torchinfo 1.8.0, fvcore 0.1.5, ptflops 0.7.5 (its default
engine) and torch.utils.flop_counter. Each is run on one image in evaluation.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from archdsl.base.exhaustive import assert_never
from archdsl.core.ir import Apply, Block, Head, Layer, Loop, Network, Region, Select, blocks_of
from archdsl.core.primitives import PRIMITIVES, parameters_of

Counting = Callable[[Apply, str, int], int]
"""The operations of a layer, given its kind and multiply-adds."""


@dataclass(frozen=True, slots=True)
class Convention:
    """How a tool counts."""

    name: str
    text: str
    count: Counting


def _torchinfo(step: Apply, kind: str, macs: int) -> int:
    # The parameters of a convolution at every position; those of other layers once.
    assert isinstance(step.module, Layer)
    params = parameters_of(kind, dict(step.module.args), step.shapes)
    return params * (step.output.size // step.output.channels) if kind == "Conv" else params


def _fvcore(step: Apply, kind: str, macs: int) -> int:
    match kind:
        case "BatchNorm":
            return 2 * step.shapes[0].size
        case "AdaptiveAvgPool":
            return step.shapes[0].size
        case _:
            return macs


def _ptflops(step: Apply, kind: str, macs: int) -> int:
    match kind:
        case "Conv" | "Linear":
            assert isinstance(step.module, Layer)
            return macs + (step.output.size if step.module.arg("bias") is not False else 0)
        case "BatchNorm":
            return 2 * step.shapes[0].size
        case "ReLU" | "ELU" | "MaxPool" | "AvgPool" | "AdaptiveAvgPool":
            # A module counts, and so does the function that it calls.
            return step.shapes[0].size * (1 if step.label is None else 2)
        case _:
            return 0


CONVENTIONS = {
    c.name: c
    for c in (
        Convention("torchinfo", "parameters of convolutions at every position, other parameters once", _torchinfo),
        Convention("fvcore", "multiply-adds, and two operations for each element of a batch normalisation", _fvcore),
        Convention("ptflops", "multiply-adds, biases, batch normalisation, activations and pooling", _ptflops),
        Convention("torch", "two operations for a multiply-add", lambda step, kind, macs: 2 * macs),
    )
}


def macs_as(network: Network, tool: str) -> int:
    """What a tool prints for one image."""
    count = CONVENTIONS[tool].count
    known: dict[int, int] = {}
    for block in blocks_of(network.root):
        known[id(block)] = _region(block.body, known, count)
    return known[id(network.root)]


def _region(region: Region, known: dict[int, int], count: Counting) -> int:
    total = 0
    for step in region.steps:
        match step:
            case Apply(module=Block() as block):
                total += known[id(block)]
            case Apply():
                assert isinstance(step.module, Layer)
                kind, args = step.module.kind, dict(step.module.args)
                total += count(step, kind, PRIMITIVES[kind].macs(args, step.shapes, step.output))
            case Select():
                total += _region(step.region, known, count)
            case Head():
                pass  # it does not run in evaluation
            case Loop():
                total += sum(run.count * _region(run.region, known, count) for run in step.runs)
            case _:
                assert_never(step)
    return total
