"""The Python about to be printed: a deliberately small model of it, and its layout.

Lines are laid out as `ruff format` lays them out, by construction: what fits in a line stands in one, and a call that
does not is broken with a trailing comma, which the formatter keeps at any line length.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

WIDTH = 88
LONGEST = 100
"""The output is laid out alike by formatters with lines of any length between these."""


@dataclass(frozen=True, slots=True)
class Call:
    """`func(arg, arg)`; an argument may carry its name or a star in `names`."""

    func: str
    args: tuple[tuple[str, Expr], ...]
    """Prefix ("", "stride=", "*") and value."""
    close: str = ")"
    open: str = "("


@dataclass(frozen=True, slots=True)
class Generator:
    """`item for name in values`, as an argument of a call."""

    item: Expr
    clauses: tuple[str | Call, ...]
    """A call stands for `for name in (a, b)`."""


Expr: TypeAlias = "str | Call | Generator"


def call(func: str, *args: Expr, **named: Expr) -> Call:
    """A call with positional and named arguments."""
    positional = tuple(("", a) for a in args)
    return Call(func, (*positional, *((f"{name}=", value) for name, value in named.items())))


def text(expr: Expr) -> str:
    """An expression in one line."""
    match expr:
        case str():
            return expr
        case Call():
            inner = ", ".join(f"{prefix}{_argument(prefix, value, len(expr.args))}" for prefix, value in expr.args)
            return f"{expr.func}{expr.open}{inner}{expr.close}"
        case Generator():
            return " ".join((text(expr.item), *(text(c) for c in expr.clauses)))


def _argument(prefix: str, value: Expr, siblings: int) -> str:
    """A generator needs parentheses of its own unless it is the only argument."""
    if isinstance(value, Generator) and (prefix or siblings > 1):
        return f"({text(value)})"
    return text(value)


def statement(prefix: str, expr: Expr, indent: int, comment: str = "") -> list[str]:
    """The lines of `prefix expr`, for example `self.conv1 = nn.Conv2d(...)`."""
    pad = " " * indent
    line = f"{pad}{prefix}{text(expr)}"
    if len(line) > WIDTH and not isinstance(expr, str):
        lines = _broken(prefix, expr, "", indent)
        return [*lines[:-1], f"{lines[-1]}  {comment}"] if comment else lines
    if comment and len(f"{line}  {comment}") > WIDTH:
        return [f"{pad}{comment}", line]
    return [f"{line}  {comment}" if comment else line]


def _broken(prefix: str, expr: Expr, suffix: str, indent: int) -> list[str]:
    """A call over several lines, one argument on each."""
    pad = " " * indent
    joined = len(f"{pad}{prefix}{text(expr)}{suffix}")
    match expr:
        case Call(args=((inner_prefix, Generator() as generator),)) if inner_prefix != "*":
            return [
                f"{pad}{prefix}{expr.func}{expr.open}{inner_prefix}",
                *_generator(generator, indent + 4, joined),
                f"{pad}{expr.close}{suffix}",
            ]
        case Call() if expr.args:
            lines = [f"{pad}{prefix}{expr.func}{expr.open}"]
            for name, value in expr.args:
                lines += _item(name, value, indent + 4, len(expr.args))
            return [*lines, f"{pad}{expr.close}{suffix}"]
        case _:
            return [f"{pad}{prefix}{text(expr)}{suffix}"]


def _generator(generator: Generator, indent: int, joined: int) -> list[str]:
    """The lines of a generator that would take `joined` columns if all stood in one line.

    A formatter with longer lines would join them; it keeps a call that is broken with a trailing comma.
    """
    pad = " " * indent
    if len(f"{pad}{text(generator)}") <= WIDTH and joined > LONGEST:
        return [f"{pad}{text(generator)}"]
    lines = _broken("", generator.item, "", indent)
    for clause in generator.clauses:
        fits = len(f"{pad}{text(clause)}") <= WIDTH
        lines += [f"{pad}{text(clause)}"] if fits else _broken("", clause, "", indent)
    return lines


def _item(name: str, value: Expr, indent: int, siblings: int) -> list[str]:
    pad = " " * indent
    line = f"{pad}{name}{_argument(name, value, siblings)},"
    if len(line) <= WIDTH or isinstance(value, str):
        return [line]
    if isinstance(value, Generator):
        return [f"{pad}{name}(", *_generator(value, indent + 4, len(line)), f"{pad}),"]
    return _broken(name, value, ",", indent)


@dataclass(frozen=True, slots=True)
class Class:
    """An `nn.Module`."""

    name: str
    doc: tuple[str, ...]
    signature: tuple[str, ...]
    """`in_channels: int`, `stride: int = 1`."""
    init: tuple[str, ...]
    """Lines of `__init__` after `super().__init__()`, indented for the class."""
    forward: tuple[str, ...]
    forward_comment: str = ""
    returns: str = "Tensor"
    base: str = "nn.Module"


@dataclass(frozen=True, slots=True)
class Function:
    """A helper that builds an `nn.Sequential`."""

    name: str
    doc: tuple[str, ...]
    signature: tuple[str, ...]
    body: tuple[str, ...]


def signature_lines(head: str, parameters: tuple[str, ...], tail: str, indent: int) -> tuple[str, ...]:
    """The lines of a `def`, broken where it is too long."""
    pad = " " * indent
    line = f"{pad}{head}({', '.join(parameters)}){tail}"
    if len(line) <= WIDTH:
        return (line,)
    return (f"{pad}{head}(", *(f"{pad}    {p}," for p in parameters), f"{pad}){tail}")
