"""Where the word under the cursor is defined."""

from __future__ import annotations

from archdsl.base.source import Span
from archdsl.editor.context import Binding
from archdsl.editor.document import Document
from archdsl.editor.meaning import Argument, Choice, meaning, word_at
from archdsl.frontend import syntax


def definition(document: Document, offset: int) -> Span | None:
    """The name of the definition, in this file or another; None for what is built in."""
    for item in document.items:
        if isinstance(item, syntax.Import) and item.path.span.start <= offset <= item.path.span.end:
            other = document.imported(item.path.value)
            return Span(other.source, 0, 0) if other else None
    word = word_at(document.source.text, offset)
    found = meaning(document, word) if word else None
    match found:
        case Binding():
            return Span(document.source, found.offset, found.offset + len(found.name))
        case Argument() | Choice():
            return found.parameter.span
        case syntax.Block() | syntax.Net() | syntax.NamedNet():
            return found.name_span
        case _:
            return None
