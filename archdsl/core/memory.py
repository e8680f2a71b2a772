"""Memory of a training step and of inference, from the IR, and the largest batch that fits.

The figures are those of the generated training script on a CUDA device with PyTorch's allocator, as
`torch.cuda.max_memory_allocated` gives them: what tensors take. What the allocator keeps in reserve, the workspaces of
cuDNN and the context of CUDA are beside it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from archdsl.base.exhaustive import assert_never
from archdsl.core.inference import inference_peak
from archdsl.core.ir import Apply, Block, Head, Layer, Loop, Network, Region, Select, blocks_of
from archdsl.core.machines import Precision
from archdsl.core.position import name_of
from archdsl.core.saves import FULL, INDEX, Sizes, weights_of
from archdsl.core.timeline import Kind, rounded
from archdsl.core.training_step import TrainingStep

STATES = {"sgd": 0, "adamw": 2, "rmsprop": 1}
"""Numbers that an optimiser keeps for a parameter: moments. SGD and RMSProp keep one more for a momentum."""


@dataclass(frozen=True, slots=True)
class Peak:
    """What is alive, in bytes, at the moment of a training step when it is most."""

    phase: Literal["forward", "backward", "optimizer"]
    layer: str
    """The path of the layer that runs then, as PyTorch has it; with its kind if it has no name of its own."""
    results: int
    """The images, results of layers that the backward pass still needs or the layer reads, and what is kept beside."""
    copies: int
    """Copies of weights in half precision."""
    gradients: int
    """Of weights; they come into being one by one."""
    gradients_of_results: int
    workspace: int
    """What the operation needs while it runs."""


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes of a training step of a batch, and of inference on it."""

    parameters: int
    """With buffers."""
    gradients: int
    """Of all weights, as they are at the end of a step."""
    optimizer: int
    saved: int
    """What autograd keeps between the forward and the backward pass, with the batch itself."""
    peak: Peak
    inference: int
    """Parameters, and the results that are needed at one time."""

    @property
    def training(self) -> int:
        """The peak of a step: bytes."""
        at = self.peak
        held = at.results + at.copies + at.gradients + at.gradients_of_results + at.workspace
        return self.parameters + self.optimizer + held


def memory(network: Network, batch: int, precision: Precision) -> Memory:
    """The memory of a network that trains on so many images at a time: bytes.

    Where the recipe accumulates, these are the images of a part of a step, and gradients of weights last.
    Within 2% of what an H200 measured for 11 networks (tests/reference/gpu_memory.csv), and mostly a little below:
    workspaces of convolutions are not in it. The placement of a network is left aside.
    """
    sizes = Sizes(batch, precision in ("bf16", "fp16"))
    root = network.root
    weights, buffers = _held(root)
    recipe = dict(network.recipe.settings)
    optimizer = str(recipe["optimizer"])
    states = STATES[optimizer] + (optimizer != "adamw" and recipe["momentum"] != 0)
    # The training script holds the images to the end of the step, in single precision, and a label for each.
    images, labels = sizes.of(root.input, wide=True), rounded(batch * INDEX)
    parts = recipe["accumulate"] != 1
    step = TrainingStep(root, sizes, parts)
    # Foreach RMSProp makes the gradients with weight decay, and the roots of the averages; the others are fused.
    temporary = weights * (1 + (recipe["weight_decay"] != 0)) if optimizer == "rmsprop" else 0
    return Memory(
        parameters=weights + buffers,
        gradients=weights,
        optimizer=states * weights,
        saved=step.saved + images * step.keeps_batch,
        peak=_peak(root, step, images + labels, weights, parts, temporary),
        inference=weights + buffers + sizes.width() * batch * inference_peak(root),
    )


def _peak(root: Block, step: TrainingStep, images: int, weights: int, parts: bool, temporary: int) -> Peak:
    before = weights if parts else 0
    end = step.whole.change
    if sum(end) + temporary > sum(step.whole.peak):
        return Peak("optimizer", "", images + end[Kind.RESULTS], 0, weights, 0, temporary)
    phase: Literal["forward", "backward"] = "forward" if step.whole.peak == step.ahead.peak else "backward"
    at = step.whole.peak
    return Peak(
        phase,
        name_of(root, step.whole.place) or "the loss",
        images + at[Kind.RESULTS],
        at[Kind.COPIES],
        before + at[Kind.WEIGHTS],
        at[Kind.GRADIENTS],
        at[Kind.WORK],
    )


def largest_batch(network: Network, limit: int, precision: Precision) -> int:
    """The most images whose training peak is within so many bytes; 0 if one is too much."""

    def peak(batch: int) -> int:
        return memory(network, batch, precision).training

    low, least = 0, 0
    high, most = 1, peak(1)
    while most <= limit:  # images alone make an end
        low, least = high, most
        high *= 16
        most = peak(high)
    tries = 0
    while high - low > 1:
        # Peaks lie nearly on a straight line; that every other guess is the middle makes an end certain.
        tries += 1
        guess = (low + high) // 2
        if low and tries % 2:
            guess = min(max(low + (limit - least) * (high - low) // (most - least), low + 1), high - 1)
        size = peak(guess)
        low, least, high, most = (guess, size, high, most) if size <= limit else (low, least, guess, size)
    return low


def linear_memory(network: Network, precision: Precision) -> tuple[int, int]:
    """The training peak as a straight line: bytes whatever the batch, and bytes for each image.

    It goes through the peaks at the recipe's batch and at half of it, which is where batches usually are. In between it
    is at least the peak, but for the rounding of small tensors; below half the batch, where weights matter more than
    images, it is at most that.
    """
    recipe = dict(network.recipe.settings)
    high = max(2, int(str(recipe["batch_size"])) // int(str(recipe["accumulate"])))
    low = high // 2
    least, most = (memory(network, n, precision).training for n in (low, high))
    each = -(-(most - least) // (high - low))
    return max(0, most - high * each), each


# ---- what does not depend on the batch


def _held(root: Block) -> tuple[int, int]:
    """Bytes of weights and of buffers."""
    known: dict[int, tuple[int, int]] = {}
    for block in blocks_of(root):
        known[id(block)] = _held_by(block.body, known)
    return known[id(root)]


def _held_by(region: Region, known: dict[int, tuple[int, int]]) -> tuple[int, int]:
    weights = buffers = 0
    for step in region.steps:
        match step:
            case Apply(module=Block() as block):
                w, b = known[id(block)]
            case Apply():
                assert isinstance(step.module, Layer)
                w = sum(rounded(FULL * n) for n in weights_of(step))
                # Running means and variances, and the number of batches.
                b = 2 * rounded(FULL * step.output.channels) + rounded(INDEX) if step.module.kind == "BatchNorm" else 0
            case Select() | Head():
                w, b = _held_by(step.region, known)
            case Loop():
                pairs = [(run.count, _held_by(run.region, known)) for run in step.runs]
                w, b = sum(n * p[0] for n, p in pairs), sum(n * p[1] for n, p in pairs)
            case _:
                assert_never(step)
        if not (isinstance(step, Apply) and step.again):
            weights, buffers = weights + w, buffers + b
    return weights, buffers
