"""What a placement costs on each device, and how long a training step takes on a stated machine.

What the layers take is for archdsl/core/rates.py; here it is added up over devices, with the transfers in between.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

from archdsl.base.exhaustive import assert_never
from archdsl.core.cost import Cost, Share
from archdsl.core.ir import Apply, Block, Head, Layer, Loop, Network, Placement, Ref, Region, Select, Step, blocks_of
from archdsl.core.kernels import FULL, Numbers
from archdsl.core.machines import Accelerator, Card, Machine, Precision
from archdsl.core.measure import measure
from archdsl.core.placement import place
from archdsl.core.primitives import PRIMITIVES, parameters_of
from archdsl.core.rates import Kernels, Rates, Roofline
from archdsl.core.reads import reads_in


def predict(network: Network, machine: Machine, batch: int, precision: Precision = "fp32") -> Cost:
    """The cost of a step under the placement of a network; on one device if it has none.

    On a `Card` seconds are those of kernels alone: what the host takes for its launches is another matter.
    """
    rates = _rates(machine, batch, precision)
    cost = _Predictor(network.placement, machine, batch, rates).network(place(network).root)
    if network.placement and network.placement.kind == "mesh":
        # Every process holds all parameters, and takes the mean of all gradients.
        total = measure(network).params
        held = tuple(replace(s, params=total) for s in cost.shares)
        n = network.placement.devices
        bytes_each = 2 * (n - 1) * total * FULL // n
        seconds = bytes_each / machine.link
        cost = Cost(held, cost.elapsed + seconds, cost.exchanged + bytes_each * n, cost.waiting + seconds)
    return cost


def data_parallel(network: Network, machine: Machine, batch: int, devices: int) -> float:
    """Seconds of a step if devices share the images: gradients go to the first, and weights come back."""
    alone = predict(replace(network, placement=None), machine, batch // devices)
    return alone.elapsed + 2 * alone.shares[0].params * FULL / machine.link


def _rates(machine: Machine, batch: int, precision: Precision) -> Rates:
    match machine:
        case Accelerator():
            return Roofline(machine, batch)
        case Card():
            return Kernels(machine, Numbers(batch, precision))


class _Predictor:
    def __init__(self, placement: Placement | None, machine: Machine, batch: int, rates: Rates) -> None:
        self.placement = placement
        self.machine = machine
        self.batch = batch
        self.rates = rates
        self.devices = placement.devices if placement else 1
        self.nothing = Cost((Share(),) * self.devices, 0.0, 0, 0.0)
        self.known: dict[int, Cost] = {}

    def network(self, root: Block) -> Cost:
        for block in blocks_of(root):
            is_sum = block.style == "parallel"
            cost = self._parallel(block) if is_sum else self._region(block.body, 0, block is root)
            self.known[id(block)] = cost
        return self.known[id(root)]

    def _region(self, region: Region, level: int, images: bool = False) -> Cost:
        """The cost of a region; one that reads `images` needs no gradient of its input."""
        total = self.nothing
        for step in region.steps:
            total = total + self._step(step, level, images)
        for ref, times in reads_in(region).items():
            if ref.level == level and times > 1 and not (images and ref.index == 0):
                # The gradients of a value that is read several times are added up.
                shape = region.steps[ref.index - 1].output if ref.index else region.input
                total = total + self._alone(self.rates.sums(shape)).times(times - 1)
        return total

    def _step(self, step: Step, level: int, images: bool) -> Cost:
        match step:
            case Apply(module=Block() as block):
                cost = self.known[id(block)]
                if step.label:
                    cost = cost + self._alone(self.rates.call())
                return replace(cost, shares=tuple(replace(s, params=0) for s in cost.shares)) if step.again else cost
            case Apply():
                return self._layer(step, images and step.inputs[0] == Ref(0, 0))
            case Select():
                return self._region(step.region, level + 1)
            case Head():
                # It takes time in training; `macs` are those of the result, as everywhere.
                cost = self._region(step.region, level + 1)
                return replace(cost, shares=tuple(replace(s, macs=0) for s in cost.shares))
            case Loop():
                total = self.nothing
                for run in step.runs:
                    total = total + self._region(run.region, level + 1).times(run.count)
                return total if step.kind == "sequence" else total + self._alone(self.rates.join(step))
            case _:
                assert_never(step)

    def _layer(self, step: Apply, first: bool) -> Cost:
        assert isinstance(step.module, Layer)
        kind, args = step.module.kind, dict(step.module.args)
        params = 0 if step.again else parameters_of(kind, args, step.shapes)
        macs = PRIMITIVES[kind].macs(args, step.shapes, step.output)
        time = self.rates.layer(step, first)
        return self._alone(replace(time, params=params, macs=macs, activations=step.output.size))

    def _alone(self, share: Share) -> Cost:
        """What is no parallel function: the first device computes it, or every process does."""
        mesh = self.placement is not None and self.placement.kind == "mesh"
        shares = (share,) * self.devices if mesh else (share, *self.nothing.shares[1:])
        return Cost(shares, self.rates.seconds(share), 0, 0.0)

    def _parallel(self, block: Block) -> Cost:
        """A placed sum: every device computes its functions, and the transfers stand before and after."""
        assert self.placement
        loop = block.body.steps[0]
        assert isinstance(loop, Loop)
        parts = [(run.start, run.count, self._region(run.region, 1).shares[0]) for run in loop.runs]
        if self.placement.kind == "fused":
            ((_, count, function),) = parts
            (step,) = loop.runs[0].region.steps
            assert isinstance(step, Apply) and isinstance(step.module, Block)
            return self._alone(self.rates.fused(step.module, count, function))
        n, total = self.devices, loop.count
        bounds = [-(-d * total // n) for d in range(n + 1)]
        met = self.rates.sums(block.output) + self.rates.sums(block.input)  # of a function and the one before
        shares = []
        for low, high in pairwise(bounds):
            mine = met.times(high - low)
            for start, count, function in parts:
                mine = mine + function.times(max(0, min(high, start + count) - max(low, start)))
            shares.append(mine)
        return self._exchange(tuple(shares), self.rates.size * self.batch * (block.input.size + block.output.size))

    def _exchange(self, shares: tuple[Share, ...], both: int) -> Cost:
        """`both` are the bytes of input and result; their gradients go the other way."""
        n = self.devices
        seconds = [self.rates.seconds(s) for s in shares]
        if self.placement and self.placement.kind == "mesh":
            each = 2 * (n - 1) * both // n  # all-reduce in a ring
            transfer = each / self.machine.link
            return Cost(shares, max(seconds) + transfer, each * n, transfer)
        transfer = 2 * both / self.machine.link
        elapsed = max(seconds[0], *(s + transfer for s in seconds[1:]))
        return Cost(shares, elapsed, 2 * both * (n - 1), max(0.0, elapsed - max(seconds)))
