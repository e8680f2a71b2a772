"""GoogLeNet is torchvision's, value for value; PolyNet has the published counts, and its modules their formulas."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from support import build, compile_text, network_of
from torch import Tensor, nn
from torchvision.models import googlenet

IMAGE = (2, 3, 64, 64)


def _theirs(aux: bool) -> nn.Module:
    torch.manual_seed(0)
    return googlenet(weights=None, aux_logits=aux, init_weights=False)


def _ours(aux: bool, state: dict[str, Tensor]) -> nn.Module:
    model = build(network_of(f"GoogLeNet(aux={str(aux).lower()})").model())
    model.load_state_dict(state, strict=True)
    return model


def _keys(model: nn.Module) -> list[tuple[str, tuple[int, ...]]]:
    return [(name, tuple(value.shape)) for name, value in model.state_dict().items()]


def _count(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize(("aux", "count"), [(True, 13_004_888), (False, 6_624_904)])
def test_googlenet_names(aux: bool, count: int) -> None:
    """The state_dict has torchvision's keys, shapes and order."""
    ours = build(network_of(f"GoogLeNet(aux={str(aux).lower()})").model(), "meta")
    with torch.device("meta"):
        theirs = _theirs(aux)
    assert _keys(ours) == _keys(theirs)
    assert _count(ours) == count


@pytest.mark.parametrize("aux", [True, False])
def test_googlenet_in_evaluation(aux: bool) -> None:
    """torchvision's own random weights load, and the outputs are equal: not close, equal."""
    theirs = _theirs(aux).eval()
    ours = _ours(aux, theirs.state_dict()).eval()
    x = torch.randn(IMAGE)
    with torch.inference_mode():
        assert torch.equal(ours(x), theirs(x))


def test_googlenet_in_training() -> None:
    """Without dropout the result, both auxiliary outputs and all gradients are torchvision's."""
    theirs = _theirs(aux=True).double()
    ours = _ours(True, theirs.state_dict()).double()
    for model in (ours, theirs):
        model.train()
        for module in model.modules():
            if isinstance(module, nn.Dropout):
                module.p = 0.0
    x = torch.randn(IMAGE, dtype=torch.float64)
    result, aux1, aux2 = ours(x)
    expected = theirs(x)
    pairs = [(result, expected.logits), (aux1, expected.aux_logits1), (aux2, expected.aux_logits2)]
    for mine, its in pairs:
        torch.testing.assert_close(mine, its)
    sum(mine.square().sum() for mine, _ in pairs).backward()
    sum(its.square().sum() for _, its in pairs).backward()
    gradients = dict(theirs.named_parameters())
    for name, parameter in ours.named_parameters():
        assert parameter.grad is not None
        torch.testing.assert_close(parameter.grad, gradients[name].grad, rtol=1e-7, atol=1e-7, msg=name)


def test_googlenet_dropout() -> None:
    model = build(network_of("GoogLeNet").model(), "meta")
    rates = {name: module.p for name, module in model.named_modules() if isinstance(module, nn.Dropout)}
    assert rates == {"aux1.dropout": 0.7, "aux2.dropout": 0.7, "dropout": 0.2}


def test_polynet_count() -> None:
    compiled = network_of("PolyNet() on 3x331x331 -> 1000")
    assert _count(build(compiled.model(), "meta")) == 95_366_600
    network = network_of("PolyNet")
    assert network.network.input.dims == (3, 331, 331)


FORMULAS: dict[str, Callable[[Any, Tensor], Tensor]] = {
    "Poly2": lambda m, x: x + m.f(x) + m.f(F.relu(m.f(x))),
    "MPoly2": lambda m, x: x + m.f(x) + m.g(F.relu(m.f(x))),
    "TwoWay": lambda m, x: x + m.f(x) + m.g(x),
}


@pytest.mark.parametrize("name", FORMULAS)
def test_modules_of_second_order(name: str, tmp_path: Path) -> None:
    """I + F + F², I + F + GF and I + F + G, then ReLU."""
    text = f'from "std/polynet.arch" import {name}, InceptionC\nnet module = {name}(InceptionC) on 24x5x5\n'
    module = build(compile_text(text, tmp_path).model()).double().eval()
    x = torch.randn(2, 24, 5, 5, dtype=torch.float64)
    with torch.inference_mode():
        torch.testing.assert_close(module(x), F.relu(FORMULAS[name](module, x)))


def test_poly_3(tmp_path: Path) -> None:
    """I + s (F1 + F2 F1 + F3 F2 F1): the three share the inner convolutions alone."""
    text = 'from "std/polynet.arch" import Poly3\nnet module = Poly3(4, 5, 6, size=3, scale=0.9) on 24x5x5\n'
    module: Any = build(compile_text(text, tmp_path).model()).double().eval()
    generator = torch.Generator().manual_seed(0)
    for norm in module.modules():
        if isinstance(norm, nn.BatchNorm2d):
            nn.init.normal_(norm.weight, generator=generator)

    def function(i: int, x: Tensor) -> Tensor:
        path = F.relu(module.bn1[i](module.conv1(x)))
        path = F.relu(module.bn2[i](module.conv2(path)))
        path = F.relu(module.bn3[i](module.conv3(path)))
        side = F.relu(module.side_bn[i](module.side(x)))
        out: Tensor = module.bn[i](module.widen[i](torch.cat([path, side], 1)))
        return out

    x = torch.randn(2, 24, 5, 5, dtype=torch.float64, generator=generator)
    with torch.inference_mode():
        first = function(0, x)
        second = function(1, F.relu(first))
        third = function(2, F.relu(second))
        torch.testing.assert_close(module(x), F.relu(x + 0.9 * (first + second + third)))


def test_scales_of_polynet() -> None:
    """The factors of the residuals fall from 1 to 0.7 in 39 equal steps."""
    model = build(network_of("PolyNet").model(), "meta")
    found = [
        value
        for name, module in model.named_modules()
        for key, value in vars(module).items()
        if name.startswith("stage") and key.startswith("scale")
    ]
    assert found == pytest.approx([1 - 0.3 * i / 39 for i in range(40)])
