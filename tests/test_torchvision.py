"""Every network that torchvision has and the library too: names, shapes, order, values and gradients."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from support import REFERENCE, build, network_of
from torch import Tensor, nn
from torchvision import models

THEIRS: dict[str, Callable[[], nn.Module]] = {
    "AlexNet()": models.alexnet,
    **{f"VGG({d})": partial(models.get_model, f"vgg{d}", init_weights=False) for d in (11, 13, 16, 19)},
    **{f"VGG({d}, bn=true)": partial(models.get_model, f"vgg{d}_bn", init_weights=False) for d in (11, 13, 16, 19)},
    "GoogLeNet()": partial(models.googlenet, init_weights=False),
    "GoogLeNet(aux=false)": partial(models.googlenet, init_weights=False, aux_logits=False),
    **{f"ResNet({d})": partial(models.get_model, f"resnet{d}") for d in (18, 34, 50, 101, 152)},
    **{f"WRN({d}, 2)": partial(models.get_model, f"wide_resnet{d}_2") for d in (50, 101)},
    "ResNeXt(50, 32, 4)": models.resnext50_32x4d,
    "ResNeXt(101, 32, 8)": models.resnext101_32x8d,
    "ResNeXt(101, 64, 4)": models.resnext101_64x4d,
    **{f"DenseNet({d})": partial(models.get_model, f"densenet{d}") for d in (121, 161, 169, 201)},
}


def _keys(model: nn.Module) -> list[tuple[str, tuple[int, ...]]]:
    return [(name, tuple(value.shape)) for name, value in model.state_dict().items()]


def test_all_of_them() -> None:
    """torchvision has no other network of these families."""
    families = ("alexnet", "vgg", "googlenet", "resnet", "wide_resnet", "resnext", "densenet")
    names = [n for n in models.list_models(module=models) if n.startswith(families)]
    assert len(names) == len(THEIRS) - 1  # GoogLeNet stands there twice


@pytest.mark.parametrize("depth", [18, 50])
def test_names_on_record(depth: int) -> None:
    """The state_dict has the keys, shapes and order that torchvision 0.28 has; see reference/README.md."""
    text = (REFERENCE / f"keys_resnet{depth}.txt").read_text(encoding="utf-8")
    lines = [f"{name} {shape}" for name, shape in _keys(build(network_of(f"ResNet({depth})").model(), "meta"))]
    assert lines == text.splitlines()


@pytest.mark.parametrize("spec", THEIRS)
def test_same_as_torchvision(spec: str) -> None:
    """Random weights load strictly; outputs in evaluation are equal, gradients in training without dropout close."""
    torch.manual_seed(0)
    theirs = _without_dropout(THEIRS[spec]())
    ours = _without_dropout(build(network_of(spec).model(), "meta"))
    assert _keys(ours) == _keys(theirs)
    ours.load_state_dict({name: value.clone() for name, value in theirs.state_dict().items()}, strict=True, assign=True)

    x = torch.randn(4, 3, 64, 64)
    with torch.inference_mode():
        assert torch.equal(ours.eval()(x), theirs.eval()(x))

    for model in (ours, theirs):
        _loss(model.train()(x)).backward()
    expected = dict(theirs.named_parameters())
    for name, parameter in ours.named_parameters():
        theirs_too = expected[name].grad
        assert parameter.grad is not None and theirs_too is not None
        apart = (parameter.grad - theirs_too).abs().max()
        assert apart <= 1e-4 * theirs_too.abs().max(), f"{name}: {apart}"


def _without_dropout(model: nn.Module) -> nn.Module:
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    return model


def _loss(output: Tensor | tuple[Tensor, ...]) -> Tensor:
    """The losses of all outputs; GoogLeNet has three, which torchvision names."""
    labels = torch.tensor([3, 5, 8, 9])
    outputs = (output,) if isinstance(output, Tensor) else tuple(output)
    return torch.stack([F.cross_entropy(o, labels) for o in outputs]).sum()
