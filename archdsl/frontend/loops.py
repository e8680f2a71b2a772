"""Choices and loops: one arm of an `if`, and iterations, of which equal ones are elaborated once."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import replace
from fractions import Fraction

from archdsl.base import limits
from archdsl.base.diagnostics import error
from archdsl.base.source import Span
from archdsl.core.ir import Loop, Region, Run, Select
from archdsl.core.types import Shape
from archdsl.frontend import syntax
from archdsl.frontend.builder import shifted
from archdsl.frontend.evaluate import Scope, origin
from archdsl.frontend.statements import Statements, mentions
from archdsl.frontend.values import Tensor, Value, describe
from archdsl.frontend.walk import any_expression, children, expressions_of

ITERATION = 5
"""What an iteration costs, in expressions."""


class Loops(Statements):
    """Elaborates `if` around flows, `repeat` and `for`, and the parallel `sum` and `concat`."""

    @abstractmethod
    def _outside_list(self, scope: Scope, span: Span, what: str) -> None:
        """Refuse what a numbered list cannot hold."""

    def _select(self, expr: syntax.If, scope: Scope, tensor: Tensor | None) -> Value:
        """The arm that the condition takes; where it is a flow, wrapped, so that a class can serve both arms."""
        taken = self._condition(expr.condition, scope)
        arm = expr.then if taken else expr.otherwise
        if scope.builder is None or scope.frame.numbered or scope.plain:
            return self._step(arm, tensor, scope) if tensor else self.eval(arm, scope)
        builder = self._open(
            scope.frame, scope.builder.level + 1, (tensor or scope.input or scope.builder.input()).shape
        )
        inner = replace(scope, builder=builder)
        value = self._step(arm, tensor, inner) if tensor else self.eval(arm, inner)
        if not isinstance(value, Tensor):
            del scope.frame.open[builder.id]
            return value
        self._use(value, inner, arm.span)
        region = self._close(scope.frame, builder, value)
        reads = names_in(expr.condition)
        return self._add(scope, Select(0 if taken else 1, region, value.shape, origin(expr.span), reads), expr.span)

    def _iterations(self, loop: syntax.Loop, scope: Scope) -> tuple[int, tuple[Value, ...] | None]:
        if loop.items:
            items = self.eval(loop.items, scope)
            if not isinstance(items, tuple):
                raise error("not-a-value", loop.items.span, expected="a list", found=describe(items))
            return len(items), items
        assert loop.times
        value = self.eval(loop.times, scope)
        whole = int(value) if isinstance(value, Fraction) and value.denominator == 1 else value
        least = 0 if loop.kind == "sequence" else 1
        if not isinstance(whole, int) or isinstance(whole, bool) or whole < least:
            what = "the count of a loop"
            raise error("bad-count", loop.times.span, what=what, least=least, found=describe(value))
        return whole, None

    def _sequence(self, loop: syntax.Loop, tensor: Tensor, scope: Scope) -> Tensor:
        count, items = self._iterations(loop, scope)
        if count == 0:
            return tensor
        runs, output = self._runs(loop, count, items, tensor.shape, scope)
        if not any(run.region.steps for run in runs):
            return tensor
        ref = self._use(tensor, scope, loop.span)
        return self._add(scope, Loop("sequence", runs, ref, output, origin(loop.span)), loop.span)

    def _parallel(self, loop: syntax.Loop, tensor: Tensor, scope: Scope) -> Tensor:
        self._outside_list(scope, loop.span, f"`{loop.kind}`")
        count, items = self._iterations(loop, scope)
        if count == 0:
            raise error("bad-count", loop.span, what="the count of a loop", least=1, found="an empty list")
        runs, output = self._runs(loop, count, items, tensor.shape, scope)
        ref = self._use(tensor, scope, loop.span)
        return self._add(scope, Loop(loop.kind, runs, ref, output, origin(loop.span)), loop.span)

    def _runs(
        self, loop: syntax.Loop, count: int, items: tuple[Value, ...] | None, shape: Shape, scope: Scope
    ) -> tuple[tuple[Run, ...], Shape]:
        """Elaborate iterations until two in a row are equal; those that remain are equal too and are only counted."""
        frame = scope.frame
        repeats = items is None and not (loop.counter and _matters(loop.body, loop.counter))
        runs: list[Run] = []
        outputs: list[Shape] = []
        i = 0
        while i < count:
            before = dict(frame.counters)
            region, output = self._iteration(loop, i, items, shape, scope)
            same_shape = loop.kind != "sequence" or output == shape
            last = runs[-1] if runs else None
            if last and repeats and same_shape and shifted(last.region, i - last.start) == region:
                remaining = count - i
                runs[-1] = replace(last, count=last.count + remaining)
                frame.skip(before, region, remaining - 1)
                outputs += [output] * (1 if loop.kind == "sequence" else 0)
                if loop.kind != "sequence":
                    return tuple(runs), self._joined(loop, runs, outputs)
                return tuple(runs), output
            if last and shifted(last.region, i - last.start) == region and last.region.input == region.input:
                runs[-1] = replace(last, count=last.count + 1)
            else:
                runs.append(Run(i, 1, region))
                outputs.append(output)
            shape = output if loop.kind == "sequence" else shape
            i += 1
        return tuple(runs), shape if loop.kind == "sequence" else self._joined(loop, runs, outputs)

    def _joined(self, loop: syntax.Loop, runs: list[Run], outputs: list[Shape]) -> Shape:
        if loop.kind in ("sum", "mean"):
            odd = next((s for s in outputs if s != outputs[0]), None)
            text = f"{outputs[0]} and {odd}"
        else:
            odd = next((s for s in outputs if s.dims[1:] != outputs[0].dims[1:]), None)
            text = f"{outputs[0]} and {odd}"
        if odd:
            what = {"sum": "a sum", "mean": "a mean"}.get(loop.kind, "a concatenation")
            raise error("unequal-shapes", loop.span, what=what, shapes=text)
        if loop.kind in ("sum", "mean"):
            return outputs[0]
        return outputs[0].with_channels(sum(r.count * s.channels for r, s in zip(runs, outputs, strict=True)))

    def _iteration(
        self, loop: syntax.Loop, i: int, items: tuple[Value, ...] | None, shape: Shape, scope: Scope
    ) -> tuple[Region, Shape]:
        assert scope.builder is not None
        self.work += ITERATION
        if scope.loops >= limits.LOOPS:
            problem = f"loops are nested more than {limits.LOOPS} deep"
            raise error("too-deep", loop.span, problem=problem, help="give the inner ones a block of their own")
        builder = self._open(scope.frame, scope.builder.level + 1, shape)
        names = dict(scope.names)
        if loop.counter:
            names[loop.counter] = i
        if loop.item and items:
            names[loop.item] = items[i]
        inner = Scope(scope.frame, names, builder, builder.input(), scope.loops + 1)
        output = self._body(loop.body.body, inner, loop.span, "this loop")
        self._use(output, inner, loop.span)
        region = self._close(scope.frame, builder, output)
        if loop.kind == "sequence" and 0 not in builder.used:
            raise error("unused-value", loop.span, "its body never reads `in`")
        return region, output.shape


def names_in(condition: syntax.Expr) -> tuple[str, ...]:
    """The names that a condition speaks of, in order; `in_channels` for `in.channels`."""
    found: list[str] = []

    def collect(expr: syntax.Expr) -> bool:
        match expr:
            case syntax.Name():
                found.append(expr.name)
            case syntax.Attribute(owner=syntax.Input(), name="channels"):
                found.append("in_channels")
            case _:
                pass
        return False

    any_expression(condition, collect)
    return tuple(dict.fromkeys(found))


def _matters(body: syntax.Group, index: str) -> bool:
    """Whether the index of a loop changes more than the numbers of labels."""

    def used(expr: syntax.Expr) -> bool:
        if isinstance(expr, syntax.Labelled) and expr.label.number and _counts_up(expr.label.number, index):
            return mentions(expr.body, index) and used_below(expr.body)
        return (isinstance(expr, syntax.Name) and expr.name == index) or used_below(expr)

    def used_below(expr: syntax.Expr) -> bool:
        if isinstance(expr, syntax.Name):
            return expr.name == index
        inner = expr.body if isinstance(expr, syntax.Group) else expr.body.body if isinstance(expr, syntax.Loop) else ()
        below = [*children(expr), *(e for s in inner for e in expressions_of(s))]
        return any(used(e) for e in below)

    return used_below(body)


def _counts_up(expr: syntax.Expr, index: str) -> bool:
    """Whether a label's number rises by one with the index: `i`, `i + 1`, `2 + i`, `i - 1`."""
    match expr:
        case syntax.Name():
            return expr.name == index
        case syntax.Binary(operator="+"):
            sides = (mentions(expr.left, index), mentions(expr.right, index))
            return sides != (True, True) and _counts_up(expr.left if sides[0] else expr.right, index)
        case syntax.Binary(operator="-"):
            return not mentions(expr.right, index) and _counts_up(expr.left, index)
        case _:
            return False
