"""What `ensemble` prints and draws: networks as ensembles of paths."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

from archdsl.base.diagnostics import error
from archdsl.base.suggest import spoken
from archdsl.core.ensemble import Ensemble, ensemble
from archdsl.core.ir import Network
from archdsl.core.measure import measure
from archdsl.drawing.chart import Panel, chart
from archdsl.files import replace
from archdsl.reports.tables import table


def ensembles(networks: Sequence[Network], decay: Fraction) -> list[tuple[Network, Ensemble]]:
    """The ensemble of every network that has residual blocks. Raises ArchError where none has."""
    found = [(network, one) for network in networks if (one := ensemble(network, decay))]
    if not found:
        names = spoken((n.name for n in networks), "and")
        raise error("no-match", None, problem=f"there are no residual blocks in {names}")
    return found


def ensemble_rows(found: Sequence[tuple[Network, Ensemble]]) -> list[dict[str, Any]]:
    """A row for each network."""
    return [
        {
            "name": network.name,
            "spec": network.spec,
            "params": measure(network).params,
            "blocks": sum(n for _, n in one.blocks),
            "functions": one.exponent,
            "multiplicity": f"2^{one.exponent}",
            "mean_length": float(one.mean_length),
            "effective": list(one.effective),
        }
        for network, one in found
    ]


def ensemble_table(found: Sequence[tuple[Network, Ensemble]], form: str) -> str:
    """A line for each network."""
    head = ("network", "parameters", "blocks", "functions", "paths", "mean length", "effective lengths")
    body = [
        (
            row["spec"],
            f"{row['params']:,}",
            f"{row['blocks']:,}",
            f"{row['functions']:,}",
            row["multiplicity"],
            f"{row['mean_length']:.1f}",
            f"{row['effective'][0]} to {row['effective'][1]}",
        )
        for row in ensemble_rows(found)
    ]
    return table(head, body, form)


def draw(found: Sequence[tuple[Network, Ensemble]], output: Path) -> None:
    """Draw the share of paths and of gradient by length, as figure 6 of arXiv:1605.06431 does. Raises Refused."""
    paths = tuple(tuple(n / one.multiplicity for n in one.paths) for _, one in found)
    decay = f"share of gradient (x{float(found[0][1].decay):g} a block; the effective paths are shaded)"
    panels = (
        Panel("length of path (blocks)", "share of paths", paths),
        Panel(
            "length of path (blocks)",
            decay,
            tuple(one.gradient for _, one in found),
            tuple(one.effective for _, one in found),
        ),
    )
    replace(output, chart(panels, [network.spec for network, _ in found]))
