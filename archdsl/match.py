"""Solves a spec with `?` for a budget: which whole numbers bring the count nearest to it.

A count grows with every number that is looked for (depth, width, k), so each is searched by secants between values that
are legal; of several, all but the last are tried one by one. A value that would change the data set is skipped: `on`
says which one is meant.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from archdsl.base import limits
from archdsl.base.diagnostics import ArchError, Diagnostic, error
from archdsl.base.source import Span
from archdsl.core.measure import measure
from archdsl.core.types import Shape
from archdsl.driver import load, open_spec
from archdsl.frontend import syntax
from archdsl.frontend.candidates import Candidates

LARGEST = 100_000
"""No number that is looked for is larger, unless its range says so."""

GAP = 128
"""Values in a row that may be illegal, such as those between two depths."""


@dataclass(frozen=True, slots=True)
class Match:
    """Numbers in the place of every `?`, in order, and the count that they give."""

    values: tuple[int, ...]
    spec: str
    count: int

    def residual(self, target: int) -> float:
        """By how much the count misses the target, as a share of it."""
        return (self.count - target) / target


def match(spec: str, target: int, measured: str) -> list[Match]:
    """Networks around a target, nearest first: `measured` is "params" or "macs". Raises ArchError."""
    return _Search(spec, target, measured).run()


def target_of(like: str, measured: str) -> int:
    """The count of another spec. Raises ArchError."""
    found = load(like)
    if len(found) != 1:
        names = ", ".join(c.network.name for c in found)
        raise error("nothing-here", None, name=f"{like} alone", help=f"its networks are {names}")
    return int(getattr(measure(found[0].network), measured))


class _Search:
    def __init__(self, spec: str, target: int, measured: str) -> None:
        self.candidates = Candidates(*open_spec(spec))
        self.holes = self.candidates.holes
        self.target = target
        self.measured = measured
        self.known: dict[tuple[int, ...], int | None] = {}
        self.problems: tuple[Diagnostic, ...] = ()
        self.input: Shape | None = None
        """What the first legal network reads; values that choose another data set are no answers."""
        self.blamed: Span | None = None
        """What the last illegal values were blamed on."""

    def run(self) -> list[Match]:
        found = {}
        for values in self._solve(()):
            count = self.count(values)
            if count is not None:
                found[values] = Match(values, self.candidates.text(values), count)
        if not found:
            if self.problems:
                raise ArchError(*self.problems)
            raise error("no-match", None, problem="no legal values were found for `?`")
        return sorted(found.values(), key=lambda m: (abs(m.count - self.target), m.values))

    def count(self, values: tuple[int, ...]) -> int | None:
        """The count for values in the place of all holes; None where they are illegal."""
        if values not in self.known:
            if len(self.known) >= limits.CANDIDATES:
                problem = f"more than {limits.CANDIDATES:,} networks would have to be counted"
                help = "give ranges, as in `?[2..8]`, or look for fewer numbers at once"
                raise error("no-match", self.holes[0].span, problem=problem, help=help)
            try:
                network = self.candidates.network(values)
            except ArchError as problem:
                first = problem.diagnostics[0]
                self.problems = self.problems or problem.diagnostics
                self.blamed = first.primary.span if first.primary else None
                self.known[values] = None
            else:
                self.input = self.input or network.input
                same = network.input == self.input
                self.known[values] = int(getattr(measure(network), self.measured)) if same else None
        return self.known[values]

    def _solve(self, before: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
        """The values around the target, given those of the first holes."""
        hole = self.holes[len(before)]
        if len(before) == len(self.holes) - 1:
            yield from ((*before, value) for value in self._around(before, hole))
            return
        value, illegal = hole.low, 0
        while value <= (hole.high or LARGEST) and illegal < GAP:
            found = list(self._solve((*before, value)))
            illegal = 0 if found else illegal + 1
            yield from found
            counts = [c for f in found if (c := self.count(f)) is not None]
            if counts and min(counts) >= self.target:
                return  # larger values give more
            value += 1

    def _around(self, before: tuple[int, ...], hole: syntax.Hole) -> list[int]:
        """The largest legal value that stays below the target and the smallest that does not."""
        high = hole.high or LARGEST
        low = self._legal(before, hole.low, high, 1)
        if low is None:
            return []
        at_low = self._at(before, low)
        if at_low >= self.target:
            return [low]
        step, below = 1, low
        while True:
            above = self._legal(before, below + step, high, 1)
            if above is None:
                above = self._legal(before, high, below + 1, -1)
                if above is None or self._at(before, above) < self.target:
                    return [v for v in (below, above) if v is not None]
            at_above = self._at(before, above)
            if at_above >= self.target:
                break
            rise = max(1, (at_above - self._at(before, below)) // (above - below))
            below, step = above, max(1, min((self.target - at_above) // rise, 4 * above))
        return self._between(before, below, above)

    def _between(self, before: tuple[int, ...], below: int, above: int) -> list[int]:
        """Narrow a bracket of two legal values down to neighbours."""
        while above - below > 1:
            low, high = self._at(before, below), self._at(before, above)
            guess = below + (above - below) * (self.target - low) // max(1, high - low)
            guess = min(max(guess, below + 1), above - 1)
            found = self._legal(before, guess, above - 1, 1)
            if found is None:
                found = self._legal(before, guess, below + 1, -1)
            if found is None:
                break
            if self._at(before, found) < self.target:
                below = found
            else:
                above = found
        return [below, above]

    def _at(self, before: tuple[int, ...], value: int) -> int:
        count = self.count((*before, value))
        assert count is not None
        return count

    def _legal(self, before: tuple[int, ...], start: int, stop: int, step: int) -> int | None:
        """The first legal value from `start` on, at most GAP away."""
        for value in range(start, stop + step, step)[:GAP]:
            if self.count((*before, value)) is not None:
                return value
            if any(self.blamed == hole.span for hole in self.holes[: len(before)]):
                return None  # an earlier number is illegal, whatever this one is
        return None


def rows(found: list[Match], target: int, within: float, most: int) -> list[dict[str, Any]]:
    """The nearest matches, and all within a share of the target, as rows."""
    kept = [m for m in found if abs(m.residual(target)) <= within] or found[:2]
    return [
        {"spec": m.spec, "values": list(m.values), "count": m.count, "residual": m.residual(target)}
        for m in kept[:most]
    ]
