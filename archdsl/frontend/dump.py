"""Syntax tree -> text, for `--emit syntax`."""

from __future__ import annotations

from archdsl.base.source import Span
from archdsl.frontend.syntax import File


def dump(file: File, spans: bool = True) -> str:
    """The tree with a node on each line and its span; without spans two layouts of a spec have one dump."""
    lines: list[str] = []
    for item in file.items:
        _node("", item, 0, lines, spans)
    return "\n".join(lines) + "\n"


def _node(label: str, node: object, depth: int, lines: list[str], spans: bool) -> None:
    pad = "  " * depth
    span = getattr(node, "span", None)
    where = f"  @{span.start}..{span.end}" if spans and isinstance(span, Span) else ""
    values = [(name, getattr(node, name)) for name in getattr(node, "_fields", ())]
    plain = [
        f"{n}={v!r}"
        for n, v in values
        if isinstance(v, str | bool | int)
        or (n in ("choices", "dims", "value") and not _is_node(v) and v not in ((), None))
    ]
    lines.append(f"{pad}{label}{type(node).__name__} {' '.join(plain)}".rstrip() + where)
    for name, value in values:
        if isinstance(value, Span):
            continue
        if _is_node(value):
            _node(f"{name}: ", value, depth + 1, lines, spans)
        elif isinstance(value, tuple):
            for i, item in enumerate(v for v in value if _is_node(v)):
                _node(f"{name}[{i}]: ", item, depth + 1, lines, spans)


def _is_node(value: object) -> bool:
    return hasattr(value, "_fields") and not isinstance(value, Span)
