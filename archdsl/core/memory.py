"""Memory of training and of inference, from the IR: what autograd keeps for the backward pass, layer by layer.

What each operation saves follows PyTorch's derivative formulas (tools/autograd/derivatives.yaml): a convolution its
input, a ReLU its result. A tensor that two operations save is kept once. The tests compare the sum with the tensors
that torch.autograd.graph.saved_tensors_hooks sees.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import accumulate
from typing import Literal

from archdsl.base.exhaustive import assert_never
from archdsl.core.ir import Apply, Block, Head, Layer, Loop, Network, Ref, Region, Select, blocks_of
from archdsl.core.measure import measure
from archdsl.core.primitives import PRIMITIVES
from archdsl.core.types import Shape

FULL, HALF = 4, 2
"""Bytes of a number."""

STATES = {"sgd": 0, "adamw": 2, "rmsprop": 1}
"""Numbers that an optimiser keeps for a parameter: moments. SGD and RMSProp keep one more for a momentum."""


@dataclass(frozen=True, slots=True)
class Saved:
    """What an operation keeps for its gradient."""

    inputs: bool = False
    result: bool = False
    fresh: bool = True
    """Whether its result is a new tensor; False for a view of its input."""


_INPUT, _RESULT, _NOTHING = Saved(inputs=True), Saved(result=True), Saved()
_VIEW = Saved(fresh=False)

SAVES: dict[str, Saved] = {
    "Conv": _INPUT,
    "BatchNorm": _INPUT,
    "Linear": _INPUT,
    "ReLU": _RESULT,
    "ELU": _INPUT,
    "Sigmoid": _RESULT,
    "Tanh": _RESULT,
    "Maxout": Saved(inputs=True, result=True),
    "LocalResponseNorm": _INPUT,
    "MaxPool": _INPUT,
    "AvgPool": _INPUT,
    "AdaptiveAvgPool": _INPUT,
    "GlobalAvgPool": _NOTHING,
    "Dropout": _NOTHING,
    "Survival": _NOTHING,
    "Mask": _NOTHING,
    "DropPath": _NOTHING,
    "Flatten": _VIEW,
    "Subsample": _VIEW,
    "PadChannels": _NOTHING,
    "Identity": _VIEW,
    "add": _NOTHING,
    "multiply": _INPUT,
    "mean": _NOTHING,
    "affine": _NOTHING,
    "concat": _NOTHING,
}


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes of a training step of a batch, and of inference on it."""

    parameters: int
    gradients: int
    optimizer: int
    saved: int
    """Tensors that autograd keeps between the forward and the backward pass, with the batch itself."""
    passing: int
    """The gradients of results on their way through the largest layer; the workspace of convolutions is apart."""
    inference: int
    """Parameters, and the results that are needed at one time."""

    @property
    def training(self) -> int:
        return self.parameters + self.gradients + self.optimizer + self.saved + self.passing


Precision = Literal["fp32", "bf16", "fp16"]


def memory(network: Network, batch: int, precision: Precision) -> Memory:
    """The memory of a network. With bf16 or fp16 (autocast), results have half the size, and weights a copy of it."""
    recipe = dict(network.recipe.settings)
    optimizer = str(recipe["optimizer"])
    states = STATES[optimizer] + (optimizer != "adamw" and recipe["momentum"] != 0)
    params = measure(network).params
    size = FULL if precision == "fp32" else HALF
    kept = _Keeper(batch, size)
    result = kept.network(network.root)
    copies = 0 if precision == "fp32" else HALF * kept.weights
    buffers = FULL * kept.buffers
    return Memory(
        parameters=FULL * params + buffers,
        gradients=FULL * params,
        optimizer=FULL * states * params,
        saved=result + copies,
        passing=kept.largest,
        inference=FULL * params + buffers + size * batch * _peak(network.root),
    )


def linear_memory(network: Network, precision: Precision) -> tuple[int, int]:
    """Bytes of a training step without images, and for each image: a line through two sizes of batches."""
    small, large = (memory(network, batch, precision).training for batch in (64, 128))
    image = (large - small) // 64
    return small - 64 * image, image


