"""Syntax -> canonical .arch text. Comments stay with the statement they stand by."""

from __future__ import annotations

from collections.abc import Sequence

from archdsl.base.source import Source, Span
from archdsl.core.types import scalar_text
from archdsl.frontend import syntax
from archdsl.frontend.dump import dump
from archdsl.frontend.parser import parse

WIDTH = 100

_LEVELS = {"or": 2, "and": 3, "in": 5, "==": 5, "!=": 5, "<": 5, "<=": 5, ">": 5, ">=": 5, "+": 6, "-": 6}
_IF, _CHAIN, _OR, _NOT, _MUL, _NEGATIVE, _POSTFIX, _ATOM = 0, 1, 2, 4, 7, 8, 9, 10


def format_file(file: syntax.File) -> str:
    """The canonical text of a file. Formatting it again changes nothing."""
    return _Formatter(file.source.text, file.comments).file(file)


def formatted(source: Source) -> str:
    """The canonical text of a source. Raises ArchError if it is wrong.

    What is written is read again: it says the same, and formatting it changes nothing.
    """
    tree = parse(source)
    text, before = format_file(tree), source.text
    for _ in range(_ROUNDS):
        if text == before:
            return text
        again = parse(Source(source.name, text))
        assert dump(again, spans=False) == dump(tree, spans=False), "the formatter changed what the spec says"
        text, before = format_file(again), text
    raise AssertionError("formatting has no end")


_ROUNDS = 5
"""A comment that is moved out of an expression may leave room for it in one line, and so on outwards."""


def format_expression(expr: syntax.Expr) -> str:
    """An expression in one line."""
    return _flat(expr, _IF)


def format_on(on: syntax.On | None) -> str:
    """An `on` clause with a space before it, or nothing."""
    if on is None:
        return ""
    classes = f" -> {_flat(on.classes, _OR)}" if on.classes else ""
    return f" on {_flat(on.data, _OR)}{classes}"


# ---- one line


def _level(expr: syntax.Expr) -> int:
    match expr:
        case syntax.If():
            return _IF
        case syntax.Chain():
            return _CHAIN
        case syntax.Binary():
            return _LEVELS.get(expr.operator, _MUL)
        case syntax.Unary():
            return _NOT if expr.operator == "not" else _NEGATIVE
        case syntax.Call() | syntax.Multiply() | syntax.Index() | syntax.Attribute():
            return _POSTFIX
        case _:
            return _ATOM


def _flat(expr: syntax.Expr, least: int) -> str:
    """An expression in one line, in parentheses if it binds more loosely than `least`."""
    text = _bare(expr)
    return f"({text})" if _level(expr) < least else text


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
            return f"[{', '.join(_flat(i, _IF) for i in expr.items)}]"
        case syntax.Attribute():
            return f"{_flat(expr.owner, _POSTFIX)}.{expr.name}"
        case syntax.Index():
            return f"{_flat(expr.owner, _POSTFIX)}[{_flat(expr.position, _IF)}]"
        case syntax.Call():
            return f"{_flat(expr.callee, _POSTFIX)}({', '.join(_argument(a) for a in expr.args)})"
        case syntax.Multiply():
            return f"{_times(expr)}{', '.join(_argument(a) for a in expr.args)}]"
        case syntax.Unary():
            return (
                f"not {_flat(expr.operand, _NOT)}" if expr.operator == "not" else f"-{_flat(expr.operand, _NEGATIVE)}"
            )
        case syntax.Binary():
            return _binary(expr)
        case syntax.If():
            parts = (_flat(expr.condition, _IF), _flat(expr.then, _IF), _flat(expr.otherwise, _IF))
            return "if {} then {} else {}".format(*parts)
        case syntax.Chain():
            return " -> ".join([_flat(expr.head, _OR), *(_flat(s, _POSTFIX) for s in expr.steps)])
        case syntax.Labelled():
            return f"{_label(expr.label)} {_flat(expr.body, _POSTFIX)}"
        case syntax.Group():
            return _flat_body(expr.body)
        case syntax.Loop():
            return f"{_loop_head(expr)} {_flat_body(expr.body.body)}"
        case syntax.Join():
            return f"{_join_head(expr)} {{ {', '.join(_flat(b, _IF) for b in expr.branches)} }}"


