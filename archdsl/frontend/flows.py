"""Flows: blocks applied to tensors, and what a block is for given arguments and input."""

from __future__ import annotations

import re
from dataclasses import replace
from itertools import pairwise
from typing import cast

from archdsl.base import limits
from archdsl.base.diagnostics import ArchError, Diagnostic, Gathering, Note, error
from archdsl.base.diagnostics import Label as Mark
from archdsl.base.source import Span
from archdsl.core import ir
from archdsl.core.ir import Apply, Label, Layer, Origin
from archdsl.core.primitives import PRIMITIVES, Primitive, ShapeError, parameters_of
from archdsl.core.types import Scalar, Shape
from archdsl.frontend import syntax
from archdsl.frontend.binding import bind, complete, primitive_args
from archdsl.frontend.builder import Builder, Frame, auto_label, name_unlabelled, snake
from archdsl.frontend.evaluate import Scope, origin
from archdsl.frontend.loops import Loops
from archdsl.frontend.resolve import Library, Module
from archdsl.frontend.statements import note_scalar
from archdsl.frontend.syntax import Block, Net
from archdsl.frontend.values import Choice, Shared, Template, Tensor, Value, describe, is_number, show


class Flows(Loops):
    """Applies modules, and elaborates each block once for equal arguments and input."""

    def __init__(self, library: Library) -> None:
        super().__init__(library)
        self._blocks: dict[object, ir.Block] = {}

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
            case tuple():
                raise error("needs-label", span, problem="a list of modules needs a label, as in `layers: [...]`")
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
            case syntax.Join() if expr.args:
                return self._mean(expr, replace(scope, input=tensor, plain=True))
            case syntax.Join():
                inner = replace(scope, input=tensor)
                kind = "add" if expr.kind == "sum" else expr.kind
                self._outside_list(scope, expr.span, f"`{expr.kind}`")
                return self._operator(kind, self._each(expr.branches, inner), inner, expr.span)
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
                applied = isinstance(value, Tensor) and isinstance(expr, syntax.Name)
                help = "a flow is applied where it is written; to use it again make it a `block`" if applied else None
                raise error("not-a-value", expr.span, expected="a block after `->`", found=describe(value), help=help)

    def _mean(self, expr: syntax.Join, scope: Scope) -> Tensor:
        """`mean(drop_path=0.15) { a, b }`. Such a mean that is a branch of another is a part of it."""
        if expr.kind != "mean":
            help = "only a `mean` can do without one of its terms"
            raise error("not-callable", expr.span, found=f"`{expr.kind}`", help=help)
        self._outside_list(scope, expr.span, f"`{expr.kind}`")
        template = Template(PRIMITIVES["DropPath"])
        args = tuple(primitive_args(bind(template, self._given(expr.args, template, scope), expr.span)).items())
        builder = scope.builder
        assert builder
        operands: list[tuple[Value, Span]] = []
        parts = Gathering()
        for branch in expr.branches:
            with parts:
                before = len(builder.steps)
                tensor = self._tensor(self.eval(branch, scope), scope, branch.span)
                operands += [(t, branch.span) for t in builder.take_back(before, tensor, args) or [tensor]]
        parts.settle()
        is_plain = not any(value for _, value in args)
        result = self._operator(
            "mean" if is_plain else "DropPath", operands, scope, expr.span, () if is_plain else args
        )
        if len(operands) > 1:
            builder.means[result.ref.index] = args
        return result

    def _outside_list(self, scope: Scope, span: Span, what: str) -> None:
        if scope.frame.numbered:
            raise error("not-sequential", span, found=what, help="give it a block of its own")

    def _instantiate(
        self, template: Template, tensor: Tensor, scope: Scope, label: Label | None, span: Span, again: bool = False
    ) -> Tensor:
        """Apply a new module of a template to a tensor."""
        complete(template, span)
        if isinstance(template.callee, Net):
            problem = f"`{template.name}` is a whole network and cannot be a part of another"
            raise error("needs-label", span, problem=problem)
        if isinstance(template.callee, Primitive):
            return self._layer(template, tensor, scope, label, span, again)
        home = self._home(template, scope.frame.module)
        if template.callee.inline and label is None:
            return self._inline(template, home, tensor, scope, span)
        block = self.block(template, home, tensor.shape, span, scope.frame.depth + 1)
        label = self._label(label, snake(block.name), scope)
        ref = self._use(tensor, scope, span)
        step = Apply(block, label, (ref,), (tensor.shape,), block.output, origin(span), again)
        return self._add(scope, step, span)

    def _inline(self, template: Template, module: Module, tensor: Tensor, scope: Scope, span: Span) -> Tensor:
        """Apply a `flow` in place: its steps and labels join the block around it. A label makes it a module."""
        flow = cast(Block, template.callee)
        outer = scope.frame
        if outer.depth > limits.NESTING:
            raise error("recursion", span, limit=limits.NESTING)
        try:
            own = self._frame(template, module, outer.depth + 1)
            frame = replace(outer, name=flow.name, module=module, values=own.values, spans=own.spans, scalars={})
            frame.depth += 1
            inner = Scope(frame, dict(frame.values), scope.builder, tensor, scope.loops, scope.plain)
            self._defaults(template, frame, inner.names, inner)
            return self._body(flow.body, inner, flow.name_span, flow.name)
        except ArchError as problem:
            raise lifted(problem, span, template) from None

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
            if label:
                raise error("bad-label", span, problem=f"`{primitive.name}` is no module, and cannot be labelled")
        args = primitive_args(template)
        try:
            output = primitive.output(args, (tensor.shape,))
        except ShapeError as problem:
            text = f"its input is {tensor.shape}"
            raise error("shape", span, text, message=str(problem), help=problem.help) from None
        if parameters_of(primitive.name, args, (tensor.shape,)) > limits.ELEMENTS:
            raise error("too-large", span, problem="a layer of more than 2^48 parameters")
        if label is None and not primitive.needs_module and not scope.frame.numbered:
            found = None
        else:
            found = self._label(label, primitive.label or snake(primitive.name), scope)
            unnamed = found.style in ("item", "number") or (label is None and scope.loops > 0)
            if unnamed and is_number(args.get("bias")):
                listed = "a layer whose bias starts at a value of its own has no place in a list"
                raise error("bad-label", span, problem=listed, help="put it into a `block`, under a label")
        ref = self._use(tensor, scope, span)
        step = Apply(
            Layer(primitive.name, tuple(args.items())), found, (ref,), (tensor.shape,), output, origin(span), again
        )
        return self._add(scope, step, span)

    def _label(self, label: Label | None, stem: str, scope: Scope) -> Label:
        if scope.frame.numbered:
            return Label("number")
        return label or auto_label(stem)

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
            case syntax.Join() | syntax.Loop():
                problem = f"a label names a module, and this is a `{expr.body.span.text.split()[0]}`"
                help = f"put it into braces, as in `{expr.label.span.text} {{ ... }}`"
                raise error("bad-label", expr.body.span, problem=problem, help=help)
            case _:
                value = self.eval(expr.body, scope)
                if not isinstance(value, Template):
                    problem = f"a label names a module, and this is {describe(value)}"
                    raise error("bad-label", expr.body.span, problem=problem)
                return self._instantiate(value, tensor, scope, label, expr.body.span)

    def _label_of(self, label: syntax.LabelName, scope: Scope) -> Label:
        index = 0
        if label.number:
            value = self.eval(label.number, scope)
            if not isinstance(value, int) or isinstance(value, bool) or value < 0:
                what = "the number of a label"
                raise error("bad-count", label.number.span, what=what, least=0, found=describe(value))
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
            note_scalar(frame.lets, n, v)
        if isinstance(body, syntax.ListExpr):
            output = self._items(body, inner)
        else:
            output = self._body(body.body, inner, body.span, expr.label.stem)
        block = self._finish(frame, builder, output, origin(expr.span), "", named=False)
        ref = self._use(tensor, scope, expr.span)
        step = Apply(block, label, (ref,), (tensor.shape,), block.output, origin(expr.span))
        return self._add(scope, step, expr.span)

    def _items(self, items: syntax.ListExpr, scope: Scope) -> Tensor:
        tensor = self._input(items.span, scope)
        if not items.items:
            raise error("no-result", items.span, name=scope.frame.name)
        for item in items.items:
            tensor = self._step(item, tensor, scope)
        return tensor

    # ---- blocks

    def block(self, template: Template, module: Module, shape: Shape, span: Span, depth: int) -> ir.Block:
        """The block of a complete template on an input. Raises ArchError, the user's line first."""
        block = cast(Block, template.callee)
        key = (id(block), _key(template.args), shape)
        if key in self._blocks:
            return self._blocks[key]
        if depth > limits.NESTING:
            raise error("recursion", span, limit=limits.NESTING)
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
            done = self._finish(frame, builder, output, origin(block.span), block.doc, True, _constants(block))
        except ArchError as problem:
            raise lifted(problem, span, template) from None
        self._blocks[key] = renamed(done, block.name)
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
            if not param.rest:
                note_scalar(frame.scalars, param.name, names[param.name])

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


