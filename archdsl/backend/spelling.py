"""How PyTorch spells each primitive: as a module that is made once, and as an operation on tensors.

The keys are those of core/primitives.py; a second back end would be a second file like this one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from archdsl.backend.pymodel import Call, Expr, call, text
from archdsl.core.ir import Apply, Layer

Texts: TypeAlias = dict[str, str]
"""Arguments as Python expressions; `in_channels` is among them."""


@dataclass(frozen=True, slots=True)
class Spelling:
    """`module` makes the module, `apply` writes the operation on operands. A layer with weights has only the first."""

    module: Callable[[Texts], Expr] | None
    apply: Callable[[Texts, tuple[Expr, ...]], Expr] | None
    support: str = ""
    """The class that it needs in the generated file: a file of templates/support/."""
    begin: Callable[[Sequence[Apply]], str | None] = lambda steps: None
    """What the network does before each batch in training, given all applications of the layer in it."""


def _sizes(func: str, positional: list[str], options: list[tuple[str, str, str]]) -> Call:
    """A call whose options are written where they differ from PyTorch's default."""
    args: list[tuple[str, Expr]] = [("", p) for p in positional]
    for name, value, default in options:
        if value != default:
            args.append(("" if name == "stride" == value else f"{name}=", value))
    return Call(func, tuple(args))


def _conv(a: Texts) -> Expr:
    options = [
        ("stride", a["stride"], "1"),
        ("padding", a["padding"], "0"),
        ("dilation", a["dilation"], "1"),
        ("groups", a["groups"], "1"),
        ("bias", _bias(a), "True"),
    ]
    return _sizes("nn.Conv2d", [a["in_channels"], a["width"], a["kernel"]], options)


def _bias(a: Texts) -> str:
    """A bias with a value of its own at the start is a bias; `construct` sets the value."""
    return a["bias"] if a["bias"] in ("True", "False") else "True"


def _pool(module: str, function: str) -> Spelling:
    def options(a: Texts) -> list[tuple[str, str, str]]:
        options = [("stride", a["stride"], a["kernel"]), ("padding", a["padding"], "0")]
        return [*options, ("ceil_mode", a.get("ceil", "False"), "False")]

    return Spelling(
        lambda a: _sizes(module, [a["kernel"]], options(a)),
        lambda a, x: Call(function, (("", x[0]), *_sizes("", [a["kernel"]], options(a)).args)),
    )


def _slice(a: Texts, x: tuple[Expr, ...]) -> Expr:
    step = a["stride"]
    every = f"::{step}" if step.isdigit() else f":: {step}"
    return Call(_atom(x[0]), (("", ":"), ("", ":"), ("", every), ("", every)), "]", "[")


def _atom(x: Expr) -> str:
    written = text(x)
    return f"({written})" if " " in written and not isinstance(x, Call) else written


def _pad(a: Texts, x: tuple[Expr, ...]) -> Expr:
    extra = _difference(a["width"], a["in_channels"])
    return call("F.pad", x[0], f"(0, 0, 0, 0, 0, {extra})")


def _difference(a: str, b: str) -> str:
    return str(int(a) - int(b)) if a.isdigit() and b.isdigit() else f"{a} - {b}"


def _joined(symbol: str) -> Callable[[Texts, tuple[Expr, ...]], Expr]:
    def write(a: Texts, x: tuple[Expr, ...]) -> Expr:
        return f" {symbol} ".join(text(v) if symbol == "+" else _atom(v) for v in x)

    return write


def _maxout(a: Texts, x: tuple[Expr, ...]) -> Expr:
    pieces = call(f"{_atom(x[0])}.unflatten", "1", f"(-1, {a['pieces']})")
    return call(f"{text(pieces)}.amax", "2")


def _lrn(a: Texts) -> list[tuple[str, str, str]]:
    return [("alpha", a["alpha"], "0.0001"), ("beta", a["beta"], "0.75"), ("k", a["k"], "1")]


def _affine(a: Texts, x: tuple[Expr, ...]) -> Expr:
    if (a["scale"], a["offset"]) == ("1", "0"):
        return x[0]
    value = _atom(x[0])
    if a["scale"] == "-1":
        return f"{a['offset']} - {value}" if a["offset"] != "0" else f"-{value}"
    scaled = value if a["scale"] == "1" else f"{a['scale']} * {value}"
    return scaled if a["offset"] == "0" else f"{scaled} + {a['offset']}"


