"""The lines of `__init__`: every module made once, in the order in which the spec applies them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby

from archdsl.backend.flatten import numbered
from archdsl.backend.merge import (
    Affine,
    ApplyPart,
    CallPart,
    HeadPart,
    LayerPart,
    LoopPart,
    Part,
    RegionPart,
    SelectPart,
    SequencePart,
    Term,
    UnrolledPart,
)
from archdsl.backend.pymodel import Call, Expr, Generator, call, statement, text
from archdsl.backend.signature import Parameter, Signature, literal
from archdsl.backend.spelling import FRESH, OVERWRITES, SPELLINGS
from archdsl.core.ir import Label

_INDICES = "ijklmnop"
"""The indices of nested loops."""

_POSITIONAL = frozenset({"in_channels", "channels", "width"})
"""Arguments that need no name at a call, as for `nn.Conv2d`."""


@dataclass(frozen=True, slots=True)
class Callee:
    """A class or helper function that others call: its name and parameters."""

    name: str
    parameters: tuple[Parameter, ...]
    parallel: str = ""
    """The class for several of them in parallel, if that is one of its own."""


class Constructor:
    """Writes the modules of one class in terms of its signature."""

    def __init__(self, signature: Signature, callees: dict[int, Callee], parallel: str) -> None:
        self.signature = signature
        self.callees = callees
        self.parallel = parallel
        """The class for modules in parallel, of which a callee may have one of its own."""

    # ---- one module

    def module(self, module: LayerPart | CallPart | SequencePart, index: str = "i", inplace: bool = False) -> Expr:
        """The expression that makes a module; `inplace` if it may overwrite its input."""
        match module:
            case LayerPart():
                make = SPELLINGS[module.kind].module
                assert make, f"{module.kind} has no module"
                texts = self.texts(module.args, index, module.kind)
                return make({**texts, "inplace": "True"} if inplace else texts)
            case CallPart():
                return self._call(module, index)
            case SequencePart(style="parallel"):
                made = tuple(self.items(module.region, index))
                alone = len(made) == 1 and isinstance(made[0][1], Generator)
                return call(self._parallel(module.region), made[0][1] if alone else Call("", made, "]", "["))
            case SequencePart():
                return Call("nn.Sequential", tuple(self.items(module.region, index)))

    def _parallel(self, region: RegionPart) -> str:
        """The class of a list of modules in parallel."""
        match region.parts:
            case (LoopPart(body=RegionPart(parts=(ApplyPart(module=CallPart(group=group)),))),):
                return self.callees[group].parallel or self.parallel
            case (UnrolledPart(parts=((RegionPart(parts=(ApplyPart(module=CallPart(group=group)),)), _), *_)),):
                return self.callees[group].parallel or self.parallel
            case _:
                return self.parallel

    def texts(self, args: tuple[tuple[str, Term], ...], index: str, kind: str) -> dict[str, str]:
        reads_channels = kind in ("Conv", "BatchNorm", "Linear", "PadChannels")
        shown = [(n, t) for n, t in args if n != "in_channels" or reads_channels]
        return {name: self.signature.expression(term, index) for name, term in shown}

    def _call(self, module: CallPart, index: str) -> Call:
        callee = self.callees[module.group]
        terms = dict(module.args)
        args: list[tuple[str, Expr]] = []
        names: list[str] = []
        for parameter in callee.parameters:
            value = self.signature.expression(terms[parameter.name], index)
            if parameter.default is None:
                plain = parameter.name in _POSITIONAL or value == parameter.name
                args.append(("" if plain else f"{parameter.name}=", value))
                names.append(parameter.name)
            elif value != literal(parameter.default):
                skipped = len(names) < callee.parameters.index(parameter)
                args.append(("" if value == parameter.name and not skipped else f"{parameter.name}=", value))
                names.append(parameter.name)
        # Once an argument is named, so are those after it.
        named = next((i for i, (prefix, _) in enumerate(args) if prefix), len(args))
        fixed = [(p or f"{names[i]}=", v) if i > named else (p, v) for i, (p, v) in enumerate(args)]
        return Call(callee.name, tuple(fixed))

    # ---- numbered lists

    def items(self, region: RegionPart, index: str = "i") -> Iterator[tuple[str, Expr]]:
        """The arguments of an `nn.Sequential`."""
        yield from self._items(region.parts, index)

    def _items(self, parts: Sequence[Part], index: str = "i") -> Iterator[tuple[str, Expr]]:
        for before, part in zip((None, *parts), parts, strict=False):
            yield from self._item(part, index, isinstance(before, ApplyPart) and _kind(before) in FRESH)

    def _item(self, part: Part, index: str, fresh: bool) -> Iterator[tuple[str, Expr]]:
        """The modules of a part; `fresh` if its input is a new tensor that nothing else reads."""
        match part:
            case ApplyPart():
                yield "", self.module(part.module, index, fresh and _kind(part) in OVERWRITES)
            case LoopPart():
                yield from self._repeated(part.body.parts, part)
            case UnrolledPart():
                for body, count in part.parts:
                    if count is None:
                        yield from self.items(body)
                    else:
                        yield from self._repeated(body.parts, None, self.signature.expression(count))
            case SelectPart() | HeadPart():
                raise AssertionError("a choice or an output in a numbered list")

    def _repeated(self, body: Sequence[Part], loop: LoopPart | None, count: str = "") -> Iterator[tuple[str, Expr]]:
        count = self.signature.expression(loop.count) if loop else count
        index = "i" if loop and loop.indexed and _uses_index(loop.body) else "_"
        made = [m for _, m in self._items(body)]
        clause = f"for {index} in range({count})"
        if len(made) == 1:
            yield "*", Generator(made[0], (clause,))
        else:
            group = Call("for module in ", tuple(("", m) for m in made))
            yield "*", Generator("module", (clause, group))

    # ---- attributes

    def lines(self, region: RegionPart, indent: int = 8) -> list[str]:
        """`self.name = ...` for every module of a body."""
        out: list[str] = []
        done: set[str] = set()
        self._region(region, region, out, done, indent)
        return out

    def _region(self, region: RegionPart, root: RegionPart, out: list[str], done: set[str], indent: int) -> None:
        for i, part in enumerate(region.parts, 1):
            match part:
                case ApplyPart(label=Label() as label, again=False):
                    self._attribute(part, label, root, out, done, indent)
                case SelectPart():
                    self._select(part, dict(region.names).get(i), root, out, done, indent)
                case HeadPart():
                    self._region(part.region, root, out, done, indent)
                case LoopPart():
                    self._loop(part, root, out, done, indent)
                case UnrolledPart():
                    for body, count in part.parts:
                        if count:
                            run = LoopPart(part.kind, count, body, part.input, False, part.outputs)
                            self._loop(run, root, out, done, indent)
                        else:
                            self._region(body, root, out, done, indent)
                case _:
                    pass

    def _attribute(
        self, part: ApplyPart, label: Label, root: RegionPart, out: list[str], done: set[str], indent: int
    ) -> None:
        if label.style == "item":
            if label.stem not in done:
                done.add(label.stem)
                out += statement(f"self.{label.stem} = ", self._list(label.stem, root), indent)
            return
        name = f"{label.stem}{label.index}" if label.style == "index" else label.stem
        out += statement(f"self.{name} = ", self.module(part.module), indent)

    def _list(self, stem: str, root: RegionPart) -> Call:
        """The `nn.ModuleList` of all elements with a stem, wherever in the body they are made."""
        pieces = list(self._pieces(stem, root, ()))
        pieces = _counted(pieces)
        if len(pieces) == 1 and isinstance(pieces[0][1], Generator):
            return call("nn.ModuleList", pieces[0][1])
        return call("nn.ModuleList", Call("", tuple(pieces), "]", "["))

    def _pieces(self, stem: str, region: RegionPart, counts: tuple[str, ...]) -> Iterator[tuple[str, Expr]]:
        """The elements of a list; `counts` are those of the loops around."""
        for part in region.parts:
            match part:
                case ApplyPart(label=Label(style="item", stem=found), again=False) if found == stem:
                    index = _INDICES[max(len(counts) - 1, 0)]
                    made = self.module(part.module, index)
                    names = [*("_" for _ in counts[1:]), index if _varies(part) else "_"]
                    clauses = tuple(f"for {name} in range({n})" for name, n in zip(names, counts, strict=False))
                    yield ("*", Generator(made, clauses)) if clauses else ("", made)
                case SelectPart():
                    for arm in part.arms:
                        if arm:
                            yield from self._pieces(stem, arm, counts)
                case HeadPart():
                    yield from self._pieces(stem, part.region, counts)
                case LoopPart():
                    yield from self._pieces(stem, part.body, (*counts, self.signature.expression(part.count)))
                case UnrolledPart():
                    for body, count in part.parts:
                        more = (self.signature.expression(count),) if count else ()
                        yield from self._pieces(stem, body, (*counts, *more))
                case _:
                    pass

    def _loop(self, part: LoopPart, root: RegionPart, out: list[str], done: set[str], indent: int) -> None:
        named = [p for p in part.body.parts if isinstance(p, ApplyPart) and p.label and p.label.style == "index"]
        if named:
            index = "i"
            out.append(f"{' ' * indent}for {index} in range({self.signature.expression(part.count)}):")
            for inner in named:
                assert inner.label
                name = f'f"{inner.label.stem}{{{numbered(index, inner.label.index)}}}"'
                out += statement("", call("self.add_module", name, self.module(inner.module)), indent + 4)
        rest = tuple(p for p in part.body.parts if p not in named)
        self._region(replace(part.body, parts=rest), root, out, done, indent)

    def _select(
        self, part: SelectPart, hint: str | None, root: RegionPart, out: list[str], done: set[str], indent: int
    ) -> None:
        if part.taken.constant:
            arm = part.arms[0 if part.taken.value else 1]
            assert arm
            self._region(arm, root, out, done, indent)
            return
        positive, negative = self.signature.condition(part.taken, part.reads, "")
        pad = " " * indent
        optional = optional_module(part)
        if optional:
            which, step = optional
            assert step.label
            out.append(f"{pad}self.{step.label.stem}: nn.Module | None = None")
            out.append(f"{pad}if {(positive, negative)[which]}:")
            out += statement(f"self.{step.label.stem} = ", self.module(step.module), indent + 4)
            return
        flag, first = self.signature.flag(part, hint)
        out.append(f"{pad}self.{flag} = {(positive, negative)[first]}")
        lines: list[list[str]] = []
        for arm in part.arms if first == 0 else part.arms[::-1]:
            inner: list[str] = []
            if arm:
                self._region(arm, arm, inner, set(done), indent + 4)
            lines.append(inner)
        if lines[0]:
            out += [f"{pad}if self.{flag}:", *lines[0]]
            if lines[1]:
                out += [f"{pad}else:", *lines[1]]
        elif lines[1]:
            out += [f"{pad}if not self.{flag}:", *lines[1]]


def _counted(pieces: list[tuple[str, Expr]]) -> list[tuple[str, Expr]]:
    """The elements of a list, with those that are made alike, three or more in a row, made in a loop."""
    out: list[tuple[str, Expr]] = []
    for _, run in groupby(pieces, key=lambda piece: (piece[0], text(piece[1]))):
        alike = list(run)
        prefix, made = alike[0]
        if prefix == "" and len(alike) > 2:
            out.append(("*", Generator(made, (f"for _ in range({len(alike)})",))))
        else:
            out += alike
    return out


def optional_module(part: SelectPart) -> tuple[int, ApplyPart] | None:
    """The arm and the module, where one arm is a single module by name and the other has nothing of its own."""
    arms = [_unwrapped(arm) for arm in part.arms]
    counts = [len(arm.parts) if arm else 0 for arm in arms]
    if sorted(counts) != [0, 1]:
        return None
    which = counts.index(1)
    arm = arms[which]
    step = arm.parts[0] if arm else None
    if isinstance(step, ApplyPart) and step.label and step.label.style == "plain" and not step.again:
        return which, step
    return None


def _unwrapped(arm: RegionPart | None) -> RegionPart | None:
    """An arm without the choices in it that all instances take alike."""
    while arm and len(arm.parts) == 1:
        part = arm.parts[0]
        if not (isinstance(part, SelectPart) and part.taken.constant):
            break
        arm = part.arms[0 if part.taken.value else 1]
    return arm


def _uses_index(region: RegionPart) -> bool:
    """Whether a number of the modules made in a loop depends on its index."""
    return any(_varies(part) for part in region.parts)


def _varies(part: Part) -> bool:
    match part:
        case ApplyPart(module=LayerPart() | CallPart() as module):
            return any(isinstance(term, Affine) for _, term in module.args)
        case ApplyPart(module=SequencePart(region=inner)):
            return _uses_index(inner)
        case SelectPart():
            return any(arm is not None and _uses_index(arm) for arm in part.arms)
        case _:
            return False


def _kind(part: ApplyPart) -> str:
    return part.module.kind if isinstance(part.module, LayerPart) else ""
