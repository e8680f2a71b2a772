"""What a placement costs on each device, and how long a training step takes on a stated machine.

The model is a roofline: an operation takes as long as its arithmetic or its memory traffic, whichever is longer, and
the time to launch it; its two gradients take as long each. Williams, Waterman and Patterson, CACM 52(4), 2009.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise

from archdsl.base.exhaustive import assert_never
from archdsl.core.ir import Apply, Block, Head, Layer, Loop, Network, Placement, Region, Select, Step, blocks_of
from archdsl.core.measure import measure
from archdsl.core.placement import place
from archdsl.core.primitives import PRIMITIVES, parameters_of

BYTES = 4
"""Of a number in single precision."""

PASSES = 3
"""The forward pass, and the gradients of input and weights."""


FUSED = 2.1
"""Operations of several functions that are computed as one, for each of one function: weights and statistics are put
together and apart in every step. Counted forward and backward for B(3,3)x[k=4]: 34, and 16 for each function."""


@dataclass(frozen=True, slots=True)
class Machine:
    """A device, and what joins it to others."""

    name: str
    flops: float
    """Operations a second that convolutions reach."""
    memory: float
    """Bytes a second to and from its memory."""
    link: float
    """Bytes a second to another device."""
    launch: float
    """Seconds to start an operation."""


MACHINES = {
    m.name: m
    for m in (
        # One of the two processors of a Tesla K80, of 2.8 TFLOPS, with the link of arXiv:1609.05672, section IV.D. That
        # convolutions of few channels reach a fifth, and the launches, are fitted to the residual networks of table V.
        Machine("k80", 0.2 * 2.8e12, 240e9, 16e9, 20e-6),
        # From the data sheets, with the same share of the single precision peak.
        Machine("a100", 0.2 * 19.5e12, 1555e9, 300e9, 5e-6),
        Machine("h100", 0.2 * 67e12, 3350e9, 450e9, 5e-6),
    )
}


@dataclass(frozen=True, slots=True)
class Share:
    """What one device holds and does: for one image, but for the time."""

    params: int = 0
    macs: int = 0
    activations: int = 0
    """Elements of the results of all layers."""
    work: float = 0.0
    """Seconds of a training step that arithmetic and memory take."""
    launches: int = 0

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


def predict(network: Network, machine: Machine, batch: int) -> Cost:
    """The cost of a step under the placement of a network; on one device if it has none."""
    cost = _Predictor(network.placement, machine, batch).network(place(network).root)
    if network.placement and network.placement.kind == "mesh":
        # Every process holds all parameters, and takes the mean of all gradients.
        total = measure(network).params
        held = tuple(replace(s, params=total) for s in cost.shares)
        n = network.placement.devices
        bytes_each = 2 * (n - 1) * total * BYTES // n
        seconds = bytes_each / machine.link
        cost = Cost(held, cost.elapsed + seconds, cost.exchanged + bytes_each * n, cost.waiting + seconds)
    return cost


def data_parallel(network: Network, machine: Machine, batch: int, devices: int) -> float:
    """Seconds of a step if devices share the images: gradients go to the first, and weights come back."""
    alone = predict(replace(network, placement=None), machine, batch // devices)
    return alone.elapsed + 2 * alone.shares[0].params * BYTES / machine.link


class _Predictor:
    def __init__(self, placement: Placement | None, machine: Machine, batch: int) -> None:
        self.placement = placement
        self.machine = machine
        self.batch = batch
        self.devices = placement.devices if placement else 1
        self.nothing = Cost((Share(),) * self.devices, 0.0, 0, 0.0)
        self.known: dict[int, Cost] = {}

    def network(self, root: Block) -> Cost:
        for block in blocks_of(root):
            is_sum = block.style == "parallel"
            self.known[id(block)] = self._parallel(block) if is_sum else self._region(block.body)
        return self.known[id(root)]

    def _region(self, region: Region) -> Cost:
        total = self.nothing
        for step in region.steps:
            total = total + self._step(step)
        return total

    def _step(self, step: Step) -> Cost:
        match step:
            case Apply(module=Block() as block, again=again):
                cost = self.known[id(block)]
                return replace(cost, shares=tuple(replace(s, params=0) for s in cost.shares)) if again else cost
            case Apply():
                return self._layer(step)
            case Select():
                return self._region(step.region)
            case Head():
                # It takes time in training; `macs` are those of the result, as everywhere.
                cost = self._region(step.region)
                return replace(cost, shares=tuple(replace(s, macs=0) for s in cost.shares))
            case Loop():
                total = self.nothing
                for run in step.runs:
                    total = total + self._region(run.region).times(run.count)
                return total
            case _:
                assert_never(step)

    def _layer(self, step: Apply) -> Cost:
        assert isinstance(step.module, Layer)
        kind, args = step.module.kind, dict(step.module.args)
        params = parameters_of(kind, args, step.shapes)
        macs = PRIMITIVES[kind].macs(args, step.shapes, step.output)
        elements = sum(s.size for s in step.shapes) + step.output.size
        arithmetic = 2 * macs * self.batch / self.machine.flops
        traffic = BYTES * (elements * self.batch + params) / self.machine.memory
        work = PASSES * max(arithmetic, traffic)
        share = Share(0 if step.again else params, macs, step.output.size, work, PASSES)
        return self._alone(share)

    def _alone(self, share: Share) -> Cost:
        """What is no parallel function: the first device computes it, or every process does."""
        mesh = self.placement is not None and self.placement.kind == "mesh"
        shares = (share,) * self.devices if mesh else (share, *self.nothing.shares[1:])
        return Cost(shares, self._seconds(share), 0, 0.0)

    def _seconds(self, share: Share) -> float:
        return share.work + share.launches * self.machine.launch

    def _parallel(self, block: Block) -> Cost:
        """A placed sum: every device computes its functions, and the transfers stand before and after."""
        assert self.placement
        loop = block.body.steps[0]
        assert isinstance(loop, Loop)
        parts = [(run.start, run.count, self._region(run.region).shares[0]) for run in loop.runs]
        if self.placement.kind == "fused":
            ((_, count, function),) = parts
            copied = PASSES * 2 * BYTES * count * function.params / self.machine.memory
            whole = function.times(count)
            launches = round(FUSED * function.launches)
            return self._alone(replace(whole, work=whole.work + copied, launches=launches))
        n, total = self.devices, loop.count
        bounds = [-(-d * total // n) for d in range(n + 1)]
        shares = []
        for low, high in pairwise(bounds):
            mine = Share()
            for start, count, function in parts:
                mine = mine + function.times(max(0, min(high, start + count) - max(low, start)))
            shares.append(mine)
        return self._exchange(tuple(shares), BYTES * self.batch * (block.input.size + block.output.size))

    def _exchange(self, shares: tuple[Share, ...], both: int) -> Cost:
        """`both` are the bytes of input and result; their gradients go the other way."""
        n = self.devices
        seconds = [self._seconds(s) for s in shares]
        if self.placement and self.placement.kind == "mesh":
            each = 2 * (n - 1) * both // n  # all-reduce in a ring
            transfer = each / self.machine.link
            return Cost(shares, max(seconds) + transfer, each * n, transfer)
        transfer = 2 * both / self.machine.link
        elapsed = max(seconds[0], *(s + transfer for s in seconds[1:]))
        return Cost(shares, elapsed, 2 * both * (n - 1), max(0.0, elapsed - max(seconds)))
