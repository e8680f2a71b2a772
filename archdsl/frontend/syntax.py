"""The syntax tree: what was written, with a span on every node and no meaning yet."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Literal, TypeAlias

from archdsl.base.source import Source, Span

# Every node has its span first. Nodes compare by identity: a node is a place in a file.


@dataclass(frozen=True, slots=True, eq=False)
class Number:
    span: Span
    value: int | Fraction


@dataclass(frozen=True, slots=True, eq=False)
class String:
    span: Span
    value: str


@dataclass(frozen=True, slots=True, eq=False)
class Constant:
    """`true`, `false` or `none`."""

    span: Span
    value: bool | None


@dataclass(frozen=True, slots=True, eq=False)
class ShapeLiteral:
    """`3x32x32`."""

    span: Span
    dims: tuple[int, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Name:
    span: Span
    name: str


@dataclass(frozen=True, slots=True, eq=False)
class Input:
    """`in`: what the innermost braces are applied to."""

    span: Span


@dataclass(frozen=True, slots=True, eq=False)
class ListExpr:
    """`[a, b]`: a list of values, or, with a label, modules one after the other."""

    span: Span
    items: tuple[Expr, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Attribute:
    span: Span
    owner: Expr
    name: str


@dataclass(frozen=True, slots=True, eq=False)
class Index:
    span: Span
    owner: Expr
    index: Expr


@dataclass(frozen=True, slots=True, eq=False)
class Argument:
    span: Span
    name: str | None
    value: Expr
    spread: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class Call:
    span: Span
    callee: Expr
    args: tuple[Argument, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Multiply:
    """`B(3,3)x[k=4]`: a residual block of parallel residual functions."""

    span: Span
    callee: Expr
    args: tuple[Argument, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Unary:
    span: Span
    operator: Literal["-", "not"]
    operand: Expr


@dataclass(frozen=True, slots=True, eq=False)
class Binary:
    """Arithmetic, comparison (`in` included) and logic."""

    span: Span
    operator: str
    left: Expr
    right: Expr


@dataclass(frozen=True, slots=True, eq=False)
class If:
    span: Span
    condition: Expr
    then: Expr
    otherwise: Expr


@dataclass(frozen=True, slots=True, eq=False)
class Chain:
    """`head -> step -> step`."""

    span: Span
    head: Expr
    steps: tuple[Expr, ...]


@dataclass(frozen=True, slots=True, eq=False)
class LabelName:
    """`conv1:`, `layer{i + 1}:` or `branches[i]:`."""

    span: Span
    stem: str
    style: Literal["plain", "index", "item"]
    index: Expr | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Labelled:
    span: Span
    label: LabelName
    body: Expr


@dataclass(frozen=True, slots=True, eq=False)
class Group:
    """`{ statements }`: a scope with its own `in`."""

    span: Span
    body: tuple[Statement, ...]


LoopKind: TypeAlias = Literal["sequence", "sum", "concat"]


@dataclass(frozen=True, slots=True, eq=False)
class Loop:
    """`repeat n as i {}`, `for i, w in list {}`, and the parallel `sum n as i {}`, `concat for w in list {}`..."""

    span: Span
    kind: LoopKind
    count: Expr | None
    items: Expr | None
    index: str | None
    item: str | None
    body: Group


@dataclass(frozen=True, slots=True, eq=False)
class Join:
    """`concat { a, b }` and `sum { a, b }`: branches that read the same input."""

    span: Span
    kind: LoopKind
    branches: tuple[Expr, ...]


Expr: TypeAlias = (
    Number
    | String
    | Constant
    | ShapeLiteral
    | Name
    | Input
    | ListExpr
    | Attribute
    | Index
    | Call
    | Multiply
    | Unary
    | Binary
    | If
    | Chain
    | Labelled
    | Group
    | Loop
    | Join
)


# ---- statements


@dataclass(frozen=True, slots=True, eq=False)
class Let:
    span: Span
    name: str
    name_span: Span
    value: Expr


@dataclass(frozen=True, slots=True, eq=False)
class Share:
    """`share f = Block()`: one module, whose weights every use of `f` shares."""

    span: Span
    name: str
    name_span: Span
    value: Expr


@dataclass(frozen=True, slots=True, eq=False)
class Require:
    span: Span
    condition: Expr
    message: String


@dataclass(frozen=True, slots=True, eq=False)
class Expect:
    """`expect params 36.5M`; `figure` is the text of the number, whose digits say how exact it is."""

    span: Span
    what: str
    what_span: Span
    figure: str
    figure_span: Span


@dataclass(frozen=True, slots=True, eq=False)
class Setting:
    span: Span
    name: str
    name_span: Span
    value: Expr


@dataclass(frozen=True, slots=True, eq=False)
class Train:
    span: Span
    settings: tuple[Setting, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Auxiliary:
    """`aux 0.3: flow`: a further output, whose loss is weighted."""

    span: Span
    weight: Expr
    value: Expr


@dataclass(frozen=True, slots=True, eq=False)
class Result:
    span: Span
    value: Expr


Statement: TypeAlias = Let | Share | Require | Expect | Train | Auxiliary | Result


# ---- definitions


@dataclass(frozen=True, slots=True, eq=False)
class Param:
    span: Span
    name: str
    default: Expr | None = None
    choices: tuple[str, ...] = ()
    rest: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class On:
    """`on cifar10` or `on 3x160x160 -> 37`."""

    span: Span
    data: Expr
    classes: Expr | None


@dataclass(frozen=True, slots=True, eq=False)
class Block:
    """`block NAME(params) { ... }`, or `[ ... ]` for a numbered list of modules."""

    span: Span
    name: str
    name_span: Span
    params: tuple[Param, ...]
    body: tuple[Statement, ...]
    sequence: ListExpr | None
    inline: bool
    """Written `flow`: applied in place, without a module of its own."""
    doc: str


@dataclass(frozen=True, slots=True, eq=False)
class Net:
    """`net NAME(params) on data { ... }`: a family, or, without parameters, a network."""

    span: Span
    name: str
    name_span: Span
    params: tuple[Param, ...]
    on: On | None
    body: tuple[Statement, ...]
    doc: str


@dataclass(frozen=True, slots=True, eq=False)
class NamedNet:
    """`net name = expr on data { clauses }`; a file of one expression has no name and no `net`."""

    span: Span
    name: str | None
    name_span: Span
    value: Expr
    on: On | None
    clauses: tuple[Statement, ...]
    doc: str


@dataclass(frozen=True, slots=True, eq=False)
class Import:
    """`from "blocks.arch" import A, B`."""

    span: Span
    path: String
    names: tuple[Name, ...]


Definition: TypeAlias = Block | Net
Item: TypeAlias = Import | Block | Net | NamedNet


@dataclass(frozen=True, slots=True)
class Comment:
    """A comment, with the `#`."""

    span: Span

    @property
    def text(self) -> str:
        return self.span.text.rstrip()


@dataclass(frozen=True, slots=True, eq=False)
class File:
    source: Source
    items: tuple[Item, ...]
    comments: tuple[Comment, ...]
    doc: str
    """The documentation comments at the top, if a blank line parts them from the first item."""
