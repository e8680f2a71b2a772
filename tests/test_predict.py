"""Time before training: steps that were measured, what PyTorch launches, and what can be said without either."""

from __future__ import annotations

import csv
import json
import sys
import time
from collections import Counter
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

import pytest
import torch
from support import REFERENCE, ROOT, run, succeed
from torch.utils._python_dispatch import TorchDispatchMode

import archdsl
from archdsl.core.data import DATA_SETS
from archdsl.core.ir import Network
from archdsl.core.machines import MACHINES, Card, Precision, precisions_of
from archdsl.core.predict import predict
from archdsl.core.training_time import StepTime, batch_of, images_of, precision_of, step_time, steps_of
from archdsl.driver import load
from archdsl.reports.time import asked, time_row, time_text

PARAMS = (sys.executable, "-m", "archdsl", "params")
MEASURED = list(csv.DictReader((REFERENCE / "gpu_steps.csv").read_text(encoding="utf-8").splitlines()))
"""Steps on one H200: `script` is train.py, `eager` a loop that does nothing else, `graph` a step as one CUDA graph."""

K80 = {"none": 1.5800725997714284, "split:2": 0.8649586400000001}
"""Seconds of MultiResNet(110, k=4) for 128 images, from before there were other machines."""

CARDS = [m for m in MACHINES.values() if isinstance(m, Card)]
SPECS = ["WRN(16, 4)", "MultiResNet(20, k=3)", "DenseNet(22, 12, bc=true)", "GoogLeNet()", "VGG(11) on imagenet"]


def network(spec: str, place: str | None = None) -> Network:
    return load(spec, place)[0].network


def known(row: dict[str, str]) -> Precision:
    return next(p for p in precisions_of(MACHINES["h200"]) if p == row["precision"])


def predicted(row: dict[str, str]) -> float:
    """Seconds of a step."""
    step = step_time(network(row["spec"], row["place"]), MACHINES["h200"], int(row["batch"]), known(row))
    return {"script": step.eager, "eager": step.launched, "graph": step.graph or 0.0}[row["mode"]]


def error_of(row: dict[str, str]) -> float:
    """How much longer the predicted step is than the measured one, as a share of it."""
    figure = float(row["measured"])
    seconds = figure / 1e3 if row["unit"] == "ms" else int(row["batch"]) / figure
    return predicted(row) / seconds - 1


# ---- what was measured


@pytest.mark.parametrize("row", MEASURED, ids=lambda r: "-".join(r[n] for n in ("spec", "place", "batch", "mode")))
def test_a_measured_step(row: dict[str, str]) -> None:
    assert abs(error_of(row)) < 0.25


def test_the_errors_are_those_that_the_page_tells() -> None:
    page = (ROOT / "docs" / "analysis.md").read_text(encoding="utf-8")
    groups: dict[tuple[str, str], list[float]] = {}
    for row in MEASURED:
        groups.setdefault((row["mode"], row["place"]), []).append(error_of(row))
    assert sum(len(g) for g in groups.values()) == len(MEASURED) == 60
    names = {"script": "train.py", "eager": "eager loop", "graph": "CUDA graph"}
    for (mode, place), errors in groups.items():
        what = names[mode] + (", fused" if place == "fused" else "")
        middle, worst = median(abs(e) for e in errors), max(errors, key=abs)
        assert f"| {what} | {len(errors)} | {middle:.0%} | {worst:+.0%} |" in page
    assert max(abs(error_of(r)) for r in MEASURED if r["mode"] == "graph") < 0.15


@pytest.mark.parametrize(("precision", "published"), [("tf32", 938), ("bf16", 2470)])
def test_another_network_on_another_card(precision: Precision, published: int) -> None:
    """Images a second of one A100, from NVIDIA's DeepLearningExamples, PyTorch/Classification/ConvNets/resnet50v1.5."""
    step = step_time(network("ResNet(50)"), MACHINES["a100"], 256, precision)
    assert step.launched == pytest.approx(256 / published, rel=0.3)
    page = (ROOT / "docs" / "analysis.md").read_text(encoding="utf-8")
    assert f"{published:,}" in page and f"{256 / step.launched:,.0f}" in page


