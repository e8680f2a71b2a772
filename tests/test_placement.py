"""Placements compute the same function: outputs, gradients and statistics equal those of the plain model."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from support import run, succeed
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

import archdsl
from archdsl.base.diagnostics import ArchError
from archdsl.core.machines import MACHINES
from archdsl.core.measure import measure
from archdsl.core.placement import sums
from archdsl.core.predict import data_parallel, predict
from archdsl.driver import load
from archdsl.frontend.places import parse_placement

RESNEXT = """
block Path(width, stride=1) {
  conv1: Conv(4, 1) -> bn1: BatchNorm -> ReLU -> conv2: Conv(4, 3, stride) -> bn2: BatchNorm -> ReLU
    -> conv3: Conv(width, 1)
}
block Unit(width, stride=1) {
  let out = sum 4 as i { paths[i]: Path(width, stride) }
  let same = stride == 1 and in.channels == width
  out + (if same then in else in -> shortcut: Conv(width, 1, stride)) -> ReLU
}
net next on 3x8x8 -> 10 {
  conv1: Conv(16, 3) -> Unit(16) -> Unit(32, stride=2) -> Unit(32) -> GlobalAvgPool -> fc: Linear(classes)
}
"""
GROUPED = """
block Path(width) { Conv(8, 3, groups=4) -> BatchNorm -> ELU -> Conv(width, 3, groups=2, bias=true) }
block Deep(width) { BatchNorm -> Tanh -> Conv(8, 3, bias=true) -> AvgPool(2) -> Sigmoid -> Conv(width, 1, bias=true) }
net grouped on 3x8x8 -> 10 {
  Conv(16, 3) -> sum 3 as i { paths[i]: Path(16) } -> mean 3 as i { deep[i]: Deep(8) } -> GlobalAvgPool
    -> Linear(classes)
}
"""
SPECS = {
    "multi_residual": "MultiResNet(8, k=4) on 3x8x8 -> 10",
    "bottleneck": "MultiResNet(11, k=2, block=bottleneck) on 3x8x8 -> 10",
    "block": "B(3,3)x[k=4]",
    "wide": "WRN(10, 1, block=B(3, 3)x[k=4]) on 3x8x8 -> 10",
    "resnext": RESNEXT,
    "grouped": GROUPED,
}
OTHERS = {
    "polynet": 'from "std/polynet.arch" import TwoWay, InceptionA\nnet two_way = TwoWay(InceptionA) on 8x8x8',
    "crescendo": "CrescendoNet([8, 8], scale=4) on 3x8x8 -> 10",
}
"""Sums whose functions cannot be fused: lists of other layers, and functions that differ."""


def spec_of(name: str, folder: Path) -> str:
    """A path or an expression."""
    spec = {**SPECS, **OTHERS}[name]
    if "\n" not in spec:
        return spec
    path = folder / f"{name}.arch"
    path.write_text(spec, encoding="utf-8")
    return str(path)


def module_of(spec: str, place: str | None = None, *args: Any) -> nn.Module:
    namespace: dict[str, Any] = {"__name__": "model"}
    exec(compile(load(spec, place)[0].model(), f"<{place}>", "exec"), namespace)
    model: nn.Module = namespace["build_model"](*args)
    return model


def prepared(model: nn.Module, state: dict[str, Tensor] | None = None) -> nn.Module:
    """In float64, with weights that no layer starts with."""
    model.double()
    if state:
        model.load_state_dict(state, strict=True)
        return model
    torch.manual_seed(0)
    with torch.no_grad():
        for value in (*model.parameters(), *model.buffers()):
            if value.is_floating_point():
                value.copy_(torch.rand_like(value) * 0.4 + 0.1)
    return model


def computed(model: nn.Module, x: Tensor, after: Callable[[], None] = lambda: None) -> dict[str, Tensor]:
    """Output, gradients of input and parameters, and running statistics, of one training step; and an evaluation."""
    x = x.clone().requires_grad_()
    model.train()
    out = model(x)
    torch.manual_seed(1)
    (out * torch.rand_like(out)).sum().backward()
    after()
    assert x.grad is not None
    grads = {f"{name}.grad": p.grad for name, p in model.named_parameters() if p.grad is not None}
    assert len(grads) == len(list(model.parameters()))
    return {"out": out, "x": x.grad, **grads, **dict(model.named_buffers()), "eval": model.eval()(x)}


def input_of(spec: str) -> Tensor:
    torch.manual_seed(2)
    return torch.randn(4, *load(spec)[0].network.input.dims, dtype=torch.float64)


@pytest.mark.parametrize(
    ("name", "place"),
    [(n, p) for n in SPECS for p in ("fused", "split:2")] + [(n, "split:2") for n in OTHERS] + [("block", "split:4")],
)
def test_the_same_function(name: str, place: str, tmp_path: Path) -> None:
    spec = spec_of(name, tmp_path)
    plain = prepared(module_of(spec))
    count = int(place.partition(":")[2] or 0)
    placed = module_of(spec, place, *([("cpu",) * count] if count else []))
    assert list(placed.state_dict()) == list(plain.state_dict())
    prepared(placed, plain.state_dict())
    x = input_of(spec)
    expected = computed(plain, x)
    torch.testing.assert_close(computed(placed, x), expected, rtol=1e-9, atol=1e-9)


# A test's process ends by `os._exit`: one that leaves as usual can abort, with a thread of gloo that
# waits for the interpreter while this is torn down (pytorch/pytorch 190489).
MESH = """
import copy
import os
import sys
import torch
import torch.distributed as dist
from torch.distributed.device_mesh import init_device_mesh
sys.path[:0] = [sys.argv[2]]
from test_placement import computed, input_of, module_of, prepared

