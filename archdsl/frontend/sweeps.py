"""`net NAME = CALL for k in [1, 2]`: the networks of a network with lists."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from fractions import Fraction
from functools import partial

from archdsl.base import limits
from archdsl.base.diagnostics import error
from archdsl.base.slug import slug
from archdsl.frontend import syntax
from archdsl.frontend.builder import Frame
from archdsl.frontend.elaborate import Elaborator
from archdsl.frontend.evaluate import Scope
from archdsl.frontend.oneline import format_expression, format_on
from archdsl.frontend.resolve import Module
from archdsl.frontend.substitute import substituted
from archdsl.frontend.values import describe


def each_of(
    elaborator: Elaborator, module: Module, item: syntax.NamedNet | syntax.Net
) -> Iterator[syntax.NamedNet | syntax.Net]:
    """The network, or those of its lists: one for each element, under a name that ends with its values.

    One without a name is named after its spec.
    """
    if isinstance(item, syntax.Net) or not item.sweeps:
        yield item
        return
    top = Scope(Frame("", module, {}, {}, 0), {}, None, None)
    rows: list[dict[str, syntax.Expr]] = [{}]
    for sweep in item.sweeps:
        lists = [_elements(elaborator, items, top) for items in sweep.lists]
        if len({len(items) for items in lists}) > 1:
            lengths = " and ".join(str(len(items)) for items in lists)
            problem = f"lists that go together have one length, and these have {lengths}"
            help = "each further `for` is multiplied with those before"
            raise error("bad-sweep", sweep.span, problem=problem, help=help)
        names = [n.name for n in sweep.names]
        here = [dict(zip(names, values, strict=True)) for values in zip(*lists, strict=True)]
        if len(rows) * len(here) > limits.NETWORKS:
            raise error("too-large", sweep.span, problem=f"more than {limits.NETWORKS:,} networks")
        rows = [{**row, **values} for row in rows for values in here]
    for row in rows:
        given = partial(_given, row)
        value, on = substituted(item.value, given), substituted(item.on, given)
        clauses = substituted(item.clauses, given)
        values = (re.sub(r"\W+", "_", format_expression(v), flags=re.ASCII).strip("_") for v in row.values())
        suffix = "_".join(values)
        name = f"{item.name}_{suffix}" if item.name else slug(f"{format_expression(value)}{format_on(on)}")
        yield item._replace(name=name, value=value, on=on, sweeps=(), clauses=clauses)


def _given(row: Mapping[str, syntax.Expr], node: object) -> object | None:
    """What stands for a name."""
    return row.get(node.name) if isinstance(node, syntax.Name) else None


def _elements(elaborator: Elaborator, items: syntax.Expr, top: Scope) -> tuple[syntax.Expr, ...]:
    """The elements of a list: numbers, or whatever is written in one, such as blocks and data sets."""
    value = elaborator.eval(items, top)
    if isinstance(items, syntax.ListExpr):
        return items.items
    if not isinstance(value, tuple) or any(isinstance(v, bool) or not isinstance(v, int | Fraction) for v in value):
        raise error("not-a-value", items.span, expected="a list", found=describe(value))
    return tuple(syntax.Number(items.span, v) for v in value if isinstance(v, int | Fraction))
