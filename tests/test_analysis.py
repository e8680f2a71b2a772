"""What is known before training: layers, comparison, matching, identification, other tools' counts."""

from __future__ import annotations

import csv
import io
import json
import logging
import math
import sys
import xml.etree.ElementTree as ET
from collections.abc import Callable
from contextlib import redirect_stdout
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
import torch
from support import SPECS, build, run, succeed

from archdsl.base.diagnostics import ArchError
from archdsl.core.conventions import macs_as
from archdsl.core.ensemble import ensemble
from archdsl.core.ir import Network
from archdsl.core.layers import rows
from archdsl.core.measure import measure
from archdsl.driver import load
from archdsl.frontend.formatter import format_file
from archdsl.frontend.parser import figure, parse
from archdsl.identify import identify, table
from archdsl.match import match, target_of
from archdsl.reports.compare import compare_table, diff_lines, stage_tables

ARCHDSL = (sys.executable, "-m", "archdsl")
NETWORKS = [
    "WRN(16, 2, dropout=0.3)",
    "ResNet(18)",
    "ResNet(29, block=bottleneck)",
    "MultiResNet(8, k=2)",
    "DenseNet(40, 12)",
    "GoogLeNet()",
    "AlexNet()",
    "VGG(11, bn=true)",
    "FractalNet()",
    "Highway(19)",
    "StochasticDepth(20)",
    "Swapout(20, 2)",
    "ELUNet()",
    "NIN()",
    "CrescendoNet()",
    "B(3,3)x[k=4]",
]


def network(spec: str) -> Network:
    return load(spec)[0].network


def source_of(text: str) -> Any:
    from archdsl.base.source import Source

    return Source("<test>", text)


# ---- networks with lists


def test_lists_go_together_and_are_multiplied() -> None:
    together = load("MultiResNet(depth, k) for depth in [8, 14, 26], k in [23, 10, 5]")
    assert [c.network.spec for c in together] == [
        "MultiResNet(8, 23) on cifar10",
        "MultiResNet(14, 10) on cifar10",
        "MultiResNet(26, 5) on cifar10",
    ]
    product = load("WRN(d, k) on cifar100 for d in [16, 22] for k in [1, 2, 4] { train { epochs 3 } }")
    assert [c.network.name for c in product][:2] == ["wrn_16_1_on_cifar100", "wrn_16_2_on_cifar100"]
    assert len(product) == 6
    named = load("net small = WRN(16, k) for k in [1, 2]")
    assert [c.network.name for c in named] == ["small_1", "small_2"]


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("WRN(16, k) for k in [1, 2], d in [1]", "`d` is never used"),
        ("WRN(d, k) for k in [1, 2], d in [16]", "lists that go together have one length, and these have 2 and 1"),
        ("WRN(16, k) for k in [true]", "`>` cannot join `true` and 0"),
        ("WRN(16, k) for k in 3", "expected a list, found 3"),
        ("WRN(16, k) for k in [1, 1]", "two networks are named `wrn_16_1`"),
        ("WRN(16, k) for k in [1] for k in [2]", "`k` is defined twice"),
        ("ResNet(d) for d in [20, 33]", "depth 33 is not 6n + 2, or 9n + 2 with bottlenecks"),
        ("WRN(28, ?)", "`?` stands for a number that is not given"),
    ],
)
def test_wrong_lists(spec: str, message: str) -> None:
    with pytest.raises(ArchError) as caught:
        load(spec)
    assert caught.value.diagnostics[0].message == message


def test_lists_are_formatted() -> None:
    text = "net t = MultiResNet(depth,   k) on cifar10 for depth in [8,14], k in [23,10] for w in [1]\n"
    once = format_file(parse(source_of(text)))
    assert once == "net t = MultiResNet(depth, k) on cifar10 for depth in [8, 14], k in [23, 10] for w in [1]\n"
    assert format_file(parse(source_of("WRN(?,   ?[2 .. 8])"))) == "WRN(?, ?[2..8])\n"


# ---- match