# ---- what autograd keeps


@dataclass(slots=True)
class _Storage:
    """A tensor's memory, which several values may be views of."""

    bytes: int
    saved: bool = False


@dataclass(frozen=True, slots=True)
class _Summary:
    """A block or an iteration: what it keeps inside, and what it does to the tensors at its ends."""

    inside: int
    keeps_input: bool
    keeps_output: bool
    passes_input: bool
    """Its output is a view of its input."""


class _Keeper:
    def __init__(self, batch: int, size: int) -> None:
        self.batch = batch
        self.size = size
        self.known: dict[int, _Summary] = {}
        self.largest = 0
        self.weights = 0
        self.buffers = 0
        self._weights: dict[int, tuple[int, int]] = {}

    def network(self, root: Block) -> int:
        for block in blocks_of(root):
            self.known[id(block)] = self._summary(block.body, 0, {}, block.output)
            self._weights[id(block)] = self._held(block.body)
        self.weights, self.buffers = self._weights[id(root)]
        whole = self.known[id(root)]
        ends = self._bytes(root.input) * whole.keeps_input + self._bytes(root.output) * whole.keeps_output
        return whole.inside + ends

    def _bytes(self, shape: Shape) -> int:
        return shape.size * self.size * self.batch

    def _held(self, region: Region) -> tuple[int, int]:
        """Elements of the weights that autocast copies, and of the buffers."""
        weights = buffers = 0
        for step in region.steps:
            match step:
                case Apply(module=Block() as block):
                    w, b = self._weights[id(block)] if not step.again else (0, 0)
                case Apply():
                    w, b = _held_by(step)
                case Select() | Head():
                    w, b = self._held(step.region)
                case Loop():
                    pairs = [(run.count, self._held(run.region)) for run in step.runs]
                    w, b = sum(n * p[0] for n, p in pairs), sum(n * p[1] for n, p in pairs)
                case _:
                    assert_never(step)
            weights, buffers = weights + w, buffers + b
        return weights, buffers

    def _summary(self, region: Region, level: int, outer: dict[Ref, _Storage], output: Shape) -> _Summary:
        source = _Storage(self._bytes(region.input))
        made: list[_Storage] = []
        result, extra = self._region(region, level, {**outer, Ref(level, 0): source}, made)
        inside = extra + sum(s.bytes for s in made if s.saved and s is not result)
        return _Summary(inside, source.saved, result.saved, result is source)

    def _region(
        self, region: Region, level: int, values: dict[Ref, _Storage], made: list[_Storage]
    ) -> tuple[_Storage, int]:
        """The storage of the output, and the bytes that are kept beside those of values."""
        values = dict(values)
        extra = 0
        for i, step in enumerate(region.steps, 1):
            match step:
                case Apply(module=Block() as block):
                    result, more = self._after(self.known[id(block)], values[step.inputs[0]], step.output, made)
                case Apply():
                    result, more = self._layer(step, [values[r] for r in step.inputs], made)
                case Select():
                    result, more = self._region(step.region, level + 1, values, made)
                case Head():
                    result, more = self._region(step.region, level + 1, values, made)
                case Loop():
                    result, more = self._loop(step, level, values, made)
                case _:
                    assert_never(step)
            values[Ref(level, i)] = result
            extra += more
        return values[region.output], extra

    def _after(self, summary: _Summary, source: _Storage, output: Shape, made: list[_Storage]) -> tuple[_Storage, int]:
        source.saved |= summary.keeps_input
        if summary.passes_input:
            return source, summary.inside
        result = _Storage(self._bytes(output), summary.keeps_output)
        made.append(result)
        return result, summary.inside

    def _loop(self, loop: Loop, level: int, values: dict[Ref, _Storage], made: list[_Storage]) -> tuple[_Storage, int]:
        source, extra = values[loop.input], 0
        for run in loop.runs:
            region = run.region
            output = _shape_of(region, level + 1)
            each = self._summary(region, level + 1, values, output)
            extra += run.count * each.inside
            if loop.kind != "sequence":
                source.saved |= each.keeps_input
                extra += run.count * self._bytes(output) * (each.keeps_output and not each.passes_input)
                continue
            # Between two iterations there is one tensor, which either may keep.
            between = each.keeps_input or each.keeps_output
            extra += (run.count - 1) * self._bytes(output) * (between and not each.passes_input)
            source.saved |= each.keeps_input
            if not each.passes_input:
                source = _Storage(self._bytes(output), each.keeps_output)
                made.append(source)
        if loop.kind == "sequence":
            return source, extra
        result = _Storage(self._bytes(loop.output))
        made.append(result)
        return result, extra

    def _layer(self, step: Apply, sources: list[_Storage], made: list[_Storage]) -> tuple[_Storage, int]:
        assert isinstance(step.module, Layer)
        kind = step.module.kind
        saves = SAVES[kind]
        for source in sources:
            source.saved |= saves.inputs
        sizes = self._bytes(step.output) + sum(self._bytes(s) for s in step.shapes)
        self.largest = max(self.largest, sizes)
        extra = self._extra(step, kind)
        if not saves.fresh:
            return sources[0], extra
        result = _Storage(self._bytes(step.output), saves.result)
        made.append(result)
        return result, extra

    def _extra(self, step: Apply, kind: str) -> int:
        """Bytes that only the operation knows of: statistics, indices, masks."""
        match kind:
            case "BatchNorm":
                return 2 * FULL * step.output.channels
            case "MaxPool":
                return 8 * self.batch * step.output.size
            case "multiply":
                return (len(step.shapes) - 2) * self._bytes(step.output)  # products on the way
            case "Dropout":
                return self._bytes(step.output)
            case "Mask":
                return self.batch * step.output.size  # truth values
            case "LocalResponseNorm":
                # The padded squares, their sums, and the denominators.
                assert isinstance(step.module, Layer)
                padded = step.output.size * (step.output.channels + int(str(step.module.arg("size"))) - 1)
                return 2 * self._bytes(step.output) + self.size * self.batch * padded // step.output.channels
            case _:
                return 0


