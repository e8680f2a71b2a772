"""What `params --machine` prints: the time of a step, of an epoch and of the recipe, before anything is trained."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from archdsl.base.suggest import did_you_mean
from archdsl.core.ir import Network
from archdsl.core.machines import MACHINES, Machine, Precision, precisions_of
from archdsl.core.training_time import batch_of, images_of, precision_of, step_time, steps_of


@dataclass(frozen=True, slots=True)
class Asked:
    """What a time is wanted for; what is None is as the recipe has it."""

    machine: Machine
    batch: int | None
    precision: Precision | None


def asked(machine: str, batch: int | None, precision: Precision | None) -> Asked:
    """What the options ask for. Raises ValueError with what is wrong with them."""
    if machine not in MACHINES:
        near = did_you_mean(machine, MACHINES)
        known = ", ".join(MACHINES)
        raise ValueError(f"`{machine}` is no machine; {f'{near} ' if near else ''}there are {known}")
    computed = precisions_of(MACHINES[machine])
    if precision and precision not in computed:
        raise ValueError(f"{machine} computes in {', '.join(computed)}, and not in {precision}")
    return Asked(MACHINES[machine], batch, precision)


def time_row(network: Network, wanted: Asked) -> dict[str, Any]:
    """Seconds for scripts: of the script that launches every operation, and of a step that is one CUDA graph.

    `graph` is None where a step cannot be one, and epoch and recipe where the number of images is not known.
    """
    images = images_of(network)
    batch = wanted.batch or batch_of(network)
    if images is not None:
        batch = min(batch, images)  # a step has no more than there are
    precision = wanted.precision or precision_of(network, wanted.machine)
    step = step_time(network, wanted.machine, batch, precision)
    steps = None if images is None else steps_of(network, images, batch)
    epochs = int(str(dict(network.recipe.settings)["epochs"]))
    return {
        "machine": wanted.machine.name,
        "batch": batch,
        "precision": precision,
        "images": images,
        "epochs": None if images is None else epochs,
        "eager": _seconds(step.eager, batch, steps, epochs),
        "graph": None if step.graph is None else _seconds(step.graph, batch, steps, epochs),
    }


def _seconds(step: float, batch: int, steps: int | None, epochs: int) -> dict[str, float | None]:
    epoch = None if steps is None else step * steps
    found = {
        "step_seconds": step,
        "images_per_second": batch / step,
        "epoch_seconds": epoch,
        "recipe_seconds": None if epoch is None else epoch * epochs,
    }
    # JSON has no number for what is beyond floating point.
    return {name: value if value is None or math.isfinite(value) else None for name, value in found.items()}


def time_text(row: dict[str, Any]) -> str:
    """The lines about time that follow the others of a network."""
    columns = [row[name] for name in ("eager", "graph") if row[name]]
    names = ("eager", "graph")[: len(columns)]
    lines = [
        f"  time           on {row['machine']}, {row['batch']:,} images in {row['precision']}",
        f"    {'':<28}" + "".join(f"{name:>12}" for name in names),
        _line("step", [_spoken(c["step_seconds"]) for c in columns]),
        _line("images a second", [f"{c['images_per_second']:,.0f}" for c in columns]),
    ]
    if row["images"] is not None:
        epochs = f"recipe of {row['epochs']:,} epoch{'s' if row['epochs'] > 1 else ''}"
        lines += [
            _line(f"epoch of {row['images']:,} images", [_spoken(c["epoch_seconds"]) for c in columns]),
            _line(epochs, [_hours(c["recipe_seconds"]) for c in columns]),
        ]
    graph = "; graph: a step is one CUDA graph" if row["graph"] else ""
    lines += [
        f"    (eager: every operation of a step is launched{graph};",
        "    without the time to read images from a disk, and without tests)",
    ]
    return "\n".join(lines)


def _line(title: str, cells: list[str]) -> str:
    return f"    {title:<28}" + "".join(f"{cell:>12}" for cell in cells)


def _spoken(seconds: float | None) -> str:
    """Seconds with three digits.

    >>> _spoken(0.00236), _spoken(0.0946), _spoken(4.2), _spoken(12_345.0), _spoken(None)
    ('2.36 ms', '94.6 ms', '4.20 s', '12,345 s', 'endless')
    """
    if seconds is None:
        return "endless"
    if seconds < 1:
        return f"{_digits(seconds * 1e3)} ms"
    return f"{_digits(seconds)} s" if seconds < 1e9 else f"{seconds:.2g} s"


def _hours(seconds: float | None) -> str:
    """Hours with three digits.

    >>> _hours(90), _hours(3600 * 123)
    ('0.025 h', '123 h')
    """
    if seconds is None:
        return "endless"
    return f"{_digits(seconds / 3600)} h" if seconds < 1e12 else f"{seconds / 3600:.2g} h"


def _digits(value: float) -> str:
    return f"{value:,.{3 if value < 0.9995 else 2 if value < 9.995 else 1 if value < 99.95 else 0}f}"
