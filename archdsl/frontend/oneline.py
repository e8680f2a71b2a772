"""Syntax -> text in one line: expressions, heads and statements, with the parentheses that they need."""

from __future__ import annotations

from collections.abc import Sequence

from archdsl.core.types import scalar_text
from archdsl.frontend import syntax
from archdsl.frontend.walk import children

_LEVELS = {"or": 2, "and": 3, "in": 5, "==": 5, "!=": 5, "<": 5, "<=": 5, ">": 5, ">=": 5, "+": 6, "-": 6}
IF, _CHAIN, OR, _NOT, _MUL, _NEGATIVE, POSTFIX, _ATOM = 0, 1, 2, 4, 7, 8, 9, 10


_BEGINNERS = frozenset(
    ["block", "flow", "net", "recipe", "from", "let", "share", "require", "expect", "train", "init", "place", "aux"]
)
"""Names that are keywords where an item or a statement begins, and only there."""


def format_expression(expr: syntax.Expr) -> str:
    """An expression in one line."""
    return inline(expr, IF)


def format_on(on: syntax.On | None) -> str:
    """An `on` clause with a space before it, or nothing."""
    if on is None:
        return ""
    classes = f" -> {inline(on.classes, OR)}" if on.classes else ""
    return f" on {inline(on.data, OR)}{classes}"


def level_of(expr: syntax.Expr) -> int:
    match expr:
        case syntax.If():
            return IF
        case syntax.Chain():
            return _CHAIN
        case syntax.Binary():
            return _LEVELS.get(expr.operator, _MUL)
        case syntax.Unary():
            return _NOT if expr.operator == "not" else _NEGATIVE
        case syntax.Call() | syntax.Multiply() | syntax.Index() | syntax.Attribute():
            return POSTFIX
        case _:
            return _ATOM


def inline(expr: syntax.Expr, least: int) -> str:
    """An expression in one line, in parentheses if it binds more loosely than `least`."""
    text = _bare(expr)
    return f"({text})" if level_of(expr) < least else text


def at_start(expr: syntax.Expr) -> int:
    """How tightly an expression must bind to begin a line.

    One that begins with a sign would go on with the line before, and one that begins with a word as `net` would be read
    as a definition.
    """
    match expr:
        case syntax.Binary(left=first) | syntax.Chain(head=first):
            return at_start(first)
        case syntax.Call(callee=first) | syntax.Multiply(callee=first):
            return at_start(first)
        case syntax.Index(owner=first) | syntax.Attribute(owner=first):
            return at_start(first)
        case syntax.Unary(operator="-"):
            return POSTFIX
        case syntax.Name(name=name) if name in _BEGINNERS:
            return _ATOM + 1
        case _:
            return IF


def _bare(expr: syntax.Expr) -> str:
    match expr:
        case syntax.Hole():
            return f"?[{expr.low}..{expr.high}]" if expr.high is not None else "?"
        case syntax.Number():
            # One that stands for a name has the name's place.
            return expr.span.text if expr.span.text[:1].isdigit() else scalar_text(expr.value)
        case syntax.ShapeLiteral():
            return expr.span.text
        case syntax.String() | syntax.Constant():
            return expr.span.text
        case syntax.Name():
            return expr.name
        case syntax.Input():
            return "in"
        case syntax.ListExpr():
            return f"[{', '.join(inline(i, IF) for i in expr.items)}]"
        case syntax.Attribute():
            return f"{operand(expr.owner)}.{expr.name}"
        case syntax.Index():
            return f"{operand(expr.owner)}[{inline(expr.position, IF)}]"
        case syntax.Call():
            return f"{operand(expr.callee)}({', '.join(_argument(a) for a in expr.args)})"
        case syntax.Multiply():
            return f"{times(expr)}{', '.join(_argument(a) for a in expr.args)}]"
        case syntax.Unary():
            return (
                f"not {inline(expr.operand, _NOT)}" if expr.operator == "not" else f"-{inline(expr.operand, _NEGATIVE)}"
            )
        case syntax.Binary():
            return _binary(expr)
        case syntax.If():
            parts = (
                inline(expr.condition, IF),
                inline(expr.then, IF),
                inline(expr.otherwise, IF),
            )
            return "if {} then {} else {}".format(*parts)
        case syntax.Chain():
            return " -> ".join([inline(expr.head, OR), *(inline(s, POSTFIX) for s in expr.steps)])
        case syntax.Labelled():
            return f"{label_text(expr.label)} {inline(expr.body, POSTFIX)}"
        case syntax.Group():
            return flat_body(expr.body)
        case syntax.Loop():
            return f"{loop_head(expr)} {flat_body(expr.body.body)}"
        case syntax.Join():
            return f"{join_head(expr)} {{ {', '.join(inline(b, at_start(b)) for b in expr.branches)} }}"


def operand(expr: syntax.Expr) -> str:
    """What is called, indexed or multiplied; behind a label it would be what the label names."""
    return f"({inline(expr, IF)})" if isinstance(expr, syntax.Labelled) else inline(expr, POSTFIX)


