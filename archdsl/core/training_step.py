"""A training step in order, from the IR: forward, loss, backward; what each operation allocates, and what it frees.

It is a small autograd without numbers. Going forward, an operation makes its result, holds what its gradient needs,
and writes down how to go back; a value nobody reads any more goes, unless it is held. Going back in reverse order, an
operation makes the gradients of its weights and inputs, then lets go of what it held. A block, or an iteration, is
walked once for all places where it stands in the same way, and is a segment there (timeline.py).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

from archdsl.base.exhaustive import assert_never
from archdsl.core.ir import Apply, Block, Head, Layer, Loop, Ref, Region, Select, Step
from archdsl.core.saves import (
    FRESH,
    FULL,
    HALF,
    Sizes,
    backward_work,
    forward_work,
    kept_beside,
    saves_of,
    weights_of,
)
from archdsl.core.timeline import Kind, Meter, Segment, Storage, rounded, take
from archdsl.core.types import Shape


@dataclass(frozen=True, slots=True)
class _Type:
    """What the memory of a value depends on, beside its shape."""

    wide: bool
    """In single precision though precision is mixed, as images are."""
    grad: bool
    """Has a gradient; images have none."""


@dataclass(frozen=True, slots=True)
class _Case:
    """How a block or iteration stands where it is used."""

    input: _Type
    again: bool
    """Its weights are those of an earlier use."""
    shared: bool
    """Others hold the gradient of its result, too."""
    beside: bool = False
    """It is one of several on one input: what they add to its gradient is in one place, outside."""


@dataclass(slots=True, eq=False)
class _Value:
    storage: Storage
    shape: Shape
    type: _Type
    gradient: Storage | None = None


@dataclass(frozen=True, slots=True)
class _Summary:
    """A block or an iteration as a whole."""

    forward: Segment
    backward: Segment
    output: Shape
    type: _Type
    is_view: bool
    """Its result has the storage of its input."""
    keeps_input: bool
    keeps_output: bool
    passes: bool
    """The gradient of its input has the storage of that of its result."""
    gradient: int | None
    """Bytes of the storage of the gradient of its input, if it has one."""
    keeps: tuple[Ref, ...]
    """Values around it that it keeps."""
    reads: tuple[Ref, ...]
    """Values around it that have gradients from it."""


_Back = Callable[[], None]


@dataclass(slots=True, eq=False)
class _Walk:
    """A region on its way: the tape is gone through from its end."""

    level: int
    meter: Meter = field(default_factory=Meter)
    tape: list[tuple[tuple[tuple[int, int, int], ...], _Back]] = field(default_factory=list)
    again: bool = False
    heads: list[_Value] = field(default_factory=list)

    def record(self, back: _Back) -> None:
        self.tape.append((self.meter.at, back))

    def go_back(self) -> None:
        while self.tape:
            self.meter.at, back = self.tape.pop()
            back()


class TrainingStep:
    """The forward and the backward pass of a batch."""

    def __init__(self, root: Block, sizes: Sizes) -> None:
        self.sizes = sizes
        self._known: dict[object, _Summary] = {}
        self._outer: dict[int, tuple[Ref, ...]] = {}
        walk = _Walk(0)
        image = _Value(_outside(), root.input, _Type(sizes.half, False))
        outputs = [self._region(walk, root.body, {Ref(0, 0): image}), *walk.heads]
        own = sum(o.storage.size for o in outputs if o.storage.holders == 1)
        self.saved = sum(walk.meter.now) - own
        """Bytes that autograd keeps at the end of the forward pass, the batch itself apart."""
        self.keeps_batch = image.storage.holders > 1
        self.ahead = walk.meter.segment()
        """The forward pass."""
        for output in outputs:
            walk.record(self._loss(walk.meter, output))
        walk.go_back()
        self.whole = walk.meter.segment()
        """Both passes; at its end there are the gradients of all weights."""

    def _loss(self, meter: Meter, output: _Value) -> _Back:
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
            gradient = take(meter, Kind.GRADIENTS, self._bytes(output))
            meter.add(Kind.GRADIENTS, -full)
            if output.type.grad:
                self._give(meter, output, gradient)
            else:
                gradient.drop(meter)

        return back

    # ---- values

    def _bytes(self, value: _Value) -> int:
        return self.sizes.of(value.shape, value.type.wide)

    def _give(self, meter: Meter, value: _Value, gradient: Storage) -> None:
        """A gradient of a value arrives: it is added to those before, in place if nothing else holds their sum."""
        old = value.gradient
        if old is None:
            value.gradient = gradient
        elif old.holders == 1 and not old.part:
            gradient.drop(meter)
        else:
            value.gradient = take(meter, Kind.GRADIENTS, self._bytes(value))
            old.drop(meter)
            gradient.drop(meter)

    # ---- regions

    def _region(self, walk: _Walk, region: Region, values: dict[Ref, _Value], into: Step | None = None) -> _Value:
        """Go forward; the output, which the caller holds. `values` are those around, and the region's input.

        `into` is the step that alone reads the output, if one does.
        """
        level, at = walk.level, walk.meter.at
        readers = _readers(region, level)
        order = _order(region, level, readers)
        when = {i: n for n, i in enumerate(order)} | {len(region.steps) + 1: len(order)}
        # A name that a `let` gives is given to nothing else, so it holds its value until `forward` returns.
        named = {Ref(level, i) for i, _ in region.names if len(readers.get(Ref(level, i), ())) > 1}
        ending: dict[int, list[Ref]] = {}
        for ref, by in readers.items():
            if ref not in named:
                ending.setdefault(max(when[i] for i in by), []).append(ref)
        local: set[Ref] = set()
        values = dict(values)
        for i in order:
            step, ref, behind = region.steps[i - 1], Ref(level, i), Ref(level, i - 1)
            walk.meter.at = (*at, (i - 1, 0, 0))
            before = region.steps[i - 2] if i > 1 and isinstance(step, Apply) and step.inputs[0] == behind else None
            overwrites = _overwrites(step, before, readers.get(behind, []))
            values[ref] = self._step(walk, step, values, overwrites, _only_reader(region, readers.get(ref, []), into))
            local.add(ref)
            for gone in (*ending.get(when[i], ()), *(() if ref in readers else (ref,))):
                if gone in local:
                    values[gone].storage.drop(walk.meter)
                    local.remove(gone)
        walk.meter.at = at
        result = values[region.output]
        if region.output in local:
            local.remove(region.output)
        else:
            result.storage.hold()
        for ref in local:
            values[ref].storage.drop(walk.meter)
        return result

    def _step(self, walk: _Walk, step: Step, values: dict[Ref, _Value], overwrites: bool, into: Step | None) -> _Value:
        match step:
            case Apply(module=Block() as block):
                source = values[step.inputs[0]]
                case = _Case(source.type, walk.again or step.again, False)
                return self._call(walk, block.body, 0, {}, source, case)
            case Apply():
                return self._layer(walk, step, [values[r] for r in step.inputs], overwrites)
            case Select():
                return self._inside(walk, step.region, values, into)
            case Head():
                output = self._inside(walk, step.region, values)
                output.storage.hold()
                walk.heads.append(output)
                return output
            case Loop(kind="sequence"):
                return self._sequence(walk, step, values)
            case Loop():
                # Functions that differ are written out: their sum is one expression.
                one_by_one = _is_addition(into) if step.kind == "sum" else all(r.count == 1 for r in step.runs)
                return self._parallel(walk, step, values, one_by_one and step.kind != "concat")
            case _:
                assert_never(step)

    def _inside(self, walk: _Walk, region: Region, values: dict[Ref, _Value], into: Step | None = None) -> _Value:
        walk.level += 1
        result = self._region(walk, region, values, into)
        walk.level -= 1
        return result

    # ---- layers

    def _layer(self, walk: _Walk, step: Apply, inputs: list[_Value], overwrites: bool) -> _Value:
        assert isinstance(step.module, Layer)
        kind, meter, sizes, saves = step.module.kind, walk.meter, self.sizes, saves_of(step)
        wide = any(v.type.wide for v in inputs)
        casts = sizes.half and kind in ("Conv", "Linear")
        type_ = _Type(
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
        if not saves.fresh or overwrites:
            storage = inputs[0].storage.hold()
        else:
            storage = take(meter, Kind.RESULTS, sizes.of(step.output, type_.wide))
        meter.brief(Kind.WORK, forward_work(step, sizes, type_.wide))
        output = _Value(storage, step.output, type_)
        if saves.result and type_.grad:
            held.append(storage.hold())

        def back() -> None:
            self._layer_back(walk, step, inputs, output, held, copies)

        if type_.grad:
            walk.record(back)
        return output

    def _layer_back(
        self, walk: _Walk, step: Apply, inputs: list[_Value], output: _Value, held: list[Storage], copies: int
    ) -> None:
        meter, gradient = walk.meter, output.gradient
        given: list[tuple[_Value, Storage]] = []
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
        if walk.again or step.again:
            meter.add(Kind.WEIGHTS, -made)  # added in place to that of the first use
        for value, one in given:
            self._give(meter, value, one)

    def _gradients(
        self, meter: Meter, step: Apply, inputs: list[_Value], gradient: Storage
    ) -> list[tuple[_Value, Storage]]:
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
                one = take(meter, Kind.GRADIENTS, self._bytes(asked[0])) if asked else gradient
                return [(v, one if i == 0 else one.hold()) for i, v in enumerate(asked)]
            case "new":
                return [(v, take(meter, Kind.GRADIENTS, self._bytes(v))) for v in asked]

    # ---- blocks and iterations

    def _summary(self, region: Region, level: int, values: dict[Ref, _Value], case: _Case) -> _Summary:
        """A region on its own; the values around it are outside, and so are the gradients that they have."""
        outer = self._reads(region, level)
        key = (id(region), case, tuple((values[r].type, values[r].shape) for r in outer))
        if key not in self._known:
            self._known[key] = self._summarise(region, level, {r: values[r] for r in outer}, case)
        return self._known[key]

    def _reads(self, region: Region, level: int) -> tuple[Ref, ...]:
        if id(region) not in self._outer:
            found = tuple(sorted(r for r in reads_of(region) if r.level < level))
            self._outer[id(region)] = found
        return self._outer[id(region)]

    def _summarise(self, region: Region, level: int, around: dict[Ref, _Value], case: _Case) -> _Summary:
        walk = _Walk(level, again=case.again)
        outside = {r: _Value(_outside(), v.shape, v.type, _outside()) for r, v in around.items()}
        source = _Value(_outside(), region.input, case.input, _outside() if case.beside else None)
        output = self._region(walk, region, {**outside, Ref(level, 0): source})
        forward = walk.meter.segment()
        is_view = output.storage is source.storage
        kept = output.storage.holders > 1
        keeps_input = source.storage.holders > 1 + is_view
        # Whoever uses the result holds it now, unless it is kept here.
        if kept:
            output.storage.holders -= 1
        elif not is_view:
            output.storage.hold()
        keeps = tuple(r for r, v in outside.items() if v.storage.holders > 1)
        walk.meter = meter = Meter()
        gradient = Storage(self._bytes(output), Kind.GRADIENTS, 2 if case.shared else 1)
        if output.type.grad:
            self._give(meter, output, gradient)
        else:
            gradient.drop(meter)
        walk.go_back()
        back = source.gradient
        passes = back is gradient
        return _Summary(
            forward,
            meter.segment(),
            output.shape,
            output.type,
            is_view,
            keeps_input,
            kept and not is_view,
            passes,
            back.size if back else None,
            keeps,
            tuple(r for r, v in outside.items() if v.type.grad),
        )

    def _result(self, known: _Summary, source: _Value) -> _Value:
        """The result of a block that has run; its bytes are in the change of the block."""
        if known.is_view:
            return _Value(source.storage.hold(), known.output, known.type)
        size = self.sizes.of(known.output, known.type.wide)
        return _Value(Storage(size, Kind.RESULTS, 1 + known.keeps_output), known.output, known.type)

    def _hold(self, known: _Summary, source: _Value, values: dict[Ref, _Value]) -> list[Storage]:
        """What a block keeps that is not its own."""
        own = [source.storage.hold()] if known.keeps_input else []
        return [*own, *(values[r].storage.hold() for r in known.keeps)]

    def _prepare(self, meter: Meter, values: list[_Value]) -> None:
        """Values to whose gradients iterations add."""
        for value in values:
            old = value.gradient
            if value.type.grad and (old is None or old.holders > 1 or old.part):
                self._give(meter, value, take(meter, Kind.GRADIENTS, self._bytes(value)))

    def _call(
        self, walk: _Walk, region: Region, level: int, values: dict[Ref, _Value], source: _Value, case: _Case
    ) -> _Value:
        """Run a block, or the first of equal iterations; the caller holds the result."""
        known = self._summary(region, level, values, case)
        walk.meter.run(known.forward)
        output = self._result(known, source)
        held = self._hold(known, source, values)

        def back() -> None:
            meter, gradient = walk.meter, output.gradient
            if gradient is not None:
                self._prepare(meter, [values[r] for r in known.reads])
                shared = gradient.holders > 1
                inside = self._summary(region, level, values, replace(case, shared=shared))
                meter.run(inside.backward)
                gradient = self._after(meter, inside, gradient, output, shared)
                output.gradient = None
            self._let_go(meter, known, output)
            for storage in held:
                storage.drop(meter)
            if gradient is not None:
                self._give(meter, source, gradient)

        walk.record(back)
        return output

    def _after(self, meter: Meter, inside: _Summary, gradient: Storage, output: _Value, shared: bool) -> Storage | None:
        """The gradient that a block gives for that of its result, which it has freed if it was its own."""
        if inside.passes:
            return gradient
        if shared:
            gradient.drop(meter)
        else:
            meter.add(Kind.GRADIENTS, self._bytes(output) - gradient.size)
        return None if inside.gradient is None else Storage(inside.gradient, Kind.GRADIENTS)

    def _let_go(self, meter: Meter, known: _Summary, output: _Value) -> None:
        """A block that keeps its result has freed it, unless others hold it still."""
        if known.keeps_output:
            output.storage.holders -= 1
            if output.storage.holders:
                meter.add(Kind.RESULTS, output.storage.size)

    def _sequence(self, walk: _Walk, loop: Loop, values: dict[Ref, _Value]) -> _Value:
        level, at = walk.level + 1, walk.meter.at
        base, step = at[:-1], at[-1][0]
        value = values[loop.input]
        value.storage.hold()
        for number, run in enumerate(loop.runs):
            done = 0
            while done < run.count:
                walk.meter.at = (*base, (step, number, done))
                before, case = value, _Case(value.type, walk.again, False)
                value = self._call(walk, run.region, level, values, before, case)
                before.storage.drop(walk.meter)
                done += 1
                if value.type == before.type and done < run.count:
                    value = self._repeat(walk, run.region, values, value, case, run.count - done, (number, done))
                    done = run.count
        walk.meter.at = at
        return value

    def _repeat(
        self,
        walk: _Walk,
        region: Region,
        values: dict[Ref, _Value],
        source: _Value,
        case: _Case,
        count: int,
        first: tuple[int, int],
    ) -> _Value:
        """Further iterations, each on the result of the one before: all but the last result are their own."""
        level, base, step = walk.level + 1, walk.meter.at[:-1], walk.meter.at[-1][0]
        known = self._summary(region, level, values, case)
        size = self._bytes(source)
        loose = not (known.keeps_input or known.keeps_output or known.is_view)
        forward = known.forward.then_free(Kind.RESULTS, size if loose else 0)
        walk.meter.run(forward.times(count, step, *first), base)
        output = self._result(known, source)
        source.storage.holders -= 1
        held = self._hold(known, source, values) if known.is_view else [values[r].storage.hold() for r in known.keeps]
        frees = size if known.keeps_input and not known.keeps_output and not known.is_view else 0

        def back() -> None:
            meter, gradient = walk.meter, output.gradient
            left = count
            self._prepare(meter, [values[r] for r in known.reads])
            while gradient is not None and left:
                shared = gradient.holders > 1
                inside = self._summary(region, level, values, replace(case, shared=shared))
                n = 1 if shared and not inside.passes else left
                left -= n
                backward = inside.backward.then_free(Kind.RESULTS, frees)
                meter.run(backward.times(n, step, first[0], first[1] + left, backward=True), base)
                gradient = self._after(meter, inside, gradient, output, shared)
            output.gradient = None
            self._let_go(meter, known, output)
            for storage in held:
                storage.drop(meter)
            if gradient is not None:
                self._give(meter, source, gradient)

        walk.record(back)
        return output

    def _parallel(self, walk: _Walk, loop: Loop, values: dict[Ref, _Value], accumulate: bool) -> _Value:
        """Iterations side by side; `accumulate` if each is added as it comes, and not all of them at the end."""
        meter, level, sizes = walk.meter, walk.level + 1, self.sizes
        base, step = meter.at[:-1], meter.at[-1][0]
        source = values[loop.input]
        case = _Case(source.type, walk.again, True, beside=True)
        each = [self._summary(run.region, level, values, case) for run in loop.runs]
        type_ = _Type(any(k.type.wide for k in each), any(k.type.grad for k in each))
        size = sizes.of(loop.output, type_.wide)
        loose = 0
        for number, (run, known) in enumerate(zip(loop.runs, each, strict=True)):
            term = 0 if known.keeps_output or known.is_view else sizes.of(known.output, known.type.wide)
            added = Meter()
            added.run(known.forward)
            if accumulate:
                added.add(Kind.RESULTS, size)  # the next sum; then the one before goes, and the term
            summed = added.segment().then_free(Kind.RESULTS, size + term if accumulate else 0)
            first = 0
            if accumulate and number == 0:  # the first term is the first sum
                meter.run(known.forward.times(1, step, 0, 0), base)
                meter.add(Kind.RESULTS, size - term)
                first = 1
            meter.run(summed.times(run.count - first, step, number, first), base)
            loose += run.count * term
        result = Storage(size, Kind.RESULTS)
        if not accumulate:
            meter.add(Kind.RESULTS, size)
            stack = loop.count * size if loop.kind == "mean" else 0
            meter.brief(Kind.WORK, size if loop.kind == "sum" and loop.count > 2 else stack)
            meter.add(Kind.RESULTS, -loose)
        elif loop.kind == "mean":
            meter.brief(Kind.RESULTS, size)  # the sum is divided
        output = _Value(result, loop.output, type_)
        held = [s for known in each for s in self._hold(known, source, values)]

        def back() -> None:
            meter, gradient = walk.meter, output.gradient
            if gradient is not None:
                self._prepare(meter, [values[r] for known in each for r in known.reads])
                if loop.kind == "mean":  # of the stack of all
                    stack = take(meter, Kind.GRADIENTS, size if accumulate else loop.count * size)
                    gradient.drop(meter)
                    gradient = stack
                for number, (run, known) in reversed([*enumerate(zip(loop.runs, each, strict=True))]):
                    left = run.count
                    if source.type.grad and source.gradient is None:  # what this one gives begins their sum
                        left -= 1
                        inside = self._summary(run.region, level, values, replace(case, beside=False))
                        meter.run(inside.backward.times(1, step, number, left), base)
                        begun = self._after(meter, inside, gradient.hold(), output, True)
                        source.gradient = begun
                    self._prepare(meter, [source] if left else [])
                    meter.run(known.backward.times(left, step, number, 0, backward=True), base)
                gradient.drop(meter)
                output.gradient = None
            for storage in held:
                storage.drop(meter)

        walk.record(back)
        return output


def _outside() -> Storage:
    """Memory that whoever uses a block counts."""
    return Storage(0, Kind.RESULTS)


# ---- readers


def _readers(region: Region, level: int) -> dict[Ref, list[int]]:
    """The steps that read each value of a region; its output is read after the last."""
    readers: dict[Ref, list[int]] = {}
    for i, step in enumerate(region.steps, 1):
        refs = step.inputs if isinstance(step, Apply) else reads_of_step(step)
        for ref in refs:
            if ref.level == level:
                readers.setdefault(ref, []).append(i)
    readers.setdefault(region.output, []).append(len(region.steps) + 1)
    return readers


def _only_reader(region: Region, readers: list[int], into: Step | None) -> Step | None:
    """The step that alone reads a value; `into` is that of the region's output."""
    if len(readers) != 1:
        return None
    return region.steps[readers[0] - 1] if readers[0] <= len(region.steps) else into