def _times(expr: syntax.Multiply) -> str:
    """What is multiplied, up to the bracket; a space parts the sign from a name or number."""
    callee = _flat(expr.callee, _POSTFIX)
    return f"{callee} x[" if callee[-1].isalnum() or callee[-1] == "_" else f"{callee}x["


def _binary(expr: syntax.Binary) -> str:
    level = _level(expr)
    # A comparison does not chain: both sides bind more tightly.
    left = level + 1 if level == 5 else level
    return f"{_flat(expr.left, left)} {expr.operator} {_flat(expr.right, level + 1)}"


def _argument(arg: syntax.Argument) -> str:
    if arg.spread:
        return f"*{_flat(arg.value, _POSTFIX)}"
    return f"{arg.name}={_flat(arg.value, _IF)}" if arg.name else _flat(arg.value, _IF)


def _label(label: syntax.LabelName) -> str:
    if label.number is None:
        return f"{label.stem}:"
    inner = _flat(label.number, _OR)
    return f"{label.stem}{{{inner}}}:" if label.style == "index" else f"{label.stem}[{inner}]:"


def _loop_head(loop: syntax.Loop) -> str:
    if loop.items:
        names = f"{loop.counter}, {loop.item}" if loop.counter else loop.item
        head = f"for {names} in {_flat(loop.items, _OR)}"
        return head if loop.kind == "sequence" else f"{loop.kind} {head}"
    assert loop.times
    index = f" as {loop.counter}" if loop.counter else ""
    return f"{'repeat' if loop.kind == 'sequence' else loop.kind} {_flat(loop.times, _OR)}{index}"


def _join_head(join: syntax.Join) -> str:
    return f"{join.kind}({', '.join(_argument(a) for a in join.args)})" if join.args else join.kind


def _flat_body(body: Sequence[syntax.Statement]) -> str:
    return f"{{ {'; '.join(_flat_statement(s) for s in body)} }}" if body else "{}"


def _flat_statement(statement: syntax.Statement) -> str:
    match statement:
        case syntax.Let():
            return f"let {statement.name} = {_flat(statement.value, _IF)}"
        case syntax.Share():
            return f"share {statement.name} = {_flat(statement.value, _IF)}"
        case syntax.Require():
            return f"require {_flat(statement.condition, _IF)}, {statement.message.span.text}"
        case syntax.Expect():
            return f"expect {statement.what} {statement.figure}"
        case syntax.Train():
            return (
                f"train {{ {'; '.join(_setting(s) for s in statement.settings)} }}"
                if statement.settings
                else "train {}"
            )
        case syntax.Place():
            return f"place {{ {statement.kind}{f' {statement.devices.span.text}' if statement.devices else ''} }}"
        case syntax.Auxiliary():
            return f"aux {_flat(statement.weight, _OR)}: {_flat(statement.value, _IF)}"
        case syntax.When():
            return f"if {_flat(statement.condition, _IF)} {_flat_body(statement.body)}"
        case syntax.Result():
            return _flat(statement.value, _IF)


def _setting(setting: syntax.Setting) -> str:
    return f"{setting.name} {_flat(setting.value, _IF)}"


# ---- several lines