def renamed(block: ir.Block, name: str) -> ir.Block:
    return block if block.name == name else replace(block, name=name)


def _key(args: tuple[tuple[str, Value], ...]) -> tuple[object, ...]:
    """Arguments as a key: `true` and 1 differ."""
    return tuple((name, type(value), value) for name, value in args)


def _constants(block: Block) -> tuple[tuple[str, Scalar], ...]:
    """The parameters whose default is a constant."""
    plain = (syntax.Number, syntax.Constant)
    return tuple((p.name, p.default.value) for p in block.params if isinstance(p.default, plain))


def lifted(problem: ArchError, call: Span, template: Template) -> ArchError:
    """The error with the user's line first: one inside the library becomes an error of the call, with a note.

    Where it speaks of a parameter, the argument that the user gave for it is marked. The calls that lead to what is
    wrong in a definition of the user's are noted from the inside out.
    """
    return ArchError(*(_lift(d, call, template) for d in problem.diagnostics))


def _lift(found: Diagnostic, call: Span, template: Template) -> Diagnostic:
    if found.primary is None or call == getattr(template.callee, "name_span", None):
        return found
    place = found.primary.span
    if not call.source.library and place.source is call.source and call.start <= place.start < call.end:
        return replace(found, within=())  # an argument of this call
    within = (*found.within, (template.name, call))
    if call.source.library:
        return replace(found, within=within)
    if not found.primary.span.source.library:
        shown = show(template)
        used = Note(f"`{shown if len(shown) <= 60 else template.name}` {_HERE}", Mark(call))
        before = [n for n in found.notes if n.label and n.text.endswith(_HERE)]
        kept = tuple(n for n in found.notes if len(before) < _MOST or n is not before[-1])
        return replace(found, notes=(*kept, *_uses(within), used), within=())
    others = tuple(Note(m.text, m) for m in found.secondary if m.span.source.library)
    secondary = tuple(m for m in found.secondary if not m.span.source.library)
    words = set(re.findall(r"[A-Za-z_]\w*", found.primary.span.text))
    spoken_of = [(n, s) for n, s in template.spans if n in words and not s.source.library]
    primary = Mark(spoken_of[0][1], f"this is `{spoken_of[0][0]}`") if spoken_of else Mark(call)
    inside = Note(f"in the definition of `{within[0][0]}`", found.primary)
    notes = (inside, *others, *found.notes, *_uses(within))
    return replace(found, primary=primary, secondary=secondary, notes=notes, within=())


_HERE = "is used here"
_MOST = 4
"""Calls of the user's that are noted: the innermost and the outermost."""


def _uses(within: tuple[tuple[str, Span], ...]) -> tuple[Note, ...]:
    """How the user's line comes to the place of an error: each definition that uses the one before."""
    steps = [
        Note(f"`{name}` is used by `{user}`", Mark(call))
        for (name, call), (user, _) in pairwise(within)
        if name != user
    ]
    return tuple(steps if len(steps) <= 4 else [*steps[:2], Note(f"and {len(steps) - 3} more"), steps[-1]])
