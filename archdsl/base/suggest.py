"""Nearest names: what somebody may have meant."""

from __future__ import annotations

import re
from collections.abc import Iterable

from archdsl.base.source import Span


def _distance(a: str, b: str, most: int) -> int:
    """Edits (insert, delete, replace, swap of neighbours) that turn `a` into `b`; more than `most` are not counted."""
    rows = [list(range(len(b) + 1))]
    for i, x in enumerate(a, 1):
        row = [i, *[most + 1] * len(b)]
        for j in range(max(i - most, 1), min(i + most, len(b)) + 1):
            y = b[j - 1]
            best = min(rows[-1][j] + 1, row[j - 1] + 1, rows[-1][j - 1] + (x != y))
            if i > 1 and j > 1 and x == b[j - 2] and a[i - 2] == y:
                best = min(best, rows[-2][j - 2] + 1)
            row[j] = best
        rows.append(row)
        if min(row) > most:
            break
    return rows[-1][-1]


_MOST = 4
"""Edits that a slip makes at most."""


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The known name closest to `name`, if one is close enough to be meant.

    >>> nearest("dorpout", ["depth", "dropout", "block"])
    'dropout'
    >>> nearest("zebra", ["depth", "dropout"]) is None
    True
    """
    if len(name) > 64:
        return None
    limit = min(max(len(name) // 3, 1), _MOST) if len(name) > 2 else 0
    scored = sorted((_distance(name.lower(), k.lower(), limit), k) for k in known if abs(len(k) - len(name)) <= limit)
    return scored[0][1] if scored and scored[0][0] <= limit else None


def did_you_mean(name: str, known: Iterable[str]) -> str | None:
    """A help line naming the nearest known name, or None."""
    found = nearest(name, known)
    return f"did you mean `{found}`?" if found else None


def dashed(span: Span) -> str | None:
    """The help for the numbers that papers write behind a dash, if a span begins in such a name.

    >>> from archdsl.base.source import Source
    >>> dashed(Span(Source("mine.arch", "net a = Mine-28-10"), 8, 15))
    'the numbers of a network are its arguments, as in `Mine(28, 10)`'
    """
    line, column = span.source.position(span.start)
    for name in re.finditer(r"\b([A-Za-z_]\w{,99})((?:-\w{1,99})+)", span.source.line(line)):
        numbers = re.findall(r"-(\d+)", name[2])
        if numbers and name.start() < column <= name.end():
            return f"the numbers of a network are its arguments, as in `{name[1]}({', '.join(numbers)})`"
    return None


def spoken(words: Iterable[str], last: str = "or") -> str:
    """Join words as a sentence does.

    >>> spoken(["a", "b", "c"])
    'a, b or c'
    """
    items = list(words)
    if len(items) < 2:
        return "".join(items)
    return f"{', '.join(items[:-1])} {last} {items[-1]}"
