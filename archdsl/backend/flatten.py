"""A merged body as a flat list of nodes: folded choices and written-out iterations disappear, values become numbers."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count
from typing import Literal, TypeAlias

from archdsl.backend.groups import Mismatch
from archdsl.backend.merge import (
    ApplyPart,
    HeadPart,
    LayerPart,
    LoopPart,
    Part,
    RegionPart,
    SelectPart,
    Slot,
    UnrolledPart,
)
from archdsl.core.ir import Label, Ref
from archdsl.core.names import is_taken
from archdsl.core.types import Shape


@dataclass(frozen=True, slots=True)
class Module:
    """Apply a module: `target` is how it is reached, `kind` its primitive, or "block"."""

    target: str
    kind: str
    layer: LayerPart | None = None


@dataclass(frozen=True, slots=True)
class Operation:
    """Apply an operation without a module."""

    kind: str
    layer: LayerPart | None


@dataclass(frozen=True, slots=True)
class Choice:
    """Two arms between which instances differ."""

    part: SelectPart
    arms: tuple[Flat, Flat]
    hint: str | None


@dataclass(frozen=True, slots=True)
class Repeat:
    """A loop that stays a loop: `carried` is the input of an iteration."""

    part: LoopPart
    head: str
    body: Flat
    carried: int


@dataclass(frozen=True, slots=True)
class Output:
    """A further output, computed in training only."""

    body: Flat


Op: TypeAlias = Module | Operation | Choice | Repeat | Output


@dataclass(frozen=True, slots=True)
class Node:
    id: int
    op: Op
    inputs: tuple[int, ...]
    """Every value that the node reads, in the bodies inside it too."""
    shape: Shape | None
    """The shape of the result, if it is the same in all instances."""


@dataclass(frozen=True, slots=True)
class Flat:
    nodes: tuple[Node, ...]
    output: int


class Flattener:
    """Flattens one body; `names` gives the spec's name of a value where it has one. Value 0 is the input."""

    def __init__(self, region: RegionPart, count_text: Callable[[Slot], str]) -> None:
        self.names: dict[int, str] = {}
        self.loop_names: set[str] = set("ijklmnop")
        """The variables of Python loops, which no value can have."""
        self._root = region
        self._count_text = count_text
        self._ids = count(1)
        self._elements: dict[str, int] = {}
        """List -> elements applied so far."""
        self._places = Counter(_stems(region, "item", nested=True))
        """List -> in how many places its elements are applied."""
        self._counts: list[str] = []
        """The counts of the loops around."""

    def flatten(self) -> Flat:
        """The whole body. Raises Mismatch if a loop over a part of a list has a count in which instances differ."""
        return self._flat(self._root, 0, {Ref(0, 0): 0}, [], {})

    def _flat(
        self, region: RegionPart, level: int, outer: dict[Ref, int], nodes: list[Node], targets: dict[str, str]
    ) -> Flat:
        output = self._region(region, level, outer, nodes, targets)
        return Flat(tuple(nodes), output)

    def _region(
        self, region: RegionPart, level: int, outer: dict[Ref, int], nodes: list[Node], targets: dict[str, str]
    ) -> int:
        """Add the nodes of a region; the number of its output. `targets` are the loop variables for list elements."""
        values = dict(outer)
        hints = dict(region.names)
        for i, part in enumerate(region.parts, 1):
            number = self._part(part, level, values, nodes, targets, hints.get(i))
            values[Ref(level, i)] = number
            if i in hints and number:
                self.names.setdefault(number, hints[i])
        return values[region.output]

    def _part(
        self,
        part: Part,
        level: int,
        values: dict[Ref, int],
        nodes: list[Node],
        targets: dict[str, str],
        hint: str | None,
    ) -> int:
        match part:
            case ApplyPart():
                inputs = tuple(values[r] for r in part.inputs)
                return self._add(nodes, self._application(part, targets), inputs, _common(part.outputs))
            case SelectPart() if part.taken.constant:
                arm = part.arms[0 if part.taken.value else 1]
                assert arm
                return self._region(arm, level + 1, values, nodes, targets)
            case SelectPart():
                then, otherwise = part.arms
                assert then and otherwise
                arms = (
                    self._flat(then, level + 1, values, [], targets),
                    self._flat(otherwise, level + 1, values, [], targets),
                )
                inputs = tuple(dict.fromkeys((*free(arms[0]), *free(arms[1]))))
                return self._add(nodes, Choice(part, arms, hint), inputs, _common(part.outputs))
            case HeadPart():
                body = self._flat(part.region, level + 1, values, [], targets)
                return self._add(nodes, Output(body), free(body), None)
            case LoopPart():
                return self._loop(part, level, values, nodes, targets)
            case UnrolledPart():
                return self._unrolled(part, level, values, nodes, targets)

    def _add(self, nodes: list[Node], op: Op, inputs: tuple[int, ...], shape: Shape | None) -> int:
        number = next(self._ids)
        nodes.append(Node(number, op, inputs, shape))
        return number

    def _application(self, part: ApplyPart, targets: dict[str, str]) -> Op:
        layer = part.module if isinstance(part.module, LayerPart) else None
        if part.label is None:
            assert layer, "a block without a name"
            return Operation(layer.kind, layer)
        return Module(self._target(part.label, targets), layer.kind if layer else "block", layer)

    def _target(self, label: Label, targets: dict[str, str]) -> str:
        if label.stem in targets:
            return targets[label.stem]
        if label.style == "item":
            number = self._elements.get(label.stem, 0)
            self._elements[label.stem] = number + 1
            return f"self.{label.stem}[{number}]"
        return f"self.{label.stem}{label.index if label.style == 'index' else ''}"

    def _loop(
        self, part: LoopPart, level: int, values: dict[Ref, int], nodes: list[Node], targets: dict[str, str]
    ) -> int:
        carried = next(self._ids)
        head, inner = self._head(part)
        self._counts.append(self._count_text(part.count))
        body = self._flat(part.body, level + 1, {**values, Ref(level + 1, 0): carried}, [], {**targets, **inner})
        self._counts.pop()
        source = values[part.input]
        others = tuple(v for v in free(body) if v not in (carried, source))
        return self._add(nodes, Repeat(part, head, body, carried), (source, *others), _common(part.outputs))

    def _head(self, part: LoopPart) -> tuple[str, dict[str, str]]:
        """The head of a Python loop, and what stands in it for the modules that it runs over."""
        index = "ijklmnop"[len(self._counts)]
        n = self._count_text(part.count)
        stems = list(dict.fromkeys(_stems(part.body, "item", nested=False)))
        below = set(_stems(part.body, "item", nested=True)) - set(stems)
        labels = [p.label for p in _applications(part.body, nested=False) if p.label and p.label.style == "index"]
        if labels or below or self._counts:
            reached = {x.stem: f'getattr(self, f"{x.stem}{{{numbered(index, x.index)}}}")' for x in labels}
            reached |= {stem: f"self.{stem}[{self._position(stem, index, n, part)}]" for stem in stems}
            return f"for {index} in range({n}):", reached
        if not stems:
            return f"for _ in range({n}):", {}
        names = {stem: f"{singular(stem)}{'_' if is_taken(singular(stem)) else ''}" for stem in stems}
        self.loop_names |= set(names.values())
        lists = [self._slice(stem, part) for stem in stems]
        if len(stems) == 1:
            return f"for {names[stems[0]]} in {lists[0]}:", names
        return f"for {', '.join(names.values())} in zip({', '.join(lists)}, strict=True):", names

    def _slice(self, stem: str, part: LoopPart) -> str:
        """The elements that a loop runs over: all of a list, or those of one place of several."""
        if self._places[stem] == 1:
            return f"self.{stem}"
        start = self._skip(stem, part)
        return f"self.{stem}[{start}:{start + self._known(part.count)}]"

    def _position(self, stem: str, index: str, n: str, part: LoopPart) -> str:
        """The number of an element in nested loops: `3 * i + j`."""
        names = "ijklmnop"[: len(self._counts)] + index
        if not all(size.isdigit() for size in [*self._counts[1:], n][: len(names) - 1]):
            raise Mismatch
        text = names[0]
        sizes = [*self._counts[1:], n] if self._counts else []
        for name, size in zip(names[1:], sizes, strict=True):
            text = f"{size} * {_factor(text)} + {name}"
        if self._places[stem] == 1:
            return text
        start = self._skip(stem, part)
        return f"{start} + {text}" if start else text

    def _skip(self, stem: str, part: LoopPart) -> int:
        """Count the elements of a loop; the number of those before it."""
        start = self._elements.get(stem, 0)
        elements = self._known(part.count)
        for around in self._counts:
            if not around.isdigit():
                raise Mismatch
            elements *= int(around)
        self._elements[stem] = start + elements
        return start

    def _known(self, slot: Slot) -> int:
        if not slot.constant or not isinstance(slot.value, int):
            raise Mismatch
        return slot.value

    def _unrolled(
        self, part: UnrolledPart, level: int, values: dict[Ref, int], nodes: list[Node], targets: dict[str, str]
    ) -> int:
        current = values[part.input]
        results: list[int] = []
        for body, n in part.parts:
            if n is not None:
                inner = LoopPart(part.kind, n, body, part.input, False, (None,))
                current = self._loop(inner, level, {**values, part.input: current}, nodes, targets)
            else:
                current = self._region(body, level + 1, {**values, Ref(level + 1, 0): current}, nodes, targets)
            if part.kind != "sequence":
                results.append(current)
                current = values[part.input]
        if part.kind == "sequence":
            return current
        kind = "add" if part.kind == "sum" else part.kind
        if len(results) == 1:
            return results[0]
        return self._add(nodes, Operation(kind, None), tuple(results), _common(part.outputs))


