"""What devices hold and do in a training step."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Share:
    """What one device holds and does: for one image, but for the time."""

    params: int = 0
    macs: int = 0
    activations: int = 0
    """Elements of the results of all layers."""
    work: float = 0.0
    """Seconds of a training step that arithmetic and memory take."""
    launches: float = 0.0
    """Operations that the host starts; one that launches nothing is a part of one."""

    def __add__(self, other: Share) -> Share:
        return Share(
            self.params + other.params,
            self.macs + other.macs,
            self.activations + other.activations,
            self.work + other.work,
            self.launches + other.launches,
        )

    def times(self, count: int) -> Share:
        return Share(
            count * self.params,
            count * self.macs,
            count * self.activations,
            count * self.work,
            count * self.launches,
        )


@dataclass(frozen=True, slots=True)
class Cost:
    """A training step of a batch on one device, or on several that share it."""

    shares: tuple[Share, ...]
    elapsed: float
    """Seconds, where one device waits for another."""
    exchanged: int
    """Bytes between devices."""
    waiting: float
    """Seconds of `elapsed` that are transfers."""

    def __add__(self, other: Cost) -> Cost:
        shares = tuple(a + b for a, b in zip(self.shares, other.shares, strict=True))
        times = (self.elapsed + other.elapsed, self.exchanged + other.exchanged, self.waiting + other.waiting)
        return Cost(shares, *times)

    def times(self, count: int) -> Cost:
        shares = tuple(s.times(count) for s in self.shares)
        return Cost(shares, count * self.elapsed, count * self.exchanged, count * self.waiting)
