"""A network and its recipe -> the view of the training script."""

from __future__ import annotations

from dataclasses import dataclass

from archdsl.backend.signature import literal
from archdsl.core.ir import Network
from archdsl.core.measure import measure


@dataclass(frozen=True, slots=True)
class Sets:
    """How torchvision holds a data set of images."""

    title: str
    name: str
    splits: tuple[str, str, str]
    """Loop variable, its values for training and testing, and the argument."""
    targets: str
    layout: str
    crop_padding: int
    flip: bool


_BY_TRAIN = ("train", "(True, False)", "train=train")
_LAST = "images.permute(0, 3, 1, 2)"

_TORCHVISION = {
    "cifar10": Sets("CIFAR-10", "CIFAR10", _BY_TRAIN, "targets", _LAST, 4, True),
    "cifar100": Sets("CIFAR-100", "CIFAR100", _BY_TRAIN, "targets", _LAST, 4, True),
    "svhn": Sets("SVHN", "SVHN", ("split", '("train", "test")', "split=split"), "labels", "images", 0, False),
    "mnist": Sets("MNIST", "MNIST", _BY_TRAIN, "targets", "images.unsqueeze(1)", 2, False),
}
_AUGMENTATION = {"digits": (1, False), "fake": (0, False)}
"""Padding of crops and flips where the recipe does not say; digits are not mirrored."""


@dataclass(frozen=True, slots=True)
class TrainView:
    """What templates/train.py.j2 is given."""

    title: str
    provenance: tuple[str, ...]
    spec: str
    parameters: str
    epochs: str
    batch_size: str
    lr: str
    milestones: str
    gamma: str
    momentum: str
    nesterov: str
    weight_decay: str
    seed: str
    heads: str
    crop_padding: int
    flip: bool
    augmented: bool
    augment_title: str
    data: str
    folder: bool
    classes: int
    channels: int
    input: str
    size: str
    torchvision_name: str
    data_title: str
    split_names: str
    split_values: str
    split_argument: str
    targets: str
    layout: str


def trainable(network: Network) -> bool:
    """Whether there is something to train on: images of known classes."""
    return network.classes is not None and len(network.input.dims) == 3 and network.output.dims == (network.classes,)


def train_view(network: Network, title: str, provenance: tuple[str, ...]) -> TrainView:
    """The view of a trainable network."""
    recipe = dict(network.recipe.settings)
    assert network.classes is not None
    sets = _TORCHVISION.get(network.data or "", Sets("", "", ("", "", ""), "", "", 0, False))
    folder = network.data in ("imagenet", None)
    padding, flip = _AUGMENTATION.get(network.data or "", (sets.crop_padding, sets.flip or folder))
    if recipe["crop_padding"] is not None:
        padding = int(str(recipe["crop_padding"]))
    if recipe["flip"] is not None:
        flip = recipe["flip"] is True
    parts = [*(["Random crops of the reflected border"] if padding else []), *(["flips"] if flip else [])]
    words = " and ".join(parts)
    height, width = network.input.dims[1:]
    texts = {
        name: literal(recipe[name]) for name in ("epochs", "batch_size", "lr", "gamma", "momentum", "weight_decay")
    }
    return TrainView(
        title=title,
        provenance=provenance,
        spec=python_string(network.spec),
        parameters=f"{measure(network).params:_}",
        milestones=literal(recipe["milestones"]),
        nesterov=literal(recipe["nesterov"] is True and recipe["momentum"] != 0),
        seed=literal(recipe["seed"]),
        heads=f"({', '.join(literal(h.weight) for h in network.heads)},)"
        if len(network.heads) == 1
        else f"({', '.join(literal(h.weight) for h in network.heads)})"
        if network.heads
        else "",
        crop_padding=padding,
        flip=flip,
        augmented=bool(parts),
        augment_title=f"{words[:1].upper()}{words[1:]}, drawn for each image.",
        data=network.data or "",
        folder=folder,
        classes=network.classes,
        channels=network.input.channels,
        input=", ".join(str(d) for d in network.input.dims),
        size=f"{height}, {width}",
        torchvision_name=sets.name,
        data_title=sets.title,
        split_names=sets.splits[0],
        split_values=sets.splits[1],
        split_argument=sets.splits[2],
        targets=sets.targets,
        layout=sets.layout,
        **texts,
    )


def python_string(text: str) -> str:
    """A text as a Python literal in double quotes."""
    import json

    return json.dumps(text)
