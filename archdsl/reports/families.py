"""What `list` prints: the families of the library, with their parameters."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from archdsl.frontend import syntax
from archdsl.frontend.oneline import format_expression, format_on
from archdsl.frontend.resolve import Library, library_index
from archdsl.frontend.statements import mentions
from archdsl.frontend.walk import expressions_of


def families() -> list[dict[str, Any]]:
    """A row for each family of the standard library."""
    library = Library()
    rows = []
    for name, path in library_index().items():
        module = library.load(path, library=True)
        definition = module.names[name][0]
        if isinstance(definition, syntax.Net) and not _is_part(definition, module.file):
            rows.append(
                {
                    "name": name,
                    "parameters": [_parameter(p) for p in definition.params],
                    "data": format_on(definition.on).strip().removeprefix("on "),
                    "paper": module.file.doc.replace("\n", " ").strip(),
                    "doc": definition.doc.replace("\n", " "),
                    "file": f"std/{path.name}",
                }
            )
    return rows


def _is_part(definition: syntax.Net, file: syntax.File) -> bool:
    """Whether a family is there for another of its file, which chooses between several."""
    others = [item for item in file.items if isinstance(item, syntax.Net) and item is not definition]
    return any(mentions(e, definition.name) for net in others for s in net.body for e in expressions_of(s))


def families_text(rows: Sequence[dict[str, Any]]) -> str:
    """The families by file, each with its call and its first sentence."""
    from textwrap import wrap

    out: list[str] = []
    for i, row in enumerate(rows):
        if i == 0 or row["file"] != rows[i - 1]["file"]:
            out += [*([""] if out else []), *wrap(row["paper"], 100)]
        out.append(f"  {row['name']}({', '.join(row['parameters'])})")
        out += wrap(
            row["doc"].split(". ")[0].rstrip(".") + ".", 96, initial_indent="      ", subsequent_indent="      "
        )
        if row["data"]:
            out.append(f"      on {row['data']}")
    return "\n".join(out)


def _parameter(param: syntax.Param) -> str:
    if param.rest:
        return f"*{param.name}"
    choices = f": {' | '.join(param.choices)}" if param.choices else ""
    default = f"={format_expression(param.default)}" if param.default else ""
    return f"{param.name}{choices}{default}"
