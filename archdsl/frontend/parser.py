"""Text -> syntax tree. A text seen before has its tree from the cache, and Lark is not even loaded."""

from __future__ import annotations

import re
from fractions import Fraction
from functools import cache

from archdsl import resources
from archdsl.base import limits
from archdsl.base.diagnostics import ArchError, Diagnostic, error, moved
from archdsl.base.source import Source
from archdsl.cache import Kept
from archdsl.frontend import syntax


def parse(source: Source) -> syntax.File:
    """The syntax tree of a file. Raises ArchError with the place and, for common mistakes, the cure."""
    if len(source.text) > limits.SOURCE:
        raise error("too-large", None, problem=f"{source.name} has more than {limits.SOURCE:,} characters")
    try:
        source.text.encode()
    except UnicodeEncodeError:
        raise error("not-text", None, name=source.name) from None
    kept = Kept("tree", source.name, str(source.library), source.text, grammar_text())
    tree = kept.read()
    if not isinstance(tree, syntax.File):
        from archdsl.frontend.grammar import parse_text

        try:
            tree = parse_text(source)
        except ArchError as problem:
            raise ArchError(*_all_mistakes(source) or problem.diagnostics) from None
        kept.write(tree)
    return tree


_ITEM = re.compile(r"^(?:##[^\n]*\n)*(?:from|block|flow|net)\b", re.MULTILINE)


def parts(source: Source) -> list[tuple[int, str]]:
    """The offset and text of each item that begins a line, with the `##` lines above it, up to the next."""
    starts = sorted({0, *(m.start() for m in _ITEM.finditer(source.text))})
    return [(a, source.text[a:b]) for a, b in zip(starts, [*starts[1:], len(source.text)], strict=True)]


def _all_mistakes(source: Source) -> tuple[Diagnostic, ...]:
    """The syntax errors of a file whose items are read one by one."""
    from archdsl.frontend.grammar import parse_text

    found: list[Diagnostic] = []
    for start, text in parts(source):
        if len(found) < limits.PROBLEMS:
            try:
                parse_text(Source(source.name, text, source.library))
            except ArchError as problem:
                found += [moved(d, source, start) for d in problem.diagnostics]
    return tuple(found)


@cache
def grammar_text() -> str:
    """The grammar of the language."""
    return (resources.folder("grammars") / "arch.lark").read_text(encoding="utf-8")


def number(text: str) -> int | Fraction:
    """The exact value of a number as written: 3 is an integer, 3.0 and 1e-4 are rationals.

    >>> number("0.30"), number("1_000")
    (Fraction(3, 10), 1000)
    """
    text = text.replace("_", "")
    return int(text) if text.isdigit() else Fraction(text)


UNITS = {"k": 10**3, "M": 10**6, "G": 10**9}


def figure(text: str) -> tuple[Fraction, Fraction] | None:
    """A figure as papers print it, and the size of its last digit; None for what is none.

    >>> figure("36.5M")
    (Fraction(36500000, 1), Fraction(100000, 1))
    """
    match = re.fullmatch(r"(\d[\d_]*(?:\.(\d+))?)([kMG]?)", text)
    if match is None or len(text) > 100:
        return None
    unit = UNITS.get(match[3], 1)
    return Fraction(number(match[1])) * unit, Fraction(unit, 10 ** len(match[2] or ""))
