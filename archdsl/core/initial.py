"""The settings of an `init` clause: how the weights of a network start."""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction

from archdsl.core.ir import Block, Layer, applications, blocks_of
from archdsl.core.recipe import Setting, one_of
from archdsl.core.types import Scalar

DRAWN = ("he_fan_out", "he_fan_in", "xavier", "lecun", "torch")
"""How weights are drawn, beside a normal distribution of a stated deviation.

He: normal, variance 2 / fan (arXiv:1502.01852). Xavier: uniform, variance 2 / (fan in + fan out) (Glorot and Bengio,
AISTATS 2010). LeCun: uniform, variance 1 / fan in, which is what Caffe calls xavier. Torch: uniform, variance
1 / (3 fan in), as PyTorch and Torch7 draw them.
"""


def _drawn(name: str, default: str, doc: str) -> Setting:
    expected = f"{', '.join(DRAWN)}, or the deviation of a normal distribution"
    return Setting(name, default, expected, lambda v: v in DRAWN or _is_deviation(v), doc, DRAWN)


def _is_deviation(value: object) -> bool:
    return isinstance(value, int | Fraction) and not isinstance(value, bool) and 0 <= value <= 100


INITIAL: dict[str, Setting] = {
    s.name: s
    for s in (
        _drawn("conv", "he_fan_out", "weights of convolutions"),
        _drawn("linear", "torch", "weights of linear layers"),
        one_of("conv_bias", ("zero", "torch"), "biases of convolutions that have no value of their own in the spec"),
        one_of("linear_bias", ("zero", "torch"), "biases of linear layers, the same"),
        one_of("scale", ("one", "uniform"), "scales of batch normalisation: ones, or drawn from 0 to 1"),
    )
}


_NEEDS = {
    "conv": ("Conv", "there are no convolutions"),
    "linear": ("Linear", "there are no linear layers"),
    "conv_bias": ("Conv", "no convolution has a bias without a value of its own"),
    "linear_bias": ("Linear", "no linear layer has a bias without a value of its own"),
    "scale": ("BatchNorm", "there is no batch normalisation"),
}
"""The layers that a setting is for, and what to say if a network has none of them."""


def idle_start(root: Block) -> dict[str, str]:
    """The settings that have no effect on a network, each with its message."""
    layers = [a.module for b in blocks_of(root) for a in applications(b.body) if isinstance(a.module, Layer)]
    found = {}
    for name, (kind, problem) in _NEEDS.items():
        is_bias = name.endswith("_bias")
        if not any(layer.kind == kind and (not is_bias or layer.arg("bias") is True) for layer in layers):
            found[name] = f"`{name}` does nothing: {problem}"
    return found


def start_of(*clauses: Mapping[str, Scalar]) -> tuple[tuple[str, Scalar], ...]:
    """The settings of clauses, of which later ones win."""
    settings: dict[str, Scalar] = {s.name: s.default for s in INITIAL.values()}
    for clause in clauses:
        settings |= clause
    return tuple(settings.items())
