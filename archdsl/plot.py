"""Curves of training runs: what metrics.csv holds, drawn by matplotlib, which the extra `plot` brings."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from statistics import fmean

from archdsl.files import replace

PANELS = (("test_error", "test error (%)"), ("train_loss", "training loss"))


class PlotError(Exception):
    """What cannot be drawn, and why."""


@dataclass(frozen=True, slots=True)
class Run:
    """One run: what was trained, and the columns of its metrics."""

    name: str
    columns: dict[str, list[float]]


def read(folder: Path) -> Run:
    """The run in a directory. Raises PlotError."""
    path = folder / "metrics.csv"
    try:
        if path.exists() and not path.is_file():
            raise PlotError(f"{path} is not a file")
        with path.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        about = folder / "run.json"
        name = json.loads(about.read_text(encoding="utf-8"))["spec"] if about.exists() else folder.name
        columns = {key: [float(row[key]) for row in rows] for key in ("epoch", *(key for key, _ in PANELS))}
    except OSError as problem:
        raise PlotError(f"there is no run in {folder}: {problem.strerror}") from None
    except (KeyError, TypeError, ValueError):
        raise PlotError(f"{path} has not the columns of a run") from None
    if not rows:
        raise PlotError(f"{path} has no epochs yet")
    return Run(str(name), columns)


def draw(folders: Sequence[Path], output: Path) -> None:
    """Draw error and loss by epoch; runs of one spec, as with several seeds, are one curve: their mean and their range.

    The format follows the name of the output: .svg, .png, .pdf. Raises PlotError, and Refused for the output.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise PlotError("drawing needs matplotlib: pip install 'archdsl[plot]'") from None
    groups: dict[str, list[Run]] = {}
    for folder in folders:
        run = read(folder)
        groups.setdefault(run.name, []).append(run)
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    for axes, (key, title) in zip(figure.subplots(1, len(PANELS)), PANELS, strict=True):
        for name, runs in groups.items():
            epochs = min((run.columns["epoch"] for run in runs), key=len)
            points = list(zip(*(run.columns[key][: len(epochs)] for run in runs), strict=True))
            shown = name.replace("$", r"\$")  # matplotlib would read a formula
            label = shown if len(runs) == 1 else f"{shown}, mean of {len(runs)}"
            (line,) = axes.plot(epochs, [fmean(p) for p in points], label=label, linewidth=1.2)
            if len(runs) > 1:
                low, high = [min(p) for p in points], [max(p) for p in points]
                axes.fill_between(epochs, low, high, color=line.get_color(), alpha=0.15, linewidth=0)
        axes.set(xlabel="epoch", ylabel=title)
        axes.grid(alpha=0.3)
    figure.axes[0].set_ylim(bottom=0)
    figure.axes[0].legend(fontsize="small")
    drawn = BytesIO()
    form = output.suffix.removeprefix(".") or "png"
    try:
        figure.savefig(drawn, format=form, metadata={"Date": None} if form == "svg" else None)
    except ValueError as problem:
        raise PlotError(f"cannot write {output}: {str(problem).splitlines()[0]}") from None
    replace(output, drawn.getvalue())
