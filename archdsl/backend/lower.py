"""IR -> the Python about to be printed: a class for each distinct block, a helper for each distinct list."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum

from archdsl.backend.channels import traced
from archdsl.backend.construct import Callee, Constructor
from archdsl.backend.forward import Forward, shape_comment
from archdsl.backend.fuse import HELPERS, FusedForward
from archdsl.backend.groups import Groups, Mismatch
from archdsl.backend.initial import starts_of
from archdsl.backend.merge import Merger, RegionPart, check_names
from archdsl.backend.pymodel import Class, Function, call, signature_lines, statement
from archdsl.backend.signature import Signature, bias_starts
from archdsl.backend.spelling import SPELLINGS
from archdsl.backend.validate import Unfaithful
from archdsl.core.ir import Block, Layer, Network, Origin, Placement, applications, blocks_of
from archdsl.core.names import is_taken, spelled
from archdsl.core.placement import functions_of


@dataclass(frozen=True, slots=True)
class Module:
    """A Python module: helpers and classes in order of use, the network's class last."""

    definitions: tuple[Class | Function, ...]
    support: tuple[str, ...]
    """The classes of templates/support/ that it uses."""
    starts: tuple[tuple[str, str, str], ...]
    """Biases that do not start at zero: class, attribute, value."""
    network: str
    """The name of the network's class."""


class Care(IntEnum):
    """How a definition is written: the first way that says what the IR says."""

    SHARED = 0
    """One class for as many instances as can share one."""
    APART = 1
    """A class for each instance."""
    PLAIN = 2
    """A class for each instance, and loops written out."""


def lower(network: Network, care: Mapping[Origin, Care]) -> Module:
    """Generalise the blocks of a network and write them as classes. Raises Unfaithful for what cannot be written."""
    return _Lowering(network, care).module()


