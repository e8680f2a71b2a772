"""Places in a text: offsets in characters here, lines and units of an encoding in the protocol."""

from __future__ import annotations

from typing import Literal, NamedTuple, TypeAlias

from archdsl.base.source import Source

Encoding: TypeAlias = Literal["utf-8", "utf-16", "utf-32"]
"""What a client counts the places of a line in: bytes, pairs of bytes, or characters."""

_UNITS: dict[Encoding, tuple[str, int]] = {
    "utf-8": ("utf-8", 1),
    "utf-16": ("utf-16-le", 2),
    "utf-32": ("utf-32-le", 4),
}
"""Codec, and the bytes of a unit."""


class Position(NamedTuple):
    """A line and a number of units in it, both counted from 0."""

    line: int
    character: int


def position_of(source: Source, offset: int, encoding: Encoding = "utf-16") -> Position:
    """The position of an offset.

    >>> source = Source("a.arch", "# \u00d7 \U0001f600 ReLU")
    >>> position_of(source, 6), position_of(source, 6, "utf-8")
    (Position(line=0, character=7), Position(line=0, character=10))
    """
    line, column = source.position(offset)
    codec, size = _UNITS[encoding]
    return Position(line - 1, len(source.line(line)[: column - 1].encode(codec)) // size)


def offset_of(source: Source, position: Position, encoding: Encoding = "utf-16") -> int:
    """The offset of a position; where there is no such place, the nearest before.

    >>> source = Source("a.arch", "# \u00d7 \U0001f600 ReLU")
    >>> offset_of(source, Position(0, 7)), offset_of(source, Position(9, 9))
    (6, 10)
    """
    codec, size = _UNITS[encoding]
    before = source.line(position.line + 1).encode(codec)[: position.character * size]
    return source.offset(position.line + 1, len(before.decode(codec, "ignore")) + 1)