spec, _, count, out = sys.argv[1:]
dist.init_process_group("gloo")
mesh = init_device_mesh("cpu", (dist.get_world_size() // int(count), int(count)), mesh_dim_names=("data", "function"))
plain = prepared(module_of(spec))
placed = prepared(module_of(spec, f"mesh:{count}", mesh), plain.state_dict())
assert list(placed.state_dict()) == list(plain.state_dict())
x = input_of(spec)
expected = computed(plain, x)
average = placed.forward.__globals__["average_gradients"]
found = computed(placed, x, lambda: average(placed))
mine = {k for k in expected if k in dict(plain.named_buffers())}
for name, module in placed.named_modules():
    if type(module).__name__ == "Mesh":
        for i in range(len(module)):
            if module.owner(i) != module.group.rank():
                mine = {k for k in mine if not k.startswith(f"{name}.{i}.")}
kept = {k for k in expected if k not in dict(plain.named_buffers()) and k != "eval"} | mine
torch.testing.assert_close({k: found[k] for k in kept}, {k: expected[k] for k in kept}, rtol=1e-9, atol=1e-9)
optimizer = torch.optim.SGD(placed.parameters(), lr=0.1, momentum=0.9)
for _ in range(3):
    optimizer.step()
    optimizer.zero_grad()
    placed.train()(x).square().sum().backward()
    average(placed)
weights = [p.detach().clone() for p in placed.parameters()]
every = [None] * dist.get_world_size()
dist.all_gather_object(every, weights)
for other in every:
    torch.testing.assert_close(other, every[0], rtol=0, atol=0)

# A copy computes all functions itself; gradients of gradients; and what is frozen stays.
dist.barrier()
placed.load_state_dict(plain.state_dict())  # the steps may have left nothing that has a gradient
torch.testing.assert_close(copy.deepcopy(placed).eval()(x), plain.eval()(x), rtol=1e-9, atol=1e-9)

def slopes(model):
    model.train()
    model.zero_grad()
    y = x.clone().requires_grad_()
    (slope,) = torch.autograd.grad(model(y).square().sum(), y, create_graph=True)
    slope.square().sum().backward()
    if model is placed:
        average(placed)
    return [torch.zeros(()) if p.grad is None else p.grad for p in model.parameters()]

pairs = list(zip(slopes(placed), slopes(plain)))
assert all(bool(expected.any()) for _, expected in pairs[:3])
for found, expected in pairs:
    torch.testing.assert_close(found, expected.expand_as(found), rtol=1e-9, atol=1e-9)
placed.zero_grad()
first = next(placed.parameters()).requires_grad_(False)
placed(x).sum().backward()
average(placed)
assert first.grad is None
if dist.get_rank() == 0:
    print("equal", len(kept), len(weights), flush=True)
dist.barrier()  # no process leaves while another still listens
os._exit(0)
"""


@pytest.mark.parametrize(
    ("name", "count", "processes"),
    [("multi_residual", 2, 2), ("multi_residual", 2, 4), ("crescendo", 4, 4), ("resnext", 2, 2), ("polynet", 2, 2)],
)
def test_processes_compute_the_same_function(name: str, count: int, processes: int, tmp_path: Path) -> None:
    """On a mesh of data by functions; and all weights stay bitwise equal."""
    script = tmp_path / "mesh.py"
    script.write_text(MESH)
    command = (sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}")
    done = succeed(*command, script, spec_of(name, tmp_path), Path(__file__).parent, str(count), tmp_path)
    assert done.startswith("equal")


# ---- devices


def moved(module: nn.Module, device: str) -> nn.Module:
    """`Module.to` for tensors without data, which cannot be swapped."""
    for each in module.modules():
        for key, value in each.named_parameters(recurse=False):
            setattr(each, key, nn.Parameter(torch.empty(value.shape, device=device)))
        for key, value in each.named_buffers(recurse=False):
            setattr(each, key, torch.empty(value.shape, dtype=value.dtype, device=device))
    return module


def test_devices_that_are_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a GPU: every tensor of the forward pass is on the device that it should be on."""
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    monkeypatch.setattr(nn.Module, "to", moved)
    with FakeTensorMode(allow_non_fake_inputs=True):
        model = module_of(SPECS["multi_residual"], "split:3", ("cuda:0", "cuda:1", "cuda:2"))
        where = {name: str(p.device) for name, p in model.named_parameters()}
        assert {v for k, v in where.items() if ".functions." not in k} == {"cuda:0"}
        for i, device in enumerate(("cuda:0", "cuda:0", "cuda:1", "cuda:2")):
            assert {v for k, v in where.items() if f".functions.{i}." in k} == {device}
        out = model(torch.randn(2, 3, 8, 8, device="cuda:0"))
    assert str(out.device) == "cuda:0" and out.shape == (2, 10)


def test_a_tensor_on_the_wrong_device_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """The test above can fail: a model that does not send its input is refused."""
    text = load(SPECS["multi_residual"], "split:2")[0].model()
    broken = text.replace("x.to(home, non_blocking=True) for home in", "x for _ in")
    assert broken != text
    namespace: dict[str, Any] = {"__name__": "model"}
    exec(compile(broken, "<broken>", "exec"), namespace)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(nn.Module, "to", moved)
    with FakeTensorMode(allow_non_fake_inputs=True), pytest.raises(RuntimeError, match="device"):
        namespace["build_model"]()(torch.randn(2, 3, 8, 8, device="cuda:0"))


@pytest.mark.parametrize(
    ("devices", "message"),
    [
        (("cpu",), "made for 2 devices, not 1"),
        (("cpu", "cuda:99"), "there is no cuda:99: this machine has"),
        (("cpu", "xpu:0"), "there is no xpu:0: this machine has 0"),
        (("mps", "cpu"), "there is no mps: this machine has 0"),
    ],
)
def test_wrong_devices(devices: tuple[str, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        module_of(SPECS["multi_residual"], "split:2", devices)


# ---- training


def train(
    folder: Path, place: str | None, *arguments: str | Path, processes: int = 1
) -> subprocess.CompletedProcess[str]:
    """Compile for a placement and run its train.py."""
    made = folder / str(place).replace(":", "")
    if not made.exists():
        options = ("--place", place) if place else ()
        succeed(sys.executable, "-m", "archdsl", "compile", "MultiResNet(8, k=2) on digits", *options, "-o", made)
    torchrun = ("-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}")
    return run(sys.executable, *(torchrun if processes > 1 else ()), made / "train.py", *arguments, "--device=cpu")


def test_a_run_moves_between_placements(tmp_path: Path) -> None:
    """One run: an epoch on a mesh, one on the plain model, one split, one fused; then the mesh again."""
    whole, moved = tmp_path / "whole", tmp_path / "moved"
    assert train(tmp_path, None, "--run-dir", whole, "--epochs=5").returncode == 0
    for epochs, (place, processes) in enumerate(
        [("mesh:2", 2), (None, 1), ("split:2", 1), ("fused", 1), ("mesh:2", 2)], 1
    ):
        rest = ("--resume", f"--epochs={epochs}")
        done = train(tmp_path, place, "--run-dir", moved, *rest, processes=processes)
        assert done.returncode == 0, done.stderr
        assert f"going on with epoch {epochs}" in done.stdout or epochs == 1
    found, expected = (torch.load(folder / "checkpoint.pt", weights_only=True) for folder in (moved, whole))
    assert list(found["model"]) == list(expected["model"]) and found["epoch"] == expected["epoch"] == 6
    for key in ("optimizer", "processes"):
        assert len(found[key]) == len(expected[key])


def test_world_of_the_wrong_size(tmp_path: Path) -> None:
    done = train(tmp_path, "mesh:2", "--run-dir", tmp_path / "run")
    assert done.returncode == 1 and "1 processes are no groups of 2: torchrun --nproc-per-node 2" in done.stderr
    assert "Traceback" not in done.stderr and not (tmp_path / "run").exists()


# ---- the compiler


@pytest.mark.parametrize(
    ("spec", "place", "message"),
    [
        ("MultiResNet(8, k=4)", "split", "`split` needs a number of devices"),
        ("MultiResNet(8, k=4)", "split:x", "`split:x` has no number of devices after the colon"),
        ("MultiResNet(8, k=4)", "split:1", "`split` divides functions over 2 to 1,024 devices, not 1"),
        ("MultiResNet(8, k=4)", "spilt:2", "`spilt` is no placement"),
        ("MultiResNet(8, k=4)", "fused:2", "`fused` is for one device, and takes no number"),
        ("MultiResNet(8, k=2)", "mesh:4", "`mesh:4` applies to nothing in multiresnet_8_k_2"),
        ("WRN(16, 2)", "fused", "`fused` applies to nothing in wrn_16_2: it has no parallel sum"),
        ("CrescendoNet([8])", "fused", "`fused` applies to nothing in crescendonet_8"),
    ],
)
def test_what_cannot_be_placed(spec: str, place: str, message: str) -> None:
    with pytest.raises(ArchError) as caught:
        load(spec, place)
    assert caught.value.diagnostics[0].message == message


def test_the_plain_model_has_no_trace_of_placement() -> None:
    text = load(SPECS["multi_residual"])[0].model() + load(SPECS["multi_residual"])[0].train()
    words = ("Split", "Mesh", "Fused", '"cuda:1"', "DeviceMesh", "_each", "FUNCTIONS", "PARTS")
    assert not any(word in text for word in words)


def test_what_is_inside_of_a_function_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "nested.arch"
    path.write_text(
        "block Inner(width) { sum 4 as i { f[i]: Conv(width, 3) } }\n"
        "block Outer(width) { sum 2 as i { g[i]: Inner(width) } }\n"
        "net nested on 3x8x8 { Outer(8) }\n"
    )
    (one,) = load(str(path), "split:2")
    assert one.unplaced() == ["split:2 leaves a sum in Inner: it is a part of a function that is placed as a whole"]
    with pytest.raises(ArchError, match="applies to nothing in nested"):
        load(str(path), "fused")


def test_the_placement_of_a_spec_can_be_taken_away(tmp_path: Path) -> None:
    path = tmp_path / "wide.arch"
    path.write_text("net wide = MultiResNet(8, k=2) on digits { place { split 2 } }")
    (placed,), (plain,) = load(str(path)), load(str(path), "none")
    assert "    placement      split:2\n" in placed.model() and "    placement      split:2\n" in placed.train()
    assert "Split" not in plain.model() and "placement" not in plain.model() + plain.train()


def test_fused_statistics_over_all_batches() -> None:
    """`update_bn`, of stochastic weight averaging, takes means over batches."""
    batches = list(torch.rand(3, 4, 3, 8, 8).double())
    plain = prepared(module_of(SPECS["multi_residual"]))
    fused = prepared(module_of(SPECS["multi_residual"], "fused"), plain.state_dict())
    for model in (plain, fused):
        torch.optim.swa_utils.update_bn(batches, model)
    torch.testing.assert_close(dict(fused.named_buffers()), dict(plain.named_buffers()), rtol=1e-9, atol=1e-9)


def test_uneven_shares_are_told() -> None:
    done = run(sys.executable, "-m", "archdsl", "params", "CrescendoNet()", "--place", "split:2")
    assert (
        "functions are divided by their number, and split:2 gives 78% of the multiply-adds to device 1" in done.stderr
    )


def test_reasons_are_given() -> None:
    """Of two sums, one can be fused."""
    spec = GROUPED.replace("as i { deep[i]: Deep(8) }", "as i { deep[i]: Deep(if i == 0 then 8 else 8) -> ReLU }")
    network = load(spec)[0].network
    problems = [s.problem for s in sums(network, parse_placement("fused"))]
    assert problems[0] is None and problems[1] and "not the elements of one list" in problems[1]


# ---- predictions


def test_table_v() -> None:
    """The trend of arXiv:1609.05672, table V: seconds against the deeper network, which shares the images."""
    paper = {(128, 2): 413 / 462, (128, 4): 838 / 804, (128, 6): 1284 / 1158}
    paper |= {(32, 2): 137 / 136, (32, 4): 273 / 238, (32, 6): 402 / 341}
    depths = {2: 218, 4: 434, 6: 650}
    k80 = MACHINES["k80"]
    gains = {}
    for (batch, k), gain in paper.items():
        deep = load(f"PreResNet({depths[k]})")[0].network
        wide = load(f"MultiResNet(110, k={k})", "split:2")[0].network
        gains[batch, k] = data_parallel(deep, k80, batch, 2) / predict(wide, k80, batch).elapsed
        assert gains[batch, k] == pytest.approx(gain, abs=0.08)
    assert gains[128, 2] < 1 < gains[32, 2]
    for batch in (128, 32):
        assert gains[batch, 2] < gains[batch, 4] < gains[batch, 6]
    assert all(gains[128, k] < gains[32, k] for k in depths)


def test_shares_add_up() -> None:
    """What the devices hold and do is what the network has."""
    for spec, place in (("MultiResNet(20, k=5)", "split:3"), ("CrescendoNet()", "split:4"), ("WRN(16, 2)", "")):
        network = load(spec, place or None)[0].network
        plain = load(spec)[0].network
        cost, whole = predict(network, MACHINES["k80"], 8), measure(plain)
        assert sum(s.params for s in cost.shares) == whole.params
        assert sum(s.macs for s in cost.shares) == whole.macs
    mesh = predict(load("MultiResNet(20, k=5)", "mesh:5")[0].network, MACHINES["k80"], 8)
    assert {s.params for s in mesh.shares} == {measure(load("MultiResNet(20, k=5)")[0].network).params}


def test_what_is_exchanged() -> None:
    """B(3,3)x[k=4] sends its input and receives the sum, 16x32x32 in single precision, and the gradients of both."""
    network = load("B(3,3)x[k=4]", "split:2")[0].network
    assert predict(network, MACHINES["k80"], 1).exchanged == 4 * 16 * 32 * 32 * 4


def test_params_of_a_placement(tmp_path: Path) -> None:
    page = (Path(__file__).parents[1] / "docs" / "placement.md").read_text(encoding="utf-8")
    shown = page[page.index("$ archdsl params") :].split("```")[0].split("\n", 1)[1]
    archdsl = (sys.executable, "-m", "archdsl", "params", "--place=split:2")
    assert succeed(*archdsl, "MultiResNet(110, k=4)") == shown
    (row,) = json.loads(succeed(*archdsl, "--json", "MultiResNet(110, k=4)"))
    assert row["devices"][1]["params"] == 3_453_248 and row["speed_up"] == pytest.approx(1.83, abs=0.01)
    spec = tmp_path / "thin.arch"
    spec.write_text(
        "block F(w) { Conv(w, 1, groups=w) }\n"
        "net thin on 64x32x32 -> 10 { sum 2 as i { fs[i]: F(64) } -> GlobalAvgPool -> Linear(classes) }\n"
    )
    done = run(*archdsl, spec)
    assert done.returncode == 0 and "warning: thin: transfers take" in done.stderr
    done = run(*archdsl, "--machine=h1000", "MultiResNet(8, k=2)")
    assert done.returncode == 2 and "did you mean `h100`?" in done.stderr


# ---- what a reviewer found


def test_memory_formats_differ(tmp_path: Path) -> None:
    """Processes whose functions prefer other memory formats exchange one."""
    spec = tmp_path / "formats.arch"
    spec.write_text(
        "block Path(width, kernel) { conv: Conv(width, kernel, bias=true) }\n"
        "net formats on 3x8x8 -> 4 {\n"
        "  sum for i, k in [3, 1] { paths[i]: Path(8, k) } -> ReLU -> GlobalAvgPool -> fc: Linear(classes)\n"
        "}\n"
    )
    script = tmp_path / "mesh.py"
    last = "from test_placement import computed, input_of, module_of, prepared\n"
    channels_last = "prepared = lambda m, s=None, p=prepared: p(m, s).to(memory_format=torch.channels_last)\n"
    script.write_text(MESH.replace(last, last + channels_last))
    command = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2")
    assert succeed(*command, script, spec, Path(__file__).parent, "2", tmp_path).startswith("equal")


def test_each_fused_function_drops_by_itself(tmp_path: Path) -> None:
    """With weights W and -W, functions that drop alike would add up to nothing."""
    spec = tmp_path / "drop.arch"
    spec.write_text(
        "block F() { Dropout(0.5) -> conv: Conv(4, 3) }\nnet drop on 4x8x8 { sum 2 as i { paths[i]: F } }\n"
    )
    model: Any = module_of(str(spec), "fused")
    with torch.no_grad():
        model.paths[1].conv.weight.copy_(-model.paths[0].conv.weight)
    assert model.train()(torch.ones(2, 4, 8, 8)).abs().mean() > 0.05
    assert model.eval()(torch.ones(2, 4, 8, 8)).abs().max() < 1e-6


@pytest.mark.parametrize("body", ["ReLU -> AvgPool(3, stride=1, padding=1)", "ReLU -> Dropout(0.5)"])
def test_functions_without_weights_are_not_fused(body: str, tmp_path: Path) -> None:
    spec = tmp_path / "pool.arch"
    spec.write_text(f"block F() {{ {body} }}\nnet pool on 4x8x8 {{ sum 3 as i {{ paths[i]: F }} }}\n")
    with pytest.raises(ArchError) as caught:
        load(str(spec), "fused")
    assert "hold no convolution or normalisation" in caught.value.diagnostics[0].notes[0].text


def test_processes_of_a_group_see_one_checkpoint(tmp_path: Path) -> None:
    """Machines without a shared disk: the second process finds no checkpoint, and both stop before they train."""
    assert train(tmp_path, "mesh:2", "--run-dir", tmp_path / "run0", "--epochs=1", processes=2).returncode == 0
    starter = tmp_path / "start.py"
    folder, script = str(tmp_path / "mesh2"), str(tmp_path / "mesh2" / "train.py")
    starter.write_text(
        "import os, runpy, sys\n"
        f"sys.path.insert(0, {folder!r})\n"
        f"sys.argv = ['train.py', '--resume', '--device=cpu', '--epochs=2', '--run-dir', {str(tmp_path / 'run')!r}]\n"
        "sys.argv[-1] += os.environ['RANK']\n"
        f"runpy.run_path({script!r}, run_name='__main__')\n"
    )
    done = run(sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", starter)
    assert done.returncode != 0 and "processes see different checkpoints: share --run-dir" in done.stderr


def test_options_that_would_do_nothing() -> None:
    archdsl = (sys.executable, "-m", "archdsl", "params", "MultiResNet(8, k=2)")
    for option in ("--precision=bf16", "--batch=7", "--amp=bf16"):
        done = run(*archdsl, option)
        assert done.returncode == 2 and "is for --" in done.stderr
    assert run(*archdsl, "--place=").returncode == 1
    place = "MultiResNet(8, k=2) { place { split 2 } }"
    assert "placement      split:2" in succeed(sys.executable, "-m", "archdsl", "params", place)
    done = run(sys.executable, "-m", "archdsl", "check", "MultiResNet(8, k=2) { place { split 9 } }")
    assert done.returncode == 1 and "^^^" in done.stderr


def test_build_takes_devices() -> None:
    model = archdsl.build("MultiResNet(8, k=3) on digits { place { split 2 } }", devices=("cpu", "cpu"))
    assert model(torch.zeros(2, 1, 8, 8)).shape == (2, 10)


class Launches(TorchDispatchMode):
    """Counts operations that compute something; views and allocations do not."""

    count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if not func.is_view and "empty" not in func.name():
            self.count += 1
        return func(*args, **(kwargs or {}))


def launches(spec: str, place: str | None) -> int:
    """Of a training step, forward and backward."""
    model = module_of(spec, place).to("meta")
    with Launches() as launched:
        model(torch.empty(2, 3, 32, 32, device="meta")).sum().backward()
    return launched.count


def test_what_fusing_saves() -> None:
    """What puts weights together in every step costs launches too: two functions hardly gain, more gain more."""
    predicted = []
    for k, least in ((2, 1.03), (4, 1.8), (6, 2.4)):
        spec = f"MultiResNet(110, k={k})"
        assert launches(spec, None) / launches(spec, "fused") > least
        alone, fused = (load(spec, place)[0].network for place in (None, "fused"))
        predicted.append(predict(alone, MACHINES["k80"], 32).elapsed / predict(fused, MACHINES["k80"], 32).elapsed)
    assert predicted[0] < 1.02 < predicted[1] < predicted[2]


def test_a_signal_to_any_process_stops_all(tmp_path: Path) -> None:
    """Also to one that leads no group: both write the checkpoint of one step, and end."""
    assert train(tmp_path, "mesh:2", "--run-dir", tmp_path / "smoke", "--smoke", processes=2).returncode == 0
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    folder = tmp_path / "run"
    command += [str(tmp_path / "mesh2" / "train.py"), f"--run-dir={folder}", "--epochs=9999", "--device=cpu"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    while not (folder / "checkpoint.pt").exists():
        assert process.poll() is None
        time.sleep(0.05)
    found = subprocess.run(["pgrep", "-f", str(folder)], capture_output=True, text=True, check=True).stdout.split()
    ranks = {pid: Path(f"/proc/{pid}/environ").read_bytes().split(b"\0") for pid in found}
    (second,) = [int(pid) for pid, names in ranks.items() if b"RANK=1" in names]
    os.kill(second, signal.SIGTERM)
    said = process.communicate(timeout=60)[0]
    assert "stopped in epoch" in said and process.returncode != 0
    assert torch.load(folder / "checkpoint.pt", weights_only=True)["epoch"] < 9999


def test_columns_are_drawn_for_every_device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """FractalNet's column is drawn on the first device, and asked for on others."""
    spec = tmp_path / "columns.arch"
    spec.write_text(
        "block Frac(w) { mean(drop_path=0.15, one_column=0.5) { Conv(w, 3), Conv(w, 3) -> Conv(w, 3) } }\n"
        "net columns on 3x8x8 -> 4 {\n"
        "  conv1: Conv(8, 3) -> sum 2 as i { paths[i]: Frac(8) } -> GlobalAvgPool -> fc: Linear(classes)\n}\n"
    )
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(nn.Module, "to", moved)
    with FakeTensorMode(allow_non_fake_inputs=True):
        model = module_of(str(spec), "split:2").train()
        assert model(torch.randn(2, 3, 8, 8, device="cuda:0")).shape == (2, 4)
