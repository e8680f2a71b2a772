"""What each operation keeps for its gradient, and the tensors that it and its gradient make: as PyTorch does on CUDA.

The source is PyTorch's derivative formulas (tools/autograd/derivatives.yaml): a convolution keeps its input, a ReLU its
result. What an operation is made of is what the generated code calls (backend/spelling.py).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from archdsl.core.ir import Apply, Layer
from archdsl.core.primitives import PRIMITIVES
from archdsl.core.timeline import rounded
from archdsl.core.types import Shape

FULL, HALF = 4, 2
"""Bytes of a number in single precision, and in half."""

INDEX = 8
"""Bytes of the place of a maximum: int64."""

MASK = 1
"""Bytes of a truth value: whether an element is kept."""

FRESH = frozenset({"Conv", "BatchNorm", "Linear", "add"})
"""The results of these are new tensors that no gradient needs: a ReLU overwrites what nothing else reads."""


@dataclass(frozen=True, slots=True)
class Saves:
    """What an operation keeps, and what its gradients are."""

    inputs: bool = False
    result: bool = False
    fresh: bool = True
    """Whether its result is a new tensor; False for a view of its input."""
    gradient: Literal["new", "one", "same", "part"] = "new"
    """Each input has a new gradient, all have one new one, or that of the result, or a view of a part of that."""


_INPUT, _RESULT, _NOTHING = Saves(inputs=True), Saves(result=True), Saves()
_VIEW = Saves(fresh=False, gradient="same")

SAVES: dict[str, Saves] = {
    "Conv": _INPUT,
    "BatchNorm": _INPUT,
    "Linear": _INPUT,
    "ReLU": _RESULT,
    "ELU": _INPUT,
    "Sigmoid": _RESULT,
    "Tanh": _RESULT,
    "Maxout": Saves(inputs=True, result=True),
    "LocalResponseNorm": _INPUT,
    "MaxPool": _INPUT,
    "AvgPool": _INPUT,
    "AdaptiveAvgPool": _INPUT,
    "GlobalAvgPool": _NOTHING,
    "Dropout": _NOTHING,
    "Survival": _NOTHING,
    "Mask": _NOTHING,
    "DropPath": _NOTHING,
    # A copy: images are in channels_last, and a vector is not.
    "Flatten": Saves(gradient="same"),
    "Subsample": Saves(fresh=False),
    "PadChannels": _NOTHING,
    "Identity": _VIEW,
    "add": Saves(gradient="same"),
    "multiply": _INPUT,
    "mean": Saves(gradient="one"),
    "affine": _NOTHING,
    "concat": Saves(gradient="part"),
}


@dataclass(frozen=True, slots=True)
class Sizes:
    """Bytes of tensors of a batch."""

    batch: int
    half: bool
    """Automatic mixed precision."""

    def of(self, shape: Shape, wide: bool = False) -> int:
        """A result; `wide` for one in single precision though precision is mixed."""
        return rounded(self.batch * shape.size * self.width(wide))

    def width(self, wide: bool = False) -> int:
        return FULL if wide or not self.half else HALF

    def elements(self, count: int, width: int) -> int:
        """So many elements for each image."""
        return rounded(self.batch * count * width)


def saves_of(step: Apply) -> Saves:
    """The row of a layer."""
    assert isinstance(step.module, Layer)
    kind = step.module.kind
    if kind == "affine" and (step.module.arg("scale"), step.module.arg("offset")) == (1, 0):
        return _VIEW  # no operation
    flat = kind == "Flatten" and 1 in (step.shapes[0].channels, step.shapes[0].size // step.shapes[0].channels)
    return _VIEW if flat else SAVES[kind]


def weights_of(step: Apply) -> tuple[int, ...]:
    """Elements of the weights of a layer, one for each tensor."""
    assert isinstance(step.module, Layer)
    rows = PRIMITIVES[step.module.kind].weights(dict(step.module.args), step.shapes)
    return tuple(Shape(dims).size for _, dims in rows)


def kept_beside(step: Apply, sizes: Sizes, wide: bool) -> int:
    """Bytes that only the operation knows of: statistics, indices, masks. `wide` says how wide the first input is."""
    assert isinstance(step.module, Layer)
    size, result = step.output.size, sizes.of(step.output, wide)
    match step.module.kind:
        case "BatchNorm":
            return 2 * rounded(FULL * step.output.channels)  # means and deviations of the batch
        case "MaxPool":
            return sizes.elements(size, INDEX)
        case "Dropout" | "Mask":
            return sizes.elements(size, MASK)
        case "Survival":
            return rounded(MASK)
        case "DropPath":
            return rounded(sizes.width(wide) * len(step.inputs))
        case "multiply":
            return (len(step.inputs) - 2) * result  # products on the way
        case "LocalResponseNorm":
            # The padded squares; and, as powers are taken in single precision, their sums and the denominators.
            padded = size // step.output.channels * (step.output.channels + int(str(step.module.arg("size"))) - 1)
            return sizes.elements(padded, sizes.width(wide)) + 2 * sizes.elements(size, FULL)
        case _:
            return 0


def forward_work(step: Apply, sizes: Sizes, wide: bool) -> int:
    """Bytes of tensors that an operation makes on the way to its result, and that go with its end."""
    assert isinstance(step.module, Layer)
    result = sizes.of(step.output, wide)
    match step.module.kind:
        case "add" | "mean":
            # Of three there are two sums; a mean divides the sum.
            return result if len(step.inputs) + (step.module.kind == "mean") > 2 else 0
        case "DropPath":
            return 2 * result  # the sum so far, and the next weighted column
        case "affine":
            return result if step.module.arg("offset") != 0 and step.module.arg("scale") not in (1, -1) else 0
        case "Mask":
            return result  # random numbers
        case "LocalResponseNorm":
            return 2 * sizes.elements(step.output.size, FULL)  # the squares, and the scaled sums
        case _:
            return 0


def backward_work(step: Apply, sizes: Sizes, wide: bool) -> int:
    """The same for its gradient."""
    assert isinstance(step.module, Layer)
    source, result = sizes.of(step.shapes[0], wide), sizes.of(step.output, wide)
    match step.module.kind:
        case "Maxout":
            # Where the maxima are, how many, the share of each, and the gradient.
            found = sizes.elements(step.shapes[0].size, MASK)
            return found + sizes.elements(step.output.size, INDEX) + result + source
        case "Subsample":
            # Rows first, then columns.
            rows = Shape((step.shapes[0].channels, step.output.dims[1], step.shapes[0].dims[2]))
            return sizes.of(rows, wide)
        case "LocalResponseNorm":
            return 3 * sizes.elements(step.output.size, FULL)  # of the quotient: both factors, and their product
        case "multiply":
            # A factor with one element for many is the sum of a whole product.
            return result if len({s.size for s in step.shapes}) > 1 else 0
        case _:
            return 0
