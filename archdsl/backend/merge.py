"""What the instances of one block have in common: their bodies laid over each other.

The result has the shape of one region. Where all instances agree it holds the common value, and where they differ a
slot with the value of every instance (a "row"). A loop whose iterations differ by a constant step becomes one body
with affine slots, `64 + 32 * i`. Bodies that cannot be laid over each other raise Mismatch, and become two classes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any, Literal, TypeAlias

from archdsl.backend.groups import Groups, Mismatch
from archdsl.base.exhaustive import assert_never
from archdsl.core.ir import Apply, Block, Head, Label, Layer, Loop, Ref, Region, Run, Select, Step
from archdsl.core.primitives import pair, same_padding
from archdsl.core.types import Scalar, Shape

UNROLL = 4
"""Modules with names of their own (`layer1`, `layer2`...) are written out up to this many, and made in a loop above."""

PROGRESSION = 3
"""Two numbers are no progression: `3 + 61 * i` would hide a 3 and a 64."""

MOST_ITERATIONS = 4096
"""Loops of more unequal iterations than this are not searched for a pattern."""


class Hole:
    """The value of a slot in a row that has no such step."""

    def __repr__(self) -> str:
        return "HOLE"


HOLE = Hole()
Cell: TypeAlias = "Scalar | Hole"


@dataclass(frozen=True, slots=True)
class Slot:
    """A number of the body: its value in each row, and what it is called where it is used."""

    values: tuple[Cell, ...]
    role: str
    passed: bool = False
    """An argument for another class, rather than a number of a layer."""
    source: tuple[Slot, ...] = ()
    """For channels of an input: the numbers whose sum they are, as `channels` finds them."""

    @property
    def constant(self) -> bool:
        return len({(type(v), v) for v in self.values if v is not HOLE}) <= 1

    @property
    def value(self) -> Scalar:
        return next((v for v in self.values if not isinstance(v, Hole)), None)


@dataclass(frozen=True, slots=True)
class Affine:
    """base + step * i, where i is the index of the innermost loop around."""

    base: Term
    step: Term
    role: str


Term: TypeAlias = "Slot | Affine"


@dataclass(frozen=True, slots=True)
class LayerPart:
    kind: str
    args: tuple[tuple[str, Term], ...]
    """The arguments of the layer, and `in_channels`."""


@dataclass(frozen=True, slots=True)
class CallPart:
    """An instance of a class or of a helper function."""

    group: int
    args: tuple[tuple[str, Term], ...]


@dataclass(frozen=True, slots=True)
class SequencePart:
    """A numbered list without a definition: written where it stands."""

    region: RegionPart
    style: Literal["module", "sequence", "parallel"] = "sequence"


@dataclass(frozen=True, slots=True)
class ApplyPart:
    module: LayerPart | CallPart | SequencePart
    label: Label | None
    inputs: tuple[Ref, ...]
    outputs: tuple[Shape | None, ...]
    """The shape of the result in each row."""
    again: bool


@dataclass(frozen=True, slots=True)
class SelectPart:
    """Two arms; `taken` says for each row which, by a condition on the parameters `reads`."""

    taken: Slot
    reads: tuple[str, ...]
    arms: tuple[RegionPart | None, RegionPart | None]
    outputs: tuple[Shape | None, ...]


@dataclass(frozen=True, slots=True)
class LoopPart:
    """Equal iterations, or iterations that differ by a constant step."""

    kind: Literal["sequence", "sum", "mean", "concat"]
    count: Slot
    body: RegionPart
    input: Ref
    indexed: bool
    outputs: tuple[Shape | None, ...]


@dataclass(frozen=True, slots=True)
class UnrolledPart:
    """Iterations written one by one; each may be a loop over a run of equal ones."""

    kind: Literal["sequence", "sum", "mean", "concat"]
    parts: tuple[tuple[RegionPart, Slot | None], ...]
    """Bodies, with a count where there is more than one iteration."""
    input: Ref
    outputs: tuple[Shape | None, ...]


@dataclass(frozen=True, slots=True)
class HeadPart:
    """A further output for training. Only the network itself has them, and it is one."""

    region: RegionPart


Part: TypeAlias = ApplyPart | SelectPart | LoopPart | UnrolledPart | HeadPart


@dataclass(frozen=True, slots=True)
class RegionPart:
    parts: tuple[Part, ...]
    output: Ref
    names: tuple[tuple[int, str], ...]


Rows: TypeAlias = Sequence["Region | None"]


class Merger:
    """Lays regions over each other; `groups` knows the classes of the blocks below."""

    def __init__(self, groups: Groups) -> None:
        self.groups = groups
        self.written_out = False
        """Whether iterations are written one by one, and no loop is looked for."""

    def regions(self, rows: Rows) -> RegionPart:
        """The common form of regions, None in rows that have none. Raises Mismatch."""
        present = [r for r in rows if r is not None]
        first = present[0]
        if any(len(r.steps) != len(first.steps) or r.output != first.output for r in present):
            raise Mismatch
        parts = tuple(self._step([r.steps[i] if r else None for r in rows]) for i in range(len(first.steps)))
        return RegionPart(parts, first.output, first.names)

    def _step(self, rows: Sequence[Step | None]) -> Part:
        present = [s for s in rows if s is not None]
        first = present[0]
        if any(type(s) is not type(first) or s.origin != first.origin for s in present):
            raise Mismatch
        match first:
            case Apply():
                return self._apply([s if isinstance(s, Apply) else None for s in rows])
            case Select():
                return self._select([s if isinstance(s, Select) else None for s in rows])
            case Loop():
                return self._loop([s if isinstance(s, Loop) else None for s in rows])
            case Head():
                return HeadPart(self.regions([s.region if isinstance(s, Head) else None for s in rows]))
            case _:
                assert_never(first)

    # ---- applications

    def _apply(self, rows: Sequence[Apply | None]) -> ApplyPart:
        present = [s for s in rows if s is not None]
        first = present[0]
        if any((s.label, s.inputs, s.again) != (first.label, first.inputs, first.again) for s in present):
            raise Mismatch
        outputs = tuple(s.output if s else None for s in rows)
        return ApplyPart(self._module(rows, first), first.label, first.inputs, outputs, first.again)

    def _module(self, rows: Sequence[Apply | None], first: Apply) -> LayerPart | CallPart | SequencePart:
        if isinstance(first.module, Layer):
            return self._layer(rows, first.module)
        blocks = [s.module if s and isinstance(s.module, Block) else None for s in rows]
        present = [b for b in blocks if b is not None]
        if len(present) != sum(s is not None for s in rows):
            raise Mismatch
        if self.groups.is_inline(first.module):
            if any(b.origin != first.module.origin for b in present):
                raise Mismatch
            return SequencePart(self.regions([b.body if b else None for b in blocks]), first.module.style)
        found = {self.groups.of(b) for b in present}
        if len(found) != 1:
            raise Mismatch
        group = found.pop()
        names = self.groups.parameters(group)
        cells = {name: tuple(self.groups.argument(b, name) if b else HOLE for b in blocks) for name in names}
        return CallPart(group, tuple((name, Slot(values, name, passed=True)) for name, values in cells.items()))

    def _layer(self, rows: Sequence[Apply | None], first: Layer) -> LayerPart:
        layers = [(s.module, s) if s and isinstance(s.module, Layer) else None for s in rows]
        present = [layer for layer in layers if layer is not None]
        if len(present) != sum(s is not None for s in rows) or any(m.kind != first.kind for m, _ in present):
            raise Mismatch
        channels = tuple(s.shapes[0].channels if s else HOLE for s in rows)
        args: list[tuple[str, Term]] = [("in_channels", Slot(channels, "in_channels"))]
        for name, _ in first.args:
            args.append((name, Slot(tuple(layer[0].arg(name) if layer else HOLE for layer in layers), name)))
        if first.kind == "Conv" and _is_same(dict(args)):
            same = tuple("same" if layer else HOLE for layer in layers)
            args = [(name, Slot(same, name) if name == "padding" else term) for name, term in args]
        return LayerPart(first.kind, tuple(args))

    def _select(self, rows: Sequence[Select | None]) -> SelectPart:
        taken = Slot(tuple(s.arm == 0 if s else HOLE for s in rows), "condition")
        arms: list[RegionPart | None] = []
        for arm in (0, 1):
            mine = [s.region if s and s.arm == arm else None for s in rows]
            arms.append(self.regions(mine) if any(mine) else None)
        if not taken.constant and any(True for arm in arms if arm for _ in _list_places(arm)):
            raise Mismatch  # a list filled under a condition: two classes are clearer
        reads = next(s.reads for s in rows if s)
        return SelectPart(taken, reads, (arms[0], arms[1]), tuple(s.output if s else None for s in rows))

    # ---- loops

    def _loop(self, rows: Sequence[Loop | None]) -> Part:
        present = [s for s in rows if s is not None]
        first = present[0]
        if any(s.kind != first.kind or s.input != first.input for s in present):
            raise Mismatch
        outputs = tuple(s.output if s else None for s in rows)
        counts = {s.count for s in present}
        named = any(_names_modules(run.region) for s in present for run in s.runs)
        if len(counts) == 1 and (self.written_out or first.count == 1 or (named and first.count <= UNROLL)):
            return self._unrolled(rows, outputs)
        attempts: list[Callable[[], Part]] = []
        if all(len(s.runs) == 1 for s in present):
            attempts.append(lambda: self._counted(rows, first, outputs))
        attempts.append(lambda: self._indexed(rows, first, outputs))
        if len({len(s.runs) for s in present}) == 1:
            attempts.append(lambda: self._by_runs(rows, outputs))
        if len(counts) == 1 and first.count <= MOST_ITERATIONS:
            attempts.append(lambda: self._unrolled(rows, outputs))
        for attempt in attempts:
            try:
                return attempt()
            except Mismatch:
                continue
        raise Mismatch

    def _counted(self, rows: Sequence[Loop | None], first: Loop, outputs: tuple[Shape | None, ...]) -> LoopPart:
        """Equal iterations in every row."""
        body = self.regions([s.runs[0].region if s else None for s in rows])
        _check_loop_body(body)
        count = Slot(tuple(s.count if s else HOLE for s in rows), "n")
        return LoopPart(first.kind, count, body, first.input, False, outputs)

    def _unrolled(self, rows: Sequence[Loop | None], outputs: tuple[Shape | None, ...]) -> UnrolledPart:
        first = next(s for s in rows if s is not None)
        each = [_iterations(s) if s else None for s in rows]
        parts = tuple((self.regions([e[i] if e else None for e in each]), None) for i in range(first.count))
        return UnrolledPart(first.kind, parts, first.input, outputs)

    def _by_runs(self, rows: Sequence[Loop | None], outputs: tuple[Shape | None, ...]) -> UnrolledPart:
        first = next(s for s in rows if s is not None)
        parts: list[tuple[RegionPart, Slot | None]] = []
        for i in range(len(first.runs)):
            runs = [s.runs[i] if s else None for s in rows]
            body = self.regions([r.region if r else None for r in runs])
            count = Slot(tuple(r.count if r else HOLE for r in runs), "n")
            once = count.constant and count.value == 1
            if not once:
                _check_loop_body(body)
            parts.append((body, None if once else count))
        return UnrolledPart(first.kind, tuple(parts), first.input, outputs)

    def _indexed(self, rows: Sequence[Loop | None], first: Loop, outputs: tuple[Shape | None, ...]) -> LoopPart:
        """One body for all iterations of all rows, if every number in it is affine in the index."""
        each = [_iterations(s) if s and s.count <= MOST_ITERATIONS else None for s in rows]
        if any(e is None and s is not None for e, s in zip(each, rows, strict=True)):
            raise Mismatch
        lengths = [len(e) if e else 0 for e in each]
        # Labels count up from iteration to iteration; laid over each other they are those of the first one.
        flat = [_moved_back(region, i) for e in each if e for i, region in enumerate(e)]
        body = self.regions(flat)
        if not _is_plain(body):
            raise Mismatch  # a loop or a choice that changes from iteration to iteration is written out
        body = _collapse(body, lengths)
        _check_loop_body(body)
        count = Slot(tuple(s.count if s else HOLE for s in rows), "n")
        return LoopPart(first.kind, count, body, first.input, True, outputs)


def _is_same(args: dict[str, Term]) -> bool:
    """Whether a convolution keeps its resolution by a padding that differs, as its kernel does, by rows and columns."""
    kernel, padding, stride, dilation = (args[n] for n in ("kernel", "padding", "stride", "dilation"))
    if any(not isinstance(t, Slot) for t in (kernel, padding, stride, dilation)):
        return False
    assert isinstance(kernel, Slot) and isinstance(padding, Slot)
    assert isinstance(stride, Slot) and isinstance(dilation, Slot)
    if padding.constant or not any(isinstance(k, tuple) for k in kernel.values):
        return False
    rows = zip(kernel.values, padding.values, stride.values, dilation.values, strict=True)
    return all(s == 1 and pair(p) == same_padding(k, d) for k, p, s, d in rows if not isinstance(k, Hole))


def _check_loop_body(body: RegionPart) -> None:
    """Raise Mismatch for a body whose lists a Python loop cannot run over: each must be filled in one place."""
    stems = list(_list_places(body))
    if len(stems) != len(set(stems)) or any(_loops_over_lists(part) for part in body.parts):
        raise Mismatch


def check_names(region: RegionPart) -> set[str]:
    """The names of the modules of a body. Raises Mismatch if instances use one name for two modules.

    The arms of a choice may share a name: an instance has one of them.
    """
    names: set[str] = set()
    for part in region.parts:
        found: set[str] = set()
        match part:
            case ApplyPart(label=Label(style="plain" | "index") as label, again=False):
                found = {f"{label.stem}{label.index}" if label.style == "index" else label.stem}
            case SelectPart():
                found = set().union(*(check_names(arm) for arm in part.arms if arm))
            case LoopPart(body=body) | HeadPart(region=body):
                found = check_names(body)
            case UnrolledPart():
                for body, _ in part.parts:
                    more = check_names(body)
                    if more & found:
                        raise Mismatch
                    found |= more
            case _:
                pass
        if found & names:
            raise Mismatch
        names |= found
    return names


def _is_plain(region: RegionPart) -> bool:
    """Whether a body is applications alone, also inside its lists."""
    for part in region.parts:
        if not isinstance(part, ApplyPart):
            return False
        if isinstance(part.module, SequencePart) and not _is_plain(part.module.region):
            return False
    return True


def _loops_over_lists(part: Part) -> bool:
    """Whether a part is a loop that makes elements of lists: of two such loops the outer one is written out."""
    match part:
        case LoopPart():
            return any(True for _ in _list_places(part.body))
        case UnrolledPart():
            return any(n is not None and any(True for _ in _list_places(b)) for b, n in part.parts) or any(
                _loops_over_lists(p) for b, _ in part.parts for p in b.parts
            )
        case SelectPart():
            return any(_loops_over_lists(p) for arm in part.arms if arm for p in arm.parts)
        case _:
            return False


def _list_places(region: RegionPart) -> Iterator[str]:
    """The list of every place that makes an element of one. Raises Mismatch inside choices between instances."""
    for part in region.parts:
        match part:
            case ApplyPart(label=Label(style="item", stem=stem)):
                yield stem
            case SelectPart():
                for arm in part.arms:
                    found = list(_list_places(arm)) if arm else []
                    if found and not part.taken.constant:
                        raise Mismatch
                    yield from found
            case LoopPart():
                if not part.count.constant and any(True for _ in _list_places(part.body)):
                    raise Mismatch  # the number of an element would depend on another instance's count
                yield from _list_places(part.body)
            case UnrolledPart():
                for inner, _ in part.parts:
                    yield from _list_places(inner)
            case _:
                pass


def _iterations(loop: Loop) -> list[Region]:
    """The region of every iteration, labels numbered."""
    from_runs: list[Region] = []
    for run in loop.runs:
        from_runs += [_moved_back(run.region, -j) for j in range(run.count)]
    return from_runs


def _moved_back(region: Region, by: int) -> Region:
    """The region with the numbers of its labels lowered."""
    return replace(region, steps=tuple(_step_moved_back(s, by) for s in region.steps)) if by else region


def _step_moved_back(step: Step, by: int) -> Step:
    match step:
        case Apply(label=Label(style="index") as label):
            return replace(step, label=replace(label, index=label.index - by))
        case Select():
            return replace(step, region=_moved_back(step.region, by))
        case Loop():
            return replace(step, runs=tuple(Run(r.start, r.count, _moved_back(r.region, by)) for r in step.runs))
        case _:
            return step


def _names_modules(region: Region) -> bool:
    """Whether a region makes modules with names of their own."""
    for step in region.steps:
        match step:
            case Apply(label=Label(style="plain" | "index")):
                return True
            case Select() if _names_modules(step.region):
                return True
            case Loop() if any(_names_modules(run.region) for run in step.runs):
                return True
            case _:
                pass
    return False


# ---- from rows of iterations to rows of loops


def _collapse(region: RegionPart, lengths: Sequence[int]) -> RegionPart:
    """Slots over (row, iteration) become slots over rows, constant or affine in the iteration. Raises Mismatch."""
    return map_terms(region, lambda term: _fit(term, lengths), lambda shapes: _each_first(shapes, lengths))


def _fit(term: Term, lengths: Sequence[int]) -> Term:
    if isinstance(term, Affine):
        return Affine(_fit(term.base, lengths), _fit(term.step, lengths), term.role)
    groups = _split(term.values, lengths)
    base: list[Cell] = []
    step: list[Cell] = []
    for cells in groups:
        numbers = [c for c in cells if c is not HOLE]
        if not numbers:
            base.append(HOLE)
            step.append(HOLE)
        elif all(type(c) is type(numbers[0]) and c == numbers[0] for c in numbers):
            base.append(numbers[0])
            step.append(0)
        else:
            if not all(isinstance(c, int | Fraction) and not isinstance(c, bool) for c in cells):
                raise Mismatch
            values = [c for c in cells if isinstance(c, int | Fraction)]
            rise = values[1] - values[0]
            if any(v != values[0] + i * rise for i, v in enumerate(values)):
                raise Mismatch
            base.append(values[0])
            step.append(rise)
    if all(s in (0, HOLE) for s in step):
        return Slot(tuple(base), term.role, term.passed)
    if max(len(cells) for cells in groups) < PROGRESSION:
        raise Mismatch
    # A row of one iteration has no step of its own: it takes that of the others.
    rises = {s for s, cells in zip(step, groups, strict=True) if s is not HOLE and len(cells) > 1}
    if len(rises) == 1:
        rise_of_all = rises.pop()
        step = [s if s is HOLE else rise_of_all for s in step]
    return Affine(Slot(tuple(base), term.role, term.passed), Slot(tuple(step), f"{term.role}_step"), term.role)


def _split(values: Sequence[Any], lengths: Sequence[int]) -> list[list[Any]]:
    out, at = [], 0
    for n in lengths:
        out.append(list(values[at : at + n]))
        at += n
    return out


def _each_first(shapes: tuple[Shape | None, ...], lengths: Sequence[int]) -> tuple[Shape | None, ...]:
    """A shape that is the same in every iteration; None where it changes."""
    out: list[Shape | None] = []
    for group in _split(shapes, lengths):
        out.append(group[0] if group and all(s == group[0] for s in group) else None)
    return tuple(out)


def map_terms(
    region: RegionPart,
    change: Callable[[Term], Term],
    shapes: Callable[[tuple[Shape | None, ...]], tuple[Shape | None, ...]],
) -> RegionPart:
    """The region with every term and every tuple of shapes replaced."""

    def slot(term: Term) -> Slot:
        changed = change(term)
        if isinstance(changed, Affine):
            raise Mismatch
        return changed

    def of_region(inner: RegionPart) -> RegionPart:
        return replace(inner, parts=tuple(of_part(p) for p in inner.parts))

    def of_module(module: LayerPart | CallPart | SequencePart) -> LayerPart | CallPart | SequencePart:
        match module:
            case LayerPart() | CallPart():
                return replace(module, args=tuple((name, change(term)) for name, term in module.args))
            case SequencePart():
                return replace(module, region=of_region(module.region))

    def of_part(part: Part) -> Part:
        match part:
            case ApplyPart():
                return replace(part, module=of_module(part.module), outputs=shapes(part.outputs))
            case SelectPart():
                arms = tuple(of_region(a) if a else None for a in part.arms)
                return SelectPart(slot(part.taken), part.reads, (arms[0], arms[1]), shapes(part.outputs))
            case HeadPart():
                return HeadPart(of_region(part.region))
            case LoopPart():
                return replace(part, count=slot(part.count), body=of_region(part.body), outputs=shapes(part.outputs))
            case UnrolledPart():
                bodies = tuple((of_region(b), slot(n) if n else None) for b, n in part.parts)
                return replace(part, parts=bodies, outputs=shapes(part.outputs))

    return of_region(region)
