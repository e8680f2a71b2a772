"""Shapes, and the scalars that a layer or block is told."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import TypeAlias

Scalar: TypeAlias = int | Fraction | bool | str | tuple[int, ...] | None
"""An argument of a primitive. Rationals are exact: 0.3 is 3/10 until it is printed."""


@dataclass(frozen=True, slots=True)
class Shape:
    """The shape of a tensor without the batch: (C, H, W) for feature maps, (C,) for vectors."""

    dims: tuple[int, ...]

    @property
    def channels(self) -> int:
        return self.dims[0]

    @property
    def size(self) -> int:
        """Number of elements."""
        product = 1
        for d in self.dims:
            product *= d
        return product

    def with_channels(self, channels: int) -> Shape:
        return Shape((channels, *self.dims[1:]))

    def __str__(self) -> str:
        return "x".join(str(d) for d in self.dims)


def scalar_text(value: object) -> str:
    """A scalar as both .arch and Python write it, booleans apart.

    >>> scalar_text(Fraction(3, 10)), scalar_text((1, 7)), scalar_text(64)
    ('0.3', '(1, 7)', '64')
    """
    if isinstance(value, Fraction):
        return repr(float(value))
    if isinstance(value, tuple):
        return f"({', '.join(scalar_text(v) for v in value)}{',' if len(value) == 1 else ''})"
    return str(value)
