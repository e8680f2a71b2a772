"""Regions under construction: steps, labels, and who has used what."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from itertools import chain, count, islice

from archdsl.base import limits
from archdsl.base.diagnostics import Label as Mark
from archdsl.base.diagnostics import error
from archdsl.base.source import Span
from archdsl.core.ir import Apply, Head, Label, Loop, Origin, Ref, Region, Run, Select, Step
from archdsl.core.names import label_problem, spelled
from archdsl.core.types import Scalar, Shape
from archdsl.frontend.resolve import Module
from archdsl.frontend.values import Tensor, Value

_IDS = count()


class Builder:
    """A region under construction."""

    def __init__(self, level: int, shape: Shape) -> None:
        self.id = next(_IDS)
        self.level = level
        self.shape = shape
        self.steps: list[Step] = []
        self.spans: list[Span] = []
        self.used: set[int] = set()
        self.names: list[tuple[int, str]] = []
        self.means: dict[int, tuple[tuple[str, Scalar], ...]] = {}
        """Means with drop-path, by the number of their step: their arguments."""

    def input(self) -> Tensor:
        return Tensor(Ref(self.level, 0), self.shape, self.id)

    def add(self, step: Step, span: Span) -> Tensor:
        """The result of a further step. Raises ArchError if it is a tensor that no machine holds."""
        if step.output.size > limits.ELEMENTS:
            raise error("too-large", span, problem=f"a tensor of {step.output} has more than 2^48 elements")
        self.steps.append(step)
        self.spans.append(span)
        return Tensor(Ref(self.level, len(self.steps)), step.output, self.id)

    def take_back(self, since: int, tensor: Tensor, args: tuple[tuple[str, Scalar], ...]) -> list[Tensor] | None:
        """Undo the last step if it is a mean with the same drop-path, added after step `since`; its operands."""
        last = len(self.steps)
        if tensor.owner != self.id or tensor.ref.index != last or last <= since or self.means.get(last) != args:
            return None
        step = self.steps.pop()
        self.spans.pop()
        del self.means[last]
        assert isinstance(step, Apply)
        return [Tensor(ref, shape, self.id) for ref, shape in zip(step.inputs, step.shapes, strict=True)]

    def close(self, output: Tensor) -> Region:
        """The finished region. Raises ArchError if a step's result goes nowhere."""
        if output.owner == self.id:
            self.used.add(output.ref.index)
        for i, (step, span) in enumerate(zip(self.steps, self.spans, strict=True), 1):
            if i not in self.used and not isinstance(step, Head):
                raise error("unused-value", span)
        return Region(self.shape, tuple(self.steps), output.ref, tuple(self.names))


@dataclass(slots=True, eq=False)
class Frame:
    """A block (or network) being elaborated: its names, and the labels taken in it."""

    name: str
    module: Module
    values: dict[str, Value]
    spans: dict[str, Span]
    """Where the value of each parameter was written."""
    depth: int
    numbered: bool = False
    open: dict[int, Builder] = field(default_factory=dict)
    scalars: dict[str, Scalar] = field(default_factory=dict)
    lets: dict[str, Scalar] = field(default_factory=dict)
    labels: dict[str, Span] = field(default_factory=dict)
    counters: dict[str, int] = field(default_factory=dict)
    """List -> number of elements so far."""
    looped: dict[str, bool] = field(default_factory=dict)
    """List -> whether its elements are made in a loop."""
    ranges: dict[str, list[tuple[int, int]]] = field(default_factory=dict)
    """Stem -> the numbers that runs of equal iterations have taken, as (start, stop)."""
    shared: dict[str, tuple[Shape, Shape]] = field(default_factory=dict)
    is_net: bool = False
    """The frame of a whole network, which may have auxiliary outputs."""

    def take(self, label: Label, span: Span, in_loop: bool = False) -> Label:
        """Claim a name in this block. Raises ArchError if it cannot be a name, is taken or is out of order."""
        if problem := label_problem(f"{label.stem}{label.index}" if label.style == "index" else label.stem):
            raise error("bad-label", span, problem=problem)
        if label.style == "item":
            expected = self.counters.get(label.stem, 0)
            if label.index != expected:
                problem = f"element {label.index} of `{label.stem}` comes where element {expected} is due"
                raise error("bad-label", span, problem=problem)
            self.counters[label.stem] = expected + 1
            if expected == 0:
                self._claim(label.stem, span)
            elif (in_loop or self.looped[label.stem]) and self.labels[label.stem] != span:
                problem = f"the elements of `{label.stem}` are made in two places, and one of them is a loop"
                raise error(
                    "bad-label", span, problem=problem, secondary=(Mark(self.labels[label.stem], "first here"),)
                )
            self.looped[label.stem] = in_loop
            return replace(label, index=0)
        self._claim(f"{label.stem}{label.index}" if label.style == "index" else label.stem, span)
        return label

    def _claim(self, name: str, span: Span) -> None:
        stem, digits = re.fullmatch(r"(.*?)(\d*)", name).groups()  # type: ignore[union-attr]
        taken = digits == str(int(digits or -1)) and any(a <= int(digits) < b for a, b in self.ranges.get(stem, ()))
        if name in self.labels or taken:
            first = self.labels.get(name)
            also = (Mark(first, "first here"),) if first and first != span else ()
            raise error("label-twice", span, name=name, secondary=also)
        self.labels[name] = span

    def skip(self, before: dict[str, int], region: Region, times: int) -> None:
        """Count the labels of `times` further iterations that are equal to the one just elaborated."""
        for stem, number in list(self.counters.items()):
            self.counters[stem] = number + times * (number - before.get(stem, 0))
        for step in _labelled(region):
            if step.label and step.label.style == "index":
                start = step.label.index + 1
                self.ranges.setdefault(step.label.stem, []).append((start, start + times))


