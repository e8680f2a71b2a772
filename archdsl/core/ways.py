"""The ways through a graph whose nodes are numbered in order: where those to several nodes part."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import reduce


def parting(above: Sequence[int], nodes: Iterable[int]) -> int:
    """The last node that every way to all of these nodes passes.

    `above` has the same of the inputs of each node before; the first node, which all ways pass, has none.

    >>> parting([-1, 0, 1, 1], [2, 3])
    1
    """

    def of_two(a: int, b: int) -> int:
        while a != b:
            a, b = (above[a], b) if a > b else (a, above[b])
        return a

    return reduce(of_two, nodes)
