"""The `forward` of several functions of one input, computed as one function.

Their channels stand side by side: layers that treat channels alike run once over all of them, convolutions are
grouped, and the last convolution adds up the results.
"""

from __future__ import annotations

from typing import Any

from archdsl.backend.construct import Constructor
from archdsl.backend.flatten import Choice, Flat, Module, Node
from archdsl.backend.forward import Forward, kind_of
from archdsl.backend.groups import Mismatch
from archdsl.backend.merge import RegionPart, Slot
from archdsl.backend.pymodel import Expr, call, statement
from archdsl.core.types import Shape

HELPERS = {"Conv": "convolve_each", "BatchNorm": "normalise_each", "Dropout": "drop_each"}
"""Layers with modules -> what applies several modules, in templates/support/."""

_SHARED = ("BatchNorm", "Conv")
"""After these, every function has a share of the channels."""


class FusedForward(Forward):
    """Writes one `forward` of an `nn.ModuleList`. `helpers` collects what it calls."""

    alone = Forward.alone | {"Conv"}

    def __init__(self, constructor: Constructor, region: RegionPart) -> None:
        super().__init__(constructor, region, comments=False)
        self.helpers: set[str] = set()
        self._last: int | None = None
        """The last convolution, if it can add up the results."""
        self._wide: dict[int, bool | None] = {0: False}
        """Whether a value has a share of channels for each function; None if that depends on the instance."""

    def lines(self, input: Shape, indent: int = 8) -> list[str]:
        self._bind(0, "x")
        flat = self._flattener.flatten()
        self._last = _adding(flat)
        lines, result = self._body(flat, frozenset(), indent)
        if self._last is None:
            self.helpers.add("add_shares")
            result = call("add_shares", result, "len(self)")
        return [*lines, *statement("return ", result, indent)]

    def _application(self, node: Node, inplace: bool) -> Expr:
        before = self._wide.get(node.inputs[0])
        self._wide[node.id] = before if kind_of(node) not in HELPERS else True
        match node.op:
            case Module(target=target, kind="Dropout"):
                if before is None:
                    raise Mismatch  # instances differ: each has a class of its own
                self.helpers |= {"drop_each"} if before else {"drop_each", "copies"}
                operand = self._exprs[node.inputs[0]]
                shares = operand if before else call("copies", operand, "len(self)")
                return call("drop_each", f"[f.{target.removeprefix('self.')} for f in self]", shares)
            case Module(target=target, kind=kind) if kind in HELPERS:
                helper = "convolve_and_add" if node.id == self._last else HELPERS[kind]
                self.helpers.add(helper)
                listed = f"[f.{target.removeprefix('self.')} for f in self]"
                return call(helper, listed, self._exprs[node.inputs[0]])
            case Module(target=target):
                return call(_first(target), self._exprs[node.inputs[0]])
            case _:
                return super()._application(node, inplace)

    def _loop(self, *_: object) -> list[str]:
        raise Mismatch  # iterations are written out here

    def _choice(self, node: Node, op: Choice, *rest: Any) -> list[str]:
        lines = super()._choice(node, op, *rest)
        arms = {self._wide.get(arm.output) for arm in op.arms}
        self._wide[node.id] = arms.pop() if len(arms) == 1 else None
        return lines

    def _test(self, op: Choice) -> tuple[str, int]:
        test, arm = super()._test(op)
        return _first(test), arm

    def _kept(self, expression: str) -> str:
        return _first(super()._kept(expression))


def _first(text: str) -> str:
    """What all functions have alike, read from the first of them."""
    return text.replace("self.", "self[0].")


def _adding(flat: Flat) -> int | None:
    """The last convolution, if its input has a share of channels for each function and it can add them up."""
    last = flat.nodes[-1] if flat.nodes else None
    if last is None or last.id != flat.output or not _plain_convolution(last):
        return None
    before = [n for n in flat.nodes[:-1] if isinstance(n.op, Module) and n.op.kind in _SHARED]
    return last.id if before else None


def _plain_convolution(node: Node) -> bool:
    """Whether a node is a convolution without groups."""
    if not (isinstance(node.op, Module) and node.op.kind == "Conv" and node.op.layer):
        return False
    groups = dict(node.op.layer.args)["groups"]
    return isinstance(groups, Slot) and groups.constant and groups.value == 1