def _labelled(region: Region) -> list[Apply]:
    found = []
    for step in region.steps:
        match step:
            case Apply():
                found.append(step)
            case Select() | Head():
                found += _labelled(step.region)
            case Loop():
                for run in step.runs:
                    found += _labelled(run.region)
    return found


def shifted(region: Region, by: int) -> Region:
    """The region as iteration `by` of a run has it: numbers in labels move, all else stays."""
    return replace(region, steps=tuple(_shifted(s, by) for s in region.steps))


def _shifted(step: Step, by: int) -> Step:
    match step:
        case Apply(label=Label(style="index") as label):
            return replace(step, label=replace(label, index=label.index + by))
        case Select():
            return replace(step, region=shifted(step.region, by))
        case Loop():
            return replace(step, runs=tuple(replace(r, region=shifted(r.region, by)) for r in step.runs))
        case _:
            return step


def snake(name: str) -> str:
    """A module's name after a block's.

    >>> snake("BasicBlock"), snake("B"), snake("SEUnit")
    ('basic_block', 'b', 'se_unit')
    """
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", spelled(name, "block")).lower()


def name_unlabelled(region: Region, taken: set[str]) -> Region:
    """Name the modules that the spec left without a label.

    Outside loops a module takes the name of its kind, with a number where there are several; inside loops it becomes
    an element of a list: `conv`, or `conv1` and `conv2`, or `convs.0`, `convs.1`...
    """
    totals: dict[str, int] = {}
    _count_auto(region, totals)
    if not totals:
        return region
    taken = set(taken)
    names: dict[str, list[str]] = {}
    for stem, total in totals.items():
        numbered = (f"{stem}{i}" for i in count(1))
        candidates = chain([stem], numbered) if total == 1 else numbered
        names[stem] = list(islice((c for c in candidates if c not in taken and not label_problem(c)), total))
        taken.update(names[stem])
    lists: dict[Origin, str] = {}

    def rename(step: Step, in_loop: bool) -> Step:
        match step:
            case Apply(label=Label(style="plain", stem=stem, index=-1)):
                if in_loop:
                    if step.origin not in lists:
                        plurals = (f"{_plural(stem)}{i if i > 1 else ''}" for i in count(1))
                        plural = next(p for p in plurals if p not in taken and not label_problem(p))
                        lists[step.origin] = plural
                        taken.add(plural)
                    return replace(step, label=Label("item", lists[step.origin]))
                return replace(step, label=Label("plain", names[stem].pop(0)))
            case Select() | Head():
                return replace(step, region=walk(step.region, in_loop))
            case Loop():
                return replace(step, runs=tuple(Run(r.start, r.count, walk(r.region, True)) for r in step.runs))
            case _:
                return step

    def walk(inner: Region, in_loop: bool) -> Region:
        return replace(inner, steps=tuple(rename(s, in_loop) for s in inner.steps))

    return walk(region, False)


def auto_label(stem: str) -> Label:
    """The label of a module that `name_unlabelled` is yet to name."""
    return Label("plain", stem, -1)


def _count_auto(region: Region, totals: dict[str, int], in_loop: bool = False) -> None:
    for step in region.steps:
        match step:
            case Apply(label=Label(style="plain", stem=stem, index=-1)):
                totals[stem] = totals.get(stem, 0) + (not in_loop)
            case Select() | Head():
                _count_auto(step.region, totals, in_loop)
            case Loop():
                for run in step.runs:
                    _count_auto(run.region, totals, True)
            case _:
                pass


def _plural(name: str) -> str:
    """The list of what has a name.

    >>> _plural("conv"), _plural("cross"), _plural("branch")
    ('convs', 'crosses', 'branches')
    """
    return f"{name}es" if re.search("(s|x|z|ch|sh)$", name) else f"{name}s"
