"""The printed program compared with the IR: what is written is what the spec says, or nothing is written.

The program runs on symbols instead of tensors (translation validation; Pnueli, Siegel and Singerman, TACAS 1998). A
symbol is a number modulo a large prime. Sums, products and numbers are computed as such, so that two ways to write one
sum are equal; every layer and block gives a hash of its name and its inputs. The IR is walked with the same numbers.
The two agree if they make the same layers under the same names, and end with the same number; that two different
computations do is as likely as a collision of hashes (Schwartz, JACM 1980).

Classes are compared one by one: inside one, an instance of another is a name and its arguments, which must then be
printed right themselves. So the cost follows the number of distinct blocks.
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

from archdsl.base.exhaustive import assert_never
from archdsl.core.ir import Apply, Block, Head, Label, Layer, Loop, Network, Origin, Ref, Region, Select
from archdsl.core.primitives import PRIMITIVES, pair

PRIME = 2**127 - 1


class Unfaithful(Exception):
    """The program does not say what the IR says of one block: the stage that wrote it has a defect."""

    def __init__(self, block: Block, problem: str, lists: frozenset[Origin] = frozenset()) -> None:
        super().__init__(f"the class of {block.name} is not what the spec says: {problem}")
        self.origins = frozenset({block.origin}) | lists
        """The definitions that the class was made from: the block's, and those of the lists in it."""


Making: TypeAlias = tuple[object, ...]
"""A layer with its arguments, in one spelling for equal ones."""


def validate(
    text: str, definitions: Iterable[str], name: str, starts: Iterable[tuple[str, str, str]], network: Network
) -> None:
    """Compare the class `name` of a program, and those that it uses, with the IR. Raises Unfaithful.

    `definitions` are the names of the classes and functions that the back end wrote; nothing else of the text is run.
    `starts` are the biases that do not start at zero: class, attribute and value.
    """
    program = _Program(text, frozenset(definitions), tuple(starts))
    waiting: list[tuple[_Instance, Block]] = [(_Instance(name, (), ()), network.root)]
    done: set[tuple[_Instance, int]] = set()
    while waiting:
        instance, block = waiting.pop()
        if (instance, id(block)) not in done:
            done.add((instance, id(block)))
            waiting += _compare(program, instance, block)


def _compare(program: _Program, instance: _Instance, block: Block) -> Iterator[tuple[_Instance, Block]]:
    """Compare one instance of a class with a block; gives the pairs that are left to compare."""
    expected = _Walk()
    result = expected.region(block.body, 0, {Ref(0, 0): _INPUT}, "", {}, 0)
    lists = frozenset(expected.lists)
    try:
        found = program.run(instance)
    except Exception as problem:  # the program is data here: whatever it raises is a finding
        raise Unfaithful(block, f"{type(problem).__name__}: {problem}", lists) from problem
    for path in {**expected.made, **found.made}:
        mine, theirs = expected.made.get(path), found.made.get(path)
        if isinstance(mine, Block) and isinstance(theirs, _Instance):
            yield theirs, mine
        elif mine != theirs or mine is None:
            raise Unfaithful(block, f"{path} is {theirs}, and should be {mine}", lists)
    if found.starts != expected.starts:
        raise Unfaithful(block, f"biases start at {found.starts}, and should at {expected.starts}", lists)
    if (found.output, found.heads, found.evaluated) != (result, expected.heads, result):
        raise Unfaithful(block, "forward computes something else", lists)


# ---- symbols


def _hashed(*parts: object) -> int:
    return int.from_bytes(blake2b(repr(parts).encode(), digest_size=15).digest(), "big")


_INPUT = _hashed("input")


def _exact(number: object) -> Fraction:
    """A number as the fraction that was meant: 129 / 130 for what `1 - 1 / 130` rounds to."""
    if isinstance(number, float):
        return Fraction(number).limit_denominator(10**6 if abs(number) > 1e-3 else 10**12)
    assert isinstance(number, int | Fraction)
    return Fraction(number) if number == int(number) else _exact(float(number))


def _modular(number: object) -> int:
    exact = _exact(number)
    return exact.numerator * pow(exact.denominator, -1, PRIME) % PRIME


