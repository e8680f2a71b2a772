"""What is under the cursor: the meaning of a word, and what it costs where it stands."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from archdsl.core.recipe import Setting
from archdsl.editor.context import Binding
from archdsl.editor.document import Document
from archdsl.editor.meaning import Argument, Choice, Keyword, Label, Meaning, Word, item_at, meaning, word_at
from archdsl.editor.signatures import Parameter, documentation, head, value_text
from archdsl.editor.uses import Use
from archdsl.frontend import syntax


@dataclass(frozen=True, slots=True)
class Hover:
    """A stretch of a document, and Markdown about it."""

    start: int
    end: int
    markdown: str


def hover(document: Document, offset: int) -> Hover | None:
    """What is known of the word at an offset."""
    word = word_at(document.source.text, offset)
    found = meaning(document, word) if word else None
    if word is None or found is None:
        return None
    parts = [*_described(document, found), *_figures(uses_at(document, word, found))]
    return Hover(word.start, word.end, "\n\n".join(p for p in parts if p)) if parts else None


def uses_at(document: Document, word: Word, found: Meaning) -> tuple[Use, ...]:
    """The forms in which the networks of a document use what a word means there."""
    uses = document.uses
    if isinstance(found, Keyword):
        return tuple(uses.joins.get(word.start, ()))
    place = found.labelled if isinstance(found, Label) else word.start
    if place in uses.modules:
        return tuple(uses.modules[place])
    item = item_at(document, place)
    if isinstance(item, syntax.NamedNet) and place in (item.name_span.start, item.value.span.start):
        return network_uses(document, item)
    if isinstance(item, syntax.Definition) and place == item.name_span.start:
        return tuple(uses.definitions.get(item.span.start, ()))
    return ()


def network_uses(document: Document, item: syntax.NamedNet) -> tuple[Use, ...]:
    """A network, or those that its lists make of it."""
    networks = document.uses.networks
    others = {i.name or document.network for i in document.items if isinstance(i, syntax.NamedNet) and not i.sweeps}
    if not item.sweeps:
        name = item.name or document.network
        return (networks[name],) if name in networks else ()
    start = f"{item.name}_" if item.name else ""
    return tuple(dict.fromkeys(use for n, use in networks.items() if n.startswith(start) and n not in others))


def _described(document: Document, found: Meaning) -> Iterator[str]:
    match found:
        case Label() | Keyword():
            return
        case Argument(parameter=parameter):
            yield from _parameter(parameter)
            yield documentation(found.callee)
        case Choice():
            yield f"`{found.name}`, which `{found.parameter.name}` takes"
            yield from _parameter(found.parameter)
        case Setting():
            yield _code(f"{found.name} {value_text(found.default)}")
            yield f"{found.doc}: {found.expected}, by default `{value_text(found.default)}`"
        case Binding():
            yield from _local(document, found)
        case _:
            yield _code(head(found))
            yield documentation(found)


def _parameter(parameter: Parameter) -> Iterator[str]:
    yield _code(parameter.text)
    yield parameter.expected


def _local(document: Document, binding: Binding) -> Iterator[str]:
    """A parameter or a statement as it is written; of a tensor, its shape."""
    node = _introduced(document.items, binding.offset)
    if isinstance(node, syntax.Let | syntax.Share):
        yield _code(node.span.text)
        named = [t for t in document.uses.tensors if t[0] == binding.name]
        shapes = list(dict.fromkeys(s for _, at, s in named if node.span.start <= at < node.span.end))
        if shapes:
            yield f"`{shapes[0]}`{_several(len(shapes))}"
    elif isinstance(node, syntax.Param):
        yield _code(" ".join(node.span.text.split()))
        owner = item_at(document, binding.offset)
        if isinstance(owner, syntax.Block | syntax.Net):
            yield f"parameter of `{owner.name}`"
            yield owner.doc
    else:
        source = document.source
        yield _code(source.line(source.position(binding.offset)[0]).strip())


def _introduced(node: object, offset: int) -> object | None:
    """The statement or parameter that introduces the name at an offset."""
    match node:
        case syntax.Let() | syntax.Share() if node.name_span.start == offset:
            return node
        case syntax.Param() if node.span.start <= offset < node.span.start + 2 + len(node.name):
            return node
        case tuple():
            return next((found for part in node if (found := _introduced(part, offset)) is not None), None)
        case _:
            return None


def _figures(forms: tuple[Use, ...]) -> Iterator[str]:
    if forms:
        use = forms[0]
        yield f"`{use}`, {counted(use.params)}, {use.macs:,} multiply-adds{_several(len(forms))}"


def _several(count: int) -> str:
    return f" (the first of {count} forms)" if count > 1 else ""


def counted(params: int) -> str:
    """A number of parameters in words."""
    return f"{params:,} parameter{'' if params == 1 else 's'}"


def _code(text: str) -> str:
    return f"```arch\n{text}\n```"
