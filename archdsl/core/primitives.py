"""The one table of primitives: parameters, shape rule, weights and multiply-adds of each.

How PyTorch spells them is in backend/spelling.py, which has the same keys.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Literal, TypeAlias

from archdsl.base.suggest import spoken
from archdsl.core.types import Scalar, Shape

Args: TypeAlias = Mapping[str, Any]
Shapes: TypeAlias = tuple[Shape, ...]
Weights: TypeAlias = tuple[tuple[str, tuple[int, ...]], ...]

REQUIRED = object()

LARGEST = 2**31
"""No size of a layer is this large."""


class ShapeError(Exception):
    """A layer cannot take this input; the message says why, and `help` what it could take."""

    def __init__(self, message: str, help: str | None = None) -> None:
        super().__init__(message)
        self.help = help


@dataclass(frozen=True, slots=True)
class Parameter:
    """A parameter of a primitive.

    `size` is a whole number or a [height, width] pair of them; `bias` is true, false, or the value that the bias has at
    the start.
    """

    name: str
    type: Literal["int", "size", "number", "bool", "bias"]
    default: Any = REQUIRED
    least: int | None = None
    most: int | None = None


@dataclass(frozen=True, slots=True)
class Primitive:
    """A row of the table. `args` are complete; shapes are without the batch."""

    name: str
    doc: str
    parameters: tuple[Parameter, ...]
    output: Callable[[Args, Shapes], Shape]
    label: str = ""
    """The name that a module of it takes if the spec gives none; empty if it never needs a module."""
    weights: Callable[[Args, Shapes], Weights] = lambda args, shapes: ()
    macs: Callable[[Args, Shapes, Shape], int] = lambda args, shapes, output: 0
    is_layer: bool = False
    """Counts towards the depth: convolutions and linear layers."""
    has_mode: bool = False
    """Behaves differently in training and evaluation."""
    in_list: bool = True
    """May stand in a numbered list, where everything is a module."""
    complete: Callable[[dict[str, Any]], None] = lambda args: None
    """Fills defaults that depend on other arguments."""

    @property
    def needs_module(self) -> bool:
        return bool(self.label)


# ---- shape rules


def _maps(shapes: Shapes, what: str) -> Shape:
    if len(shapes[0].dims) != 3:
        raise ShapeError(f"{what} needs feature maps, and the input is a vector of {shapes[0]}")
    return shapes[0]


def _window(what: str, args: Args, shape: Shape) -> tuple[int, int]:
    """Height and width after a sliding window (Dumoulin and Visin, arXiv:1603.07285, relationship 15)."""
    sizes = []
    names = ("kernel", "stride", "padding")
    for axis, kernel, stride, padding in zip((1, 2), *(pair(args[n]) for n in names), strict=True):
        reach = pair(args.get("dilation", 1))[axis - 1] * (kernel - 1) + 1
        size = shape.dims[axis] + 2 * padding
        if reach > size:
            raise ShapeError(f"a {what} kernel of {reach} is larger than its input of {size} (shape {shape})")
        steps = (size - reach) // stride
        if args.get("ceil") and (size - reach) % stride:
            # A window may hang over the end if it starts inside the input or its padding on the near side.
            steps += (steps + 1) * stride < shape.dims[axis] + padding
        sizes.append(steps + 1)
    return sizes[0], sizes[1]


def pair(value: Any) -> tuple[int, int]:
    """A size for both axes: 3 is (3, 3)."""
    return (value, value) if isinstance(value, int) else (value[0], value[1])


def _conv_output(args: Args, shapes: Shapes) -> Shape:
    shape = _maps(shapes, "a convolution")
    for name, channels in (("input channels", shape.channels), ("width", args["width"])):
        if channels % args["groups"]:
            legal = _divisors_near(args["groups"], math.gcd(shape.channels, args["width"]))
            problem = f"{channels} {name} cannot be divided into {args['groups']} groups"
            values = "values" if len(legal) > 1 else "value"
            help = f"nearest valid {values} of groups: {spoken(legal, 'and')}" if legal else None
            raise ShapeError(problem, help)
    return Shape((args["width"], *_window("convolution", args, shape)))


def _divisors_near(number: int, of: int) -> list[str]:
    """The divisors nearest to a number, below and above it; none where they would take long to find."""
    if of > 1_000_000:
        return []
    divisors = [d for d in range(1, of + 1) if of % d == 0]
    below = [d for d in divisors if d < number]
    above = [d for d in divisors if d > number]
    return [str(d) for d in (*below[-1:], *above[:1])]


def same_padding(kernel: Any, dilation: Any) -> tuple[int, int] | None:
    """The padding by which a convolution of stride 1 keeps its resolution; None if its two sides would differ."""
    both = [d * (k - 1) for k, d in zip(pair(kernel), pair(dilation), strict=True)]
    return None if any(b % 2 for b in both) else (both[0] // 2, both[1] // 2)


def _same_padding(args: dict[str, Any]) -> None:
    """Padding that keeps the resolution at stride 1, where the kernel is odd."""
    if args["padding"] is None:
        reach = [d * (k - 1) // 2 for k, d in zip(pair(args["kernel"]), pair(args["dilation"]), strict=True)]
        args["padding"] = reach[0] if reach[0] == reach[1] else tuple(reach)


def _conv_weights(args: Args, shapes: Shapes) -> Weights:
    weight = (args["width"], shapes[0].channels // args["groups"], *pair(args["kernel"]))
    return (("weight", weight), *((("bias", (args["width"],)),) if args["bias"] is not False else ()))


def _conv_macs(args: Args, shapes: Shapes, output: Shape) -> int:
    height, width = pair(args["kernel"])
    groups: int = args["groups"]
    return output.size * (shapes[0].channels // groups) * height * width


def _pool_output(args: Args, shapes: Shapes) -> Shape:
    shape = _maps(shapes, "pooling")
    for kernel, padding in zip(pair(args["kernel"]), pair(args["padding"]), strict=True):
        if 2 * padding > kernel:
            raise ShapeError(f"padding {padding} is more than half of the kernel {kernel}")
    return Shape((shape.channels, *_window("pooling", args, shape)))


def _pool_stride(args: dict[str, Any]) -> None:
    if args["stride"] is None:
        args["stride"] = args["kernel"]


def _linear_output(args: Args, shapes: Shapes) -> Shape:
    if len(shapes[0].dims) != 1:
        raise ShapeError(
            f"a linear layer needs a vector, and the input is {shapes[0]}; add `GlobalAvgPool` or `Flatten`"
        )
    return Shape((args["width"],))


def _linear_weights(args: Args, shapes: Shapes) -> Weights:
    weight = (args["width"], shapes[0].channels)
    return (("weight", weight), *((("bias", (args["width"],)),) if args["bias"] is not False else ()))


def _norm_weights(args: Args, shapes: Shapes) -> Weights:
    return (("weight", (shapes[0].channels,)), ("bias", (shapes[0].channels,)))


def _adaptive(args: Args, shapes: Shapes) -> Shape:
    height, width = pair(args["size"])
    return Shape((_maps(shapes, "adaptive pooling").channels, height, width))


def _maxout(args: Args, shapes: Shapes) -> Shape:
    if shapes[0].channels % args["pieces"]:
        raise ShapeError(f"{shapes[0].channels} channels cannot be divided into pieces of {args['pieces']}")
    return shapes[0].with_channels(shapes[0].channels // args["pieces"])


def _normalised(args: Args, shapes: Shapes) -> Shape:
    return _maps(shapes, "normalisation")


def _subsample(args: Args, shapes: Shapes) -> Shape:
    shape = _maps(shapes, "subsampling")
    return Shape((shape.channels, *(-(-d // args["stride"]) for d in shape.dims[1:])))


def _pad_channels(args: Args, shapes: Shapes) -> Shape:
    if args["width"] < shapes[0].channels:
        raise ShapeError(f"cannot pad {shapes[0].channels} channels to {args['width']}, which are fewer")
    return shapes[0].with_channels(args["width"])


def _all_equal(args: Args, shapes: Shapes) -> Shape:
    if any(s != shapes[0] for s in shapes):
        raise ShapeError(f"shapes differ: {', '.join(str(s) for s in shapes)}")
    return shapes[0]


def _broadcast(args: Args, shapes: Shapes) -> Shape:
    """Tensors of one shape, where an axis may have a single element for all: 64x1x1 scales channels."""
    largest = max(shapes, key=lambda s: s.size)
    for shape in shapes:
        same_axes = len(shape.dims) == len(largest.dims)
        if not same_axes or any(d not in (1, m) for d, m in zip(shape.dims, largest.dims, strict=True)):
            raise ShapeError(f"shapes differ: {', '.join(str(s) for s in shapes)}")
    return largest


def _concat_output(args: Args, shapes: Shapes) -> Shape:
    if any(s.dims[1:] != shapes[0].dims[1:] for s in shapes):
        raise ShapeError(f"resolutions differ: {', '.join(str(s) for s in shapes)}")
    return shapes[0].with_channels(sum(s.channels for s in shapes))


def _unchanged(args: Args, shapes: Shapes) -> Shape:
    return shapes[0]


# ---- the table

_KERNEL = Parameter("kernel", "size", least=1)
_BIAS = Parameter("bias", "bias", False)

PRIMITIVES: dict[str, Primitive] = {
    p.name: p
    for p in (
        Primitive(
            "Conv",
            "Two-dimensional convolution to `width` channels; keeps the resolution at stride 1 by default.",
            (
                Parameter("width", "int", least=1),
                _KERNEL,
                Parameter("stride", "size", 1, least=1),
                Parameter("padding", "size", None, least=0),
                Parameter("groups", "int", 1, least=1),
                Parameter("dilation", "size", 1, least=1),
                _BIAS,
            ),
            _conv_output,
            label="conv",
            weights=_conv_weights,
            macs=_conv_macs,
            is_layer=True,
            complete=_same_padding,
        ),
        Primitive(
            "BatchNorm",
            "Batch normalisation with learned scale and shift (Ioffe and Szegedy, arXiv:1502.03167).",
            (Parameter("eps", "number", Fraction(1, 100000), least=0, most=1),),
            _normalised,
            label="bn",
            weights=_norm_weights,
            has_mode=True,
        ),
        Primitive("ReLU", "max(x, 0).", (), _unchanged),
        Primitive(
            "ELU",
            "x where it is positive, alpha (exp(x) - 1) elsewhere (Clevert and others, arXiv:1511.07289).",
            (Parameter("alpha", "number", 1, least=0, most=100),),
            _unchanged,
        ),
        Primitive("Sigmoid", "1 / (1 + exp(-x)): a gate between 0 and 1.", (), _unchanged),
        Primitive("Tanh", "Hyperbolic tangent.", (), _unchanged),
        Primitive(
            "Maxout",
            "The largest of every `pieces` neighbouring channels (Goodfellow and others, arXiv:1302.4389).",
            (Parameter("pieces", "int", least=2),),
            _maxout,
            in_list=False,
        ),
        Primitive(
            "LocalResponseNorm",
            "Divides by the activity of `size` neighbouring channels (Krizhevsky and others, 2012, section 3.3).",
            (
                Parameter("size", "int", least=1),
                Parameter("alpha", "number", Fraction(1, 10000), least=0, most=1000),
                Parameter("beta", "number", Fraction(3, 4), least=0, most=1000),
                Parameter("k", "number", 1, least=0, most=1000),
            ),
            _normalised,
        ),
        Primitive(
            "Dropout",
            "Zeroes each element with probability `p` in training and scales the rest by 1 / (1 - p).",
            (Parameter("p", "number", least=0, most=1),),
            _unchanged,
            label="dropout",
            has_mode=True,
        ),
        Primitive(
            "MaxPool",
            "Maximum over a window; the stride is the kernel unless given. `ceil` keeps a last, partial window.",
            (
                _KERNEL,
                Parameter("stride", "size", None, least=1),
                Parameter("padding", "size", 0, least=0),
                Parameter("ceil", "bool", False),
            ),
            _pool_output,
            complete=_pool_stride,
        ),
        Primitive(
            "AvgPool",
            "Mean over a window; the stride is the kernel unless given. `ceil` keeps a last, partial window.",
            (
                _KERNEL,
                Parameter("stride", "size", None, least=1),
                Parameter("padding", "size", 0, least=0),
                Parameter("ceil", "bool", False),
            ),
            _pool_output,
            complete=_pool_stride,
        ),
        Primitive(
            "AdaptiveAvgPool",
            "Mean over windows that give `size` rows and columns.",
            (Parameter("size", "size", least=1),),
            _adaptive,
        ),
        Primitive(
            "Survival",
            "Keeps its input with probability `p`, one draw for a whole batch in training; evaluation multiplies "
            "by `p` (Huang and others, arXiv:1603.09382).",
            (Parameter("p", "number", least=0, most=1),),
            _unchanged,
            label="drop",
            has_mode=True,
        ),
        Primitive(
            "Mask",
            "Keeps each element with probability `keep` in training; evaluation multiplies by it (Singh and others, "
            "arXiv:1605.06465).",
            (Parameter("keep", "number", least=0, most=1),),
            _unchanged,
            label="mask",
            has_mode=True,
        ),
        Primitive(
            "GlobalAvgPool",
            "Mean over height and width: feature maps to a vector.",
            (),
            lambda args, shapes: Shape((_maps(shapes, "global pooling").channels,)),
            in_list=False,
        ),
        Primitive("Flatten", "Feature maps to a vector.", (), lambda args, shapes: Shape((shapes[0].size,))),
        Primitive(
            "Linear",
            "Fully connected layer to `width` values.",
            (Parameter("width", "int", least=1), Parameter("bias", "bias", True)),
            _linear_output,
            label="fc",
            weights=_linear_weights,
            macs=lambda args, shapes, output: output.channels * shapes[0].channels,
            is_layer=True,
        ),
        Primitive(
            "Subsample",
            "Every `stride`-th pixel of every row and column.",
            (Parameter("stride", "int", least=1),),
            _subsample,
            in_list=False,
        ),
        Primitive(
            "PadChannels",
            "Appends channels of zeros up to `width`: shortcut A of residual networks (arXiv:1512.03385, section 4.2).",
            (Parameter("width", "int", least=1),),
            _pad_channels,
            in_list=False,
        ),
        Primitive("Identity", "The input itself.", (), _unchanged),
        Primitive("add", "The sum of tensors of one shape: `a + b`.", (), _all_equal),
        Primitive(
            "multiply",
            "The product of tensors of one shape, element by element: `a * b`. A factor may have one element for all "
            "of an axis: 64x1x1 scales 64x8x8 by channels.",
            (),
            _broadcast,
        ),
        Primitive("mean", "The mean of tensors of one shape: `mean { a, b }`.", (), _all_equal),
        Primitive(
            "DropPath",
            "`mean(drop_path=0.15) { a, b }`: the mean of tensors of one shape; in training each is left out with "
            "probability `drop_path`, but never all. With probability `one_column` a batch takes one path through all "
            "such means of a network (Larsson and others, arXiv:1605.07648, section 3).",
            (
                Parameter("drop_path", "number", 0, least=0, most=1),
                Parameter("one_column", "number", 0, least=0, most=1),
            ),
            _all_equal,
            label="join",
            has_mode=True,
        ),
        Primitive(
            "affine",
            "scale x + offset, with numbers: `1 - x`, `0.5 * x`.",
            (Parameter("scale", "number"), Parameter("offset", "number")),
            _unchanged,
        ),
        Primitive(
            "concat", "Tensors of one resolution, channels after channels: `concat { a, b }`.", (), _concat_output
        ),
    )
}

OPERATORS = frozenset({"add", "multiply", "mean", "concat", "affine", "DropPath"})
"""Primitives that the language writes as operators."""


def parameters_of(kind: str, args: Args, shapes: Shapes) -> int:
    """Number of learned parameters of a layer."""
    total = 0
    for _, dims in PRIMITIVES[kind].weights(args, shapes):
        total += Shape(dims).size
    return total


def check_argument(parameter: Parameter, value: object) -> tuple[Scalar, str | None]:
    """The value as the primitive takes it, and what was expected if it cannot be taken."""
    if value is None and parameter.default is None:
        return None, None
    match parameter.type:
        case "bool":
            return (value, None) if isinstance(value, bool) else (None, "true or false")
        case "bias":
            return (value, None) if isinstance(value, int | Fraction) else (None, "true, false or a number")
        case "number":
            if isinstance(value, int | Fraction) and not isinstance(value, bool):
                low, high = parameter.least, parameter.most
                if (low is None or value >= low) and (high is None or value <= high):
                    return value, None
            return None, f"a number from {parameter.least} to {parameter.most}"
        case "int" | "size":
            least = parameter.least or 0
            parts = value if isinstance(value, tuple) and len(value) == 2 and parameter.type == "size" else (value,)
            whole = tuple(_whole(v) for v in parts)
            if any(w is None or w < least or w >= LARGEST for w in whole):
                pair_too = " or a pair of them" if parameter.type == "size" else ""
                large = any(w is not None and w >= LARGEST for w in whole)
                return None, f"a whole number of at least {least}{' and below 2^31' if large else ''}{pair_too}"
            sizes = tuple(w for w in whole if w is not None)
            return (sizes[0] if len(set(sizes)) == 1 else sizes), None


def _whole(value: object) -> int | None:
    if isinstance(value, bool):
        return None
    if isinstance(value, Fraction) and value.denominator == 1:
        return int(value)
    return value if isinstance(value, int) else None