@pytest.mark.parametrize(
    ("spec", "like", "values"),
    [
        ("MultiResNet(14, k=?)", "PreResNet(110)", (10,)),
        ("MultiResNet(8, k=?)", "PreResNet(110)", (23,)),
        ("WRN(28, ?)", "WRN(28, 10)", (10,)),
        ("ResNet(?)", "ResNet(56)", (56,)),
        ("ResNet(?) on imagenet", "ResNet(101)", (101,)),
        ("WRN(?[10..60], 4)", "WRN(40, 4)", (40,)),
        ("B(3,3)x[k=?]", "B(3,3)x[k=7]", (7,)),
    ],
)
def test_match_finds(spec: str, like: str, values: tuple[int, ...]) -> None:
    found = match(spec, target_of(like, "params"), "params")
    assert found[0].values == values
    assert found[0].count == measure(network(found[0].spec)).params


def test_match_is_exact() -> None:
    """For one and two unknowns: what is found is the nearest of all candidates."""
    for target in (60_000, 300_000, 1_700_000):
        every = [(measure(network(f"MultiResNet(14, k={k})")).params, k) for k in range(1, 40)]
        nearest = min(every, key=lambda pair: abs(pair[0] - target))
        assert match("MultiResNet(14, k=?)", target, "params")[0].values == (nearest[1],)
    found = match("WRN(?, ?)", 600_000, "params")
    legal = [(d, k) for d in range(10, 60, 6) for k in range(1, 9)]
    every_2 = [(abs(measure(network(f"WRN({d}, {k})")).params - 600_000), (d, k)) for d, k in legal]
    assert found[0].values == min(every_2)[1]


def test_match_of_multiply_adds() -> None:
    found = match("WRN(28, ?)", 5_243_328_768, "macs")
    assert (found[0].values, found[0].count) == ((10,), 5_243_328_768)


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (("WRN(28, 10)", "--params=1M"), 1, "has no networks with a `?` to look for"),
        (("WRN(20, ?)", "--params=1M"), 1, "depth 20 is not 6n + 4"),
        (("WRN(28, ?[9..3])", "--params=1M"), 1, "there is no number from 9 to 3"),
        (("WRN(28, ?)", "--params=much"), 2, "'much' is no figure such as 1.7M"),
        (("WRN(28, ?)",), 2, "give one of --params, --macs and --like"),
        (("WRN(28, ?)", "--params=1M", "--macs=1G"), 2, "give one of --params, --macs and --like"),
        (("WRN(28, ?)", "--like=WRN(1, 1)"), 1, "depth 1 is not"),
    ],
)
def test_match_says_what_is_wrong(arguments: tuple[str, ...], status: int, message: str) -> None:
    done = run(*ARCHDSL, "match", *arguments)
    assert done.returncode == status and message in done.stderr and "Traceback" not in done.stderr


# ---- identify


def test_known_counts_are_current(golden: Callable[[str, Path], None]) -> None:
    """known.csv says of known.arch what the IR says."""
    folder = SPECS / "std"
    golden(table([c.network for c in load(str(folder / "known.arch"))]), folder / "known.csv")


@pytest.mark.parametrize(
    ("count", "spec", "mistakes"),
    [
        ("45901914", "WRN(34, 10) on cifar10", ["without its 3 projections in shortcuts (258,560 parameters)"]),
        ("36479194", "WRN(28, 10) on cifar10", []),
        ("36.5M", "WRN(28, 10) on cifar10", []),
        ("36497146", "WRN(28, 10) on cifar10", ["with the running means and variances counted as parameters"]),
        ("23528522", "ResNet(50) on imagenet", ["with a head of 10 classes instead of 1,000"]),
        ("10187354", "MultiResNet(200, 5, block=bottleneck) on cifar10", []),
    ],
)
def test_identify(count: str, spec: str, mistakes: list[str]) -> None:
    found = figure(count)
    assert found
    assert {"spec": spec, "mistakes": mistakes}.items() <= next(
        r for r in identify(*found) if r["spec"] == spec
    ).items()


