"""What may be written at the cursor."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from string import ascii_letters, digits
from typing import Literal

from archdsl.core.data import DATA_SETS, DataSet
from archdsl.core.primitives import Primitive
from archdsl.core.recipe import SETTINGS
from archdsl.editor.context import Binding, Context, context
from archdsl.editor.document import Document
from archdsl.editor.meaning import callee, current_parameter, local_names, settings_in
from archdsl.editor.signatures import documentation, head, parameters, value_text
from archdsl.frontend import syntax
from archdsl.frontend.networks import MEASURES
from archdsl.frontend.resolve import Global

Kind = Literal["argument", "choice", "local", "block", "network", "layer", "data", "recipe", "keyword", "setting"]

_WORD = f"{ascii_letters}{digits}_"
_ITEMS = ("net", "block", "flow", "recipe", "from")
_STATEMENTS = ("let", "share", "require", "aux")
_CLAUSES = ("expect", "train", "init", "place")
_FLOWS = ("in", "if", "repeat", "for", "sum", "mean", "concat")
_VALUES = ("true", "false", "none")
_SIZES = ("channels", "height", "width", "length")
_PLACES = ("fused", "split", "mesh")
_NEW_NAMES = frozenset(["let", "share", "net", "block", "flow", "recipe", "as", "for", "aux"])


@dataclass(frozen=True, slots=True)
class Completion:
    """Something that may be written: `text` is what is inserted, `rank` is low for what is likely."""

    text: str
    kind: Kind
    rank: int
    detail: str = ""
    documentation: str = ""


def completions(document: Document, offset: int) -> list[Completion]:
    """What may stand at an offset, in place of the word that ends there; the likeliest first."""
    text = document.source.text
    start = len(text[:offset].rstrip(_WORD))
    here = context(text, start)
    of_number = here.before == "." and here.previous[-2:][0][0].isdigit()
    if here.inside or of_number or text[start:offset][:1].isdigit():
        return []
    found = {c.text: c for c in reversed(list(_offered(document, here, text, start)))}
    return sorted(found.values(), key=lambda c: (c.rank, c.text))


def _offered(document: Document, here: Context, text: str, start: int) -> Iterator[Completion]:
    bracket = here.innermost
    names = local_names(document, here, start)
    table = settings_in(here)
    if here.before == "." or here.before in _NEW_NAMES or (bracket.is_head and here.before in ("(", ",", "*")):
        sizes = _SIZES[:-1] if here.previous[-2:-1] == ("in",) else _SIZES
        yield from (Completion(name, "choice", 0) for name in sizes if here.before == ".")
    elif bracket.first == "from" and not bracket.is_fresh:
        path = re.search(r'^from[ \t]*"([^"\n]*)"[ \t]*(import\b)?', text[text.rfind("\n", 0, start) + 1 : start])
        yield from _imports(document, path[1]) if path and path[2] else [Completion("import", "keyword", 0)]
    elif here.before == "expect":
        yield from (Completion(name, "choice", 0) for name in MEASURES)
    elif bracket.sign == "{" and bracket.opener == "place":
        yield from (Completion(name, "choice", 0) for name in _PLACES)
    elif table and here.before in ("{", "\n"):
        if table is SETTINGS:
            yield Completion("recipe", "setting", 0, "recipe", "a recipe by name, which the other settings change")
        for row in table.values():
            default = f"{row.name} {value_text(row.default)}"
            yield Completion(row.name, "setting", 0, default, f"{row.doc}; {row.expected}")
    elif table and bracket.first in table:
        row = table[bracket.first]
        words = ("true", "false") if isinstance(row.default, bool) else row.choices
        yield from (Completion(name, "choice", 0) for name in words)
        yield from _names(document, here, names)
    else:
        yield from _arguments(document, here, names)
        yield from _names(document, here, names)
        yield from _words(here)


def _arguments(document: Document, here: Context, names: dict[str, Binding]) -> Iterator[Completion]:
    """The choices of the parameter at hand, and the parameters that a call may still name."""
    bracket = here.innermost
    parameter = current_parameter(document, here, names)
    for choice in parameter.choices if parameter else ():
        yield Completion(choice, "choice", 0, parameter.text if parameter else "")
    called = callee(document, bracket, names, "k")
    if called is None or not here.begins_argument:
        return
    free = [p for p in parameters(called) if p.name not in bracket.given]
    taken = bracket.positional if not any(p.rest for p in free[: bracket.positional]) else 0
    for row in free[taken:]:
        if not row.rest:
            yield Completion(f"{row.name}=", "argument", 1, row.text, row.expected or documentation(called))


def _names(document: Document, here: Context, names: dict[str, Binding]) -> Iterator[Completion]:
    """Local names, and everything that is visible at the top level."""
    for binding in names.values():
        yield Completion(binding.name, "local", 2, _described(binding))
    if here.brackets[0].first == "net" and len(here.brackets) > 1:
        yield Completion("classes", "local", 2, "the number of classes")
    own = {item.name for item in document.items if isinstance(item, syntax.Definition)}
    for name, meaning in document.known():
        is_data = here.before == "on" and isinstance(meaning, DataSet)
        rank = 0 if is_data else 3 if name in own else 5 if name in DATA_SETS else 4
        yield Completion(name, _kind(meaning), rank, head(meaning), documentation(meaning))


def _described(binding: Binding) -> str:
    return {"index": "counts a loop", "element": "element of a list"}.get(binding.kind, binding.kind)


def _kind(meaning: Global) -> Kind:
    match meaning:
        case Primitive():
            return "layer"
        case DataSet():
            return "data"
        case syntax.Block():
            return "block"
        case syntax.Recipe():
            return "recipe"
        case _:
            return "network"


def _imports(document: Document, path: str) -> Iterator[Completion]:
    """What a file defines."""
    other = document.imported(path)
    for item in other.items if other else ():
        if isinstance(item, syntax.Definition):
            yield Completion(item.name, _kind(item), 0, head(item), item.doc)


def _words(here: Context) -> Iterator[Completion]:
    """Words of the language: those of a statement where one may begin, and those of an expression."""
    depth = len(here.brackets) - 1
    words: list[str] = []
    if here.innermost.is_fresh and here.innermost.sign in ("", "{"):
        clauses = _CLAUSES if depth == 1 and here.brackets[0].first == "net" else ()
        words += _ITEMS if depth == 0 else [*_STATEMENTS, *clauses]
    elif depth == 0 and here.before not in ("on", "->"):
        words.append("on")
    yield from (Completion(word, "keyword", 1, "") for word in words)
    yield from (Completion(word, "keyword", 6, "") for word in (*_FLOWS, *_VALUES))