class _Formatter:
    def __init__(self, text: str, comments: Sequence[syntax.Comment]) -> None:
        self.text = text
        self.comments = list(comments)
        self.next = 0

    # -- comments

    def _before(self, offset: int) -> list[str]:
        """The comments up to an offset, with an empty line where there was one."""
        out: list[str] = []
        while self.next < len(self.comments) and self.comments[self.next].span.start < offset:
            comment = self.comments[self.next]
            self.next += 1
            out.append(_spaced(self._alone(comment)))
            following = self.comments[self.next].span.start if self.next < len(self.comments) else offset
            if self._blank_between(comment.span.end, min(following, offset)):
                out.append("")
        return out

    def _alone(self, comment: syntax.Comment) -> str:
        """The text of a comment on a line of its own; `##` behind something documents nothing, and may not begin to."""
        text = comment.text
        line = self.text[self.text.rfind("\n", 0, comment.span.start) + 1 : comment.span.start]
        return f"#{text.lstrip('#')}" if line.strip() and text.startswith("##") else text

    def _trailing(self, offset: int) -> str:
        """The comment on the line on which something ends."""
        if self.next < len(self.comments):
            start = self.comments[self.next].span.start
            if start >= offset and "\n" not in self.text[offset:start]:
                self.next += 1
                return f"  {_spaced(self.comments[self.next - 1].text)}"
        return ""

    def _blank_between(self, start: int, end: int) -> bool:
        return self.text[start:end].count("\n") > 1

    def _has_comment(self, span: Span) -> bool:
        return any(span.start <= c.span.start < span.end for c in self.comments[self.next :])

    # -- files

    def file(self, file: syntax.File) -> str:
        out: list[str] = []
        previous: syntax.Item | None = None
        for item in file.items:
            lead = self._before(item.span.start)
            lines = self._item(item)
            hoisted = [c for c in self._before(item.span.end) if c]
            together = isinstance(item, syntax.Import) and isinstance(previous, syntax.Import)
            if previous is not None and not together:
                out.append("")
            lines[-1] += self._trailing(item.span.end)
            documentation = len(lead)
            while documentation and lead[documentation - 1].startswith("##"):
                documentation -= 1
            out += [*lead[:documentation], *hoisted, *lead[documentation:], *lines]
            previous = item
        rest = self._before(len(self.text) + 1)
        while rest and not rest[-1]:
            rest.pop()
        if rest and out:
            out.append("")
        return "\n".join([*out, *rest]) + "\n" if out or rest else ""

    def _item(self, item: syntax.Item) -> list[str]:
        match item:
            case syntax.Import():
                return [f"from {item.path.span.text} import {', '.join(n.name for n in item.names)}"]
            case syntax.Block():
                keyword = "flow" if item.inline else "block"
                head = self._head(f"{keyword} {item.name}", item.params, "")
                if item.sequence:
                    return _join(head, self._list(item.sequence, 0))
                return self._with_body(head, item.body, item.span, 0)
            case syntax.Net():
                head = self._head(f"net {item.name}", item.params, format_on(item.on))
                return self._with_body(head, item.body, item.span, 0)
            case syntax.NamedNet():
                prefix = f"net {item.name} = " if item.name else ""
                lines = self._expr(item.value, 0, prefix)
                lines[-1] += format_on(item.on)
                lines = self._sweeps(lines, item.sweeps)
                return self._with_body(lines, item.clauses, item.span, 0) if item.clauses else lines

    def _sweeps(self, lines: list[str], sweeps: Sequence[syntax.Sweep]) -> list[str]:
        """Lines with the lists of a network after them; a long list goes on in lines of its own."""
        flat = "".join(f" {_sweep(s)}" for s in sweeps)
        if len(lines[-1]) + len(flat) <= WIDTH:
            return [*lines[:-1], f"{lines[-1]}{flat}"]
        for sweep in sweeps:
            for i, (name, items) in enumerate(zip(sweep.names, sweep.lists, strict=True)):
                word = "," if i else " for"
                lines = [*lines[:-1], *self._expr(items, 0, f"{lines[-1]}{word} {name.name} in ", _OR)]
        return lines

    def _head(self, start: str, params: Sequence[syntax.Param], end: str) -> list[str]:
        written = [_param(p) for p in params]
        parens = f"({', '.join(written)})" if params or not start.startswith("net") else ""
        line = f"{start}{parens}{end}"
        if len(line) <= WIDTH - 2 or not params:
            return [line]
        if end and len(f"{start}{parens}") <= WIDTH:
            return [f"{start}{parens}", f"    {end.strip()}"]
        lines = [f"{start}(", *(f"    {w}," for w in written), ")"]
        return [*lines[:-1], f"){end}"]

    def _with_body(self, head: list[str], body: Sequence[syntax.Statement], span: Span, indent: int) -> list[str]:
        """A head and a body in braces, in one line if it is one statement and fits."""
        if not body and not self._has_comment(span):
            return [*head[:-1], f"{head[-1]} {{}}"]
        if len(body) == 1 and not self._has_comment(span) and not isinstance(body[0], syntax.Train):
            line = f"{head[-1]} {_flat_body(body)}"
            if len(line) <= WIDTH and not _deep(body[0]):
                return [*head[:-1], line]
        inner = self._statements(body, span.end, indent + 2)
        return [*head[:-1], f"{head[-1]} {{", *inner, f"{' ' * indent}}}"]

    # -- statements

    def _statements(self, body: Sequence[syntax.Statement], end: int, indent: int) -> list[str]:
        pad = " " * indent
        out: list[str] = []
        last: int | None = None
        for statement in body:
            start = statement.span.start
            first = self.comments[self.next].span.start if self.next < len(self.comments) else start
            if last is not None and self._blank_between(last, min(first, start)):
                out.append("")
            lead = [f"{pad}{c}".rstrip() for c in self._before(start)]
            lines = self._statement(statement, indent)
            hoisted = [f"{pad}{c}" for c in self._before(statement.span.end) if c]
            lines[-1] += self._trailing(statement.span.end)
            out += [*lead, *hoisted, *lines]
            last = statement.span.end
        inside = [c for c in self.comments[self.next :] if c.span.start < end]
        if inside:
            out += [f"{pad}{c}".rstrip() for c in self._before(inside[-1].span.end) if c]
        return out

    def _statement(self, statement: syntax.Statement, indent: int) -> list[str]:
        pad = " " * indent
        line = f"{pad}{_flat_statement(statement)}"
        if len(line) <= WIDTH and not self._has_comment(statement.span) and not _deep(statement):
            return [line]
        match statement:
            case syntax.Let():
                return self._expr(statement.value, indent, f"{pad}let {statement.name} = ")
            case syntax.Share():
                return self._expr(statement.value, indent, f"{pad}share {statement.name} = ")
            case syntax.Result():
                return self._expr(statement.value, indent, pad)
            case syntax.Auxiliary():
                return self._expr(statement.value, indent, f"{pad}aux {_flat(statement.weight, _OR)}: ")
            case syntax.Require():
                lines = self._expr(statement.condition, indent, f"{pad}require ")
                return [*lines[:-1], f"{lines[-1]},", f"{pad}  {statement.message.span.text}"]
            case syntax.Train():
                inner: list[str] = []
                for setting in statement.settings:
                    inner += [f"{pad}  {c}".rstrip() for c in self._before(setting.span.start)]
                    inner.append(f"{pad}  {_setting(setting)}{self._trailing(setting.span.end)}")
                inner += [f"{pad}  {c}".rstrip() for c in self._before(statement.span.end)]
                return [f"{pad}train {{", *inner, f"{pad}}}"]
            case syntax.When():
                head = f"{pad}if {_flat(statement.condition, _IF)}"
                return self._with_body([head], statement.body, statement.span, indent)
            case syntax.Expect() | syntax.Place():
                return [line]

    # -- expressions

    def _expr(self, expr: syntax.Expr, indent: int, prefix: str, least: int = _IF) -> list[str]:
        """An expression after a prefix, in as few lines as fit; `indent` is that of its statement."""
        flat = f"{prefix}{_flat(expr, least)}"
        if len(flat) <= WIDTH and not self._has_comment(expr.span) and not _deep_expr(expr):
            return [flat]
        if _level(expr) < least:
            lines = self._expr(expr, indent + 2, f"{prefix}(")
            return [*lines[:-1], f"{lines[-1]})"]
        pad = " " * (indent + 2)
        match expr:
            case syntax.Chain():
                lines = self._expr(expr.head, indent, prefix, _OR)
                for step in expr.steps:
                    # Steps fill a line; one with a body of its own starts a new one and ends it.
                    flat = f"{lines[-1]} -> {_flat(step, _POSTFIX)}"
                    simple = len(flat) <= WIDTH and not self._has_comment(step.span) and not _deep_expr(step)
                    if simple and not lines[-1].lstrip().startswith("}"):
                        lines[-1] = flat
                    else:
                        lines += self._expr(step, indent + 2, f"{pad}-> ", _POSTFIX)
                return lines
            case syntax.If():
                lines = self._expr(expr.condition, indent, f"{prefix}if ")
                short = f"{lines[-1]} then {_flat(expr.then, _IF)}"
                if len(short) <= WIDTH and isinstance(expr.otherwise, syntax.If) and not _deep_expr(expr.then):
                    lines[-1] = short
                else:
                    lines += self._expr(expr.then, indent + 2, f"{pad}then ")
                return [*lines, *self._otherwise(expr.otherwise, indent)]
            case syntax.Loop():
                return self._with_body(
                    [f"{prefix}{_loop_head(expr)}"], expr.body.body, expr.span, _column(prefix, indent)
                )
            case syntax.Group():
                return self._with_body([prefix.rstrip()], expr.body, expr.span, _column(prefix, indent))
            case syntax.Labelled():
                return self._expr(expr.body, indent, f"{prefix}{_label(expr.label)} ", _POSTFIX)
            case syntax.Join():
                return self._branches(expr, prefix, _column(prefix, indent))
            case syntax.ListExpr() if expr.items:
                numbers = all(isinstance(item, syntax.Number) for item in expr.items)
                layout = self._long_list if numbers else self._list
                return _join([prefix.rstrip()], layout(expr, _column(prefix, indent)))
            case syntax.Call() | syntax.Multiply() if expr.args:
                return self._call(expr, prefix, _column(prefix, indent))
            case syntax.Binary(operator="in"):
                # A line that begins with `in` would be a flow of its own.
                lines = self._expr(expr.left, indent + 2, f"{prefix}(", 6)
                lines += self._expr(expr.right, indent + 2, f"{pad}in ", 6)
                return [*lines[:-1], f"{lines[-1]})"]
            case syntax.Binary():
                level = _level(expr)
                lines = self._expr(expr.left, indent, prefix, level + 1 if level == 5 else level)
                return [*lines, *self._expr(expr.right, indent + 2, f"{pad}{expr.operator} ", level + 1)]
            case _:
                return [flat]

    def _otherwise(self, expr: syntax.Expr, indent: int) -> list[str]:
        pad = " " * (indent + 2)
        if isinstance(expr, syntax.If):
            lines = self._expr(expr.condition, indent + 2, f"{pad}else if ")
            flat = f"{lines[-1]} then {_flat(expr.then, _IF)}"
            if len(flat) <= WIDTH and not _deep_expr(expr.then) and not self._has_comment(expr.then.span):
                return [*lines[:-1], flat, *self._otherwise(expr.otherwise, indent)]
            then = self._expr(expr.then, indent + 2, f"{pad}then ")
            return [*lines, *then, *self._otherwise(expr.otherwise, indent)]
        return self._expr(expr, indent + 2, f"{pad}else ")

    def _branches(self, expr: syntax.Join, prefix: str, indent: int) -> list[str]:
        pad = " " * (indent + 2)
        lines = [f"{prefix}{_join_head(expr)} {{"]
        for branch in expr.branches:
            lines += [f"{pad}{c}".rstrip() for c in self._before(branch.span.start)]
            inner = self._expr(branch, indent + 2, pad)
            inner[-1] += self._trailing(branch.span.end)
            lines += inner
        return [*lines, f"{' ' * indent}}}"]

    def _list(self, expr: syntax.ListExpr, indent: int) -> list[str]:
        flat = _flat(expr, _IF)
        if indent + len(flat) <= WIDTH and not self._has_comment(expr.span) and not _deep_expr(expr):
            return [flat]
        return self._long_list(expr, indent)

    def _long_list(self, expr: syntax.ListExpr, indent: int) -> list[str]:
        """A list over several lines: numbers fill them, anything else has one of its own."""
        from textwrap import wrap  # a count formats its spec, and never needs this

        pad = " " * (indent + 2)
        lines = ["["]
        if all(isinstance(item, syntax.Number) for item in expr.items) and not self._has_comment(expr.span):
            written = " ".join(f"{_flat(item, _IF)}," for item in expr.items)
            inside = wrap(written, max(WIDTH - len(pad), 40), break_long_words=False)
            return [*lines, *(f"{pad}{line}" for line in inside), f"{' ' * indent}]"]
        for item in expr.items:
            lines += [f"{pad}{c}".rstrip() for c in self._before(item.span.start)]
            inner = self._expr(item, indent + 2, pad)
            inner[-1] += "," + self._trailing(_after_comma(self.text, item.span.end))
            lines += inner
        return [*lines, f"{' ' * indent}]"]

    def _call(self, expr: syntax.Call | syntax.Multiply, prefix: str, indent: int) -> list[str]:
        pad = " " * (indent + 2)
        is_call = isinstance(expr, syntax.Call)
        opening = f"{_flat(expr.callee, _POSTFIX)}(" if isinstance(expr, syntax.Call) else _times(expr)
        lines = [f"{prefix}{opening}"]
        for arg in expr.args:
            name = "*" if arg.spread else f"{arg.name}=" if arg.name else ""
            inner = self._expr(arg.value, indent + 2, f"{pad}{name}", _POSTFIX if arg.spread else _IF)
            inner[-1] += ","
            lines += inner
        return [*lines, f"{' ' * indent}{')' if is_call else ']'}"]


