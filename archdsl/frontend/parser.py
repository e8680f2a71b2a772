"""Text -> syntax tree. A text seen before has its tree from the cache, and Lark is not even loaded."""

from __future__ import annotations

import re
from fractions import Fraction
from functools import cache
from typing import NamedTuple

from archdsl import resources
from archdsl.base import limits
from archdsl.base.diagnostics import FATAL, ArchError, Diagnostic, error, moved
from archdsl.base.source import Source
from archdsl.cache import Kept
from archdsl.frontend import syntax


class Reading(NamedTuple):
    """What of a text can be read, and what is wrong with the rest."""

    file: syntax.File
    unread: str = ""
    """The text of the items that cannot be read."""
    problems: tuple[Diagnostic, ...] = ()


def parse(source: Source) -> syntax.File:
    """The syntax tree of a file. Raises ArchError with the places and, for common mistakes, the cures."""
    reading = readable(source)
    if reading.problems:
        raise ArchError(*reading.problems)
    return reading.file


def readable(source: Source) -> Reading:
    """The items of a file that can be read. Raises ArchError for a text that is beyond the limits."""
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
            return _item_by_item(source, problem)
        kept.write(tree)
    return Reading(tree)


_ITEM = re.compile(r"(?:from|block|flow|net|recipe)\b")


def _parts(source: Source) -> list[tuple[int, str]]:
    """The offset and text of each item that begins a line, with the `##` lines above it, up to the next."""
    starts = [0]
    offset = 0
    documentation: int | None = None
    for line in source.text.split("\n"):
        if line.startswith("##"):
            documentation = offset if documentation is None else documentation
        else:
            if _ITEM.match(line):
                starts.append(offset if documentation is None else documentation)
            documentation = None
        offset += len(line) + 1
    starts = sorted(set(starts))
    return [(a, source.text[a:b]) for a, b in zip(starts, [*starts[1:], len(source.text)], strict=True)]


def _item_by_item(source: Source, whole: ArchError) -> Reading:
    """What can be read of a file that is wrong as a `whole`: spaces stand for the rest, so that all stays in place."""
    from archdsl.frontend.grammar import parse_text

    found: list[Diagnostic] = []
    text = unread = ""
    for start, part in _parts(source):
        try:
            if len(found) < limits.PROBLEMS:
                parse_text(Source(source.name, part, source.library))
                text += part
                continue
        except ArchError as problem:
            found += [moved(d, source, start) for d in problem.diagnostics]
        unread += part
        text += re.sub(r"[^\n]", " ", part)
    if any(d.key in FATAL for d in found):
        raise ArchError(*found)
    try:
        return Reading(parse_text(Source(source.name, text, source.library)), unread, tuple(found) or whole.diagnostics)
    except ArchError:
        return Reading(syntax.File(source, (), (), ""), source.text, whole.diagnostics)


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
