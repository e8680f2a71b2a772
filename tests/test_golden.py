"""What the compiler prints for specs that together use every construct of the language."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from support import GOLDEN, SPECS, formatted, nonempty, ruff_clean, specs_in

from archdsl.driver import load

CASES = nonempty(GOLDEN.glob("*.arch"))
Compare = Callable[[str, Path], None]


@pytest.mark.parametrize("spec", CASES, ids=lambda p: p.stem)
def test_printed(spec: Path, golden: Compare, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(GOLDEN)
    compiled = load(spec.name)
    for one in compiled:
        name = spec.stem if len(compiled) == 1 else f"{spec.stem}.{one.network.name}"
        golden(one.ir(), GOLDEN / f"{name}.ir")
        golden(one.model(), GOLDEN / f"{name}.py")


@pytest.mark.parametrize("spec", specs_in(SPECS), ids=lambda p: p.stem)
def test_library(spec: Path, golden: Compare, monkeypatch: pytest.MonkeyPatch) -> None:
    """The structure of every family, layer by layer: of each ready spec the network that is told most shortly.

    Counts alone do not tell a mean from a maximum, or one rate of dropout from another.
    """
    monkeypatch.chdir(SPECS)
    texts = [one.ir() for one in load(str(spec.relative_to(SPECS)))]
    golden(min(texts, key=len), GOLDEN / "library" / f"{spec.parent.name}_{spec.stem}.ir")


def test_nothing_is_left_over() -> None:
    """Every printed file belongs to a spec."""
    for found in nonempty([*GOLDEN.glob("*.ir"), *GOLDEN.glob("*.py")]):
        assert (GOLDEN / f"{found.name.split('.')[0]}.arch").is_file(), f"{found.name} has no spec"
    stems = {f"{path.parent.name}_{path.stem}" for path in specs_in(SPECS)}
    assert {path.stem for path in (GOLDEN / "library").iterdir()} == stems


@pytest.mark.parametrize("spec", nonempty(GOLDEN.rglob("*.arch")), ids=lambda p: p.stem)
def test_specs_are_formatted(spec: Path) -> None:
    text = spec.read_text(encoding="utf-8")
    assert formatted(text) == text


def test_models_are_formatted() -> None:
    ruff_clean(nonempty(GOLDEN.glob("*.py")))
