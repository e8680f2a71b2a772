"""docs/errors.md: a section for each code, whose example has that error and prints what is shown."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from archdsl.base.diagnostics import CATALOGUE, ArchError
from archdsl.base.render import render
from archdsl.driver import examine, open_spec

DOCS = Path(__file__).parent.parent / "docs" / "errors.md"
_EXAMPLE = re.compile(r"```arch\n(.*?)```\n\n```text\n(.*?)```\n", re.DOTALL)
WITHOUT = {"E0802", "E0805"}
"""Not mistakes of a text: an encoding, and a search."""


def _said(source: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (folder / "example.arch").write_text(source, encoding="utf-8")
    monkeypatch.chdir(folder)
    try:
        problems = examine(*open_spec("example.arch")).problems
    except ArchError as problem:
        problems = problem.diagnostics
    return "".join(f"{render(p)}\n" for p in problems)


def test_every_example_prints_what_is_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, golden: Callable[[str, Path], None]
) -> None:
    text = DOCS.read_text(encoding="utf-8")
    golden(
        _EXAMPLE.sub(lambda m: f"```arch\n{m[1]}```\n\n```text\n{_said(m[1], tmp_path, monkeypatch)}```\n", text), DOCS
    )


def test_every_code_has_a_section_and_an_example() -> None:
    sections = re.split(r"^### (E\d{4})\n", DOCS.read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert sections[1::2] == sorted(code for code, _ in CATALOGUE.values())
    for code, body in zip(sections[1::2], sections[2::2], strict=True):
        assert code in WITHOUT or f"error[{code}]:" in body, code


def test_every_code_has_one_sentence() -> None:
    codes = [code for code, _ in CATALOGUE.values()]
    assert len(codes) == len(set(codes))


def test_every_code_has_a_case_in_errors() -> None:
    said = "".join(p.read_text(encoding="utf-8") for p in (Path(__file__).parent / "errors").glob("*.txt"))
    assert {code for code, _ in CATALOGUE.values()} - set(re.findall(r"error\[(E\d{4})\]", said)) == WITHOUT
