"""The fuzzers: nothing is found in their first inputs, and what is wrong would be."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

import pytest
from fuzzing import TURNS, Inputs, minimised
from support import TESTS, run

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="the fuzzers need processes that fork")

FUZZER = TESTS / "fuzzing.py"

PLANT = """
import os, signal, sys, time
sys.path.insert(0, {tests!r})
import fuzzing
from archdsl.frontend import networks
sound = networks.measure
def measure(network):
    if network.classes != 3:
        {fault}
    return sound(network)
networks.measure = measure
fuzzing.HANG, fuzzing.SILENCE, fuzzing.MINIMISING = {hang}, 2 * {hang}, 0.5
sys.argv = ["fuzzing.py", "--inputs", "150", "--kind", "bytes", "--save", {folder!r}]
fuzzing.main()
"""


def test_nothing_is_found() -> None:
    done = run(sys.executable, FUZZER, "--inputs", "600", "--seed", "1")
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    parsed, compiled = (int(n) for n in re.search(r"grammar .*?(\d+) parsed .*?(\d+) compiled", done.stdout).groups())  # type: ignore[union-attr]
    assert parsed > 60 and compiled >= 6, done.stdout


@pytest.mark.parametrize(
    ("fault", "named"),
    [
        ("raise KeyError(network.name)", "KeyError"),
        ("[0] * 2**40", "MemoryError"),
        ('b"x" * (320 << 20)', "more than 300 MB"),
        ("while True: pass", "no end in 1.5 s"),
        ("sum(range(10**12))", "no end in 3 s"),
        ("os.kill(os.getpid(), signal.SIGSEGV)", "the process died: SIGSEGV"),
    ],
)
def test_what_is_wrong_is_found(fault: str, named: str, tmp_path: Path) -> None:
    """An exception, a lack of memory, a computation without end and the death of the process are findings."""
    done = run(
        sys.executable,
        "-c",
        PLANT.format(tests=str(TESTS), fault=fault, hang=1.5 if "no end" in named else 60, folder=str(tmp_path)),
    )
    assert done.returncode == 1, f"{done.stdout}\n{done.stderr}"
    assert named in done.stdout
    folder = min(tmp_path.iterdir())
    smallest, first = ((folder / f"{name}.arch").read_bytes() for name in ("smallest", "input"))
    assert len(smallest) <= len(first)
    assert named in (folder / "report.txt").read_text()


def test_inputs_follow_from_the_seed() -> None:
    one, other, third = (Inputs(seed, TURNS) for seed in (3, 3, 4))
    assert [one.make(i) for i in range(40)] == [other.make(i) for i in reversed(range(40))][::-1]
    assert [one.make(i) for i in range(40)] != [third.make(i) for i in range(40)]


def test_every_terminal_has_words() -> None:
    """A terminal that the grammar gets anew is one that the fuzzer can write."""
    assert not Inputs(0, ("grammar",)).grammar.missing


def test_minimising() -> None:
    text = b"one two three\nfour five six\nseven\n"
    assert minimised(text, lambda data: b"f" in data and b"x" in data) == b"fx"
