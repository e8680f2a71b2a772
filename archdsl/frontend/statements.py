"""Statements: lets, shared modules, requirements and results, and how a failed requirement is explained."""

from __future__ import annotations

import re
from dataclasses import replace
from fractions import Fraction
from typing import cast

from archdsl.base import limits
from archdsl.base.diagnostics import ArchError, Gathering, Note, error
from archdsl.base.diagnostics import Label as Mark
from archdsl.base.source import Span
from archdsl.base.suggest import spoken
from archdsl.core.ir import Head, Region
from archdsl.core.types import Scalar, Shape
from archdsl.frontend import syntax
from archdsl.frontend.builder import Builder, Frame
from archdsl.frontend.evaluate import Evaluator, Scope, origin
from archdsl.frontend.values import Choice, Shared, Template, Tensor, Unknown, Value, describe, is_number, show
from archdsl.frontend.walk import any_expression, names_in_message


class Statements(Evaluator):
    """Runs the statements of a body."""

    def _open(self, frame: Frame, level: int, shape: Shape) -> Builder:
        builder = Builder(level, shape)
        frame.open[builder.id] = builder
        return builder

    def _close(self, frame: Frame, builder: Builder, output: Tensor) -> Region:
        region = builder.close(output)
        del frame.open[builder.id]
        return region

    def _body(self, body: tuple[syntax.Statement, ...], scope: Scope, span: Span, name: str = "") -> Tensor:
        value = self._statements(body, scope, span)
        if value is None:
            raise error("no-result", span, name=name or scope.frame.name)
        result = next(s for s in body if isinstance(s, syntax.Result))
        return self._tensor(value, scope, result.span)

    def _statements(self, body: tuple[syntax.Statement, ...], scope: Scope, span: Span) -> Value:
        """Run the statements of a body; the value of its result. Adds to the names of the scope."""
        parts = Gathering()
        results: list[Value] = []
        first: syntax.Result | None = None
        for statement in body:
            if parts.failed and not isinstance(statement, syntax.Let | syntax.Require):
                continue  # it may be wrong for what was found alone
            before = len(parts.found)
            with parts:
                match statement:
                    case syntax.Let():
                        scope.names[statement.name] = Unknown()
                        value = self.eval(statement.value, scope)
                        scope.names[statement.name] = value
                        if isinstance(value, Tensor):
                            self._hint(scope, value, statement.name)
                        note_scalar(scope.frame.lets, statement.name, value)
                    case syntax.Share():
                        value = self.eval(statement.value, scope)
                        if not isinstance(value, Template):
                            raise error("not-a-value", statement.value.span, expected="a block", found=describe(value))
                        scope.names[statement.name] = Shared(statement.name, value, statement.value.span)
                    case syntax.Require():
                        self._require(statement, body, scope)
                    case syntax.Auxiliary():
                        self._auxiliary(statement, scope)
                    case syntax.When():
                        if self._condition(statement.condition, scope):
                            inner = replace(scope, names=dict(scope.names))
                            self._statements(statement.body, inner, statement.span)
                    case syntax.Result():
                        if first:
                            also = (Mark(first.span, "the first"),)
                            help = "`->` joins what follows one another, as in `Conv(16, 3) -> ReLU`"
                            raise error("after-result", statement.span, secondary=also, help=help)
                        first = statement
                        results.append(self.eval(statement.value, scope))
                    case syntax.Expect() | syntax.Train() | syntax.Init() | syntax.Place():
                        pass
            required = any(d.key == "require" for d in parts.found[:before])
            if required or (before and statement.span.source.library):
                # Arguments that are wrong make other things wrong, but not what else is required of them.
                parts.found[before:] = [d for d in parts.found[before:] if d.key == "require" and required]
        parts.settle()
        return results[0] if results else None

    def _hint(self, scope: Scope, value: Tensor, name: str) -> None:
        builder = scope.frame.open.get(value.owner)
        if builder and value.ref.index and all(i != value.ref.index for i, _ in builder.names):
            builder.names.append((value.ref.index, name))

    def _auxiliary(self, statement: syntax.Auxiliary, scope: Scope) -> None:
        weight = self.eval(statement.weight, scope)
        if not is_number(weight):
            raise error("not-a-value", statement.weight.span, expected="the weight of a loss", found=describe(weight))
        if not scope.frame.is_net or scope.builder is None or scope.builder.level > 0:
            raise error("auxiliary", statement.span, problem="only the body of a `net` has auxiliary outputs")
        builder = self._open(scope.frame, 1, scope.builder.shape)
        inner = replace(scope, builder=builder)
        value = self._tensor(self.eval(statement.value, inner), inner, statement.value.span)
        classes = scope.frame.values.get("classes")
        if isinstance(classes, int) and value.shape.dims != (classes,):
            problem = f"an auxiliary output is {classes} logits, as the network's own, and this is {value.shape}"
            raise error("auxiliary", statement.value.span, problem=problem)
        self._use(value, inner, statement.value.span)
        region = self._close(scope.frame, builder, value)
        self._add(scope, Head(cast(Scalar, weight), region, value.shape, origin(statement.span)), statement.span)

    def _require(self, statement: syntax.Require, body: tuple[syntax.Statement, ...], scope: Scope) -> None:
        if self._condition(statement.condition, scope):
            return
        words = _filled(statement.message.value, scope)
        culprit = self._culprit(statement, scope)
        if culprit is None:
            raise error("require", statement.condition.span, message=words)
        name, span = culprit
        note = Note(f"required by `{scope.frame.name}`", Mark(statement.condition.span))
        help = self._legal(name, statement, body, scope)
        raise error(
            "require", span, f"{name} is {_readable(scope.names[name])}", message=words, notes=(note,), help=help
        )

    def _culprit(self, statement: syntax.Require, scope: Scope) -> tuple[str, Span] | None:
        """The argument that a requirement speaks of, directly or through lets, and where it was written."""
        frame = scope.frame
        mentioned = [n for n in frame.spans if mentions(statement.condition, n)]
        others = [n for n in frame.spans if n in statement.message.value and n not in mentioned]
        name = next((n for n in mentioned + others), None)
        return (name, frame.spans[name]) if name else None

    def _legal(
        self, name: str, statement: syntax.Require, body: tuple[syntax.Statement, ...], scope: Scope
    ) -> str | None:
        """The nearest values of an integer argument, below and above, that meet every requirement of a definition."""
        value = scope.frame.values[name]
        if not isinstance(value, int) or isinstance(value, bool):
            return None
        found = []
        for direction in (-1, 1):
            tries = (value + direction * d for d in range(1, 301))
            try:
                legal = next((v for v in tries if v > 0 and self._meets(name, v, body, scope)), None)
            except ArchError:
                return None  # too much work for a suggestion
            if legal is not None:
                found.append(str(legal))
        if not found:
            return None
        return f"nearest valid {'values' if len(found) > 1 else 'value'} of {name}: {spoken(found, 'and')}"

    def _meets(self, name: str, value: int, body: tuple[syntax.Statement, ...], scope: Scope) -> bool:
        names = {**scope.frame.values, name: value}
        trial = Scope(scope.frame, names, None, scope.input)
        for statement in body:
            try:
                if isinstance(statement, syntax.Let):
                    names[statement.name] = self.eval(statement.value, trial)
                elif isinstance(statement, syntax.Require) and not self._condition(statement.condition, trial):
                    return False
            except ArchError as problem:
                keys = {d.key for d in problem.diagnostics}
                if "too-large" in keys and self.work > limits.WORK:
                    raise
                if keys - {"needs-input"}:
                    return False
        return True


def _filled(message: str, scope: Scope) -> str:
    """A message with the values that it shows."""
    values = {n: _readable(scope.names[n]) for n in set(names_in_message(message))}
    return re.sub(r"\{([A-Za-z_]\w*)\}", lambda m: values[m[1]], message[: 10 * _READABLE])


def _readable(value: Value) -> str:
    text = show(value)
    return text if len(text) <= _READABLE else f"{text[:_READABLE]}..."


_READABLE = 100
"""Characters of a value that are shown."""


def note_scalar(scalars: dict[str, Scalar], name: str, value: Value) -> None:
    """Remember a number, a word, or a list of two as a size has them, by its name."""
    match value:
        case int() | Fraction():
            scalars.setdefault(name, value)
        case Choice():
            scalars.setdefault(name, value.name)
        case (int() as height, int() as width):
            scalars.setdefault(name, (height, width))
        case _:
            pass


def mentions(expr: syntax.Expr, name: str) -> bool:
    return any_expression(expr, lambda e: isinstance(e, syntax.Name) and e.name == name)
