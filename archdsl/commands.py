"""What the commands share: arguments, options, and how a wrong spec ends a command."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from functools import wraps
from typing import Any

import click

from archdsl.base.diagnostics import ArchError
from archdsl.base.render import Paint, plain, render, visible

WRONG, USAGE, BUG = 1, 2, 70

_COLOURS = {"error": "red", "place": "blue", "note": "green", "help": "cyan"}


def _paint(text: str, role: str) -> str:
    return click.style(text, fg=_COLOURS.get(role), bold=True)


def failing(command: Callable[..., Any]) -> Callable[..., Any]:
    """Show the diagnostics of a wrong spec and exit with 1."""

    @wraps(command)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        from archdsl.files import Refused

        try:
            return command(*args, **kwargs)
        except ArchError as problem:
            paint: Paint = _paint if sys.stderr.isatty() and os.environ.get("TERM") != "dumb" else plain
            for diagnostic in problem.diagnostics:
                click.echo(render(diagnostic, paint), err=True)
            sys.exit(WRONG)
        except Refused as problem:
            click.echo(f"error: {visible(str(problem))}", err=True)
            sys.exit(WRONG)

    return wrapped


specs_argument = click.argument("specs", metavar="SPEC...", nargs=-1, required=True)


place_option = click.option(
    "--place", metavar="HOW", help="Where parallel functions run: none, fused, split:N or mesh:N."
)


_formats = [
    click.option("--markdown", "form", flag_value="markdown", help="A table in Markdown."),
    click.option("--latex", "form", flag_value="latex", help="A table in LaTeX."),
    click.option("--csv", "form", flag_value="csv", help="Comma-separated values."),
]


def table_form(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options that say how a table is written."""
    for option in reversed(_formats):
        command = option(command)
    return command
