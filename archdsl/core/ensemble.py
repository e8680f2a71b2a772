"""A residual network as an ensemble of paths: how many there are, how long, and which of them train.

In a block y = shortcut(x) + F1(x) + ... + Fk(x) every function is computed or skipped, so a block has 2^k ways through
and n blocks have 2^(nk): the multiplicity (Veit, Wilber and Belongie, arXiv:1605.06431; Abdi and Nahavandi,
arXiv:1609.05672, sections III and IV). The length of a path is the number of blocks in which it computes something:
1 + (2^k - 1) x for a block, and their product for a network, in which the coefficient of x^l is the number of paths of
length l; for k = 1 that is the binomial distribution. A gradient shrinks by a factor for every block that it passes.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import accumulate

from archdsl.base.diagnostics import error
from archdsl.base.exhaustive import assert_never
from archdsl.core.ir import Apply, Block, Head, Layer, Loop, Network, Ref, Region, Select, blocks_of
from archdsl.core.measure import Depths, measures
from archdsl.core.ways import parting

MOST = 10_000
"""Residual functions."""

SHARE = Fraction(9, 10)
"""Of all gradient that the effective paths carry."""


@dataclass(frozen=True, slots=True)
class Ensemble:
    """The paths of a network."""

    blocks: tuple[tuple[int, int], ...]
    """k -> the number of residual blocks with k functions, in order of k."""
    paths: tuple[int, ...]
    """The number of paths of each length, from 0."""
    decay: Fraction
    """What a gradient is multiplied by in a block."""

    @property
    def multiplicity(self) -> int:
        return sum(self.paths)

    @property
    def exponent(self) -> int:
        """The multiplicity is 2 to this power: the number of functions."""
        return sum(k * n for k, n in self.blocks)

    @property
    def mean_length(self) -> Fraction:
        return Fraction(sum(length * n for length, n in enumerate(self.paths)), self.multiplicity)

    @property
    def gradient(self) -> tuple[float, ...]:
        """The share of the gradient that the paths of each length carry together."""
        carried = self._carried()
        whole = sum(carried)
        return tuple(c / whole for c in carried)

    @property
    def effective(self) -> tuple[int, int]:
        """The shortest and the longest effective path: what is left without the ends, which carry 5% each."""
        sums = list(accumulate(self._carried()))
        rest = (1 - SHARE) / 2 * sums[-1]
        shortest = next(length for length, total in enumerate(sums) if total > rest)
        return shortest, next(length for length, total in enumerate(sums) if total >= sums[-1] - rest)

    def _carried(self) -> list[int]:
        """The gradient that the paths of each length carry, times a common denominator: exact, and fast."""
        up, down = self.decay.numerator, self.decay.denominator
        carried, power = [], down ** (len(self.paths) - 1)
        for n in self.paths:
            carried.append(n * power)
            power = power * up // down
        return carried


def ensemble(network: Network, decay: Fraction) -> Ensemble | None:
    """The paths through the residual blocks of a network. Those inside a residual function are a part of it.

    None for a network without residual blocks. Raises ArchError for one with too many.
    """
    blocks = _functions(network)
    if not blocks:
        return None
    if sum(k * n for k, n in blocks.items()) > MOST:
        problem = (
            f"{network.name} has more than {MOST:,} residual functions, and the numbers of its paths too many digits"
        )
        raise error("too-large", None, problem=problem)
    paths = [1]
    for k, n in sorted(blocks.items()):
        paths = _product(paths, _powers(2**k - 1, n))
    return Ensemble(tuple(sorted(blocks.items())), tuple(paths), decay)


def _powers(factor: int, n: int) -> list[int]:
    """The coefficients of (1 + factor x)^n."""
    out = [1]
    for length in range(1, n + 1):
        out.append(out[-1] * (n - length + 1) * factor // length)
    return out


def _product(a: list[int], b: list[int]) -> list[int]:
    """The coefficients of a product of polynomials."""
    if len(a) == 1:
        return [a[0] * y for y in b]
    out = [0] * (len(a) + len(b) - 1)
    for i, x in enumerate(a):
        for j, y in enumerate(b):
            out[i + j] += x * y
    return out


# ---- residual blocks of the IR


def _functions(network: Network) -> Counter[int]:
    """The number of residual blocks with k functions, for each k."""
    depths = Depths(measures(network.root))
    known: dict[int, Counter[int]] = {}
    for block in blocks_of(network.root):
        known[id(block)] = _Graph(depths, known).count(block.body, 0, {Ref(0, 0): 0})
    return known[id(network.root)]


@dataclass(frozen=True, slots=True)
class _Node:
    """A value of a region."""

    inputs: tuple[int, ...] = ()
    depth: int = 0
    module: Layer | Block | Loop | None = None
    inside: Counter[int] = field(default_factory=Counter)
    """The residual blocks of what makes it."""

    @property
    def kind(self) -> str:
        return self.module.kind if isinstance(self.module, Layer) else ""


class _Graph:
    """The values of a region, with those of its choices in their place; all that comes from outside is value 0."""

    def __init__(self, depths: Depths, known: dict[int, Counter[int]]) -> None:
        self.depths = depths
        self.known = known
        self.nodes = [_Node()]
        self.above = [-1]
        """For each value the last one that every way to its inputs passes."""
        self.uses: Counter[int] = Counter()

    def count(self, region: Region, level: int, depths: dict[Ref, int]) -> Counter[int]:
        """The residual blocks of a region, given the depths of the values around it."""
        self._add(region, level, dict.fromkeys(depths, 0), depths)
        spans: dict[int, tuple[int, int]] = {}
        for i, node in enumerate(self.nodes):
            # A shortcut is an operand that passes fewer layers than another.
            if node.kind == "add" and len({self.nodes[j].depth for j in node.inputs}) > 1:
                spans[i] = (self.above[i], sum(self._terms(j) for j in node.inputs) - 1)
        within = {i for end, (source, _) in spans.items() for i in range(source + 1, end)}
        total = Counter(k for end, (_, k) in spans.items() if end not in within)
        for i, node in enumerate(self.nodes):
            if i not in within:
                total.update(node.inside)
        return total

    def _add(self, region: Region, level: int, values: dict[Ref, int], depths: dict[Ref, int]) -> int:
        """Add the values of a region; the number of its output."""
        values, depths = dict(values), dict(depths)
        for i, step in enumerate(region.steps, 1):
            here = Ref(level, i)
            depths[here] = self.depths.of_step(step, depths, level)
            match step:
                case Select():
                    values[here] = self._add(step.region, level + 1, values, depths)
                    continue
                case Apply(inputs=refs, module=module):
                    inside = self.known[id(module)] if isinstance(module, Block) else Counter()
                    inputs = tuple(values[r] for r in refs)
                    node: Layer | Block | Loop = module
                case Loop():
                    inner = {**depths, Ref(level + 1, 0): depths[step.input]}
                    inside = Counter()
                    for run in step.runs:
                        found = _Graph(self.depths, self.known).count(run.region, level + 1, inner)
                        inside.update({k: n * run.count for k, n in found.items()})
                    inputs, node = (values[step.input],), step
                case Head():
                    continue  # what classifies an image does not run it
                case _:
                    assert_never(step)
            self.uses.update(inputs)
            self.above.append(parting(self.above, inputs))
            self.nodes.append(_Node(inputs, depths[here], node, inside))
            values[here] = len(self.nodes) - 1
        return values[region.output]

    def _terms(self, i: int) -> int:
        """The number of functions that a value is the sum of; one that others read too is one."""
        node = self.nodes[i]
        match node.module:
            case Loop(kind="sum") as loop:
                return loop.count
            case Layer(kind="affine"):
                return self._terms(node.inputs[0])
            case Layer(kind="add") if self.uses[i] == 1:
                return sum(self._terms(j) for j in node.inputs)
            case _:
                return 1
