"""Where text came from: a source, a span in it, and lines and columns for people."""

from __future__ import annotations

import re
from bisect import bisect_right
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, eq=False)
class Source:
    """A text and the name by which messages call it."""

    name: str
    text: str
    library: bool = False
    """Part of the standard library: messages name the user's line before a line of it."""
    _starts: list[int] = field(default_factory=list, repr=False)
    """Where lines start, once somebody has asked for one."""

    def position(self, offset: int) -> tuple[int, int]:
        """Line and column of an offset, both counted from 1."""
        line = bisect_right(self._lines(), offset)
        return line, offset - self._starts[line - 1] + 1

    def line(self, number: int) -> str:
        """The text of a line counted from 1, without its end."""
        starts = self._lines()
        if number > len(starts):
            return ""
        end = starts[number] - 1 if number < len(starts) else len(self.text)
        return self.text[starts[number - 1] : end].rstrip("\r")

    def offset(self, line: int, column: int) -> int:
        """The offset of a line and a column, both counted from 1; where there is no such place, the nearest before."""
        starts = self._lines()
        if line > len(starts):
            return len(self.text)
        return min(starts[line - 1] + column - 1, starts[line - 1] + len(self.line(line)))

    def _lines(self) -> list[int]:
        if not self._starts:
            self._starts.append(0)
            self._starts.extend(m.end() for m in re.finditer("\n", self.text))
        return self._starts


@dataclass(frozen=True, slots=True)
class Span:
    """A stretch of a source, `start` included and `end` excluded."""

    source: Source
    start: int
    end: int

    @property
    def text(self) -> str:
        return self.source.text[self.start : self.end]

    def to(self, other: Span) -> Span:
        """The span from the start of this one to the end of another."""
        return Span(self.source, self.start, max(self.end, other.end))
