"""The invariants of the IR, checked between stages by code that shares nothing with the elaborator."""

from __future__ import annotations

from archdsl.base.exhaustive import assert_never
from archdsl.core.ir import Apply, Block, Head, Layer, Loop, Network, Ref, Region, Select, Step, blocks_of, regions_of
from archdsl.core.primitives import PRIMITIVES
from archdsl.core.types import Shape


class InvalidIR(Exception):
    """A bug in archdsl: a stage has produced an IR that cannot be."""


def verify(network: Network) -> None:
    """Check a network: values defined before use, shapes as the primitives have them, names unique.

    Raises InvalidIR.
    """
    for block in blocks_of(network.root):
        _Verifier(block).run()


class _Verifier:
    def __init__(self, block: Block) -> None:
        self.block = block
        self.names: set[str] = set()
        self.made: set[str] = set()

    def run(self) -> None:
        region = self.block.body
        shapes = {Ref(0, 0): region.input}
        found = self._region(region, 0, shapes)
        self._check(found == self.block.output, f"the output is {found}, not {self.block.output}")
        if self.block.style == "sequence":
            self._check(_is_chain(region, 0), "a sequence is not a chain")

    def _check(self, truth: bool, message: str) -> None:
        if not truth:
            raise InvalidIR(f"block {self.block.name}: {message}")

    def _region(self, region: Region, level: int, outer: dict[Ref, Shape]) -> Shape:
        shapes = dict(outer)
        for i, step in enumerate(region.steps, 1):
            found = self._step(step, level, shapes)
            self._check(found == step.output, f"step {i} gives {found}, not {step.output}")
            shapes[Ref(level, i)] = step.output
        self._check(region.output in shapes, f"the output {region.output} is not defined")
        used = {r for s in region.steps for r in _reads(s)} | {region.output}
        for i, step in enumerate(region.steps, 1):
            is_head = isinstance(step, Head)
            self._check(is_head or Ref(level, i) in used, f"value {i} is computed and never used")
            self._check(not is_head or (level == 0 and Ref(level, i) not in used), f"value {i} is an output inside")
        return shapes[region.output]

    def _step(self, step: Step, level: int, shapes: dict[Ref, Shape]) -> Shape:
        match step:
            case Apply():
                return self._apply(step, shapes)
            case Select() | Head():
                return self._region(step.region, level + 1, shapes)
            case Loop():
                return self._loop(step, level, shapes)
            case _:
                assert_never(step)

    def _apply(self, step: Apply, shapes: dict[Ref, Shape]) -> Shape:
        self._check(all(r in shapes for r in step.inputs), f"an input of {step.inputs} is not defined")
        found = tuple(shapes[r] for r in step.inputs)
        self._check(found == step.shapes, f"the inputs are {found}, not {step.shapes}")
        self._name(step)
        if isinstance(step.module, Block):
            self._check(found == (step.module.input,), f"{step.module.name} is made for {step.module.input}")
            return step.module.output
        primitive = PRIMITIVES[step.module.kind]
        self._check(step.label is not None or not primitive.needs_module, f"{primitive.name} has no name")
        return primitive.output(dict(step.module.args), found)

    def _name(self, step: Apply) -> None:
        label = step.label
        if label is None or label.style in ("item", "number"):
            return
        self._check(label.index >= 0, f"{label.stem} was never named")
        name = label.stem if label.style == "plain" else f"{label.stem}{label.index}"
        if step.again:
            self._check(name in self.made, f"{name} is used again before it is made")
        else:
            self._check(name not in self.names, f"two modules are named {name}")
        self.names.add(name)
        self.made.add(name)

    def _loop(self, loop: Loop, level: int, shapes: dict[Ref, Shape]) -> Shape:
        self._check(loop.input in shapes, f"the input {loop.input} of a loop is not defined")
        self._check(bool(loop.runs), "a loop has no iterations")
        current = shapes[loop.input]
        results: list[tuple[int, Shape]] = []
        start = 0
        for run in loop.runs:
            self._check(run.count >= 1 and run.start == start, "the runs of a loop do not follow each other")
            start += run.count
            self._check(run.region.input == current, f"an iteration is made for {run.region.input}, not {current}")
            output = self._region(run.region, level + 1, {**shapes, Ref(level + 1, 0): current})
            if loop.kind == "sequence":
                self._check(run.count == 1 or output == current, "a run changes the shape")
                current = output
            results.append((run.count, output))
        if loop.kind == "sequence":
            return current
        if loop.kind in ("sum", "mean"):
            return PRIMITIVES["add"].output({}, tuple(s for _, s in results))
        PRIMITIVES["concat"].output({}, tuple(s for _, s in results))
        return results[0][1].with_channels(sum(n * s.channels for n, s in results))


def _reads(step: Step) -> set[Ref]:
    own = set(step.inputs) if isinstance(step, Apply) else {step.input} if isinstance(step, Loop) else set()
    for region in regions_of(step):
        own |= {region.output} | {r for s in region.steps for r in _reads(s)}
    return own


def _is_chain(region: Region, level: int) -> bool:
    for i, step in enumerate(region.steps):
        match step:
            case Apply(module=Layer() | Block(), inputs=(source,), label=label):
                if source != Ref(level, i) or label is None or label.style != "number":
                    return False
            case Loop(kind="sequence", input=source):
                if source != Ref(level, i) or not all(_is_chain(r.region, level + 1) for r in step.runs):
                    return False
            case _:
                return False
    return region.output == Ref(level, len(region.steps))
