"""The families without residual blocks: their counts, and what their papers define."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from support import SPECS, build, check_semantics, network_of, nonempty
from torch import Tensor, nn

import archdsl
from archdsl.core.measure import measure
from archdsl.driver import Compiled, load

STEMS = ("alexnet", "allcnn", "dsn", "elunet", "fitnet", "highway", "nin", "vgg")
NETWORKS = nonempty(
    (c.network.name, f"{stem}.arch") for stem in STEMS for c in load(str(SPECS / "baselines" / f"{stem}.arch"))
)

COUNTS = {
    "AlexNet()": 61_100_840,
    "VGG(16)": 138_357_544,
    "VGG(16, bn=true)": 138_365_992,
    "NIN()": 966_986,
    "DSN()": 966_986 + 2_580_510,
    "FitNet(19)": 2_742_102,
    "AllCNN()": 1_369_738,
    "ELUNet()": 39_330_404,
    "Highway(10)": 85_660,
    "Highway(19, layers=convolutional)": 2_274_186,
}
"""Calls as the contract has them, on their default data sets."""

DEFAULT_DATA = {"AlexNet()": 1000, "VGG(11)": 1000, "NIN()": 10, "ELUNet()": 100, "Highway(10)": 10}


def _parameters(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


def _named(name: str, file: str) -> Compiled:
    (found,) = (c for c in load(str(SPECS / "baselines" / file)) if c.network.name == name)
    return found


@pytest.mark.parametrize(("name", "file"), NETWORKS, ids=[name for name, _ in NETWORKS])
def test_count_is_pytorchs(name: str, file: str) -> None:
    """Each ready spec meets its `expect`, and the generated model has as many parameters as the IR says."""
    compiled = _named(name, file)
    compiled.check()
    assert _parameters(build(compiled.model(), "meta")) == measure(compiled.network).params


@pytest.mark.parametrize("spec", COUNTS)
def test_count(spec: str) -> None:
    with torch.device("meta"):
        assert _parameters(archdsl.build(spec)) == archdsl.load(spec).params == COUNTS[spec]


@pytest.mark.parametrize("spec", DEFAULT_DATA)
def test_default_data(spec: str) -> None:
    assert network_of(spec).network.output.dims == (DEFAULT_DATA[spec],)


@pytest.mark.parametrize(
    "spec", ["VGG(12)", "FitNet(20)", "Highway(11, 8, convolutional)", "Highway(32, layers=convolutional)"]
)
def test_depth_is_refused(spec: str) -> None:
    with pytest.raises(archdsl.ArchError, match="depth"):
        archdsl.load(spec)


# ---- torchvision


def _without_dropout(model: nn.Module) -> nn.Module:
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    return model


def _clones(model: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}


def _keys(model: nn.Module) -> list[tuple[str, torch.Size]]:
    return [(name, value.shape) for name, value in model.state_dict().items()]


# ---- what the papers define


@pytest.mark.parametrize(
    "spec",
    [
        "AllCNN() on 3x16x16 -> 4",
        "DSN() on 3x16x16 -> 4",
        "FitNet(19)",
        "Highway(5, 8) on digits",
        "Highway(10, 8, convolutional) on digits",
        "Highway(19, layers=convolutional) on digits",
        "NIN() on 3x16x16 -> 4",
    ],
)
def test_values(spec: str) -> None:
    """The generated `forward` computes what an interpreter of the IR computes."""
    check_semantics(network_of(spec))


def test_elunet_ends_with_one_pixel() -> None:
    model = build(network_of("ELUNet()").model(), "meta")
    x = torch.empty(1, 3, 32, 32, device="meta")
    for stack in list(model.children())[:-1]:
        x = stack(x)
    assert x.shape == (1, 1152, 1, 1)


def test_dsn_has_companions_in_training_alone() -> None:
    model = build(network_of("DSN() on 3x16x16 -> 4").model())
    x = torch.randn(2, 3, 16, 16)
    outputs = model(x)
    assert [o.shape for o in outputs] == [(2, 4)] * 4
    assert model.eval()(x).shape == (2, 4)
    companions = sum(p.numel() for n, p in model.named_parameters() if "companion" in n)
    assert _parameters(model) - companions == archdsl.load("NIN() on 3x16x16 -> 4").params


def test_dsn_loads_the_weights_of_nin() -> None:
    nin = build(network_of("NIN()").model(), "meta").state_dict()
    dsn = build(network_of("DSN()").model(), "meta").state_dict()
    assert {n: v.shape for n, v in dsn.items() if "companion" not in n} == {n: v.shape for n, v in nin.items()}


@pytest.mark.parametrize("spec", ["Highway(5, 8) on digits", "Highway(10, 8, convolutional, bias=-3) on digits"])
def test_highway_carries_at_the_start(spec: str) -> None:
    """Transform gates start at their bias; a layer whose gate is shut returns its input, and open, its transform."""
    model = build(network_of(spec).model())
    layers = [m for m in model.modules() if hasattr(m, "gate")]
    assert layers
    start = -3.0 if "-3" in spec else -2.0
    for layer in layers:
        assert torch.all(layer.gate.bias == start)
        assert layer.transform.bias is not None and torch.all(layer.transform.bias == 0)
    layer = layers[0]
    x = torch.randn(3, 8) if isinstance(layer.gate, nn.Linear) else torch.randn(3, 8, 4, 4)
    with torch.no_grad():
        layer.gate.weight.zero_()
        layer.gate.bias.fill_(-100)
        torch.testing.assert_close(layer(x), x)
        layer.gate.bias.fill_(100)
        torch.testing.assert_close(layer(x), F.relu(layer.transform(x)))
