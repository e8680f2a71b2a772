"""The layers of a network as rows: blocks above what they hold, equal neighbours once, with their number."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import islice

from archdsl.base import limits
from archdsl.base.diagnostics import error
from archdsl.core.ir import Apply, Block, Head, Layer, Loop, Network, Ref, Region, Select, Step
from archdsl.core.measure import Measure, child_name, measures
from archdsl.core.primitives import PRIMITIVES, parameters_of
from archdsl.core.types import Scalar, Shape


@dataclass(frozen=True, slots=True)
class Row:
    """A module, or an operation that changes the shape. Figures are those of all `count` neighbours together."""

    level: int
    """1 for what the network itself holds."""
    path: str
    """The first neighbour's name in PyTorch, from the root; empty for an operation without a module."""
    name: str
    """The name in its parent; `1..3` for neighbours of a numbered list."""
    kind: str
    args: tuple[tuple[str, Scalar], ...]
    output: Shape
    count: int
    params: int
    macs: int
    module: Layer | Block
    again: bool
    head: bool = False
    """Part of an auxiliary output."""


def rows(network: Network, depth: int, operations: bool = False) -> list[Row]:
    """The rows of a network down to a level. What stands below a row of several is one of them.

    With `operations` there are also those that have neither a module nor another shape, such as a ReLU.
    """
    found = list(islice(_Rows(measures(network.root), depth, operations).block(network.root, "", 1), limits.ROWS + 1))
    if len(found) > limits.ROWS:
        problem = f"the tables of {network.name} have more than {limits.ROWS:,} rows"
        raise error("too-large", None, problem=problem, help="`--depth` says how far down they go")
    return found


class _Rows:
    def __init__(self, known: dict[int, Measure], depth: int, operations: bool) -> None:
        self.known = known
        self.depth = depth
        self.operations = operations

    def block(self, block: Block, prefix: str, level: int) -> Iterator[Row]:
        """The rows inside a block, equal neighbours joined."""
        waiting: Row | None = None
        for row in self._region(block.body, prefix, level, {}, 0):
            if waiting and _alike(waiting, row):
                waiting = _joined(waiting, row)
            else:
                yield from self._with_inner(waiting)
                waiting = row
        yield from self._with_inner(waiting)

    def _with_inner(self, row: Row | None) -> Iterator[Row]:
        if row is None:
            return
        yield row
        if isinstance(row.module, Block) and row.level < self.depth and not row.again:
            inner = self.block(row.module, f"{row.path}.", row.level + 1)
            yield from (replace(r, macs=0, head=True) for r in inner) if row.head else inner

    def _region(self, region: Region, prefix: str, level: int, counters: dict[str, int], shift: int) -> Iterator[Row]:
        for step in _heads_where_they_read(region):
            match step:
                case Apply():
                    row = self._row(step, prefix, level, counters, shift)
                    if row:
                        yield row
                case Select():
                    yield from self._region(step.region, prefix, level, counters, shift)
                case Head():
                    # What classifies an image does not run it.
                    inner = self._region(step.region, prefix, level, counters, shift)
                    yield from (replace(r, macs=0, head=True) for r in inner)
                case Loop():
                    for run in step.runs:
                        yield from self._run(run.region, run.count, prefix, level, counters)

    def _run(self, region: Region, count: int, prefix: str, level: int, counters: dict[str, int]) -> Iterator[Row]:
        """The rows of the first of equal iterations, each with the number of iterations."""
        before = dict(counters)
        first = list(self._region(region, prefix, level, counters, 0))
        made = {stem: n - before.get(stem, 0) for stem, n in counters.items()}
        for stem, n in made.items():
            counters[stem] += n * (count - 1)
        for row in first:
            rise = made.get(row.name.rpartition(".")[0], 1)
            name = _range(row.name, (count - 1) * rise, rise)
            yield replace(row, name=name, count=count * row.count, params=count * row.params, macs=count * row.macs)

    def _row(self, step: Apply, prefix: str, level: int, counters: dict[str, int], shift: int) -> Row | None:
        is_seen = self.operations or step.output != step.shapes[0]
        if step.label is None and (isinstance(step.module, Block) or not is_seen):
            return None
        name = child_name(step.label, {} if step.again else counters, shift) if step.label else ""
        path = f"{prefix}{name}" if name else ""
        module = step.module
        if isinstance(module, Block):
            cost = self.known[id(module)]
            kind, args, params, macs = module.name, module.scalars, cost.params, cost.macs
        else:
            kind, args = module.kind, module.args
            params = parameters_of(kind, dict(args), step.shapes)
            macs = PRIMITIVES[kind].macs(dict(args), step.shapes, step.output)
        params = 0 if step.again else params
        return Row(level, path, name, kind, args, step.output, 1, params, macs, module, step.again)


def _heads_where_they_read(region: Region) -> list[Step]:
    """The steps of a region, each auxiliary output after what it reads, wherever the spec has it."""

    def position(numbered: tuple[int, Step]) -> tuple[int, bool]:
        number, step = numbered
        if not isinstance(step, Head):
            return number, False
        own = {Ref(0, i) for i in range(1, number)}
        read = [r.index for s in step.region.steps if isinstance(s, Apply) for r in s.inputs if r in own]
        return max(read, default=number), True

    return [step for _, step in sorted(enumerate(region.steps, 1), key=position)]


def _alike(a: Row, b: Row) -> bool:
    """Whether two neighbours are one row: the same block, or layers with equal arguments, in one numbered list."""
    same = a.module is b.module or (isinstance(a.module, Layer) and a.module == b.module)
    numbered = a.name.rpartition(".")[2].split("..")[0].isdigit() and b.name.rpartition(".")[2].split("..")[0].isdigit()
    stems = a.name.rpartition(".")[0] == b.name.rpartition(".")[0]
    return same and numbered and stems and a.output == b.output and bool(a.path) and not (a.again or b.again)


def _joined(a: Row, b: Row) -> Row:
    last = b.name.rpartition("..")[2].rpartition(".")[2]
    name = f"{a.name.split('..')[0]}..{last}"
    return replace(a, name=name, count=a.count + b.count, params=a.params + b.params, macs=a.macs + b.macs)


def _range(first: str, further: int, step: int = 1) -> str:
    """The names of modules whose numbers rise by `further` from the first to the last, a step at a time.

    >>> _range("1", 2), _range("paths.0", 7), _range("layer1", 3), _range("conv", 0)
    ('1..3', 'paths.0..7', 'layer1..4', 'conv')
    >>> _range("2", 2, 2), _range("2", 6, 2)
    ('2,4', '2,4..8')
    """
    start = len(first.rstrip("0123456789"))
    if not further or not first[start:]:
        return first
    number = int(first[start:])
    second = f",{number + step}" if step > 1 else ""
    return f"{first}{second}..{number + further}" if further > step or step == 1 else f"{first}{second}"
