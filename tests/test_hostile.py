"""Specs that ask for too much end with a clear error, or with the right answer, before time or memory are spent.

`python tests/test_hostile.py` prints seconds and memory of each. The tests end a process after six seconds of processor
time, three times what a bomb may take, for machines differ.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from archdsl.base import limits


def chain(link: str, count: int, head: str = "") -> str:
    return head + "".join(link.format(i=i, j=i - 1) for i in range(1, count))


def body(first: str, link: str, result: str) -> str:
    """Sixty lets, each made of the one before twice."""
    lets = [first, *(link.format(i=i, j=i - 1) for i in range(1, 60))]
    inside = "".join(f"  let l{i} = {text}\n" for i, text in enumerate(lets))
    return f"block F() {{\n{inside}  {result}\n}}\n\nF()\n"


def long_list(statement: str) -> str:
    """A block with a list `l` of 9,603 numbers."""
    numbers = f"let a = [{', '.join('1' * 99)}]; let l = {' + '.join('a' * 97)}"
    return f"block C() {{ {numbers}; {statement} }}\nC()\n"


BOMBS: dict[str, tuple[str, str]] = {
    "iterations": ("repeat 1000000000000 { B(3, 3) }", "parameters     4,672,000,000,000,000"),
    "labelled iterations": ("repeat 1000000000000 as i { l{i}: B(3, 3) }", "parameters     4,672,000,000,000,000"),
    "iterations that differ": ("repeat 1000000000 as i { Conv(16 + i, 3) }", "E1001"),
    "parallel functions": ("sum 1000000000000 { Conv(16, 3) }", "parameters     2,304,000,000,000,000"),
    "parallel functions that differ": ("concat 1000000000 as i { Conv(16 + i, 3) }", "E1001"),
    "loops in loops": (chain("repeat 1000000 {{ ", 9) + "ReLU" + " }" * 8, "parameters     0"),
    "a deep network": ("PreResNet(1000000004)", "parameters     16,202,666,677,146"),
    "an illegal depth": ("WRN(1000000005, 10)", "depth 1000000005 is not 6n + 4"),
    "a deep network of layers that differ": ("DenseNet(1000000006)", "E1001"),
    "many functions": ("MultiResNet(14, k=1000000000)", "parameters     171,168,000,001,338"),
    "a fractal": ("FractalNet(columns=40)", "E1001"),
    "blocks of two blocks": (
        chain("block A{i}() {{ A{j}() -> A{j}() }}\n", 60, "block A0() { Conv(16, 3) }\n") + "A59()\n",
        f"parameters     {2304 * 2**59:,}",
    ),
    "flows of two flows": (
        chain("flow A{i}() {{ A{j}() -> A{j}() }}\n", 60, "flow A0() { ReLU }\n") + "A59()\n",
        "E1001",
    ),
    "loops in many loops": (chain("repeat 1000000 {{ ", 40) + "ReLU" + " }" * 39, "E1002"),
    "a definition in itself": ("block A(n) { a: A(n=n + 1) }\nA(1)\n", "E0709"),
    "a flow in itself": ("flow A(n) { if n > 0 then A(n=n - 1) else ReLU }\nA(1000000)\n", "E0709"),
    "a family in itself": ("net A(n) on cifar10 { A(n=n + 1) }\nA(1)\n", "E0709"),
    "brackets": ("(" * 30_000 + "ReLU" + ")" * 30_000, "E1002"),
    "braces": ("ReLU -> " + "{" * 30_000 + "ReLU" + "}" * 30_000, "E1002"),
    "open brackets": ("(" * 60_000, "E1002"),
    "signs": ("Conv(" + "-" * 15_000 + "1, 3)", "E1002"),
    "negations": ("Conv(16, 3, bias=" + "not " * 15_000 + "true)", "E1002"),
    "terms": ("Conv(" + "+".join("1" * 9_000) + ", 3)", "E1002"),
    "choices": ("Conv(" + "if true then 1 else " * 3_000 + "1, 3)", "E1002"),
    "calls of calls": ("B" + "()" * 9_000, "E1002"),
    "parts of parts": ("B" + ".a" * 9_000, "E1002"),
    "elements of elements": ("B" + "[1]" * 6_000, "E1002"),
    "arguments": ("B(" + ",".join("3" * 30_000) + ")", "E1001"),
    "a million arguments": ("B(" + ",".join("3" * 1_000_000) + ")", "E1001"),
    "named arguments": ("B(" + ",".join(f"a{i}=3" for i in range(4_500)) + ")", "E0302"),
    "list of lists": (body("[1]", "[l{j}, l{j}]", "Conv(l59.length, 3)"), "E1001"),
    "list and list": (body("[1]", "l{j} + l{j}", "Conv(l59.length, 3)"), "E1001"),
    "blocks as arguments": ("block P(f, g) { f -> g }\n\n" + body("ReLU", "P(l{j}, l{j})", "l59"), "E1001"),
    "a product": (body("10", "l{j} * l{j}", "Conv(l59, 3)"), "E1001"),
    "a product of fractions": (body("0.1", "l{j} * l{j}", "Dropout(l59)"), "E1001"),
    "a long number": ("Conv(1" + "0" * 3000 + ", 3)", "E1001"),
    "a number of a thousand digits": ("Dropout(1e-999)", "E1001"),
    "a shape of many axes": ("Conv(16, 3) on " + "x".join("9" * 30_000), "E1001"),
    "a large image": ("Conv(16, 3) on 3x" + "9" * 3000 + "x32", "E1001"),
    "wide layers": ("Conv(2000000000, 1) -> Conv(2000000000, 1)", "E1001"),
    "networks": (
        "net a = WRN(28, k) for k in [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]"
        + "".join(f" for d{i} in [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]" for i in range(12)),
        "E0204",
    ),
    "many networks": ("".join(f"net n{i} = DenseNet(250, growth={i + 12})\n" for i in range(900)), "E1001"),
    "unknown names": ("".join(f"block N{i}() {{ c: Cnv{i}(16, 3) }}\n" for i in range(1_300)) + "N1()\n", "E0201"),
    "documentation": ("## c\n" * 13_000 + "ReLU\n", "parameters     0"),
    "comments": ("# c\n" * 16_000 + "ReLU\n", "parameters     0"),
    "a large file": ("#" + "x" * 100_000_000 + "\nReLU\n", "E1001"),
    "a long name": ("A" * 60_000, "E0201"),
    "lists put together": (
        long_list("let e = []; repeat 480 as i { Conv((l" + " + e" * 90 + " + [i]).length, 1) }"),
        "E1001",
    ),
    "lists searched": (
        long_list("repeat 170 as i { Conv(if " + " or ".join(["0 - i in l"] * 48) + " then 1 else 2, 1) }"),
        "E1001",
    ),
    "lists compared": (long_list("repeat 6000 as i { Conv(if [i] + l == l + [i] then 1 else 2, 1) }"), "E1001"),
    "lists handed on": (
        "block A(l) { Conv(l.length, 1) }\n" + long_list("repeat 2500 as i { A(l + [i]) }"),
        "E1001",
    ),
    "lists spread": ("block A(*l) { Conv(l.length, 1) }\n" + long_list("repeat 3500 as i { A(*l, i) }"), "E1001"),
    "escaped quotes": ('"\\' * 32_000, "E0102"),
    "a list in a message": (
        'block A(n) { require n.length < 0, "' + "{n}" * 9_000 + '"; ReLU }\nA([' + ",".join("1" * 9_000) + "])",
        "E0401",
    ),
    "names that are alike": (
        "".join(f"block {'a' * 55}{i:04d}() {{ ReLU }}\n" for i in range(550))
        + "".join(f"net q{i} = {'a' * 50}{'b' * 6}{i}\n" for i in range(300)),
        "E0201",
    ),
    "definitions of one that is wrong": (
        "".join(f"block N{i}() {{ N{i + 1}() }}\n" for i in range(2_000)) + "block N2000() { Bad }\nN0()\n",
        "E0201",
    ),
    "comments between networks": ("ReLU\n\n# c\n" * 5_000, "E0803"),
    "what can be read beside what cannot": (
        "".join(f"net a{i} = WRN(28, {i + 1})\n" for i in range(2_000)) + "net z = (\n",
        "E0103",
    ),
    "a long text": ('block A(n) { require n > 0, "' + "{n}" * 10_000 + '"; ReLU }\nA(0)', "E0401"),
}
"""What -> a spec and what is said of it."""

RUN = """
import json, resource, sys, time
resource.setrlimit(resource.RLIMIT_CPU, (6, 6))
began = time.process_time()
from archdsl.cli import main
try:
    main()