def times(expr: syntax.Multiply) -> str:
    """What is multiplied, up to the bracket; a space parts the sign from a name or number."""
    callee = operand(expr.callee)
    if isinstance(expr.callee, syntax.Name | syntax.Attribute):
        return f"{callee} x["
    return f"{callee}x[" if callee[-1] in ")]" else f"({callee})x["


def _binary(expr: syntax.Binary) -> str:
    level = level_of(expr)
    # A comparison does not chain: both sides bind more tightly.
    left = level + 1 if level == 5 else level
    return f"{inline(expr.left, left)} {expr.operator} {inline(expr.right, level + 1)}"


def _argument(arg: syntax.Argument) -> str:
    if arg.spread:
        return f"*{inline(arg.value, POSTFIX)}"
    return f"{arg.name}={inline(arg.value, IF)}" if arg.name else inline(arg.value, IF)


def label_text(label: syntax.LabelName) -> str:
    if label.number is None:
        return f"{label.stem}:"
    inner = inline(label.number, OR)
    return f"{label.stem}{{{inner}}}:" if label.style == "index" else f"{label.stem}[{inner}]:"


def loop_head(loop: syntax.Loop) -> str:
    if loop.items:
        names = f"{loop.counter}, {loop.item}" if loop.counter else loop.item
        head = f"for {names} in {inline(loop.items, OR)}"
        return head if loop.kind == "sequence" else f"{loop.kind} {head}"
    assert loop.times
    index = f" as {loop.counter}" if loop.counter else ""
    return f"{'repeat' if loop.kind == 'sequence' else loop.kind} {inline(loop.times, OR)}{index}"


def join_head(join: syntax.Join) -> str:
    return f"{join.kind}({', '.join(_argument(a) for a in join.args)})" if join.args else join.kind


def flat_body(body: Sequence[syntax.Statement]) -> str:
    return f"{{ {'; '.join(flat_statement(s) for s in body)} }}" if body else "{}"


def flat_statement(statement: syntax.Statement) -> str:
    match statement:
        case syntax.Let():
            return f"let {statement.name} = {inline(statement.value, IF)}"
        case syntax.Share():
            return f"share {statement.name} = {inline(statement.value, IF)}"
        case syntax.Require():
            return f"require {inline(statement.condition, IF)}, {statement.message.span.text}"
        case syntax.Expect():
            return f"expect {statement.what} {statement.figure}"
        case syntax.Train() | syntax.Init():
            word = "train" if isinstance(statement, syntax.Train) else "init"
            settings = "; ".join(setting_text(s) for s in statement.settings)
            return f"{word} {{ {settings} }}" if settings else f"{word} {{}}"
        case syntax.Place():
            return f"place {{ {statement.kind}{f' {statement.devices.span.text}' if statement.devices else ''} }}"
        case syntax.Auxiliary():
            return f"{aux_head(statement)}{inline(statement.value, IF)}"
        case syntax.When():
            return f"if {inline(statement.condition, IF)} {flat_body(statement.body)}"
        case syntax.Result():
            return inline(statement.value, at_start(statement.value))


def aux_head(statement: syntax.Auxiliary) -> str:
    """Up to the flow. An item of a list before a colon would be a label."""
    weight = inline(statement.weight, OR)
    return f"aux ({weight}): " if weight.endswith("]") else f"aux {weight}: "


def setting_text(setting: syntax.Setting) -> str:
    return f"{setting.name} {inline(setting.value, IF)}"


def param_text(param: syntax.Param) -> str:
    if param.rest:
        return f"*{param.name}"
    choices = f": {' | '.join(param.choices)}" if param.choices else ""
    default = ""
    if param.default is not None:
        default = f"{' = ' if choices else '='}{inline(param.default, IF)}"
    return f"{param.name}{choices}{default}"


def sweep_text(sweep: syntax.Sweep) -> str:
    pairs = (f"{n.name} in {inline(items, OR)}" for n, items in zip(sweep.names, sweep.lists, strict=True))
    return f"for {', '.join(pairs)}"


def needs_lines(statement: syntax.Statement) -> bool:
    """Whether a statement holds a body that does not belong in one line."""
    match statement:
        case syntax.Let() | syntax.Share() | syntax.Result() | syntax.Auxiliary():
            return holds_body(statement.value)
        case syntax.Train() | syntax.Init():
            return True
        case _:
            return False


def holds_body(expr: syntax.Expr) -> bool:
    """Whether an expression holds braces with several statements, which do not belong in one line."""
    match expr:
        case syntax.Group() if len(expr.body) > 1:
            return True
        case syntax.Loop() if len(expr.body.body) > 1:
            return True
        case syntax.Group():
            return any(needs_lines(s) for s in expr.body)
        case syntax.Loop():
            return any(needs_lines(s) for s in expr.body.body)
        case _:
            return any(holds_body(c) for c in children(expr))