def _held_by(step: Apply) -> tuple[int, int]:
    assert isinstance(step.module, Layer)
    kind, args = step.module.kind, dict(step.module.args)
    if step.again:
        return 0, 0
    if kind == "BatchNorm":
        return 0, 2 * step.output.channels
    weights = PRIMITIVES[kind].weights(args, step.shapes) if kind in ("Conv", "Linear") else ()
    return sum(Shape(dims).size for _, dims in weights), 0


def _shape_of(region: Region, level: int) -> Shape:
    """The shape of the output of an iteration."""
    if region.output.level != level or region.output.index == 0:
        return region.input
    return region.steps[region.output.index - 1].output


# ---- inference


def _peak(root: Block) -> int:
    """The most elements that are needed at one time, for one image."""
    known: dict[int, int] = {}
    for block in blocks_of(root):
        known[id(block)] = _region_peak(block.body, 0, known)
    return known[id(root)]


def _region_peak(region: Region, level: int, known: dict[int, int]) -> int:
    """The most elements of the input and the values of a region, while it is computed."""
    last = {region.output: len(region.steps)}
    for i, step in enumerate(region.steps):
        for ref in _reads(step, level):
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


def _reads(step: Apply | Select | Loop | Head, level: int) -> set[Ref]:
    """The values of a region that a step reads, inside it too."""
    found: set[Ref] = set()
    match step:
        case Apply():
            found = set(step.inputs)
        case Select() | Head():
            found = _reads_of(step.region, level)
        case Loop():
            found = {step.input}.union(*(_reads_of(r.region, level) for r in step.runs))
        case _:
            assert_never(step)
    return {r for r in found if r.level == level}


def _reads_of(region: Region, level: int) -> set[Ref]:
    return {region.output}.union(*(_reads(s, level) for s in region.steps)) if region.steps else {region.output}
