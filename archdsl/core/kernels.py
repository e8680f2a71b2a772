"""What a layer launches in a training step: its kernels on the device, and the operations that the host starts.

A kernel takes as long as its arithmetic or its memory traffic, whichever is longer, and a while to start (Williams,
Waterman and Patterson, CACM 52(4), 2009). The constants are fitted to steps that were measured on one H200
(tests/reference/gpu_steps.csv), all together: none belongs to one network, but for the backward pass of MaxPool, which
only airbench94's network has.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from archdsl.core.ir import Apply, Layer
from archdsl.core.machines import Card, Precision
from archdsl.core.primitives import PRIMITIVES, Args, pair
from archdsl.core.types import Shape

REACHED = 0.65
"""Share of the peak that a matrix product reaches where nothing else holds it up."""

STREAMED = 0.55
"""Share of the bandwidth that kernels which only read and write reach."""

NARROW = 64
"""Channels that a batch normalisation needs to reach it. Its kernels go through memory channel by channel side by side;
with fewer channels some of their lanes idle."""

LAUNCH = 2.8e-6
"""Seconds from the end of a kernel to the start of the next in a CUDA graph, with what the shortest of them takes."""

PRODUCT = 8.5e-6
"""The same for a matrix product, whose pipeline has to fill, and whose parts of a sum are added up afterwards."""

TILE = (128, 64)
"""Rows and columns of a result that one processor computes at a time. What a matrix lacks of them is computed for
nothing, and where there are fewer tiles than processors the others idle."""

VIEW = 0.5
"""Of the time that the host takes for an operation, what it takes for one that launches nothing, such as a slice."""

CALL = 1.0
"""The same for calling a module: Python, for each layer and block."""

FULL, HALF = 4, 2
"""Bytes of a number."""


@dataclass(frozen=True, slots=True)
class Gemm:
    """A matrix product, or several of one size: a convolution is one too."""

    rows: int
    columns: int
    depth: int
    groups: int = 1
    divided: bool = False
    """Whether processors that would idle take a part of the sum over the depth."""

    def seconds(self, card: Card, precision: Precision) -> float:
        height, width = TILE
        tiles = self.groups * -(-self.rows // height) * -(-self.columns // width)
        # A part of a sum is never shorter than a tile is high.
        parts = -(-self.depth // height) if self.divided else 1
        depth = parts * height if self.divided else self.depth
        busy = min(1.0, tiles * parts / card.processors)
        return 2.0 * tiles * height * width * depth / (REACHED * card.peaks[precision] * busy)


@dataclass(frozen=True, slots=True)
class Kernel:
    """One launch on a device."""

    bytes: float = 0.0
    """Read and written."""
    gemm: Gemm | None = None

    def seconds(self, card: Card, precision: Precision) -> float:
        moving = self.bytes / (STREAMED * card.memory)
        if self.gemm is None:
            return LAUNCH + moving
        return PRODUCT + max(moving, self.gemm.seconds(card, precision))


@dataclass(frozen=True, slots=True)
class Work:
    """Kernels of a training step, and the operations that launch them when nothing is captured."""

    kernels: tuple[Kernel, ...] = ()
    operations: float = 0.0

    def __add__(self, other: Work) -> Work:
        return Work(self.kernels + other.kernels, self.operations + other.operations)


@dataclass(frozen=True, slots=True)
class Streams:
    """A layer that reads and writes: operations that the host starts, and how often a kernel of the forward or backward
    pass moves the input and the result."""

    operations: float
    passes: tuple[tuple[float, float], ...]


_ACTIVATION = Streams(2, ((1, 1), (1, 2)))
_POOL = Streams(2, ((1, 1), (1, 1)))

STREAMS: Mapping[str, Streams] = {
    # Statistics, their update, the counter of batches, the result; the sums of the backward pass, and the gradient.
    "BatchNorm": Streams(3, ((1, 0), (0, 0), (0, 0), (1, 1), (1, 1), (1, 2))),
    "ReLU": _ACTIVATION,
    "ELU": _ACTIVATION,
    "Sigmoid": _ACTIVATION,
    "Tanh": _ACTIVATION,
    # The gradient of a maximum over an axis compares, counts and divides.
    "Maxout": Streams(6, ((1, 1), (1, 1), (1, 1), (1, 1), (1, 1))),
    # Squares, padding, mean, scale, offset, power and quotient, and their gradients.
    "LocalResponseNorm": Streams(16, ((1, 1),) * 16),
    "Dropout": Streams(2, ((1, 1.5), (1, 1.5))),
    # Where the largest was, in 64 bits, beside what it was. In the backward pass each number of the input looks it up.
    "MaxPool": Streams(2, ((1, 5), (6, 0))),
    "AvgPool": _POOL,
    "AdaptiveAvgPool": _POOL,
    "GlobalAvgPool": Streams(2 + VIEW, ((1, 1), (1, 1))),
    "Survival": Streams(4, ((0, 0), (0, 0), (1, 1), (1, 1))),
    "Mask": Streams(4, ((0, 1), (0, 1.5), (1, 1.5), (1, 1.5))),
    # From channels last to channels first.
    "Flatten": Streams(1 + VIEW, ((1, 1),)),
    # Two slices; the gradient of each fills zeros and copies.
    "Subsample": Streams(2 + 2 * VIEW, ((0, 2), (0, 2), (1, 0), (1, 0))),
    "PadChannels": Streams(2, ((0, 1), (1, 1), (2, 0))),
    "Identity": Streams(0, ()),
    "affine": Streams(3, ((1, 1), (1, 1), (1, 1))),
}


@dataclass(frozen=True, slots=True)
class Numbers:
    """The images of a step, and in what precision they are computed."""

    batch: int
    precision: Precision

    @property
    def half(self) -> bool:
        return self.precision in ("bf16", "fp16")

    @property
    def size(self) -> int:
        """Bytes of a number of a result."""
        return HALF if self.half else FULL

    def bytes(self, *shapes: Shape) -> int:
        """Of results for a batch."""
        return self.size * self.batch * sum(s.size for s in shapes)


def work_of(step: Apply, numbers: Numbers, first: bool = False) -> Work:
    """What a layer launches; the `first` one reads the images, which need no gradient."""
    assert isinstance(step.module, Layer)
    kind, args = step.module.kind, dict(step.module.args)
    shapes, output = step.shapes, step.output
    weights = [Shape(dims).size for _, dims in PRIMITIVES[kind].weights(args, shapes)]
    called = Work((), CALL if step.label else 0.0)
    match kind:
        case "Conv":
            return called + _product(_convolution(args, shapes[0], output, numbers), step, weights, numbers, first)
        case "Linear":
            products = _gemms(numbers.batch, output.channels, shapes[0].channels, 1)
            # Autograd starts two products, and a sum for the bias.
            return called + _product(products, step, weights, numbers, first) + Work((), len(weights) + 3 * VIEW)
        case "add" | "multiply" | "mean" | "DropPath" | "concat":
            return called + _join(kind, args, len(shapes), output, numbers)
        case _:
            streams = STREAMS[kind]
            read, written = numbers.bytes(*shapes), numbers.bytes(output)
            slower = max(1.0, NARROW / output.channels) if kind == "BatchNorm" else 1.0
            kernels = tuple(Kernel(slower * (i * read + o * written)) for i, o in streams.passes)
            return called + Work(kernels, streams.operations)


def additions(count: int, shape: Shape, numbers: Numbers) -> Work:
    """Sums of two tensors: of results, or of the gradients of one that is read several times."""
    return Work((Kernel(3 * numbers.bytes(shape)),) * count, count)


def _convolution(args: Args, input: Shape, output: Shape, numbers: Numbers) -> tuple[Gemm, Gemm, Gemm]:
    height, width = pair(args["kernel"])
    groups: int = args["groups"]
    places = numbers.batch * (output.size // output.channels)
    return _gemms(places, output.channels // groups, input.channels // groups, groups, height * width)


def _gemms(rows: int, out: int, read: int, groups: int, window: int = 1) -> tuple[Gemm, Gemm, Gemm]:
    """The result, and the gradients of input and weights; the last is small, and sums over all places."""
    return (
        Gemm(rows, out, read * window, groups),
        Gemm(rows, read, out * window, groups),
        Gemm(out, read * window, rows, groups, divided=True),
    )


def _product(gemms: Iterable[Gemm], step: Apply, weights: list[int], numbers: Numbers, first: bool) -> Work:
    traffic = numbers.bytes(*step.shapes, step.output) + numbers.size * weights[0]
    result, input, weight = (Kernel(traffic, gemm) for gemm in gemms)
    work = Work((result, weight) if first else (result, input, weight), 2)
    if len(weights) > 1:  # the gradient of the bias, which that of a convolution brings along
        work += Work((Kernel(numbers.bytes(step.output)),), 0)
    if numbers.half:  # autocast: weights are rounded, and their gradients are widened again
        casts = tuple(Kernel((FULL + HALF) * w) for w in weights)
        work += Work(casts + casts, 2 * len(weights))
    return work


def _join(kind: str, args: Args, count: int, output: Shape, numbers: Numbers) -> Work:
    """Of several tensors."""
    whole = numbers.bytes(output)
    match kind:
        case "add":
            return additions(count - 1, output, numbers)
        case "multiply":
            return Work((Kernel(3 * whole),) * (3 * (count - 1)), 3 * (count - 1))
        case "mean":
            return additions(count - 1, output, numbers) + Work((Kernel(2 * whole),) * 2, 2)
        case "DropPath":
            # Small operations draw the weights of the columns; each is scaled, forward and backward.
            drawn = 17 if args["one_column"] else 11
            scaled = Work((Kernel(2 * whole),) * 2 * count, 2 * count + VIEW * count)
            return Work((Kernel(),) * drawn, drawn) + scaled + additions(count - 1, output, numbers)
        case _:
            return Work((Kernel(2 * whole),), 1 + count * VIEW)
