"""Solves a spec with `?` for a budget: which whole numbers bring the count nearest to it.

A count mostly grows with every number that is looked for (depth, width, k), so each is searched by secants between
values that are legal, and a few values beyond are looked at; of several, all but the last are tried one by one. A value
that would change the data set is skipped: `on` says which one is meant.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from archdsl.base import limits
from archdsl.base.diagnostics import ArchError, Diagnostic, error
from archdsl.core.measure import measure
from archdsl.core.types import Shape
from archdsl.driver import load, open_spec
from archdsl.frontend import syntax
from archdsl.frontend.candidates import Candidates

LARGEST = 100_000
"""No number that is looked for is larger, unless its range says so."""

GAP = 128
"""Values in a row that may be illegal, such as those between two depths."""

LOOK = 2
"""Legal values beyond the nearest that are looked at: some families have a wide network between two narrow ones."""


@dataclass(frozen=True, slots=True)
class Match:
    """Numbers in the place of every `?`, in order, and the count that they give."""

    values: tuple[int, ...]
    spec: str
    count: int

    def residual(self, target: int) -> float:
        """By how much the count misses the target, as a share of it."""
        return (self.count - target) / target


def match(spec: str, target: int, measured: str, within: float = 0.02) -> list[Match]:
    """Networks whose count is within a share of a target, nearest first, or else the nearest on either side.

    `measured` is "params" or "macs". Raises ArchError.
    """
    return _Search(spec, target, measured, within).run()


def target_of(like: str, measured: str) -> int:
    """The count of another spec. Raises ArchError."""
    found = load(like)
    if len(found) != 1:
        names = ", ".join(c.network.name for c in found)
        raise error("nothing-here", None, name=f"{like} alone", help=f"its networks are {names}")
    target = int(getattr(measure(found[0].network), measured))
    if not target:
        raise error("no-match", None, problem=f"{like} has none of what is to be matched")
    return target


class _Search:
    def __init__(self, spec: str, target: int, measured: str, within: float) -> None:
        self.candidates = Candidates(*open_spec(spec))
        self.holes = self.candidates.holes
        self.target = target
        self.measured = measured
        self.within = within
        self.known: dict[tuple[int, ...], int | None] = {}
        self.problems: tuple[Diagnostic, ...] = ()
        self.input: Shape | None = None
        """What the first legal network reads; values that choose another data set are no answers."""
        self.last: Diagnostic | None = None
        """Why the last illegal values are illegal."""

    def run(self) -> list[Match]:
        for _ in self._solve((), None):
            pass
        found = [Match(v, self.candidates.text(v), count) for v, count in self._nearest()]
        if not found:
            if self.problems:
                raise ArchError(*self.problems)
            raise error("no-match", None, problem="no legal values were found for `?`")
        return found

    def _nearest(self) -> list[tuple[tuple[int, ...], int]]:
        """All that was counted and is near enough, or else the two nearest, one on each side."""
        counted = [(v, c) for v, c in self.known.items() if c is not None]
        counted.sort(key=lambda pair: (abs(pair[1] - self.target), pair[0]))
        near = [(v, c) for v, c in counted if abs(c - self.target) <= self.within * self.target]
        sides = [next((p for p in counted if (p[1] < self.target) == below), None) for below in (True, False)]
        return near or [p for p in counted if p in sides]

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
                self.last = problem.diagnostics[0]
                self.problems = self.problems or problem.diagnostics
                self.known[values] = None
            else:
                self.input = self.input or network.input
                same = network.input == self.input
                self.known[values] = int(getattr(measure(network), self.measured)) if same else None
        return self.known[values]

    def _solve(self, before: tuple[int, ...], hint: int | None) -> Iterator[tuple[int, ...]]:
        """The values around the target, given those of the first holes. `hint` is where the last hole may be."""
        hole = self.holes[len(before)]
        if len(before) == len(self.holes) - 1:
            yield from ((*before, value) for value in self._around(before, hole, hint))
            return
        value, illegal = hole.low, 0
        while value <= (hole.high or LARGEST) and illegal < GAP:
            found = list(self._solve((*before, value), hint))
            illegal = 0 if found else illegal + 1
            yield from found
            counts = [c for f in found if (c := self.count(f)) is not None]
            if counts and min(counts) >= self.target:
                return  # larger values give more
            hint = found[0][-1] if found else hint
            value += 1

    def _around(self, before: tuple[int, ...], hole: syntax.Hole, hint: int | None) -> list[int]:
        """The largest legal value that stays below the target and the smallest that does not, and those beside them."""
        high = hole.high or LARGEST
        low = self._legal(before, hole.low, high, 1)
        if low is None:
            return []
        below, above, step = low, None, 1
        near = self._legal(before, max(hint, low), high, 1) if hint else None
        if near is not None and self._at(before, near) >= self.target:
            above = near
        elif near is not None:
            below = near
        while self._at(before, below) < self.target and above is None:
            found = self._legal(before, below + step, high, 1)
            if found is None and step == 1:
                break
            if found is None:
                step //= 8  # nothing is legal so far away
                step = max(step, 1)
            elif self._at(before, found) >= self.target:
                above = found
            else:
                rise = max(1, (self._at(before, found) - self._at(before, below)) // (found - below))
                step = max(1, min((self.target - self._at(before, found)) // rise, 4 * found))
                below = found
        if above is not None and self._at(before, below) < self.target:
            below, above = self._between(before, below, above)
        bracket = [below] if above is None else [below, above]
        return [*self._walk(before, below, hole.low, -1), *bracket, *self._walk(before, bracket[-1], high, 1)]

    def _walk(self, before: tuple[int, ...], start: int, end: int, step: int) -> list[int]:
        """Further legal values: as long as they are near enough, and a few more, for a count need not always rise."""
        found: list[int] = []
        value: int | None = start
        misses = 0
        while misses < LOOK and value != end:
            assert value is not None
            value = self._legal(before, value + step, end, step)
            if value is None:
                break
            found.append(value)
            far = abs(self._at(before, value) - self.target) > self.within * self.target
            turned = (self._at(before, value) < self.target) == (step > 0)
            misses = misses + 1 if far and not turned else 0
        return found

    def _between(self, before: tuple[int, ...], below: int, above: int) -> tuple[int, int]:
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
        return below, above

    def _at(self, before: tuple[int, ...], value: int) -> int:
        count = self.count((*before, value))
        assert count is not None
        return count

    def _legal(self, before: tuple[int, ...], start: int, stop: int, step: int) -> int | None:
        """The first legal value from `start` on, at most GAP away."""
        for value in range(start, stop + step, step)[:GAP]:
            if self.count((*before, value)) is not None:
                return value
            if self.last and self.last.key == "too-large" and step > 0:
                return None  # and so are larger ones
            blamed = self.last and self.last.primary and self.last.primary.span
            if any(blamed == hole.span for hole in self.holes[: len(before)]):
                return None  # an earlier number is illegal, whatever this one is
        return None


def rows(found: list[Match], target: int) -> list[dict[str, Any]]:
    """The matches as rows."""
    return [{"spec": m.spec, "values": list(m.values), "count": m.count, "residual": m.residual(target)} for m in found]
