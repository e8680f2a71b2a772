"""The syntax tree: what was written, with a span on every node and no meaning yet."""

from __future__ import annotations

from fractions import Fraction
from typing import Literal, NamedTuple, TypeAlias

from archdsl.base.source import Source, Span

# Every node has its span first. They are named tuples rather than dataclasses because making forty dataclasses takes
# longer than a count.


class Number(NamedTuple):
    span: Span
    value: int | Fraction


class String(NamedTuple):
    span: Span
    value: str


class Constant(NamedTuple):
    """`true`, `false` or `none`."""

    span: Span
    value: bool | None


class ShapeLiteral(NamedTuple):
    """`3x32x32`."""

    span: Span
    dims: tuple[int, ...]


class Name(NamedTuple):
    span: Span
    name: str


class Input(NamedTuple):
    """`in`: what the innermost braces are applied to."""

    span: Span


class Hole(NamedTuple):
    """`?` or `?[16..64]`: a whole number that is looked for."""

    span: Span
    low: int
    high: int | None


class ListExpr(NamedTuple):
    """`[a, b]`: a list of values, or, with a label, modules one after the other."""

    span: Span
    items: tuple[Expr, ...]


class Attribute(NamedTuple):
    span: Span
    owner: Expr
    name: str


class Index(NamedTuple):
    span: Span
    owner: Expr
    position: Expr


class Argument(NamedTuple):
    span: Span
    name: str | None
    value: Expr
    spread: bool = False


class Call(NamedTuple):
    span: Span
    callee: Expr
    args: tuple[Argument, ...]


class Multiply(NamedTuple):
    """`B(3,3)x[k=4]`: a residual block of parallel residual functions."""

    span: Span
    callee: Expr
    args: tuple[Argument, ...]


class Unary(NamedTuple):
    span: Span
    operator: Literal["-", "not"]
    operand: Expr


class Binary(NamedTuple):
    """Arithmetic, comparison (`in` included) and logic."""

    span: Span
    operator: str
    left: Expr
    right: Expr


class If(NamedTuple):
    span: Span
    condition: Expr
    then: Expr
    otherwise: Expr


class Chain(NamedTuple):
    """`head -> step -> step`."""

    span: Span
    head: Expr
    steps: tuple[Expr, ...]


class LabelName(NamedTuple):
    """`conv1:`, `layer{i + 1}:` or `branches[i]:`."""

    span: Span
    stem: str
    style: Literal["plain", "index", "item"]
    number: Expr | None = None


class Labelled(NamedTuple):
    span: Span
    label: LabelName
    body: Expr


class Group(NamedTuple):
    """`{ statements }`: a scope with its own `in`."""

    span: Span
    body: tuple[Statement, ...]


LoopKind: TypeAlias = Literal["sequence", "sum", "mean", "concat"]


class Loop(NamedTuple):
    """`repeat n as i {}`, `for i, w in list {}`, and the parallel `sum n as i {}`, `concat for w in list {}`..."""

    span: Span
    kind: LoopKind
    times: Expr | None
    items: Expr | None
    counter: str | None
    item: str | None
    body: Group


class Join(NamedTuple):
    """`concat { a, b }`, `sum { a, b }`, `mean(drop_path=0.15) { a, b }`: branches that read the same input."""

    span: Span
    kind: LoopKind
    args: tuple[Argument, ...]
    branches: tuple[Expr, ...]


Expr: TypeAlias = (
    Number
    | String
    | Constant
    | ShapeLiteral
    | Name
    | Input
    | Hole
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


class Let(NamedTuple):
    span: Span
    name: str
    name_span: Span
    value: Expr


class Share(NamedTuple):
    """`share f = Block()`: one module, whose weights every use of `f` shares."""

    span: Span
    name: str
    name_span: Span
    value: Expr


class Require(NamedTuple):
    span: Span
    condition: Expr
    message: String


class Expect(NamedTuple):
    """`expect params 36.5M`; `figure` is the text of the number, whose digits say how exact it is."""

    span: Span
    what: str
    what_span: Span
    figure: str
    figure_span: Span


class Setting(NamedTuple):
    span: Span
    name: str
    name_span: Span
    value: Expr


class Train(NamedTuple):
    """`train { epochs 200 }`: the recipe."""

    span: Span
    settings: tuple[Setting, ...]


class Init(NamedTuple):
    """`init { conv he_fan_in }`: how weights start."""

    span: Span
    settings: tuple[Setting, ...]


class Place(NamedTuple):
    """`place { split 2 }`: where the functions of parallel sums run."""

    span: Span
    kind: str
    kind_span: Span
    devices: Number | None


class Auxiliary(NamedTuple):
    """`aux 0.3: flow`: a further output, whose loss is weighted."""

    span: Span
    weight: Expr
    value: Expr


class When(NamedTuple):
    """`if condition { statements }`: requirements and auxiliary outputs that are there on a condition."""

    span: Span
    condition: Expr
    body: tuple[Statement, ...]


class Result(NamedTuple):
    span: Span
    value: Expr


Statement: TypeAlias = Let | Share | Require | Expect | Train | Init | Place | Auxiliary | When | Result


# ---- definitions


class Param(NamedTuple):
    span: Span
    name: str
    default: Expr | None = None
    choices: tuple[str, ...] = ()
    rest: bool = False


class On(NamedTuple):
    """`on cifar10` or `on 3x160x160 -> 37`."""

    span: Span
    data: Expr
    classes: Expr | None


class Block(NamedTuple):
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

    # A definition is a place in a file: blocks of equal text are two blocks.
    def __eq__(self, other: object) -> bool:
        return self is other

    def __hash__(self) -> int:
        return id(self)


class Net(NamedTuple):
    """`net NAME(params) on data { ... }`: a family, or, without parameters, a network."""

    span: Span
    name: str
    name_span: Span
    params: tuple[Param, ...]
    on: On | None
    body: tuple[Statement, ...]
    doc: str

    # A definition is a place in a file: blocks of equal text are two blocks.
    def __eq__(self, other: object) -> bool:
        return self is other

    def __hash__(self) -> int:
        return id(self)


class Recipe(NamedTuple):
    """`recipe NAME { settings }`: how to train, for any network."""

    span: Span
    name: str
    name_span: Span
    settings: tuple[Setting, ...]
    doc: str

    # A definition is a place in a file: recipes of equal text are two recipes.
    def __eq__(self, other: object) -> bool:
        return self is other

    def __hash__(self) -> int:
        return id(self)


class Sweep(NamedTuple):
    """`for k in [1, 2], w in [4, 8]`: a network for each element of the lists, which go together."""

    span: Span
    names: tuple[Name, ...]
    lists: tuple[Expr, ...]


class NamedNet(NamedTuple):
    """`net name = expr on data for k in list { clauses }`; a file of one expression has no name and no `net`."""

    span: Span
    name: str | None
    name_span: Span
    value: Expr
    on: On | None
    sweeps: tuple[Sweep, ...]
    clauses: tuple[Statement, ...]
    doc: str


class Import(NamedTuple):
    """`from "blocks.arch" import A, B`."""

    span: Span
    path: String
    names: tuple[Name, ...]


Definition: TypeAlias = Block | Net | Recipe
Item: TypeAlias = Import | Block | Net | Recipe | NamedNet


class Comment(NamedTuple):
    """A comment, with the `#`."""

    span: Span

    @property
    def text(self) -> str:
        return self.span.text.rstrip()


class File(NamedTuple):
    source: Source
    items: tuple[Item, ...]
    comments: tuple[Comment, ...]
    doc: str
    """The documentation comments at the top, if a blank line parts them from the first item."""