FRESH = frozenset({"Conv", "BatchNorm", "Linear", "add"})
"""The results of these are new tensors that no gradient needs: an activation may overwrite what nothing else reads."""

OVERWRITES = frozenset({"ReLU"})
"""Activations that can overwrite their operand: `inplace` is among their arguments."""


def _inplace(a: Texts) -> list[tuple[str, str, str]]:
    return [("inplace", a.get("inplace", "False"), "False")]


def _draw_column(steps: Sequence[Apply]) -> str | None:
    """One column for a whole batch, if any join asks for it; the longest join has them all."""
    asked = any(isinstance(s.module, Layer) and s.module.arg("one_column") for s in steps)
    return f"draw_column(self, {max(len(s.inputs) for s in steps)}, x.device)" if asked else None


SPELLINGS: dict[str, Spelling] = {
    "Conv": Spelling(_conv, None),
    "BatchNorm": Spelling(lambda a: _sizes("nn.BatchNorm2d", [a["in_channels"]], [("eps", a["eps"], "1e-05")]), None),
    "ReLU": Spelling(
        lambda a: _sizes("nn.ReLU", [], _inplace(a)),
        lambda a, x: Call("F.relu", (("", x[0]), *_sizes("", [], _inplace(a)).args)),
    ),
    "ELU": Spelling(
        lambda a: _sizes("nn.ELU", [], [("alpha", a["alpha"], "1")]),
        lambda a, x: Call("F.elu", (("", x[0]), *_sizes("", [], [("alpha", a["alpha"], "1")]).args)),
    ),
    "Sigmoid": Spelling(lambda a: call("nn.Sigmoid"), lambda a, x: call("torch.sigmoid", x[0])),
    "Tanh": Spelling(lambda a: call("nn.Tanh"), lambda a, x: call("torch.tanh", x[0])),
    "Maxout": Spelling(None, _maxout),
    "LocalResponseNorm": Spelling(
        lambda a: _sizes("nn.LocalResponseNorm", [a["size"]], _lrn(a)),
        lambda a, x: Call("F.local_response_norm", (("", x[0]), *_sizes("", [a["size"]], _lrn(a)).args)),
    ),
    "AdaptiveAvgPool": Spelling(
        lambda a: call("nn.AdaptiveAvgPool2d", a["size"]),
        lambda a, x: call("F.adaptive_avg_pool2d", x[0], a["size"]),
    ),
    "Survival": Spelling(lambda a: call("Survival", a["p"]), None, "Survival"),
    "Mask": Spelling(lambda a: call("Mask", a["keep"]), None, "Mask"),
    "Dropout": Spelling(lambda a: call("nn.Dropout", a["p"]), None),
    "MaxPool": _pool("nn.MaxPool2d", "F.max_pool2d"),
    "AvgPool": _pool("nn.AvgPool2d", "F.avg_pool2d"),
    "GlobalAvgPool": Spelling(None, lambda a, x: call(f"{_atom(x[0])}.mean", dim="(2, 3)")),
    "Flatten": Spelling(lambda a: call("nn.Flatten"), lambda a, x: call(f"{_atom(x[0])}.flatten", "1")),
    "Linear": Spelling(
        lambda a: _sizes("nn.Linear", [a["in_channels"], a["width"]], [("bias", _bias(a), "True")]), None
    ),
    "Subsample": Spelling(None, _slice),
    "PadChannels": Spelling(None, _pad),
    "Identity": Spelling(lambda a: call("nn.Identity"), lambda a, x: x[0]),
    "add": Spelling(None, _joined("+")),
    "multiply": Spelling(None, _joined("*")),
    "mean": Spelling(None, lambda a, x: f"({_joined('+')(a, x)}) / {len(x)}"),
    "DropPath": Spelling(
        lambda a: _sizes("DropPath", [a["drop_path"]], [("one_column", a["one_column"], "0")]),
        None,
        "DropPath",
        _draw_column,
    ),
    "affine": Spelling(None, _affine),
    "concat": Spelling(None, lambda a, x: call("torch.cat", Call("", tuple(("", v) for v in x), "]", "["), dim="1")),
}
