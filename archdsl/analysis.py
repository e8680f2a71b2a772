"""The commands that tell what is known before training."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

import click

from archdsl.commands import WRONG, failing, place_option, specs_argument, table_form

if TYPE_CHECKING:
    from archdsl.core.machines import Precision
    from archdsl.reports.time import Asked

LEVELS = 3
"""Of blocks in blocks, in a table of layers."""

MOST_MATCHES = 20
"""Further ones are counted, and shown with --json."""


def read_count(text: str) -> str:
    """A count as people copy it: 36,479,194 is 36479194. Commas elsewhere are left, and are no figure."""
    return text.replace(",", "") if re.fullmatch(r"\d{1,3}(,\d{3})+", text) else text


_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}
_UNITS |= {"ki": 2**10, "mi": 2**20, "gi": 2**30, "ti": 2**40}


def _bytes_of(text: str) -> int:
    """A size of memory as people write it: 24GB is 24 * 10^9 bytes, 22.5 GiB are 22.5 * 2^30."""
    found = re.fullmatch(r"(\d{1,15}(?:\.\d{1,15})?) ?([kmgt]i?|)b", text.strip(), re.IGNORECASE | re.ASCII)
    size = int(Fraction(found[1]) * _UNITS[found[2].lower()]) if found else 0
    if not size:
        raise click.UsageError(f"{text!r} is no size such as 24GB, 22.5GiB or 800MB")
    return size


@click.command()
@specs_argument
@click.option("--json", "as_json", is_flag=True, help="An array of objects, for scripts.")
@click.option("--layers", is_flag=True, help="A row for each layer; neighbours that are equal are one row.")
@click.option("--depth", type=click.IntRange(1), help="For --layers: levels of blocks in blocks [3].")
@table_form
@click.option(
    "--macs-as", type=click.Choice(["torchinfo", "fvcore", "ptflops", "torch"]), help="Count as another tool does."
)
@click.option("--memory", is_flag=True, help="Bytes of a training step, at its peak, and of inference.")
@click.option(
    "--precision",
    "--amp",
    "precision",
    type=click.Choice(["fp32", "tf32", "bf16", "fp16"]),
    help="Of products; bf16 and fp16 are automatic mixed precision [--machine: that of train.py; --memory: fp32].",
)
@click.option("--fit", metavar="SIZE", help="For --memory: the largest batch that trains in so much, as in 24GB.")
@place_option
@click.option(
    "--batch",
    type=click.IntRange(1, 10**6),
    help="Images of a step [--machine: those of the recipe; --memory and --place: 128].",
)
@click.option("--machine", metavar="NAME", help="Time of a step, an epoch and the recipe on k80, a100, h100 or h200.")
@failing
def params(
    specs: Sequence[str],
    as_json: bool,
    layers: bool,
    depth: int | None,
    form: str | None,
    macs_as: str | None,
    memory: bool,
    precision: Precision | None,
    fit: str | None,
    place: str | None,
    batch: int | None,
    machine: str | None,
) -> None:
    """Count parameters, multiply-adds and depth, without running PyTorch.

    With --place: what each device holds and does, what they exchange, and the time of a step. With --machine: how long
    the network trains on it.
    """
    from archdsl.reports.counts import Training, counts, counts_text, size

    if batch is not None and place is None and machine is None and not memory:
        raise click.UsageError("--batch is for --machine, --memory and --place")
    if precision and machine is None and not memory:
        raise click.UsageError("--precision is for --machine and --memory")
    limit = None if fit is None else _bytes_of(fit)
    if limit and not memory:
        raise click.UsageError("--fit is for --memory")
    if limit and batch is not None:
        raise click.UsageError("--fit finds the batch: give --fit or --batch")
    if depth and not layers:
        raise click.UsageError("--depth is for --layers")
    asked = {"--layers": layers, "--macs-as": macs_as, "--memory": memory, "--place": place is not None}
    asked["--machine"] = machine is not None
    together = [name for name, value in asked.items() if value]
    if len(together) > 1 and together not in (["--macs-as", "--memory"], ["--place", "--machine"]):
        raise click.UsageError(f"{' and '.join(together)} do not go together")
    if form and not layers:
        raise click.UsageError(
            "--markdown, --latex and --csv are for --layers; `archdsl compare` makes tables of networks"
        )
    if layers:
        from archdsl.driver import load
        from archdsl.reports.layers import layers_csv, layers_json, layers_table

        networks = [one.network for spec in specs for one in load(spec)]
        if as_json:
            found = [{"name": n.name, "spec": n.spec, "layers": layers_json(n, depth or LEVELS)} for n in networks]
            click.echo(json.dumps(found, indent=2))
            return
        if form == "csv":
            click.echo(layers_csv(networks, depth or LEVELS))
            return
        parts = [layers_table(network, depth or LEVELS, form or "text") for network in networks]
        if not form or len(networks) > 1:
            sign = {"markdown": "### ", "latex": "% "}.get(form or "", "")
            gap = "\n\n" if form == "markdown" else "\n"
            parts = [f"{sign}{network.spec}{gap}{part}" for network, part in zip(networks, parts, strict=True)]
        click.echo("\n\n".join(parts))
        return
    time = _timed(machine, batch, precision) if machine is not None else None
    if place is not None:
        from archdsl.reports.placement import UNASKED, placed, placed_text, warnings

        rows = placed(specs, place, time or replace(UNASKED, batch=batch or UNASKED.batch), timed=time is not None)
        click.echo(json.dumps(rows, indent=2) if as_json else placed_text(rows))
        for warning in warnings(rows):
            click.echo(f"warning: {warning}", err=True)
        return
    training = Training(batch or 128, precision or "fp32", limit) if memory else None
    rows = counts(specs, macs_as, training, time)
    click.echo(json.dumps(rows, indent=2) if as_json else counts_text(rows))
    too_large = [row for row in rows if row.get("memory", {}).get("fit", {}).get("batch") == 0]
    for row in too_large:
        least = size(row["memory"]["training"])
        click.echo(f"error: not even one image fits in {fit}: {row['spec']} needs {least} to train on it", err=True)
    if too_large:
        sys.exit(WRONG)


def _timed(machine: str, batch: int | None, precision: Precision | None) -> Asked:
    from archdsl.reports.time import asked

    try:
        return asked(machine, batch, precision)
    except ValueError as problem:
        raise click.UsageError(str(problem)) from None


@click.command()
@specs_argument
@click.option("--json", "as_json", is_flag=True, help="An array of objects, for scripts.")
@click.option("--batch", type=click.IntRange(1, 10**6), default=128, help="Images in a step, for its memory [128].")
@table_form
@failing
def compare(specs: Sequence[str], as_json: bool, batch: int, form: str | None) -> None:
    """Set networks side by side, with ratios to the first one.

    With --markdown, --latex or --csv: the table that a paper prints, a line for each network.
    """
    from archdsl.driver import load
    from archdsl.reports.compare import MOST_COLUMNS, compare_rows, compare_table, stage_tables

    networks = [one.network for spec in specs for one in load(spec)]
    if as_json:
        click.echo(json.dumps(compare_rows(networks, batch), indent=2))
        return
    click.echo(compare_table(networks, batch, form or "text"))
    if form is None and 1 < len(networks) <= MOST_COLUMNS:
        click.echo(f"\n{stage_tables(networks, 'text')}")


@click.command()
@click.argument("first", metavar="SPEC")
@click.argument("second", metavar="SPEC")
@failing
def diff(first: str, second: str) -> None:
    """Show what the second network has otherwise than the first, module by module."""
    from archdsl.driver import load
    from archdsl.reports.compare import diff_lines

    pair = [load(first), load(second)]
    for spec, found in zip((first, second), pair, strict=True):
        if len(found) != 1:
            raise click.UsageError(f"{spec} has several networks; diff compares two")
    lines = diff_lines(pair[0][0].network, pair[1][0].network)
    click.echo("\n".join(lines) if lines else "no difference in structure")


@click.command()
@click.argument("spec", metavar="SPEC")
@click.option("--params", "params_", metavar="FIGURE", help="Parameters to come near, as in 1.7M.")
@click.option("--macs", metavar="FIGURE", help="Multiply-adds to come near, as in 5.2G.")
@click.option("--like", metavar="SPEC", help="Come near the parameters of another spec.")
@click.option(
    "--within",
    type=click.FloatRange(0, 100),
    default=2.0,
    metavar="PERCENT",
    help="Show all matches as near as this [2].",
)
@click.option("--json", "as_json", is_flag=True, help="An array of objects, for scripts.")
@failing
def match(spec: str, params_: str | None, macs: str | None, like: str | None, within: float, as_json: bool) -> None:
    """Find the numbers for `?` in a SPEC that bring its count near a budget.

    A `?` stands for a whole number, `?[16..64]` for one between bounds: 'B(3,3)x[k=?]' --params 100k.
    """
    from archdsl.frontend.parser import figure
    from archdsl.match import match as search
    from archdsl.match import rows, target_of
    from archdsl.reports.counts import CONVENTION

    if sum(option is not None for option in (params_, macs, like)) != 1:
        raise click.UsageError("give one of --params, --macs and --like")
    measured = "macs" if macs is not None else "params"
    if like is not None:
        target = target_of(like, measured)
    else:
        written = params_ if macs is None else macs
        found = figure(read_count(written or ""))
        if found is None or found[0] < 1 or found[0] != int(found[0]):
            raise click.UsageError(f"{written!r} is no figure such as 1.7M or 1_727_962")
        target = int(found[0])
    table = rows(search(spec, target, measured, within / 100), target)
    if as_json:
        click.echo(json.dumps(table, indent=2))
        return
    more = len(table) - MOST_MATCHES
    table = table[:MOST_MATCHES]
    name = "parameters" if measured == "params" else CONVENTION
    width = max(len(row["spec"]) for row in table)
    click.echo(f"{'target':<{width}}  {target:>16,} {name}{f' of {like}' if like else ''}")
    for row in table:
        click.echo(f"{row['spec']:<{width}}  {row['count']:>16,}  {row['residual']:+.2%}")
    if more > 0:
        click.echo(f"and {more:,} more within {within:g}%")


@click.command()
@click.argument("figure", metavar="COUNT")
@click.option("--json", "as_json", is_flag=True, help="An array of objects, for scripts.")
@failing
def identify(figure: str, as_json: bool) -> None:
    """Tell which network of the library has COUNT parameters, exactly or with a common mistake.

    COUNT is a number such as 45901914, or a figure such as 36.5M.
    """
    from archdsl.frontend.parser import figure as read_figure
    from archdsl.identify import identify as search
    from archdsl.identify import nearest

    found = read_figure(read_count(figure))
    if found is None:
        raise click.UsageError(f"{figure!r} is no count such as 36479194 or 36.5M")
    rows = search(*found)
    if as_json:
        click.echo(json.dumps(rows, indent=2))
        return
    for row in rows:
        click.echo(f"{row['spec']}: {row['params']:,} parameters")
        for mistake in row["mistakes"]:
            click.echo(f"  {mistake}")
        if row["mistakes"]:
            click.echo(f"  is {row['count']:,}")
    if not rows:
        click.echo(f"no network of the library has {figure} parameters; the nearest:", err=True)
        for row in nearest(found[0]):
            click.echo(f"  {row['spec']}: {row['params']:,}", err=True)
        sys.exit(WRONG)


@click.command()
@specs_argument
@click.option("--decay", default="0.5", metavar="X", help="What a gradient is multiplied by in a block [0.5].")
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Picture: a file that ends in .svg.")
@click.option("--json", "as_json", is_flag=True, help="An array of objects, for scripts.")
@table_form
@failing
def ensemble(specs: Sequence[str], decay: str, output: Path | None, as_json: bool, form: str | None) -> None:
    """Show residual networks as ensembles of paths: how many, how long, and which of them train.

    The effective lengths are those of the paths that carry all but 5% of the gradient at either end.
    """
    from archdsl.driver import load
    from archdsl.frontend.parser import figure
    from archdsl.reports.ensemble import draw, ensemble_rows, ensemble_table, ensembles

    if output:
        _svg_only(output)
    factor = figure(decay)
    if factor is None or not 0 < factor[0] <= 1:
        raise click.UsageError("--decay is a number above 0 and at most 1")
    networks = [one.network for spec in specs for one in load(spec)]
    found = ensembles(networks, factor[0])
    for network in networks:
        if all(network is not other for other, _ in found):
            click.echo(f"note: {network.name} has no residual blocks", err=True)
    if as_json:
        click.echo(json.dumps(ensemble_rows(found), indent=2))
    else:
        click.echo(ensemble_table(found, form or "text"))
        if form is None:
            click.echo(f"(a gradient is multiplied by {decay} in every block that it passes; 90% of it is effective)")
    if output is not None:
        draw(found, output)


@click.command()
@click.argument("spec", metavar="SPEC")
@click.option("-o", "--output", type=click.Path(path_type=Path), help="File; without it the picture is printed.")
@click.option("--format", "form", type=click.Choice(["svg", "mermaid", "dot"]), default="svg", help="[svg]")
@place_option
@failing
def draw(spec: str, output: Path | None, form: str, place: str | None) -> None:
    """Draw a network: its stages, and the inside of each of its blocks.

    With --place, parallel functions have the colour of their device.
    """
    from archdsl.drawing.diagram import diagram
    from archdsl.drawing.graph import dot, mermaid
    from archdsl.drawing.svg import svg
    from archdsl.driver import load
    from archdsl.files import replace

    if output and form == "svg":
        _svg_only(output)
    found = load(spec, place)
    if len(found) != 1:
        raise click.UsageError(f"{spec} has several networks; a picture shows one")
    text = {"svg": svg, "mermaid": mermaid, "dot": dot}[form](diagram(found[0].network))
    if output is None:
        click.echo(text, nl=False)
    else:
        replace(output, text)


def _svg_only(output: Path) -> None:
    if output.suffix != ".svg":
        raise click.UsageError(f"a picture is written as .svg, and {output} is not")


COMMANDS = (params, compare, diff, match, identify, ensemble, draw)
