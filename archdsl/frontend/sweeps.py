"""`net NAME = CALL for k in [1, 2]`: the networks of a network with lists."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from fractions import Fraction
from functools import partial
from typing import cast

from archdsl.base import limits
from archdsl.base.diagnostics import error
from archdsl.base.slug import slug
from archdsl.base.source import Span
from archdsl.core.types import scalar_text
from archdsl.frontend import syntax
from archdsl.frontend.builder import Frame
from archdsl.frontend.elaborate import Elaborator
from archdsl.frontend.evaluate import Scope
from archdsl.frontend.formatter import format_expression, format_on
from archdsl.frontend.resolve import Module
from archdsl.frontend.substitute import substituted
from archdsl.frontend.values import Value, describe


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
    rows: list[dict[str, int | Fraction]] = [{}]
    for sweep in item.sweeps:
        lists = [_list(elaborator.eval(items, top), items.span) for items in sweep.lists]
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
        suffix = "_".join(re.sub(r"\W", "_", scalar_text(v)) for v in row.values())
        name = f"{item.name}_{suffix}" if item.name else slug(f"{format_expression(value)}{format_on(on)}")
        yield item._replace(name=name, value=value, on=on, sweeps=())


def _given(row: Mapping[str, int | Fraction], node: object) -> object | None:
    """The number that stands for a name."""
    if isinstance(node, syntax.Name) and node.name in row:
        return syntax.Number(node.span, row[node.name])
    return None


def _list(value: Value, span: Span) -> tuple[int | Fraction, ...]:
    if not isinstance(value, tuple) or any(isinstance(v, bool) or not isinstance(v, int | Fraction) for v in value):
        raise error("not-a-value", span, expected="a list of numbers", found=describe(value))
    return cast("tuple[int | Fraction, ...]", value)