def _making(kind: str, args: dict[str, Any], channels: int | None) -> Making:
    """A layer in one spelling; `channels` are those of the input, where its weights depend on them."""
    spelled: list[object] = []
    if args.get("padding") == "same":
        kernel, dilation = pair(args["kernel"]), pair(args["dilation"])
        assert args["stride"] == 1 and all(d * (k - 1) % 2 == 0 for k, d in zip(kernel, dilation, strict=True))
        args = {**args, "padding": tuple(d * (k - 1) // 2 for k, d in zip(kernel, dilation, strict=True))}
    for parameter in PRIMITIVES[kind].parameters:
        value = args[parameter.name]
        match parameter.type:
            case "size":
                value = pair(value)
            case "bias":
                value = value is not False
            case "number":
                value = _exact(value)
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


def _value(operand: object) -> int:
    return operand.value if isinstance(operand, _Symbol) else _modular(operand)


def _operation(kind: str, *inputs: _Symbol, **args: Any) -> _Symbol:
    return _Symbol(_hashed(_making(kind, args, None), *(x.value for x in inputs)))


def _relu(x: _Symbol, inplace: bool = False) -> _Symbol:
    result = _operation("ReLU", x)
    if inplace:
        x.value = result.value
    return result


def _cat(tensors: list[_Symbol], dim: int) -> _Symbol:
    assert dim == 1
    return _Symbol(_join("concat", [t.value for t in tensors]))


def _stack(tensors: list[_Symbol]) -> Any:
    def mean(dim: int) -> _Symbol:
        assert dim == 0
        return _Symbol(sum(t.value for t in tensors) % PRIME) / len(tensors)

    return SimpleNamespace(mean=mean)


def _padded(x: _Symbol, sizes: tuple[int, ...]) -> _Symbol:
    assert sizes[:5] == (0, 0, 0, 0, 0) and len(sizes) == 6
    return _Symbol(_hashed("pad", sizes[5], x.value))


# ---- modules of the program


class _Part:
    """A module that has a name."""

    path = ""

    def __call__(self, *inputs: _Symbol) -> _Symbol:
        return _Symbol(_hashed(self.path, *(x.value for x in inputs)))


class _Made(_Part):
    def __init__(self, making: Making) -> None:
        self.making = making


class _Relu(_Made):
    def __init__(self, inplace: bool) -> None:
        super().__init__(_making("ReLU", {}, None))
        self.inplace = inplace

    def __call__(self, *inputs: _Symbol) -> _Symbol:
        result = super().__call__(*inputs)
        if self.inplace:
            inputs[0].value = result.value
        return result


@dataclass(frozen=True, slots=True)
class _Instance:
    """A class with arguments."""

    name: str
    args: tuple[object, ...]
    named: tuple[tuple[str, object], ...]


class _Child(_Part):
    def __init__(self, instance: _Instance) -> None:
        self.instance = instance


class _Parts:
    """`nn.ModuleList`, and `nn.Sequential` with one argument each."""

    def __init__(self, parts: Iterable[Any]) -> None:
        self.parts = list(parts)

    def __iter__(self) -> Iterator[Any]:
        return iter(self.parts)

    def __getitem__(self, index: Any) -> Any:
        return self.parts[index]


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
        return _Made(_making(kind, _complete(given), given.get("in_channels")))

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
    ModuleList=_Parts,
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
    relu=_relu,
    elu=_function("ELU", alpha=1.0),
    local_response_norm=_function("LocalResponseNorm", **_LRN),
    max_pool2d=_pool(_function("MaxPool", **_POOL, ceil=False)),
    avg_pool2d=_pool(_function("AvgPool", **_POOL, ceil=False)),
    adaptive_avg_pool2d=_function("AdaptiveAvgPool", size=...),
    pad=_padded,
)

_TORCH = SimpleNamespace(sigmoid=_function("Sigmoid"), tanh=_function("Tanh"), cat=_cat, stack=_stack)

_SUPPORT: dict[str, Callable[..., object]] = {
    "Survival": _layer("Survival", p=...),
    "Mask": _layer("Mask", keep=...),
    "DropPath": _layer("DropPath", drop_path=..., one_column=0),
    "draw_column": lambda network, columns, device: None,
}


@dataclass(frozen=True, slots=True)
class _Found:
    """What a class makes and computes."""

    made: dict[str, Making | _Instance]
    starts: dict[str, Fraction]
    output: int
    heads: list[int]
    evaluated: int


class _Program:
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
        self._classes = {n.name: names[n.name] for n in own if isinstance(n, ast.ClassDef)}
        names |= {name: _constructor(name) for name in self._classes}
        self._starts = starts

    def run(self, instance: _Instance) -> _Found:
        """Make an instance of a class, and apply it in training and in evaluation."""
        module = self._classes[instance.name](*instance.args, **dict(instance.named))
        made: dict[str, Making | _Instance] = {}
        for name, child in module.modules_by_name.items():
            made.update(_named(child, name))
        outputs = module.forward(_Symbol(_INPUT))
        output, *heads = outputs if isinstance(outputs, tuple) else (outputs,)
        object.__setattr__(module, "training", False)
        evaluated = module.forward(_Symbol(_INPUT))
        starts = {attribute: _exact(float(v)) for c, attribute, v in self._starts if c == instance.name}
        return _Found(made, starts, output.value, [h.value for h in heads], evaluated.value)


def _constructor(name: str) -> Callable[..., _Child]:
    return lambda *args, **named: _Child(_Instance(name, args, tuple(sorted(named.items()))))


def _named(module: object, path: str) -> Iterator[tuple[str, Making | _Instance]]:
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


# ---- the IR on the same symbols


class _Walk:
    """A block of the IR, applied to symbols."""

    def __init__(self) -> None:
        self.made: dict[str, Making | Block] = {}
        self.starts: dict[str, Fraction] = {}
        self.heads: list[int] = []
        self.lists: set[Origin] = set()

    def region(
        self, region: Region, level: int, outer: dict[Ref, int], prefix: str, counters: dict[str, int], shift: int
    ) -> int:
        """The value of a region. `counters` number the elements of lists, `shift` the iterations of a run."""
        values = dict(outer)
        for i, step in enumerate(region.steps, 1):
            match step:
                case Apply():
                    result = self._apply(step, [values[r] for r in step.inputs], prefix, counters, shift)
                case Select():
                    result = self.region(step.region, level + 1, values, prefix, counters, shift)
                case Loop():
                    result = self._loop(step, level, values, prefix, counters, shift)
                case Head():
                    result = self.region(step.region, level + 1, values, prefix, counters, shift)
                    self.heads.append(result)
                case _:
                    assert_never(step)
            values[Ref(level, i)] = result
        return values[region.output]

    def _loop(
        self, loop: Loop, level: int, values: dict[Ref, int], prefix: str, counters: dict[str, int], shift: int
    ) -> int:
        x = values[loop.input]
        results: list[int] = []
        inner = dict(values)
        for run in loop.runs:
            for j in range(run.count):
                inner[Ref(level + 1, 0)] = x
                results.append(self.region(run.region, level + 1, inner, prefix, counters, shift + j))
                x = results[-1] if loop.kind == "sequence" else x
        return x if loop.kind == "sequence" else _join(loop.kind, results)

    def _apply(self, step: Apply, inputs: list[int], prefix: str, counters: dict[str, int], shift: int) -> int:
        path = f"{prefix}{_name(step.label, counters, shift)}" if step.label else ""
        module = step.module
        if isinstance(module, Block):
            if module.style == "sequence":
                self.lists.add(module.origin)
                return self.region(module.body, 0, {Ref(0, 0): inputs[0]}, f"{path}.", {}, 0)
            self.made[path] = module
            return _hashed(path, *inputs)
        if not path:
            return _compute(module, inputs, step)
        weighted = module.kind in ("Conv", "BatchNorm", "Linear")
        self.made[path] = _making(module.kind, dict(module.args), step.shapes[0].channels if weighted else None)
        start = dict(module.args).get("bias")
        if weighted and start is not None and not isinstance(start, bool):
            self.starts[path] = _exact(start)
        return _hashed(path, *inputs)


def _name(label: Label, counters: dict[str, int], shift: int) -> str:
    if label.style == "plain":
        return label.stem
    if label.style == "index":
        return f"{label.stem}{label.index + shift}"
    number = counters.get(label.stem, 0)
    counters[label.stem] = number + 1
    return f"{label.stem}.{number}" if label.style == "item" else str(number)


def _compute(layer: Layer, inputs: list[int], step: Apply) -> int:
    """A layer without a name of its own."""
    args = dict(layer.args)
    match layer.kind:
        case "add" | "mean" | "multiply" | "concat":
            return _join(layer.kind, inputs)
        case "affine":
            return (_modular(args["scale"]) * inputs[0] + _modular(args["offset"])) % PRIME
        case "PadChannels":
            return _hashed("pad", step.output.channels - step.shapes[0].channels, inputs[0])
        case "Identity":
            return inputs[0]
        case _:
            return _hashed(_making(layer.kind, args, None), *inputs)


def _join(kind: str, inputs: list[int]) -> int:
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
            return _hashed("concat", *inputs) if len(inputs) > 1 else inputs[0]
