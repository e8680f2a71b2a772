"""The printed program compared with the IR: what is written is what the spec says, or nothing is written.

The program runs on symbols instead of tensors (translation validation; Pnueli, Siegel and Singerman, TACAS 1998). A
symbol is a number modulo a large prime. Sums, products and numbers are computed as such, so that two ways to write one
sum are equal; every layer and block gives a hash of its name and its inputs. The IR is walked with the same numbers.
The two agree if they make the same layers under the same names, and end with the same number; that two different
computations do is as likely as a collision of hashes (Schwartz, JACM 1980).

Classes are compared one by one: inside one, an instance of another is a name and its arguments, which must then be
printed right themselves. So the cost follows the number of distinct blocks.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from fractions import Fraction

from archdsl.backend.symbols import INPUT, PRIME, Instance, Making, Program, exact, hashed, join, making, modular
from archdsl.base.exhaustive import assert_never
from archdsl.core.ir import Apply, Block, Head, Layer, Loop, Network, Origin, Ref, Region, Select
from archdsl.core.measure import child_name


class Unfaithful(Exception):
    """The program does not say what the IR says of one block: the stage that wrote it has a defect."""

    def __init__(self, block: Block, problem: str, lists: frozenset[Origin] = frozenset()) -> None:
        super().__init__(f"the class of {block.name} is not what the spec says: {problem}")
        self.origins = frozenset({block.origin}) | lists
        """The definitions that the class was made from: the block's, and those of the lists in it."""


def validate(
    text: str, definitions: Iterable[str], name: str, starts: Iterable[tuple[str, str, str]], network: Network
) -> None:
    """Compare the class `name` of a program, and those that it uses, with the IR. Raises Unfaithful.

    `definitions` are the names of the classes and functions that the back end wrote; nothing else of the text is run.
    `starts` are the biases that do not start at zero: class, attribute and value.
    """
    program = Program(text, frozenset(definitions), tuple(starts))
    waiting: list[tuple[Instance, Block]] = [(Instance(name, (), ()), network.root)]
    done: set[tuple[Instance, int]] = set()
    while waiting:
        instance, block = waiting.pop()
        if (instance, id(block)) not in done:
            done.add((instance, id(block)))
            waiting += _compare(program, instance, block)


def _compare(program: Program, instance: Instance, block: Block) -> Iterator[tuple[Instance, Block]]:
    """Compare one instance of a class with a block; gives the pairs that are left to compare."""
    expected = _Walk()
    result = expected.region(block.body, 0, {Ref(0, 0): INPUT}, "", {}, 0)
    lists = frozenset(expected.lists)
    try:
        found = program.run(instance)
    except Exception as problem:  # the program is data here: whatever it raises is a finding
        raise Unfaithful(block, f"{type(problem).__name__}: {problem}", lists) from problem
    for path in {**expected.made, **found.made}:
        mine, theirs = expected.made.get(path), found.made.get(path)
        if isinstance(mine, Block) and isinstance(theirs, Instance):
            yield theirs, mine
        elif mine != theirs or mine is None:
            raise Unfaithful(block, f"{path} is {theirs}, and should be {mine}", lists)
    if found.starts != expected.starts:
        raise Unfaithful(block, f"biases start at {found.starts}, and should at {expected.starts}", lists)
    if (found.output, found.heads, found.evaluated) != (result, expected.heads, result):
        raise Unfaithful(block, "forward computes something else", lists)


# ---- the IR on the same symbols


class _Walk:
    """A block of the IR, applied to symbols."""

    def __init__(self) -> None:
        self.made: dict[str, Making | Block] = {}
        self.starts: dict[str, Fraction] = {}
        self.heads: list[int] = []
        self.lists: set[Origin] = set()

    def region(
        self, region: Region, level: int, outer: dict[Ref, int], prefix: str, counters: dict[str, int], shift: int
    ) -> int:
        """The value of a region. `counters` number the elements of lists, `shift` the iterations of a run."""
        values = dict(outer)
        for i, step in enumerate(region.steps, 1):
            match step:
                case Apply():
                    result = self._apply(step, [values[r] for r in step.inputs], prefix, counters, shift)
                case Select():
                    result = self.region(step.region, level + 1, values, prefix, counters, shift)
                case Loop():
                    result = self._loop(step, level, values, prefix, counters, shift)
                case Head():
                    result = self.region(step.region, level + 1, values, prefix, counters, shift)
                    self.heads.append(result)
                case _:
                    assert_never(step)
            values[Ref(level, i)] = result
        return values[region.output]

    def _loop(
        self, loop: Loop, level: int, values: dict[Ref, int], prefix: str, counters: dict[str, int], shift: int
    ) -> int:
        x = values[loop.input]
        results: list[int] = []
        inner = dict(values)
        for run in loop.runs:
            for j in range(run.count):
                inner[Ref(level + 1, 0)] = x
                results.append(self.region(run.region, level + 1, inner, prefix, counters, shift + j))
                x = results[-1] if loop.kind == "sequence" else x
        return x if loop.kind == "sequence" else join(loop.kind, results)

    def _apply(self, step: Apply, inputs: list[int], prefix: str, counters: dict[str, int], shift: int) -> int:
        path = f"{prefix}{child_name(step.label, counters, shift)}" if step.label else ""
        module = step.module
        if isinstance(module, Block):
            if module.style != "module":
                self.lists.add(module.origin)
                return self.region(module.body, 0, {Ref(0, 0): inputs[0]}, f"{path}.", {}, 0)
            self.made[path] = module
            return hashed(path, *inputs)
        if not path:
            return _compute(module, inputs, step)
        weighted = module.kind in ("Conv", "BatchNorm", "Linear")
        self.made[path] = making(module.kind, dict(module.args), step.shapes[0].channels if weighted else None)
        start = dict(module.args).get("bias")
        if weighted and start is not None and not isinstance(start, bool):
            self.starts[path] = exact(start)
        return hashed(path, *inputs)


def _compute(layer: Layer, inputs: list[int], step: Apply) -> int:
    """A layer without a name of its own."""
    args = dict(layer.args)
    match layer.kind:
        case "add" | "mean" | "multiply" | "concat":
            return join(layer.kind, inputs)
        case "affine":
            return (modular(args["scale"]) * inputs[0] + modular(args["offset"])) % PRIME
        case "PadChannels":
            return hashed("pad", step.output.channels - step.shapes[0].channels, inputs[0])
        case "Identity":
            return inputs[0]
        case _:
            return hashed(making(layer.kind, args, None), *inputs)