class _Lowering:
    def __init__(self, network: Network, care: Mapping[Origin, Care]) -> None:
        self.network = network
        self.care = care
        self.blocks = blocks_of(network.root)
        self.groups = Groups(_inline(self.blocks))
        self.merger = Merger(self.groups)
        self.callees: dict[int, Callee] = {}
        self.definitions: list[Class | Function] = []
        self.parallel = _PARALLEL[network.placement.kind] if network.placement else ""
        self.functions = {id(f) for f in functions_of(self.blocks)}
        """What is applied in parallel, by id."""
        self.support = _support(self.blocks) | ({self.parallel} if self.functions and self.parallel else set())
        self.taken: set[str] = {*self.support, *_NAMES}
        self.starts: list[tuple[str, str, str]] = []

    def module(self) -> Module:
        for blocks in _by_origin(self.blocks):
            if not self.groups.is_inline(blocks[0]):
                self._define(blocks)
        network = self.callees[len(self.callees) - 1].name
        return Module(tuple(self.definitions), tuple(sorted(self.support)), tuple(self.starts), network)

    def _define(self, blocks: list[Block]) -> None:
        """One class for all instances of a definition, or as few as can be."""
        rest = blocks
        care = self.care.get(blocks[0].origin, Care.SHARED)
        self.merger.written_out = care == Care.PLAIN
        while rest:
            group, region = [rest[0]], self._alone(rest[0])
            if care == Care.SHARED:
                group, region = self._joined(group, region, rest[1:])
            self._emit(group, region)
            chosen = {id(block) for block in group}
            rest = [block for block in rest if id(block) not in chosen]

    def _joined(self, group: list[Block], region: RegionPart, others: list[Block]) -> tuple[list[Block], RegionPart]:
        """A group and those of other instances that can be one class with it: all at once, else half by half."""
        if not others:
            return group, region
        try:
            return [*group, *others], self._together([*group, *others])
        except Mismatch:
            if len(others) == 1:
                return group, region
            half = len(others) // 2
            return self._joined(*self._joined(group, region, others[:half]), others[half:])

    def _alone(self, block: Block) -> RegionPart:
        """The form of one instance. Raises Unfaithful if it cannot be written."""
        try:
            return self._together([block])
        except Mismatch as problem:
            raise Unfaithful(block, "it cannot be written") from problem

    def _together(self, blocks: list[Block]) -> RegionPart:
        """The common form of instances. Raises Mismatch if they cannot be one class."""
        region = traced(self.merger.regions([b.body for b in blocks]), blocks)
        check_names(region)
        if blocks[0].style == "module":
            constructor = Constructor(Signature(blocks, region), self.callees, self.parallel)
            Forward(constructor, region, comments=False).lines(blocks[0].input)
        return region

    def _emit(self, variants: list[Block], region: RegionPart) -> None:
        number = len(self.callees)
        name = self._name(variants[0])
        signature = Signature(variants, region)
        parameters = signature.parameters()
        self.groups.add(number, variants, tuple(p.name for p in parameters), signature.arguments())
        constructor = Constructor(signature, self.callees, self.parallel)
        declarations = tuple(p.declaration for p in parameters)
        first = variants[0]
        doc = tuple(first.doc.split("\n")) if first.doc else ()
        if first.style == "sequence":
            module = call("nn.Sequential")
            module = type(module)("nn.Sequential", tuple(constructor.items(region)))
            body = tuple(statement("return ", module, 4))
            head = signature_lines(f"def {name}", declarations, " -> nn.Sequential:", 0)
            self.definitions.append(Function(name, doc, head, body))
        else:
            self.definitions.append(self._class(name, doc, variants, region, constructor, declarations))
        fused = ""
        if self.network.placement == Placement("fused") and any(id(b) in self.functions for b in variants):
            fused = self._fused(name, region, constructor, first)
        self.callees[number] = Callee(name, parameters, fused)

    def _fused(self, name: str, region: RegionPart, constructor: Constructor, first: Block) -> str:
        """The class that computes several functions as one; its name."""
        forward = FusedForward(constructor, region)
        try:
            lines = forward.lines(first.input)
        except Mismatch as problem:
            raise Unfaithful(first, "it cannot be fused") from problem
        self.support |= forward.helpers
        fused = self._unused(f"Fused{name}")
        doc = f"The sum of several {name}s of one input, computed as one function of as many times the channels."
        note = "They hold weights and statistics; their own forward is not called, and the first one's mode counts."
        self.definitions.append(Class(fused, (doc, note), (), (), tuple(lines), base="nn.ModuleList"))
        return fused

    def _class(
        self,
        name: str,
        doc: tuple[str, ...],
        variants: list[Block],
        region: RegionPart,
        constructor: Constructor,
        declarations: tuple[str, ...],
    ) -> Class:
        first = variants[0]
        is_network = first is self.network.root
        alone = len(variants) == 1
        forward = Forward(constructor, region, comments=alone)
        lines = [*(self._begin() if is_network else []), *forward.lines(first.input)]
        names = [p.name for p in constructor.signature.parameters() if p.name in forward.stored]
        kept = [f"        self.{forward.attribute(n)} = {n}" for n in names]
        init = [*kept, *constructor.lines(region)]
        head = signature_lines("def __init__", ("self", *declarations), " -> None:", 4)
        self.starts += [(name, attribute, value) for attribute, value in bias_starts(region)]
        if is_network and (starts_of(self.network) or self.starts):
            init.append("        self.apply(init_weights)")
        comment = f"  # x: {shape_comment(first.input)}" if alone else ""
        returns = "Tensor | tuple[Tensor, ...]" if is_network and self.network.heads else "Tensor"
        return Class(name, doc, head, tuple(init), tuple(lines), comment, returns)

    def _begin(self) -> list[str]:
        """What the network does before each batch in training."""
        steps = [a for b in self.blocks for a in applications(b.body) if isinstance(a.module, Layer)]
        kinds = dict.fromkeys(a.module.kind for a in steps if isinstance(a.module, Layer))
        found = [
            SPELLINGS[kind].begin([a for a in steps if isinstance(a.module, Layer) and a.module.kind == kind])
            for kind in kinds
        ]
        lines = [f"            {line}" for line in found if line]
        return ["        if self.training:", *lines] if lines else []

    def _name(self, block: Block) -> str:
        if block is self.blocks[-1] and _class_name(block.name) in self.taken:
            return self._unused(f"{_class_name(block.name)}Net")
        return self._unused(spelled(block.name, "block") if block.style == "sequence" else _class_name(block.name))

    def _unused(self, base: str) -> str:
        """A name that nothing else has."""
        name, number = base, 2
        while name in self.taken or is_taken(name):
            name, number = f"{base}{number}", number + 1
        self.taken.add(name)
        return name


