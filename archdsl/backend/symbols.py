"""A printed program run on symbols: stand-ins for what it uses of torch, and its classes on top of them.

A symbol is a number modulo a large prime. Sums, products and numbers are computed as such; every layer and every
instance of another class gives a hash of its name and its inputs. What a layer is, is kept beside its name.
"""

from __future__ import annotations
import __future__

import ast
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from hashlib import blake2b
from types import SimpleNamespace
from typing import Any, TypeAlias

from archdsl.core.primitives import PRIMITIVES, pair, same_padding

PRIME = 2**127 - 1

Making: TypeAlias = tuple[object, ...]
"""A layer with its arguments, in one spelling for equal ones."""


# ---- symbols


def hashed(*parts: object) -> int:
    return int.from_bytes(blake2b(repr(parts).encode(), digest_size=15).digest(), "big")


INPUT = hashed("input")


def exact(number: object) -> Fraction:
    """A number as the fraction that was meant: 129 / 130 for what `1 - 1 / 130` rounds to."""
    if isinstance(number, float):
        return Fraction(number).limit_denominator(10**6 if abs(number) > 1e-3 else 10**12)
    assert isinstance(number, int | Fraction)
    return Fraction(number) if number == int(number) else exact(float(number))


def modular(number: object) -> int:
    meant = exact(number)
    return meant.numerator * pow(meant.denominator, -1, PRIME) % PRIME


def making(kind: str, args: dict[str, Any], channels: int | None) -> Making:
    """A layer in one spelling; `channels` are those of the input, where its weights depend on them."""
    spelled: list[object] = []
    if args.get("padding") == "same":
        found = same_padding(args["kernel"], args["dilation"])
        assert args["stride"] == 1 and found, "no padding keeps the resolution"
        args = {**args, "padding": found}
    for parameter in PRIMITIVES[kind].parameters:
        value = args[parameter.name]
        match parameter.type:
            case "size":
                value = pair(value)
            case "bias":
                value = value is not False
            case "number":
                value = exact(value)
            case _:
                pass
        spelled.append(value)
    return (kind, *spelled, channels)


@dataclass(slots=True)
class _Symbol:
    """Stands for a tensor. What overwrites it changes it under all its names."""

    value: int

    def __add__(self, other: object) -> _Symbol:
        return _Symbol((self.value + _value(other)) % PRIME)

    def __sub__(self, other: object) -> _Symbol:
        return _Symbol((self.value - _value(other)) % PRIME)

    def __rsub__(self, other: object) -> _Symbol:
        return _Symbol((_value(other) - self.value) % PRIME)

    def __mul__(self, other: object) -> _Symbol:
        return _Symbol(self.value * _value(other) % PRIME)

    def __truediv__(self, other: object) -> _Symbol:
        return _Symbol(self.value * pow(_value(other), -1, PRIME) % PRIME)

    def __neg__(self) -> _Symbol:
        return _Symbol(-self.value % PRIME)

    __radd__, __rmul__ = __add__, __mul__

    def __getitem__(self, index: object) -> _Symbol:
        match index:
            case (slice(start=None, stop=None, step=None), slice(start=None, stop=None, step=None), rows, columns):
                assert rows == columns and isinstance(rows, slice) and rows.start is rows.stop is None
                return _operation("Subsample", self, stride=rows.step)
            case _:
                raise TypeError(f"no layer is [{index}]")

    @property
    def device(self) -> str:
        return "none"

    def mean(self, dim: tuple[int, int]) -> _Symbol:
        assert dim == (2, 3)
        return _operation("GlobalAvgPool", self)

    def flatten(self, start: int) -> _Symbol:
        assert start == 1
        return _operation("Flatten", self)

    def unflatten(self, dim: int, sizes: tuple[int, int]) -> Any:
        assert dim == 1 and sizes[0] == -1

        def amax(dim: int) -> _Symbol:
            assert dim == 2
            return _operation("Maxout", self, pieces=sizes[1])

        return SimpleNamespace(amax=amax)


@dataclass(slots=True)
class _Shares:
    """Stands for a tensor that has a share of its channels for each of several functions."""

    parts: list[_Symbol]

    def __getitem__(self, index: object) -> _Shares:
        return _Shares([part[index] for part in self.parts])


