"""How long the layers of a network take on a machine: what `predict` adds up."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Protocol

from archdsl.core.cost import Share
from archdsl.core.fused import fused_work
from archdsl.core.ir import Apply, Block, Layer, Loop
from archdsl.core.kernels import CALL, FULL, VIEW, Kernel, Numbers, Work, additions, work_of
from archdsl.core.machines import Accelerator, Card
from archdsl.core.primitives import PRIMITIVES, parameters_of
from archdsl.core.types import Shape

PASSES = 3
"""The forward pass, and the gradients of input and weights."""

FUSED = 2.1
"""Operations of several functions that are computed as one, for each of one function: weights and statistics are put
together and apart in every step. Counted forward and backward for B(3,3)x[k=4]: 34, and 16 for each function."""


class Rates(Protocol):
    """The time of layers, of sums, and of functions that are computed as one, as shares of nothing else."""

    @property
    def size(self) -> int:
        """Bytes of a number of a result."""

    def layer(self, step: Apply, first: bool) -> Share:
        """Of a layer; the first one reads the images."""

    def call(self) -> Share:
        """Of calling a block."""

    def sums(self, shape: Shape) -> Share:
        """Of adding two tensors."""

    def join(self, loop: Loop) -> Share:
        """Of what follows iterations side by side."""

    def fused(self, function: Block, count: int, alone: Share) -> Share:
        """Of functions that are computed as one; `alone` is the share of one."""

    def seconds(self, share: Share) -> float:
        """That a share takes a device."""


@dataclass(frozen=True, slots=True)
class Roofline:
    """An operation takes as long as its arithmetic or its memory traffic, whichever is longer, and the time to launch
    it; its two gradients take as long each. Williams, Waterman and Patterson, CACM 52(4), 2009."""

    machine: Accelerator
    batch: int
    size = FULL

    def layer(self, step: Apply, first: bool) -> Share:
        assert isinstance(step.module, Layer)
        kind, args = step.module.kind, dict(step.module.args)
        elements = sum(s.size for s in step.shapes) + step.output.size
        params = parameters_of(kind, args, step.shapes)
        macs = PRIMITIVES[kind].macs(args, step.shapes, step.output)
        arithmetic = 2 * macs * self.batch / self.machine.flops
        traffic = FULL * (elements * self.batch + params) / self.machine.memory
        return Share(work=PASSES * max(arithmetic, traffic), launches=float(PASSES))

    def call(self) -> Share:
        return Share()

    def sums(self, shape: Shape) -> Share:
        return Share()

    def join(self, loop: Loop) -> Share:
        return Share()

    def fused(self, function: Block, count: int, alone: Share) -> Share:
        copied = PASSES * 2 * FULL * count * alone.params / self.machine.memory
        whole = alone.times(count)
        return replace(whole, work=whole.work + copied, launches=round(FUSED * alone.launches))

    def seconds(self, share: Share) -> float:
        return share.work + share.launches * self.machine.launch


@dataclass(frozen=True, slots=True)
class Kernels:
    """Kernels one after the other, as if their launches took no time: `launches` are for whoever knows the host."""

    card: Card
    numbers: Numbers

    @property
    def size(self) -> int:
        return self.numbers.size

    def layer(self, step: Apply, first: bool) -> Share:
        return self._share(work_of(step, self.numbers, first))

    def call(self) -> Share:
        return Share(launches=CALL)

    def sums(self, shape: Shape) -> Share:
        return self._share(additions(1, shape, self.numbers))

    def join(self, loop: Loop) -> Share:
        if loop.kind == "concat":
            return self._share(Work((Kernel(2 * self.numbers.bytes(loop.output)),), 1 + VIEW * loop.count))
        added = self.sums(loop.output).times(loop.count - 1)
        # A mean divides the sum, and its gradient.
        return added + self.sums(loop.output).times(2) if loop.kind == "mean" else added

    def fused(self, function: Block, count: int, alone: Share) -> Share:
        timed = Share()
        for work in fused_work(function, count, self.numbers):
            timed += self._share(work)
        whole = alone.times(count)
        return replace(whole, work=timed.work, launches=timed.launches)

    def seconds(self, share: Share) -> float:
        return share.work

    def _share(self, work: Work) -> Share:
        seconds = sum(k.seconds(self.card, self.numbers.precision) for k in work.kernels)
        return Share(work=seconds, launches=float(work.operations))
