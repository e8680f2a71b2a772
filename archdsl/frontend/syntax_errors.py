"""Syntax errors in words: what was found, what was expected, and the cure of common mistakes."""

from __future__ import annotations

import re

from lark import Token

from archdsl.base.diagnostics import ArchError, error
from archdsl.base.source import Source, Span
from archdsl.base.suggest import spoken

_WORDS = {
    "NAME": "a name",
    "NUMBER": "a number",
    "STRING": "a text in quotes",
    "_NL": "a new line",
    "RPAR": "`)`",
    "RSQB": "`]`",
    "RBRACE": "`}`",
    "LBRACE": "`{`",
    "LPAR": "`(`",
    "EQUAL": "`=`",
    "COMMA": "`,`",
    "THEN": "`then`",
    "ELSE": "`else`",
    "COLON": "`:`",
}

_MISTAKES: tuple[tuple[str, str], ...] = (
    # (what the text around the error looks like, where `@` is the error; the cure)
    (r"^net\s+\w+\(.*\)\s*@\s*=", "a family has a body, as in `net Mine(width) { B(3, 3, width=width) }`"),
    (r"\b[A-Za-z_]\w*-\d+(-\d+)*@", "write the numbers as arguments: `Name(28, 10)`"),
    (
        r"^\s*(?:(?:def|class|import|lambda|return|while)\b.*@|from\s+@?\w)",
        "this is Python; see docs/language.md for the notation of .arch",
    ),
    (
        r"\b(expect\s+\w+|epochs|batch_size|lr|momentum|nesterov|weight_decay|milestones|gamma|seed)\s*@\s*[=:]",
        "leave out the sign: `epochs 12`, `expect params 36.5M`",
    ),
    (r"@\s*=(?!=)", "name a value with `let name = ...`"),
    (r"[\"'“”‘’„«»]\s*\w*.*@?[“”‘’„«»]|@[“”‘’„«»]", 'texts stand in plain double quotes: "text"'),
    (r"\)\s*@x\s*\d", "parallel functions are written `x[k=4]`, and repeats `repeat 4 { ... }`"),
    (r"\b(?:elif|else\s+if\b.*@:)", "a choice is `if a then b else if c then d else e`"),
    (r"@!(?!=)", "write `not`"),
    (r"@\^", "there is no power operator; write the product"),
    (r"\bif\b(?!.*\bthen\b).*@", "a choice is `if condition then a else b`"),
    (r"\([^()]*@;", "arguments are parted by commas"),
    (r"\w\s*@:", "an argument is given with `=`, as in `dropout=0.3`"),
    (r"^\s*[\w-]+@:.*$", "this looks like YAML; a network is written as a call, as in `Name(28, 10)`"),
    (r"@(&&|\|\|)", "write `and` and `or`"),
    (r"\bexpect\s.*@[.,]", "a figure is written as 36.5M or 36_479_194"),
    (r"@(//|/\*)", "comments start with `#`"),
    (r"@[→⟶]", "write the arrow as `->`"),
    (r"@[×✕]", "write the sign as `x`, as in `x[k=4]`"),
    (r"@'", 'texts stand in double quotes: "text"'),
    (r"->.*@\s*[+*]", "put the flow in parentheses: `(x -> f) + x`"),
    (r"\*@\*", "there is no power operator; write the product"),
)


def explain(source: Source, offset: int, token: Token | None, accepts: set[str]) -> ArchError:
    """The error for an unexpected token, or, without a token, for a character or the end of the text."""
    cure = _cure(source, offset)
    if offset >= len(source.text.rstrip()) and (token is None or token.type in ("$END", "_NL")):
        end = len(source.text.rstrip())
        bracket = _open_bracket(source.text)
        text = "this bracket is never closed" if bracket is not None else "the spec ends here"
        at = end if bracket is None else bracket
        return error("unfinished", Span(source, at, at + 1), text, help=cure)
    if token is None:
        return error("bad-character", Span(source, offset, offset + 1), found=f"`{source.text[offset]}`", help=cure)
    wanted = sorted({_WORDS[a] for a in accepts if a in _WORDS})
    text = f"expected {spoken(wanted)}" if 0 < len(wanted) <= 4 else ""
    found = "end of line" if token.isspace() else f"`{token}`"
    return error("unexpected", Span(source, offset, offset + max(len(token.rstrip()), 1)), text, found=found, help=cure)


def _cure(source: Source, offset: int) -> str | None:
    start = source.text.rfind("\n", 0, offset) + 1
    end = source.text.find("\n", offset)
    line = source.text[start : end if end >= 0 else len(source.text)]
    marked = line[: offset - start] + "@" + line[offset - start :]
    return next((cure for pattern, cure in _MISTAKES if re.search(pattern, marked[:400])), None)


def _open_bracket(text: str) -> int | None:
    """Offset of the innermost bracket that is never closed."""
    open_at: list[int] = []
    for match in re.finditer(r'"(?:\\.|[^"\\\n])*"|#[^\n]*|[(\[{}\])]', text):
        if match[0] in "([{":
            open_at.append(match.start())
        elif match[0] in ")]}" and open_at:
            open_at.pop()
    return open_at[-1] if open_at else None
