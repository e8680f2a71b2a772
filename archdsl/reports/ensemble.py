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
from archdsl.plot import PlotError
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
    """Draw the share of paths and of gradient by length, as figure 6 of arXiv:1605.06431 does. Raises PlotError."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise PlotError("drawing needs matplotlib: pip install 'archdsl[plot]'") from None
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    for network, one in found:
        lengths = range(len(one.paths))
        paths = [n / one.multiplicity for n in one.paths]
        (line,) = left.plot(lengths, paths, label=network.spec, linewidth=1.2)
        right.plot(lengths, one.gradient, color=line.get_color(), linewidth=1.2)
        low, high = one.effective
        right.axvspan(low, high, color=line.get_color(), alpha=0.08, linewidth=0)
    decay = float(found[0][1].decay)
    left.set(xlabel="length of path (blocks)", ylabel="share of paths")
    right.set(xlabel="length of path (blocks)", ylabel=f"share of gradient (x{decay:g} a block)")
    for axes in (left, right):
        axes.grid(alpha=0.3)
        axes.set_ylim(bottom=0)
    left.legend(fontsize="small")
    try:
        figure.savefig(output, metadata={"Date": None} if output.suffix == ".svg" else None)
    except (OSError, ValueError) as problem:
        raise PlotError(f"cannot write {output}: {problem}") from None
