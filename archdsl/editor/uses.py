"""What the places of a text are in its networks: shapes and costs, from the IR."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from archdsl.core.ir import Apply, Block, Layer, Loop, Network, Origin, Region, Step, regions_of
from archdsl.core.measure import Measure, measures
from archdsl.core.primitives import OPERATORS, PRIMITIVES, parameters_of
from archdsl.core.types import Shape


@dataclass(frozen=True, slots=True)
class Use:
    """A form in which a module or a network is used; a place in a loop, say, may have several."""

    inputs: tuple[Shape, ...]
    output: Shape
    params: int
    macs: int

    def __str__(self) -> str:
        return f"{' and '.join(map(str, dict.fromkeys(self.inputs)))} -> {self.output}"


Forms = dict[Use, None]
"""Different uses in the order in which they come."""


@dataclass(slots=True)
class Uses:
    """The uses of one source. A place is the offset at which an expression or an item begins."""

    modules: dict[int, Forms] = field(default_factory=dict)
    """Where a layer or block is applied."""
    joins: dict[int, Forms] = field(default_factory=dict)
    """Where a loop, a sum or the like begins."""
    definitions: dict[int, Forms] = field(default_factory=dict)
    """Where a block or family is defined."""
    networks: dict[str, Use] = field(default_factory=dict)
    """The networks by name."""
    tensors: list[tuple[str, int, Shape]] = field(default_factory=list)
    """Tensors that a `let` names: the name, where the expression of its last step begins, and the shape."""
    parts: list[tuple[Origin, dict[int, int]]] = field(default_factory=list)
    """For each form of what holds modules: where it is defined, and the parameters of the places in it."""


def uses_of(networks: Iterable[Network], source: str) -> Uses:
    """The uses of the source of this name in networks."""
    walk = _Walk(source)
    for network in networks:
        walk.known = measures(network.root)
        walk.block(network.root)
        walk.uses.networks[network.name] = walk.whole(network.root)
    return walk.uses


class _Walk:
    """Goes through blocks in the order in which they are applied, through each once."""

    def __init__(self, source: str) -> None:
        self.source = source
        self.uses = Uses()
        self.known: dict[int, Measure] = {}
        self.seen: dict[int, Block] = {}

    def block(self, block: Block) -> None:
        if id(block) in self.seen:
            return
        self.seen[id(block)] = block
        if block.named:
            self._note(self.uses.definitions, block.origin, self.whole(block))
        places: dict[int, int] = {}
        for step, times in _applied(block.body, 1):
            if step.origin.source == self.source:
                offset = step.origin.offset
                places[offset] = places.get(offset, 0) + times * self._costs(step)[0]
        self.uses.parts.append((block.origin, places))
        self._region(block.body)

    def whole(self, block: Block) -> Use:
        cost = self.known[id(block)]
        return Use((block.input,), block.output, cost.params, cost.macs)

    def _region(self, region: Region) -> None:
        for index, name in region.names:
            step = region.steps[index - 1]
            if step.origin.source == self.source:
                self.uses.tensors.append((name, step.origin.offset, step.output))
        for step in region.steps:
            self._step(step)

    def _step(self, step: Step) -> None:
        match step:
            case Apply(module=module):
                is_join = isinstance(module, Layer) and module.kind in OPERATORS
                place = self.uses.joins if is_join else self.uses.modules
                self._note(place, step.origin, Use(step.shapes, step.output, *self._costs(step)))
                if isinstance(module, Block):
                    self.block(module)
            case Loop():
                costs = [(t * p, t * m) for s, t in _applied_in(step) for p, m in [self._costs(s)]]
                shape = step.runs[0].region.input
                total = Use((shape,), step.output, sum(p for p, _ in costs), sum(m for _, m in costs))
                self._note(self.uses.joins, step.origin, total)
            case _:
                pass
        for inner in regions_of(step):
            self._region(inner)

    def _costs(self, step: Apply) -> tuple[int, int]:
        """Parameters and multiply-adds."""
        module = step.module
        if isinstance(module, Block):
            params, macs = self.known[id(module)].params, self.known[id(module)].macs
        else:
            args = dict(module.args)
            params = parameters_of(module.kind, args, step.shapes)
            macs = PRIMITIVES[module.kind].macs(args, step.shapes, step.output)
        return 0 if step.again else params, macs

    def _note(self, places: dict[int, Forms], origin: Origin, use: Use) -> None:
        if origin.source == self.source:
            places.setdefault(origin.offset, {}).setdefault(use)


def _applied(region: Region, times: int) -> Iterator[tuple[Apply, int]]:
    """The applications in a region, each with the number of times that loops repeat it."""
    for step in region.steps:
        if isinstance(step, Apply):
            yield step, times
        elif isinstance(step, Loop):
            yield from ((s, times * t) for s, t in _applied_in(step))
        else:
            for inner in regions_of(step):
                yield from _applied(inner, times)


def _applied_in(loop: Loop) -> Iterator[tuple[Apply, int]]:
    for run in loop.runs:
        yield from _applied(run.region, run.count)
