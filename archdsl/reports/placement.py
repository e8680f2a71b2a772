"""What `params --place` prints: the share of each device, what they exchange, and the time of a step."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from archdsl.base.exhaustive import assert_never
from archdsl.core.ir import Network
from archdsl.core.kernels import FULL
from archdsl.core.machines import MACHINES, Accelerator, Card, Machine
from archdsl.core.predict import predict
from archdsl.core.training_time import batch_of, precision_of, step_time
from archdsl.driver import load
from archdsl.reports.counts import size
from archdsl.reports.time import Asked, time_row, time_text

UNASKED = Asked(MACHINES["k80"], 128, "fp32")
"""What table V of arXiv:1609.05672 was measured with."""


def placed(specs: Sequence[str], place: str, wanted: Asked, timed: bool) -> list[dict[str, Any]]:
    """A row for each network of the specs, with the time of its training if it is `timed`. Raises ArchError."""
    return [_row(one.network, wanted, timed, one.unplaced()) for spec in specs for one in load(spec, place)]


def _row(network: Network, wanted: Asked, timed: bool, notes: list[str]) -> dict[str, Any]:
    machine, batch = wanted.machine, wanted.batch or batch_of(network)
    precision = wanted.precision or precision_of(network, machine)
    cost = predict(network, machine, batch, precision)
    step = step_time(network, machine, batch, precision)
    alone = step_time(replace(network, placement=None), machine, batch, precision)
    devices = [
        {"params": s.params, "macs": s.macs, "activation_bytes": s.activations * FULL * batch} for s in cost.shares
    ]
    return {
        "name": network.name,
        "spec": network.spec,
        "place": str(network.placement or "none"),
        "batch": batch,
        "devices": devices,
        "exchanged_bytes": cost.exchanged,
        "machine": machine.name,
        "seconds_alone": alone.eager,
        "seconds": step.eager,
        "seconds_waiting": step.waiting,
        "speed_up": alone.eager / step.eager,
        "notes": notes,
        **({"time": time_row(network, wanted)} if timed else {}),
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
        f"  machine       {_stated(machine)}",
        "  (multiply-adds for one image; activations are the results of all layers, in single precision)",
    ]
    if "time" in row:
        lines.append(time_text(row["time"]))
    return "\n".join(lines + [f"  note: {note}" for note in row["notes"]])


def _stated(machine: Machine) -> str:
    """The numbers of a machine."""
    joined = f"memory at {machine.memory / 1e9:,.0f} GB/s, link at {machine.link / 1e9:,.0f} GB/s"
    match machine:
        case Accelerator(name=name, flops=flops, launch=launch):
            return (
                f"{name}: convolutions at {flops / 1e12:.2f} TFLOPS, {joined}, {launch * 1e6:.0f} us to launch an"
                " operation"
            )
        case Card(name=name, source=source):
            return f"{name}: {joined} ({source})"
        case _:
            assert_never(machine)


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
