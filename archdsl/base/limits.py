"""How much a spec may ask for. A spec may come from anywhere: what is beyond is refused before time or memory is spent.

docs/language.md, Limits, has the same figures for those who write specs; a test compares them.
"""

from __future__ import annotations

import sys
from fractions import Fraction

SOURCE = 64 * 1024
"""Characters of a file."""

TOKENS = 20_000
"""Words, numbers and signs of a file."""

FILES = 100
"""Files that one spec imports, directly or not."""

SYNTAX = 100
"""Brackets and operators inside each other."""

NESTING = 100
"""Definitions inside each other."""

LOOPS = 8
"""Loops inside each other, in one definition."""

LARGEST = 2**63 - 1
"""The largest whole number: PyTorch counts in 64 bits."""

DIGITS = 60
"""Digits of a number as it is written, and of the numerator and the denominator of a rational number."""

ALL_SOURCE = 256 * 1024
"""Characters of all files that one spec imports."""

LIST = 10_000
"""Values of a list, with those of the lists in it."""

WORK = 50_000
"""Expressions that are evaluated for one network; 16 values of a list are one, and equal iterations two."""

ALL_WORK = 180_000
"""Expressions that are evaluated for all networks of a spec."""

CANDIDATES = 5_000
"""Networks that `match` counts in one search."""

NETWORKS = 5_000
"""Networks that lists make of one."""

OPERATIONS = 50_000
"""Layers and operations of a generated model. A count has no such limit."""

PICTURE = 5_000
"""Boxes of a picture."""

ROWS = 10_000
"""Rows of a table of layers."""

ELEMENTS = 2**48
"""Elements of a tensor or of a weight."""

PROBLEMS = 20
"""Mistakes that are reported of one file."""

_LONGEST = 10**60

_FRAMES = 6000
"""Python frames: enough for all that the limits above allow, and few enough for the stack of a thread."""


def deep() -> None:
    """Let Python recurse as deeply as a legal spec may need."""
    sys.setrecursionlimit(max(sys.getrecursionlimit(), _FRAMES))


def too_large(value: int | Fraction) -> bool:
    """Whether a number is beyond what specs may compute with.

    >>> too_large(2**62), too_large(2**63), too_large(Fraction(1, 10**61))
    (False, True, True)
    """
    if isinstance(value, int):
        return abs(value) > LARGEST
    return max(abs(value.numerator), value.denominator) > _LONGEST
