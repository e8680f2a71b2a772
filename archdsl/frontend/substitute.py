"""A syntax tree with some of its nodes replaced."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

Node = TypeVar("Node")


def substituted(node: Node, replacement: Callable[[object], object | None]) -> Node:
    """The tree in which every node has its replacement, if it has one; what does not change is not copied."""
    new: Any = replacement(node)
    if new is not None:
        return new  # type: ignore[no-any-return]
    if isinstance(node, tuple):
        parts = [substituted(part, replacement) for part in node]
        if all(a is b for a, b in zip(parts, node, strict=True)):
            return node
        made: Any = node._make(parts) if hasattr(node, "_make") else tuple(parts)
        return made  # type: ignore[no-any-return]
    return node