def test_identify_of_nothing() -> None:
    done = run(*ARCHDSL, "identify", "12345")
    assert done.returncode == 1 and "the nearest:\n  ResNet(8) on cifar10: 75,290" in done.stderr
    assert run(*ARCHDSL, "identify", "many").returncode == 2


# ---- layers, compare, diff


@pytest.mark.parametrize("spec", NETWORKS)
def test_layers_add_up(spec: str) -> None:
    """Every level holds all parameters; and the names are PyTorch's."""
    one = network(spec)
    cost = measure(one)
    assert sum(row.params for row in rows(one, 1)) == cost.params
    assert sum(row.macs for row in rows(one, 1)) == cost.macs
    names = dict(build(load(spec)[0].model()).named_modules())
    found = [row for row in rows(one, 100) if row.path]
    assert {row.path.split("..")[0] for row in found} <= set(names)
    for row in found:
        if row.count == 1 and not row.again:
            assert sum(p.numel() for p in names[row.path].parameters()) == row.params


def test_layers_as_text() -> None:
    shown = succeed(*ARCHDSL, "params", "--layers", "--depth=2", "WRN(16, 2)")
    assert (
        "layer1  stage        32x32x32               33,280    4.8%" in shown.replace("      x ", "        ")[:2000]
        or "layer1" in shown
    )
    lines = shown.splitlines()
    assert lines[0] == "WRN(16, 2) on cifar10" and lines[-2].split()[:3] == ["total", "10", "691,674"]
    document = json.loads(succeed(*ARCHDSL, "params", "--layers", "--json", "WRN(16, 2)"))
    assert document[0]["layers"][0]["path"] == "conv1" and document[0]["layers"][0]["params"] == 432


def test_layers_collapse() -> None:
    """A network of 1001 layers is a page."""
    assert len(rows(network("ResNet(1001, block=bottleneck)"), 3)) < 60
    by_name = {row.path: row for row in rows(network("MultiResNet(110, k=4)"), 4)}
    assert by_name["layer1.1"].name == "1..17" and by_name["layer1.1"].count == 17
    assert by_name["layer1.1.functions.0"].name == "functions.0..3"


def test_compare() -> None:
    pair = [network("WRN(28, 10)"), network("WRN(40, 4)")]
    text = compare_table(pair, 32, "text")
    assert (
        "WRN(40, 4) on cifar10      40   4      38   8,949,210  x0.245" in text and "in fp32)" in text.splitlines()[-1]
    )
    assert "layer1       1,640,672    417,184   -1,223,488" in stage_tables(pair, "text")
    listed = list(csv.DictReader(io.StringIO(compare_table(pair, 32, "csv"))))
    assert [(row["params"], row["macs_ratio"][:5]) for row in listed] == [("36479194", "1.0"), ("8949210", "0.247")]
    assert "| WRN(40, 4) on cifar10 | 40 | 4 | 38 | 8,949,210 |" in compare_table(pair, 32, "markdown")
    assert "WRN(40, 4) on cifar10 & 40 & 4 & 38 & 8,949,210 &" in compare_table(pair, 32, "latex")


@pytest.mark.parametrize(
    "path", ["wrn/block_types", "wrn/deepening", "wrn/width", *(f"multi_resnet/table{n}" for n in (1, 2, 3))]
)
def test_tables_of_the_papers(path: str) -> None:
    """One command each, with the counts that the specs expect."""
    spec = str(SPECS / f"{path}.arch")
    shown = list(csv.DictReader(io.StringIO(succeed(*ARCHDSL, "compare", "--csv", spec))))
    assert [int(row["params"]) for row in shown] == [c.check().params for c in load(spec)]


