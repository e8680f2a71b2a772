"""The command line: it alone prints, colours and exits, with archdsl/commands.py and archdsl/analysis.py."""

from __future__ import annotations

import contextlib
import gc
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import click

from archdsl.analysis import COMMANDS
from archdsl.base.diagnostics import ArchError, Diagnostic, Gathering
from archdsl.base.render import visible
from archdsl.base.version import __version__
from archdsl.commands import BUG, WRONG, failing, place_option, specs_argument


def main() -> None:
    """Run the command line; a bug in archdsl says so and how to report it."""
    gc.disable()  # a command ends before there is garbage worth collecting
    try:
        cli(prog_name="archdsl", standalone_mode=True)
    except BrokenPipeError:
        sys.exit(0)
    except Exception as problem:
        if isinstance(problem, OSError) and problem.filename is None:  # what is written to has no room left
            with contextlib.suppress(OSError):
                click.echo(f"error: cannot write: {(problem.strerror or 'failed').lower()}", err=True)
            sys.exit(WRONG)
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


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="archdsl", message="%(prog)s %(version)s")
def cli() -> None:
    """A compiler for neural network architectures.

    A SPEC is a .arch file or an expression such as 'B(3, 3)x[k=4] on 16x32x32'.
    """


@cli.command("compile")
@specs_argument
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Folder for model.py and train.py.")
@click.option("--emit", type=click.Choice(["syntax", "ir", "model", "train"]), help="Print one stage instead.")
@click.option("--force", is_flag=True, help="Overwrite files that were edited.")
@place_option
@failing
def compile_(specs: Sequence[str], output: Path | None, emit: str | None, force: bool, place: str | None) -> None:
    """Write model.py and train.py for each network."""
    if (output is None) == (emit is None):
        raise click.UsageError("give either -o DIR or --emit STAGE")
    if emit:
        click.echo("\n".join(_emit(spec, emit, place) for spec in specs), nl=False)
        return
    from archdsl.core.recipe import untrainable
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
        if why := untrainable(one.network):
            untrained.append(f"{one.network.name} {why}")
        else:
            files[folder / "train.py"] = one.train()
    write_all(files, force)
    for path in files:
        click.echo(str(path))
    for one in compiled:
        for note in one.unplaced():
            click.echo(f"note: {note}", err=True)
    for why in untrained:
        click.echo(f"note: {why}, so it has no train.py", err=True)


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
        from archdsl.core.recipe import untrainable

        if why := untrainable(one.network):
            raise click.UsageError(f"{one.network.name} {why}")
        return one.train()
    return one.model()


@cli.command()
@specs_argument
@click.option("--json", "as_json", is_flag=True, help="An object with networks and problems, for editors.")
@failing
def check(specs: Sequence[str], as_json: bool) -> None:
    """Validate specs, `expect` lines included. Every mistake is reported at once."""
    from archdsl.base.render import as_json as described
    from archdsl.driver import examine, open_spec

    problems: list[tuple[str, Diagnostic]] = []
    networks = []
    for spec in specs:
        try:
            found = examine(*open_spec(spec))
        except ArchError as problem:
            problems += ((spec, d) for d in problem.diagnostics)
            continue
        problems += ((spec, d) for d in found.problems)
        for one in found.compiled:
            try:
                cost = one.check()
            except ArchError:
                continue  # it is among the problems
            networks.append({"name": one.network.name, "spec": one.network.spec, "params": cost.params})
            met = ", as expected" if one.elaborated.expectations else ""
            if not as_json:
                click.echo(f"{one.network.name}: {cost.params:,} parameters{met}")
    if as_json:
        # One that is at no place, as a file that is not there, is of the spec as a whole.
        rows = [{"file": spec, **described(p)} for spec, p in problems]
        click.echo(json.dumps({"networks": networks, "problems": rows}, indent=2))
        sys.exit(WRONG if problems else 0)
    if problems:
        raise ArchError(*(p for _, p in problems))


@cli.command()
@click.argument("files", metavar="FILE...", nargs=-1, required=True)
@click.option("--check", "only_check", is_flag=True, help="Change nothing; exit with 1 if a file would change.")
@click.option("--diff", "show_diff", is_flag=True, help="Change nothing; print what would change.")
@failing
def fmt(files: Sequence[str], only_check: bool, show_diff: bool) -> None:
    """Format .arch files; - is standard input. No file is written if one of them is wrong."""
    from difflib import unified_diff

    from archdsl.base.source import Source
    from archdsl.files import replace
    from archdsl.frontend.formatter import formatted
    from archdsl.frontend.resolve import read

    parts = Gathering()
    found: list[tuple[str, str, str]] = []
    for name in files:
        with parts:
            source = Source("<stdin>", _standard_input()) if name == "-" else read(Path(name), name)
            found.append((name, source.text, formatted(source)))
    parts.settle()
    changed = [(name, old, new) for name, old, new in found if new != old]
    for name, old, new in changed if show_diff else ():
        lines = unified_diff(old.splitlines(True), new.splitlines(True), name, f"{name}, formatted")
        click.echo("".join(line if line.endswith("\n") else f"{line}\n" for line in lines), nl=False)
    if only_check or show_diff:
        for name, _, _ in changed:
            click.echo(f"would change {visible(name)}", err=True)
        sys.exit(WRONG if changed else 0)
    for name, old, new in found:
        if name == "-":
            click.echo(new, nl=False)
        elif new != old:
            replace(Path(name), new)
            click.echo(f"formatted {visible(name)}", err=True)


def _standard_input() -> str:
    from archdsl.base import limits
    from archdsl.base.diagnostics import error

    try:
        return (
            sys.stdin.buffer.read(4 * limits.SOURCE + 1).decode("utf-8-sig").replace("\r\n", "\n").replace("\r", "\n")
        )
    except UnicodeDecodeError:
        raise error("not-text", None, name="<stdin>") from None


@cli.command()
def lsp() -> None:
    """Start the language server on standard input and output; editors do."""
    try:
        from archdsl.editor.server import main
    except ImportError:
        click.echo("archdsl: the language server needs pygls: pip install 'archdsl[lsp]'", err=True)
        sys.exit(WRONG)
    main()


@cli.command()
@click.argument("runs", metavar="RUN_DIR...", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True, help="Picture: .svg, .png or .pdf.")
@failing
def plot(runs: Sequence[Path], output: Path) -> None:
    """Draw error and loss of training runs; those of one spec are averaged."""
    from archdsl.plot import PlotError, draw

    try:
        draw(runs, output)
    except PlotError as problem:
        click.echo(f"archdsl: {problem}", err=True)
        sys.exit(WRONG)


@cli.command("list")
@click.option("--json", "as_json", is_flag=True, help="An array of objects, for scripts.")
@failing
def list_(as_json: bool) -> None:
    """List the families of the library, with their parameters."""
    from archdsl.reports.families import families, families_text

    rows = families()
    click.echo(json.dumps(rows, indent=2) if as_json else families_text(rows))


for command in COMMANDS:
    cli.add_command(command)
