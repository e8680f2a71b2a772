"""Memory of training: against a GPU's own figures, and against the tensors of a real step, one operation at a time."""

from __future__ import annotations

import csv
import json
import sys
import weakref
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from support import build, run, succeed
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from archdsl.core.ir import Network
from archdsl.core.measure import measure, modules
from archdsl.core.memory import Precision, largest_batch, linear_memory, memory
from archdsl.core.timeline import BLOCK, Kind, Meter, Segment, rounded
from archdsl.driver import load

ARCHDSL = (sys.executable, "-m", "archdsl")
MEASURED = list(csv.DictReader((Path(__file__).parent / "reference" / "gpu_memory.csv").read_text().splitlines()))


def network(spec: str) -> Network:
    return load(spec)[0].network


# ---- a GPU


def off(row: dict[str, str]) -> float:
    """By how much the prediction of a row is off, as a share of what was measured."""
    precision: Any = row["amp"]
    said = memory(network(row["spec"]), int(row["batch"]), precision).training
    return said / (float(row["measured_gb"]) * 1e9) - 1


@pytest.mark.parametrize("row", MEASURED, ids=[f"{r['spec']} {r['amp']}" for r in MEASURED])
def test_peak_of_a_gpu(row: dict[str, str]) -> None:
    assert abs(off(row)) < 0.05


def test_peaks_of_a_gpu_on_the_whole() -> None:
    assert sum(abs(off(row)) for row in MEASURED) / len(MEASURED) < 0.02


def test_table_in_the_docs() -> None:
    page = (Path(__file__).parents[1] / "docs" / "analysis.md").read_text(encoding="utf-8")
    for row in MEASURED:
        said = (1 + off(row)) * float(row["measured_gb"])
        cells = (f"`{row['spec']}`", row["batch"], row["amp"], f"{said:.3f}", row["measured_gb"], f"{off(row):+.1%}")
        assert f"| {' | '.join(cells)} |" in page


# ---- a real step


