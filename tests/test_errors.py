"""Wrong specs: each error in tests/errors/ is a spec and, beside it, the source and the message that a user reads."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from archdsl.cli import main

ERRORS = Path(__file__).parent / "errors"
CASES = sorted(ERRORS.glob("*.arch"))


def archdsl(*args: str | Path, cwd: Path = ERRORS) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "archdsl", *map(str, args)], capture_output=True, encoding="utf-8", cwd=cwd
    )


def session(source: str, message: str) -> str:
    """What a reviewer reads: the spec and what archdsl says of it."""
    return f"{source.rstrip()}\n\n{'-' * 80}\n{message}"


def place(message: str) -> str:
    """The file that a message points at first."""
    found = re.search(r"^ *--> (.+):\d+:\d+$", message, re.MULTILINE)
    return found[1] if found else ""


def test_there_are_cases() -> None:
    assert len(CASES) > 100
    assert {p.stem for p in ERRORS.glob("*.txt")} <= {p.stem for p in CASES}


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[str, str]]:
    """What a command that fails says on its standard output and its standard error; without a process of its own."""

    def told(*args: str | Path) -> tuple[str, str]:
        monkeypatch.chdir(ERRORS)
        monkeypatch.setattr(sys, "argv", ["archdsl", *map(str, args)])
        with pytest.raises(SystemExit) as end:
            main()
        assert end.value.code == 1
        return tuple(capsys.readouterr())  # type: ignore[return-value]

    return told


@pytest.mark.parametrize("path", CASES, ids=lambda p: p.stem)
def test_message(path: Path, told: Callable[..., tuple[str, str]], golden: Callable[[str, Path], None]) -> None:
    out, err = told("check", path.name)
    for diagnostic in re.split(r"^(?=error\[)", err, flags=re.MULTILINE)[1:]:
        assert place(diagnostic) in (path.name, ""), "the user's line comes first"
    golden(session(path.read_text(encoding="utf-8"), f"{out}{err}"), path.with_suffix(".txt"))


@pytest.mark.parametrize("path", CASES, ids=lambda p: p.stem)
def test_nothing_is_written(path: Path, told: Callable[..., tuple[str, str]], tmp_path: Path) -> None:
    out, err = told("compile", path, "-o", tmp_path / "out")
    assert out == "" and err.startswith("error[E")
    assert not list(tmp_path.iterdir())


def test_one_wrong_network_of_many_and_nothing_is_written(tmp_path: Path) -> None:
    done = archdsl("compile", "WRN(28, 10)", ERRORS / "expect_exact.arch", "ResNet(20)", "-o", tmp_path / "out")
    assert done.returncode == 1 and not list(tmp_path.iterdir())


def test_files_of_before_stay_as_they_are(tmp_path: Path) -> None:
    assert archdsl("compile", "WRN(10, 1)", "-o", tmp_path).returncode == 0
    before = {p: p.read_bytes() for p in tmp_path.iterdir()}
    assert archdsl("compile", "WRN(11, 1)", "-o", tmp_path).returncode == 1
    assert before and {p: p.read_bytes() for p in tmp_path.iterdir()} == before


# ---- what cannot be a file in tests/errors

EXPRESSIONS = {
    "WRN(27,10)": "depth 27 is not 6n + 4",
    "WRN(28,10": "the spec ends too early",
    "B(3,3)x4": "unexpected",
    "": "there is no network",
    "x": "unknown name `x`",
    "3": "found 3",
    "cifar10": "expected a network",
    "WRN": "`WRN` needs `depth` and `k`",
    "nowhere.arch": "cannot read nowhere.arch",
    "no/such/folder/net.arch": "cannot read",
}


@pytest.mark.parametrize("spec", EXPRESSIONS)
def test_wrong_expression(spec: str, tmp_path: Path) -> None:
    done = archdsl("params", spec, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    assert EXPRESSIONS[spec] in done.stderr and place(done.stderr) in ("<command line>", "")


def test_folder_is_no_spec(tmp_path: Path) -> None:
    (tmp_path / "net.arch").mkdir()
    done = archdsl("check", "net.arch", cwd=tmp_path)
    assert done.returncode == 1 and "cannot read net.arch" in done.stderr


@pytest.mark.parametrize("content", [b"WRN(28, 10) # \xff\n", b"\xff\xfeW\x00R\x00N\x00", b"\x80\x04\x95"])
def test_not_text(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "net.arch").write_bytes(content)
    for command in ("check", "params", "fmt"):
        done = archdsl(command, "net.arch", cwd=tmp_path)
        assert done.returncode == 1 and "net.arch is not UTF-8 text" in done.stderr
    assert (tmp_path / "net.arch").read_bytes() == content


@pytest.mark.parametrize("content", [b"WRN(28, 10)\r\n", b"WRN(28, 10)"])
def test_other_texts_are_read(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "net.arch").write_bytes(content)
    assert archdsl("check", "net.arch", cwd=tmp_path).returncode == 0


LONG_EXPRESSIONS = {
    "WRN-28-10": "`WRN(28, 10)`",
    f"WRN({'1' * 5000}, 10)": "error[E",
    f"WRN(28, 10) {{ expect params {'9' * 5000} }}": "error[E",
}
"""Expressions that a file cannot hold well -> what their message has."""


@pytest.mark.parametrize("spec", LONG_EXPRESSIONS, ids=len)
def test_message_of_expression(spec: str) -> None:
    done = archdsl("params", spec)
    assert done.returncode == 1 and LONG_EXPRESSIONS[spec] in done.stderr


def test_import_cycle_of_two(tmp_path: Path) -> None:
    (tmp_path / "a.arch").write_text('from "b.arch" import B1\n\nblock A1() { b: B1() }\n\nA1()\n')
    (tmp_path / "b.arch").write_text('from "a.arch" import A1\n\nblock B1() { a: A1() }\n')
    done = archdsl("check", "a.arch", cwd=tmp_path)
    assert done.returncode == 1 and "imports itself" in done.stderr


def test_mistake_in_an_imported_file_points_there(tmp_path: Path) -> None:
    (tmp_path / "parts.arch").write_text("block Part(width) { conv: Conv(widht, 3) }\n")
    (tmp_path / "net.arch").write_text('from "parts.arch" import Part\n\nnet mine = Part(16)\n')
    done = archdsl("check", "net.arch", cwd=tmp_path)
    assert done.returncode == 1 and place(done.stderr).endswith("parts.arch")


def test_every_wrong_spec_is_reported() -> None:
    done = archdsl("check", "wrn_depth.arch", "WRN(28, 10)", "resnet_depth.arch")
    assert done.returncode == 1 and "wrn_28_10: 36,479,194 parameters" in done.stdout
    assert "depth 27" in done.stderr and "depth 21" in done.stderr


def test_usage() -> None:
    for args in ([], ["params"], ["compile", "WRN(28, 10)"], ["nothing"], ["params", "--nothing", "WRN(28, 10)"]):
        done = archdsl(*args)
        assert done.returncode == 2 and "Usage" in done.stdout + done.stderr