def _common(shapes: tuple[Shape | None, ...]) -> Shape | None:
    """The shape, if it is the same in all instances."""
    return shapes[0] if len(set(shapes)) == 1 else None


def free(flat: Flat) -> tuple[int, ...]:
    """The values that a body reads from outside, in order."""
    own = {n.id for n in flat.nodes}
    read = [v for n in flat.nodes for v in n.inputs if v not in own]
    return tuple(dict.fromkeys([*read, *(() if flat.output in own else (flat.output,))]))


def _applications(region: RegionPart, nested: bool) -> list[ApplyPart]:
    """The applications in a body; those in loops inside it only if `nested`."""
    found: list[ApplyPart] = []
    for part in region.parts:
        match part:
            case ApplyPart():
                found.append(part)
            case SelectPart():
                found += [p for arm in part.arms if arm for p in _applications(arm, nested)]
            case HeadPart():
                found += _applications(part.region, nested)
            case LoopPart():
                found += _applications(part.body, nested) if nested else []
            case UnrolledPart():
                found += [p for body, n in part.parts if nested or n is None for p in _applications(body, nested)]
    return found


def _stems(region: RegionPart, style: Literal["item", "index"], nested: bool) -> list[str]:
    return [p.label.stem for p in _applications(region, nested) if p.label and p.label.style == style]


def _factor(text: str) -> str:
    return f"({text})" if " " in text else text


def numbered(index: str, first: int) -> str:
    """The number of iteration `index` when the first is `first`."""
    return f"{index} + {first}" if first else index


def singular(name: str) -> str:
    """One element of a list.

    >>> singular("branches"), singular("functions"), singular("convs2"), singular("mix"), singular("atrous")
    ('branch', 'function', 'conv2', 'mix_', 'atrous_')
    """
    stem = name.rstrip("0123456789")
    if stem != name:
        return f"{singular(stem)}{name[len(stem) :]}"
    if name.endswith(("ches", "shes", "xes", "sses")):
        return name[:-2]
    return name[:-1] if re.search("[^su]s$", name) and len(name) > 2 else f"{name}_"