# ---- what PyTorch does


class Launches(TorchDispatchMode):
    """Counts operations that compute something; views and allocations do not."""

    def __init__(self) -> None:
        super().__init__()
        self.found: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if not func.is_view and "empty" not in func.name() and "detach" not in func.name():
            self.found[func.name()] += 1
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("half", [False, True])
@pytest.mark.parametrize(
    ("spec", "place"),
    [
        ("PreResNet(20)", None),
        ("MultiResNet(20, k=4)", None),
        ("MultiResNet(20, k=4)", "fused"),
        ("DenseNet(22, 12, bc=true)", None),
        ("GoogLeNet()", None),
        ("FractalNet(columns=3)", None),
        ("Swapout(20, 2)", None),
        ("VGG(11)", None),
    ],
)
def test_operations_are_those_that_pytorch_dispatches(
    spec: str, place: str | None, half: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without views and calls of modules, which a count of dispatched operations does not see."""
    for name in ("kernels.VIEW", "kernels.CALL", "fused.VIEW", "rates.VIEW", "rates.CALL"):
        monkeypatch.setattr(f"archdsl.core.{name}", 0)
    one = load(spec, place)[0].network
    model = archdsl.build(spec if place is None else f"{spec} {{ place {{ {place} }} }}").train()
    with torch.autocast("cpu", torch.bfloat16, enabled=half), Launches() as launched:
        outputs = model(torch.randn(2, *one.input.dims))
        every = outputs if isinstance(outputs, tuple) else (outputs,)
        torch.autograd.backward(every, [torch.ones_like(o) for o in every])
    # On a CPU dropout is four operations, and on a GPU two.
    count = sum(launched.found.values()) - len(every) - launched.found["aten::bernoulli_.float"] * 2
    share = predict(one, MACHINES["h200"], 2, "bf16" if half else "tf32").shares[0]
    assert share.launches == pytest.approx(count, rel=0.05)


def test_images_to_train_with() -> None:
    digits = torch.arange(1797) % 5 != 0
    assert DATA_SETS["digits"].images == digits.sum()
    assert {d.images for d in DATA_SETS.values() if d.name.startswith("cifar")} == {50_000}


# ---- what must hold on every machine


@pytest.mark.parametrize("spec", SPECS)
def test_more_images_take_no_less(spec: str) -> None:
    one = network(spec)
    for card in CARDS:
        for precision in precisions_of(card):
            steps = [step_time(one, card, b, precision) for b in (1, 2, 3, 5, 8, 31, 32, 33, 100, 127, 128, 129, 1000)]
            for fewer, more in pairwise(steps):
                assert fewer.device < more.device and fewer.eager <= more.eager


@pytest.mark.parametrize("spec", SPECS)
def test_a_graph_is_never_slower(spec: str) -> None:
    for place in ("none", "fused") if "k=" in spec else ("none",):
        one = network(spec, place)
        for card in CARDS:
            for batch in (1, 64, 4096):
                step = step_time(one, card, batch, "bf16")
                assert step.graph is not None and step.graph < step.launched + step.turn == step.eager


def test_better_cards_and_less_precise_numbers_are_faster() -> None:
    one = network("WRN(28, 10)")
    times = [step_time(one, MACHINES[name], 128, "bf16").device for name in ("a100", "h100", "h200")]
    assert times == sorted(times, reverse=True)
    times = [step_time(one, MACHINES["h200"], 128, p).device for p in ("fp32", "tf32", "bf16")]
    assert times == sorted(times, reverse=True) and times[0] > 2 * times[1]


def test_depth_costs_nothing() -> None:
    """Equal blocks are counted once: a step is as much longer as there are more of them."""
    deep, deeper, deepest = (step_time(network(f"PreResNet({d})"), MACHINES["h200"], 32, "bf16") for d in (20, 26, 32))
    assert deepest.device - deeper.device == pytest.approx(deeper.device - deep.device, rel=0.01)
    assert time_row(network("PreResNet(1000000004)"), asked("h200", None, None))["eager"]["step_seconds"] > 3600


@pytest.mark.parametrize(
    "spec",
    [
        "repeat 1000000 { " * 8 + "B(3, 3)" + " }" * 8,
        "sum 1000000000000 { Conv(16, 3) }",
        "block A0() { Conv(16, 3) }\n"
        + "".join(f"block A{i}() {{ {'repeat 1000000 { ' * 8}A{i - 1}(){' }' * 8} }}\n" for i in range(1, 10))
        + "A9()\n",
    ],
    ids=["loops in loops", "many functions", "beyond floating point"],
)
def test_what_asks_for_too_much(spec: str, tmp_path: Path) -> None:
    (tmp_path / "bomb.arch").write_text(f"{spec}\n")
    start = time.process_time()
    (one,) = load(str(tmp_path / "bomb.arch"))
    row = time_row(one.network, asked("h200", None, None))
    assert time.process_time() - start < 6
    json.dumps(row, allow_nan=False)
    assert row["eager"]["step_seconds"] is None or row["eager"]["step_seconds"] > 1e6
    assert " on h200" in time_text(row)


# ---- recipes


def test_accumulating_launches_every_part() -> None:
    whole, parts = (network(f"WRN(10, 1) {{ train {{ accumulate {n} }} }}") for n in (1, 4))
    one, four = (step_time(n, MACHINES["h200"], 128, "bf16") for n in (whole, parts))
    assert one.device < four.device and 2 < four.host / one.host < 4


def test_an_epoch_has_the_steps_of_the_script() -> None:
    one = network("WRN(10, 1)")
    assert [steps_of(one, n, 128) for n in (50_000, 128, 129, 130, 1)] == [391, 1, 1, 2, 0]
    assert steps_of(one, 3, 1) == 3
    four = network("WRN(10, 1) { train { accumulate 4 } }")
    assert [steps_of(four, n, 128) for n in (135, 136)] == [1, 2]


def test_a_script_trains_in_the_precision_of_its_recipe() -> None:
    one = network("WRN(10, 1)")
    assert [precision_of(one, m) for m in MACHINES.values()] == ["fp32", "bf16", "bf16", "bf16"]
    half = network("WRN(10, 1) { train { precision fp16 } }")
    assert [precision_of(half, MACHINES[n]) for n in ("k80", "h100")] == ["fp32", "fp16"]
    assert batch_of(network("ResNet(50)")) == 256


def test_without_images_there_is_no_epoch() -> None:
    assert images_of(network("B(3,3)x[k=4]")) is None
    assert images_of(network("WRN(10, 1) on 3x32x32 -> 10")) is None
    row = time_row(network("B(3,3)x[k=4]"), asked("h100", None, None))
    assert row["eager"]["step_seconds"] > 0 and row["eager"]["recipe_seconds"] is row["epochs"] is None
    assert "epoch" not in time_text(row)


# ---- placements


def test_what_is_divided_is_no_graph() -> None:
    for place, captured in (("none", True), ("fused", True), ("split:2", False), ("mesh:2", False)):
        step = step_time(network("MultiResNet(20, k=4)", place), MACHINES["h100"], 128, "bf16")
        assert (step.graph is not None) == captured == (step.waiting == 0)
    assert step_time(network("MultiResNet(20, k=4)"), MACHINES["k80"], 128, "fp32").graph is None


def test_processes_launch_for_themselves() -> None:
    """One process launches what two devices compute, and of two processes each launches its half."""
    alone, split, mesh = (
        step_time(network("MultiResNet(110, k=4)", p), MACHINES["h200"], 128, "bf16")
        for p in ("none", "split:2", "mesh:2")
    )
    assert split.host == pytest.approx(alone.host, rel=0.05) and mesh.host < 0.65 * alone.host
    assert split.device < 0.7 * alone.device


def test_the_first_machine_is_as_it_was() -> None:
    """Seconds of the prediction that the paper's table was compared with."""
    plain, split = (network("MultiResNet(110, k=4)", p) for p in ("none", "split:2"))
    assert predict(plain, MACHINES["k80"], 128).elapsed == pytest.approx(K80["none"], rel=1e-12)
    assert predict(split, MACHINES["k80"], 128).elapsed == pytest.approx(K80["split:2"], rel=1e-12)
    step = step_time(split, MACHINES["k80"], 128, "fp32")
    assert step == StepTime(step.device, step.waiting) and step.eager == predict(split, MACHINES["k80"], 128).elapsed


# ---- the command


def test_the_time_of_a_network() -> None:
    (row,) = json.loads(succeed(*PARAMS, "WRN(16, 4)", "--machine=h200", "--json"))
    found = row["time"]
    assert list(found) == ["machine", "batch", "precision", "images", "epochs", "eager", "graph"]
    assert list(found["eager"]) == ["step_seconds", "images_per_second", "epoch_seconds", "recipe_seconds"]
    assert (found["machine"], found["batch"], found["precision"], found["images"]) == ("h200", 128, "bf16", 50_000)
    assert found["graph"].keys() == found["eager"].keys()
    eager = found["eager"]
    assert eager["epoch_seconds"] == pytest.approx(391 * eager["step_seconds"])
    assert eager["recipe_seconds"] == pytest.approx(200 * eager["epoch_seconds"])
    assert eager["images_per_second"] == pytest.approx(128 / eager["step_seconds"])
    (row,) = json.loads(succeed(*PARAMS, "WRN(16, 4)", "--json"))
    assert "time" not in row


def test_the_time_of_a_placement() -> None:
    spec = "MultiResNet(20, k=4)"
    fused = json.loads(succeed(*PARAMS, spec, "--place=fused", "--machine=h200", "--batch=32", "--json"))[0]
    assert fused["time"]["batch"] == fused["batch"] == 32
    assert fused["seconds"] == fused["time"]["eager"]["step_seconds"] < fused["seconds_alone"]
    assert "graph: a step is one CUDA graph" in succeed(*PARAMS, spec, "--place=fused", "--machine=h200")
    divided = succeed(*PARAMS, spec, "--place=split:2", "--machine=h100")
    assert "NVIDIA H100 data sheet" in divided and "CUDA graph" not in divided
    assert "time" not in json.loads(succeed(*PARAMS, spec, "--place=split:2", "--json"))[0]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--machine=h2000"], "`h2000` is no machine; did you mean `h200`? there are k80, a100, h100, h200"),
        (["--machine=tpu"], "`tpu` is no machine; there are k80, a100, h100, h200"),
        (["--machine=k80", "--precision=bf16"], "k80 computes in fp32, and not in bf16"),
        (["--precision=bf16"], "--precision is for --machine"),
        (["--batch=7"], "--batch is for --machine, --memory and --place"),
        (["--machine=h200", "--layers"], "--layers and --machine do not go together"),
        (["--machine=h200", "--batch=0"], "0 is not in the range"),
    ],
)
def test_wrong_usage(options: list[str], said: str) -> None:
    done = run(*PARAMS, "WRN(10, 1)", *options)
    assert done.returncode == 2 and said in done.stderr


def test_cards_name_their_source() -> None:
    for card in CARDS:
        assert "data sheet" in card.source
        assert card.peaks["fp16"] == card.peaks["bf16"] > card.peaks["tf32"] > card.peaks["fp32"]


def test_steps_that_are_no_graph() -> None:
    """The script does not record fp16, and so there is no time for it; nor is a step larger than its data."""
    (network,) = (one.network for one in load("WRN(16, 4)"))
    assert time_row(network, asked("h200", None, "fp16"))["graph"] is None
    row = time_row(network, asked("h200", 10**6, "bf16"))
    assert row["batch"] == row["images"] == 50_000
    assert row["eager"]["epoch_seconds"] == row["eager"]["step_seconds"]