except SystemExit:
    pass
if sys.platform == "linux":  # ru_maxrss begins with what the parent had
    with open("/proc/self/status") as status:
        memory = next(int(line.split()[1]) for line in status if line.startswith("VmHWM")) / 1024
else:
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
print(json.dumps([time.process_time() - began, memory]))
"""


def measured(*arguments: str | Path) -> tuple[str, float, float]:
    """What a command says, its seconds of processor time, and its peak memory in MB."""
    done = subprocess.run([sys.executable, "-c", RUN, *map(str, arguments)], capture_output=True, encoding="utf-8")
    *said, figures = done.stdout.splitlines()
    seconds, memory = json.loads(figures)
    return "\n".join([*said, done.stderr]), seconds, memory


@pytest.mark.parametrize("name", BOMBS)
def test_bomb(name: str, tmp_path: Path) -> None:
    text, expected = BOMBS[name]
    (tmp_path / "bomb.arch").write_text(text, encoding="utf-8")
    said, _, memory = measured("params", tmp_path / "bomb.arch")
    assert expected in said and len(said) < 20_000 and memory < 300
    if not expected.startswith("parameters"):
        assert "error[E" in said and "Traceback" not in said


@pytest.mark.parametrize("name", [name for name, (_, said) in BOMBS.items() if said.startswith("parameters     ")])
def test_model_of_a_count_without_limits(name: str, tmp_path: Path) -> None:
    """What can be counted and not be built is refused; nothing is written."""
    (tmp_path / "bomb.arch").write_text(BOMBS[name][0], encoding="utf-8")
    said, _, memory = measured("compile", tmp_path / "bomb.arch", "-o", tmp_path / "out")
    assert memory < 300
    if BOMBS[name][0].count("#") > 1000:
        assert (tmp_path / "out" / "model.py").exists()
    else:
        assert "layers and operations, and at most 50,000 are" in said and not (tmp_path / "out").exists()


LARGE = {
    "many functions": "MultiResNet(14, k=1000000000)",
    "many operations": "ReLU" + " -> ReLU" * 6_000,
    "blocks of two blocks": BOMBS["blocks of two blocks"][0],
    "a count beyond floating point": (
        "block A(n) { if n == 0 then Conv(16, 3) else repeat 9223372036854775807 { A(n - 1) } }\nA(60)"
    ),
}
COMMANDS = (
    "check",
    "params --layers --depth 20",
    "params --memory",
    "compare",
    "draw",
    "draw --format dot",
    "ensemble",
)
REFUSALS = {
    ("many functions", "ensemble"): "more than 10,000 residual functions",
    ("many operations", "draw"): "a picture of more than 5,000 boxes",
    ("many operations", "ensemble"): "there are no residual blocks",
    ("blocks of two blocks", "params --layers --depth 20"): "have more than 10,000 rows",
}


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("name", LARGE)
def test_other_commands_of_what_is_large(name: str, command: str, tmp_path: Path) -> None:
    (tmp_path / "large.arch").write_text(LARGE[name])
    said, _, memory = measured(*command.split(), tmp_path / "large.arch")
    assert REFUSALS.get((name, command), "") in said
    assert "Traceback" not in said and "this is a bug" not in said and memory < 300


def test_what_is_nested_is_formatted(tmp_path: Path) -> None:
    """In time that does not double with each level."""
    for opened, closed in (
        ("a: { ", " }"),
        ("(-", ")"),
        ("(if true then ", " else ReLU)"),
        ("{ let b = ReLU; b -> ", " }"),
    ):
        (tmp_path / "nested.arch").write_text(f"net a = ReLU -> {opened * 40}ReLU{closed * 40}\n")
        said, _, memory = measured("fmt", tmp_path / "nested.arch")
        assert "formatted" in said and memory < 300


def test_a_long_forward_is_written(tmp_path: Path) -> None:
    (tmp_path / "large.arch").write_text(LARGE["many operations"])
    said, _, memory = measured("compile", "--emit", "model", tmp_path / "large.arch")
    assert said.count("F.relu(x)") + said.count("F.relu(x, inplace=True)") == 6_001 and memory < 300


IMPORTS = {
    "../other.arch": "E1003",
    "sub/../../other.arch": "E1003",
    "/etc/hostname": "E1003",
    "std/../../pyproject.toml": "E1003",
    "link.arch": "E1003",
    "endless.arch": "E1003",
    "pipe.arch": "E0801",
    ".": "E0801",
    "a" * 5000: "E0801",
    "missing.arch": "E0801",
    "circle.arch": "E0801",
}


@pytest.mark.parametrize("path", IMPORTS, ids=lambda path: path[:20])
def test_import_from_elsewhere(path: str, tmp_path: Path) -> None:
    """What is outside of the spec's folder is not read, also not through a link, and nothing of it is shown."""
    folder = tmp_path / "spec"
    (folder / "sub").mkdir(parents=True)
    (tmp_path / "other.arch").write_text("block Secret() { c: Cnov(16, 3) }\n")
    (folder / "link.arch").symlink_to(tmp_path / "other.arch")
    (folder / "endless.arch").symlink_to("/dev/zero")
    (folder / "circle.arch").symlink_to("circle.arch")
    os.mkfifo(folder / "pipe.arch")
    (folder / "net.arch").write_text(f'from "{path}" import Secret\n\nSecret()\n')
    said, _, memory = measured("check", folder / "net.arch")
    assert f"error[{IMPORTS[path]}]" in said and "Cnov" not in said and memory < 300


