"""Who reads the values of a region, and the order in which the generated code runs its steps."""

from __future__ import annotations

from archdsl.base.exhaustive import assert_never
from archdsl.core.ir import Apply, Head, Layer, Loop, Ref, Region, Select, Step
from archdsl.core.saves import FRESH


def readers_of(region: Region, level: int) -> dict[Ref, list[int]]:
    """The steps that read each value of a region; its output is read after the last."""
    readers: dict[Ref, list[int]] = {}
    for i, step in enumerate(region.steps, 1):
        refs = step.inputs if isinstance(step, Apply) else reads_of_step(step)
        for ref in refs:
            if ref.level == level:
                readers.setdefault(ref, []).append(i)
    readers.setdefault(region.output, []).append(len(region.steps) + 1)
    return readers


def only_reader(region: Region, readers: list[int], into: Step | None) -> Step | None:
    """The step that alone reads a value; `into` is that of the region's output."""
    if len(readers) != 1:
        return None
    return region.steps[readers[0] - 1] if readers[0] <= len(region.steps) else into


def order_of(region: Region, level: int, readers: dict[Ref, list[int]]) -> list[int]:
    """The steps as the generated code runs them: a sum that an addition alone reads is written there, term by term."""
    delayed: dict[int, list[int]] = {}
    for i, step in enumerate(region.steps, 1):
        by = readers.get(Ref(level, i), [])
        if _is_sum(step) and len(by) == 1 and by[0] <= len(region.steps) and is_addition(region.steps[by[0] - 1]):
            delayed.setdefault(by[0], []).append(i)
    late = {i for steps in delayed.values() for i in steps}
    return [j for i in range(1, len(region.steps) + 1) if i not in late for j in (*delayed.get(i, ()), i)]


def _is_sum(step: Step) -> bool:
    if isinstance(step, Select) and len(step.region.steps) == 1:
        return _is_sum(step.region.steps[0])
    return isinstance(step, Loop) and step.kind == "sum"


def is_addition(step: Step | None) -> bool:
    """Whether a step adds values."""
    return isinstance(step, Apply) and isinstance(step.module, Layer) and step.module.kind == "add"


def overwrites(step: Step, before: Step | None, readers: list[int]) -> bool:
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
