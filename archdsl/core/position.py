"""A place in a network -> the name of the layer there, as PyTorch has it."""

from __future__ import annotations

from collections import Counter

from archdsl.core.ir import Apply, Block, Loop, Region, Step, regions_of
from archdsl.core.measure import child_name
from archdsl.core.timeline import Place


def name_of(root: Block, place: Place) -> str:
    """The path of the layer at a place; with its kind if it has no name of its own, as an addition has none."""
    names: list[str] = []
    region, counters, iteration = root.body, Counter[str](), 0
    kind = ""
    for index, run, number in place:
        for step in region.steps[:index]:
            counters += _elements(step)
        step = region.steps[index]
        match step:
            case Apply(module=module, label=label):
                if label:
                    names.append(child_name(label, {} if step.again else counters, iteration))
                kind = ""
                if isinstance(module, Block):
                    region, counters, iteration = module.body, Counter[str](), 0
                else:
                    kind = "" if label else module.kind
            case Loop():
                for earlier in step.runs[:run]:
                    counters += _times(_inside(earlier.region), earlier.count)
                counters += _times(_inside(step.runs[run].region), number)
                region, iteration = step.runs[run].region, number
                kind = "" if step.kind == "sequence" else step.kind  # of the join, if nothing in it is meant
            case _:
                region = step.region
    path = ".".join(names)
    return f"{path} ({kind})" if path and kind else path or kind


def _elements(step: Step) -> Counter[str]:
    """The elements of lists and sequences that a step numbers."""
    if isinstance(step, Apply):
        listed = step.label is not None and step.label.style in ("item", "number") and not step.again
        return Counter({step.label.stem: 1}) if step.label and listed else Counter()
    if isinstance(step, Loop):
        total = Counter[str]()
        for run in step.runs:
            total += _times(_inside(run.region), run.count)
        return total
    return sum((_inside(r) for r in regions_of(step)), Counter[str]())


def _inside(region: Region) -> Counter[str]:
    return sum((_elements(s) for s in region.steps), Counter[str]())


def _times(elements: Counter[str], count: int) -> Counter[str]:
    return Counter({stem: n * count for stem, n in elements.items()})