def _shared(compute: Callable[..., _Symbol]) -> Callable[..., Any]:
    """A function that treats channels alike, of shares too."""

    def each(x: _Symbol | _Shares, *args: Any, **named: Any) -> _Symbol | _Shares:
        if isinstance(x, _Shares):
            return _Shares([compute(part, *args, **named) for part in x.parts])
        return compute(x, *args, **named)

    return each


def _apply_each(modules: list[Callable[[_Symbol], _Symbol]], x: _Symbol | _Shares) -> _Shares:
    parts = x.parts if isinstance(x, _Shares) else [x] * len(modules)
    return _Shares([module(part) for module, part in zip(modules, parts, strict=True)])


def _drop_each(modules: list[Callable[[_Symbol], _Symbol]], x: _Shares) -> _Shares:
    assert isinstance(x, _Shares)
    return _apply_each(modules, x)


def _add_shares(x: _Shares, count: int) -> _Symbol:
    assert len(x.parts) == count
    return _Symbol(sum(part.value for part in x.parts) % PRIME)


def _apply_and_add(modules: list[Callable[[_Symbol], _Symbol]], x: _Shares) -> _Symbol:
    assert isinstance(x, _Shares)
    return _add_shares(_apply_each(modules, x), len(modules))


def _value(operand: object) -> int:
    return operand.value if isinstance(operand, _Symbol) else modular(operand)


def _operation(kind: str, *inputs: _Symbol, **args: Any) -> _Symbol:
    return _Symbol(hashed(making(kind, args, None), *(x.value for x in inputs)))


def _relu(x: _Symbol, inplace: bool = False) -> _Symbol:
    result = _operation("ReLU", x)
    if inplace:
        x.value = result.value
    return result


def _cat(tensors: list[_Symbol], dim: int) -> _Symbol:
    assert dim == 1
    return _Symbol(join("concat", [t.value for t in tensors]))


def _stack(tensors: list[_Symbol]) -> Any:
    def mean(dim: int) -> _Symbol:
        assert dim == 0
        return _Symbol(sum(t.value for t in tensors) % PRIME) / len(tensors)

    return SimpleNamespace(mean=mean)


def _padded(x: _Symbol, sizes: tuple[int, ...]) -> _Symbol:
    assert sizes[:5] == (0, 0, 0, 0, 0) and len(sizes) == 6
    return _Symbol(hashed("pad", sizes[5], x.value))


def join(kind: str, inputs: list[int]) -> int:
    match kind:
        case "add" | "sum":
            return sum(inputs) % PRIME
        case "mean":
            return sum(inputs) * pow(len(inputs), -1, PRIME) % PRIME
        case "multiply":
            product = 1
            for x in inputs:
                product = product * x % PRIME
            return product
        case _:
            return hashed("concat", *inputs) if len(inputs) > 1 else inputs[0]


# ---- modules of the program


class _Part:
    """A module that has a name."""

    path = ""

    def __call__(self, *inputs: _Symbol) -> _Symbol:
        return _Symbol(hashed(self.path, *(x.value for x in inputs)))


class _Made(_Part):
    def __init__(self, making: Making) -> None:
        self.making = making


class _Relu(_Made):
    def __init__(self, inplace: bool) -> None:
        super().__init__(making("ReLU", {}, None))
        self.inplace = inplace

    def __call__(self, *inputs: _Symbol) -> _Symbol:
        result = super().__call__(*inputs)
        if self.inplace:
            inputs[0].value = result.value
        return result


@dataclass(frozen=True, slots=True)
class Instance:
    """A class with arguments."""

    name: str
    args: tuple[object, ...]
    named: tuple[tuple[str, object], ...]


class _Child(_Part):
    def __init__(self, instance: Instance) -> None:
        self.instance = instance


class _Parts:
    """`nn.ModuleList`, and `nn.Sequential` with one argument each."""

    def __init__(self, parts: Iterable[Any]) -> None:
        self.parts = list(parts)

    def __len__(self) -> int:
        return len(self.parts)

    def __iter__(self) -> Iterator[Any]:
        return iter(self.parts)

    def __getitem__(self, index: Any) -> Any:
        return self.parts[index]


class _Parallel(_Parts):
    """`Split`, `Mesh`, or a class that computes several functions as one: the sum of its parts."""

    def __call__(self, x: _Symbol) -> _Symbol:
        return _add_shares(_apply_each(self.parts, x), len(self))


