"""A source -> the networks in it: what each reads, its recipe, and the figures that it expects."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import cast

from archdsl.base import limits
from archdsl.base.diagnostics import ArchError, Diagnostic, Gathering, Note, arranged, diagnose, error
from archdsl.base.diagnostics import Label as Mark
from archdsl.base.source import Source, Span
from archdsl.base.suggest import did_you_mean
from archdsl.core.data import DataSet
from archdsl.core.initial import idle_start
from archdsl.core.ir import Network, Placement
from archdsl.core.measure import Measure, measure
from archdsl.core.names import spelled
from archdsl.core.recipe import untrainable
from archdsl.frontend import syntax
from archdsl.frontend.builder import Frame
from archdsl.frontend.elaborate import Elaborator
from archdsl.frontend.evaluate import Scope
from archdsl.frontend.oneline import format_expression, format_on
from archdsl.frontend.parser import UNITS, figure
from archdsl.frontend.places import placement_of
from archdsl.frontend.recipes import initial_of, recipe_of, settings_of
from archdsl.frontend.resolve import Library, Module, Texts
from archdsl.frontend.sweeps import each_of
from archdsl.frontend.values import Template

MEASURES = ("params", "macs", "depth")


@dataclass(frozen=True, slots=True)
class Elaborated:
    """A network, and the figures that the spec expects of it."""

    network: Network
    expectations: tuple[syntax.Expect, ...]
    place: Span | None = None
    """The clause that says where it runs."""

    def check(self) -> Measure:
        """The measure of the network. Raises ArchError for every figure that it does not meet."""
        cost = measure(self.network)
        problems = [p for e in self.expectations if (p := _failed(e, cost))]
        if problems:
            raise ArchError(*(d for p in problems for d in p.diagnostics))
        return cost


@dataclass(frozen=True, slots=True)
class Elaboration:
    """The networks of a source that can be worked out, and everything that is wrong with it, in its order."""

    networks: tuple[Elaborated, ...]
    problems: tuple[Diagnostic, ...]


def elaborate(source: Source, folder: Path | None, name: str, texts: Texts | None = None) -> Elaboration:
    """Every network of a source; one that has no name of its own takes `name`. Raises ArchError beyond the limits."""
    library = Library(texts)
    module = library.examined(source, folder)
    elaborator = Elaborator(library)
    parts = Gathering()
    parts.found += module.problems
    broken = _broken(module)
    pairs: list[tuple[syntax.NamedNet | syntax.Net, Elaborated]] = []
    items = _networks(module)
    try:
        for item in items:
            if item.span in broken or len(module.problems) >= limits.PROBLEMS:
                continue
            with parts:
                for one in each_of(elaborator, module, item):
                    with parts:
                        pairs.append((one, elaborated_item(elaborator, module, one, name)))
    except ArchError as problem:  # beyond the limits: what comes after it is not looked at
        parts.found += problem.diagnostics
    if not items and not parts.found:
        families = [i.name for i in module.file.items if isinstance(i, syntax.Net)]
        help = f"call a family to have a network, as in `net mine = {families[0]}(...)`" if families else None
        parts.found.append(diagnose("nothing-here", None, name=source.name, help=help))
    named: dict[str, syntax.NamedNet | syntax.Net] = {}
    for item, elaborated in pairs:
        known = named.setdefault(elaborated.network.name, item)
        if known is not item:
            also = (Mark(known.name_span, "first here"),) if known.name_span != item.name_span else ()
            help = None if item.name else "give each a name of its own, as in `net small = ...`"
            words = {"name": elaborated.network.name, "secondary": also, "help": help}
            parts.found.append(diagnose("same-name", item.name_span, **words))  # type: ignore[arg-type]
    twice = {e.network.name for i, e in pairs if named[e.network.name] is not i}
    return Elaboration(tuple(e for _, e in pairs if e.network.name not in twice), arranged(parts.found, source))


def _broken(module: Module) -> set[Span]:
    """The items that are wrong without evaluation, and those that speak of them."""
    # Of a wrong call the rest can still be worked out; the call is wrong again then, in the same words.
    wrong = [d.primary.span for d in module.problems if d.primary and not d.code.startswith("E03")]
    items = module.file.items
    found = [i for i in items if any(i.span.start <= w.start < i.span.end for w in wrong)]
    names = {*module.missing, *(n for i in found for n in _defined(i))}
    if not names:
        return {i.span for i in found}
    speak: dict[str, list[syntax.Item]] = {}
    for item in items:
        for word in set(re.findall(r"\w+", item.span.text)):
            speak.setdefault(word, []).append(item)
    broken = {i.span for i in found}
    while names:
        further = [i for i in speak.get(names.pop(), ()) if i.span not in broken]
        broken |= {i.span for i in further}
        names |= {n for i in further for n in _defined(i)}
    return broken


def _defined(item: syntax.Item) -> list[str]:
    if isinstance(item, syntax.Import):
        return [name.name for name in item.names]
    return [item.name] if isinstance(item, syntax.Block | syntax.Net) else []


def _networks(module: Module) -> list[syntax.NamedNet | syntax.Net]:
    """The networks of a file: those by name, expressions, and nets without parameters."""
    return [
        item
        for item in module.file.items
        if isinstance(item, syntax.NamedNet) or (isinstance(item, syntax.Net) and not item.params)
    ]


def elaborated_item(
    elaborator: Elaborator, module: Module, item: syntax.NamedNet | syntax.Net, default: str
) -> Elaborated:
    elaborator.begin()
    name = item.name or default
    clauses: tuple[syntax.Statement, ...] = ()
    if isinstance(item, syntax.Net):
        template: Template | None = Template(item)
        span, spec = item.name_span, item.name
    else:
        template = elaborator.template(module, item.value)
        clauses, span, spec = item.clauses, item.value.span, format_expression(item.value)
        _only_clauses(clauses)
    on = item.on if isinstance(item, syntax.NamedNet) else None
    reads, classes = elaborator.data(module, on, template)
    data = reads.name if isinstance(reads, DataSet) else None
    shape = reads.shape if isinstance(reads, DataSet) else reads
    try:
        if template:
            root = elaborator.root(module, template, shape, classes, span)
        else:
            root = elaborator.flow(module, cast(syntax.NamedNet, item).value, shape, classes, _class_name(name))
    except ArchError as wrong:
        raise ArchError(*(_of_data(d, item.on) for d in wrong.diagnostics)) from None
    top = Scope(Frame("", module, {}, {}, 0), {}, None, None)
    known = reads if isinstance(reads, DataSet) else None
    recipe = recipe_of(elaborator, (*root.training, settings_of(clauses, top)), root.block.input, known)
    start = initial_of(elaborator, (*root.start, settings_of(clauses, top, syntax.Init)), known)
    body = item.body if isinstance(item, syntax.Net) else clauses
    expectations = tuple(s for s in body if isinstance(s, syntax.Expect))
    if on is None:
        on_text = f" on {data}" if data else f" on {shape}" if not isinstance(item, syntax.Net) else ""
    else:
        on_text = format_on(on)
    doc = item.doc or root.doc
    places = [s for s in body if isinstance(s, syntax.Place)]
    network = Network(
        name=name,
        spec=f"{spec}{on_text}",
        data=data,
        classes=classes,
        root=root.block,
        recipe=recipe,
        start=start,
        source_name=module.file.source.name,
        source_hash=module.digest,
        doc=doc,
        paper="" if root.home is module else " ".join(root.home.file.doc.split()),
        placement=_placement(places),
    )
    parts = Gathering()
    for clause in body:
        if isinstance(clause, syntax.Init):
            unused = idle_start(network.root)
            for setting in clause.settings:
                with parts:
                    if problem := unused.get(setting.name):
                        raise error("bad-setting", setting.span, problem=problem)
        with parts:
            if isinstance(clause, syntax.Train) and (why := untrainable(network)):
                raise error("bad-setting", clause.span, problem=f"there is nothing to train: `{name}` {why}")
    for i, expectation in enumerate(expectations):
        with parts:
            _figure(expectation)
            same = [e for e in expectations[:i] if (e.what, e.figure) == (expectation.what, expectation.figure)]
            if same:
                problem = f"`{expectation.what}` is expected twice"
                also = (Mark(same[0].span, "first here"),)
                raise error("bad-expect", expectation.what_span, problem=problem, secondary=also)
    parts.settle()
    return Elaborated(network, expectations, places[0].span if places else None)


def _of_data(found: Diagnostic, on: syntax.On | None) -> Diagnostic:
    """That there are no classes is a matter of the shape that stands in their place."""
    if found.key != "no-classes" or on is None or found.primary is None:
        return found
    needed = (Mark(found.primary.span, "needed here"),)
    help = f"say how many there are, as in `{on.span.text.strip()} -> 10`"
    return replace(found, primary=Mark(on.span), secondary=needed, notes=(), help=help)


def _placement(clauses: Sequence[syntax.Place]) -> Placement | None:
    if len(clauses) > 1:
        first = (Mark(clauses[0].span, "first here"),)
        raise error("bad-place", clauses[1].span, problem="`place` is given twice", secondary=first)
    for clause in clauses:
        devices, span = (clause.devices.value, clause.devices.span) if clause.devices else (None, None)
        return placement_of(clause.kind, devices, clause.kind_span, span)
    return None


def _class_name(name: str) -> str:
    return spelled("".join(part[:1].upper() + part[1:] for part in name.split("_")), "Network")


def _only_clauses(statements: tuple[syntax.Statement, ...]) -> None:
    for statement in statements:
        if not isinstance(statement, syntax.Expect | syntax.Train | syntax.Init | syntax.Place):
            found = f"`{statement.span.text.split()[0]}`"
            help = (
                "the braces after a network hold `expect`, `train`, `init` and `place`; "
                "a body belongs to `net NAME { ... }`"
            )
            raise error("unexpected", statement.span, found=found, help=help)


# ---- expectations


def _figure(expect: syntax.Expect) -> tuple[Fraction, Fraction]:
    """The figure of an `expect`, and the size of its last digit. Raises ArchError if it measures nothing."""
    if expect.what not in MEASURES:
        problem = f"nothing is measured under the name `{expect.what}`"
        help = did_you_mean(expect.what, MEASURES) or f"it can expect {', '.join(MEASURES)}"
        raise error("bad-expect", expect.what_span, problem=problem, help=help)
    found = figure(expect.figure)
    if found is None:
        problem = f"`{expect.figure[:60]}` is no figure such as 36.5M or 36_479_194"
        raise error("bad-expect", expect.figure_span, problem=problem)
    return found


def _failed(expect: syntax.Expect, cost: Measure) -> ArchError | None:
    """The error of a figure to which the network's does not round."""
    wanted, digit = _figure(expect)
    actual = getattr(cost, expect.what)
    if wanted - digit / 2 <= actual < wanted + digit / 2:
        return None
    shown = f"{actual:,}"
    note = Note(f"to as many digits that is {_rounded(actual, expect.figure, digit)}")
    words = {"what": expect.what, "expected": expect.figure, "actual": shown}
    return error("expect", expect.figure_span, f"it is {shown}", notes=(note,) if digit > 1 else (), **words)


def _rounded(actual: int, written: str, digit: Fraction) -> str:
    unit = UNITS.get(written[-1], 1)
    decimals = len(written[:-1].partition(".")[2])
    steps = (Fraction(actual) / digit + Fraction(1, 2)).__floor__()
    return f"{float(steps * digit / unit):,.{decimals}f}{written[-1]}"
