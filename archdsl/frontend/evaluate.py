"""Compile-time evaluation: expressions to values. What becomes part of the network is left to the classes below."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction

from archdsl.base import limits
from archdsl.base.diagnostics import ArchError, Gathering, error
from archdsl.base.diagnostics import Label as Mark
from archdsl.base.source import Span
from archdsl.base.suggest import did_you_mean, spoken
from archdsl.core import ir
from archdsl.core.data import DataSet
from archdsl.core.ir import Apply, Layer, Origin
from archdsl.core.primitives import PRIMITIVES, ShapeError
from archdsl.core.types import Scalar, Shape
from archdsl.frontend import syntax
from archdsl.frontend.binding import Given, bind, parameters
from archdsl.frontend.builder import Builder, Frame, auto_label
from archdsl.frontend.checks import unknown_name
from archdsl.frontend.resolve import Library, Module
from archdsl.frontend.syntax import Block, Recipe
from archdsl.frontend.values import (
    Choice,
    RecipeValue,
    Shared,
    Template,
    Tensor,
    Unknown,
    Value,
    arithmetic,
    bounded,
    describe,
    is_number,
    size,
)


@dataclass(frozen=True, slots=True)
class Scope:
    """Where an expression is evaluated: its names, its region, and what `in` means."""

    frame: Frame
    names: dict[str, Value]
    builder: Builder | None
    input: Tensor | None
    loops: int = 0
    """How many loops are around."""
    plain: bool = False
    """Within a mean with drop-path: of an `if` only the arm that is taken is kept, so that means inside are seen."""


_VALUES = 16
"""Values of a list that are read or made in the time of one expression."""


class Evaluator(ABC):
    """Evaluates expressions; a flow in one is handed to `_step` and `_select`."""

    def __init__(self, library: Library) -> None:
        self.library = library
        self.work = 0
        """Expressions evaluated for the network at hand."""
        self.all_work = 0
        """Expressions evaluated for the networks before."""
        self.recipes: dict[tuple[Recipe, DataSet | None], dict[str, Scalar]] = {}
        """The values of the settings of recipes, which depend on the data alone."""

    @abstractmethod
    def _step(self, expr: syntax.Expr, tensor: Tensor, scope: Scope) -> Tensor:
        """Apply a step of a chain to a tensor."""

    @abstractmethod
    def _select(self, expr: syntax.If, scope: Scope, tensor: Tensor | None) -> Value:
        """The arm of an `if` that its condition takes."""

    @abstractmethod
    def _tensor(self, value: Value, scope: Scope, span: Span) -> Tensor:
        """A value where a tensor is due."""

    @abstractmethod
    def _use(self, tensor: Tensor, scope: Scope, span: Span) -> ir.Ref:
        """The name of a tensor as an input of a step."""

    @abstractmethod
    def _add(self, scope: Scope, step: ir.Step, span: Span) -> Tensor:
        """The result of a step that joins the region under construction."""

    # ---- expressions

    def eval(self, expr: syntax.Expr, scope: Scope) -> Value:
        """The value of an expression; flows become tensors of the region under construction."""
        self._spend(1, expr.span)
        match expr:
            case syntax.Number(value=value) | syntax.String(value=value) | syntax.Constant(value=value):
                return value
            case syntax.ShapeLiteral():
                return Shape(expr.dims)
            case syntax.Name():
                return self._name(expr, scope)
            case syntax.Hole():
                raise error("hole", expr.span, "`archdsl match` looks for it")
            case syntax.Input():
                return self._input(expr.span, scope)
            case syntax.ListExpr():
                return self._touched(
                    bounded(tuple(self.eval(item, scope) for item in expr.items), expr.span), expr.span
                )
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

    def _spend(self, steps: int, span: Span) -> None:
        self.work += steps
        if self.work > limits.WORK:
            problem = f"this network takes more than {limits.WORK:,} steps to work out"
            raise error("too-large", span, problem=problem, help="equal iterations of a loop count once")
        if self.all_work + self.work > limits.ALL_WORK:
            problem = f"the networks of this spec take more than {limits.ALL_WORK:,} steps to work out"
            raise error("too-large", span, problem=problem, help="put some of them into a spec of their own")

    def _touched(self, value: Value, span: Span) -> Value:
        """A value that is read or made as a whole, which takes time in proportion to its size."""
        self._spend(size(value) // _VALUES, span)
        return value

    def _name(self, name: syntax.Name, scope: Scope) -> Value:
        if name.name in scope.names:
            known = scope.names[name.name]
            if isinstance(known, Unknown):
                raise ArchError()
            if name.name == "classes" and known is None:
                help = "say what the network reads: `on cifar10`, or `on 3x160x160 -> 37`"
                raise error("no-classes", name.span, help=help)
            return known
        found = self.library.find(name.name, scope.frame.module)
        if found is None:
            visible = [*scope.names, *self.library.known(scope.frame.module)]
            raise ArchError(unknown_name(name, visible))
        value = found[0]
        if isinstance(value, Recipe):
            return RecipeValue(value)
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
        owner, index = self.eval(expr.owner, scope), self.eval(expr.position, scope)
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
        pairs = self._each(operands, scope)
        values = [value for value, _ in pairs]
        with_number = any(is_number(v) for v in values) or expr.operator in ("-", "/")
        if any(_is_flow(v) for v in values) and with_number and expr.operator in ("+", "-", "*", "/"):
            return self._affine(expr, pairs, scope)
        if any(isinstance(v, Tensor | Template | Shared) for v in values) and expr.operator in ("+", "*"):
            return self._operator("add" if expr.operator == "+" else "multiply", pairs, scope, expr.span)
        result = self._touched(values[0], expr.span)
        for value in values[1:]:
            self._touched(value, expr.span)
            result = self._touched(arithmetic(expr.operator, result, value, expr.span), expr.span)
        return result

    def _each(self, exprs: Sequence[syntax.Expr], scope: Scope) -> list[tuple[Value, Span]]:
        """The values of expressions that do not depend on each other. Raises what is wrong with all of them."""
        parts = Gathering()
        found: list[tuple[Value, Span]] = []
        for expr in exprs:
            with parts:
                found.append((self.eval(expr, scope), expr.span))
        parts.settle()
        return found

    def _operator(
        self,
        kind: str,
        operands: list[tuple[Value, Span]],
        scope: Scope,
        span: Span,
        args: tuple[tuple[str, Scalar], ...] = (),
    ) -> Tensor:
        """Join tensors. A shape error names the first operand that differs, and shows the shapes of all."""
        parts = Gathering()
        tensors: list[Tensor] = []
        for value, at in operands:
            with parts:
                tensors.append(self._tensor(value, scope, at))
        parts.settle()
        shapes = tuple(t.shape for t in tensors)
        odd = _odd_one(kind, shapes)
        if odd is not None:
            what = {"add": "a sum", "multiply": "a product", "concat": "a concatenation"}.get(kind, "a mean")
            marks = tuple(Mark(at, f"this is {s}") for (_, at), s in zip(operands, shapes, strict=True))
            secondary = tuple(m for i, m in enumerate(marks) if i != odd)
            text = spoken((str(s) for s in shapes), "and")
            vectors = kind == "multiply" and {len(s.dims) for s in shapes} == {1, 3}
            help = "`AdaptiveAvgPool(1)` keeps both axes, so that its result scales channels" if vectors else None
            words = {"what": what, "shapes": text, "secondary": secondary, "help": help}
            raise error("unequal-shapes", marks[odd].span, marks[odd].text, **words)
        if len(tensors) == 1:
            return tensors[0]
        refs = tuple(self._use(t, scope, at) for t, (_, at) in zip(tensors, operands, strict=True))
        primitive = PRIMITIVES[kind]
        output = primitive.output({}, shapes)
        label = auto_label(primitive.label) if primitive.needs_module else None
        return self._add(scope, Apply(Layer(kind, args), label, refs, shapes, output, origin(span)), span)

    def _affine(self, expr: syntax.Binary, operands: list[tuple[Value, Span]], scope: Scope) -> Tensor:
        """A tensor and numbers: `1 - x`, `0.5 * x`, `x / 2`."""
        tensors = [(i, pair) for i, pair in enumerate(operands) if not is_number(pair[0])]
        numbers = [Fraction(value) for value, _ in operands if isinstance(value, int | Fraction)]
        index, (value, span) = tensors[0]
        if len(tensors) > 1 or (expr.operator == "/" and index == 1):
            left, right = describe(operands[0][0]), describe(operands[1][0])
            help = "numbers and tensors join two at a time: put the number with one tensor into parentheses"
            raise error("bad-operand", expr.span, operator=expr.operator, left=left, right=right, help=help)
        tensor = self._tensor(value, scope, span)
        scale, offset = Fraction(1), Fraction(0)
        match expr.operator:
            case "+":
                offset = sum(numbers, Fraction(0))
            case "-":
                scale, offset = (Fraction(1), -numbers[0]) if index == 0 else (Fraction(-1), numbers[0])
            case "*":
                for number in numbers:
                    scale *= number
            case _:
                if numbers[0] == 0:
                    raise error("zero-division", expr.span)
                scale = 1 / numbers[0]
        ref = self._use(tensor, scope, span)
        args = (("scale", _plain(scale)), ("offset", _plain(offset)))
        step = Apply(Layer("affine", args), None, (ref,), (tensor.shape,), tensor.shape, origin(expr.span))
        return self._add(scope, step, expr.span)

    # ---- calls

    def _call(self, expr: syntax.Call, scope: Scope) -> Value:
        callee = self.eval(expr.callee, scope)
        if not isinstance(callee, Template):
            hidden = isinstance(callee, Choice) and self.library.find(callee.name, scope.frame.module)
            help = "here it is one of the choices of a parameter, which hides the definition" if hidden else None
            raise error("not-callable", expr.callee.span, found=describe(callee), help=help)
        return self._touched(bind(callee, self._given(expr.args, callee, scope), expr.span), expr.span)

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
        return self._touched(bind(callee, self._given(expr.args, callee, scope), expr.span), expr.span)

    def _given(self, args: tuple[syntax.Argument, ...], callee: Template, scope: Scope) -> list[Given]:
        params = parameters(callee.callee)
        bound = dict(callee.args)
        positional = iter([p for p in params if p.name not in bound])
        given: list[Given] = []
        parts = Gathering()
        for arg in args:
            with parts:
                given += self._given_by(arg, params, positional, callee, scope)
        parts.settle()
        return given

    def _given_by(
        self,
        arg: syntax.Argument,
        params: tuple[syntax.Param, ...],
        positional: Iterator[syntax.Param],
        callee: Template,
        scope: Scope,
    ) -> list[Given]:
        """The argument that is written, or those that a list in its place spreads to."""
        param = next((p for p in params if p.name == arg.name), None) if arg.name else next(positional, None)
        if arg.spread:
            values = self.eval(arg.value, scope)
            if not isinstance(values, tuple):
                raise error("not-a-value", arg.value.span, expected="a list after `*`", found=describe(values))
            return [Given(None, v, arg.value.span, arg.span) for v in values]
        label = arg.value.label.stem if isinstance(arg.value, syntax.Labelled) else None
        if arg.name is None and any(p.name == label for p in params):
            help = f"an argument is given with `=`, as in `{label}=...`"
            raise error("unexpected", arg.span, found=f"`{label}:`", help=help)
        value = self._argument(arg.value, param, scope)
        if isinstance(value, Shared) and not getattr(callee.callee, "inline", False):
            help = "its weights belong to this block: share inside the other, or make that a `flow`"
            raise error("not-a-value", arg.value.span, expected="an argument", found=describe(value), help=help)
        return [Given(arg.name, value, self._written(arg.value, scope), arg.span)]

    def _argument(self, expr: syntax.Expr, param: syntax.Param | None, scope: Scope) -> Value:
        """The value of an argument; a bare name that its parameter lists is that choice."""
        if param and param.choices and isinstance(expr, syntax.Name):
            if expr.name in param.choices:
                return Choice(expr.name)
            if expr.name not in scope.names and not self.library.find(expr.name, scope.frame.module):
                return Choice(expr.name)
        value = self.eval(expr, scope)
        if isinstance(value, Tensor):
            if isinstance(expr, syntax.Input | syntax.Name):
                help = "a block is applied by an arrow, as in `in -> Conv(16, 3)`"
            else:
                help = "a flow is no argument; give it a `block` of its own"
            raise error("not-a-value", expr.span, expected="an argument", found=describe(value), help=help)
        return value

    def _written(self, expr: syntax.Expr, scope: Scope) -> Span:
        """Where a value was written: for a parameter passed on, where the caller wrote it."""
        if isinstance(expr, syntax.Name) and scope.names.get(expr.name) is scope.frame.values.get(expr.name):
            return scope.frame.spans.get(expr.name, expr.span)
        return expr.span

    def _top(self, module: Module) -> Scope:
        return Scope(Frame("", module, {}, {}, 0), {}, None, None)


def _is_flow(value: Value) -> bool:
    """A tensor, or something that becomes one where a tensor is due; not a whole network."""
    return isinstance(value, Tensor | Shared) or (
        isinstance(value, Template) and not isinstance(value.callee, syntax.Net)
    )


def _odd_one(kind: str, shapes: tuple[Shape, ...]) -> int | None:
    """The first operand whose shape does not fit the others."""
    output = PRIMITIVES[kind].output
    try:
        output({}, shapes)
    except ShapeError:
        pass
    else:
        return None
    for i in range(1, len(shapes)):
        try:
            output({}, shapes[: i + 1])
        except ShapeError:
            return i
    raise AssertionError("no operand is odd, and together they do not fit")


def _plain(number: Fraction) -> int | Fraction:
    return int(number) if number.denominator == 1 else number


def origin(span: Span) -> Origin:
    return Origin(span.source.name, span.start)


def _flattened(expr: syntax.Binary) -> list[syntax.Expr]:
    """`a + b + c` as [a, b, c]."""
    left = expr.left
    if isinstance(left, syntax.Binary) and left.operator == expr.operator:
        return [*_flattened(left), expr.right]
    return [left, expr.right]
