"""The pipeline, top to bottom: text in, networks and generated files out.

spec -> parse -> resolve -> elaborate -> verify -> lower -> emit -> validate
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, replace
from pathlib import Path

from archdsl.base import limits
from archdsl.base.diagnostics import ArchError, Diagnostic, Gathering, arranged, error
from archdsl.base.slug import slug
from archdsl.base.source import Source
from archdsl.core.ir import Network
from archdsl.core.measure import Measure
from archdsl.core.placement import place, sums
from archdsl.core.verify import verify
from archdsl.frontend.networks import Elaborated, elaborate
from archdsl.frontend.places import misplaced, parse_placement
from archdsl.frontend.resolve import Texts, read

COMMAND_LINE = "<command line>"


@dataclass(frozen=True, slots=True)
class Compiled:
    """A network that has passed every check but, perhaps, its expectations."""

    elaborated: Elaborated

    @property
    def network(self) -> Network:
        return self.elaborated.network

    def check(self) -> Measure:
        """The measure of the network. Raises ArchError if an `expect` fails."""
        return self.elaborated.check()

    def unplaced(self) -> list[str]:
        """The parallel sums that its placement does not apply to, and why."""
        placement = self.network.placement
        found = sums(self.network, placement) if placement else []
        return list(
            dict.fromkeys(f"{placement} leaves a sum in {s.block.name}: {s.problem}" for s in found if s.problem)
        )

    def ir(self) -> str:
        from archdsl.core.printer import print_network

        return print_network(place(self.network))

    def model(self) -> str:
        """The text of model.py."""
        from archdsl.backend.emit import emit_model

        return emit_model(self.network)

    def train(self) -> str:
        """The text of train.py."""
        from archdsl.backend.emit import emit_train

        return emit_train(self.network)


@dataclass(frozen=True, slots=True)
class Examined:
    """The networks of a source that can be worked out, and everything that is wrong with it, in its order."""

    compiled: tuple[Compiled, ...]
    problems: tuple[Diagnostic, ...]


def load(spec: str, place: str | None = None) -> list[Compiled]:
    """The networks of a SPEC: a path to a .arch file, or an expression.

    `place` says where parallel functions run, as `split:2`; it wins over the spec. Raises ArchError with every
    independent mistake; what the spec expects is for `Compiled.check`.
    """
    found = _compile(*open_spec(spec), place)
    if found.problems:
        raise ArchError(*found.problems)
    return list(found.compiled)


def examine(source: Source, folder: Path | None, name: str, texts: Texts | None = None) -> Examined:
    """The networks of a source, also those that are not what it expects, and everything wrong. Raises nothing.

    `texts` are files that stand otherwise in an editor than they are saved.
    """
    try:
        found = _compile(source, folder, name, None, texts)
    except ArchError as problem:
        return Examined((), arranged(problem.diagnostics, source))
    parts = Gathering()
    parts.found += found.problems
    for one in found.compiled:
        with parts:
            one.check()
    return Examined(found.compiled, arranged(parts.found, source))


def _compile(source: Source, folder: Path | None, name: str, place: str | None, texts: Texts | None = None) -> Examined:
    """The networks of a source, and what is wrong with others. Raises ArchError."""
    limits.deep()
    try:
        found = elaborate(source, folder, name, texts)
        parts = Gathering()
        parts.found += found.problems
        compiled = []
        for one in found.networks:
            with parts:
                compiled.append(Compiled(_placed(one, place)))
                verify(compiled[-1].network)
    except RecursionError:
        raise error("too-deep", None, problem=f"the definitions of {source.name} are nested too deeply") from None
    return Examined(tuple(compiled), arranged(parts.found, source))


def _placed(elaborated: Elaborated, place: str | None) -> Elaborated:
    """With the placement that the command line asks for, which has been found to apply."""
    network = elaborated.network
    placement = network.placement if place is None else parse_placement(place)
    if placement is None:
        return replace(elaborated, network=replace(network, placement=None))
    found = sums(network, placement)
    if all(s.problem for s in found):
        raise misplaced(network, placement, found, elaborated.place if place is None else None)
    return replace(elaborated, network=replace(network, placement=placement))


def open_spec(spec: str) -> tuple[Source, Path | None, str]:
    """The source of a SPEC, the folder of its imports, and the name of a network that has none."""
    if not is_path(spec):
        return Source(COMMAND_LINE, spec), Path.cwd(), slug(spec)
    path = Path(spec)
    return read(path, spec), path.resolve().parent, slug(path.stem)


def is_path(spec: str) -> bool:
    """Whether a SPEC names a file: it ends in .arch, or has a folder in it and no bracket."""
    return spec.endswith(".arch") or ("/" in spec and not re.search(r"[()\[\]{}]|->", spec)) or os.path.isfile(spec)  # noqa: PTH113 - a long spec is no valid Path
