"""Text -> syntax tree. A text seen before has its tree from the cache, and Lark is not even loaded."""

from __future__ import annotations

from fractions import Fraction
from functools import cache

from archdsl import resources
from archdsl.base.source import Source
from archdsl.cache import Kept
from archdsl.frontend import syntax


def parse(source: Source) -> syntax.File:
    """The syntax tree of a file. Raises ArchError with the place and, for common mistakes, the cure."""
    kept = Kept("tree", source.name, str(source.library), source.text, grammar_text())
    tree = kept.read()
    if not isinstance(tree, syntax.File):
        from archdsl.frontend.grammar import parse_text

        tree = parse_text(source)
        kept.write(tree)
    return tree


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
