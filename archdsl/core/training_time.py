"""How long a network trains on a stated machine: seconds of a step, of an epoch, and of its recipe.

The script that is generated launches every operation of a step anew, so that a step takes as long as the host needs for
its launches, or as the device needs for its kernels. A step that was captured as one CUDA graph needs the device alone.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from archdsl.base.exhaustive import assert_never
from archdsl.core.data import DATA_SETS
from archdsl.core.ir import Apply, Block, Head, Layer, Loop, Network, Region, Select, blocks_of
from archdsl.core.kernels import FULL, LAUNCH, STREAMED
from archdsl.core.machines import Accelerator, Card, Machine, Precision, precisions_of
from archdsl.core.measure import measure
from archdsl.core.predict import predict
from archdsl.core.primitives import PRIMITIVES
from archdsl.core.recipe import untrainable

OPERATION = 27.4e-6
"""Seconds that the host takes to start an operation: Python, dispatch, autograd and the launch. It belongs to the host
and to the versions of Python and PyTorch, more than to the card."""

OUTSIDE = 3e-3
"""Seconds of a step that the host takes outside the network: batch, augmentation, loss and optimiser."""

TURN = 1.4e-3
"""Seconds that the loop of the script takes between two steps: its progress bar, signals, and the next indices."""

AROUND = 35
"""Kernels of a step outside the network, beside those of the update."""

AUGMENTED = 24
"""How often these move the images, in single precision."""

TENSORS = 30
"""Parameters that one kernel of a fused update takes."""

MOVED = {"sgd": 3, "adamw": 7, "rmsprop": 5}
"""Numbers that an update reads and writes for one of a parameter: it, its gradient and moments. SGD and RMSProp move
two more for a momentum."""


@dataclass(frozen=True, slots=True)
class StepTime:
    """Seconds of a training step."""

    device: float
    """What the kernels take, one after the other, with transfers between devices."""
    waiting: float
    """Transfers, in `device`."""
    host: float = 0.0
    """What the host takes to launch them one by one."""
    turn: float = 0.0
    """What the loop of the script takes between two steps."""
    captured: bool = False
    """Whether the step can be one CUDA graph."""

    @property
    def launched(self) -> float:
        """Of a loop that launches every operation, and does nothing else."""
        return max(self.device, self.host)

    @property
    def eager(self) -> float:
        """Of the script, which launches every operation."""
        return self.launched + self.turn

    @property
    def graph(self) -> float | None:
        """As one CUDA graph; None where a step cannot be one."""
        return self.device if self.captured else None


def step_time(network: Network, machine: Machine, batch: int, precision: Precision) -> StepTime:
    """Seconds of a step of `batch` images under the placement of a network.

    One that divides functions over devices is not captured, and a machine without CUDA graphs captures nothing.
    """
    parts = _parts(network)
    cost = predict(network, machine, -(-batch // parts), precision)
    device, waiting = parts * cost.elapsed, parts * cost.waiting
    match machine:
        case Accelerator():
            return StepTime(device, waiting)
        case Card():
            launches = [share.launches for share in cost.shares]
            kind = network.placement.kind if network.placement else None
            # One process launches what all devices of a `split` compute; those of a `mesh` each launch their own.
            busiest = max(launches) if kind == "mesh" else sum(launches)
            host = OPERATION * parts * busiest + OUTSIDE
            # The scale of fp16 is decided from step to step, and functions on several devices have several processes.
            captured = precision != "fp16" and kind in (None, "fused")
            return StepTime(device + _outside(network, machine, batch), waiting, host, TURN, captured)


def precision_of(network: Network, machine: Machine) -> Precision:
    """The precision that the script of a network would train in on a machine."""
    asked = str(dict(network.recipe.settings)["precision"])
    known = precisions_of(machine)
    wanted = "bf16" if asked == "auto" else asked
    return next((p for p in known if p == wanted), "fp32")


def batch_of(network: Network) -> int:
    """The images of a step of the recipe."""
    return int(str(dict(network.recipe.settings)["batch_size"]))


def images_of(network: Network) -> int | None:
    """The images of an epoch; None where the script does not know them before it runs, or there is no script."""
    return None if untrainable(network) or network.data is None else DATA_SETS[network.data].images


def steps_of(network: Network, images: int, batch: int) -> int:
    """The steps of an epoch. The script leaves out a last batch that has less than two images for each of its parts,
    which batch normalisation cannot take."""
    last = images % batch
    least = min(2 * _parts(network), batch)
    return images // batch + (last >= least and last > 0)


def _parts(network: Network) -> int:
    """Of a step, one after the other."""
    return int(str(dict(network.recipe.settings)["accumulate"]))


def _outside(network: Network, card: Card, batch: int) -> float:
    """Seconds of the kernels outside the network."""
    recipe = dict(network.recipe.settings)
    optimizer = str(recipe["optimizer"])
    numbers = MOVED[optimizer] + 2 * (optimizer != "adamw" and recipe["momentum"] != 0)
    moved = FULL * (numbers * _float(measure(network).params) + AUGMENTED * batch * network.input.size)
    return moved / (STREAMED * card.memory) + LAUNCH * (AROUND + _float(_tensors(network.root)) / TENSORS)


def _float(count: int) -> float:
    """A count of a network that may have more than floating point holds."""
    return float(count) if count < 10**300 else math.inf


def _tensors(root: Block) -> int:
    """The parameters of a network, each of which is a tensor."""
    known: dict[int, int] = {}
    for block in blocks_of(root):
        known[id(block)] = _tensors_in(block.body, known)
    return known[id(root)]


def _tensors_in(region: Region, known: dict[int, int]) -> int:
    total = 0
    for step in region.steps:
        match step:
            case Apply(module=Block() as block):
                total += 0 if step.again else known[id(block)]
            case Apply():
                assert isinstance(step.module, Layer)
                weights = PRIMITIVES[step.module.kind].weights(dict(step.module.args), step.shapes)
                total += 0 if step.again else len(weights)
            case Select() | Head():
                total += _tensors_in(step.region, known)
            case Loop():
                total += sum(run.count * _tensors_in(run.region, known) for run in step.runs)
            case _:
                assert_never(step)
    return total
