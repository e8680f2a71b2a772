"""What `compare` and `diff` print: networks side by side, stage by stage, and what changed between two."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from archdsl.core.ir import Apply, Block, Head, Layer, Loop, Network, Ref, Region, Select
from archdsl.core.layers import Row, rows
from archdsl.core.measure import measure
from archdsl.core.types import scalar_text
from archdsl.reports.counts import CONVENTION, memory_row, size
from archdsl.reports.tables import table

MOST_COLUMNS = 6
"""More networks than these are not shown stage by stage."""


def compare_rows(networks: Sequence[Network], batch: int) -> list[dict[str, Any]]:
    """A row for each network: arguments, counts with ratios to those of the first, bytes of a training step."""
    first = measure(networks[0])
    found = []
    for network in networks:
        cost = measure(network)
        found.append(
            {
                "name": network.name,
                "spec": network.spec,
                "arguments": {name: scalar_text(value) for name, value in _arguments(network)},
                "depth": cost.depth,
                "params": cost.params,
                "macs": cost.macs,
                "params_ratio": cost.params / first.params if first.params else None,
                "macs_ratio": cost.macs / first.macs if first.macs else None,
                "memory": memory_row(network, batch, "fp32")["training"],
            }
        )
    return found


def _arguments(network: Network) -> list[tuple[str, Any]]:
    """What the network's definition is told."""
    return [(n, v) for n, v in network.root.scalars if v is not None]


def compare_table(networks: Sequence[Network], batch: int, form: str) -> str:
    """A line for each network, as papers print it. Arguments that are the same everywhere are left out.

    `depth` is what the networks are told, as papers give it; `layers` are those on the longest path.
    """
    found = compare_rows(networks, batch)
    names = list(dict.fromkeys(n for row in found for n in row["arguments"]))
    told = [n for n in names if n == "depth" or len({row["arguments"].get(n) for row in found}) > 1]
    told.sort(key=lambda n: n != "depth")
    if form == "csv":
        return _csv(found, told)
    head = ["network", *told, "layers", "parameters", "ratio", "multiply-adds", "ratio", "memory"]
    body = [
        [
            row["spec"],
            *(row["arguments"].get(n, "") for n in told),
            f"{row['depth']:,}",
            f"{row['params']:,}",
            _ratio(row["params_ratio"]),
            f"{row['macs']:,}",
            _ratio(row["macs_ratio"]),
            size(row["memory"]),
        ]
        for row in found
    ]
    note = f"{CONVENTION}; layers on the longest path; memory of a training step of {batch:,} images in fp32"
    return table(head, body, form, note=note)


def _csv(found: Sequence[dict[str, Any]], told: Sequence[str]) -> str:
    """The same for machines: plain numbers, and a name of its own for each column."""
    columns = ("layers", "params", "params_ratio", "macs", "macs_ratio", "training_bytes")
    keys = ("depth", "params", "params_ratio", "macs", "macs_ratio", "memory")
    body = [[row["spec"], *(row["arguments"].get(n, "") for n in told), *(str(row[k]) for k in keys)] for row in found]
    return table(["network", *told, *columns], body, "csv")


def stage_tables(networks: Sequence[Network], form: str) -> str:
    """Parameters and multiply-adds of what the networks hold, name by name; of two, the difference too."""
    return "\n\n".join(
        table([title, *(n.name for n in networks), *(["difference"] if len(networks) == 2 else [])], body, form)
        for title, body in (
            ("parameters", _by_stage(networks, "params")),
            ("multiply-adds", _by_stage(networks, "macs")),
        )
    )


def _by_stage(networks: Sequence[Network], what: str) -> list[list[str]]:
    columns = []
    for network in networks:
        column: dict[str, int] = {}
        for row in rows(network, 1):
            if getattr(row, what):
                column[row.name or row.kind] = column.get(row.name or row.kind, 0) + getattr(row, what)
        columns.append(column)
    names = _merged([list(column) for column in columns])
    lines = [[name, *(f"{c[name]:,}" if name in c else "-" for c in columns)] for name in names]
    lines.append(["total", *(f"{sum(c.values()):,}" for c in columns)])
    if len(networks) == 2:
        a, b = columns
        for line, name in zip(lines, [*names, None], strict=True):
            change = sum(b.values()) - sum(a.values()) if name is None else b.get(name, 0) - a.get(name, 0)
            line.append(f"{change:+,}" if change else "")
    return lines


def _merged(lists: Sequence[Sequence[str]]) -> list[str]:
    """The names of all lists, each after those that it follows in its own."""
    merged: list[str] = []
    for names in lists:
        at = 0
        for name in names:
            if name in merged:
                at = merged.index(name) + 1
            else:
                merged.insert(at, name)
                at += 1
    return merged