def test_imports_below_are_read(tmp_path: Path) -> None:
    (tmp_path / "parts" / "deep").mkdir(parents=True)
    (tmp_path / "parts" / "unit.arch").write_text(
        'from "deep/conv.arch" import Mine\n\nblock Unit(width) { Mine(width) -> BatchNorm }\n'
    )
    (tmp_path / "parts" / "deep" / "conv.arch").write_text("block Mine(width) { conv: Conv(width, 3) }\n")
    (tmp_path / "net.arch").write_text('from "parts/unit.arch" import Unit\n\nUnit(8)\n')
    assert "net: 1,168 parameters" in measured("check", tmp_path / "net.arch")[0]


def test_too_many_imports(tmp_path: Path) -> None:
    for i in range(limits.FILES + 20):
        (tmp_path / f"f{i}.arch").write_text(
            f'from "f{i + 1}.arch" import B{i + 1}\n\nblock B{i}() {{ b: B{i + 1}() }}\n'
        )
    (tmp_path / "net.arch").write_text('from "f0.arch" import B0\n\nB0()\n')
    assert "more than 100 files are imported" in measured("check", tmp_path / "net.arch")[0]


def test_imports_are_short_together(tmp_path: Path) -> None:
    for i in range(10):
        (tmp_path / f"f{i}.arch").write_text(
            f'from "f{i + 1}.arch" import B{i + 1}\n\n{"# c" * 15_000}\n\nblock B{i}() {{ b: B{i + 1}() }}\n'
        )
    (tmp_path / "net.arch").write_text('from "f0.arch" import B0\n\nB0()\n')
    assert "more than 262,144 characters are imported" in measured("check", tmp_path / "net.arch")[0]