def _order(region: Region, level: int, readers: dict[Ref, list[int]]) -> list[int]:
    """The steps as the generated code runs them: a sum that an addition alone reads is written there, term by term."""
    delayed: dict[int, list[int]] = {}
    for i, step in enumerate(region.steps, 1):
        by = readers.get(Ref(level, i), [])
        if _is_sum(step) and len(by) == 1 and by[0] <= len(region.steps) and _is_addition(region.steps[by[0] - 1]):
            delayed.setdefault(by[0], []).append(i)
    late = {i for steps in delayed.values() for i in steps}
    return [j for i in range(1, len(region.steps) + 1) if i not in late for j in (*delayed.get(i, ()), i)]


def _is_sum(step: Step) -> bool:
    if isinstance(step, Select) and len(step.region.steps) == 1:
        return _is_sum(step.region.steps[0])
    return isinstance(step, Loop) and step.kind == "sum"


def _is_addition(step: Step | None) -> bool:
    return isinstance(step, Apply) and isinstance(step.module, Layer) and step.module.kind == "add"


def _overwrites(step: Step, before: Step | None, readers: list[int]) -> bool:
    """Whether a step overwrites the result of the one before: a ReLU that alone reads a new tensor."""
    if not (isinstance(step, Apply) and isinstance(before, Apply)) or len(readers) != 1:
        return False
    if not (isinstance(step.module, Layer) and isinstance(before.module, Layer)):
        return False
    return step.module.kind == "ReLU" and before.module.kind in FRESH


def reads_of(region: Region) -> set[Ref]:
    """The values that a region reads, inside the regions in it too."""
    return {region.output}.union(*(reads_of_step(s) for s in region.steps))


def reads_of_step(step: Step) -> set[Ref]:
    """The values that a step reads, inside it too."""
    match step:
        case Apply():
            return set(step.inputs)
        case Select() | Head():
            return reads_of(step.region)
        case Loop():
            return {step.input}.union(*(reads_of(r.region) for r in step.runs))
        case _:
            assert_never(step)
