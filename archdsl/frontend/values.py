"""Compile-time values and exact arithmetic on them."""

from __future__ import annotations

import operator
from collections.abc import Callable
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, TypeAlias

from archdsl.base import limits
from archdsl.base.diagnostics import error
from archdsl.base.source import Span
from archdsl.base.suggest import dashed
from archdsl.core.data import DataSet
from archdsl.core.ir import Ref
from archdsl.core.primitives import Primitive
from archdsl.core.types import Shape, scalar_text
from archdsl.frontend.syntax import Block, Net, Recipe


@dataclass(frozen=True, slots=True)
class Choice:
    """One of the names that a parameter lists: `A` of `shortcut: A | B`."""

    name: str


@dataclass(frozen=True, slots=True)
class Tensor:
    """A value of the network being built."""

    ref: Ref
    shape: Shape
    owner: int
    """The region it belongs to: see `Builder`."""


@dataclass(frozen=True, slots=True)
class Template:
    """A block with some of its arguments; it becomes a module when it is applied to a tensor."""

    callee: Block | Net | Primitive
    args: tuple[tuple[str, Value], ...] = ()
    spans: tuple[tuple[str, Span], ...] = field(default=(), compare=False)
    """Where each argument was written."""

    def span_of(self, name: str) -> Span | None:
        return next((span for n, span in self.spans if n == name), None)

    @property
    def name(self) -> str:
        return self.callee.name


@dataclass(frozen=True, slots=True)
class Unknown:
    """The value of a name whose definition is wrong: whoever reads it is silent, for one mistake is one error."""


@dataclass(frozen=True, slots=True, eq=False)
class Shared:
    """A module with weights of its own that is applied more than once."""

    name: str
    template: Template
    span: Span


@dataclass(frozen=True, slots=True)
class RecipeValue:
    """How to train, by name."""

    definition: Recipe

    @property
    def name(self) -> str:
        return self.definition.name


Value: TypeAlias = (
    "int | Fraction | bool | str | Choice | Unknown | Tensor | Template | Shared | RecipeValue | DataSet | Shape"
    " | tuple[Value, ...] | None"
)


def describe(value: Value) -> str:
    """A value in a message: what kind it is, and which where that is short."""
    match value:
        case None:
            return "`none`"
        case Unknown():
            return "a value that is wrong"
        case bool():
            return "`true`" if value else "`false`"
        case int() | Fraction():
            return scalar_text(value)
        case str():
            return f'the text "{value}"'
        case Choice(name):
            return f"`{name}`"
        case Tensor(shape=shape):
            return f"a tensor of shape {shape}"
        case Template():
            return f"the block `{value.name}`"
        case Shared(name):
            return f"the shared module `{name}`"
        case RecipeValue():
            return f"the recipe `{value.name}`"
        case DataSet(name):
            return f"the data set `{name}`"
        case Shape():
            return f"the shape {value}"
        case tuple():
            text = show(value)
            return f"the list {text}" if len(text) < 60 else f"a list of {len(value)} values"


def show(value: Value) -> str:
    """A value as a spec writes it."""
    match value:
        case None:
            return "none"
        case bool():
            return "true" if value else "false"
        case tuple():
            return f"[{', '.join(show(v) for v in value)}]"
        case int() | Fraction():
            return scalar_text(value)
        case Choice(name) | DataSet(name) | Shared(name):
            return name
        case RecipeValue():
            return value.name
        case Template(callee, args):
            rest = next((p.name for p in getattr(callee, "params", ()) if p.rest), None)
            words = [
                ", ".join(show(v) for v in value)
                if name == rest and isinstance(value, tuple)
                else f"{name}={show(value)}"
                for name, value in args
            ]
            return f"{callee.name}({', '.join(words)})" if words else callee.name
        case Tensor(shape=shape):
            return str(shape)
        case Unknown():
            return "?"
        case str() | Shape():
            return str(value)


def is_number(value: Value) -> bool:
    return isinstance(value, int | Fraction) and not isinstance(value, bool)


_ARITHMETIC: dict[str, Callable[[Any, Any], Any]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "/": operator.truediv,
    "//": operator.floordiv,
    "%": operator.mod,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


def arithmetic(symbol: str, left: Value, right: Value, span: Span) -> Value:
    """Exact arithmetic on numbers, concatenation of lists, comparison. Raises ArchError."""
    if symbol in ("==", "!="):
        return _equal(left, right) == (symbol == "==")
    if symbol == "in":
        if not isinstance(right, tuple):
            raise error("not-a-value", span, expected="a list after `in`", found=describe(right))
        return any(_equal(left, item) for item in right)
    if symbol == "+" and isinstance(left, tuple) and isinstance(right, tuple):
        return bounded(left + right, span)
    if not (is_number(left) and is_number(right)):
        help = dashed(span) if symbol == "-" and isinstance(left, Template) else None
        raise error("bad-operand", span, operator=symbol, left=describe(left), right=describe(right), help=help)
    if symbol in ("/", "//", "%") and right == 0:
        raise error("zero-division", span)
    if symbol == "/" and isinstance(left, int) and isinstance(right, int):
        if left % right:
            help = f"`{left} // {right}` rounds down; `{left}.0 / {right}` is a rational number"
            raise error("inexact", span, left=left, right=right, help=help)
        return left // right
    result = _ARITHMETIC[symbol](left, right)
    assert isinstance(result, int | Fraction)
    if limits.too_large(result):
        raise error("too-large", span, problem="a number beyond 64 bits")
    return result


def bounded(value: Value, span: Span) -> Value:
    """A list or a template, which may hold others many times over. Raises ArchError where it holds too much."""
    if size(value) > limits.LIST:
        raise error("too-large", span, problem=f"a list of more than {limits.LIST:,} values")
    return value


def size(value: Value) -> int:
    """The values in a list, and the arguments in a template: what is inside them counts as often as it is there."""
    match value:
        case tuple():
            inner = value
        case Template():
            inner = tuple(v for _, v in value.args)
        case _:
            return 1
    total = 1
    for one in inner:
        total += size(one)
        if total > limits.LIST:
            break
    return total


def _equal(left: Value, right: Value) -> bool:
    if isinstance(left, bool) != isinstance(right, bool):
        return False
    return left == right
