"""ResNet and wide ResNet are torchvision's: names, shapes, order and values."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from support import REFERENCE, build, network_of
from torch import nn
from torchvision.models import resnet18, resnet50, wide_resnet50_2

PAIRS = [("ResNet(18)", resnet18), ("ResNet(50)", resnet50), ("WRN(50, 2)", wide_resnet50_2)]


def _keys(model: nn.Module) -> list[tuple[str, tuple[int, ...]]]:
    return [(name, tuple(value.shape)) for name, value in model.state_dict().items()]


@pytest.mark.parametrize("depth", [18, 50])
def test_names_on_record(depth: int) -> None:
    """The state_dict has the keys, shapes and order that torchvision 0.28 has; see reference/README.md."""
    text = (REFERENCE / f"keys_resnet{depth}.txt").read_text(encoding="utf-8")
    lines = [f"{name} {shape}" for name, shape in _keys(build(network_of(f"ResNet({depth})").model(), "meta"))]
    assert lines == text.splitlines()


@pytest.mark.parametrize(("spec", "torchvision"), PAIRS, ids=[spec for spec, _ in PAIRS])
def test_same_as_torchvision(spec: str, torchvision: Callable[[], nn.Module]) -> None:
    """torchvision's own random weights load, and the outputs are equal: not close, equal."""
    torch.manual_seed(0)
    theirs = torchvision().eval()
    ours = build(network_of(spec).model()).eval()
    assert _keys(ours) == _keys(theirs)
    ours.load_state_dict(theirs.state_dict(), strict=True)
    x = torch.randn(2, 3, 64, 64)
    with torch.inference_mode():
        assert torch.equal(ours(x), theirs(x))