class Live(TorchDispatchMode):
    """Counts the bytes of tensors while they exist, each memory once and rounded as CUDA's allocator rounds it."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0
        self.backward = False
        self.alive: dict[int, Any] = {}

    def watch(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        key, size = storage._cdata, rounded(storage.nbytes())
        if key in self.alive:
            return

        def gone(_: object) -> None:
            self.now -= size
            del self.alive[key]

        self.alive[key] = weakref.ref(storage, gone)
        self.now += size

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if self.backward and func is torch.ops.aten.add.Tensor and self.is_own(args[0]):
            func = torch.ops.aten.add_.Tensor
        result = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(result):
            if isinstance(leaf, Tensor):
                self.watch(leaf)
        self.peak = max(self.peak, self.now)
        return result

    def is_own(self, gradient: Tensor) -> bool:
        """Whether autograd adds to a gradient in place. It never does so under a mode like this, so it is done here."""
        dense = torch._prims_common.is_non_overlapping_and_dense_or_false(gradient)
        return dense and torch._C._storage_Use_Count(gradient.untyped_storage()._cdata) <= 2


def last(tensor: Tensor) -> Tensor:
    return tensor.to(memory_format=torch.channels_last) if tensor.dim() == 4 else tensor


def live_bytes(spec: str, batch: int, precision: Precision, monkeypatch: pytest.MonkeyPatch) -> tuple[int, int]:
    """What autograd keeps at the end of the forward pass, and the peak, of a step without numbers."""
    one = load(spec)[0]
    # Dropout as CUDA computes it, with a mask of truth values.
    monkeypatch.setattr(F, "dropout", lambda x, p, training, inplace: torch.native_dropout(x, p, training)[0])
    with FakeTensorMode():
        model = build(one.model()).train()
        for module in model.modules():
            for name, p in module.named_parameters(recurse=False):
                setattr(module, name, torch.nn.Parameter(last(p.detach())))
        x, y = last(torch.randn(batch, *one.network.input.dims)), torch.zeros(batch, dtype=torch.long)
        momenta = [torch.zeros_like(p) for p in model.parameters()]
        with Live() as live:
            for t in (*model.parameters(), *model.buffers(), *momenta, x, y):
                live.watch(t)
            with torch.autocast("cpu", torch.bfloat16, enabled=precision != "fp32"):
                output = model(x)
                outputs = output if isinstance(output, tuple) else (output,)
                kept = live.now - sum(rounded(o.untyped_storage().nbytes()) for o in outputs)
                losses = [F.cross_entropy(o, y, reduction="sum") for o in outputs]
            live.backward = True
            torch.stack(losses).sum().backward()
    return kept, live.peak


STEPS: list[tuple[str, Precision]] = [
    *(
        (spec, "bf16")
        for spec in ("ResNet(18)", "WRN(16, 2, dropout=0.3)", "GoogLeNet()", "ResNeXt(29, 8, 64)", "NIN()")
    ),
    *(
        (spec, "fp32")
        for spec in (
            "ResNet(29, block=bottleneck)",
            "MultiResNet(8, k=4)",
            "DenseNet(40, 12)",
            "AlexNet()",
            "VGG(11, bn=true)",
            "FractalNet()",
            "Highway(19)",
            "StochasticDepth(20)",
            "Swapout(20, 2)",
            "ELUNet()",
            "CrescendoNet()",
            "AllCNN()",
            "DSN()",
            "FitNet(19)",
            "PolyNet()",
        )
    ),
]


@pytest.mark.parametrize(("spec", "precision"), STEPS)
def test_a_step_tensor_by_tensor(spec: str, precision: Precision, monkeypatch: pytest.MonkeyPatch) -> None:
    """Within 0.5% of the tensors that exist at a time; mostly equal, but for scalars."""
    kept, peak = live_bytes(spec, 32, precision, monkeypatch)
    said = memory(network(spec), 32, precision)
    assert said.training == pytest.approx(peak, rel=0.005)
    if precision == "fp32":
        # Images that no gradient needs, as behind dropout, are there all the same.
        assert said.parameters + said.optimizer + said.saved == pytest.approx(kept, rel=0.01)


def saved_by_autograd(model: torch.nn.Module, x: Tensor) -> int:
    """Bytes of the tensors that are kept for the backward pass, each memory once; those of the model apart."""
    own = {t.untyped_storage().data_ptr() for t in (*model.parameters(), *model.buffers())}
    seen: dict[int, int] = {}
    alive = []

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            seen[storage.data_ptr()] = rounded(storage.nbytes())
            alive.append(tensor)  # so that no other tensor gets its place
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        model.train()(x)
    return sum(seen.values())


@pytest.mark.parametrize(
    "spec",
    [
        *("ResNet(18)", "ResNet(50)", "ResNet(29, block=bottleneck)", "MultiResNet(8, k=2)", "DenseNet(40, 12)"),
        *("WRN(16, 2, dropout=0.3)", "GoogLeNet()", "AlexNet()", "VGG(11, bn=true)", "FractalNet()", "Highway(19)"),
        *("StochasticDepth(20)", "Swapout(20, 2)", "ELUNet()", "NIN()", "CrescendoNet()", "B(3,3)x[k=4]"),
        *("AllCNN()", "DSN()", "FitNet(19)", "ResNeXt(29, 8, 64)"),
    ],
)
def test_saved_for_backward(spec: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What autograd keeps, as its own hooks tell it: equal, but where numbers of a few bytes are kept."""
    one = load(spec)[0]
    monkeypatch.setattr(F, "dropout", lambda x, p, training, inplace: torch.native_dropout(x, p, training)[0])
    model, x = build(one.model()), torch.randn(2, *one.network.input.dims)
    kept = saved_by_autograd(model.to(memory_format=torch.channels_last), last(x))  # type: ignore[call-overload]
    assert memory(one.network, 2, "fp32").saved == pytest.approx(kept, rel=1e-3)


