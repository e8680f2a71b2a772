"""A network and its recipe -> the view of the training script."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

from archdsl.backend.signature import literal
from archdsl.core.ir import Layer, Network, applications, blocks_of
from archdsl.core.machines import Precision
from archdsl.core.measure import measure
from archdsl.core.memory import linear_memory


@dataclass(frozen=True, slots=True)
class Sets:
    """How torchvision holds a data set of images."""

    title: str
    name: str
    splits: tuple[str, tuple[str, str], str]
    """Parameter, its values for training and testing, and the argument."""
    targets: str
    layout: str
    crop_padding: int
    flip: bool


_BY_TRAIN = ("train: bool", ("train=True", "train=False"), "train=train")
_LAST = "images.permute(0, 3, 1, 2)"

_TORCHVISION = {
    "cifar10": Sets("CIFAR-10", "CIFAR10", _BY_TRAIN, "targets", _LAST, 4, True),
    "cifar100": Sets("CIFAR-100", "CIFAR100", _BY_TRAIN, "targets", _LAST, 4, True),
    "svhn": Sets("SVHN", "SVHN", ("split: str", ('"train"', '"test"'), "split=split"), "labels", "images", 0, False),
    "mnist": Sets("MNIST", "MNIST", _BY_TRAIN, "targets", "images.unsqueeze(1)", 2, False),
}
_AUGMENTATION = {"digits": (1, False), "fake": (0, False)}
"""Padding of crops and flips where the recipe does not say; digits are not mirrored."""


_IMAGENET = ("[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]", "[0.449], [0.226]")
"""Mean and deviation of the channels of ImageNet, in colour and in grey."""


@dataclass(frozen=True, slots=True)
class TrainView:
    """What templates/train.py.j2 is given."""

    title: str
    provenance: tuple[str, ...]
    spec: str
    spec_hash: str
    parameters: str
    epochs: str
    batch_size: str
    lr: str
    milestones: str
    gamma: str
    momentum: str
    nesterov: bool
    weight_decay: str
    optimizer: str
    schedule: str
    warmup: int
    warmup_lr: str
    label_smoothing: str
    accumulate: str
    precision: str
    tensorboard: bool
    seed: str
    memory_full: str
    memory_half: str
    heads: str
    masks: bool
    ten_crop: bool
    crop_padding: int
    reflect: bool
    flip: bool
    augmented: bool
    augment_title: str
    data: str
    count: str
    folder: bool
    classes: int
    channels: int
    input: str
    normalisation: str
    torchvision_name: str
    data_title: str
    split_parameter: str
    split_values: tuple[str, str]
    split_argument: str
    targets: str
    layout: str
    place: str
    devices: int


def train_view(network: Network, title: str, provenance: tuple[str, ...]) -> TrainView:
    """The view of a trainable network."""
    recipe = dict(network.recipe.settings)
    assert network.classes is not None
    sets = _TORCHVISION.get(network.data or "", Sets("", "", ("", ("", ""), ""), "", "", 0, False))
    folder = network.data in ("imagenet", None)
    padding, flip = _AUGMENTATION.get(network.data or "", (sets.crop_padding, sets.flip or folder))
    if recipe["crop_padding"] is not None:
        padding = int(str(recipe["crop_padding"]))
    if recipe["flip"] is not None:
        flip = recipe["flip"] is True
    parts = [*(["Random crops"] if padding else []), *(["flips"] if flip else [])]
    words = " and ".join(parts)
    numbers = (
        *("epochs", "batch_size", "lr", "gamma", "momentum", "weight_decay"),
        *("warmup_lr", "accumulate", "seed"),
    )
    layers = {
        a.module.kind for b in blocks_of(network.root) for a in applications(b.body) if isinstance(a.module, Layer)
    }
    weights = [literal(h.weight) for h in network.heads]
    return TrainView(
        title=title,
        provenance=provenance,
        spec=python_string(network.spec),
        spec_hash=network.source_hash,
        parameters=f"{measure(network).params:_}",
        nesterov=recipe["nesterov"] is True and recipe["momentum"] != 0,
        optimizer=str(recipe["optimizer"]),
        schedule=str(recipe["schedule"]),
        warmup=int(str(recipe["warmup"])),
        label_smoothing=literal(recipe["label_smoothing"]) if recipe["label_smoothing"] else "",
        precision=str(recipe["precision"]),
        tensorboard=recipe["tensorboard"] is True,
        memory_full=_bytes(network, "fp32"),
        memory_half=_bytes(network, "bf16"),
        heads=f"({', '.join(weights)}{',' if len(weights) == 1 else ''})" if weights else "",
        masks="Mask" in layers,
        ten_crop=folder and recipe["test_crops"] == 10,
        crop_padding=padding,
        reflect=recipe["crop_border"] == "reflect",
        flip=flip,
        augmented=bool(parts),
        augment_title=f"{words[:1].upper()}{words[1:]}, drawn for each image.",
        data=network.data or "",
        count="len(self.data.train.images)" if folder else "len(self.data.train_labels)",
        folder=folder,
        classes=network.classes,
        channels=network.input.channels,
        input=", ".join(str(d) for d in network.input.dims),
        normalisation=_IMAGENET[network.input.channels == 1],
        torchvision_name=sets.name,
        data_title=sets.title,
        split_parameter=sets.splits[0],
        split_values=sets.splits[1],
        split_argument=sets.splits[2],
        targets=sets.targets,
        layout=sets.layout,
        place=network.placement.kind if network.placement else "",
        devices=network.placement.devices if network.placement else 1,
        **{name: literal(recipe[name]) for name in numbers},
        milestones=_epochs(recipe["milestones"]),
    )


def _bytes(network: Network, precision: Precision) -> str:
    """Bytes that a step takes without images, and for each image; to three digits, as they are predictions."""
    return ", ".join(f"{round(n, 3 - len(str(n))):_}" for n in linear_memory(network, precision))


def _epochs(milestones: object) -> str:
    """A list of epochs as Python writes it; equal steps as a range."""
    assert isinstance(milestones, tuple)
    steps = {b - a for a, b in pairwise(milestones)}
    if len(milestones) > 3 and len(steps) == 1:
        step = steps.pop()
        return f"range({milestones[0]}, {milestones[-1] + 1}, {step})"
    return literal(milestones)


def python_string(text: str) -> str:
    """A text as a Python literal in double quotes."""
    import json

    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in json.dumps(text, ensure_ascii=False))
