"""Syntax tree -> text, for `--emit syntax`."""

from __future__ import annotations

from dataclasses import fields, is_dataclass

from archdsl.base.source import Span
from archdsl.frontend.syntax import File


def dump(file: File) -> str:
    """The tree with a node on each line and its span."""
    lines: list[str] = []
    for item in file.items:
        _node("", item, 0, lines)
    return "\n".join(lines) + "\n"


def _node(label: str, node: object, depth: int, lines: list[str]) -> None:
    pad = "  " * depth
    span = getattr(node, "span", None)
    where = f"  @{span.start}..{span.end}" if isinstance(span, Span) else ""
    assert is_dataclass(node)
    values = [(f.name, getattr(node, f.name)) for f in fields(node)]
    plain = [
        f"{n}={v!r}"
        for n, v in values
        if isinstance(v, str | bool | int)
        or (n in ("choices", "dims", "value") and not is_dataclass(v) and v not in ((), None))
    ]
    lines.append(f"{pad}{label}{type(node).__name__} {' '.join(plain)}".rstrip() + where)
    for name, value in values:
        if isinstance(value, Span):
            continue
        if is_dataclass(value):
            _node(f"{name}: ", value, depth + 1, lines)
        elif isinstance(value, tuple):
            for i, item in enumerate(v for v in value if is_dataclass(v)):
                _node(f"{name}[{i}]: ", item, depth + 1, lines)