class _Sequential(_Parts):
    def __init__(self, *parts: Any) -> None:
        super().__init__(parts)

    def __call__(self, x: _Symbol) -> _Symbol:
        for part in self.parts:
            x = part(x)
        return x


class _Module:
    """`nn.Module`, which remembers what it is given."""

    training = True

    def __init__(self) -> None:
        object.__setattr__(self, "modules_by_name", {})

    def __setattr__(self, name: str, value: object) -> None:
        if isinstance(value, _Part | _Parts):
            self.add_module(name, value)
        object.__setattr__(self, name, value)

    def add_module(self, name: str, module: object) -> None:
        modules: dict[str, object] = self.modules_by_name  # type: ignore[attr-defined]
        modules[name] = module
        object.__setattr__(self, name, module)

    def apply(self, init: object) -> None:
        pass


def _layer(kind: str, channels: bool = False, **fixed: Any) -> Callable[..., _Made]:
    """A constructor of `torch.nn`: the order of its parameters, and its defaults."""
    names = [*(["in_channels"] if channels else []), *fixed]

    def make(*args: Any, **named: Any) -> _Made:
        given = {**fixed, **dict(zip(names, args, strict=False)), **named}
        assert len(args) <= len(names) and set(given) <= {*names, "in_channels"} and ... not in given.values()
        return _Made(making(kind, _complete(given), given.get("in_channels")))

    return make


def _function(kind: str, **fixed: Any) -> Callable[..., _Symbol]:
    """A function of `torch.nn.functional`, likewise."""
    names = list(fixed)

    def compute(x: _Symbol, *args: Any, **named: Any) -> _Symbol:
        given = {**fixed, **dict(zip(names, args, strict=False)), **named}
        assert len(args) <= len(names) and set(given) <= set(names) and ... not in given.values()
        return _operation(kind, x, **_complete(given))

    return compute


def _complete(given: dict[str, Any]) -> dict[str, Any]:
    """The stride of a pool is its kernel unless given."""
    return {**given, "stride": given["kernel"]} if given.get("stride", 1) is None else given


_POOL: dict[str, Any] = {"kernel": ..., "stride": None, "padding": 0}
_LRN: dict[str, Any] = {"size": ..., "alpha": 1e-4, "beta": 0.75, "k": 1.0}


def _pool(make: Callable[..., Any]) -> Callable[..., Any]:
    def pool(*args: Any, ceil_mode: bool = False, **named: Any) -> Any:
        return make(*args, **named, ceil=ceil_mode)

    return pool


_NN = SimpleNamespace(
    Module=_Module,
    ModuleList=_Parallel,
    Sequential=_Sequential,
    Conv2d=_layer("Conv", True, width=..., kernel=..., stride=1, padding=0, dilation=1, groups=1, bias=True),
    BatchNorm2d=_layer("BatchNorm", True, eps=1e-5),
    Linear=_layer("Linear", True, width=..., bias=True),
    ReLU=lambda inplace=False: _Relu(inplace),
    ELU=_layer("ELU", alpha=1.0),
    Sigmoid=_layer("Sigmoid"),
    Tanh=_layer("Tanh"),
    Dropout=_layer("Dropout", p=...),
    LocalResponseNorm=_layer("LocalResponseNorm", **_LRN),
    MaxPool2d=_pool(_layer("MaxPool", **_POOL, ceil=False)),
    AvgPool2d=_pool(_layer("AvgPool", **_POOL, ceil=False)),
    AdaptiveAvgPool2d=_layer("AdaptiveAvgPool", size=...),
    Flatten=_layer("Flatten"),
    Identity=_layer("Identity"),
)

_FUNCTIONAL = SimpleNamespace(
    relu=_shared(_relu),
    elu=_shared(_function("ELU", alpha=1.0)),
    local_response_norm=_function("LocalResponseNorm", **_LRN),
    max_pool2d=_shared(_pool(_function("MaxPool", **_POOL, ceil=False))),
    avg_pool2d=_shared(_pool(_function("AvgPool", **_POOL, ceil=False))),
    adaptive_avg_pool2d=_function("AdaptiveAvgPool", size=...),
    pad=_padded,
)

