"""Syntax -> canonical .arch text. Comments stay with the statement they stand by."""

from __future__ import annotations

from collections.abc import Sequence

from archdsl.base.diagnostics import FATAL, ArchError
from archdsl.base.source import Source, Span
from archdsl.frontend import syntax
from archdsl.frontend.dump import dump
from archdsl.frontend.oneline import (
    IF,
    OR,
    POSTFIX,
    at_start,
    aux_head,
    flat_body,
    flat_statement,
    format_on,
    holds_body,
    inline,
    join_head,
    label_text,
    level_of,
    loop_head,
    needs_lines,
    operand,
    param_text,
    setting_text,
    sweep_text,
    times,
)
from archdsl.frontend.parser import parse

WIDTH = 100


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
        try:
            again = parse(Source(source.name, text))
        except ArchError as problem:
            if any(d.key in FATAL for d in problem.diagnostics):
                raise  # it is longer than what was written, and too long
            raise AssertionError(f"the formatter wrote what cannot be read: {problem}") from problem
        assert dump(again, spans=False) == dump(tree, spans=False), "the formatter changed what the spec says"
        text, before = format_file(again), text
    raise AssertionError("formatting has no end")


_ROUNDS = 5
"""A comment that is moved out of an expression may leave room for it in one line, and so on outwards."""


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
            case syntax.Recipe():
                return self._settings(f"recipe {item.name}", item.settings, item.span, 0)
            case syntax.NamedNet():
                prefix = f"net {item.name} = " if item.name else ""
                lines = self._expr(item.value, 0, prefix, IF if item.name else at_start(item.value))
                lines[-1] += format_on(item.on)
                lines = self._sweeps(lines, item.sweeps)
                return self._with_body(lines, item.clauses, item.span, 0) if item.clauses else lines

    def _sweeps(self, lines: list[str], sweeps: Sequence[syntax.Sweep]) -> list[str]:
        """Lines with the lists of a network after them; a long list goes on in lines of its own."""
        flat = "".join(f" {sweep_text(s)}" for s in sweeps)
        if len(lines[-1]) + len(flat) <= WIDTH:
            return [*lines[:-1], f"{lines[-1]}{flat}"]
        for sweep in sweeps:
            for i, (name, items) in enumerate(zip(sweep.names, sweep.lists, strict=True)):
                word = "," if i else " for"
                lines = [*lines[:-1], *self._expr(items, 0, f"{lines[-1]}{word} {name.name} in ", OR)]
        return lines

    def _head(self, start: str, params: Sequence[syntax.Param], end: str) -> list[str]:
        written = [param_text(p) for p in params]
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
        if len(body) == 1 and not self._has_comment(span) and not isinstance(body[0], syntax.Train | syntax.Init):
            line = f"{head[-1]} {flat_body(body)}"
            if len(line) <= WIDTH and not needs_lines(body[0]):
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
        line = f"{pad}{flat_statement(statement)}"
        if len(line) <= WIDTH and not self._has_comment(statement.span) and not needs_lines(statement):
            return [line]
        match statement:
            case syntax.Let():
                return self._expr(statement.value, indent, f"{pad}let {statement.name} = ")
            case syntax.Share():
                return self._expr(statement.value, indent, f"{pad}share {statement.name} = ")
            case syntax.Result():
                return self._expr(statement.value, indent, pad, at_start(statement.value))
            case syntax.Auxiliary():
                return self._expr(statement.value, indent, f"{pad}{aux_head(statement)}")
            case syntax.Require():
                lines = self._expr(statement.condition, indent, f"{pad}require ")
                return [*lines[:-1], f"{lines[-1]},", f"{pad}  {statement.message.span.text}"]
            case syntax.Train():
                return self._settings(f"{pad}train", statement.settings, statement.span, indent)
            case syntax.Init():
                return self._settings(f"{pad}init", statement.settings, statement.span, indent)
            case syntax.When():
                head = f"{pad}if {inline(statement.condition, IF)}"
                return self._with_body([head], statement.body, statement.span, indent)
            case syntax.Expect() | syntax.Place():
                return [line]

    def _settings(self, head: str, settings: Sequence[syntax.Setting], span: Span, indent: int) -> list[str]:
        """A setting in each line."""
        if not settings and not self._has_comment(span):
            return [f"{head} {{}}"]
        pad = " " * indent
        inner: list[str] = []
        for setting in settings:
            inner += [f"{pad}  {c}".rstrip() for c in self._before(setting.span.start)]
            inner.append(f"{pad}  {setting_text(setting)}{self._trailing(setting.span.end)}")
        inner += [f"{pad}  {c}".rstrip() for c in self._before(span.end)]
        return [f"{head} {{", *inner, f"{pad}}}"]

    # -- expressions

    def _expr(self, expr: syntax.Expr, indent: int, prefix: str, least: int = IF) -> list[str]:
        """An expression after a prefix, in as few lines as fit; `indent` is that of its statement."""
        flat = f"{prefix}{inline(expr, least)}"
        if len(flat) <= WIDTH and not self._has_comment(expr.span) and not holds_body(expr):
            return [flat]
        if level_of(expr) < least:
            lines = self._expr(expr, indent + 2, f"{prefix}(")
            return [*lines[:-1], f"{lines[-1]})"]
        pad = " " * (indent + 2)
        match expr:
            case syntax.Chain():
                lines = self._expr(expr.head, indent, prefix, OR)
                for step in expr.steps:
                    # Steps fill a line; one with a body of its own starts a new one and ends it.
                    flat = f"{lines[-1]} -> {inline(step, POSTFIX)}"
                    simple = len(flat) <= WIDTH and not self._has_comment(step.span) and not holds_body(step)
                    if simple and not lines[-1].lstrip().startswith("}"):
                        lines[-1] = flat
                    else:
                        lines += self._expr(step, indent + 2, f"{pad}-> ", POSTFIX)
                return lines
            case syntax.If():
                lines = self._expr(expr.condition, indent, f"{prefix}if ")
                short = f"{lines[-1]} then {inline(expr.then, IF)}"
                if len(short) <= WIDTH and isinstance(expr.otherwise, syntax.If) and not holds_body(expr.then):
                    lines[-1] = short
                else:
                    lines += self._expr(expr.then, indent + 2, f"{pad}then ")
                return [*lines, *self._otherwise(expr.otherwise, indent)]
            case syntax.Loop():
                return self._with_body(
                    [f"{prefix}{loop_head(expr)}"], expr.body.body, expr.span, _column(prefix, indent)
                )
            case syntax.Group():
                return self._with_body([prefix.rstrip()], expr.body, expr.span, _column(prefix, indent))
            case syntax.Labelled():
                return self._expr(expr.body, indent, f"{prefix}{label_text(expr.label)} ", POSTFIX)
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
                level = level_of(expr)
                lines = self._expr(expr.left, indent, prefix, level + 1 if level == 5 else level)
                return [*lines, *self._expr(expr.right, indent + 2, f"{pad}{expr.operator} ", level + 1)]
            case _:
                return [flat]

    def _otherwise(self, expr: syntax.Expr, indent: int) -> list[str]:
        pad = " " * (indent + 2)
        if isinstance(expr, syntax.If):
            lines = self._expr(expr.condition, indent + 2, f"{pad}else if ")
            flat = f"{lines[-1]} then {inline(expr.then, IF)}"
            if len(flat) <= WIDTH and not holds_body(expr.then) and not self._has_comment(expr.then.span):
                return [*lines[:-1], flat, *self._otherwise(expr.otherwise, indent)]
            then = self._expr(expr.then, indent + 2, f"{pad}then ")
            return [*lines, *then, *self._otherwise(expr.otherwise, indent)]
        return self._expr(expr, indent + 2, f"{pad}else ")

    def _branches(self, expr: syntax.Join, prefix: str, indent: int) -> list[str]:
        pad = " " * (indent + 2)
        lines = [f"{prefix}{join_head(expr)} {{"]
        for branch in expr.branches:
            lines += [f"{pad}{c}".rstrip() for c in self._before(branch.span.start)]
            inner = self._expr(branch, indent + 2, pad, at_start(branch))
            inner[-1] += self._trailing(branch.span.end)
            lines += inner
        return [*lines, f"{' ' * indent}}}"]

    def _list(self, expr: syntax.ListExpr, indent: int) -> list[str]:
        flat = inline(expr, IF)
        if indent + len(flat) <= WIDTH and not self._has_comment(expr.span) and not holds_body(expr):
            return [flat]
        return self._long_list(expr, indent)

    def _long_list(self, expr: syntax.ListExpr, indent: int) -> list[str]:
        """A list over several lines: numbers fill them, anything else has one of its own."""
        from textwrap import wrap  # a count formats its spec, and never needs this

        pad = " " * (indent + 2)
        lines = ["["]
        if all(isinstance(item, syntax.Number) for item in expr.items) and not self._has_comment(expr.span):
            written = " ".join(f"{inline(item, IF)}," for item in expr.items)
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
        opening = f"{operand(expr.callee)}(" if isinstance(expr, syntax.Call) else times(expr)
        lines = [f"{prefix}{opening}"]
        for arg in expr.args:
            name = "*" if arg.spread else f"{arg.name}=" if arg.name else ""
            inner = self._expr(arg.value, indent + 2, f"{pad}{name}", POSTFIX if arg.spread else IF)
            inner[-1] += ","
            lines += inner
        return [*lines, f"{' ' * indent}{')' if is_call else ']'}"]


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


def _after_comma(text: str, offset: int) -> int:
    return offset + 1 if text[offset : offset + 1] == "," else offset
