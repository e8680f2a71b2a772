"""A residual network as an ensemble of paths: how many there are, how long, and which of them train.

In a block y = shortcut(x) + F1(x) + ... + Fk(x) every function is computed or skipped, so a block has 2^k ways through
and n blocks have 2^(nk): the multiplicity (Veit, Wilber and Belongie, arXiv:1605.06431; Abdi and Nahavandi,
arXiv:1609.05672, sections III and IV). The length of a path is the number of blocks in which it computes something:
1 + (2^k - 1) x for a block, and their product for a network, in which the coefficient of x^l is the number of paths of
length l; for k = 1 that is the binomial distribution. A gradient shrinks by a factor for every block that it passes.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from fractions import Fraction
from math import comb

from archdsl.core.ir import Apply, Block, Layer, Loop, Network, Ref, Region, Select, Step, blocks_of, regions_of
from archdsl.core.measure import Depths, measures

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
    def gradient(self) -> tuple[Fraction, ...]:
        """The share of the gradient that the paths of each length carry together."""
        carried = [n * self.decay**length for length, n in enumerate(self.paths)]
        whole = sum(carried)
        return tuple(c / whole for c in carried)

    @property
    def effective(self) -> tuple[int, int]:
        """The shortest and the longest effective path: what is left without the ends, which carry 5% each."""
        rest, total = (1 - SHARE) / 2, Fraction(0)
        bounds: list[int] = []
        shares = self.gradient
        for length, share in enumerate(shares):
            total += share
            if len(bounds) == 0 and total > rest:
                bounds.append(length)
            if len(bounds) == 1 and total >= 1 - rest:
                bounds.append(length)
        return bounds[0], bounds[1]


def ensemble(network: Network, decay: Fraction, most: int) -> Ensemble | None:
    """The paths through the residual blocks of a network. Those inside a residual function are a part of it.

    None for a network without residual blocks, or with more than `most`.
    """
    blocks = _functions(network)
    if not 0 < sum(blocks.values()) <= most:
        return None
    paths = [1]
    for k, n in sorted(blocks.items()):
        paths = _product(paths, [comb(n, length) * (2**k - 1) ** length for length in range(n + 1)])
    return Ensemble(tuple(sorted(blocks.items())), tuple(paths), decay)


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
        own = _residual(block, depths)
        known[id(block)] = Counter({own: 1}) if own else _below(block.body, known)
    return known[id(network.root)]


def _below(region: Region, known: dict[int, Counter[int]]) -> Counter[int]:
    total: Counter[int] = Counter()
    for step in region.steps:
        if isinstance(step, Apply) and isinstance(step.module, Block):
            total.update(known[id(step.module)])
        elif isinstance(step, Loop):
            for run in step.runs:
                total.update({k: n * run.count for k, n in _below(run.region, known).items()})
        else:
            for inner in regions_of(step):
                total.update(_below(inner, known))
    return total


def _residual(block: Block, depths: Depths) -> int:
    """The number of functions that a block adds to its shortcut; 0 if it is no residual block."""
    values = {Ref(0, 0): 0}
    found = 0
    for i, step in enumerate(block.body.steps, 1):
        values[Ref(0, i)] = depths.of_step(step, values, 0)
        if isinstance(step, Apply) and isinstance(step.module, Layer) and step.module.kind == "add":
            reached = sorted(values[r] for r in step.inputs)
            if reached[0] < reached[1]:
                found = max(found, sum(_terms(block.body, r) for r in step.inputs) - 1)
    return found


def _terms(region: Region, ref: Ref) -> int:
    """The number of functions that a value is the sum of."""
    if ref.level or not ref.index:
        return 1
    return _terms_of(region.steps[ref.index - 1], region)


def _terms_of(step: Step, region: Region) -> int:
    match step:
        case Select(region=Region(steps=steps)) if steps:
            return _terms_of(steps[-1], region)
        case Loop(kind="sum"):
            return step.count
        case Apply(module=Layer(kind="affine"), inputs=(source,)):
            return _terms(region, source)
        case Apply(module=Layer(kind="add")):
            return sum(_terms(region, r) for r in step.inputs)
        case _:
            return 1
