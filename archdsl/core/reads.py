"""How often the steps of a region read each value: so many gradients of it meet in the backward pass."""

from __future__ import annotations

from collections import Counter

from archdsl.base.exhaustive import assert_never
from archdsl.core.ir import Apply, Head, Loop, Ref, Region, Select, Step


def reads(step: Step) -> Counter[Ref]:
    """How often a step reads each value around it, in the regions inside it too. A sequence reads its input once,
    and iterations side by side once each."""
    match step:
        case Apply():
            return Counter(step.inputs)
        case Select() | Head():
            return reads_in(step.region)
        case Loop():
            found: Counter[Ref] = Counter()
            for run in step.runs:
                for ref, times in reads_in(run.region).items():
                    found[ref] += times * run.count
            found[step.input] += 1 if step.kind == "sequence" else step.count
            return found
        case _:
            assert_never(step)


def reads_in(region: Region) -> Counter[Ref]:
    """How often the steps of a region, and its output, read each value."""
    found = Counter([region.output])
    for step in region.steps:
        found.update(reads(step))
    return found