def _ratio(value: float | None) -> str:
    return "" if value is None else f"x{value:.3f}"


# ---- what changed


def diff_lines(a: Network, b: Network) -> list[str]:
    """What the second network has otherwise than the first, module by module; nothing if their structure is equal."""
    first, second = ({_key(row): row for row in rows(n, 100) if row.path} for n in (a, b))
    lines = _flow_changed("network", a.root, b.root)
    hidden: set[str] = set()
    for key in _merged([list(first), list(second)]):
        if any(key.startswith(f"{parent}.") for parent in hidden):
            continue
        before, after = first.get(key), second.get(key)
        if before is None or after is None:
            row, sign = (after, "+") if before is None else (before, "-")
            assert row
            hidden.add(key)  # what it holds is new, or gone, with it
            lines.append(f"{sign} {_shown(row)}")
            continue
        if _facts(before) != _facts(after):
            lines.append(f"~ {_changed(before, after)}")
            if before.kind != after.kind:
                hidden.add(key)
        if isinstance(before.module, Block) and isinstance(after.module, Block) and key not in hidden:
            lines += _flow_changed(_place(after), before.module, after.module)
    return lines


def _flow_changed(place: str, before: Block, after: Block) -> list[str]:
    """What two blocks do one after the other, where modules that only one of them has do not explain the difference."""
    old, new = _flow(before.body), _flow(after.body)
    both = {op.name for op in old if op.is_module} & {op.name for op in new if op.is_module}
    shared = [[op.name for op in flow if op.name in both or not op.is_module] for flow in (old, new)]
    if shared[0] != shared[1]:
        return [f"~ {place}: {' '.join(op.name for op in old)}  ->  {' '.join(op.name for op in new)}"]
    if [op.name for op in old] == [op.name for op in new] and old != new:
        return [f"~ {place}: the same operations read other values"]
    return []


class _Op(NamedTuple):
    """An operation of a flow, and what it reads."""

    name: str
    is_module: bool
    inputs: tuple[Ref, ...] = ()


def _flow(region: Region) -> list[_Op]:
    """The operations of a region in order. Modules go by their names without numbers, which rise with the depth."""
    flow: list[_Op] = []
    for step in region.steps:
        match step:
            case Apply(module=module, label=label):
                kind = module.kind if isinstance(module, Layer) else module.name
                args = module.args if isinstance(module, Layer) and label is None else ()
                written = ", ".join(f"{n}={scalar_text(v)}" for n, v in args if v is not None)
                name = label.stem if label and label.stem else f"{kind}({written})" if written else kind
                flow.append(_Op(name, label is not None, step.inputs))
            case Loop(kind=kind, runs=runs):
                inner = list(dict.fromkeys(op for run in runs for op in _flow(run.region)))
                flow += [
                    _Op(f"{'repeat' if kind == 'sequence' else kind} {{", False, (step.input,)),
                    *inner,
                    _Op("}", False),
                ]
            case Select() | Head():
                flow += _flow(step.region)
    return flow


def _key(row: Row) -> str:
    """The path, without the end of a range."""
    return row.path.split("..")[0]


def _facts(row: Row) -> tuple[object, ...]:
    """What makes two modules of one name different; what they hold is looked at below them."""
    layer = isinstance(row.module, Layer)
    return (row.kind, row.args if layer else (), row.output, row.count, row.params if layer else 0)


def _shown(row: Row) -> str:
    times = f" x{row.count}" if row.count > 1 else ""
    return f"{_place(row)}: {row.kind}{_written(row)}{times} -> {row.output}, {row.params:,} parameters"


def _place(row: Row) -> str:
    parent = row.path.rpartition(row.name.split("..")[0])[0] if ".." in row.name else ""
    return f"{parent}{row.name}" if ".." in row.name else row.path


def _written(row: Row) -> str:
    if not isinstance(row.module, Layer) or not row.args:
        return ""
    return f"({', '.join(f'{n}={scalar_text(v)}' for n, v in row.args if not isinstance(v, bool))})"


def _changed(before: Row, after: Row) -> str:
    parts = []
    if before.kind != after.kind:
        parts.append(f"{before.kind} -> {after.kind}")
    elif isinstance(before.module, Layer):
        old, new = dict(before.args), dict(after.args)
        parts += [f"{n} {scalar_text(old[n])} -> {scalar_text(new[n])}" for n in old if old[n] != new[n]]
    if before.count != after.count:
        parts.append(f"x{before.count} -> x{after.count}")
    if before.output != after.output:
        parts.append(f"output {before.output} -> {after.output}")
    if before.params != after.params:
        parts.append(f"parameters {before.params:,} -> {after.params:,}")
    return f"{_place(after)}: {', '.join(parts)}"
