"""What stands at the right of lines: the parameters of what they apply, and what a network has in all."""

from __future__ import annotations

from dataclasses import dataclass

from archdsl.editor.document import Document
from archdsl.editor.hover import counted, network_uses
from archdsl.editor.uses import Use
from archdsl.frontend import syntax


@dataclass(frozen=True, slots=True)
class Hint:
    """A text for the end of a line; the line counts from 1."""

    line: int
    offset: int
    text: str


def hints(document: Document) -> list[Hint]:
    """A hint for each line that applies modules with parameters, and for the head of each network."""
    texts = {line: _range(counts) for line, counts in _counts(document).items()} | _heads(document)
    source = document.source
    return [Hint(n, source.offset(n, len(source.line(n)) + 1), text) for n, text in sorted(texts.items())]


def _counts(document: Document) -> dict[int, list[int]]:
    """Line -> the parameters of what it applies, in each form of the block around it.

    The lines of a block add up to its parameters; what is inside of a group on the same line is a part of the group.
    """
    source = document.source
    found: dict[int, dict[tuple[bool, int], list[int]]] = {}
    for origin, places in document.uses.parts:
        lines: dict[int, int] = {}
        for offset, params in places.items():
            line = source.position(offset)[0]
            lines[line] = lines.get(line, 0) + params
        outside = (origin.source != source.name, origin.offset)
        for line, params in lines.items():
            if params:
                found.setdefault(line, {}).setdefault(outside, []).append(params)
    return {line: owners[min(owners)] for line, owners in found.items()}


def _heads(document: Document) -> dict[int, str]:
    """Line of the head of a network or family -> what it has in all."""
    texts = {}
    for item in document.items:
        match item:
            case syntax.NamedNet():
                uses = network_uses(document, item)
            case syntax.Net():
                uses = tuple(document.uses.definitions.get(item.span.start, ()))
            case _:
                continue
        if uses:
            texts[document.source.position(item.name_span.start)[0]] = _total(uses)
    return texts


def _total(uses: tuple[Use, ...]) -> str:
    shapes = {str(use): None for use in uses}
    text = _range([use.params for use in uses])
    return f"{text}, {next(iter(shapes))}" if len(shapes) == 1 else text


def _range(counts: list[int]) -> str:
    low, high = min(counts), max(counts)
    return counted(low) if low == high else f"{low:,} to {counted(high)}"
