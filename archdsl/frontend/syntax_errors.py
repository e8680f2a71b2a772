"""Syntax errors in words: what was found, what was expected, and the cure of common slips."""

from __future__ import annotations

import re
import unicodedata

from lark import Token

from archdsl.base.diagnostics import ArchError, Label, error
from archdsl.base.source import Source, Span
from archdsl.base.suggest import spoken
from archdsl.frontend.slips import cure

_WORDS = {
    "NAME": "a name",
    "NUMBER": "a number",
    "STRING": "a text in quotes",
    "_NL": "a new line",
    "RPAR": "`)`",
    "LPAR": "`(`",
    "RSQB": "`]`",
    "LSQB": "`[`",
    "RBRACE": "`}`",
    "LBRACE": "`{`",
    "EQUAL": "`=`",
    "COMMA": "`,`",
    "COLON": "`:`",
    "VBAR": "`|`",
    "STAR": "`*`",
    "__ANON_0": "`->`",
}
"""What terminals are called; the others are words, and called as they are written."""

_DEFINITION = frozenset(["BLOCK", "FLOW", "NET", "RECIPE", "FROM"])
_LITERAL = frozenset(["FALSE", "HOLE", "NAME", "NONE", "NUMBER", "SHAPE", "STRING", "TRUE"])
_EXPRESSION = _LITERAL | frozenset(
    ["FOR", "IF", "IN", "JOIN", "LABEL", "LABEL_BRACE", "LABEL_BRACKET", "LPAR", "LSQB", "MINUS", "NOT", "REPEAT"]
)
_OPERATOR = frozenset(
    ["AND", "COMPARE", "DOT", "IN", "LPAR", "LSQB", "MINUS", "MUL", "OR", "PLUS", "STAR", "TIMES_OPEN"]
)

_MOST = 6
"""Things expected that a label names."""


def explain(source: Source, offset: int, token: Token | None, accepts: set[str]) -> ArchError:
    """The error for an unexpected token, or, without a token, for a character or the end of the text."""
    if token is not None and token.type == "LABEL" and "NAME" in accepts:
        # The name could stand here: the colon that makes it a label is what could not.
        offset = source.text.index(":", offset)
        token, accepts = Token("COLON", ":"), set()
    help = cure(source, offset)
    if offset >= len(source.text.rstrip()) and (token is None or token.type in ("$END", "_NL")):
        end = len(source.text.rstrip())
        bracket = _open_bracket(source.text)
        text = "this bracket is never closed" if bracket is not None else "the spec ends here"
        at = end if bracket is None else bracket
        return error("unfinished", Span(source, at, at + 1), text, help=help)
    if token is None:
        return _bad_character(source, offset, help)
    found = "end of line" if token.isspace() else f"`{token}`"
    span = Span(source, offset, offset + max(len(token.rstrip()), 1))
    closes = token in (")", "]", "}") and _open_bracket(source.text[:offset]) is None
    text = "this bracket closes nothing" if closes else _expected(accepts)
    return error("unexpected", span, text, found=found, secondary=_open(source, offset, token), help=help)


def _bad_character(source: Source, offset: int, help: str | None) -> ArchError:
    """The error of a character with which no word begins."""
    character = source.text[offset]
    word = re.compile(r"\d[\w.]*").match(source.text, offset)
    if word:  # digits do begin one, but this is none
        return error("unexpected", Span(source, offset, word.end()), found=f"`{word[0][:40]}`", help=help)
    text = re.compile(r'"(?:\\.|[^"\\\n])*"').match(source.text, offset)
    if text:  # it has an end, so it is one of its characters
        inside = next((i for i, c in enumerate(text[0]) if not c.isprintable() and c != "\t"), None)
        escape = re.search(r'\\[^"\\n]', text[0])
        if inside is not None:
            offset, help = offset + inside, "a text has no characters that control a terminal"
        elif escape:
            offset, help = offset + escape.start(), r"the escapes of a text are \\, \" and \n"
    character = source.text[offset]
    found = f"`{character}`"
    if not character.isascii() or not character.isprintable():
        name = unicodedata.name(character, "").lower()
        found += f" (U+{ord(character):04X}{f', {name}' if name else ''})"
    return error("bad-character", Span(source, offset, offset + 1), found=found, help=help)


def _expected(accepts: set[str]) -> str:
    """What could stand here, all of it, or nothing where that is too much to read."""
    rest = accepts - {"$END"}
    words = []
    if rest >= _DEFINITION:
        words.append("a definition")
        rest -= _DEFINITION
    if {"NAME", "NUMBER"} <= rest:
        applied = "LBRACE" in rest and "MINUS" not in rest
        words.append("a block" if applied else "an expression")
        rest -= _EXPRESSION | {"STAR"} | ({"LBRACE"} if applied else set())
    if "FIGURE" in rest:
        words.append("a figure")
        rest -= {"FIGURE", "NUMBER"}
    if "PLUS" in rest:
        rest -= _OPERATOR
        words += ["`->`"] * ("__ANON_0" in rest) + ["an operator"]
        rest -= {"__ANON_0"}
    words += sorted(_WORDS.get(name, f"`{name.lower()}`") for name in rest)
    return f"expected {spoken(words)}" if 0 < len(words) <= _MOST else ""


def _open(source: Source, offset: int, token: Token) -> tuple[Label, ...]:
    """The bracket that is open where something else is found than belongs into it or ends it."""
    at = _open_bracket(source.text[:offset])
    if at is None or source.text[at] == "{":
        return ()
    other_line = source.position(at)[0] != source.position(offset)[0]
    if not other_line and token not in ("{", "}", "]" if source.text[at] == "(" else ")"):
        return ()
    return (Label(Span(source, at, at + 1), "this bracket is open"),)


def _open_bracket(text: str) -> int | None:
    """Offset of the innermost bracket that is never closed."""
    open_at: list[int] = []
    for match in re.finditer(r'"(?:\\.|[^"\\\n])*"?|#[^\n]*|[(\[{}\])]', text):
        if match[0] in "([{":
            open_at.append(match.start())
        elif match[0] in ")]}" and open_at:
            open_at.pop()
    return open_at[-1] if open_at else None
