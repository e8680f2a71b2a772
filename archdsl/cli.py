"""The command line: the only module that prints, colours or exits."""

from __future__ import annotations

import gc
import json
import sys
from collections.abc import Callable, Sequence
from functools import wraps
from pathlib import Path
from typing import Any

import click

from archdsl.base.diagnostics import ArchError
from archdsl.base.render import Paint, plain, render
from archdsl.base.version import __version__

WRONG, USAGE, BUG = 1, 2, 70

_COLOURS = {"error": "red", "place": "blue", "note": "green", "help": "cyan"}


def _paint(text: str, role: str) -> str:
    return click.style(text, fg=_COLOURS.get(role), bold=True)


def main() -> None:
    """Run the command line; a bug in archdsl says so and how to report it."""
    gc.disable()  # a command ends before there is garbage worth collecting
    try:
        cli(prog_name="archdsl", standalone_mode=True)
    except Exception as problem:
        _report_bug(problem)
        sys.exit(BUG)


def _report_bug(problem: BaseException) -> None:
    import platform
    import traceback

    last = traceback.extract_tb(problem.__traceback__)[-1] if problem.__traceback__ else None
    where = f"{Path(last.filename).name}:{last.lineno} in {last.name}" if last else "?"
    lines = [
        "archdsl: this is a bug in archdsl, not in your spec. Please report these lines and the spec:",
        f"  archdsl {__version__}, Python {platform.python_version()}, {platform.system()}",
        f"  command: {' '.join(sys.argv[1:])}"[:400],
        f"  {type(problem).__name__}: {problem} at {where}"[:400],
    ]
    click.echo("\n".join(lines), err=True)


def _failing(command: Callable[..., Any]) -> Callable[..., Any]:
    """Show the diagnostics of a wrong spec and exit with 1."""

    @wraps(command)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        from archdsl.files import Refused

        try:
            return command(*args, **kwargs)
        except ArchError as problem:
            paint: Paint = _paint if sys.stderr.isatty() else plain
            for diagnostic in problem.diagnostics:
                click.echo(render(diagnostic, paint), err=True)
            sys.exit(WRONG)
        except Refused as problem:
            click.echo(f"error: {problem}", err=True)
            sys.exit(WRONG)
        except BrokenPipeError:
            sys.exit(0)

    return wrapped


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="archdsl", message="%(prog)s %(version)s")
def cli() -> None:
    """A compiler for neural network architectures.

    A SPEC is a .arch file or an expression such as 'WRN(28, 10, dropout=0.3)'.
    """


_specs = click.argument("specs", metavar="SPEC...", nargs=-1, required=True)


_place = click.option("--place", metavar="HOW", help="Where parallel functions run: fused, split:N or mesh:N.")


@cli.command("compile")
@_specs
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Folder for model.py and train.py.")
@click.option("--emit", type=click.Choice(["syntax", "ir", "model", "train"]), help="Print one stage instead.")
@click.option("--force", is_flag=True, help="Overwrite files that were edited.")
@_place
@_failing
def compile_(specs: Sequence[str], output: Path | None, emit: str | None, force: bool, place: str | None) -> None:
    """Write model.py and train.py for each network."""
    if (output is None) == (emit is None):
        raise click.UsageError("give either -o DIR or --emit STAGE")
    if emit:
        click.echo("\n".join(_emit(spec, emit, place) for spec in specs), nl=False)
        return
    from archdsl.backend.training import trainable
    from archdsl.driver import load
    from archdsl.files import write_all

    compiled = [c for spec in specs for c in load(spec, place)]
    for one in compiled:
        one.check()
    _distinct([c.network.name for c in compiled])
    assert output is not None
    files: dict[Path, str] = {}
    untrained = []
    for one in compiled:
        folder = output if len(compiled) == 1 else output / one.network.name
        files[folder / "model.py"] = one.model()
        if trainable(one.network):
            files[folder / "train.py"] = one.train()
        else:
            untrained.append(one.network.name)
    write_all(files, force)
    for path in files:
        click.echo(str(path))
    for one in compiled:
        for note in one.unplaced():
            click.echo(f"note: {note}", err=True)
    for name in untrained:
        click.echo(f"note: {name} has no classes to train for, so it has no train.py", err=True)


def _distinct(names: Sequence[str]) -> None:
    twice = next((n for n in names if names.count(n) > 1), None)
    if twice:
        raise click.UsageError(f"two networks are named {twice}, and would be written to one folder")