def _param(param: syntax.Param) -> str:
    if param.rest:
        return f"*{param.name}"
    choices = f": {' | '.join(param.choices)}" if param.choices else ""
    default = ""
    if param.default is not None:
        default = f"{' = ' if choices else '='}{_flat(param.default, _IF)}"
    return f"{param.name}{choices}{default}"


def _spaced(comment: str) -> str:
    """A comment with a space after its sign."""
    sign = "##" if comment.startswith("##") else "#"
    rest = comment[len(sign) :]
    return comment if not rest or rest[0] in " #!" else f"{sign} {rest}"


def _column(prefix: str, indent: int) -> int:
    """The indentation of the line that a prefix begins."""
    return len(prefix) - len(prefix.lstrip()) if prefix.strip() else max(len(prefix), indent)


def _join(head: list[str], lines: list[str]) -> list[str]:
    """Put the first line after the last of the head."""
    space = " " if head[-1].strip() and not head[-1].endswith(" ") else ""
    return [*head[:-1], f"{head[-1]}{space}{lines[0]}", *lines[1:]]


def _sweep(sweep: syntax.Sweep) -> str:
    pairs = (f"{n.name} in {_flat(items, _OR)}" for n, items in zip(sweep.names, sweep.lists, strict=True))
    return f"for {', '.join(pairs)}"


def _after_comma(text: str, offset: int) -> int:
    return offset + 1 if text[offset : offset + 1] == "," else offset


def _deep(statement: syntax.Statement) -> bool:
    """Whether a statement holds a body that does not belong in one line."""
    match statement:
        case syntax.Let() | syntax.Share() | syntax.Result() | syntax.Auxiliary():
            return _deep_expr(statement.value)
        case syntax.Train():
            return True
        case _:
            return False


def _deep_expr(expr: syntax.Expr) -> bool:
    from archdsl.frontend.resolve import children

    match expr:
        case syntax.Group() if len(expr.body) > 1:
            return True
        case syntax.Loop() if len(expr.body.body) > 1:
            return True
        case syntax.Group():
            return any(_deep(s) for s in expr.body)
        case syntax.Loop():
            return any(_deep(s) for s in expr.body.body)
        case _:
            return any(_deep_expr(c) for c in children(expr))
