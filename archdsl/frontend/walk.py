"""The parts of expressions, statements and messages, for those who look for something in them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

from archdsl.frontend import syntax


def names_in_message(text: str) -> list[str]:
    """The names inside the braces of a message.

    >>> names_in_message("depth {depth} is not 6n + 4")
    ['depth']
    """
    return re.findall(r"\{([^{}]*)\}", text)


def children(expr: syntax.Expr) -> Iterator[syntax.Expr]:
    """The expressions directly inside an expression; those of statements in it excluded."""
    match expr:
        case syntax.ListExpr():
            yield from expr.items
        case syntax.Attribute():
            yield expr.owner
        case syntax.Index():
            yield from (expr.owner, expr.position)
        case syntax.Call() | syntax.Multiply():
            yield expr.callee
            yield from (a.value for a in expr.args)
        case syntax.Unary():
            yield expr.operand
        case syntax.Binary():
            yield from (expr.left, expr.right)
        case syntax.If():
            yield from (expr.condition, expr.then, expr.otherwise)
        case syntax.Chain():
            yield from (expr.head, *expr.steps)
        case syntax.Labelled():
            if expr.label.number:
                yield expr.label.number
            yield expr.body
        case syntax.Loop():
            yield from (e for e in (expr.times, expr.items) if e)
        case syntax.Join():
            yield from (a.value for a in expr.args)
            yield from expr.branches
        case _:
            return


def expressions_of(statement: syntax.Statement) -> Iterator[syntax.Expr]:
    """The expressions directly inside a statement."""
    match statement:
        case syntax.Let() | syntax.Share() | syntax.Result():
            yield statement.value
        case syntax.Require():
            yield statement.condition
        case syntax.When():
            yield statement.condition
            for inner in statement.body:
                yield from expressions_of(inner)
        case syntax.Auxiliary():
            yield from (statement.weight, statement.value)
        case syntax.Train() | syntax.Init() | syntax.Expect() | syntax.Place():
            return


def any_expression(expr: syntax.Expr, test: Callable[[syntax.Expr], bool]) -> bool:
    """Whether a test holds of an expression or of any below it, statements included."""
    if test(expr):
        return True
    bodies = expr.body if isinstance(expr, syntax.Group) else expr.body.body if isinstance(expr, syntax.Loop) else ()
    below = [*children(expr), *(e for s in bodies for e in expressions_of(s))]
    return any(any_expression(e, test) for e in below)
