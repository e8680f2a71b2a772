"""The counts of the papers: every row of published.csv that belongs to the four families, and every ready spec."""

from __future__ import annotations

import csv
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from archdsl.driver import load

ROOT = Path(__file__).parent.parent
SPECS = sorted(p for p in (ROOT / "specs").rglob("*.arch") if "std" not in p.parts)
TABLE_2 = ROOT / "specs" / "multi_resnet" / "table2.arch"

FAMILIES = ("resnet", "pre-resnet", "multi-resnet", "wide-resnet", "B(", "l=", "WRN-")
"""What the networks of the four families start with in published.csv."""

IMAGENET_TABLES = ("IV", "ImageNet", "ImageNet width")

Row = dict[str, str]


def archdsl(*args: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "archdsl", *map(str, args)], capture_output=True, encoding="utf-8", cwd=ROOT
    )


def params(*specs: str | Path) -> list[dict[str, Any]]:
    done = archdsl("params", "--json", *specs)
    assert done.returncode == 0, done.stderr
    rows: list[dict[str, Any]] = json.loads(done.stdout)
    return rows


# ---- published.csv


def published() -> list[Row]:
    with (Path(__file__).parent / "reference" / "published.csv").open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def is_legal(row: Row) -> bool:
    return "NOT a legal depth" not in row["rule_used"]


def spec_of(row: Row) -> str:
    """The row in the notation of the language, spelt as archdsl spells it; or the name of a network in table2.arch."""
    network, depth, k, w = row["network"], row["depth"], row["k"], row["w"]
    if not is_legal(row):
        return f"{network.replace('-', '_')}_{depth}" + (f"_k{k}" if k != "1" else "")
    data = "imagenet" if row["table"] in IMAGENET_TABLES else "cifar10"
    block = ", block=bottleneck" if "bottleneck" in row["rule_used"] and network.endswith("resnet") else ""
    if network == "resnet":
        call = f"ResNet({depth}{block})"
    elif network == "pre-resnet":
        call = f"PreResNet({depth}{block})"
    elif network == "multi-resnet":
        call = f"MultiResNet({depth}, {k}{f', w={w}' if w != '1' else ''}{block})"
    elif row["table"] == "deepening":
        convolutions = int(network[2])
        call = f"WRN({72 // convolutions + 4}, {w}, block={kernels(network)})"
    elif row["table"] == "block type":
        call = f"WRN({depth}, {w}, block={kernels(network)})"
    else:
        call = f"WRN({depth}, {w})"
    return f"{call} on {data}"


def kernels(network: str) -> str:
    return network[network.index("B(") :].replace(",", ", ")


def depth_of(row: Row) -> int:
    """Convolutions and linear layers on the longest path; WRN's own depth counts shortcuts and not the classifier."""
    depth = int(row["depth"])
    if row["network"].startswith("B("):
        convolutions = row["network"].count(",") + 1
        return (depth - 4) // 6 * 3 * convolutions + 2
    if row["table"] in ("deepening", "width") or row["network"] == "wide-resnet":
        return depth - 2
    return depth


ROWS = [row for row in published() if row["network"].startswith(FAMILIES)]


@pytest.fixture(scope="module")
def counted() -> dict[str, dict[str, Any]]:
    """Spec, or name of a network in table2.arch -> what `params --json` says of it."""
    specs = list(dict.fromkeys(spec_of(row) for row in ROWS if is_legal(row)))
    alternatives = list(dict.fromkeys(alternative(row)[0] for row in ROWS if alternative(row)))
    found = params(*specs, *alternatives, TABLE_2)
    return {row["spec"]: row for row in found} | {row["name"]: row for row in found[len(specs) + len(alternatives) :]}


OTHERS = [row for row in published() if row not in ROWS]


@pytest.mark.parametrize("row", OTHERS, ids=lambda r: f"{r['network']}-{r['depth']}-{r['k']}")
def test_published_of_other_families(row: Row) -> None:
    """DenseNet, where the column k is the growth rate, and Swapout."""
    if row["network"] == "swapout":
        spec = f"Swapout({row['depth']}, {row['w']})"
    else:
        bc = ", bc=true" if row["network"].endswith("-BC") else ""
        spec = f"DenseNet({row['depth']}, {row['k']}{bc})"
    (found,) = params(spec)
    assert found["params"] == int(row["computed_params"])


def test_all_rows_are_here() -> None:
    assert len(ROWS) == 64
    assert all("densenet" in row["network"].lower() or row["network"] == "swapout" for row in OTHERS)
    assert [row["depth"] for row in ROWS if not is_legal(row)] == ["24", "30"]


@pytest.mark.parametrize("row", ROWS, ids=lambda r: f"{r['paper'].split()[0]}-{r['table']}-{spec_of(r)}")
def test_published(row: Row, counted: dict[str, dict[str, Any]]) -> None:
    found = counted[spec_of(row)]
    imagenet = row["table"] in IMAGENET_TABLES
    assert found["params"] == int(row["computed_params"])
    assert found["input"] == ([3, 224, 224] if imagenet else [3, 32, 32])
    assert found["classes"] == (1000 if imagenet else 10)
    assert found["depth"] == depth_of(row)
    assert found["macs"] > 0


def alternative(row: Row) -> tuple[str, int] | None:
    """The same network with the other type of shortcut, and its count, where the explanation gives it."""
    figure = re.match(r"type B(?: would be|:) ([\d,]+)", row["explanation"])
    return (spec_of(row).replace(")", ", shortcut=B)"), int(figure[1].replace(",", ""))) if figure else None


