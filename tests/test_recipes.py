"""What the library trains: whose recipe each family has, what depends on the data, and how weights start."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import archdsl
from archdsl.core.ir import Network
from archdsl.driver import load


def network(spec: str) -> Network:
    return load(spec)[0].network


def settings(spec: str) -> dict[str, Any]:
    return dict(network(spec).recipe.settings)


# ---- recipes


@pytest.mark.parametrize(
    ("spec", "name", "expected"),
    [
        # szagoruyko/wide-residual-networks ae6d0d0, scripts/train_cifar.sh and train_svhn.sh; train.lua, line 173
        ("WRN(28, 10)", "wrn_cifar", (200, 128, 0.1, True, [59, 119, 159], 0.2, "reflect")),
        ("WRN(16, 8, dropout=0.4) on svhn", "wrn_svhn", (160, 128, 0.01, True, [79, 119], 0.1, "zero")),
        # masoudabd/multi-resnet 01ab719, train.lua, lines 165 to 176, and README.md, line 21
        ("MultiResNet(110, k=4)", "multi_resnet_cifar", (200, 128, 0.1, True, [80, 121], 0.1, "zero")),
        ("MultiResNet(200, k=5)", "multi_resnet_cifar_deep", (200, 64, 0.1, True, [80, 121], 0.1, "zero")),
        # arXiv:1512.03385, section 4.2
        ("ResNet(20)", "resnet_cifar", (164, 128, 0.1, False, [82, 123], 0.1, "zero")),
        # yueatsprograms/Stochastic_Depth 286bb50, main.lua, lines 53 to 55, and README.md, lines 46 and 47
        ("StochasticDepth(110)", "stochastic_depth_cifar", (500, 128, 0.1, True, [249, 374], 0.1, "zero")),
        ("StochasticDepth(152) on svhn", "stochastic_depth_svhn", (50, 128, 0.1, True, [29, 34], 0.1, "zero")),
        # liuzhuang13/DenseNet e3d24fb, train.lua, line 188; facebookresearch/ResNeXt 1f59a2c, train.lua, line 179
        ("DenseNet(40, 12)", "densenet_cifar", (300, 64, 0.1, True, [149, 224], 0.1, "zero")),
        ("ResNeXt(29, 8, 64)", "resnext_cifar", (300, 128, 0.1, True, [147, 222], 0.1, "zero")),
        ("ResNet(50)", "torchvision_v1", (90, 256, 0.1, False, [30, 60], 0.1, "zero")),
        ("WRN(16, 2) on digits", "small_images", (30, 64, 0.05, True, [15, 25], 0.2, "zero")),
        ("ResNet(20) on mnist", "small_images", (12, 128, 0.05, True, [6, 10], 0.2, "zero")),
    ],
)
def test_a_family_has_its_authors_recipe(spec: str, name: str, expected: tuple[Any, ...]) -> None:
    found = settings(spec)
    assert network(spec).recipe.name == name and network(spec).recipe.source
    values = [found[n] for n in ("epochs", "batch_size", "lr", "nesterov", "milestones", "gamma", "crop_border")]
    assert [list(v) if isinstance(v, tuple) else v if isinstance(v, bool | str) else float(v) for v in values] == [
        v if isinstance(v, bool | str | list) else float(v) for v in expected
    ]


def test_svhn_is_not_augmented() -> None:
    found = settings("WRN(16, 8) on svhn")
    assert found["crop_padding"] == 0 and found["flip"] is False


def test_a_recipe_begins_anew_and_tells_what_is_changed(tmp_path: Path) -> None:
    path = tmp_path / "mine.arch"
    path.write_text("WRN(10, 1) on cifar10 { train { recipe fb_resnet_cifar; lr 0.05 } }\n")
    (one,) = load(str(path))
    recipe = one.network.recipe
    assert recipe.name == "fb_resnet_cifar" and recipe.changed == ("lr",)
    assert dict(recipe.settings)["crop_border"] == "zero"  # and not the family's
    text = one.train()
    assert "Recipe fb_resnet_cifar: The CIFAR recipe of fb.resnet.torch" in " ".join(text.split())
    assert "Changed here: lr." in text
    assert 'mode="reflect"' not in text and "F.pad(images, (CROP_PADDING,) * 4)" in text
    assert 'mode="reflect"' in load("WRN(10, 1)")[0].train()


def test_a_sweep_of_rates_is_one_spec(tmp_path: Path) -> None:
    path = tmp_path / "rates.arch"
    path.write_text("net w = WRN(10, 1) for rate in [0.1, 0.2] { train { lr rate } }\n")
    assert [float(dict(c.network.recipe.settings)["lr"]) for c in load(str(path))] == [0.1, 0.2]  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("WRN(10, 1) { train { test_crops 10 } }", "`test_crops` is for folders of images"),
        ("ResNet(18) { train { crop_padding 4 } }", "crops of a folder's images are resized"),
        ("WRN(10, 1) { train { recipe WRN } }", "`recipe` must be a recipe, not the block `WRN`"),
        ("WRN(10, 1) { init { conv he } }", "`conv` must be he_fan_out"),
        ("WRN(10, 1) { init { conv_bias torch } }", "no convolution has a bias without a value of its own"),
        ("VGG(11) { init { scale uniform } }", "there is no batch normalisation"),
        (
            "PreResNet(8) on digits { train { crop_padding 8; crop_border reflect } }",
            "a border of 8 cannot be reflected",
        ),
        ("WRN(10, 1) { init { convolutions 1 } }", "unknown setting `convolutions`"),
    ],
)
def test_what_is_wrong(spec: str, said: str) -> None:
    with pytest.raises(archdsl.ArchError) as problem:
        load(spec)
    assert said in str(problem.value)


# ---- strides


@pytest.mark.parametrize(
    ("spec", "macs"),
    [
        # multi-resnet.lua, lines 47 and 84, and resnet-pre-act.lua, 43 and 70: on the first 1x1
        ("MultiResNet(200, k=5, block=bottleneck) on cifar100", 1_467_163_648),
        ("ResNet(50)", 4_089_184_256),
        ("ResNet(50, stride_on=conv1)", 3_857_973_248),
    ],
)
def test_where_the_stride_is(spec: str, macs: int) -> None:
    assert load(spec)[0].check().macs == macs


# ---- how weights start


def test_shortcut_and_residual_of_wide_networks_start_alike() -> None:
    """In the first block of WRN(28, 10): fan in, and scales from 0 to 1 (the authors' models/utils.lua).

    Half of what is normalised is positive and squares of the scales are 1/3 in the mean: both have a variance of 1/3.
    """
    seen: dict[str, list[float]] = {"shortcut": [], "conv2": []}
    for seed in range(20):
        torch.manual_seed(seed)
        model: Any = archdsl.build("WRN(10, 10)").train()
        for name, found in seen.items():
            hook = lambda m, i, o, found=found: found.append(float(o.std()))  # noqa: E731
            getattr(model.layer1[0], name).register_forward_hook(hook)
        with torch.no_grad():
            model.layer1[0](model.conv1(torch.randn(16, 3, 32, 32)))
    for found in seen.values():
        assert sum(found) / len(found) == pytest.approx((1 / 3) ** 0.5, abs=0.05)


@pytest.mark.parametrize(
    ("start", "variance", "uniform"),
    [
        ("he_fan_out", 2 / (64 * 9), False),
        ("he_fan_in", 2 / (32 * 9), False),
        ("xavier", 2 / ((32 + 64) * 9), True),
        ("lecun", 1 / (32 * 9), True),
        ("torch", 1 / (3 * 32 * 9), True),
        ("0.01", 1e-4, False),
    ],
)
def test_every_way_to_start(start: str, variance: float, uniform: bool, tmp_path: Path) -> None:
    path = tmp_path / "net.arch"
    path.write_text(
        "net one on 3x8x8 -> 10 {\n  a: Conv(32, 3) -> b: Conv(64, 3) -> n: BatchNorm -> GlobalAvgPool\n"
        f"    -> fc: Linear(classes)\n  init {{ conv {start}; scale uniform; linear 0.02 }}\n}}\n"
    )
    torch.manual_seed(0)
    model: Any = archdsl.build(str(path))
    weights = model.b.weight
    assert float(weights.var()) == pytest.approx(variance, rel=0.05)
    bounded = float(weights.abs().max()) < 1.01 * (3 * variance) ** 0.5
    assert bounded == uniform
    scales = model.n.weight
    assert 0 <= float(scales.min()) < 0.2 < 0.8 < float(scales.max()) <= 1
    assert float(model.fc.weight.std()) == pytest.approx(0.02, rel=0.15) and not model.fc.bias.any()


def test_nothing_is_printed_that_does_nothing(tmp_path: Path) -> None:
    path = tmp_path / "net.arch"
    path.write_text("net one on 3x8x8 -> 10 {\n  Conv(10, 3) -> GlobalAvgPool\n  init { conv torch }\n}\n")
    assert "init_weights" not in load(str(path))[0].model()
    assert archdsl.build(str(path))(torch.zeros(1, 3, 8, 8)).shape == (1, 10)