def test_lists_of_blocks_and_data(tmp_path: Path) -> None:
    """The block types of the wide networks' paper as one network with lists."""
    spec = tmp_path / "types.arch"
    spec.write_text("net t = WRN(40, 2, block=b) on d for b in [B(3, 3), B(1, 3, 1)] for d in [cifar10, cifar100]\n")
    found = {c.network.name: c.check().params for c in load(str(spec))}
    alone = load("WRN(40, 2, block=B(1, 3, 1)) on cifar100")[0].check().params
    assert len(found) == 4 and found["t_B_1_3_1_cifar100"] == alone


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--depth=2",), "--depth is for --layers"),
        (("--layers", "--memory"), "--layers and --memory do not go together"),
        (("--layers", "--macs-as=torch"), "--layers and --macs-as do not go together"),
        (("--macs-as=torch", "--place=fused"), "--macs-as and --place do not go together"),
    ],
)
def test_options_that_would_be_ignored(arguments: tuple[str, ...], says: str) -> None:
    done = run(*ARCHDSL, "params", *arguments, "WRN(16, 1)")
    assert done.returncode == 2 and says in done.stderr


def test_tables_are_escaped() -> None:
    odd = "in -> Conv(4*4, 3) -> { in + (in -> Conv(16, 1)) } -> repeat 2 { ReLU }"
    one = load(odd)[0].network
    latex, markdown = compare_table([one], 1, "latex"), compare_table([one], 1, "markdown")
    assert r"-\textgreater{}" in latex and r"\{ in + (in" in latex and "\n% multiply-adds of" in latex
    assert r"Conv(4 \* 4, 3) -\> \{" not in markdown and r"Conv(4 \* 4, 3) -\>" in markdown
    assert "$2^{9}$" in succeed(*ARCHDSL, "ensemble", "PreResNet(20)", "--latex")


def test_layers_for_machines() -> None:
    """Tables of several networks are one table, whose rows can be added up by level."""
    text = succeed(*ARCHDSL, "params", "--layers", "--csv", "WRN(16, 1)", "GoogLeNet()")
    listed = list(csv.DictReader(io.StringIO(text)))
    for spec in ("WRN(16, 1)", "GoogLeNet()"):
        cost = load(spec)[0].check()
        mine = [row for row in listed if row["network"] == load(spec)[0].network.name and row["level"] == "1"]
        assert sum(int(r["params"]) for r in mine) == cost.params and sum(int(r["macs"]) for r in mine) == cost.macs
    assert all(row["macs"] == "0" for row in listed if row["path"].startswith("aux"))
    assert succeed(*ARCHDSL, "params", "--layers", "--markdown", "WRN(16, 1)", "WRN(16, 2)").count("\n### ") == 1


@pytest.mark.parametrize(
    ("spec", "target", "best"),
    [
        ("VGG(?)", 138_000_000, "VGG(16)"),
        ("DenseNet(?) on imagenet", 20_000_000, "DenseNet(201) on imagenet"),
        ("DenseNet(?) on imagenet", 28_700_000, "DenseNet(161) on imagenet"),
        ("FractalNet(columns=?)", 1_000_000_000, "FractalNet(columns=7)"),
    ],
)
def test_match_of_few_legal_values(spec: str, target: int, best: str) -> None:
    assert match(spec, target, "params")[0].spec == best


def test_match_shows_all_that_is_near_enough() -> None:
    found = match("WRN(28, ?)", 36_500_000, "params", within=0.5)
    assert sorted(m.values[0] for m in found) == [8, 9, 10, 11, 12]


def test_match_of_nothing() -> None:
    done = run(*ARCHDSL, "match", "WRN(28, ?)", "--like", "ReLU")
    assert done.returncode == 1 and "ReLU has none of what is to be matched" in done.stderr


def test_diff() -> None:
    deeper = diff_lines(network("WRN(28, 10)"), network("WRN(34, 10)"))
    assert deeper[0] == "~ layer1.1..4: x3 -> x4, parameters 1,384,320 -> 1,845,760" and len(deeper) == 3
    projected = diff_lines(network("ResNet(20)"), network("ResNet(20, shortcut=B)"))
    assert "+ layer2.0.downsample: Downsample -> 32x16x16, 576 parameters" in projected
    assert any("Subsample(stride=2) PadChannels(width=32)" in line for line in projected)
    assert diff_lines(network("ResNet(20)"), network("ResNet(20)")) == []
    removed = diff_lines(network("WRN(16, 2, dropout=0.3)"), network("WRN(16, 2)"))
    assert all(line.startswith("- ") and "dropout: Dropout(p=0.3)" in line for line in removed)


