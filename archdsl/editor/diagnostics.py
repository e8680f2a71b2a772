"""What is wrong with a document, as an editor shows it: every problem at a place of this text."""

from __future__ import annotations

from dataclasses import dataclass

from archdsl.base.diagnostics import Diagnostic, Label
from archdsl.base.source import Span
from archdsl.editor.document import Document, path_of
from archdsl.frontend import syntax


@dataclass(frozen=True, slots=True)
class Problem:
    """A mistake, its place in the document, and other places that it speaks of."""

    code: str
    start: int
    end: int
    message: str
    """What is wrong, then notes that have no place, then what would mend it, in lines of their own."""
    related: tuple[Label, ...]


def problems(document: Document) -> list[Problem]:
    """Everything that is wrong with a document.

    One that only defines is not wrong for having no network: others import it.
    """
    defines = any(isinstance(item, syntax.Definition) for item in document.items)
    return [_problem(document, d) for d in document.examined.problems if d.key != "nothing-here" or not defines]


def _problem(document: Document, found: Diagnostic) -> Problem:
    own = found.primary if found.primary and found.primary.span.source.name == document.source.name else None
    marks = [*found.secondary, *(Label(n.label.span, n.text) for n in found.notes if n.label)]
    if own is None and found.primary:
        marks.insert(0, Label(found.primary.span, found.primary.text or found.message))
    lines = [found.message, own.text if own else "", *(f"note: {n.text}" for n in found.notes if not n.label)]
    if found.help:
        lines.append(f"help: {found.help}")
    name = document.source.name
    calls = [n.label.span for n in found.notes if n.label and n.label.span.source.name == name]
    span = own.span if own else calls[-1] if calls else _import_of(document, found)
    start, end = _visible(document.source.text, span.start, span.end)
    return Problem(found.code, start, end, "\n".join(line for line in lines if line), tuple(marks))


def _import_of(document: Document, found: Diagnostic) -> Span:
    """For what is wrong in another file the import that brings it in, where there is one; else the first character."""
    if found.primary:
        imports = [item.path for item in document.items if isinstance(item, syntax.Import)]
        for path in imports:
            other = document.imported(path.value)
            if other and path_of(other.source).resolve() == path_of(found.primary.span.source):
                return path.span
        if imports:
            return imports[0].span
    return Span(document.source, 0, 0)


def _visible(text: str, start: int, end: int) -> tuple[int, int]:
    """A stretch of at least one character, where the line has one."""
    start, end = min(start, len(text)), min(end, len(text))
    if end > start:
        return start, end
    if text[start : start + 1] not in ("", "\n"):
        return start, start + 1
    return (start - 1, start) if text[start - 1 : start] not in ("", "\n") else (start, start)
