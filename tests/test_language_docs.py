"""docs/language.md against the compiler: every example is compiled, every table is compared with the compiler's own.

An example is a fenced block whose first word is `arch`; the rest of that line says what is special about it:

    ```arch                 must compile
    ```arch error=TEXT      must fail with a message that contains TEXT; a ```text block right after is all of it
    ```arch file=NAME       is also saved under NAME, for the examples that import it

A ```names block right after an example lists the modules of the network that have no modules inside, in order.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import pytest

from archdsl.backend.emit import emit_model
from archdsl.base import limits
from archdsl.base.diagnostics import CATALOGUE, ArchError
from archdsl.base.render import render
from archdsl.base.source import Source
from archdsl.core.data import DATA_SETS
from archdsl.core.initial import INITIAL
from archdsl.core.measure import modules
from archdsl.core.primitives import OPERATORS, PRIMITIVES, REQUIRED, Primitive
from archdsl.core.recipe import SETTINGS
from archdsl.driver import examine
from archdsl.frontend.formatter import format_file
from archdsl.frontend.networks import Elaborated
from archdsl.frontend.parser import parse
from archdsl.frontend.values import show

PAGE = Path(__file__).parents[1] / "docs" / "language.md"
TEXT = PAGE.read_text(encoding="utf-8")


@dataclass(frozen=True)
class Example:
    """A fenced block of the page, and the block right after it."""

    line: int
    info: str
    text: str
    follower: str
    follower_text: str

    @property
    def error(self) -> str | None:
        return self.info.removeprefix("error=") if self.info.startswith("error=") else None

    @property
    def file(self) -> str | None:
        return self.info.removeprefix("file=") if self.info.startswith("file=") else None


_FENCE = re.compile(r"^```(\w+)[ ]?([^\n]*)\n(.*?)^```\n", re.MULTILINE | re.DOTALL)


def _examples() -> list[Example]:
    fences = list(_FENCE.finditer(TEXT))
    found = []
    for i, fence in enumerate(fences):
        if fence[1] == "arch":
            after = fences[i + 1] if i + 1 < len(fences) else None
            adjacent = after is not None and not TEXT[fence.end() : after.start()].strip()
            follower = (after[1], after[3]) if after and adjacent else ("", "")
            found.append(Example(TEXT.count("\n", 0, fence.start()) + 1, fence[2], fence[3], *follower))
    return found


EXAMPLES = _examples()
GOOD = [e for e in EXAMPLES if e.error is None]
BAD = [e for e in EXAMPLES if e.error is not None]


def _line(example: Example) -> str:
    return f"line{example.line}"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with the files that examples import."""
    for example in EXAMPLES:
        if example.file:
            (tmp_path / example.file).write_text(example.text, encoding="utf-8")
    return tmp_path


def _networks(text: str, folder: Path) -> list[Elaborated]:
    found = examine(Source("example.arch", text), folder, "example")
    if found.problems:
        raise ArchError(*found.problems)
    return [one.elaborated for one in found.compiled]


def _message(text: str, folder: Path) -> str:
    with pytest.raises(ArchError) as caught:
        _networks(text, folder)
    return "\n".join(render(d) for d in caught.value.diagnostics)


def test_the_page_has_examples_and_nothing_unknown_about_them() -> None:
    assert len(GOOD) > 25 and len(BAD) >= 4
    assert all(e.info == "" or e.error or e.file for e in EXAMPLES)


@pytest.mark.parametrize("example", GOOD, ids=_line)
def test_example_compiles(example: Example, folder: Path) -> None:
    if example.file:
        parse(Source(example.file, example.text))
        return
    for elaborated in _networks(example.text, folder):
        compile(emit_model(elaborated.network), "model.py", "exec")


