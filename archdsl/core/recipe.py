"""The settings of a `train` clause: what they are called, and the values that they take."""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping
from dataclasses import dataclass
from fractions import Fraction

from archdsl.core.ir import Network
from archdsl.core.types import Scalar


@dataclass(frozen=True, slots=True)
class Setting:
    """A row of the table: `accepts` tells whether a value can be taken."""

    name: str
    default: Scalar
    expected: str
    accepts: Callable[[object], bool]
    doc: str
    choices: tuple[str, ...] = ()
    """The words that it takes, where it takes words."""


def _whole(least: int) -> Callable[[object], bool]:
    return lambda v: isinstance(v, int) and not isinstance(v, bool) and least <= v < 10**9


def _number(above: int, most: int) -> Callable[[object], bool]:
    return lambda v: isinstance(v, int | Fraction) and not isinstance(v, bool) and above <= v <= most


def _epochs(value: object) -> bool:
    if not isinstance(value, tuple):
        return False
    whole = [v for v in value if isinstance(v, int) and not isinstance(v, bool) and v >= 1]
    return len(whole) == len(value) and whole == sorted(set(whole))


def one_of(name: str, choices: tuple[str, ...], doc: str) -> Setting:
    """A setting that takes one of several words, by default the first."""
    return Setting(name, choices[0], " or ".join(choices), lambda v: v in choices, doc, choices)


# The defaults are the recipe of wide residual networks on CIFAR (arXiv:1605.07146, section 4).
SETTINGS: dict[str, Setting] = {
    s.name: s
    for s in (
        Setting("epochs", 200, "a whole number of at least 1", _whole(1), "passes over the training images"),
        Setting("batch_size", 128, "a whole number of at least 1", _whole(1), "images in a step"),
        Setting("lr", Fraction(1, 10), "a number from 0 to 100", _number(0, 100), "learning rate at the start"),
        Setting("momentum", Fraction(9, 10), "a number from 0 to 1", _number(0, 1), "of stochastic gradient descent"),
        Setting("nesterov", True, "true or false", lambda v: isinstance(v, bool), "Nesterov's form of momentum"),
        Setting(
            "weight_decay", Fraction(5, 10000), "a number from 0 to 1", _number(0, 1), "L2 penalty on all parameters"
        ),
        Setting("milestones", (60, 120, 160), "a rising list of epochs", _epochs, "epochs after which the rate falls"),
        Setting("gamma", Fraction(1, 5), "a number from 0 to 1", _number(0, 1), "what the rate is multiplied by there"),
        one_of("optimizer", ("sgd", "adamw", "rmsprop"), "stochastic gradient descent, AdamW or RMSProp"),
        one_of("schedule", ("step", "cosine"), "falls at the milestones, or half a cosine down to 0"),
        Setting("warmup", 0, "a whole number of at least 0", _whole(0), "first epochs at the rate `warmup_lr`"),
        Setting("warmup_lr", Fraction(1, 100), "a number from 0 to 100", _number(0, 100), "rate while warming up"),
        Setting("label_smoothing", 0, "a number from 0 to 1", _number(0, 1), "share of the labels spread over classes"),
        Setting("crop_padding", None, "a whole number of at least 0", _whole(0), "border of random crops"),
        one_of("crop_border", ("zero", "reflect"), "what the border of random crops is filled with"),
        Setting("flip", None, "true or false", lambda v: isinstance(v, bool), "mirror half of the training images"),
        Setting("test_crops", 1, "1 or 10", lambda v: v in (1, 10), "crops of a test image, for folders of images"),
        Setting("accumulate", 1, "a whole number of at least 1", _whole(1), "parts of a step, one after the other"),
        one_of(
            "precision", ("auto", "fp32", "tf32", "bf16", "fp16"), "auto: bf16 on a GPU that has it, fp32 elsewhere"
        ),
        Setting(
            "tensorboard", False, "true or false", lambda v: isinstance(v, bool), "write curves for TensorBoard too"
        ),
        Setting("seed", 0, "a whole number of at least 0", _whole(0), "of all random numbers"),
    )
}


def idle(settings: Mapping[str, Scalar], given: Container[str], folder: bool) -> dict[str, str]:
    """The given settings that have no effect, each with its message.

    `folder` is whether images come from a folder, and not from a data set that is held in memory.
    """
    epochs, milestones = settings["epochs"], settings["milestones"]
    assert isinstance(epochs, int) and isinstance(milestones, tuple)
    late = [m for m in milestones if isinstance(m, int) and m >= epochs]
    found: dict[str, str] = {}
    if settings["schedule"] == "cosine":
        found |= {name: f"`{name}` does nothing: the schedule is cosine" for name in ("milestones", "gamma")}
    elif late:
        found["milestones"] = f"no epoch follows milestone {late[0]}: there are {epochs}"
    elif not milestones:
        found["gamma"] = "`gamma` does nothing: there are no milestones"
    if settings["optimizer"] != "sgd" and settings["nesterov"]:
        found["nesterov"] = f"`nesterov` does nothing: the optimizer is {settings['optimizer']}"
    if settings["optimizer"] == "adamw" and settings["momentum"]:
        found["momentum"] = "`momentum` does nothing: the optimizer is adamw"
    if folder:
        for name in ("crop_padding", "crop_border"):
            found[name] = f"`{name}` does nothing: crops of a folder's images are resized"
    elif settings["crop_padding"] == 0:
        found["crop_border"] = "`crop_border` does nothing: there is no border"
    if not folder and settings["test_crops"] == 10:
        found["test_crops"] = "`test_crops` is for folders of images"
    warmup = settings["warmup"]
    assert isinstance(warmup, int)
    if warmup >= epochs:
        found["warmup"] = f"no epoch follows the warmup of {warmup}: there are {epochs}"
    if warmup == 0 and "warmup" not in given:
        found["warmup_lr"] = "`warmup_lr` does nothing: there is no `warmup`"
    return {name: problem for name, problem in found.items() if name in given}


def untrainable(network: Network) -> str:
    """Why there is nothing to train a network on; empty if it gives a number for each class of images."""
    if network.classes is None:
        return "has no classes"
    if len(network.input.dims) != 3:
        return f"reads {network.input}, and not images"
    if network.data is None and network.input.channels not in (1, 3):
        return f"reads {network.input}, and images have 1 or 3 channels"
    if network.output.dims != (network.classes,):
        return f"gives {network.output}, and there are {network.classes:,} classes"
    return ""


def combine(*clauses: Mapping[str, Scalar]) -> dict[str, Scalar]:
    """The settings of clauses, of which later ones win. A new number of epochs alone stretches the milestones."""
    settings = {s.name: s.default for s in SETTINGS.values()}
    for clause in clauses:
        epochs, milestones = settings["epochs"], settings["milestones"]
        settings |= clause
        if "epochs" in clause and "milestones" not in clause:
            assert isinstance(epochs, int) and isinstance(milestones, tuple) and isinstance(clause["epochs"], int)
            scaled = (max(1, round(m * clause["epochs"] / epochs)) for m in milestones)
            settings["milestones"] = tuple(dict.fromkeys(m for m in scaled if m < clause["epochs"]))
    return settings
