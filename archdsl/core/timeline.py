"""Bytes that are alive over time: what a stretch of a training step changes, and how high it rises.

A stretch is known by two figures: its change from start to end, and its peak above the start. Those of two stretches
one after the other follow from theirs, and so do those of a million equal ones: the algebra is (max, +), and the cost
of a loop does not depend on its count.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import IntEnum
from typing import TypeAlias

BLOCK = 512
"""Bytes: PyTorch's allocator on CUDA rounds every tensor up to a multiple (kMinBlockSize in CUDACachingAllocator)."""


class Kind(IntEnum):
    """What bytes are for."""

    RESULTS = 0
    """Results of layers, with what autograd keeps beside them: masks, indices, statistics."""
    COPIES = 1
    """Copies of weights in half precision."""
    WEIGHTS = 2
    """Gradients of weights."""
    GRADIENTS = 3
    """Gradients of results."""
    WORK = 4
    """What one operation needs while it runs."""


Bytes: TypeAlias = tuple[int, ...]
"""Bytes of each kind."""

Place: TypeAlias = tuple[tuple[int, int, int], ...]
"""Where in a region: the position of a step, and of a loop the run and the iteration of it; then the same inside."""

NONE: Bytes = (0,) * len(Kind)


def rounded(size: int) -> int:
    """The bytes that a tensor takes.

    >>> rounded(1), rounded(512), rounded(0)
    (512, 512, 0)
    """
    return -(-size // BLOCK) * BLOCK


@dataclass(frozen=True, slots=True)
class Segment:
    """A stretch of time."""

    change: Bytes = NONE
    """From start to end."""
    peak: Bytes = NONE
    """Above the start, where the sum is largest; the start itself counts."""
    place: Place = ()
    """Where that is; empty for the start."""

    def then_free(self, kind: Kind, size: int) -> Segment:
        """The same, and bytes that go at its end."""
        change = tuple(c - size * (k == kind) for k, c in enumerate(self.change))
        return replace(self, change=change)

    def times(self, count: int, step: int, run: int, first: int, backward: bool = False) -> Segment:
        """Equal stretches one after the other: iterations of a run of a loop, which is a step; `first` is the lowest.

        Each begins where the one before ends, so the highest is the last if they grow, and the first if not. Backward,
        the last iteration comes first.
        """
        if count == 0:
            return Segment()
        before = count - 1 if sum(self.change) > 0 else 0
        peak = tuple(before * c + p for c, p in zip(self.change, self.peak, strict=True))
        iteration = first + (count - 1 - before if backward else before)
        return Segment(tuple(count * c for c in self.change), peak, ((step, run, iteration), *self.place))


class Meter:
    """What is alive now, and what was when it was most."""

    def __init__(self) -> None:
        self.now = [0] * len(Kind)
        self.at: Place = ()
        """Where the walk is."""
        self._most = 0
        self._peak: Bytes = NONE
        self._place: Place = ()

    def add(self, kind: Kind, size: int) -> None:
        """Bytes come, or go if `size` is below zero."""
        self.now[kind] += size
        if size > 0 and sum(self.now) > self._most:
            self._note(tuple(self.now), self.at)

    def brief(self, kind: Kind, size: int) -> None:
        """Bytes come and go."""
        self.add(kind, size)
        self.add(kind, -size)

    def run(self, segment: Segment, at: Place | None = None) -> None:
        """A stretch that is known."""
        peak = tuple(n + p for n, p in zip(self.now, segment.peak, strict=True))
        if sum(peak) > self._most:
            self._note(peak, (*(self.at if at is None else at), *segment.place))
        self.now = [n + c for n, c in zip(self.now, segment.change, strict=True)]

    def segment(self) -> Segment:
        """All since the meter was made."""
        return Segment(tuple(self.now), self._peak, self._place)

    def _note(self, peak: Bytes, place: Place) -> None:
        self._most, self._peak, self._place = sum(peak), peak, place


@dataclass(slots=True, eq=False)
class Storage:
    """A tensor's memory, which several may share. It goes when nothing holds it any longer."""

    size: int
    kind: Kind
    holders: int = 1
    part: bool = False
    """Seen through a view of a part of it: nothing can be added to it in place."""

    def hold(self) -> Storage:
        self.holders += 1
        return self

    def drop(self, meter: Meter) -> None:
        self.holders -= 1
        if self.holders == 0:
            meter.add(self.kind, -self.size)


def take(meter: Meter, kind: Kind, size: int) -> Storage:
    """A new tensor."""
    meter.add(kind, size)
    return Storage(size, kind)
