"""What can be named and called, for people: heads, documentation and parameters."""

from __future__ import annotations

from dataclasses import dataclass

from archdsl.base.source import Source, Span
from archdsl.base.suggest import spoken
from archdsl.core.data import DataSet
from archdsl.core.primitives import REQUIRED, Primitive, check_argument
from archdsl.core.primitives import Parameter as Row
from archdsl.core.types import scalar_text
from archdsl.frontend import syntax
from archdsl.frontend.formatter import format_file
from archdsl.frontend.resolve import Global


@dataclass(frozen=True, slots=True)
class Parameter:
    """A parameter of anything that can be called."""

    name: str
    text: str
    """As the head has it, with its default."""
    expected: str = ""
    """What it takes, in words."""
    choices: tuple[str, ...] = ()
    rest: bool = False
    span: Span | None = None
    """Its name, where it is defined in a file."""


def head(item: Global | syntax.NamedNet) -> str:
    """A definition without its body, in one line or several."""
    match item:
        case Primitive():
            listed = ", ".join(p.text for p in parameters(item))
            return f"{item.name}({listed})" if listed else item.name
        case DataSet():
            return item.name
        case syntax.Block():
            return _formatted(item._replace(body=(), sequence=None))
        case syntax.Net():
            return _formatted(item._replace(body=()))
        case syntax.Recipe():
            return f"recipe {item.name}"
        case syntax.NamedNet():
            return _formatted(item._replace(clauses=()))


def _formatted(item: syntax.Item) -> str:
    return format_file(syntax.File(Source("", ""), (item,), (), "")).rstrip().removesuffix(" {}")


def documentation(item: Global | syntax.NamedNet) -> str:
    """What the `##` lines above a definition say, or the table of primitives or data sets."""
    if isinstance(item, DataSet):
        return f"Images of {item.shape}, in {item.classes} classes."
    return item.doc


def parameters(item: Global) -> tuple[Parameter, ...]:
    """The parameters in their order."""
    match item:
        case Primitive():
            return tuple(_of_primitive(row) for row in item.parameters)
        case syntax.Block() | syntax.Net():
            return tuple(_of_definition(param) for param in item.params)
        case _:
            return ()


def _of_definition(param: syntax.Param) -> Parameter:
    text = " ".join(param.span.text.split())
    expected = spoken(f"`{c}`" for c in param.choices)
    start = param.span.start + text.index(param.name)
    span = Span(param.span.source, start, start + len(param.name))
    return Parameter(param.name, text, expected, param.choices, param.rest, span)


def _of_primitive(row: Row) -> Parameter:
    text = row.name if row.default is REQUIRED else f"{row.name}={value_text(row.default)}"
    expected = check_argument(row, "")[1] or ""
    return Parameter(row.name, text, expected, ("true", "false") if row.type == "bool" else ())


def value_text(value: object) -> str:
    """A value as a spec writes it."""
    if value is None:
        return "none"
    if isinstance(value, tuple):
        return f"[{', '.join(map(value_text, value))}]"
    return scalar_text(value).lower()