def test_memory_grows_with_the_batch() -> None:
    one = network("WRN(16, 2) { train { optimizer adamw } }")
    small, large = (memory(one, n, "fp32") for n in (8, 16))
    assert small.parameters == large.parameters and small.optimizer == 2 * small.gradients
    assert 1.9 < large.saved / small.saved < 2.1 and large.training > small.training > small.inference
    half = memory(one, 16, "bf16")
    assert 0.5 < half.saved / large.saved < 0.6
    assert memory(one, 16, "tf32") == large and memory(one, 16, "fp16") == half


@pytest.mark.parametrize(
    ("settings", "states"), [("momentum 0.9", 1), ("momentum 0", 0), ("optimizer rmsprop\n momentum 0", 1)]
)
def test_memory_of_the_optimizer(settings: str, states: int) -> None:
    one = network(f"WRN(16, 2) {{ train {{ {settings} }} }}")
    used = memory(one, 8, "fp32")
    tensors = [p.numel() for p in build(load("WRN(16, 2)")[0].model()).parameters()]
    assert used.gradients == sum(rounded(4 * n) for n in tensors) and used.optimizer == states * used.gradients
    assert 0 <= used.gradients - 4 * measure(one).params < BLOCK * len(tensors)


# ---- where the peak is


def test_peak_is_early_or_late_in_the_backward_pass() -> None:
    """Where images are large, the peak is where results end; where weights are, it is where their gradients are."""
    assert memory(network("WRN(28, 10)"), 128, "fp32").peak.phase == "backward"
    few = memory(network("VGG(16)"), 1, "fp32")
    assert few.peak.gradients > 0.9 * few.gradients and few.peak.layer.startswith("features.")


def test_foreach_optimizers_need_more() -> None:
    one = network("VGG(16) { train { optimizer rmsprop } }")
    used = memory(one, 1, "fp32")
    assert used.peak.phase == "optimizer" and used.peak.workspace == 2 * used.gradients
    assert "as the optimiser steps" in succeed(
        *ARCHDSL, "params", "--memory", "--batch=1", one.spec + " { train { optimizer rmsprop } }"
    )


def test_parts_of_a_step_keep_gradients() -> None:
    whole, parts = (memory(network(f"WRN(16, 2) {{ train {{ accumulate {n} }} }}"), 8, "fp32") for n in (1, 4))
    assert 0 < parts.training - whole.training <= whole.gradients


@pytest.mark.parametrize(
    "spec", ["ResNet(50)", "MultiResNet(26, k=3)", "DenseNet(40, 12)", "repeat 9 { B(3, 3) }", "PolyNet()"]
)
def test_the_peak_is_in_a_layer(spec: str) -> None:
    one = network(spec)
    layer = memory(one, 8, "fp32").peak.layer.split(" (")[0]
    named = {path for path, _ in modules(one.root)}
    assert layer in named or layer in ("ReLU", "the loss", "GlobalAvgPool")


def test_equal_stretches() -> None:
    """Many equal stretches are as if one came after the other."""
    for change, peak in ((3, 5), (-3, 2), (0, 4)):
        one = Segment((change, 0, 0, 0, 0), (peak, 0, 0, 0, 0))
        meter = Meter()
        for _ in range(4):
            meter.run(one)
        together = one.times(4, 0, 0, 0)
        assert (together.change, together.peak) == (meter.segment().change, meter.segment().peak)
    assert one.then_free(Kind.RESULTS, 2).change == (-2, 0, 0, 0, 0)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("count", [2, 3, 5])
def test_repeated_blocks_are_like_written_ones(count: int, precision: Precision) -> None:
    """A loop in closed form and the same blocks one by one: equal to the byte."""
    start = "in -> Conv(16, 3) -> "
    for body in (
        "B(3, 3)",
        "Conv(16, 3) -> ReLU",
        "in * (in -> Conv(16, 1) -> Sigmoid)",
        "MaxPool(1) -> ReLU",
    ):
        loop = network(f"{start}repeat {count} {{ {body} }} -> GlobalAvgPool on cifar10")
        written = network(f"{start}{' -> '.join([f'{{ {body} }}'] * count)} -> GlobalAvgPool on cifar10")
        a, b = (memory(n, 8, precision) for n in (loop, written))
        assert (a.training, a.saved) == (b.training, b.saved), body


