"""Syntax and arguments -> IR. One pass: library code asks for shapes, so they are inferred while it is evaluated."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import cast

from archdsl.base.diagnostics import ArchError, Diagnostic, Note, error
from archdsl.base.diagnostics import Label as Mark
from archdsl.base.source import Span
from archdsl.base.suggest import did_you_mean, spoken
from archdsl.core import ir
from archdsl.core.data import DataSet
from archdsl.core.ir import Apply, Label, Layer, Loop, Origin, Region, Run, Select
from archdsl.core.primitives import PRIMITIVES, Primitive, ShapeError
from archdsl.core.types import Scalar, Shape
from archdsl.frontend import syntax
from archdsl.frontend.binding import Given, bind, missing, parameters, primitive_args
from archdsl.frontend.builder import Builder, Frame, auto_label, name_unlabelled, shifted, snake
from archdsl.frontend.resolve import Library, Module, any_expression, children, expressions_of, unknown_name
from archdsl.frontend.syntax import Block, Net
from archdsl.frontend.values import Choice, Shared, Template, Tensor, Value, arithmetic, describe, is_number, show

PREVIEW = Shape((16, 32, 32))
"""What a block is shown on when nothing says otherwise: the first stage of the CIFAR networks."""

NESTING = 100
"""Definitions nested more deeply than this are taken for endless."""


@dataclass(frozen=True, slots=True)
class Scope:
    """Where an expression is evaluated: its names, its region, and what `in` means."""

    frame: Frame
    names: dict[str, Value]
    builder: Builder | None
    input: Tensor | None
    loops: int = 0
    """How many loops are around."""


@dataclass(frozen=True, slots=True)
class Root:
    """The outermost block of a network and what its definitions say beside it."""

    block: ir.Block
    settings: tuple[syntax.Setting, ...]
    doc: str


class Elaborator:
    """Elaborates networks; blocks of equal arguments and input are elaborated once."""

    def __init__(self, library: Library) -> None:
        self.library = library
        self._blocks: dict[object, ir.Block] = {}

    # ---- networks

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
            if isinstance(template.callee, Block) and not missing(template):
                home = self._home(template, module)
                return Root(self.block(template, home, shape, span, 0), (), template.callee.doc)
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
        return Root(self._finish(frame, builder, output, _origin(span), "", named=True), (), "")

    def _net(
        self, template: Template, module: Module, shape: Shape, classes: int | None, span: Span, name: str, depth: int
    ) -> Root:
        net = cast(Net, template.callee)
        self._complete(template, span)
        home = self._home(template, module)
        if depth > NESTING:
            raise error("recursion", span, limit=NESTING)
        try:
            frame = self._frame(template, home, depth)
            frame.values["classes"] = classes
            builder = self._open(frame, 0, shape)
            scope = Scope(frame, dict(frame.values), builder, builder.input())
            self._defaults(template, frame, scope.names, scope)
            value = self._statements(net.body, scope, net.name_span)
            settings = tuple(s for t in net.body if isinstance(t, syntax.Train) for s in t.settings)
            if isinstance(value, Template) and isinstance(value.callee, Net):
                inner = self._net(value, home, shape, classes, _result_span(net), name, depth + 1)
                return Root(inner.block, (*inner.settings, *settings), net.doc or inner.doc)
            if value is None:
                raise error("no-result", net.name_span, name=net.name)
            output = self._tensor(value, scope, _result_span(net))
            block = self._finish(frame, builder, output, _origin(net.span), net.doc, named=True)
            return Root(_renamed(block, name), settings, net.doc)
        except ArchError as problem:
            raise _lifted(problem, span, net.name) from None

    def _on(self, on: syntax.On, scope: Scope) -> tuple[DataSet | Shape, int | None]:
        value = self.eval(on.data, scope)
        classes = self.eval(on.classes, scope) if on.classes else None
        if on.classes and not (isinstance(classes, int) and not isinstance(classes, bool) and classes >= 1):
            what = "the number of classes"
            raise error("bad-count", on.classes.span, what=what, least=1, found=describe(classes))
        if isinstance(value, DataSet):
            return value, cast(int, classes) if on.classes else value.classes
        if isinstance(value, Shape):
            if len(value.dims) not in (1, 3) or 0 in value.dims:
                raise error("not-a-value", on.data.span, expected="a shape such as 3x32x32", found=describe(value))
            return value, cast("int | None", classes)
        raise error("not-a-value", on.data.span, expected="a data set or a shape", found=describe(value))

    # ---- blocks

    def block(self, template: Template, module: Module, shape: Shape, span: Span, depth: int) -> ir.Block:
        """The block of a complete template on an input. Raises ArchError, the user's line first."""
        block = cast(Block, template.callee)
        key = (id(block), _key(template.args), shape)
        if key in self._blocks:
            return self._blocks[key]
        if depth > NESTING:
            raise error("recursion", span, limit=NESTING)
        try:
            frame = self._frame(template, module, depth)
            frame.numbered = block.sequence is not None
            builder = self._open(frame, 0, shape)
            scope = Scope(frame, dict(frame.values), builder, builder.input())
            self._defaults(template, frame, scope.names, scope)
            if block.sequence:
                output = self._items(block.sequence, scope)
            else:
                output = self._body(block.body, scope, block.name_span, block.name)
            done = self._finish(frame, builder, output, _origin(block.span), block.doc, True, _constants(block))
        except ArchError as problem:
            raise _lifted(problem, span, block.name) from None
        self._blocks[key] = _renamed(done, block.name)
        return self._blocks[key]

    def _frame(self, template: Template, module: Module, depth: int) -> Frame:
        callee = cast("Block | Net", template.callee)
        choices: dict[str, Value] = {c: Choice(c) for p in callee.params for c in p.choices}
        return Frame(callee.name, module, {**choices, **dict(template.args)}, dict(template.spans), depth)

    def _defaults(self, template: Template, frame: Frame, names: dict[str, Value], scope: Scope) -> None:
        """Evaluate the defaults of the parameters that were not given, in order."""
        bound = dict(template.args)
        for param in cast("Block | Net", template.callee).params:
            if param.name not in bound:
                value: Value = ()
                if param.default is not None:
                    value = self._argument(param.default, param, scope)
                names[param.name] = frame.values[param.name] = value
            _note_scalar(frame.scalars, param.name, names[param.name])

    def _open(self, frame: Frame, level: int, shape: Shape) -> Builder:
        builder = Builder(level, shape)
        frame.open[builder.id] = builder
        return builder

    def _finish(
        self,
        frame: Frame,
        builder: Builder,
        output: Tensor,
        origin: Origin,
        doc: str,
        named: bool,
        defaults: tuple[tuple[str, Scalar], ...] = (),
    ) -> ir.Block:
        region = self._close(frame, builder, output)
        region = name_unlabelled(region, set(frame.labels))
        style = "sequence" if frame.numbered else "module"
        numbers = (tuple(frame.scalars.items()), tuple(frame.lets.items()))
        return ir.Block(frame.name, style, origin, named, *numbers, defaults, region, output.shape, doc)  # type: ignore[arg-type]

    def _close(self, frame: Frame, builder: Builder, output: Tensor) -> Region:
        region = builder.close(output)
        del frame.open[builder.id]
        return region

    # ---- statements

    def _body(self, body: tuple[syntax.Statement, ...], scope: Scope, span: Span, name: str = "") -> Tensor:
        value = self._statements(body, scope, span)
        if value is None:
            raise error("no-result", span, name=name or scope.frame.name)
        result = next(s for s in body if isinstance(s, syntax.Result))
        return self._tensor(value, scope, result.span)

    def _statements(self, body: tuple[syntax.Statement, ...], scope: Scope, span: Span) -> Value:
        """Run the statements of a body; the value of its result. Adds to the names of the scope."""
        result: Value = None
        first: syntax.Result | None = None
        for statement in body:
            match statement:
                case syntax.Let():
                    value = self.eval(statement.value, scope)
                    scope.names[statement.name] = value
                    if isinstance(value, Tensor):
                        self._hint(scope, value, statement.name)
                    _note_scalar(scope.frame.lets, statement.name, value)
                case syntax.Share():
                    value = self.eval(statement.value, scope)
                    if not isinstance(value, Template):
                        raise error("not-a-value", statement.value.span, expected="a block", found=describe(value))
                    scope.names[statement.name] = Shared(statement.name, value, statement.value.span)
                case syntax.Require():
                    self._require(statement, body, scope)
                case syntax.Auxiliary():
                    self._auxiliary(statement, scope)
                case syntax.Result():
                    if first:
                        raise error("after-result", statement.span, secondary=(Mark(first.span, "the first"),))
                    first = statement
                    result = self.eval(statement.value, scope)
                case syntax.Expect() | syntax.Train():
                    pass
        return result

    def _hint(self, scope: Scope, value: Tensor, name: str) -> None:
        builder = scope.frame.open.get(value.owner)
        if builder and value.ref.index and all(i != value.ref.index for i, _ in builder.names):
            builder.names.append((value.ref.index, name))

    def _auxiliary(self, statement: syntax.Auxiliary, scope: Scope) -> None:
        weight = self.eval(statement.weight, scope)
        if not is_number(weight):
            raise error("not-a-value", statement.weight.span, expected="the weight of a loss", found=describe(weight))
        value = self._tensor(self.eval(statement.value, scope), scope, statement.value.span)
        scope.frame.auxiliary.append((self._use(value, scope, statement.value.span), cast(Scalar, weight)))

    def _require(self, statement: syntax.Require, body: tuple[syntax.Statement, ...], scope: Scope) -> None:
        if self._condition(statement.condition, scope):
            return
        words = re.sub(r"\{([A-Za-z_]\w*)\}", lambda m: show(scope.names[m[1]]), statement.message.value)
        culprit = self._culprit(statement, scope)
        if culprit is None:
            raise error("require", statement.condition.span, message=words)
        name, span = culprit
        note = Note(f"required by `{scope.frame.name}`", Mark(statement.condition.span))
        help = self._legal(name, statement, body, scope)
        raise error("require", span, f"{name} is {show(scope.names[name])}", message=words, notes=(note,), help=help)

    def _culprit(self, statement: syntax.Require, scope: Scope) -> tuple[str, Span] | None:
        """The argument that a requirement speaks of, directly or through lets, and where it was written."""
        frame = scope.frame
        mentioned = [n for n in frame.spans if _mentions(statement.condition, n)]
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
            legal = next((v for v in tries if v > 0 and self._meets(name, v, body, scope)), None)
            if legal is not None:
                found.append(str(legal))
        if not found:
            return None
        return f"nearest valid {name}{'s are' if len(found) > 1 else ' is'} {spoken(found, 'and')}"

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
                if problem.diagnostics[0].key != "needs-input":
                    return False
        return True

    # ---- expressions

    def eval(self, expr: syntax.Expr, scope: Scope) -> Value:
        """The value of an expression; flows become tensors of the region under construction."""
        match expr:
            case syntax.Number(value=value) | syntax.String(value=value) | syntax.Constant(value=value):
                return value
            case syntax.ShapeLiteral():
                return Shape(expr.dims)
            case syntax.Name():
                return self._name(expr, scope)
            case syntax.Input():
                return self._input(expr.span, scope)
            case syntax.ListExpr():
                return tuple(self.eval(item, scope) for item in expr.items)
            case syntax.Attribute():
                return self._attribute(expr, scope)
            case syntax.Index():
                return self._index(expr, scope)
            case syntax.Call():
                return self._call(expr, scope)
            case syntax.Multiply():
                return self._multiply(expr, scope)
            case syntax.Unary(operator="not"):
                return not self._condition(expr.operand, scope)
            case syntax.Unary():
                return arithmetic("-", 0, self.eval(expr.operand, scope), expr.span)
            case syntax.Binary():
                return self._binary(expr, scope)
            case syntax.If():
                return self._select(expr, scope, None)
            case syntax.Chain():
                tensor = self._tensor(self.eval(expr.head, scope), scope, expr.head.span)
                for step in expr.steps:
                    tensor = self._step(step, tensor, scope)
                return tensor
            case syntax.Labelled() | syntax.Group() | syntax.Loop() | syntax.Join():
                return self._step(expr, self._input(expr.span, scope), scope)

    def _name(self, name: syntax.Name, scope: Scope) -> Value:
        if name.name in scope.names:
            known = scope.names[name.name]
            if name.name == "classes" and known is None:
                help = "say what the network reads: `on cifar10`, or `on 3x160x160 -> 37`"
                raise error("no-classes", name.span, help=help)
            return known
        found = self.library.find(name.name, scope.frame.module)
        if found is None:
            visible = [*scope.names, *self.library.known(scope.frame.module)]
            raise ArchError(unknown_name(name, visible))
        value = found[0]
        return value if isinstance(value, DataSet) else Template(value)

    def _input(self, span: Span, scope: Scope) -> Tensor:
        if scope.input is None or scope.builder is None:
            raise error("needs-input", span, name="in")
        return scope.input

    def _attribute(self, expr: syntax.Attribute, scope: Scope) -> Value:
        if isinstance(expr.owner, syntax.Input) and scope.input is not None:
            owner: Value = scope.input
        else:
            owner = self.eval(expr.owner, scope)
        known: dict[str, Value] = {}
        if isinstance(owner, Tensor | Shape | DataSet):
            shape = owner if isinstance(owner, Shape) else owner.shape
            known = dict(zip(("channels", "height", "width"), shape.dims, strict=False))
        elif isinstance(owner, tuple):
            known = {"length": len(owner)}
        if expr.name not in known:
            help = did_you_mean(expr.name, known) or (f"it has {spoken(known, 'and')}" if known else None)
            raise error("bad-attribute", expr.span, owner=describe(owner), name=expr.name, help=help)
        return known[expr.name]

    def _index(self, expr: syntax.Index, scope: Scope) -> Value:
        owner, index = self.eval(expr.owner, scope), self.eval(expr.index, scope)
        if not isinstance(owner, tuple) or not isinstance(index, int) or isinstance(index, bool):
            problem = f"{describe(owner)} cannot be indexed by {describe(index)}"
            raise error("bad-index", expr.span, problem=problem)
        if not -len(owner) <= index < len(owner):
            raise error("bad-index", expr.span, problem=f"index {index} of a list of {len(owner)}")
        return owner[index]

    def _condition(self, expr: syntax.Expr, scope: Scope) -> bool:
        value = self.eval(expr, scope)
        if not isinstance(value, bool):
            raise error("bad-condition", expr.span, found=describe(value))
        return value

    def _binary(self, expr: syntax.Binary, scope: Scope) -> Value:
        if expr.operator in ("and", "or"):
            left = self._condition(expr.left, scope)
            return left if left == (expr.operator == "or") else self._condition(expr.right, scope)
        operands = _flattened(expr) if expr.operator in ("+", "*") else [expr.left, expr.right]
        values = [self.eval(e, scope) for e in operands]
        if any(isinstance(v, Tensor | Template | Shared) for v in values) and expr.operator in ("+", "*"):
            kind = "add" if expr.operator == "+" else "multiply"
            return self._operator(kind, list(zip(values, (e.span for e in operands), strict=True)), scope, expr.span)
        result = values[0]
        for value in values[1:]:
            result = arithmetic(expr.operator, result, value, expr.span)
        return result

    def _operator(self, kind: str, operands: list[tuple[Value, Span]], scope: Scope, span: Span) -> Tensor:
        """Join tensors. A shape error names the first operand that differs, and shows the shapes of all."""
        tensors = [self._tensor(value, scope, at) for value, at in operands]
        shapes = tuple(t.shape for t in tensors)
        first = 1 if kind == "concat" else 0
        odd = next((i for i, s in enumerate(shapes) if s.dims[first:] != shapes[0].dims[first:]), None)
        if odd is not None:
            what = {"add": "a sum", "multiply": "a product", "concat": "a concatenation"}[kind]
            marks = tuple(Mark(at, f"this is {s}") for (_, at), s in zip(operands, shapes, strict=True))
            secondary = tuple(m for i, m in enumerate(marks) if i != odd)
            text = spoken((str(s) for s in shapes), "and")
            raise error("unequal-shapes", marks[odd].span, marks[odd].text, what=what, shapes=text, secondary=secondary)
        if len(tensors) == 1:
            return tensors[0]
        refs = tuple(self._use(t, scope, at) for t, (_, at) in zip(tensors, operands, strict=True))
        output = PRIMITIVES[kind].output({}, shapes)
        return self._add(scope, Apply(Layer(kind), None, refs, shapes, output, _origin(span)), span)

    # ---- calls

    def _call(self, expr: syntax.Call, scope: Scope) -> Value:
        callee = self.eval(expr.callee, scope)
        if not isinstance(callee, Template):
            raise error("not-callable", expr.callee.span, found=describe(callee))
        return bind(callee, self._given(expr.args, callee, scope), expr.span)

    def _multiply(self, expr: syntax.Multiply, scope: Scope) -> Value:
        """`f x[k=4]`: sets `k` of a residual block; any other block is the residual function of a `Residual`."""
        callee = self.eval(expr.callee, scope)
        if not isinstance(callee, Template):
            raise error("not-callable", expr.callee.span, found=describe(callee))
        for arg in expr.args:
            if arg.name is None:
                raise error("unexpected", arg.span, found="argument without a name", help="write it as in `x[k=4]`")
        names = {p.name for p in parameters(callee.callee)}
        if not all(arg.name in names for arg in expr.args):
            found = self.library.find("Residual", scope.frame.module)
            assert found and isinstance(found[0], Block)
            given = Given("function", callee, expr.callee.span, expr.callee.span)
            callee = bind(Template(found[0]), [given], expr.span)
        return bind(callee, self._given(expr.args, callee, scope), expr.span)

    def _given(self, args: tuple[syntax.Argument, ...], callee: Template, scope: Scope) -> list[Given]:
        params = parameters(callee.callee)
        bound = dict(callee.args)
        positional = iter([p for p in params if p.name not in bound])
        given = []
        for arg in args:
            param = next((p for p in params if p.name == arg.name), None) if arg.name else next(positional, None)
            if arg.spread:
                values = self.eval(arg.value, scope)
                if not isinstance(values, tuple):
                    raise error("not-a-value", arg.value.span, expected="a list after `*`", found=describe(values))
                given += [Given(None, v, arg.value.span, arg.span) for v in values]
                continue
            value = self._argument(arg.value, param, scope)
            given.append(Given(arg.name, value, self._written(arg.value, scope), arg.span))
        return given

    def _argument(self, expr: syntax.Expr, param: syntax.Param | None, scope: Scope) -> Value:
        """The value of an argument; a bare name that its parameter lists is that choice."""
        if param and param.choices and isinstance(expr, syntax.Name):
            if expr.name in param.choices:
                return Choice(expr.name)
            if expr.name not in scope.names and not self.library.find(expr.name, scope.frame.module):
                return Choice(expr.name)
        value = self.eval(expr, scope)
        if isinstance(value, Tensor):
            help = "apply the block to it: `value -> block`"
            raise error("not-a-value", expr.span, expected="an argument", found=describe(value), help=help)
        return value

    def _written(self, expr: syntax.Expr, scope: Scope) -> Span:
        """Where a value was written: for a parameter passed on, where the caller wrote it."""
        if isinstance(expr, syntax.Name) and scope.names.get(expr.name) is scope.frame.values.get(expr.name):
            return scope.frame.spans.get(expr.name, expr.span)
        return expr.span

    # ---- flows

    def _tensor(self, value: Value, scope: Scope, span: Span) -> Tensor:
        """A value where a tensor is due: a block is applied to `in`."""
        match value:
            case Tensor():
                return value
            case Template():
                return self._instantiate(value, self._input(span, scope), scope, None, span)
            case Shared():
                return self._shared(value, self._input(span, scope), scope, span)
            case _:
                raise error("not-a-value", span, expected="a tensor or a block", found=describe(value))

    def _use(self, tensor: Tensor, scope: Scope, span: Span) -> ir.Ref:
        builder = scope.frame.open.get(tensor.owner)
        if builder is None:
            help = "a labelled group or list has one input; bring the value in by `->`"
            raise error("not-a-value", span, expected="a value of this block", found="one from outside", help=help)
        builder.used.add(tensor.ref.index)
        return tensor.ref

    def _add(self, scope: Scope, step: ir.Step, span: Span) -> Tensor:
        assert scope.builder is not None
        return scope.builder.add(step, span)

    def _step(self, expr: syntax.Expr, tensor: Tensor, scope: Scope) -> Tensor:
        """Apply a step of a chain to a tensor."""
        match expr:
            case syntax.Labelled():
                return self._labelled(expr, tensor, scope)
            case syntax.Group():
                inner = replace(scope, names=dict(scope.names), input=tensor)
                return self._body(expr.body, inner, expr.span, "this group")
            case syntax.Loop(kind="sequence"):
                return self._sequence(expr, tensor, scope)
            case syntax.Loop():
                return self._parallel(expr, tensor, scope)
            case syntax.Join():
                inner = replace(scope, input=tensor)
                kind = "add" if expr.kind == "sum" else expr.kind
                self._outside_list(scope, expr.span, f"`{expr.kind}`")
                return self._operator(kind, [(self.eval(b, inner), b.span) for b in expr.branches], inner, expr.span)
            case syntax.If():
                value = self._select(expr, scope, tensor)
                assert isinstance(value, Tensor)
                return value
            case syntax.Chain():
                for part in (expr.head, *expr.steps):
                    tensor = self._step(part, tensor, scope)
                return tensor
            case syntax.ListExpr():
                problem = "a list of modules needs a label, as in `layers: [...]`"
                raise error("needs-label", expr.span, problem=problem)
        value = self.eval(expr, scope)
        match value:
            case Template():
                return self._instantiate(value, tensor, scope, None, expr.span)
            case Shared():
                return self._shared(value, tensor, scope, expr.span)
            case _:
                raise error("not-a-value", expr.span, expected="a block after `->`", found=describe(value))

    def _outside_list(self, scope: Scope, span: Span, what: str) -> None:
        if scope.frame.numbered:
            raise error("not-sequential", span, found=what, help="give it a block of its own")

    def _instantiate(
        self, template: Template, tensor: Tensor, scope: Scope, label: Label | None, span: Span, again: bool = False
    ) -> Tensor:
        """Apply a new module of a template to a tensor."""
        self._complete(template, span)
        if isinstance(template.callee, Net):
            problem = f"`{template.name}` is a whole network and cannot be a part of another"
            raise error("needs-label", span, problem=problem)
        if isinstance(template.callee, Primitive):
            return self._layer(template, tensor, scope, label, span, again)
        home = self._home(template, scope.frame.module)
        if template.callee.inline:
            return self._inline(template, home, tensor, scope, label, span)
        block = self.block(template, home, tensor.shape, span, scope.frame.depth + 1)
        label = self._label(label, snake(block.name), scope)
        ref = self._use(tensor, scope, span)
        step = Apply(block, label, (ref,), (tensor.shape,), block.output, _origin(span), again)
        return self._add(scope, step, span)

    def _inline(
        self, template: Template, module: Module, tensor: Tensor, scope: Scope, label: Label | None, span: Span
    ) -> Tensor:
        """Apply a `flow` in place: its steps and labels join the block around it."""
        flow = cast(Block, template.callee)
        outer = scope.frame
        if label:
            raise error("bad-label", span, problem=f"`{flow.name}` is a flow, not a module, and cannot be labelled")
        if outer.depth > NESTING:
            raise error("recursion", span, limit=NESTING)
        try:
            own = self._frame(template, module, outer.depth + 1)
            frame = replace(outer, name=flow.name, module=module, values=own.values, spans=own.spans, scalars={})
            frame.depth += 1
            inner = Scope(frame, dict(frame.values), scope.builder, tensor, scope.loops)
            self._defaults(template, frame, inner.names, inner)
            return self._body(flow.body, inner, flow.name_span, flow.name)
        except ArchError as problem:
            raise _lifted(problem, span, flow.name) from None

    def _layer(
        self, template: Template, tensor: Tensor, scope: Scope, label: Label | None, span: Span, again: bool
    ) -> Tensor:
        primitive = cast(Primitive, template.callee)
        if primitive.name == "Identity" and not scope.frame.numbered:
            if label:
                raise error("bad-label", span, problem="`Identity` is no module, and cannot be labelled")
            return tensor
        if not primitive.in_list:
            self._outside_list(scope, span, f"`{primitive.name}`")
        args = primitive_args(template)
        try:
            output = primitive.output(args, (tensor.shape,))
        except ShapeError as problem:
            raise error("shape", span, f"its input is {tensor.shape}", message=str(problem)) from None
        if label is None and not primitive.needs_module and not scope.frame.numbered:
            found = None
        else:
            found = self._label(label, primitive.label or snake(primitive.name), scope)
        ref = self._use(tensor, scope, span)
        step = Apply(
            Layer(primitive.name, tuple(args.items())), found, (ref,), (tensor.shape,), output, _origin(span), again
        )
        return self._add(scope, step, span)

    def _label(self, label: Label | None, stem: str, scope: Scope) -> Label:
        if scope.frame.numbered:
            return Label("number")
        return label or auto_label(stem)

    def _complete(self, template: Template, span: Span) -> None:
        names = missing(template)
        if names:
            words = {"callee": template.name, "names": spoken((f"`{n}`" for n in names), "and")}
            raise error("missing-argument", span, **words)

    def _home(self, template: Template, module: Module) -> Module:
        """The module in which a definition was written: names in its body mean what they mean there."""
        return self.library.home(template.callee) or module

    def _shared(self, shared: Shared, tensor: Tensor, scope: Scope, span: Span) -> Tensor:
        frame = scope.frame
        if shared.name not in frame.shared:
            label = frame.take(Label("plain", shared.name), shared.span)
            result = self._instantiate(shared.template, tensor, scope, label, shared.span)
            frame.shared[shared.name] = (tensor.shape, result.shape)
            return result
        first, _ = frame.shared[shared.name]
        if first != tensor.shape:
            raise error("share-shape", span, name=shared.name, second=tensor.shape, first=first)
        label = Label("plain", shared.name)
        return self._instantiate(shared.template, tensor, scope, label, span, again=True)

    def _labelled(self, expr: syntax.Labelled, tensor: Tensor, scope: Scope) -> Tensor:
        if scope.frame.numbered:
            problem = "the modules of a list are numbered, and take no labels"
            raise error("bad-label", expr.label.span, problem=problem)
        label = self._label_of(expr.label, scope)
        match expr.body:
            case syntax.ListExpr():
                return self._anonymous(expr, expr.body, tensor, scope, label)
            case syntax.Group():
                return self._anonymous(expr, expr.body, tensor, scope, label)
            case _:
                value = self.eval(expr.body, scope)
                if not isinstance(value, Template):
                    problem = f"a label names a module, and this is {describe(value)}"
                    raise error("bad-label", expr.body.span, problem=problem)
                return self._instantiate(value, tensor, scope, label, expr.body.span)

    def _label_of(self, label: syntax.LabelName, scope: Scope) -> Label:
        index = 0
        if label.index:
            value = self.eval(label.index, scope)
            if not isinstance(value, int) or isinstance(value, bool) or value < 0:
                what = "the number of a label"
                raise error("bad-count", label.index.span, what=what, least=0, found=describe(value))
            index = value
        return scope.frame.take(Label(label.style, label.stem, index), label.span, scope.loops > 0)

    def _anonymous(
        self,
        expr: syntax.Labelled,
        body: syntax.ListExpr | syntax.Group,
        tensor: Tensor,
        scope: Scope,
        label: Label,
    ) -> Tensor:
        """A labelled list or group: a module of its own, which reads nothing but its input."""
        outer = scope.frame
        name = "".join(part.capitalize() for part in expr.label.stem.split("_"))
        numbered = isinstance(body, syntax.ListExpr)
        frame = Frame(name, outer.module, outer.values, outer.spans, outer.depth, numbered)
        builder = self._open(frame, 0, tensor.shape)
        inner = Scope(frame, dict(scope.names), builder, builder.input())
        frame.scalars = {n: v for n, v in outer.scalars.items() if n in scope.names}
        for n, v in scope.names.items():
            _note_scalar(frame.lets, n, v)
        if isinstance(body, syntax.ListExpr):
            output = self._items(body, inner)
        else:
            output = self._body(body.body, inner, body.span, expr.label.stem)
        block = self._finish(frame, builder, output, _origin(expr.span), "", named=False)
        ref = self._use(tensor, scope, expr.span)
        step = Apply(block, label, (ref,), (tensor.shape,), block.output, _origin(expr.span))
        return self._add(scope, step, expr.span)

    def _items(self, items: syntax.ListExpr, scope: Scope) -> Tensor:
        tensor = self._input(items.span, scope)
        if not items.items:
            raise error("no-result", items.span, name=scope.frame.name)
        for item in items.items:
            tensor = self._step(item, tensor, scope)
        return tensor

    # ---- choices and loops

    def _select(self, expr: syntax.If, scope: Scope, tensor: Tensor | None) -> Value:
        """The arm that the condition takes; where it is a flow, wrapped, so that a class can serve both arms."""
        taken = self._condition(expr.condition, scope)
        arm = expr.then if taken else expr.otherwise
        if scope.builder is None or scope.frame.numbered:
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
        return self._add(scope, Select(0 if taken else 1, region, value.shape, _origin(expr.span)), expr.span)

    def _iterations(self, loop: syntax.Loop, scope: Scope) -> tuple[int, tuple[Value, ...] | None]:
        if loop.items:
            items = self.eval(loop.items, scope)
            if not isinstance(items, tuple):
                raise error("not-a-value", loop.items.span, expected="a list", found=describe(items))
            return len(items), items
        assert loop.count
        value = self.eval(loop.count, scope)
        whole = int(value) if isinstance(value, Fraction) and value.denominator == 1 else value
        least = 0 if loop.kind == "sequence" else 1
        if not isinstance(whole, int) or isinstance(whole, bool) or whole < least:
            what = "the count of a loop"
            raise error("bad-count", loop.count.span, what=what, least=least, found=describe(value))
        return whole, None

    def _sequence(self, loop: syntax.Loop, tensor: Tensor, scope: Scope) -> Tensor:
        count, items = self._iterations(loop, scope)
        if count == 0:
            return tensor
        runs, output = self._runs(loop, count, items, tensor.shape, scope)
        ref = self._use(tensor, scope, loop.span)
        return self._add(scope, Loop("sequence", runs, ref, output, _origin(loop.span)), loop.span)

    def _parallel(self, loop: syntax.Loop, tensor: Tensor, scope: Scope) -> Tensor:
        self._outside_list(scope, loop.span, f"`{loop.kind}`")
        count, items = self._iterations(loop, scope)
        if count == 0:
            raise error("bad-count", loop.span, what="the count of a loop", least=1, found="an empty list")
        runs, output = self._runs(loop, count, items, tensor.shape, scope)
        ref = self._use(tensor, scope, loop.span)
        return self._add(scope, Loop(loop.kind, runs, ref, output, _origin(loop.span)), loop.span)

    def _runs(
        self, loop: syntax.Loop, count: int, items: tuple[Value, ...] | None, shape: Shape, scope: Scope
    ) -> tuple[tuple[Run, ...], Shape]:
        """Elaborate iterations until two in a row are equal; those that remain are equal too and are only counted."""
        frame = scope.frame
        repeats = items is None and not (loop.index and _matters(loop.body, loop.index))
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
        if loop.kind == "sum":
            odd = next((s for s in outputs if s != outputs[0]), None)
            text = f"{outputs[0]} and {odd}"
        else:
            odd = next((s for s in outputs if s.dims[1:] != outputs[0].dims[1:]), None)
            text = f"{outputs[0]} and {odd}"
        if odd:
            what = "a sum" if loop.kind == "sum" else "a concatenation"
            raise error("unequal-shapes", loop.span, what=what, shapes=text)
        if loop.kind == "sum":
            return outputs[0]
        return outputs[0].with_channels(sum(r.count * s.channels for r, s in zip(runs, outputs, strict=True)))

    def _iteration(
        self, loop: syntax.Loop, i: int, items: tuple[Value, ...] | None, shape: Shape, scope: Scope
    ) -> tuple[Region, Shape]:
        assert scope.builder is not None
        builder = self._open(scope.frame, scope.builder.level + 1, shape)
        names = dict(scope.names)
        if loop.index:
            names[loop.index] = i
        if loop.item and items:
            names[loop.item] = items[i]
        inner = Scope(scope.frame, names, builder, builder.input(), scope.loops + 1)
        output = self._body(loop.body.body, inner, loop.span, "this loop")
        self._use(output, inner, loop.span)
        region = self._close(scope.frame, builder, output)
        if loop.kind == "sequence" and 0 not in builder.used:
            raise error("unused-value", loop.span, "its body never reads `in`")
        return region, output.shape

    def _top(self, module: Module) -> Scope:
        return Scope(Frame("", module, {}, {}, 0), {}, None, None)