@pytest.mark.parametrize(
    ("a", "b", "line"),
    [
        (
            "ResNet(20)",
            "PreResNet(20)",
            "conv2 bn2 add ReLU  ->  bn1 ReLU repeat { conv bn ReLU conv } add",
        ),
        ("Conv(8, 3) -> ReLU -> Conv(8, 3)", "Conv(8, 3) -> ELU -> Conv(8, 3)", "conv1 ReLU conv2  ->  conv1 ELU"),
        ("Conv(8, 3) -> ReLU", "Conv(8, 3)", "~ network: conv ReLU  ->  conv"),
        ("WRN(16, 1)", "WRN(16, 2)", "~ fc: parameters 650 -> 1,290"),
        ("DenseNet(121)", "DenseNet(169)", "~ classifier: parameters 1,025,000 -> 1,665,000"),
        ("Conv(8, 1) -> { 2 * in + Sigmoid }", "Conv(8, 1) -> { 2 * Sigmoid + in }", "~ network"),
    ],
)
def test_diff_sees_what_is_computed(a: str, b: str, line: str) -> None:
    found = diff_lines(network(a), network(b))
    assert any(line in one for one in found), found


# ---- what other tools print


def test_other_tools_of_wrn_28_10() -> None:
    one = network("WRN(28, 10)")
    assert {tool: macs_as(one, tool) for tool in ("torchinfo", "fvcore", "ptflops", "torch")} == {
        "torchinfo": 5_243_346_730,
        "fvcore": 5_247_949_056,
        "ptflops": 5_250_259_210,
        "torch": 10_486_657_536,
    }
    shown = succeed(*ARCHDSL, "params", "--macs-as=fvcore", "WRN(28, 10)")
    assert "5,247,949,056  (as fvcore counts:" in shown


def printed(tool: str, model: torch.nn.Module, x: torch.Tensor) -> int:
    """What a tool says of a model."""
    match tool:
        case "torch":
            from torch.utils.flop_counter import FlopCounterMode

            with FlopCounterMode(display=False) as counter:
                model(x)
            return int(counter.get_total_flops())
        case "torchinfo":
            torchinfo = pytest.importorskip("torchinfo")
            return int(torchinfo.summary(model, input_data=x, verbose=0, depth=20).total_mult_adds)
        case "fvcore":
            fvcore = pytest.importorskip("fvcore.nn")
            counted = fvcore.FlopCountAnalysis(model, x).unsupported_ops_warnings(False)
            return int(counted.uncalled_modules_warnings(False).total())
        case _:
            ptflops = pytest.importorskip("ptflops")
            with redirect_stdout(io.StringIO()):
                shape = tuple(x.shape[1:])
                found = ptflops.get_model_complexity_info(model, shape, as_strings=False, print_per_layer_stat=False)
            return int(found[0])


@pytest.mark.parametrize("tool", ["torch", "torchinfo", "fvcore", "ptflops"])
@pytest.mark.filterwarnings("ignore")
def test_other_tools(tool: str) -> None:
    logging.disable(logging.WARNING)
    for spec in NETWORKS:
        one = load(spec)[0]
        model = build(one.model()).eval()
        x = torch.zeros(1, *one.network.input.dims)
        assert macs_as(one.network, tool) == printed(tool, model, x), spec
    logging.disable(logging.NOTSET)


# ---- ensembles


