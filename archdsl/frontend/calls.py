"""Calls that are wrong whatever their arguments are worth: they show without evaluation."""

from __future__ import annotations

from archdsl.base.diagnostics import ArchError, Diagnostic
from archdsl.core.primitives import Primitive
from archdsl.frontend import syntax
from archdsl.frontend.binding import Given, bind, complete
from archdsl.frontend.syntax import Block, Net
from archdsl.frontend.values import Template, Unknown, Value

Callee = Block | Net | Primitive


def wrong_arguments(callee: Callee, call: syntax.Call) -> tuple[Diagnostic, ...]:
    """Arguments that a callee does not take: for their names, their number, or for a constant that one is."""
    try:
        _bound(callee, call)
    except ArchError as problem:
        return problem.diagnostics
    return ()


def missing_arguments(callee: Callee, applied: syntax.Call | syntax.Name) -> tuple[Diagnostic, ...]:
    """What is applied to a tensor without all that it needs; nothing where the call is wrong otherwise."""
    try:
        template = _bound(callee, applied)
    except ArchError:
        return ()
    try:
        if template:
            complete(template, applied.span)
    except ArchError as problem:
        return problem.diagnostics
    return ()


def _bound(callee: Callee, expr: syntax.Call | syntax.Name) -> Template | None:
    args = expr.args if isinstance(expr, syntax.Call) else ()
    if any(arg.spread for arg in args):
        return None  # how many these are is not known
    given = [Given(arg.name, _constant(arg.value), arg.value.span, arg.span) for arg in args]
    return bind(Template(callee), given, expr.span)


def _constant(expr: syntax.Expr) -> Value:
    match expr:
        case syntax.Number(value=value) | syntax.String(value=value) | syntax.Constant(value=value):
            return value
        case syntax.Unary(operator="-", operand=syntax.Number(value=value)):
            return -value
        case _:
            return Unknown()
