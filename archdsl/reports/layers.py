"""What `params --layers` prints."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from archdsl.core.ir import Network
from archdsl.core.layers import Row, rows
from archdsl.core.measure import measure
from archdsl.core.types import scalar_text
from archdsl.reports.counts import CONVENTION
from archdsl.reports.tables import table

HEAD = ("layer", "kind", "output", "x", "parameters", "share", "multiply-adds", "share")


def layers_json(network: Network, depth: int) -> list[dict[str, Any]]:
    """The rows for scripts; `count` neighbours together have `params` and `macs`."""
    return [
        {
            "level": row.level,
            "name": row.name,
            "path": row.path,
            "kind": row.kind,
            "output": list(row.output.dims),
            "count": row.count,
            "params": row.params,
            "macs": row.macs,
        }
        for row in rows(network, depth)
    ]


NOTE = f"{CONVENTION}; what stands below a row of several is one of them"


def layers_table(network: Network, depth: int, form: str) -> str:
    """The rows as a table that ends with the whole network."""
    cost = measure(network)
    body = [_cells(row, cost.params, cost.macs, form) for row in rows(network, depth)]
    total = ("total", "", str(network.output), "", f"{cost.params:,}", "100.0%", f"{cost.macs:,}", "100.0%")
    return table(HEAD, [*body, total], form, left=3, note=NOTE)


def layers_csv(networks: Sequence[Network], depth: int) -> str:
    """The rows of all networks for machines: plain numbers, and no total that would be added up with them."""
    keys = ("level", "path", "kind", "output", "count", "params", "macs")
    body = [
        [network.name, *(_plain(row[k]) for k in keys)] for network in networks for row in layers_json(network, depth)
    ]
    return table(["network", *keys], body, "csv")


def _plain(value: object) -> str:
    return "x".join(str(v) for v in value) if isinstance(value, list) else str(value)


def _cells(row: Row, params: int, macs: int, form: str) -> tuple[str, ...]:
    name = row.name or "-"
    indent = "  " * (row.level - 1) if form == "text" else ". " * (row.level - 1)
    return (
        f"{indent}{name}",
        f"{row.kind}{_arguments(row)}",
        str(row.output),
        f"x{row.count}" if row.count > 1 else "",
        *_figure(row.params, params),
        *_figure(row.macs, macs),
    )


def _arguments(row: Row) -> str:
    """What a layer is told, as the language writes it: the size of a convolution, the stride of a pool."""
    args = dict(row.args)
    if row.kind == "Conv":
        extra = [f"{n}={scalar_text(args[n])}" for n in ("groups", "dilation") if args[n] != 1]
        stride = [scalar_text(args["stride"])] if args["stride"] != 1 else []
        return f"({', '.join([scalar_text(args['width']), scalar_text(args['kernel']), *stride, *extra])})"
    if row.kind in ("MaxPool", "AvgPool"):
        return f"({scalar_text(args['kernel'])}, {scalar_text(args['stride'])})"
    if row.kind == "Dropout":
        return f"({scalar_text(args['p'])})"
    return ""


def _figure(part: int, whole: int) -> tuple[str, str]:
    """A figure and its share of the network's; nothing for none."""
    return (f"{part:,}", f"{100 * part / whole:.1f}%") if part else ("", "")
