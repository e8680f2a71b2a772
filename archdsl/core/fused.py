"""What equal functions of one input launch where they are computed as one function of as many times the channels.

It follows what is written for such functions: archdsl/backend/fuse.py, and what that calls in templates/support/.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from archdsl.core.ir import Apply, Block, Head, Layer, Loop, Region, Select
from archdsl.core.kernels import FULL, VIEW, Kernel, Numbers, Work, additions, work_of
from archdsl.core.primitives import parameters_of
from archdsl.core.types import Shape


def fused_work(function: Block, count: int, numbers: Numbers) -> Iterator[Work]:
    """What the layers of `count` functions of one input launch, with their channels side by side."""
    steps = list(_chain(function.body))
    wide = False
    for i, step in enumerate(steps):
        assert isinstance(step.module, Layer)
        if step.module.kind == "BatchNorm":
            if not wide:  # the input is copied for each function, and its gradients are added up
                copies = numbers.bytes(step.output) * count
                yield Work((Kernel(1.5 * copies), Kernel(1.5 * copies)), 1 + (1 + VIEW) * count)
            # Weights, biases and statistics are put together; statistics go back to every function.
            yield Work((Kernel(),) * 5, 4 + 2 * VIEW + 2 * count * VIEW)
            wide = True
        if step.module.kind == "Conv":
            adding = wide and i == len(steps) - 1 and step.module.arg("groups") == 1
            # Weights are put together, and gradients handed to every function.
            weights = parameters_of("Conv", dict(step.module.args), step.shapes)
            yield Work((Kernel(2 * FULL * weights * count),), 1 + count * (VIEW + adding))
            yield work_of(_widened(step, count, wide, adding), numbers)
            wide = True
            if adding:
                return
        else:
            yield work_of(_widened(step, count, wide, False) if wide else step, numbers)
    yield additions(1, function.input, numbers)


def _chain(region: Region) -> Iterator[Apply]:
    """The layers of a function that can be fused, in order."""
    for step in region.steps:
        match step:
            case Apply():
                yield step
            case Select() | Head():
                yield from _chain(step.region)
            case Loop():
                for run in step.runs:
                    for _ in range(run.count):
                        yield from _chain(run.region)


def _widened(step: Apply, count: int, wide: bool, adding: bool) -> Apply:
    """A layer with the channels of several functions; an adding convolution gives those of one."""
    assert isinstance(step.module, Layer)

    def widen(shape: Shape) -> Shape:
        return shape.with_channels(count * shape.channels)

    shapes = tuple(widen(s) for s in step.shapes) if wide else step.shapes
    output = step.output if adding else widen(step.output)
    args = dict(step.module.args)
    if step.module.kind == "Conv":
        args["width"] = output.channels
        if wide and not adding:
            args["groups"] = count * int(str(args["groups"]))
    layer = Layer(step.module.kind, tuple(args.items()))
    return replace(step, module=layer, label=None, shapes=shapes, output=output)
