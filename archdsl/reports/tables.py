"""Tables: rows of text, aligned for a terminal, or as Markdown, LaTeX or CSV."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Sequence

FORMATS = ("text", "markdown", "latex", "csv")


def table(head: Sequence[str], rows: Sequence[Sequence[str]], form: str, left: int = 1, note: str = "") -> str:
    """A table; the first `left` columns are aligned to the left, the others to the right.

    A note says below it how its figures are counted; CSV, which machines read, has none.
    """
    body = _table(head, rows, form, left)
    if not note or form == "csv":
        return body
    return body + {"markdown": f"\n\n{note}", "latex": f"\n% {note}"}.get(form, f"\n({note})")


def _table(head: Sequence[str], rows: Sequence[Sequence[str]], form: str, left: int) -> str:
    match form:
        case "csv":
            out = io.StringIO()
            csv.writer(out, lineterminator="\n").writerows([head, *([_plain(c) for c in row] for row in rows)])
            return out.getvalue().rstrip("\n")
        case "markdown":
            marks = f"| {' | '.join('---' if i < left else '---:' for i in range(len(head)))} |"
            lines = [f"| {' | '.join(_markdown_cell(c) for c in row)} |" for row in (head, *rows)]
            return "\n".join([lines[0], marks, *lines[1:]])
        case "latex":
            columns = "".join("l" if i < left else "r" for i in range(len(head)))
            lines = [f"\\begin{{tabular}}{{{columns}}}", "\\hline", _latex(head), "\\hline"]
            return "\n".join([*lines, *(_latex(row) for row in rows), "\\hline", "\\end{tabular}"])
        case _:
            widths = [max(len(row[i]) for row in (head, *rows)) for i in range(len(head))]
            return "\n".join(_aligned(row, widths, left) for row in (head, *rows))


def _plain(cell: str) -> str:
    """A number without what makes it readable: `1,024` is 1024, and `x0.25` is 0.25."""
    cell = cell.strip()
    return cell.replace(",", "").lstrip("x") if re.fullmatch(r"x?[-+]?[\d,.]+", cell) else cell


def _aligned(row: Sequence[str], widths: Sequence[int], left: int) -> str:
    cells = (c.ljust(w) if i < left else c.rjust(w) for i, (c, w) in enumerate(zip(row, widths, strict=True)))
    return "  ".join(cells).rstrip()


_LATEX: dict[str, str | int | None] = {
    **{c: f"\\{c}" for c in "&%$#_{}"},
    "\\": r"\textbackslash{}",
    "^": r"\textasciicircum{}",
    "~": r"\textasciitilde{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
}


def _latex(row: Sequence[str]) -> str:
    return f"{' & '.join(_latex_cell(c.strip()) for c in row)} \\\\"


def _latex_cell(cell: str) -> str:
    power = re.fullmatch(r"(\d+)\^(\d+)", cell)
    return f"${power[1]}^{{{power[2]}}}$" if power else cell.translate(str.maketrans(_LATEX))


def _markdown_cell(cell: str) -> str:
    return re.sub(r"([\\`*_<>|\[\]])", r"\\\1", cell.strip()) or " "
