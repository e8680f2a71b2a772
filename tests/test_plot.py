"""Curves of runs."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from support import run, succeed

HEAD = "epoch,train_loss,test_loss,test_error,lr,seconds\n"


def make(folder: Path, spec: str, errors: list[float]) -> Path:
    folder.mkdir()
    rows = "".join(f"{i},{1 / i},1,{error},0.1,1\n" for i, error in enumerate(errors, 1))
    (folder / "metrics.csv").write_text(HEAD + rows)
    (folder / "run.json").write_text(json.dumps({"spec": spec}))
    return folder


def test_runs_of_one_spec_are_one_curve(tmp_path: Path) -> None:
    runs = [make(tmp_path / "a", "WRN(16, 1)", [9, 5, 3]), make(tmp_path / "b", "WRN(16, 1)", [8, 5, 2])]
    other = make(tmp_path / "c", "ResNet(20)", [7, 6])
    picture = tmp_path / "curves.svg"
    command = (sys.executable, "-m", "archdsl", "plot", *runs, other, "-o", picture)
    succeed(*command)
    text = picture.read_text()
    assert text.count("WRN(16, 1), mean of 2") == 1 and text.count("<!-- ResNet(20) -->") == 1
    succeed(*command)
    assert "<svg" in picture.read_text()


@pytest.mark.parametrize(
    ("text", "message"), [(None, "there is no run"), (HEAD, "no epochs yet"), ("a,b\n1,2\n", "not the columns")]
)
def test_what_cannot_be_drawn(tmp_path: Path, text: str | None, message: str) -> None:
    if text is not None:
        (tmp_path / "metrics.csv").write_text(text)
    done = run(sys.executable, "-m", "archdsl", "plot", tmp_path, "-o", tmp_path / "x.svg")
    assert done.returncode == 1 and message in done.stderr and not (tmp_path / "x.svg").exists()