def _emit(spec: str, stage: str, place: str | None) -> str:
    from archdsl.driver import load, open_spec

    if stage == "syntax":
        from archdsl.frontend.dump import dump
        from archdsl.frontend.parser import parse

        return dump(parse(open_spec(spec)[0]))
    compiled = load(spec, place)
    if len(compiled) > 1:
        raise click.UsageError(f"{spec} has several networks; --emit prints one")
    one = compiled[0]
    if stage == "ir":
        return one.ir()
    one.check()
    if stage == "train":
        from archdsl.backend.training import trainable

        if not trainable(one.network):
            raise click.UsageError(f"{one.network.name} has no classes to train for")
        return one.train()
    return one.model()


_formats = [
    click.option("--markdown", "form", flag_value="markdown", help="A table in Markdown."),
    click.option("--latex", "form", flag_value="latex", help="A table in LaTeX."),
    click.option("--csv", "form", flag_value="csv", help="Comma-separated values."),
]


def _table_form(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options that say how a table is written."""
    for option in reversed(_formats):
        command = option(command)
    return command


@cli.command()
@_specs
@click.option("--json", "as_json", is_flag=True, help="An array of objects, for scripts.")
@click.option("--layers", is_flag=True, help="A row for each layer; neighbours that are equal are one row.")
@click.option("--depth", type=click.IntRange(1), default=3, help="For --layers: levels of blocks in blocks [3].")
@_table_form
@click.option(
    "--macs-as", type=click.Choice(["torchinfo", "fvcore", "ptflops", "torch"]), help="Count as another tool does."
)
@click.option("--memory", is_flag=True, help="Bytes of a training step and of inference.")
@click.option("--amp", type=click.Choice(["bf16", "fp16"]), help="For --memory: automatic mixed precision.")
@_place
@click.option("--batch", type=click.IntRange(1, 10**6), help="For --memory and --place: images [128].")
@click.option("--machine", metavar="NAME", help="For --place: k80, a100 or h100 [k80].")
@_failing
def params(
    specs: Sequence[str],
    as_json: bool,
    layers: bool,
    depth: int,
    form: str | None,
    macs_as: str | None,
    memory: bool,
    amp: str | None,
    place: str | None,
    batch: int | None,
    machine: str | None,
) -> None:
    """Count parameters, multiply-adds and depth, without running PyTorch.

    With --place: what each device holds and does, what they exchange, and the time of a step on a stated machine.
    """
    from archdsl.report import counts, counts_text

    if place is None and machine is not None:
        raise click.UsageError("--machine is for --place")
    if batch is not None and place is None and not memory:
        raise click.UsageError("--batch is for --memory and --place")
    if amp and not memory:
        raise click.UsageError("--amp is for --memory")
    if form and not layers:
        raise click.UsageError(
            "--markdown, --latex and --csv are for --layers; `archdsl compare` makes tables of networks"
        )
    if layers:
        from archdsl.driver import load
        from archdsl.shown import layers_json, layers_table

        networks = [one.network for spec in specs for one in load(spec)]
        if as_json:
            found = [{"name": n.name, "spec": n.spec, "layers": layers_json(n, depth)} for n in networks]
            click.echo(json.dumps(found, indent=2))
            return
        for i, network in enumerate(networks):
            title = [] if form else [*([""] if i else []), network.spec]
            click.echo("\n".join([*title, layers_table(network, depth, form or "text")]))
        if not form:
            click.echo("(multiply-adds for one image; what stands below a row of several is one of them)")
        return
    if place is not None:
        from archdsl.shares import placed, placed_text, warnings

        rows = placed(specs, place, batch or 128, machine or "k80")
        click.echo(json.dumps(rows, indent=2) if as_json else placed_text(rows))
        for warning in warnings(rows):
            click.echo(f"warning: {warning}", err=True)
        return
    rows = counts(specs, macs_as, (batch or 128, amp or "fp32") if memory else None)
    click.echo(json.dumps(rows, indent=2) if as_json else counts_text(rows))


@cli.command()
@_specs
@click.option("--decay", default="0.5", metavar="X", help="What a gradient is multiplied by in a block [0.5].")
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Picture: .svg, .png or .pdf.")
@click.option("--json", "as_json", is_flag=True, help="An array of objects, for scripts.")
@_table_form
@_failing
def ensemble(specs: Sequence[str], decay: str, output: Path | None, as_json: bool, form: str | None) -> None:
    """Show residual networks as ensembles of paths: how many, how long, and which of them train.

    The effective lengths are those of the paths that carry all but 5% of the gradient at either end.
    """
    from archdsl.driver import load
    from archdsl.frontend.parser import figure
    from archdsl.paths import draw, ensemble_rows, ensemble_table, ensembles
    from archdsl.plot import PlotError

    factor = figure(decay)
    if factor is None or not 0 < factor[0] <= 1:
        raise click.UsageError("--decay is a number above 0 and at most 1")
    found = ensembles([one.network for spec in specs for one in load(spec)], factor[0])
    if as_json:
        click.echo(json.dumps(ensemble_rows(found), indent=2))
    else:
        click.echo(ensemble_table(found, form or "text"))
        if form is None:
            click.echo(f"(a gradient is multiplied by {decay} in every block that it passes; 90% of it is effective)")
    if output is not None:
        try:
            draw(found, output)
        except PlotError as problem:
            click.echo(f"archdsl: {problem}", err=True)
            sys.exit(WRONG)


@cli.command()
@click.argument("figure", metavar="COUNT")
@click.option("--json", "as_json", is_flag=True, help="An array of objects, for scripts.")
@_failing
def identify(figure: str, as_json: bool) -> None:
    """Tell which network of the library has COUNT parameters, exactly or with a common mistake.

    COUNT is a number such as 45901914, or a figure such as 36.5M.
    """
    from archdsl.frontend.parser import figure as read_figure
    from archdsl.identify import identify as search
    from archdsl.identify import nearest

    found = read_figure(figure.replace(",", ""))
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


@cli.command()
@_specs
@click.option("--json", "as_json", is_flag=True, help="An array of objects, for scripts.")
@click.option("--batch", type=click.IntRange(1, 10**6), default=128, help="Images in a step, for its memory [128].")
@_table_form
@_failing
def compare(specs: Sequence[str], as_json: bool, batch: int, form: str | None) -> None:
    """Set networks side by side, with ratios to the first one.

    With --markdown, --latex or --csv: the table that a paper prints, a line for each network.
    """
    from archdsl.compare import MOST_COLUMNS, compare_rows, compare_table, stage_tables
    from archdsl.driver import load

    networks = [one.network for spec in specs for one in load(spec)]
    if as_json:
        click.echo(json.dumps(compare_rows(networks, batch), indent=2))
        return
    click.echo(compare_table(networks, batch, form or "text"))
    if form is None and 1 < len(networks) <= MOST_COLUMNS:
        click.echo(f"\n{stage_tables(networks, 'text')}")
    if form is None:
        note = f"memory of a training step of {batch:,} images in fp32"
        click.echo(f"(multiply-adds of convolutions and linear layers, one image; {note})")


@cli.command()
@click.argument("first", metavar="SPEC")
@click.argument("second", metavar="SPEC")
@_failing
def diff(first: str, second: str) -> None:
    """Show what the second network has otherwise than the first, module by module."""
    from archdsl.compare import diff_lines
    from archdsl.driver import load

    pair = [load(first), load(second)]
    for spec, found in zip((first, second), pair, strict=True):
        if len(found) != 1:
            raise click.UsageError(f"{spec} has several networks; diff compares two")
    lines = diff_lines(pair[0][0].network, pair[1][0].network)
    click.echo("\n".join(lines) if lines else "no difference in structure")


@cli.command()
@click.argument("spec", metavar="SPEC")
@click.option("--params", "params_", metavar="FIGURE", help="Parameters to come near, as in 1.7M.")
@click.option("--macs", metavar="FIGURE", help="Multiply-adds to come near, as in 5.2G.")
@click.option("--like", metavar="SPEC", help="Come near the parameters of another spec.")
@click.option("--within", default=2.0, metavar="PERCENT", help="Show all matches as near as this [2].")
@click.option("--json", "as_json", is_flag=True, help="An array of objects, for scripts.")
@_failing
def match(spec: str, params_: str | None, macs: str | None, like: str | None, within: float, as_json: bool) -> None:
    """Find the numbers for `?` in a SPEC that bring its count near a budget.

    A `?` stands for a whole number, `?[16..64]` for one between bounds: 'B(3,3)x[k=?]' --params 100k.
    """
    from archdsl.frontend.parser import figure
    from archdsl.match import match as search
    from archdsl.match import rows, target_of

    if sum(option is not None for option in (params_, macs, like)) != 1:
        raise click.UsageError("give one of --params, --macs and --like")
    measured = "macs" if macs is not None else "params"
    if like is not None:
        target = target_of(like, measured)
    else:
        written = params_ if macs is None else macs
        found = figure(written or "")
        if found is None or found[0] < 1 or found[0] != int(found[0]):
            raise click.UsageError(f"{written!r} is no figure such as 1.7M or 1_727_962")
        target = int(found[0])
    table = rows(search(spec, target, measured), target, within / 100, 20)
    if as_json:
        click.echo(json.dumps(table, indent=2))
        return
    name = "parameters" if measured == "params" else "multiply-adds"
    width = max(len(row["spec"]) for row in table)
    click.echo(f"{'target':<{width}}  {target:>16,} {name}{f' of {like}' if like else ''}")
    for row in table:
        click.echo(f"{row['spec']:<{width}}  {row['count']:>16,}  {row['residual']:+.2%}")


@cli.command()
@_specs
@_failing
def check(specs: Sequence[str]) -> None:
    """Validate specs, `expect` lines included."""
    from archdsl.driver import load

    problems: list[ArchError] = []
    for spec in specs:
        try:
            loaded = load(spec)
        except ArchError as problem:
            problems.append(problem)
            continue
        for one in loaded:
            try:
                cost = one.check()
            except ArchError as problem:
                problems.append(problem)
                continue
            met = ", as expected" if one.elaborated.expectations else ""
            click.echo(f"{one.network.name}: {cost.params:,} parameters{met}")
    if problems:
        raise ArchError(*(d for p in problems for d in p.diagnostics))


@cli.command()
@click.argument("files", metavar="FILE...", nargs=-1, required=True)
@click.option("--check", "only_check", is_flag=True, help="Change nothing; exit with 1 if a file would change.")
@_failing
def fmt(files: Sequence[str], only_check: bool) -> None:
    """Format .arch files; - is standard input."""
    from archdsl.base.source import Source
    from archdsl.files import replace_text
    from archdsl.frontend.formatter import format_file
    from archdsl.frontend.parser import parse
    from archdsl.frontend.resolve import read

    changed = []
    for name in files:
        source = Source("<stdin>", sys.stdin.read()) if name == "-" else read(Path(name), name)
        text = format_file(parse(source))
        if name == "-" and not only_check:
            click.echo(text, nl=False)
        elif text != source.text:
            changed.append(name)
            if not only_check:
                replace_text(Path(name), text)
    for name in changed:
        click.echo(f"{'would change' if only_check else 'formatted'} {name}", err=True)
    if only_check and changed:
        sys.exit(WRONG)


@cli.command()
@click.argument("runs", metavar="RUN_DIR...", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True, help="Picture: .svg, .png or .pdf.")
def plot(runs: Sequence[Path], output: Path) -> None:
    """Draw error and loss of training runs; those of one spec are averaged."""
    from archdsl.plot import PlotError, draw

    try:
        draw(runs, output)
    except PlotError as problem:
        click.echo(f"archdsl: {problem}", err=True)
        sys.exit(WRONG)


@cli.command()
@click.argument("spec", metavar="SPEC")
@click.option("-o", "--output", type=click.Path(path_type=Path), help="File; without it the picture is printed.")
@click.option("--format", "form", type=click.Choice(["svg", "mermaid", "dot"]), default="svg", help="[svg]")
@_place
@_failing
def draw(spec: str, output: Path | None, form: str, place: str | None) -> None:
    """Draw a network: its stages, and the inside of each of its blocks.

    With --place, parallel functions have the colour of their device.
    """
    from archdsl.drawing.diagram import diagram
    from archdsl.drawing.graph import dot, mermaid
    from archdsl.drawing.svg import svg
    from archdsl.driver import load
    from archdsl.files import replace_text

    found = load(spec, place)
    if len(found) != 1:
        raise click.UsageError(f"{spec} has several networks; a picture shows one")
    text = {"svg": svg, "mermaid": mermaid, "dot": dot}[form](diagram(found[0].network))
    if output is None:
        click.echo(text, nl=False)
    else:
        replace_text(output, text)


@cli.command("list")
@click.option("--json", "as_json", is_flag=True, help="An array of objects, for scripts.")
@_failing
def list_(as_json: bool) -> None:
    """List the families of the library, with their parameters."""
    from archdsl.report import families, families_text

    rows = families()
    click.echo(json.dumps(rows, indent=2) if as_json else families_text(rows))
