"""Diagnostics as text: the line, a caret under the mistake, notes and help."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable

from archdsl.base.diagnostics import Diagnostic, Label
from archdsl.base.source import Source

LONGEST = 160
"""Of a longer line only the surroundings of the mistake are shown."""

Paint = Callable[[str, str], str]
"""Colours a text by role: error, place, note, help."""


def plain(text: str, role: str) -> str:
    return text


def _excerpt(labels: list[Label], paint: Paint, mark: str = "^") -> list[str]:
    """The lines that the labels of one source point to, each with its marks below it; the first label is primary."""
    source = labels[0].span.source
    line, column = source.position(labels[0].span.start)
    by_line: dict[int, list[tuple[int, int, str, str]]] = {}
    for i, label in enumerate(labels):
        row, start = source.position(label.span.start)
        end_row, end = source.position(max(label.span.end, label.span.start + 1))
        if end_row != row:
            end = len(source.line(row)) + 1
        sign = mark if i == 0 else "-"
        by_line.setdefault(row, []).append((start, max(end, start + 1), sign, label.text))
    width = len(str(max(by_line)))
    out = [f"{' ' * width}{paint('-->', 'place')} {visible(source.name)}:{line}:{column}", f"{' ' * width} |"]
    above = min(by_line)
    for row in sorted(by_line):
        if row > above + 1:
            out.append("...")
        above = row
        whole = visible(source.line(row))
        text, cut = _window(whole, by_line[row][0][0] - 1)
        out.append(f"{row:>{width}} | {text}".rstrip())
        for start, end, sign, note in sorted(by_line[row], reverse=True):
            # Tabs stay tabs, so that the mark stands under what it marks however wide they are drawn.
            first, last = max(start - 1 - cut, 0), min(end - 1 - cut, len(text) + 1)
            if last <= first:
                continue
            pad = "".join("\t" if c == "\t" else " " * _cells(c) for c in text[:first])
            cells = sum(map(_cells, text[first:last])) + max(last - len(text), 0)
            marks = paint(sign * max(cells, 1), "error" if sign == mark else "place")
            out.append(f"{' ' * width} | {pad}{marks} {visible(note)}".rstrip())
    return out


def visible(text: str) -> str:
    """Text for a terminal, which some characters would command: each of them is one sign."""
    return "".join(c if c.isprintable() or c == "\t" else "\ufffd" for c in text)


def _cells(character: str) -> int:
    """How many columns of a terminal a character takes."""
    if unicodedata.combining(character):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def _window(line: str, start: int) -> tuple[str, int]:
    """The part of a long line that is worth showing, and how far it is shifted."""
    if len(line) <= LONGEST:
        return line, 0
    first = max(0, start - LONGEST // 3)
    before, after = "..." if first else "", "..." if first + LONGEST < len(line) else ""
    return f"{before}{line[first : first + LONGEST]}{after}", first - len(before)


def _same_source(labels: tuple[Label, ...], source: Source) -> list[Label]:
    return [label for label in labels if label.span.source is source]


def render(diagnostic: Diagnostic, paint: Paint = plain) -> str:
    """A diagnostic as the text a terminal shows, without a final newline."""
    out = [f"{paint(f'error[{diagnostic.code}]', 'error')}: {visible(diagnostic.message)}"]
    shown: list[Label] = []
    if diagnostic.primary:
        shown = [diagnostic.primary, *_same_source(diagnostic.secondary, diagnostic.primary.span.source)]
        out += _excerpt(shown, paint)
    for label in diagnostic.secondary:
        if label not in shown:
            out += _excerpt([label], paint, "-")
    for note in diagnostic.notes:
        out.append(f"{paint('note', 'note')}: {visible(note.text)}")
        if note.label:
            out += _excerpt([note.label], paint, "-")
    if diagnostic.help:
        out.append(f"{paint('help', 'help')}: {visible(diagnostic.help)}")
    return "\n".join(out)


def as_json(diagnostic: Diagnostic) -> dict[str, object]:
    """A diagnostic for editors: lines and columns count from 1 and offsets from 0, all in characters."""
    notes = [{"message": n.text, **(_place(n.label) if n.label else {})} for n in diagnostic.notes]
    return {
        "code": diagnostic.code,
        "severity": "error",
        "message": diagnostic.message,
        **(_place(diagnostic.primary) if diagnostic.primary else {}),
        "label": diagnostic.primary.text if diagnostic.primary else "",
        "related": [{"message": label.text, **_place(label)} for label in diagnostic.secondary],
        "notes": notes,
        "help": diagnostic.help,
    }


def _place(label: Label) -> dict[str, object]:
    source = label.span.source

    def position(offset: int) -> dict[str, int]:
        line, column = source.position(offset)
        return {"line": line, "column": column, "offset": offset}

    return {"file": source.name, "start": position(label.span.start), "end": position(label.span.end)}