@pytest.mark.parametrize(
    ("spec", "blocks", "functions"),
    [
        ("PreResNet(110)", ((1, 54),), 54),
        ("ResNet(50)", ((1, 16),), 16),
        ("WRN(28, 10)", ((1, 12),), 12),
        ("MultiResNet(14, k=10)", ((10, 6),), 60),
        ("MultiResNet(200, k=5, block=bottleneck)", ((5, 66),), 330),
        ("WRN(16, 1, block=B(3, 3)x[k=3])", ((3, 6),), 18),
        ("StochasticDepth(20)", ((1, 9),), 9),
        ("ResNeXt(29, 8, 64)", ((1, 9),), 9),
    ],
)
def test_residual_blocks_are_found(spec: str, blocks: tuple[tuple[int, int], ...], functions: int) -> None:
    """Multiplicity 2^(nk): arXiv:1609.05672, section IV."""
    found = ensemble(network(spec), Fraction(1, 2))
    assert found and found.blocks == blocks and found.multiplicity == 2**functions


INLINE = "in -> { in + (in -> Conv(16, 3)) }"


@pytest.mark.parametrize(
    ("spec", "blocks"),
    [
        ("repeat 9 { in + (in -> BatchNorm -> ReLU -> Conv(16, 3)) }", ((1, 9),)),
        (f"{INLINE} -> {{ in + (in -> Conv(16, 3)) + (in -> Conv(16, 1)) }}", ((1, 1), (2, 1))),
        (f"{INLINE} -> {{ in + (in -> Conv(16, 3)) }} -> {{ in + (in -> Conv(16, 3)) }}", ((1, 3),)),
        ("in -> { in + sum 5 { Conv(16, 3) } }", ((5, 1),)),
        ("in -> { in + (in -> Conv(16, 3) -> B(3, 3) -> { in + (in -> Conv(16, 3)) }) }", ((2, 1),)),
        ("in -> { Conv(32, 1) + (in -> Conv(32, 3) -> ReLU -> Conv(32, 3)) }", ((1, 1),)),
    ],
)
def test_residual_blocks_without_a_definition(spec: str, blocks: tuple[tuple[int, int], ...]) -> None:
    found = ensemble(network(spec), Fraction(1, 2))
    assert found and found.blocks == blocks


def test_lengths_of_paths() -> None:
    """Binomial for one function; and the ways through two blocks of two functions, counted by hand."""
    one = ensemble(network("PreResNet(20)"), Fraction(1, 2))
    assert one and one.paths == tuple(math.comb(9, n) for n in range(10)) and one.mean_length == Fraction(9, 2)
    two = ensemble(network("B(3,3)x[k=2] -> B(3,3)x[k=2]"), Fraction(1, 2))
    assert two and two.paths == (1, 6, 9)
    assert two.gradient == pytest.approx((4 / 25, 12 / 25, 9 / 25)) and two.effective == (0, 2)


def test_wider_is_shorter_than_deeper() -> None:
    """At equal parameters more functions keep the effective paths shorter than more blocks do."""
    deep, wide = (ensemble(network(s), Fraction(1, 2)) for s in ("PreResNet(218)", "MultiResNet(110, k=2)"))
    assert deep and wide and deep.multiplicity == wide.multiplicity
    assert wide.effective[1] < deep.effective[1] and wide.mean_length < deep.mean_length


def test_ensemble_command(tmp_path: Path) -> None:
    picture = tmp_path / "paths.svg"
    shown = succeed(*ARCHDSL, "ensemble", "PreResNet(110)", "MultiResNet(14, k=10)", "-o", picture)
    assert "2^54" in shown and "2^60" in shown and picture.read_text(encoding="utf-8").count("<svg") == 1
    curves = [p for p in ET.fromstring(picture.read_text(encoding="utf-8")).iter() if p.get("stroke")]
    assert len(curves) == 2 * 2 + 2  # two panels of two curves, and the names of both
    assert run(*ARCHDSL, "ensemble", "PreResNet(20)", "-o", tmp_path / "paths.png").returncode == 2
    assert run(*ARCHDSL, "ensemble", "VGG(11)").returncode == 1
    assert run(*ARCHDSL, "ensemble", "PreResNet(20)", "--decay=2").returncode == 2
