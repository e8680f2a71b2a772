"""The lines of `forward`: values become variables, short chains nest, and shapes are noted where they change.

A chain of layers nests into one line until a kind of layer would come twice in it: `F.relu(self.bn1(self.conv1(x)))`
is a line, and the next convolution starts another. A variable serves again as soon as its value is dead.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import chain, count

from archdsl.backend.construct import Constructor, optional_module
from archdsl.backend.flatten import Choice, Flat, Flattener, Module, Node, Operation, Output, Repeat
from archdsl.backend.merge import LayerPart, RegionPart
from archdsl.backend.pymodel import WIDTH, Call, Expr, statement, text
from archdsl.backend.spelling import FRESH, OVERWRITES, SPELLINGS
from archdsl.core.names import is_taken, label_problem
from archdsl.core.types import Shape

_ALONE = frozenset({"MaxPool", "AvgPool", "GlobalAvgPool", "Flatten", "concat", "block", "loop", "choice"})
"""These stand on a line of their own."""

_OUTPUTS = "auxiliary"
"""The variable that collects further outputs."""

_JOINS = frozenset({"add", "multiply", "mean", "concat", "DropPath"})


@dataclass(frozen=True, slots=True)
class _Plan:
    """How the nodes of a body become statements."""

    nested: frozenset[int]
    """Values that are written inside the expression that uses them."""
    statement_of: dict[int, int]
    """Value -> position of the last statement that reads it."""
    ended: dict[int, list[int]]
    """Position -> values of this body that no statement from there on reads."""


class Forward:
    """Writes one `forward`. `stored` collects the parameters that it reads, which `__init__` must keep."""

    alone = _ALONE

    def __init__(self, constructor: Constructor, region: RegionPart, comments: bool) -> None:
        self.constructor = constructor
        self.comments = comments
        self.stored: set[str] = set()
        self._parameters = {p.name for p in constructor.signature.parameters()}
        self._flattener = Flattener(region, lambda count: self._kept(constructor.signature.expression(count)))
        self._exprs: dict[int, Expr] = {}
        self._variables: dict[int, frozenset[str]] = {}
        """Value -> the variables that its expression reads."""
        self._shape: Shape | None = None
        self._depth = 0
        """How many parallel loops are around."""

    def lines(self, input: Shape, indent: int = 8) -> list[str]:
        """The body of `forward(self, x)`. Raises Mismatch if no one class can write it."""
        self._shape = input
        self._bind(0, "x")
        flat = self._flattener.flatten()
        has_outputs = any(isinstance(n.op, Output) for n in flat.nodes)
        lines, result = self._body(flat, frozenset({_OUTPUTS}) if has_outputs else frozenset(), indent)
        if not has_outputs:
            return [*lines, *statement("return ", result, indent)]
        pad = " " * indent
        ready = statement("x = ", result, indent) if text(result) != "x" else []
        first = f"{pad}{_OUTPUTS}: list[Tensor] = []"
        return [first, *lines, *ready, f"{pad}return (x, *{_OUTPUTS}) if self.training else x"]

    def _bind(self, value: int, variable: str) -> None:
        self._exprs[value] = variable
        self._variables[value] = frozenset({variable})

    # ---- bodies

    def _body(self, flat: Flat, fixed: frozenset[str], indent: int) -> tuple[list[str], Expr]:
        """The statements of a body and the expression of its result; the variables in `fixed` keep their values."""
        plan = _plan(flat, self.alone)
        lines: list[str] = []
        for position, node in enumerate(flat.nodes):
            for value in plan.ended.get(position, ()):
                self._variables.pop(value, None)
            if isinstance(node.op, Repeat) and node.id in plan.nested:
                continue  # a sum that its addition writes
            if self._is_sum(node, flat, plan):
                lines += self._accumulation(node, flat, plan, position, fixed, indent)
                continue
            match node.op:
                case Module() | Operation():
                    self._exprs[node.id] = self._application(node, self._overwrites(node, flat, plan))
                    self._variables[node.id] = frozenset().union(*(self._variables[v] for v in node.inputs))
                    if node.id not in plan.nested:
                        lines += self._assign(node, plan, position, fixed, indent)
                case Choice():
                    lines += self._choice(node, node.op, plan, position, fixed, indent)
                case Repeat():
                    lines += self._loop(node, node.op, plan, position, fixed, indent)
                case Output():
                    lines += self._output(node, node.op, plan, position, fixed, indent)
        return lines, self._exprs[flat.output]

    def _live(self, node: Node, plan: _Plan, position: int, fixed: frozenset[str]) -> frozenset[str]:
        """The variables that are read after the statement of a node."""
        last = plan.statement_of
        later = [names for v, names in self._variables.items() if last.get(v, -1) > position and v != node.id]
        return fixed.union(*later)

    def _variable(self, node: Node, plan: _Plan, position: int, fixed: frozenset[str], *first: str) -> str:
        """The spec's own name for a value, or one of `first`, or a variable that is dead, or a new one."""
        busy = self._live(node, plan, position, fixed)
        hint = self._flattener.names.get(node.id)
        # A name that says something of one value is not given to another.
        own = self.constructor.signature.labels | set(self._flattener.names.values())
        read = [v for v in sorted(frozenset().union(*(self._variables[v] for v in node.inputs))) if v not in own]
        module = node.op.target.removeprefix("self.") if isinstance(node.op, Module) else ""
        after = [module] if module.isidentifier() and node.op.kind == "block" else []  # type: ignore[union-attr]
        options = [*([hint] if hint else []), *first, *read, *after, "x", "out"]
        names = chain(options, (f"out{n}" for n in count(2)))
        return next(name for name in names if name not in busy and not self._is_reserved(name))

    def _is_reserved(self, name: str) -> bool:
        """Whether a variable cannot have a name: Python's, a loop's, or that of collected results."""
        collected = name.rstrip("0123456789") in ("terms", "term", "parts", _OUTPUTS)
        return name != "x" and (is_taken(name) or collected or name in self._flattener.loop_names)

    def _assign(self, node: Node, plan: _Plan, position: int, fixed: frozenset[str], indent: int) -> list[str]:
        name = self._variable(node, plan, position, fixed)
        lines = statement(f"{name} = ", self._exprs[node.id], indent, self._comment(node.shape))
        self._bind(node.id, name)
        return lines

    def _comment(self, shape: Shape | None) -> str:
        """The shape of a result, where it differs from that of the line before."""
        if not self.comments or shape is None or shape == self._shape:
            return ""
        self._shape = shape
        return f"# {shape_comment(shape)}"

    # ---- applications

    def _overwrites(self, node: Node, flat: Flat, plan: _Plan) -> bool:
        """Whether an operation may overwrite its operand: a new tensor that it alone reads."""
        if kind_of(node) not in OVERWRITES or node.inputs[0] not in plan.nested:
            return False
        return kind_of(next(n for n in flat.nodes if n.id == node.inputs[0])) in FRESH

    def _application(self, node: Node, inplace: bool) -> Expr:
        operands = tuple(self._exprs[v] for v in node.inputs)
        match node.op:
            case Module(target=target):
                return Call(target, tuple(("", o) for o in operands))
            case Operation(kind=kind, layer=layer):
                apply = SPELLINGS[kind].apply
                assert apply, f"{kind} is no operation"
                texts = self._texts(layer) if layer else {}
                return apply({**texts, "inplace": "True"} if inplace else texts, operands)
            case _:
                raise AssertionError(f"{node.op} is no application")

    def _texts(self, layer: LayerPart) -> dict[str, str]:
        """Arguments of an operation; those in which instances differ are read from `self`."""
        texts = self.constructor.texts(layer.args, "i", layer.kind)
        return {name: self._kept(value) for name, value in texts.items()}

    def attribute(self, parameter: str) -> str:
        """The attribute that keeps a parameter, which may be named as a module is."""
        taken = parameter in self.constructor.signature.labels or label_problem(parameter)
        return f"{parameter}_" if taken else parameter

    def _kept(self, expression: str) -> str:
        def attribute(match: re.Match[str]) -> str:
            if match[0] not in self._parameters:
                return match[0]
            self.stored.add(match[0])
            return f"self.{self.attribute(match[0])}"

        return re.sub(r"[A-Za-z_]\w*", attribute, expression)

    # ---- choices

    def _choice(
        self, node: Node, op: Choice, plan: _Plan, position: int, fixed: frozenset[str], indent: int
    ) -> list[str]:
        read = frozenset().union(*(self._variables[v] for v in node.inputs))
        inner = self._live(node, plan, position, fixed) | read
        comments, self.comments = self.comments, False
        hint = self._flattener.names.get(node.id)
        for arm in op.arms:
            if hint and arm.nodes and arm.output == arm.nodes[-1].id:
                self._flattener.names.setdefault(arm.output, hint)
        written = [self._body(arm, inner, indent + 4) for arm in op.arms]
        self.comments = comments
        test, first = self._test(op)
        yes, no = (written[0][1], written[1][1]) if first == 0 else (written[1][1], written[0][1])
        line = f"{text(yes)} if {test} else {text(no)}"
        if not written[0][0] and not written[1][0] and indent + len(line) < WIDTH - 16:
            self._exprs[node.id] = line
            self._variables[node.id] = read
            if node.id in plan.nested:
                return []
            return self._assign(node, plan, position, fixed, indent)
        name = self._variable(node, plan, position, fixed)
        pad = " " * indent
        out: list[str] = []
        ordered = written if first == 0 else written[::-1]
        for head, (lines, result) in zip((f"if {test}:", "else:"), ordered, strict=True):
            final = statement(f"{name} = ", result, indent + 4) if text(result) != name else []
            body = [*lines, *final]
            if head == "else:" and _is_chain_of_ifs(body, indent + 4):
                first_line, *more = [line[4:] for line in body]
                out += [f"{pad}el{first_line.lstrip()}", *more]
            elif body or head != "else:":
                out += [f"{pad}{head}", *(body or [f"{pad}    pass"])]
        self._bind(node.id, name)
        return out

    def _test(self, op: Choice) -> tuple[str, int]:
        """The Python test of a choice, and the arm that it chooses."""
        optional = optional_module(op.part)
        if optional:
            which, step = optional
            assert step.label
            return f"self.{step.label.stem} is None", 1 - which
        name, arm = self.constructor.signature.flag(op.part, op.hint)
        return f"self.{name}", arm

    # ---- outputs

    def _output(
        self, node: Node, op: Output, plan: _Plan, position: int, fixed: frozenset[str], indent: int
    ) -> list[str]:
        read = frozenset().union(*(self._variables[v] for v in node.inputs))
        comments, self.comments = self.comments, False
        lines, result = self._body(op.body, self._live(node, plan, position, fixed) | read, indent + 4)
        self.comments = comments
        head = f"{' ' * indent}if self.training:"
        return [head, *lines, *statement("", Call(f"{_OUTPUTS}.append", (("", result),)), indent + 4)]

    # ---- loops

    def _loop(
        self, node: Node, op: Repeat, plan: _Plan, position: int, fixed: frozenset[str], indent: int
    ) -> list[str]:
        if op.part.kind == "sequence":
            lines = self._sequence(node, op, plan, position, fixed, indent)
        else:
            lines = self._collection(node, op, plan, position, fixed, indent)
        return lines

    def _sequence(
        self, node: Node, op: Repeat, plan: _Plan, position: int, fixed: frozenset[str], indent: int
    ) -> list[str]:
        start = self._exprs[node.inputs[0]]
        others = frozenset().union(*(self._variables[v] for v in node.inputs[1:]))
        name = self._variable(node, plan, position, fixed | others)
        lines = statement(f"{name} = ", start, indent) if text(start) != name else []
        self._bind(op.carried, name)
        inner = (self._live(node, plan, position, fixed) | others) - {name}
        body, result = self._iteration(op, inner, indent)
        if text(result) != name:
            body += statement(f"{name} = ", result, indent + 4)
        if not body:
            self._bind(node.id, name)
            return lines
        comment = self._comment(node.shape)
        head = _head(op.head, indent)
        self._bind(node.id, name)
        return [*lines, *head[:-1], f"{head[-1]}  {comment}" if comment else head[-1], *body]

    def _collection(
        self, node: Node, op: Repeat, plan: _Plan, position: int, fixed: frozenset[str], indent: int
    ) -> list[str]:
        """A parallel loop on its own: the results are collected, then joined."""
        self._alias(op.carried, node.inputs[0])
        read = frozenset().union(*(self._variables[v] for v in node.inputs))
        name = self._variable(node, plan, position, fixed)
        inner = self._live(node, plan, position, fixed) | read
        self._depth += 1
        number = str(self._depth) if self._depth > 1 else ""
        terms, parts = f"terms{number}", f"parts{number}"
        body, result = self._iteration(op, inner, indent)
        self._depth -= 1
        pad = " " * indent
        if op.part.kind == "mean":
            lines = [f"{pad}{terms} = []", *_head(op.head, indent), *body, f"{pad}    {terms}.append({text(result)})"]
            lines.append(f"{pad}{name} = torch.stack({terms}).mean(0)")
        elif op.part.kind == "sum":
            # The first term starts the sum: adding to a zero would cost an addition.
            lines = [f"{pad}{terms} = []", *_head(op.head, indent), *body, f"{pad}    {terms}.append({text(result)})"]
            lines += [f"{pad}{name} = {terms}[0]", f"{pad}for term in {terms}[1:]:", f"{pad}    {name} = {name} + term"]
        elif body or indent + len(text(result)) + len(op.head) > WIDTH - 40:
            lines = [f"{pad}{parts} = []", *_head(op.head, indent), *body, f"{pad}    {parts}.append({text(result)})"]
            lines += statement(f"{name} = ", f"torch.cat({parts}, dim=1)", indent, self._comment(node.shape))
        else:
            listed = f"[{text(result)} {op.head.removesuffix(':')}]"
            call = Call("torch.cat", (("", listed), ("dim=", "1")))
            lines = statement(f"{name} = ", call, indent, self._comment(node.shape))
        self._bind(node.id, name)
        return lines

    def _is_sum(self, node: Node, flat: Flat, plan: _Plan) -> bool:
        """Whether a node is an addition that writes a parallel sum with it."""
        if not (isinstance(node.op, Operation) and node.op.kind == "add"):
            return False
        return any(n.id in node.inputs and isinstance(n.op, Repeat) and n.id in plan.nested for n in flat.nodes)

    def _accumulation(
        self, node: Node, flat: Flat, plan: _Plan, position: int, fixed: frozenset[str], indent: int
    ) -> list[str]:
        """`out = shortcut`, then `out = out + function(x)` for each function."""
        loop = next(n for n in flat.nodes if n.id in node.inputs and isinstance(n.op, Repeat) and n.id in plan.nested)
        assert isinstance(loop.op, Repeat)
        self._alias(loop.op.carried, loop.inputs[0])
        read = frozenset().union(*(self._variables[v] for v in loop.inputs))
        start = SPELLINGS["add"].apply
        assert start
        others = [self._exprs[v] for v in node.inputs if v != loop.id]
        expr = start({}, tuple(others))
        self._variables[loop.id] = read
        name = self._variable(node, plan, position, fixed | read, "out")
        lines = statement(f"{name} = ", expr, indent) if text(expr) != name else []
        inner = self._live(node, plan, position, fixed) | read | {name}
        body, result = self._iteration(loop.op, inner, indent)
        self._bind(node.id, name)
        return [*lines, *_head(loop.op.head, indent), *body, *statement(f"{name} = {name} + ", result, indent + 4)]

    def _alias(self, value: int, other: int) -> None:
        self._exprs[value] = self._exprs[other]
        self._variables[value] = self._variables[other]

    def _iteration(self, op: Repeat, fixed: frozenset[str], indent: int) -> tuple[list[str], Expr]:
        comments, shape, self.comments = self.comments, self._shape, False
        lines, result = self._body(op.body, fixed, indent + 4)
        self.comments, self._shape = comments, shape
        return lines, result


