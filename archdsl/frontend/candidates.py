"""A spec with `?` in it, elaborated for one choice of numbers after the other."""

from __future__ import annotations

from pathlib import Path

from archdsl.base.diagnostics import error
from archdsl.base.source import Source
from archdsl.core.ir import Network
from archdsl.frontend import syntax
from archdsl.frontend.elaborate import Elaborator
from archdsl.frontend.networks import elaborated_item
from archdsl.frontend.oneline import format_expression, format_on
from archdsl.frontend.resolve import Library
from archdsl.frontend.substitute import substituted


class Candidates:
    """A spec of one network with `?` in it, elaborated for one choice of numbers after the other."""

    def __init__(self, source: Source, folder: Path | None, name: str) -> None:
        library = Library()
        self._module = library.module(source, folder)
        self._elaborator = Elaborator(library)
        self._name = name
        items = [i for i in self._module.file.items if isinstance(i, syntax.NamedNet) and _holes(i)]
        if len(items) != 1:
            problem = f"{source.name} has {len(items) or 'no'} networks with a `?` to look for, and needs one"
            raise error("no-match", None, problem=problem, help="put `?` or `?[2..8]` where the number belongs")
        self._item = items[0]
        self.holes = tuple(_holes(self._item))
        """In the order in which they are written."""
        for hole in self.holes:
            if hole.high is not None and hole.high < hole.low:
                raise error("no-match", hole.span, problem=f"there is no number from {hole.low} to {hole.high}")

    def network(self, values: tuple[int, ...]) -> Network:
        """The network with these numbers. Raises ArchError where they are illegal."""
        self._elaborator.all_work = 0  # how many there are is limited where they are searched
        return elaborated_item(self._elaborator, self._module, self._filled(values), self._name).network

    def text(self, values: tuple[int, ...]) -> str:
        """The spec with these numbers."""
        item = self._filled(values)
        return f"{format_expression(item.value)}{format_on(item.on)}"

    def _filled(self, values: tuple[int, ...]) -> syntax.NamedNet:
        numbers = {hole: syntax.Number(hole.span, value) for hole, value in zip(self.holes, values, strict=True)}

        def given(node: object) -> object | None:
            return numbers.get(node) if isinstance(node, syntax.Hole) else None

        return self._item._replace(
            value=substituted(self._item.value, given), on=substituted(self._item.on, given), clauses=()
        )


def _holes(item: syntax.NamedNet) -> list[syntax.Hole]:
    found: list[syntax.Hole] = []

    def note(node: object) -> None:
        if isinstance(node, syntax.Hole):
            found.append(node)

    substituted((item.value, item.on), note)
    return found