# ---- helpers


def _origin(span: Span) -> Origin:
    return Origin(span.source.name, span.start)


def _result_span(net: Net) -> Span:
    return next((s.span for s in net.body if isinstance(s, syntax.Result)), net.name_span)


def _renamed(block: ir.Block, name: str) -> ir.Block:
    return block if block.name == name else replace(block, name=name)


def _key(args: tuple[tuple[str, Value], ...]) -> tuple[object, ...]:
    """Arguments as a key: `true` and 1 differ."""
    return tuple((name, type(value), value) for name, value in args)


def _constants(block: Block) -> tuple[tuple[str, Scalar], ...]:
    """The parameters whose default is a constant."""
    plain = (syntax.Number, syntax.Constant)
    return tuple((p.name, p.default.value) for p in block.params if isinstance(p.default, plain))


def _note_scalar(scalars: dict[str, Scalar], name: str, value: Value) -> None:
    if isinstance(value, int | Fraction | bool):
        scalars.setdefault(name, value)


def _flattened(expr: syntax.Binary) -> list[syntax.Expr]:
    """`a + b + c` as [a, b, c]."""
    left = expr.left
    if isinstance(left, syntax.Binary) and left.operator == expr.operator:
        return [*_flattened(left), expr.right]
    return [left, expr.right]


