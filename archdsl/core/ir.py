"""The IR: a network as a tree of blocks whose every shape is known.

A block is a region: steps in single assignment form. Regions nest (the arms of a choice, the bodies of loops), so a
value is named by the level of its region and its position there; index 0 is the region's input and step n is n + 1.

What happens many times is kept once. A block elaborated twice with equal arguments is one object, and a loop keeps
runs of equal iterations with a count, so the size of the IR follows the number of distinct blocks, not the depth.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from archdsl.core.types import Scalar, Shape


@dataclass(frozen=True, slots=True)
class Origin:
    """The place in a spec that something came from. Equal origins are the same text with other arguments."""

    source: str
    offset: int


@dataclass(frozen=True, slots=True, order=True)
class Ref:
    """A value: the level of a region (0 is the block's body) and a position in it (0 is the region's input)."""

    level: int
    index: int


@dataclass(frozen=True, slots=True)
class Label:
    """The name of a module in its parent.

    "plain" is `conv1`; "index" is `layer{i + 1}`, where the number of iteration j of a run is `index + j`; "item" is
    element `branches.0`, `branches.1`... of a list, and "number" a child 0, 1... of a sequence. The last two are
    numbered in the order in which they stand.
    """

    style: Literal["plain", "index", "item", "number"]
    stem: str = ""
    index: int = 0


@dataclass(frozen=True, slots=True)
class Layer:
    """A primitive with its arguments."""

    kind: str
    args: tuple[tuple[str, Scalar], ...] = ()

    def arg(self, name: str) -> Scalar:
        return dict(self.args)[name]


@dataclass(frozen=True, slots=True)
class Apply:
    """Apply a layer or block to values."""

    module: Layer | Block
    label: Label | None
    """None for a layer that needs no module of its own, such as an addition."""
    inputs: tuple[Ref, ...]
    shapes: tuple[Shape, ...]
    """The shapes of the inputs."""
    output: Shape
    origin: Origin
    again: bool = False
    """A further use of a shared module: the same weights as the first step with this label."""


@dataclass(frozen=True, slots=True)
class Select:
    """The arm that an `if` on compile-time values took; kept so that a class can serve both arms."""

    arm: Literal[0, 1]
    """0 for `then`, 1 for `else`."""
    region: Region
    """Reads the values around it; its own input is what its `in` means, and is not numbered anew."""
    output: Shape
    origin: Origin
    reads: tuple[str, ...] = ()
    """The parameters that the condition speaks of; `in_channels` for `in.channels`."""


@dataclass(frozen=True, slots=True)
class Run:
    """`count` equal iterations of a loop, the first of them number `start`."""

    start: int
    count: int
    region: Region


@dataclass(frozen=True, slots=True)
class Loop:
    """Iterations one after the other ("sequence"), or side by side on one input and joined."""

    kind: Literal["sequence", "sum", "mean", "concat"]
    runs: tuple[Run, ...]
    input: Ref
    output: Shape
    origin: Origin

    @property
    def count(self) -> int:
        return sum(run.count for run in self.runs)


@dataclass(frozen=True, slots=True)
class Head:
    """A further output for training, such as a companion classifier; nothing reads it but the loss."""

    weight: Scalar
    """What its loss is multiplied by."""
    region: Region
    output: Shape
    origin: Origin


Step: TypeAlias = Apply | Select | Loop | Head


@dataclass(frozen=True, slots=True)
class Region:
    """Steps from an input to an output."""

    input: Shape
    steps: tuple[Step, ...]
    output: Ref
    names: tuple[tuple[int, str], ...] = ()
    """Position of a value -> the name that a `let` gave it."""


@dataclass(frozen=True, slots=True, eq=False)
class Block:
    """A block with its arguments and its input shape. Compares by identity: equal blocks are one object."""

    name: str
    style: Literal["module", "sequence", "parallel"]
    """A sequence is a numbered list of modules, each applied to the result of the one before; in a parallel one each
    is applied to the input, and the results are added."""
    origin: Origin
    named: bool
    """False for `label: { ... }` and `label: [ ... ]`, which have no definition of their own."""
    scalars: tuple[tuple[str, Scalar], ...]
    """Numeric arguments by the names that the definition gives them."""
    lets: tuple[tuple[str, Scalar], ...]
    """Numbers that the definition computes and names."""
    defaults: tuple[tuple[str, Scalar], ...]
    """Default values of those parameters that have a constant one."""
    body: Region
    output: Shape
    doc: str = ""

    @property
    def input(self) -> Shape:
        return self.body.input


@dataclass(frozen=True, slots=True)
class Recipe:
    """How a network is trained: settings by name, checked against `core.recipe`."""

    settings: tuple[tuple[str, Scalar], ...] = ()
    name: str = ""
    """Of the recipe that the spec or its family names; empty if it gives settings alone."""
    source: str = ""
    """Whose that recipe is."""
    changed: tuple[str, ...] = ()
    """The settings of it that are others here."""


@dataclass(frozen=True, slots=True)
class Placement:
    """Where the functions of parallel sums run."""

    kind: Literal["fused", "split", "mesh"]
    """One device computes them as one function; one process divides them over devices; or processes share them."""
    devices: int = 1
    """The devices or processes that share the functions of one sum."""

    def __str__(self) -> str:
        return self.kind if self.kind == "fused" else f"{self.kind}:{self.devices}"


@dataclass(frozen=True, slots=True)
class Network:
    """A whole network: the root block, and what the spec says of data and training."""

    name: str
    spec: str
    """The expression, as the spec has it."""
    data: str | None
    """The data set by name, if it has one."""
    classes: int | None
    root: Block
    recipe: Recipe = field(default_factory=Recipe)
    start: tuple[tuple[str, Scalar], ...] = ()
    """How weights are drawn: settings by name, checked against `core.initial`."""
    source_name: str = ""
    source_hash: str = ""
    doc: str = ""
    paper: str = ""
    """Where the library has it from."""
    placement: Placement | None = None

    @property
    def input(self) -> Shape:
        return self.root.input

    @property
    def output(self) -> Shape:
        return self.root.output

    @property
    def heads(self) -> tuple[Head, ...]:
        """The auxiliary outputs, in order."""
        return tuple(step for step in self.root.body.steps if isinstance(step, Head))


def regions_of(step: Step) -> tuple[Region, ...]:
    """The regions nested in a step."""
    match step:
        case Select() | Head():
            return (step.region,)
        case Loop():
            return tuple(run.region for run in step.runs)
        case Apply():
            return ()


def applications(region: Region) -> Iterator[Apply]:
    """Every application in a region and the regions in it, in order; those of a run once."""
    for step in region.steps:
        if isinstance(step, Apply):
            yield step
        for inner in regions_of(step):
            yield from applications(inner)


def blocks_of(root: Block) -> tuple[Block, ...]:
    """Every distinct block, each after the blocks it uses; the root last."""
    seen: dict[int, Block] = {}
    stack: list[tuple[Block, bool]] = [(root, False)]
    done: list[Block] = []
    while stack:
        block, finished = stack.pop()
        if finished:
            done.append(block)
        elif id(block) not in seen:
            seen[id(block)] = block
            stack.append((block, True))
            inner = [a.module for a in applications(block.body) if isinstance(a.module, Block)]
            stack += [(b, False) for b in reversed(inner) if id(b) not in seen]
    return tuple(done)