_PARALLEL = {"fused": "", "split": "Split", "mesh": "Mesh"}
"""The class of modules in parallel; fused ones have a class for each function."""

_NAMES = frozenset(
    {
        "Split",
        "Mesh",
        "Enter",
        "Leave",
        "add_up",
        "average_gradients",
        "buffers",
        *HELPERS.values(),
        "convolve_and_add",
        "add_shares",
        "copies",
    }
)
"""What templates/support/ defines beside classes of layers."""


def _support(blocks: Sequence[Block]) -> set[str]:
    """The classes that the layers of a network need in its file."""
    layers = [a.module for b in blocks for a in applications(b.body) if isinstance(a.module, Layer)]
    return {SPELLINGS[layer.kind].support for layer in layers} - {""}


def _class_name(name: str) -> str:
    """A class is named as its block, with a capital.

    >>> _class_name("stage"), _class_name("wide_unit"), _class_name("BasicBlock")
    ('Stage', 'WideUnit', 'BasicBlock')
    """
    return spelled("".join(part[:1].upper() + part[1:] for part in name.split("_")), "Block")


def _by_origin(blocks: Sequence[Block]) -> list[list[Block]]:
    """Blocks by definition, each after all that they use; the instances of a recursive definition one by one."""
    members: dict[Origin, list[Block]] = {}
    for block in blocks:
        members.setdefault(block.origin, []).append(block)
    uses = {origin: _uses(instances) for origin, instances in members.items()}
    recursive = {origin for origin in uses if origin in _reach(origin, uses)}
    out: list[list[Block]] = []
    placed: set[int] = set()

    def place(block: Block) -> None:
        if id(block) in placed:
            return
        group = [block] if block.origin in recursive else members[block.origin]
        placed.update(id(b) for b in group)
        for member in group:
            for step in applications(member.body):
                if isinstance(step.module, Block):
                    place(step.module)
        out.append(group)

    for block in blocks:
        place(block)
    return out


def _uses(instances: list[Block]) -> set[Origin]:
    return {a.module.origin for b in instances for a in applications(b.body) if isinstance(a.module, Block)}


def _reach(start: Origin, uses: dict[Origin, set[Origin]]) -> set[Origin]:
    """Every definition that one uses, directly or not."""
    found: set[Origin] = set()
    stack = list(uses[start])
    while stack:
        origin = stack.pop()
        if origin not in found:
            found.add(origin)
            stack += uses[origin]
    return found


def _inline(blocks: Sequence[Block]) -> set[int]:
    """The lists that are written where they stand: those without a definition, and those used in one place."""
    uses: dict[Origin, int] = {}
    for block in blocks:
        for step in applications(block.body):
            if isinstance(step.module, Block):
                uses[step.module.origin] = uses.get(step.module.origin, 0) + 1
    root = blocks[-1]
    lists = [b for b in blocks if b.style != "module" and b is not root]
    return {id(b) for b in lists if not b.named or uses.get(b.origin, 0) == 1}
