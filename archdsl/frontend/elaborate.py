"""Syntax and arguments -> IR. One pass: library code asks for shapes, so they are inferred while it is evaluated."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import cast

from archdsl.base import limits
from archdsl.base.diagnostics import ArchError, error
from archdsl.base.source import Span
from archdsl.core import ir
from archdsl.core.data import DataSet
from archdsl.core.types import Shape
from archdsl.frontend import syntax
from archdsl.frontend.binding import complete, missing
from archdsl.frontend.builder import Frame
from archdsl.frontend.evaluate import Scope, origin
from archdsl.frontend.flows import Flows, lifted, renamed
from archdsl.frontend.recipes import Settings, settings_of
from archdsl.frontend.resolve import Module
from archdsl.frontend.syntax import Block, Net
from archdsl.frontend.values import Template, Value, describe

PREVIEW = Shape((16, 32, 32))
"""What a block is shown on when nothing says otherwise: the first stage of the CIFAR networks."""


@dataclass(frozen=True, slots=True)
class Root:
    """The outermost block of a network and what its definitions say beside it."""

    block: ir.Block
    training: tuple[Settings, ...]
    """What the definitions that it is built from say of training, the innermost first."""
    start: tuple[Settings, ...]
    """What they say of how weights start."""
    doc: str
    home: Module
    """Where the body of a family is defined; the spec itself for a block or a flow."""


class Elaborator(Flows):
    """Elaborates networks: what they read, and their root block."""

    def begin(self) -> None:
        """Begin another network of the spec."""
        self.all_work += self.work
        self.work = 0

    def template(self, module: Module, expr: syntax.Expr) -> Template | None:
        """The template that an expression names at the top level of a file; None for a flow such as `a -> b`."""
        if not isinstance(expr, syntax.Name | syntax.Call | syntax.Multiply):
            return None
        scope = self._top(module)
        value = self.eval(expr, scope)
        if not isinstance(value, Template):
            raise error("not-a-value", expr.span, expected="a network or block", found=describe(value))
        return value

    def data(
        self, module: Module, on: syntax.On | None, template: Template | None
    ) -> tuple[DataSet | Shape, int | None]:
        """What a network reads: the `on` clause given, else the one of its family, else the preview shape."""
        if on is not None:
            return self._on(on, self._top(module))
        if template and isinstance(template.callee, Net) and template.callee.on:
            frame = self._frame(template, module, 0)
            scope = Scope(frame, dict(frame.values), None, None)
            self._defaults(template, frame, scope.names, scope)
            return self._on(template.callee.on, scope)
        return PREVIEW, None

    def root(self, module: Module, template: Template, shape: Shape, classes: int | None, span: Span) -> Root:
        """The root block of a network: a family's body, or, for a block, the block itself."""
        if not isinstance(template.callee, Net):
            if isinstance(template.callee, Block) and not template.callee.sequence and not missing(template):
                home = self._home(template, module)
                return Root(self.block(template, home, shape, span, 0), (), (), template.callee.doc, module)
            statement = syntax.Result(span, syntax.Name(span, template.name))
            return self._root_of_flow(module, {template.name: template}, (statement,), shape, classes, span, "Network")
        return self._net(template, module, shape, classes, span, template.callee.name, 0)

    def flow(self, module: Module, expr: syntax.Expr, shape: Shape, classes: int | None, name: str) -> Root:
        """The root block of a network that is written as a flow."""
        return self._root_of_flow(module, {}, (syntax.Result(expr.span, expr),), shape, classes, expr.span, name)

    def _root_of_flow(
        self,
        module: Module,
        names: dict[str, Value],
        body: tuple[syntax.Statement, ...],
        shape: Shape,
        classes: int | None,
        span: Span,
        name: str,
    ) -> Root:
        frame = Frame(name, module, {**names, "classes": classes}, {}, 0)
        builder = self._open(frame, 0, shape)
        scope = Scope(frame, dict(frame.values), builder, builder.input())
        output = self._body(body, scope, span)
        return Root(self._finish(frame, builder, output, origin(span), "", named=True), (), (), "", module)

    def _net(
        self, template: Template, module: Module, shape: Shape, classes: int | None, span: Span, name: str, depth: int
    ) -> Root:
        net = cast(Net, template.callee)
        complete(template, span)
        home = self._home(template, module)
        if depth > limits.NESTING:
            raise error("recursion", span, limit=limits.NESTING)
        try:
            frame = self._frame(template, home, depth)
            frame.is_net = True
            frame.values["classes"] = classes
            builder = self._open(frame, 0, shape)
            scope = Scope(frame, dict(frame.values), builder, builder.input())
            self._defaults(template, frame, scope.names, scope)
            value = self._statements(net.body, scope, net.name_span)
            outside = Scope(frame, dict(frame.values), None, None)
            training, start = (settings_of(net.body, outside, clause) for clause in (syntax.Train, syntax.Init))
            if isinstance(value, Template) and isinstance(value.callee, Net):
                inner = self._net(value, home, shape, classes, _result_span(net), name, depth + 1)
                # What another file says of its network need not hold of this family.
                lent = value.callee.span.source is not net.span.source and net.doc
                block = replace(inner.block, doc=net.doc) if lent else inner.block
                doc = net.doc or inner.doc
                return Root(block, (*inner.training, training), (*inner.start, start), doc, inner.home)
            if value is None:
                raise error("no-result", net.name_span, name=net.name)
            output = self._tensor(value, scope, _result_span(net))
            block = self._finish(frame, builder, output, origin(net.span), net.doc, named=True)
            return Root(renamed(block, name), (training,), (start,), net.doc, home)
        except ArchError as problem:
            raise lifted(problem, span, template) from None

    def _on(self, on: syntax.On, scope: Scope) -> tuple[DataSet | Shape, int | None]:
        value = self.eval(on.data, scope)
        classes = self.eval(on.classes, scope) if on.classes else None
        if on.classes and not (isinstance(classes, int) and not isinstance(classes, bool) and classes >= 1):
            what = "the number of classes"
            raise error("bad-count", on.classes.span, what=what, least=1, found=describe(classes))
        if isinstance(value, DataSet):
            return value, cast(int, classes) if on.classes else value.classes
        if isinstance(value, Shape):
            if value.size > limits.ELEMENTS:
                raise error("too-large", on.data.span, problem="an image of more than 2^48 elements")
            if len(value.dims) not in (1, 3) or 0 in value.dims:
                raise error("not-a-value", on.data.span, expected="a shape such as 3x32x32", found=describe(value))
            return value, cast("int | None", classes)
        raise error("not-a-value", on.data.span, expected="a data set or a shape", found=describe(value))


def _result_span(net: Net) -> Span:
    return next((s.span for s in net.body if isinstance(s, syntax.Result)), net.name_span)
