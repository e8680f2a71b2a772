"""README.md and the pages of docs/ against the project: what they show is what the commands print."""

from __future__ import annotations

import doctest
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from archdsl.cli import cli
from archdsl.driver import load

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "README.md").read_text(encoding="utf-8")


def _fenced(language: str, page: str = TEXT) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)


def _run(command: str) -> str:
    """What an `archdsl` command line prints, results and messages together."""
    program, *arguments = shlex.split(command)
    assert program == "archdsl"
    done = subprocess.run(
        [sys.executable, "-m", "archdsl", *arguments],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        encoding="utf-8",
        check=False,
        timeout=60,
    )
    return done.stdout


def _sessions() -> list[tuple[str, str]]:
    """Every command line that is shown with its output."""
    found = []
    pages = [TEXT, *(page.read_text(encoding="utf-8") for page in sorted((ROOT / "docs").glob("*.md")))]
    for block in (b for page in pages for b in _fenced("console", page)):
        for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            command, _, output = part.partition("\n")
            found.append((command, output))
    return found


def test_commands_are_shown_with_output() -> None:
    assert len(_sessions()) >= 2


@pytest.mark.parametrize(("command", "output"), _sessions())
def test_command_prints_what_is_shown(command: str, output: str) -> None:
    assert _run(command) == output


@pytest.mark.parametrize("page", ["placement", "analysis", "training"])
def test_examples_of_other_pages_compile(page: str, tmp_path: Path) -> None:
    """Those of docs/language.md have a test of their own."""
    for i, example in enumerate(_fenced("arch", (ROOT / "docs" / f"{page}.md").read_text(encoding="utf-8"))):
        (tmp_path / f"example{i}.arch").write_text(example, encoding="utf-8")
        assert load(str(tmp_path / f"example{i}.arch"))


def test_code_excerpts_are_what_the_compiler_writes() -> None:
    (command,) = re.findall(r"^From `(archdsl [^`]*)`:$", TEXT, re.MULTILINE)
    printed = _run(command)
    excerpts = _fenced("python")
    assert excerpts and all(e in printed for e in excerpts)


def test_python_api_does_what_is_shown() -> None:
    pytest.importorskip("torch")
    (example,) = _fenced("pycon")
    test = doctest.DocTestParser().get_doctest(example, {}, "README.md", "README.md", 0)
    assert test.examples and doctest.DocTestRunner().run(test).failed == 0


def test_table_has_every_command() -> None:
    table = TEXT[TEXT.index("## Commands") : TEXT.index("Exit status")]
    assert set(re.findall(r"^\| `archdsl (\w+)", table, re.MULTILINE)) == set(cli.commands)


def test_files_named_in_the_pipeline_exist() -> None:
    named = re.findall(r"\b(?:archdsl|grammars|specs|templates|docs)/[\w./]*", TEXT)
    assert len(named) > 10
    assert [n for n in named if not (ROOT / n).exists()] == []


def _set_up() -> list[str]:
    """The two set-up commands: the main job, and the tests."""
    return [line for block in _fenced("sh") for line in block.splitlines()]


def test_set_up_is_two_commands_in_a_virtual_environment() -> None:
    main, tests = _set_up()
    assert main.startswith("python3 -m venv .venv && ") and "archdsl compile specs/quickstart.arch" in main
    assert tests.startswith("python3 -m venv .venv && ") and tests.endswith("python -m pytest")


def test_continuous_integration_runs_the_test_command_of_the_readme() -> None:
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    assert _set_up()[1] in [line.strip() for line in script.splitlines()]


def test_readme_is_short() -> None:
    assert len(TEXT.splitlines()) < 150
