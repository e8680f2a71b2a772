"""Which blocks become one class, and what its instances pass to it."""

from __future__ import annotations

from dataclasses import dataclass, field

from archdsl.core.ir import Block
from archdsl.core.types import Scalar


class Mismatch(Exception):
    """Bodies that cannot be one class."""


@dataclass(slots=True)
class Groups:
    """Filled while lowering: a block's group is known before any block that uses it is looked at."""

    inline: set[int] = field(default_factory=set)
    """Blocks (by id) that are written where they are used."""
    _group: dict[int, int] = field(default_factory=dict)
    _values: dict[int, dict[str, Scalar]] = field(default_factory=dict)
    _names: dict[int, tuple[str, ...]] = field(default_factory=dict)

    def is_inline(self, block: Block) -> bool:
        return id(block) in self.inline

    def of(self, block: Block) -> int:
        """The group of a block. Raises Mismatch for one that is still being formed (a recursive definition)."""
        if id(block) not in self._group:
            raise Mismatch
        return self._group[id(block)]

    def parameters(self, group: int) -> tuple[str, ...]:
        return self._names[group]

    def argument(self, block: Block, name: str) -> Scalar:
        return self._values[id(block)][name]

    def add(self, group: int, blocks: list[Block], names: tuple[str, ...], values: list[dict[str, Scalar]]) -> None:
        self._names[group] = names
        for block, arguments in zip(blocks, values, strict=True):
            self._group[id(block)] = group
            self._values[id(block)] = arguments
