"""What the word under the cursor means."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

from archdsl.core.initial import INITIAL
from archdsl.core.primitives import PRIMITIVES
from archdsl.core.recipe import SETTINGS, Setting
from archdsl.editor.context import KEYWORDS, Binding, Bracket, Context, context
from archdsl.editor.document import Document
from archdsl.editor.signatures import Parameter, parameters
from archdsl.frontend import syntax
from archdsl.frontend.resolve import Global

_WORD = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


@dataclass(frozen=True, slots=True)
class Word:
    """A word of a text, and where it stands."""

    text: str
    start: int

    @property
    def end(self) -> int:
        return self.start + len(self.text)


@dataclass(frozen=True, slots=True)
class Argument:
    """The name of an argument: a parameter of what is called."""

    callee: Global
    parameter: Parameter


@dataclass(frozen=True, slots=True)
class Choice:
    """A name that a parameter takes."""

    name: str
    parameter: Parameter


@dataclass(frozen=True, slots=True)
class Label:
    """The name of a module."""

    labelled: int
    """Where its module is applied."""


@dataclass(frozen=True, slots=True)
class Keyword:
    """A word of the language."""


Meaning: TypeAlias = Global | syntax.NamedNet | Binding | Argument | Choice | Setting | Label | Keyword


def word_at(text: str, offset: int) -> Word | None:
    """The word in which an offset lies, or which ends there."""
    line = text.rfind("\n", 0, offset) + 1
    for found in _WORD.finditer(text, line):
        if found.start() > offset:
            break
        if offset <= found.end() and not text[found.start() - 1 : found.start()].isdigit():
            return Word(found[0], found.start())
    return None


def meaning(document: Document, word: Word) -> Meaning | None:
    """What a word means where it stands; None in comments and strings, and for what nothing is known of."""
    text = document.source.text
    here = context(text, word.start)
    names = local_names(document, context(text, word.end), word.start)
    bracket = here.innermost
    after = re.compile(r"[ \t]*(==|=|:|\{[^{}\n]*\}[ \t]*:|\[[^\[\]\n]*\][ \t]*:)?\s*").match(text, word.end)
    sign = after[1] or "" if after else ""
    if here.inside or here.before == ".":
        return None
    if (table := settings_in(here)) and here.before in ("{", "\n"):
        return table.get(word.text)
    if sign == "=" and here.begins_argument:
        called = callee(document, bracket, names, word.text)
        given = called and next((p for p in parameters(called) if p.name == word.text), None)
        return Argument(called, given) if called and given else None
    for item in document.items:
        if isinstance(item, syntax.NamedNet) and item.name and item.name_span.start == word.start:
            return item
    if sign.endswith(":") and not bracket.is_head and bracket.sign != "(" and after and here.before != "aux":
        is_module = text[after.end() : after.end() + 1] not in ("{", "[")
        return Label(after.end() if is_module else word.start)
    chosen = current_parameter(document, here, names)
    if chosen and word.text in chosen.choices:
        return Choice(word.text, chosen)
    if word.text in names:
        return names[word.text]
    if owner := _choosing(document, word):
        return Choice(word.text, owner)
    found = document.find(word.text)
    return Keyword() if found is None and word.text in KEYWORDS else found


def settings_in(here: Context) -> Mapping[str, Setting] | None:
    """The table of the settings that a `train`, `init` or `recipe` around a place takes."""
    bracket = here.innermost
    if bracket.sign != "{":
        return None
    if bracket.opener == "train" or (len(here.brackets) == 2 and here.brackets[0].first == "recipe"):
        return SETTINGS
    return INITIAL if bracket.opener == "init" else None


def local_names(document: Document, here: Context, offset: int) -> dict[str, Binding]:
    """The local names that are visible at an offset, those of the lists behind a network among them."""
    item = item_at(document, offset)
    sweeps = item.sweeps if isinstance(item, syntax.NamedNet) else ()
    listed = {n.name: Binding("element", n.name, n.span.start) for sweep in sweeps for n in sweep.names}
    return {**listed, **here.names}


def callee(document: Document, bracket: Bracket, names: Mapping[str, Binding], argument: str = "") -> Global | None:
    """What the call of a bracket calls; a local name stands for what its value or default begins with."""
    if not bracket.is_call:
        return None
    name = bracket.opener
    if bracket.sign == "(" and name == "mean":
        return PRIMITIVES["DropPath"]
    for _ in range(10):
        if name is None or name not in names:
            break
        name = names[name].target
    found = document.find(name) if name else None
    if bracket.sign == "x[" and found and argument not in {p.name for p in parameters(found)}:
        return document.find("Residual")
    return found


def current_parameter(document: Document, here: Context, names: Mapping[str, Binding]) -> Parameter | None:
    """The parameter that takes the argument at hand."""
    bracket = here.innermost
    called = callee(document, bracket, names, bracket.argument or "")
    if called is None:
        return None
    row = parameters(called)
    if bracket.argument:
        return next((p for p in row if p.name == bracket.argument), None)
    free = [p for p in row if p.name not in bracket.given]
    return next((p for i, p in enumerate(free) if p.rest or i == bracket.positional), None)


def item_at(document: Document, offset: int) -> syntax.Item | None:
    """The item in which an offset lies."""
    return next((i for i in document.items if i.span.start <= offset <= i.span.end), None)


def _choosing(document: Document, word: Word) -> Parameter | None:
    """The parameter of the definition around a word that takes it."""
    item = item_at(document, word.start)
    if not isinstance(item, syntax.Block | syntax.Net):
        return None
    return next((p for p in parameters(item) if word.text in p.choices), None)
