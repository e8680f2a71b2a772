"""What `params` prints: counts, other tools' counts, memory, time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from archdsl.core.ir import Network
from archdsl.core.measure import measure
from archdsl.driver import load

if TYPE_CHECKING:
    from archdsl.core.machines import Precision
    from archdsl.reports.time import Asked

CONVENTION = "multiply-adds of convolutions and linear layers, one image"


@dataclass(frozen=True, slots=True)
class Training:
    """What is asked about memory."""

    batch: int
    """Images at a time."""
    precision: Precision
    limit: int | None = None
    """Bytes; the batch is the largest whose training peak is within them, if any."""


def counts(
    specs: Sequence[str],
    macs_as: str | None = None,
    training: Training | None = None,
    time: Asked | None = None,
) -> list[dict[str, Any]]:
    """A row for each network of the specs. Raises ArchError.

    `macs_as` counts multiply-adds as another tool does; `training` asks for memory, and `time` for seconds.
    """
    rows = []
    for spec in specs:
        for one in load(spec):
            network, cost = one.network, measure(one.network)
            rows.append(
                {
                    "name": network.name,
                    "spec": network.spec,
                    "data": network.data,
                    "input": list(network.input.dims),
                    "output": list(network.output.dims),
                    "classes": network.classes,
                    "params": cost.params,
                    "macs": _macs(network, macs_as) if macs_as else cost.macs,
                    **({"macs_as": macs_as} if macs_as else {}),
                    "depth": cost.depth,
                    **({"place": str(network.placement)} if network.placement else {}),
                    **({"memory": _fitted(network, training)} if training else {}),
                    **({"time": _time_row(network, time)} if time else {}),
                }
            )
    return rows


def _time_row(network: Network, wanted: Asked) -> dict[str, Any]:
    from archdsl.reports.time import time_row

    return time_row(network, wanted)


def _time_text(row: dict[str, Any]) -> str:
    from archdsl.reports.time import time_text

    return time_text(row)


def _fitted(network: Network, asked: Training) -> dict[str, Any]:
    if asked.limit is None:
        return memory_row(network, asked.batch, asked.precision)
    from archdsl.core.memory import largest_batch

    batch = largest_batch(network, asked.limit, asked.precision)
    row = memory_row(network, max(1, batch), asked.precision)
    return {**row, "fit": {"bytes": asked.limit, "batch": batch}}


def memory_row(network: Network, batch: int, precision: Precision) -> dict[str, Any]:
    """The bytes of a training step and of inference; those at the peak add up to `training`."""
    from archdsl.core.memory import memory

    optimizer = str(dict(network.recipe.settings)["optimizer"])
    used = memory(network, batch, precision)
    peak = used.peak
    return {
        "batch": batch,
        "precision": precision,
        "optimizer": optimizer,
        "training": used.training,
        "peak": {
            "phase": peak.phase,
            "layer": peak.layer,
            "parameters": used.parameters,
            "optimizer_state": used.optimizer,
            "results": peak.results,
            "half_precision_copies": peak.copies,
            "gradients": peak.gradients,
            "gradients_of_results": peak.gradients_of_results,
            "workspace": peak.workspace,
        },
        "parameters": used.parameters,
        "gradients": used.gradients,
        "optimizer_state": used.optimizer,
        "saved_for_backward": used.saved,
        "inference": used.inference,
    }


def memory_text(row: dict[str, Any], placed: bool = False) -> str:
    """The bytes below the counts of a network; `placed` if it is placed, which they leave aside."""
    peak = row["peak"]
    where = {
        "forward": f"forward, in {peak['layer']}",
        "backward": f"backward, in {peak['layer']}",
        "optimizer": "as the optimiser steps",
    }[peak["phase"]]
    parts = (
        ("parameters", "parameters and buffers"),
        ("optimizer_state", "optimiser"),
        ("results", "images and results"),
        ("half_precision_copies", "copies in half precision"),
        ("gradients", "gradients of weights"),
        ("gradients_of_results", "gradients of results"),
        ("workspace", "workspace of the operation"),
    )
    images = f"{row['batch']:,} image{'s' * (row['batch'] != 1)}"
    lines = [
        f"  memory         for {images} in {row['precision']}, trained by {row['optimizer']}",
        f"    {'training peak':<28}{size(row['training']):>10}  {where}",
        *(f"      {text:<26}{size(peak[key]):>10}" for key, text in parts if peak[key]),
        f"    {'saved for backward':<28}{size(row['saved_for_backward']):>10}",
        f"    {'inference peak':<28}{size(row['inference']):>10}",
        "    (without workspaces of convolutions, and what the allocator keeps in reserve)",
    ]
    if "fit" in row and row["fit"]["batch"]:
        lines.insert(1, f"    {'largest batch':<28}{row['fit']['batch']:>10,}  in {size(row['fit']['bytes'])}")
    if placed:
        lines.append("    (of the network on one device, one function after the other, not as it is placed)")
    return "\n".join(lines)


def size(count: float) -> str:
    """Bytes as people read them; a MB is 10^6 bytes.

    >>> size(999), size(1_234_567), size(2.5e9)
    ('999 B', '1.2 MB', '2.5 GB')
    """
    if count > 10**18:
        return f"{int(count) // 10**9:,} GB"  # it may be beyond what floating point holds
    for unit in ("B", "kB", "MB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:,.1f} GB"


def _macs(network: Network, tool: str) -> int:
    from archdsl.core.conventions import macs_as

    return macs_as(network, tool)


def _convention(row: dict[str, Any]) -> str:
    if "macs_as" not in row:
        return CONVENTION
    from archdsl.core.conventions import CONVENTIONS

    return f"as {row['macs_as']} counts: {CONVENTIONS[row['macs_as']].text}"


def counts_text(rows: Sequence[dict[str, Any]]) -> str:
    """The rows one below the other."""
    blocks = []
    for row in rows:
        shapes = " -> ".join("x".join(str(d) for d in row[key]) for key in ("input", "output"))
        blocks.append(
            f"{row['spec']}\n"
            f"  shapes         {shapes}\n"
            f"  parameters     {row['params']:,}\n"
            f"  multiply-adds  {row['macs']:,}  ({_convention(row)})\n"
            f"  depth          {row['depth']:,}  (convolutions and linear layers on the longest path)"
            + (f"\n  placement      {row['place']}  (see --place {row['place']})" if "place" in row else "")
            + (f"\n{memory_text(row['memory'], 'place' in row)}" if "memory" in row else "")
            + (f"\n{_time_text(row['time'])}" if "time" in row else "")
        )
    return "\n\n".join(blocks)