_TORCH = SimpleNamespace(sigmoid=_shared(_function("Sigmoid")), tanh=_shared(_function("Tanh")), cat=_cat, stack=_stack)

_SUPPORT: dict[str, Callable[..., object]] = {
    "Survival": _layer("Survival", p=...),
    "Mask": _layer("Mask", keep=...),
    "DropPath": _layer("DropPath", drop_path=..., one_column=0),
    "draw_column": lambda network, columns, device: None,
    "Split": _Parallel,
    "Mesh": _Parallel,
    "convolve_each": _apply_each,
    "normalise_each": _apply_each,
    "drop_each": _drop_each,
    "copies": lambda x, count: _Shares([x] * count),
    "convolve_and_add": _apply_and_add,
    "add_shares": _add_shares,
}


@dataclass(frozen=True, slots=True)
class _Found:
    """What a class makes and computes."""

    made: dict[str, Making | Instance]
    starts: dict[str, Fraction]
    output: int
    heads: list[int]
    evaluated: int


class Program:
    """The classes and functions of a generated file, ready to run on symbols."""

    def __init__(self, text: str, definitions: frozenset[str], starts: tuple[tuple[str, str, str], ...]) -> None:
        tree = ast.parse(text)
        own = [n for n in tree.body if isinstance(n, ast.ClassDef | ast.FunctionDef) and n.name in definitions]
        code = compile(
            ast.Module(body=list(own), type_ignores=[]),
            "model.py",
            "exec",
            flags=__future__.annotations.compiler_flag,
            dont_inherit=True,
        )
        allowed = {f.__name__: f for f in (range, zip, super, getattr, len)}
        names: dict[str, Any] = {"__name__": "model", "nn": _NN, "F": _FUNCTIONAL, "torch": _TORCH, **_SUPPORT}
        names |= {"init_weights": None, "__builtins__": {**allowed, "__build_class__": __build_class__}}
        exec(code, names)
        classes = {n.name: names[n.name] for n in own if isinstance(n, ast.ClassDef)}
        self._classes = {name: c for name, c in classes.items() if issubclass(c, _Module)}
        names |= {name: _constructor(name) for name in self._classes}
        self._starts = starts

    def run(self, instance: Instance) -> _Found:
        """Make an instance of a class, and apply it in training and in evaluation."""
        module = self._classes[instance.name](*instance.args, **dict(instance.named))
        made: dict[str, Making | Instance] = {}
        for name, child in module.modules_by_name.items():
            made.update(_named(child, name))
            if hasattr(child, "forward"):
                self._check_fused(child)
        outputs = module.forward(_Symbol(INPUT))
        output, *heads = outputs if isinstance(outputs, tuple) else (outputs,)
        object.__setattr__(module, "training", False)
        evaluated = module.forward(_Symbol(INPUT))
        starts = {attribute: exact(float(v)) for c, attribute, v in self._starts if c == instance.name}
        return _Found(made, starts, output.value, [h.value for h in heads], evaluated.value)

    def _check_fused(self, functions: Any) -> None:
        """Compare what a list of functions computes as one with the sum of what they compute."""
        made = []
        for i, child in enumerate(functions):
            module = self._classes[child.instance.name](*child.instance.args, **dict(child.instance.named))
            for name, inner in module.modules_by_name.items():
                assert list(_named(inner, f"{i}.{name}"))
            made.append(module)
        for training in (True, False):
            for module in made:
                object.__setattr__(module, "training", training)
            expected = sum(module.forward(_Symbol(INPUT)).value for module in made) % PRIME
            found = type(functions)(made).forward(_Symbol(INPUT))
            assert found.value == expected, f"{type(functions).__name__} computes something else"


def _constructor(name: str) -> Callable[..., _Child]:
    return lambda *args, **named: _Child(Instance(name, args, tuple(sorted(named.items()))))


def _named(module: object, path: str) -> Iterator[tuple[str, Making | Instance]]:
    """Give a module and those in it their names; what each of them is."""
    match module:
        case _Made() | _Child():
            assert not module.path, f"{path} is {module.path}, made once"
            module.path = path
            yield path, module.making if isinstance(module, _Made) else module.instance
        case _Parts():
            for i, part in enumerate(module.parts):
                yield from _named(part, f"{path}.{i}")
        case _:
            raise TypeError(f"{path} is no module")
