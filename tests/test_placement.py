"""Placements compute the same function: outputs, gradients and statistics equal those of the plain model."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from support import run, succeed
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from archdsl.base.diagnostics import ArchError
from archdsl.core.placement import sums
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


def computed(model: nn.Module, x: Tensor) -> dict[str, Tensor]:
    """Output, gradients of input and parameters, and running statistics, of one training step; and an evaluation."""
    x = x.clone().requires_grad_()
    model.train()
    out = model(x)
    torch.manual_seed(1)
    (out * torch.rand_like(out)).sum().backward()
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


MESH = """
import sys
import torch
import torch.distributed as dist
from torch.distributed.device_mesh import init_device_mesh
from torch.nn.parallel import DistributedDataParallel
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
model = DistributedDataParallel(placed, find_unused_parameters=True, broadcast_buffers=False)
found = {k.replace("module.", "", 1) if k.startswith("module.") else k: v for k, v in computed(model, x).items()}
mine = {k for k in expected if k in dict(plain.named_buffers())}
for name, module in placed.named_modules():
    if type(module).__name__ == "Mesh":
        for i in range(len(module)):
            if module.owner(i) != module.group.rank():
                mine = {k for k in mine if not k.startswith(f"{name}.{i}.")}
kept = {k for k in expected if k not in dict(plain.named_buffers()) and k != "eval"} | mine
torch.testing.assert_close({k: found[k] for k in kept}, {k: expected[k] for k in kept}, rtol=1e-9, atol=1e-9)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
for _ in range(3):
    optimizer.step()
    optimizer.zero_grad()
    model.train()(x).square().sum().backward()
weights = [p.detach().clone() for p in model.parameters()]
every = [None] * dist.get_world_size()
dist.all_gather_object(every, weights)
for other in every:
    torch.testing.assert_close(other, every[0], rtol=0, atol=0)
if dist.get_rank() == 0:
    print("equal", len(kept), len(weights))
dist.barrier()
dist.destroy_process_group()
"""


@pytest.mark.parametrize(
    ("name", "count", "processes"),
    [("multi_residual", 2, 2), ("multi_residual", 2, 4), ("crescendo", 4, 4), ("resnext", 2, 2), ("polynet", 2, 2)],
)
def test_processes_compute_the_same_function(name: str, count: int, processes: int, tmp_path: Path) -> None:
    """With DistributedDataParallel, on a mesh of data by functions; then all weights stay bitwise equal."""
    script = tmp_path / "mesh.py"
    script.write_text(MESH)
    command = (sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}")
    done = succeed(*command, script, spec_of(name, tmp_path), Path(__file__).parent, str(count), tmp_path)
    assert done.startswith("equal")
