"""How weights start -> the lines of `init_weights` in model.py."""

from __future__ import annotations

from dataclasses import dataclass

from archdsl.backend.signature import literal
from archdsl.core.ir import Layer, Network, applications, blocks_of
from archdsl.core.types import Scalar

_CLASSES = {"conv": "nn.Conv2d", "linear": "nn.Linear", "scale": "nn.BatchNorm2d"}

_KINDS = {"conv": "Conv", "linear": "Linear", "scale": "BatchNorm"}

_LINES = {
    "he_fan_out": 'nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")',
    "he_fan_in": 'nn.init.kaiming_normal_(module.weight, mode="fan_in", nonlinearity="relu")',
    "xavier": "nn.init.xavier_uniform_(module.weight)",
    "lecun": 'nn.init.kaiming_uniform_(module.weight, nonlinearity="linear")',
    "uniform": "nn.init.uniform_(module.weight)",
}
"""`torch` is what PyTorch has drawn already."""

_TITLES = {
    "he_fan_out": "He initialisation of {} (arXiv:1502.01852), by the fan out",
    "he_fan_in": "He initialisation of {} (arXiv:1502.01852), by the fan in",
    "xavier": "Xavier initialisation of {}",
    "lecun": "LeCun initialisation of {}, uniform with a variance of 1 / fan in",
    "uniform": "scales of batch normalisation drawn from 0 to 1",
}


@dataclass(frozen=True, slots=True)
class Start:
    """What is done to the modules that meet a condition."""

    condition: str
    lines: tuple[str, ...]


def title_of(network: Network) -> str:
    """The docstring of `init_weights`."""
    settings = dict(network.start)
    layers = _layers(network)
    names = {"conv": "convolutions", "linear": "linear layers"}
    drawn = [name for name in names if layers[name]]
    if len(drawn) == 2 and settings["conv"] == settings["linear"]:
        texts = [_title(settings["conv"], "all layers")]
    else:
        texts = [_title(settings[name], names[name]) for name in drawn]
    if layers["scale"] and settings["scale"] == "uniform":
        texts.append(_TITLES["uniform"])
    zero = any("zeros_" in line for start in starts_of(network) for line in start.lines)
    texts = [text for text in texts if text] or [
        "biases start at zero" if zero else "biases that start at values of their own"
    ]
    text = "; ".join(texts)
    return f"{text[0].upper()}{text[1:]}."


def starts_of(network: Network) -> tuple[Start, ...]:
    """What `init_weights` does, class by class, beside biases that start at values of their own."""
    settings = dict(network.start)
    found = []
    for name, layers in _layers(network).items():
        if not layers:
            continue
        line = _line(settings[name])
        condition = f"isinstance(module, {_CLASSES[name]})"
        zero = settings.get(f"{name}_bias") == "zero" and any(layer.arg("bias") is not False for layer in layers)
        if zero and line:
            found.append(Start(condition, (line, "if module.bias is not None:", "    nn.init.zeros_(module.bias)")))
        elif zero:
            found.append(Start(f"{condition} and module.bias is not None", ("nn.init.zeros_(module.bias)",)))
        elif line:
            found.append(Start(condition, (line,)))
    return tuple(found)


def _layers(network: Network) -> dict[str, list[Layer]]:
    """The layers that have weights, by what a spec calls them in `init`."""
    every = [a.module for b in blocks_of(network.root) for a in applications(b.body) if isinstance(a.module, Layer)]
    return {name: [layer for layer in every if layer.kind == kind] for name, kind in _KINDS.items()}


def _title(value: Scalar, what: str) -> str:
    if isinstance(value, str):
        return _TITLES.get(value, "").format(what)
    return f"normal initialisation of {what}, with a deviation of {literal(value)}"


def _line(value: Scalar) -> str:
    if isinstance(value, str):
        return _LINES.get(value, "")
    return f"nn.init.normal_(module.weight, std={literal(value)})"