def _mentions(expr: syntax.Expr, name: str) -> bool:
    return any_expression(expr, lambda e: isinstance(e, syntax.Name) and e.name == name)


def _matters(body: syntax.Group, index: str) -> bool:
    """Whether the index of a loop changes more than the numbers of labels."""

    def used(expr: syntax.Expr) -> bool:
        if isinstance(expr, syntax.Labelled) and expr.label.index and _counts_up(expr.label.index, index):
            return _mentions(expr.body, index) and used_below(expr.body)
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
            sides = (_mentions(expr.left, index), _mentions(expr.right, index))
            return sides != (True, True) and _counts_up(expr.left if sides[0] else expr.right, index)
        case syntax.Binary(operator="-"):
            return not _mentions(expr.right, index) and _counts_up(expr.left, index)
        case _:
            return False


def _lifted(problem: ArchError, call: Span, name: str) -> ArchError:
    """The error with the user's line first: one inside the library becomes an error of the call, with a note."""
    return ArchError(*(_lift(d, call, name) for d in problem.diagnostics))


def _lift(found: Diagnostic, call: Span, name: str) -> Diagnostic:
    if found.primary is None or not found.primary.span.source.library or call.source.library:
        return found
    inside = Note(f"in the definition of `{name}`", found.primary)
    others = tuple(Note(m.text, m) for m in found.secondary if m.span.source.library)
    kept = tuple(m for m in found.secondary if not m.span.source.library)
    return replace(found, primary=Mark(call), secondary=kept, notes=(inside, *others, *found.notes))
