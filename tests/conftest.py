"""Fixtures of the suite: golden files."""

from __future__ import annotations

import gc
import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

# One thread for each worker, and for the scripts that it starts: the workers are as many as the cores.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# The driver raises the limit for deep specs; hypothesis warns of a limit that changes while it runs an example.
sys.setrecursionlimit(20_000)


@pytest.fixture(autouse=True)
def collected() -> Iterator[None]:
    """A command does without the collector, for it ends before there is much garbage; the suite does not."""
    yield
    gc.enable()


@pytest.fixture
def signals() -> Iterator[None]:
    """Puts back the handlers that a generated train.py sets."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update-golden", action="store_true", help="rewrite the golden files with what is found")


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Callable[[str, Path], None]:
    """Compare a text with the file that holds what it should be; `--update-golden` writes the file instead."""
    update = request.config.getoption("--update-golden")

    def compare(text: str, path: Path) -> None:
        if update:
            path.write_text(text, encoding="utf-8", newline="\n")
            return
        assert path.is_file(), f"there is no {path.name}: run pytest with --update-golden, and read what it writes"
        assert text == path.read_text(encoding="utf-8")

    return compare
