"""Nearest names: what somebody may have meant."""

from __future__ import annotations

from collections.abc import Iterable


def _distance(a: str, b: str) -> int:
    """Edits (insert, delete, replace, swap of neighbours) that turn `a` into `b`."""
    rows = [list(range(len(b) + 1))]
    for i, x in enumerate(a, 1):
        row = [i]
        for j, y in enumerate(b, 1):
            best = min(rows[-1][j] + 1, row[-1] + 1, rows[-1][j - 1] + (x != y))
            if i > 1 and j > 1 and x == b[j - 2] and a[i - 2] == y:
                best = min(best, rows[-2][j - 2] + 1)
            row.append(best)
        rows.append(row)
    return rows[-1][-1]


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The known name closest to `name`, if one is close enough to be meant.

    >>> nearest("dorpout", ["depth", "dropout", "block"])
    'dropout'
    >>> nearest("zebra", ["depth", "dropout"]) is None
    True
    """
    if len(name) > 64:
        return None
    limit = max(len(name) // 3, 1) if len(name) > 1 else 0
    scored = sorted((_distance(name.lower(), k.lower()), k) for k in known if abs(len(k) - len(name)) <= limit)
    return scored[0][1] if scored and scored[0][0] <= limit else None


def did_you_mean(name: str, known: Iterable[str]) -> str | None:
    """A help line naming the nearest known name, or None."""
    found = nearest(name, known)
    return f"did you mean `{found}`?" if found else None


def spoken(words: Iterable[str], last: str = "or") -> str:
    """Join words as a sentence does.

    >>> spoken(["a", "b", "c"])
    'a, b or c'
    """
    items = list(words)
    if len(items) < 2:
        return "".join(items)
    return f"{', '.join(items[:-1])} {last} {items[-1]}"
