"""What `params --place` prints: the share of each device, what they exchange, and the time of a step."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from archdsl.base.diagnostics import error
from archdsl.base.suggest import did_you_mean
from archdsl.core.ir import Network
from archdsl.core.predict import BYTES, MACHINES, Machine, predict
from archdsl.driver import load
from archdsl.reports.counts import size


def placed(specs: Sequence[str], place: str, batch: int, machine_name: str) -> list[dict[str, Any]]:
    """A row for each network of the specs. Raises ArchError."""
    if machine_name not in MACHINES:
        near = did_you_mean(machine_name, MACHINES) or f"there are {', '.join(MACHINES)}"
        raise error("bad-place", None, problem=f"`{machine_name}` is no machine", help=near)
    machine = MACHINES[machine_name]
    return [_row(one.network, machine, batch, one.unplaced()) for spec in specs for one in load(spec, place)]


def _row(network: Network, machine: Machine, batch: int, notes: list[str]) -> dict[str, Any]:
    cost = predict(network, machine, batch)
    alone = predict(replace(network, placement=None), machine, batch)
    devices = [
        {"params": s.params, "macs": s.macs, "activation_bytes": s.activations * BYTES * batch} for s in cost.shares
    ]
    return {
        "name": network.name,
        "spec": network.spec,
        "place": str(network.placement or "none"),
        "batch": batch,
        "devices": devices,
        "exchanged_bytes": cost.exchanged,
        "machine": machine.name,
        "seconds_alone": alone.elapsed,
        "seconds": cost.elapsed,
        "seconds_waiting": cost.waiting,
        "speed_up": alone.elapsed / cost.elapsed,
        "notes": notes,
    }


def placed_text(rows: Sequence[dict[str, Any]]) -> str:
    """The rows one below the other."""
    return "\n\n".join(_text(row) for row in rows)


def _text(row: dict[str, Any]) -> str:
    machine = MACHINES[row["machine"]]
    device = "process" if row["place"].startswith("mesh") else "device"
    lines = [
        f"{row['spec']}, {row['place']}, batch {row['batch']:,}",
        f"  {device:<8}{'parameters':>14}{'multiply-adds':>18}{'activations':>14}",
    ]
    for i, share in enumerate(row["devices"]):
        lines.append(f"  {i:<8}{share['params']:>14,}{share['macs']:>18,}{size(share['activation_bytes']):>14}")
    lines += [
        f"  exchanged     {size(row['exchanged_bytes'])} in a step",
        f"  predicted     {_ms(row['seconds'])} for a step, of which transfers {_ms(row['seconds_waiting'])};"
        f" {row['speed_up']:.2f} times as fast as one device ({_ms(row['seconds_alone'])})",
        f"  machine       {machine.name}: convolutions at {machine.flops / 1e12:.2f} TFLOPS, memory at"
        f" {machine.memory / 1e9:,.0f} GB/s, link at {machine.link / 1e9:,.0f} GB/s, {machine.launch * 1e6:.0f} us to"
        " launch an operation",
        "  (multiply-adds for one image; activations are the results of all layers, in single precision)",
    ]
    return "\n".join(lines + [f"  note: {note}" for note in row["notes"]])


def _ms(seconds: float) -> str:
    return f"{seconds * 1e3:,.0f} ms" if seconds > 0.1 else f"{seconds * 1e3:.2f} ms"


def warnings(rows: Sequence[dict[str, Any]]) -> Iterator[str]:
    """Placements whose transfers take longer than the computation that they save, and uneven ones."""
    for row in rows:
        shares = [device["macs"] for device in row["devices"]]
        most = shares.index(max(shares))
        if shares[most] * len(shares) > 1.5 * sum(shares):
            yield (
                f"{row['name']}: functions are divided by their number, and {row['place']} gives"
                f" {shares[most] / sum(shares):.0%} of the multiply-adds to device {most}"
            )
        computing = row["seconds"] - row["seconds_waiting"]
        saved = row["seconds_alone"] - computing
        if row["seconds_waiting"] > saved:
            yield (
                f"{row['name']}: transfers take {_ms(row['seconds_waiting'])} of a step, and the computation"
                f" that {row['place']} saves {_ms(max(saved, 0))}"
            )