def _head(text: str, indent: int) -> list[str]:
    """The head of a loop, over several lines where its lists need them."""
    pad = " " * indent
    if len(f"{pad}{text}") <= WIDTH or "zip(" not in text:
        return [f"{pad}{text}"]
    start, lists = text.removesuffix("):").split("zip(")
    return [f"{pad}{start}zip(", *(f"{pad}    {item}," for item in lists.split(", ")), f"{pad}):"]


def _is_chain_of_ifs(lines: list[str], indent: int) -> bool:
    """Whether lines are one `if` statement and nothing else."""
    outer = [line[indent:] for line in lines if line[indent : indent + 1] != " "]
    return bool(outer) and outer[0].startswith("if ") and all(o.startswith(("elif ", "else:", ")")) for o in outer[1:])


def _plan(flat: Flat, alone: frozenset[str]) -> _Plan:
    """Which values nest, and until where each is needed."""
    position = {n.id: i for i, n in enumerate(flat.nodes)}
    users: dict[int, list[int]] = {}
    for i, node in enumerate(flat.nodes):
        for value in node.inputs:
            users.setdefault(value, []).append(i)
    users.setdefault(flat.output, []).append(len(flat.nodes))
    nested: set[int] = set()
    written_at: dict[int, int] = {}
    kinds: dict[int, frozenset[str]] = {}
    for i, node in enumerate(flat.nodes):
        mine = users.get(node.id, [])
        inner = frozenset().union(*(kinds[v] for v in node.inputs if v in nested))
        kinds[node.id] = inner | {kind_of(node)}
        if len(mine) != 1:
            continue
        user = flat.nodes[mine[0]] if mine[0] < len(flat.nodes) else None
        if isinstance(node.op, Repeat):
            additions = user is not None and isinstance(user.op, Operation) and user.op.kind == "add"
            already = user is not None and any(
                v in nested and kind_of(flat.nodes[position[v]]) == "loop" for v in user.inputs if v in position
            )
            if node.op.part.kind == "sum" and additions and not already:
                nested.add(node.id)
                written_at[i] = mine[0]
        elif mine[0] == i + 1 and _nests(node, kinds[node.id], user, alone):
            nested.add(node.id)
            written_at[i] = mine[0]

    def statement_at(i: int) -> int:
        while i in written_at:
            i = written_at[i]
        return i

    last = {value: max(statement_at(i) for i in at) for value, at in users.items()}
    ended: dict[int, list[int]] = {}
    for value in position:
        ended.setdefault(last.get(value, len(flat.nodes)) + 1, []).append(value)
    return _Plan(frozenset(nested), last, ended)


def kind_of(node: Node) -> str:
    match node.op:
        case Module(kind=kind) | Operation(kind=kind):
            return kind
        case Choice():
            return "choice"
        case Repeat():
            return "loop"
        case Output():
            return "output"


def _nests(node: Node, kinds: frozenset[str], user: Node | None, alone: frozenset[str]) -> bool:
    """Whether an expression may stand inside that of its user (None: the `return`); not if it is one of `alone`."""
    if user is None:
        return not isinstance(node.op, Choice | Repeat)
    if isinstance(user.op, Choice | Repeat | Output) or isinstance(node.op, Choice | Output):
        return False
    kind = kind_of(user)
    if kind == "add" and kinds <= {"multiply", "affine"} and kind_of(node) == "multiply":
        return True
    if kind in _JOINS:
        return len(kinds) == 1 and not kinds & (_JOINS | alone - {"block"})
    return kind not in alone and kind not in kinds and not kinds & alone


def shape_comment(shape: Shape) -> str:
    """A shape with the batch, as comments have it."""
    return f"(N, {', '.join(str(d) for d in shape.dims)})"
