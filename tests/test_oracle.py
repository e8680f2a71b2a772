"""PyTorch as the oracle: it counts, measures and shapes every generated model as the IR does."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from support import GOLDEN, SPECS, build, check_against_torch, check_semantics, network_of, specs_in

from archdsl.core.measure import measure
from archdsl.driver import load

FAMILIES = [
    "ResNet(20)",
    "ResNet(20) on digits",
    "ResNet(20, shortcut=B) on mnist",
    "ResNet(29, block=bottleneck) on cifar100",
    "ResNet(18)",
    "ResNet(34, shortcut=A)",
    "ResNet(50)",
    "ResNet(50) on 3x160x160 -> 37",
    "ResNet(101) on 1x65x97 -> 3",
    "PreResNet(20)",
    "PreResNet(32, shortcut=B) on svhn",
    "PreResNet(29, block=bottleneck) on digits",
    "PreResNet(18)",
    "PreResNet(50) on 3x160x160 -> 37",
    "PreResNet(164, block=bottleneck)",
    "WRN(16, 1)",
    "WRN(28, 10, dropout=0.3)",
    "WRN(40, 2, block=B(3, 1, 3))",
    "WRN(22, 2, block=B(1, 3, 1)) on digits",
    "WRN(16, 4, dropout=0.5) on mnist",
    "WRN(50, 2)",
    "WRN(34, 2) on imagenet",
    "MultiResNet(8, k=2)",
    "MultiResNet(14, k=10) on mnist",
    "MultiResNet(8, k=3, w=2) on digits",
    "MultiResNet(20, k=5, block=bottleneck, shortcut=B) on cifar100",
    "MultiResNet(18, k=2)",
    "MultiResNet(50, k=2) on 3x160x160 -> 37",
    "B(3,3)x[k=4]",
    "B(3, 1, 3)",
    "B(5, width=32, stride=2) on 8x9x11",
    "Conv(4, 3)x[k=3]",
    "Conv(8, 3) -> BatchNorm -> ReLU",
]


def _inside(folder: Path) -> list[str]:
    # What is placed is compared with its plain form, in test_placement.py.
    return [str(path) for path in specs_in(folder) if path.stem != "placed"]


@pytest.mark.parametrize("spec", [*_inside(SPECS), *_inside(GOLDEN)], ids=lambda s: Path(s).stem)
def test_specs(spec: str) -> None:
    """As predicted; and every parameter has a gradient after a step back through all outputs.

    Of deep networks, which have the blocks of shallow ones and take PyTorch long, only the parameters are counted;
    `test_deep_network` looks at all of one.
    """
    for compiled in load(spec):
        cost = compiled.check()
        if cost.depth > 250:
            model = build(compiled.model(), "meta")
            assert sum(p.numel() for p in model.parameters()) == cost.params
            continue
        model = check_against_torch(compiled).train()
        outputs = model(torch.zeros(2, *compiled.network.input.dims, device="meta"))
        sum(o.sum() for o in (outputs if isinstance(outputs, tuple) else (outputs,))).backward()
        assert [name for name, p in model.named_parameters() if p.grad is None] == []


@pytest.mark.parametrize("spec", FAMILIES)
def test_families(spec: str) -> None:
    check_against_torch(network_of(spec))


def test_deep_network() -> None:
    check_against_torch(network_of("PreResNet(1001, block=bottleneck)"))


SMALL = [s for s in FAMILIES if any(data in s for data in ("digits", "mnist", "8x9x11", "B(", "Conv"))]


@pytest.mark.parametrize("spec", [*_inside(GOLDEN), *SMALL], ids=lambda s: Path(s).stem)
def test_values(spec: str) -> None:
    """The generated `forward` computes what an interpreter of the IR computes."""
    for compiled in load(spec):
        check_semantics(compiled)


@pytest.mark.parametrize("spec", _inside(SPECS), ids=lambda s: Path(s).stem)
def test_values_of_specs(spec: str) -> None:
    """The same of every ready spec, by the smallest network in it, if that is small enough to run in float64."""
    smallest = min(load(spec), key=lambda c: measure(c.network).macs)
    cost = measure(smallest.network)
    if cost.macs < 2e9 and cost.depth <= 170:
        check_semantics(smallest)
