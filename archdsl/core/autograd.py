"""A small autograd without numbers: what each layer allocates, holds and frees, forward and backward.

Going forward, a layer makes its result, holds what its gradient needs, and records how to go back. Going back, it makes
the gradients of its weights and inputs, then lets go of what it held: the order of PyTorch's engine.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeAlias

from archdsl.core.ir import Apply, Layer
from archdsl.core.saves import FULL, HALF, Sizes, backward_work, forward_work, kept_beside, saves_of, weights_of
from archdsl.core.timeline import Kind, Meter, Place, Storage, rounded, take
from archdsl.core.types import Shape


@dataclass(frozen=True, slots=True)
class Type:
    """What the memory of a value depends on, beside its shape."""

    wide: bool
    """In single precision though precision is mixed, as images are."""
    grad: bool
    """Has a gradient; images have none."""


@dataclass(slots=True, eq=False)
class Value:
    """A tensor without its numbers."""

    storage: Storage
    shape: Shape
    type: Type
    gradient: Storage | None = None


Back: TypeAlias = Callable[[], None]
"""Goes back through a step."""


@dataclass(slots=True, eq=False)
class Walk:
    """A region on its way: the tape is gone through from its end."""

    level: int
    """Of the region."""
    meter: Meter = field(default_factory=Meter)
    tape: list[tuple[Place, Back]] = field(default_factory=list)
    again: bool = False
    """All weights are those of an earlier use."""
    heads: list[Value] = field(default_factory=list)
    """The auxiliary outputs."""

    def record(self, back: Back) -> None:
        self.tape.append((self.meter.at, back))

    def go_back(self) -> None:
        while self.tape:
            self.meter.at, back = self.tape.pop()
            back()


class Autograd:
    """Layers and the loss, forward and backward."""

    def __init__(self, sizes: Sizes, accumulates: bool) -> None:
        self.sizes = sizes
        self.accumulates = accumulates
        """Whether weights have gradients already, of another part of a step."""

    def bytes(self, value: Value) -> int:
        """Of a tensor of its shape, such as its gradient."""
        return self.sizes.of(value.shape, value.type.wide)

    def give(self, meter: Meter, value: Value, gradient: Storage) -> None:
        """A gradient of a value arrives: it is added to those before, in place if nothing else holds their sum."""
        old = value.gradient
        if old is None:
            value.gradient = gradient
        elif old.holders == 1 and not old.part:
            gradient.drop(meter)
        else:
            value.gradient = take(meter, Kind.GRADIENTS, self.bytes(value))
            old.drop(meter)
            gradient.drop(meter)

    def layer(self, walk: Walk, step: Apply, inputs: list[Value], in_place: bool) -> Value:
        """Go forward through a layer; the caller holds the result. `in_place` if it overwrites its input."""
        assert isinstance(step.module, Layer)
        kind, meter, sizes, saves = step.module.kind, walk.meter, self.sizes, saves_of(step)
        wide = any(v.type.wide for v in inputs)
        casts = sizes.half and kind in ("Conv", "Linear")
        type_ = Type(
            sizes.half and (kind == "LocalResponseNorm" or (wide and not casts)),
            any(v.type.grad for v in inputs) or kind in ("Conv", "Linear", "BatchNorm"),
        )
        copies = sum(rounded(HALF * n) for n in weights_of(step)) if casts else 0
        if not (walk.again or step.again):
            meter.add(Kind.COPIES, copies)  # autocast keeps them to its end; the gradient needs them after that
        held = [v.storage.hold() for v in inputs if saves.inputs and type_.grad and not (casts and v.type.wide)]
        if casts and inputs[0].type.wide:
            held.append(take(meter, Kind.RESULTS, sizes.of(inputs[0].shape)))
        if type_.grad:
            held.append(take(meter, Kind.RESULTS, kept_beside(step, sizes, inputs[0].type.wide)))
        if not saves.fresh or in_place:
            storage = inputs[0].storage.hold()
        else:
            storage = take(meter, Kind.RESULTS, sizes.of(step.output, type_.wide))
        meter.brief(Kind.WORK, forward_work(step, sizes, type_.wide))
        output = Value(storage, step.output, type_)
        if saves.result and type_.grad:
            held.append(storage.hold())

        def back() -> None:
            self._layer_back(walk, step, inputs, output, held, copies)

        if type_.grad:
            walk.record(back)
        return output

    def _layer_back(
        self, walk: Walk, step: Apply, inputs: list[Value], output: Value, held: list[Storage], copies: int
    ) -> None:
        meter, gradient = walk.meter, output.gradient
        given: list[tuple[Value, Storage]] = []
        weights = weights_of(step)
        made = sum(rounded(FULL * n) for n in weights)
        # Of a copy in half precision, the gradient is in half precision first.
        first = sum(rounded(HALF * n) for n in weights) if copies else made
        if gradient is not None:
            meter.brief(Kind.WORK, backward_work(step, self.sizes, output.type.wide))
            given = self._gradients(meter, step, inputs, gradient)
            meter.add(Kind.WEIGHTS, first)
        for storage in held:
            storage.drop(meter)
        if not (walk.again or step.again):
            meter.add(Kind.COPIES, -copies)
        if gradient is None:
            return
        gradient.drop(meter)
        output.gradient = None
        if copies:
            meter.add(Kind.WEIGHTS, made)
            meter.add(Kind.WEIGHTS, -first)
        if walk.again or step.again or self.accumulates:
            meter.add(Kind.WEIGHTS, -made)  # added in place to those of the first use, or the part before
        for value, one in given:
            self.give(meter, value, one)

    def _gradients(
        self, meter: Meter, step: Apply, inputs: list[Value], gradient: Storage
    ) -> list[tuple[Value, Storage]]:
        """What an operation gives to its inputs."""
        asked = [v for v in inputs if v.type.grad]
        match saves_of(step).gradient:
            case "same":
                return [(v, gradient.hold()) for v in asked]
            case "part":
                if asked:
                    gradient.part = True
                return [(v, gradient.hold()) for v in asked]
            case "one":
                one = take(meter, Kind.GRADIENTS, self.bytes(asked[0])) if asked else gradient
                return [(v, one if i == 0 else one.hold()) for i, v in enumerate(asked)]
            case "new":
                return [(v, take(meter, Kind.GRADIENTS, self.bytes(v))) for v in asked]

    def loss(self, meter: Meter, output: Value) -> Back:
        """Cross-entropy is computed in single precision: it keeps the logarithms of the probabilities."""
        full = rounded(self.sizes.batch * output.shape.size * FULL)
        cast = self.sizes.half and not output.type.wide
        if cast:
            meter.add(Kind.RESULTS, full)
        logs = take(meter, Kind.RESULTS, full)
        if cast:
            meter.add(Kind.RESULTS, -full)

        def back() -> None:
            # Of the likelihoods, of the logarithms, and of the output in its own precision.
            meter.add(Kind.GRADIENTS, 2 * full)
            meter.add(Kind.GRADIENTS, -full)
            logs.drop(meter)
            gradient = take(meter, Kind.GRADIENTS, self.bytes(output))
            meter.add(Kind.GRADIENTS, -full)
            if output.type.grad:
                self.give(meter, output, gradient)
            else:
                gradient.drop(meter)

        return back
