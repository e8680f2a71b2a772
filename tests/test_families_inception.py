"""What GoogLeNet drops; PolyNet has the published counts, and its modules their formulas."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from support import build, compile_text, network_of
from torch import Tensor, nn


def _count(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


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
    "TwoWay": lambda m, x: x + m.functions[0](x) + m.functions[1](x),
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