@pytest.mark.parametrize("example", [e for e in GOOD if not e.file], ids=_line)
def test_example_is_the_network_that_pytorch_builds(example: Example, folder: Path) -> None:
    torch = pytest.importorskip("torch")
    for elaborated in _networks(example.text, folder):
        network, cost = elaborated.network, elaborated.check()
        if cost.params > 20_000_000:
            continue
        namespace: dict[str, object] = {"__name__": "model"}
        exec(compile(emit_model(network), "model.py", "exec"), namespace)
        with torch.device("meta"):
            model = namespace["build_model"]().eval()  # type: ignore[operator]
            assert sum(p.numel() for p in model.parameters()) == cost.params
            assert tuple(model(torch.zeros(1, *network.input.dims)).shape) == (1, *network.output.dims)


@pytest.mark.parametrize("example", [e for e in GOOD if e.follower == "names"], ids=_line)
def test_modules_have_the_names_that_are_shown(example: Example, folder: Path) -> None:
    (elaborated,) = _networks(example.text, folder)
    names = [name for name, _ in modules(elaborated.network.root)]
    leaves = [n for n in names if not any(other.startswith(f"{n}.") for other in names)]
    assert leaves == example.follower_text.split()


@pytest.mark.parametrize("example", GOOD, ids=_line)
def test_example_is_formatted(example: Example) -> None:
    assert format_file(parse(Source("example.arch", example.text))) == example.text


@pytest.mark.parametrize("example", BAD, ids=_line)
def test_wrong_example_fails_as_shown(example: Example, folder: Path) -> None:
    message = _message(example.text, folder)
    assert example.error is not None and example.error in message
    if example.follower == "text":
        assert message + "\n" == example.follower_text


# ---- tables


def _rows(head: str) -> list[list[str]]:
    """The rows of the table with these words in its first line, cell by cell."""
    lines = TEXT[TEXT.index(f"| {head} |") :].splitlines()[2:]
    table = lines[: next(i for i, line in enumerate(lines) if not line.startswith("|"))]
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in table]


@pytest.mark.parametrize("row", _rows("spec | message | mend"), ids=lambda row: str(row[0].strip("`")))
def test_mistake_has_the_message_of_the_table(row: list[str], folder: Path) -> None:
    assert row[1] in _message(row[0].strip("`"), folder)


def test_every_group_of_error_codes_is_listed() -> None:
    groups = {f"{code[:3]}.." for code, _ in CATALOGUE.values()}
    assert [row[0] for row in _rows("codes | about")] == sorted(groups)


def test_limits_are_those_of_the_compiler() -> None:
    listed = [int(row[1].replace(",", "")) for row in _rows("what | at most")]
    names = "SOURCE TOKENS FILES ALL_SOURCE SYNTAX NESTING LOOPS LARGEST LIST WORK ALL_WORK NETWORKS ELEMENTS"
    names += " OPERATIONS PICTURE ROWS"
    assert listed == [getattr(limits, name) for name in names.split()]


def _signature(primitive: Primitive) -> str:
    parts = [p.name if p.default is REQUIRED else f"{p.name}={show(p.default)}" for p in primitive.parameters]
    return f"`{primitive.name}({', '.join(parts)})`" if parts else f"`{primitive.name}`"


def test_primitives_are_those_of_the_compiler() -> None:
    expected = [_signature(p) for p in PRIMITIVES.values() if p.name not in OPERATORS]
    assert [row[0] for row in _rows("primitive | what it does")] == expected


def test_settings_are_those_of_the_compiler() -> None:
    for head, table in (("default", SETTINGS), ("start", INITIAL)):
        expected = [[f"`{s.name}`", show(s.default), s.expected] for s in table.values()]
        assert [row[:3] for row in _rows(f"setting | {head} | takes | meaning")] == expected


def test_data_sets_are_those_of_the_compiler() -> None:
    expected = [[f"`{d.name}`", str(d.shape), str(d.classes)] for d in DATA_SETS.values()]
    assert _rows("data set | image | classes") == expected