# ---- what fits


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("spec", ["ResNet(50)", "VGG(16)", "MultiResNet(26, k=3)", "FractalNet()"])
def test_largest_batch(spec: str, precision: Precision) -> None:
    one = network(spec)
    for limit in (10**9, 24 * 10**9):
        most = largest_batch(one, limit, precision)
        assert most == 0 or memory(one, most, precision).training <= limit
        assert memory(one, most + 1, precision).training > limit


def test_straight_line() -> None:
    for spec in ("WRN(28, 10)", "VGG(16)", "ResNet(20) { train { batch_size 1 } }"):
        one = network(spec)
        fixed, each = linear_memory(one, "fp32")
        size = int(str(dict(one.recipe.settings)["batch_size"]))
        for batch in (size, 2 * size):
            assert fixed + each * batch == pytest.approx(memory(one, batch, "fp32").training, rel=0.03)


def test_fit() -> None:
    shown = succeed(*ARCHDSL, "params", "--memory", "--fit=24 GiB", "--precision=bf16", "--json", "ResNet(50)")
    (row,) = json.loads(shown)
    most = largest_batch(network("ResNet(50)"), 24 * 2**30, "bf16")
    assert row["memory"]["fit"] == {"bytes": 24 * 2**30, "batch": most} and row["memory"]["batch"] == most
    assert row["memory"]["training"] <= 24 * 2**30
    for same in ("22.5gb", "22500MB", "22500000 kB", "22500000000B"):
        (row,) = json.loads(succeed(*ARCHDSL, "params", "--memory", f"--fit={same}", "--json", "ResNet(20)"))
        assert row["memory"]["fit"]["bytes"] == 22_500_000_000


def test_not_even_one_image_fits() -> None:
    done = run(*ARCHDSL, "params", "--memory", "--fit=1GB", "VGG(16)")
    assert done.returncode == 1
    assert "error: not even one image fits in 1GB: VGG(16) on imagenet needs 1.7 GB to train on it" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--fit=24GB",), "--fit is for --memory"),
        (("--precision=tf32",), "--precision is for --machine and --memory"),
        (("--memory", "--fit=24GB", "--batch=8"), "--fit finds the batch: give --fit or --batch"),
        (("--memory", "--fit=24"), "'24' is no size such as 24GB"),
        (("--memory", "--fit=0GB"), "'0GB' is no size such as 24GB"),
        (("--memory", "--fit=-1GB"), "'-1GB' is no size such as 24GB"),
    ],
)
def test_wrong_usage(arguments: tuple[str, ...], says: str) -> None:
    done = run(*ARCHDSL, "params", *arguments, "WRN(16, 1)")
    assert done.returncode == 2 and says in done.stderr


def test_memory_as_text() -> None:
    shown = succeed(*ARCHDSL, "params", "--memory", "--batch=32", "ResNet(50)")
    assert "memory         for 32 images in fp32, trained by sgd" in shown
    assert "training peak                   3.0 GB  backward, in layer4.2 (ReLU)" in shown
    (row,) = json.loads(succeed(*ARCHDSL, "params", "--memory", "--batch=32", "--json", "ResNet(50)"))
    used, said = memory(network("ResNet(50)"), 32, "fp32"), row["memory"]
    assert said["saved_for_backward"] == used.saved and said["training"] == used.training
    assert sum(v for v in said["peak"].values() if isinstance(v, int)) == used.training
    placed = succeed(*ARCHDSL, "params", "--memory", "MultiResNet(8, k=2) { place { fused } }")
    assert "not as it is placed" in placed
