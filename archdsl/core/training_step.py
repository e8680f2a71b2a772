"""A training step in order, from the IR: the forward pass, the loss, the backward pass, and what is alive at each time.

A value that nobody reads any more goes, unless a gradient needs it. What layers allocate and hold is in autograd.py. A
block, or an iteration, is walked once for all places where it stands in the same way, and is a segment there
(timeline.py), so that the cost does not follow the depth.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from archdsl.base.exhaustive import assert_never
from archdsl.core.autograd import Autograd, Type, Value, Walk
from archdsl.core.ir import Apply, Block, Head, Loop, Ref, Region, Select, Step
from archdsl.core.readers import is_addition, only_reader, order_of, overwrites, readers_of, reads_of
from archdsl.core.saves import Sizes
from archdsl.core.timeline import Kind, Meter, Segment, Storage, take
from archdsl.core.types import Shape


@dataclass(frozen=True, slots=True)
class _Case:
    """How a block or iteration stands where it is used."""

    input: Type
    again: bool
    """Its weights are those of an earlier use."""
    shared: bool
    """Others hold the gradient of its result, too."""
    beside: bool = False
    """It is one of several on one input: what they add to its gradient is in one place, outside."""


@dataclass(frozen=True, slots=True)
class _Summary:
    """A block or an iteration as a whole."""

    forward: Segment
    backward: Segment
    output: Shape
    type: Type
    size: int
    """Bytes of the storage of its result."""
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


class TrainingStep(Autograd):
    """The forward and the backward pass of a batch."""

    def __init__(self, root: Block, sizes: Sizes, accumulates: bool = False) -> None:
        super().__init__(sizes, accumulates)
        self._known: dict[object, _Summary] = {}
        self._outer: dict[int, tuple[Ref, ...]] = {}
        walk = Walk(0)
        image = Value(_outside(), root.input, Type(sizes.half, False))
        outputs = [self._region(walk, root.body, {Ref(0, 0): image}), *walk.heads]
        own = sum(o.storage.size for o in outputs if o.storage.holders == 1)
        self.saved = sum(walk.meter.now) - own
        """Bytes that autograd keeps at the end of the forward pass, the batch itself apart."""
        self.keeps_batch = image.storage.holders > 1
        self.ahead = walk.meter.segment()
        """The forward pass."""
        for output in outputs:
            walk.record(self.loss(walk.meter, output))
        walk.go_back()
        self.whole = walk.meter.segment()
        """Both passes; at its end there are the gradients of all weights, but those that were there before."""

    # ---- regions

    def _region(self, walk: Walk, region: Region, values: dict[Ref, Value], into: Step | None = None) -> Value:
        """Go forward; the output, which the caller holds. `values` are those around, and the region's input.

        `into` is the step that alone reads the output, if one does.
        """
        level, at = walk.level, walk.meter.at
        readers = readers_of(region, level)
        order = order_of(region, level, readers)
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
            in_place = overwrites(step, before, readers.get(behind, []))
            values[ref] = self._step(walk, step, values, in_place, only_reader(region, readers.get(ref, []), into))
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

    def _step(self, walk: Walk, step: Step, values: dict[Ref, Value], in_place: bool, into: Step | None) -> Value:
        match step:
            case Apply(module=Block() as block):
                source = values[step.inputs[0]]
                case = _Case(source.type, walk.again or step.again, False)
                return self._call(walk, block.body, 0, {}, source, case)
            case Apply():
                return self.layer(walk, step, [values[r] for r in step.inputs], in_place)
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
                one_by_one = is_addition(into) if step.kind == "sum" else all(r.count == 1 for r in step.runs)
                return self._parallel(walk, step, values, one_by_one and step.kind != "concat")
            case _:
                assert_never(step)

    def _inside(self, walk: Walk, region: Region, values: dict[Ref, Value], into: Step | None = None) -> Value:
        walk.level += 1
        result = self._region(walk, region, values, into)
        walk.level -= 1
        return result

    # ---- blocks and iterations

    def _summary(self, region: Region, level: int, values: dict[Ref, Value], case: _Case) -> _Summary:
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

    def _summarise(self, region: Region, level: int, around: dict[Ref, Value], case: _Case) -> _Summary:
        walk = Walk(level, again=case.again)
        outside = {r: Value(_outside(), v.shape, v.type, _outside()) for r, v in around.items()}
        source = Value(_outside(), region.input, case.input, _outside() if case.beside else None)
        output = self._region(walk, region, {**outside, Ref(level, 0): source})
        if any(output.storage is v.storage for v in outside.values()):
            # What is around it comes out as it went in: as rare as an iteration without effect, and a copy here.
            output = Value(
                take(walk.meter, Kind.RESULTS, self.bytes(output)), output.shape, Type(output.type.wide, False)
            )
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
        gradient = Storage(self.bytes(output), Kind.GRADIENTS, 2 if case.shared else 1)
        if output.type.grad:
            self.give(meter, output, gradient)
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
            output.storage.size,
            is_view,
            keeps_input,
            kept and not is_view,
            passes,
            back.size if back else None,
            keeps,
            tuple(r for r, v in outside.items() if v.type.grad),
        )

    def _result(self, known: _Summary, source: Value) -> Value:
        """The result of a block that has run; its bytes are in the change of the block."""
        if known.is_view:
            return Value(source.storage.hold(), known.output, known.type)
        return Value(Storage(known.size, Kind.RESULTS, 1 + known.keeps_output), known.output, known.type)

    def _hold(self, known: _Summary, source: Value, values: dict[Ref, Value]) -> list[Storage]:
        """What a block keeps that is not its own."""
        own = [source.storage.hold()] if known.keeps_input else []
        return [*own, *(values[r].storage.hold() for r in known.keeps)]

    def _prepare(self, meter: Meter, values: list[Value]) -> None:
        """Values to whose gradients iterations add."""
        for value in values:
            old = value.gradient
            if value.type.grad and (old is None or old.holders > 1 or old.part):
                self.give(meter, value, take(meter, Kind.GRADIENTS, self.bytes(value)))

    def _call(
        self, walk: Walk, region: Region, level: int, values: dict[Ref, Value], source: Value, case: _Case
    ) -> Value:
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
                self.give(meter, source, gradient)

        walk.record(back)
        return output

    def _after(self, meter: Meter, inside: _Summary, gradient: Storage, output: Value, shared: bool) -> Storage | None:
        """The gradient that a block gives for that of its result, which it has freed if it was its own."""
        if inside.passes:
            return gradient
        if shared:
            gradient.drop(meter)
        else:
            meter.add(Kind.GRADIENTS, self.bytes(output) - gradient.size)
        return None if inside.gradient is None else Storage(inside.gradient, Kind.GRADIENTS)

    def _let_go(self, meter: Meter, known: _Summary, output: Value) -> None:
        """A block that keeps its result has freed it, unless others hold it still."""
        if known.keeps_output:
            output.storage.holders -= 1
            if output.storage.holders:
                meter.add(Kind.RESULTS, output.storage.size)

    def _sequence(self, walk: Walk, loop: Loop, values: dict[Ref, Value]) -> Value:
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
        walk: Walk,
        region: Region,
        values: dict[Ref, Value],
        source: Value,
        case: _Case,
        count: int,
        first: tuple[int, int],
    ) -> Value:
        """Further iterations, each on the result of the one before: all but the last result are their own."""
        level, base, step = walk.level + 1, walk.meter.at[:-1], walk.meter.at[-1][0]
        known = self._summary(region, level, values, case)
        size = source.storage.size
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
                self.give(meter, source, gradient)

        walk.record(back)
        return output

    def _parallel(self, walk: Walk, loop: Loop, values: dict[Ref, Value], accumulate: bool) -> Value:
        """Iterations side by side; `accumulate` if each is added as it comes, and not all of them at the end."""
        meter, level, sizes = walk.meter, walk.level + 1, self.sizes
        base, step = meter.at[:-1], meter.at[-1][0]
        source = values[loop.input]
        case = _Case(source.type, walk.again, True, beside=True)
        each = [self._summary(run.region, level, values, case) for run in loop.runs]
        type_ = Type(any(k.type.wide for k in each), any(k.type.grad for k in each))
        size = sizes.of(loop.output, type_.wide)
        loose = 0
        for number, (run, known) in enumerate(zip(loop.runs, each, strict=True)):
            term = 0 if known.keeps_output or known.is_view else known.size
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
        output = Value(result, loop.output, type_)
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