def test_a_pipe_is_no_spec(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "net.arch")
    for command in ("check", "fmt"):
        assert "cannot read" in measured(command, tmp_path / "net.arch")[0]


def test_no_character_of_a_spec_commands_the_terminal(tmp_path: Path) -> None:
    """Nor does one of a file's name."""
    folder = tmp_path / "a\x1b]0;b\x07"
    folder.mkdir()
    (folder / "net.arch").write_text('block A(n) { require n == 0, "a"; ReLU }  # \x1b[2J\nA("\x1b]0;c\x07")\nB\n')
    for command in ("check", "params", "fmt"):
        said = measured(command, folder / "net.arch")[0]
        assert "error[" in said and not set(said) & {"\x1b", "\x07"}


@pytest.mark.skipif(not Path("/dev/zero").exists(), reason="needs a file without an end")
def test_a_file_without_an_end(tmp_path: Path) -> None:
    (tmp_path / "net.arch").symlink_to("/dev/zero")
    said, _, memory = measured("check", tmp_path / "net.arch")
    assert "has more than 65,536 characters" in said and memory < 300


def main() -> None:
    slowest, largest = 0.0, 0.0
    for name, (text, _) in BOMBS.items():
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "bomb.arch"
            path.write_text(text, encoding="utf-8")
            began = time.perf_counter()
            _, seconds, memory = measured("params", path)
            print(f"{name:<40} {time.perf_counter() - began:6.2f} s  {seconds:6.2f} s of processor  {memory:5.0f} MB")
        slowest, largest = max(slowest, seconds), max(largest, memory)
    print(f"{len(BOMBS)} specs, at most {slowest:.2f} s and {largest:.0f} MB")


if __name__ == "__main__":
    main()