@pytest.mark.parametrize("row", [row for row in ROWS if alternative(row)], ids=spec_of)
def test_published_with_projections(row: Row, counted: dict[str, dict[str, Any]]) -> None:
    spec, figure = alternative(row) or ("", 0)
    assert counted[spec]["params"] == figure


# ---- other figures


def test_fields() -> None:
    found = params("WRN(28,10)", "ResNet(50)", "WRN(50,2)", "ResNet(50) on 3x160x160 -> 37", "B(3,3)x[k=4]")
    keys = ("name", "spec", "input", "classes", "params", "macs", "depth")
    assert [tuple(row[key] for key in keys) for row in found] == [
        ("wrn_28_10", "WRN(28, 10) on cifar10", [3, 32, 32], 10, 36_479_194, 5_243_328_768, 26),
        ("resnet_50", "ResNet(50) on imagenet", [3, 224, 224], 1000, 25_557_032, 4_089_184_256, 50),
        ("wrn_50_2", "WRN(50, 2) on imagenet", [3, 224, 224], 1000, 68_883_240, 11_398_021_120, 50),
        (
            "resnet_50_on_3x160x160_37",
            "ResNet(50) on 3x160x160 -> 37",
            [3, 160, 160],
            37,
            25_557_032 - 963 * 2049,
            (4_089_184_256 - 1000 * 2048) * 25 // 49 + 37 * 2048,
            50,
        ),
        ("b_3_3_x_k_4", "B(3, 3)x[k=4] on 16x32x32", [16, 32, 32], None, 18_688, 4 * 2 * 9 * 16 * 16 * 32 * 32, 2),
    ]


DEFAULTS = {
    "ResNet(50)": ("imagenet", 25_557_032),
    "ResNet(18)": ("imagenet", 11_689_512),
    "ResNet(200)": ("imagenet", 64_673_832),
    "ResNet(110)": ("cifar10", 1_727_962),
    "ResNet(50, block=basic)": ("cifar10", 755_802),
    "ResNet(200, block=bottleneck)": ("cifar10", 2_075_098),
    "ResNet(164)": ("cifar10", 2_602_906),
    "ResNet(164, block=bottleneck)": ("cifar10", 1_704_154),
    "ResNet(1001)": ("cifar10", 10_328_602),
    "PreResNet(200)": ("imagenet", 64_666_152),
    "PreResNet(34)": ("imagenet", 21_795_880),
    "PreResNet(200, block=bottleneck)": ("cifar10", 2_074_202),
    "PreResNet(1001)": ("cifar10", 10_327_706),
    "MultiResNet(18, 2)": ("imagenet", 22_678_952),
    "MultiResNet(101, 2)": ("imagenet", 84_247_848),
    "MultiResNet(50, 2, block=basic)": ("cifar10", 1_510_266),
    "MultiResNet(152, 1)": ("cifar10", 2_408_474),
    "MultiResNet(200, k=5, block=bottleneck)": ("cifar10", 10_187_354),
    "WRN(28, 10)": ("cifar10", 36_479_194),
    "WRN(34, 10)": ("cifar10", 46_160_474),
    "WRN(50, 2)": ("imagenet", 68_883_240),
    "WRN(18, 2)": ("imagenet", 45_618_216),
}
"""A call without `on` -> the data set that it means, and the parameters that show it."""


def test_data_sets_of_calls_without_on() -> None:
    found = params(*DEFAULTS)
    assert {row["spec"]: (row["data"], row["params"]) for row in found} == {
        f"{call} on {data}": (data, count) for call, (data, count) in DEFAULTS.items()
    }


def test_on_wins() -> None:
    found = params(
        "WRN(34, 2) on imagenet",
        "ResNet(110, shortcut=B) on cifar100",
        "ResNet(50) on 3x160x160 -> 37",
        "MultiResNet(26, 2, w=10) on cifar100",
        "MultiResNet(26, 4, w=10) on cifar100",
    )
    assert [row["params"] for row in found] == [86_036_008, 1_736_564, 23_583_845, 72_748_404, 145_171_444]
    assert [row["classes"] for row in found] == [1000, 100, 37, 100, 100]


# ---- ready specs


def test_there_are_specs() -> None:
    assert {p.parent.name for p in SPECS} >= {"specs", "wrn", "multi_resnet", "resnet", "blocks"}


@pytest.mark.parametrize("path", SPECS, ids=lambda p: p.relative_to(ROOT / "specs").as_posix())
class TestSpec:
    def test_is_as_expected(self, path: Path) -> None:
        done = archdsl("check", path)
        assert (done.returncode, done.stderr) == (0, "")

    def test_is_formatted(self, path: Path) -> None:
        assert archdsl("fmt", "--check", path).returncode == 0

    def test_every_network_expects_its_parameters(self, path: Path) -> None:
        networks = load(str(path))
        assert networks
        for one in networks:
            expected = {e.what: e.figure for e in one.elaborated.expectations}
            assert re.fullmatch(r"[\d_]+", expected.get("params", "")), one.network.name

    def test_has_a_documentation_comment(self, path: Path) -> None:
        assert path.read_text(encoding="utf-8").startswith("## ")

    def test_wrong_count_fails(self, path: Path, tmp_path: Path) -> None:
        text, figures = re.subn(
            r"(?<=expect params )[\d_]+", lambda m: f"{int(m[0]) + 1:_}", path.read_text(encoding="utf-8")
        )
        copy = tmp_path / path.name
        copy.write_text(text, encoding="utf-8")
        done = archdsl("check", copy)
        assert figures and done.returncode == 1
        assert "expected params" in done.stderr and "\x1b" not in done.stderr
